"""The alarms that look at events, as their evaluation needs them: in columns, without an object for each definition."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from meterhouse.alarms.definitions.rules.absence import AbsenceRule
from meterhouse.alarms.definitions.rules.event import Trait
from meterhouse.alarms.definitions.rules.value_types import typed
from meterhouse.alarms.definitions.time_constraints import TimeConstraint, in_force
from meterhouse.alarms.evaluation.event_matching import Interest, Matcher
from meterhouse.alarms.keeping import cycles
from meterhouse.alarms.keeping.watched_events import TYPES
from meterhouse.errors import UsageError
from meterhouse.stores.warehouse_tables import alarms

Flags = npt.NDArray[np.bool_]


class _Rule(msgspec.Struct, gc=False):
    event_type: str = ""
    query: list[Trait] = []
    within: int = 0


class _Definition(msgspec.Struct, gc=False):
    name: str
    rule: _Rule
    repeat_actions: bool = False
    time_constraints: list[TimeConstraint] = []


_DECODER: Final = msgspec.json.Decoder(_Definition)


@dataclass(frozen=True)
class Read:
    """What a definition says.

    Attributes:
        interest: the events that the alarm is about.
        query: its conditions.
        repeat: whether its actions are repeated.
        within: of an absence: for how many seconds an event counts.
        time_constraints: when it is evaluated.
    """

    interest: Interest
    query: tuple[Trait, ...]
    repeat: bool
    within: int
    time_constraints: tuple[TimeConstraint, ...]


@dataclass(frozen=True)
class EventAlarms:
    """The enabled alarms that look at events and can be evaluated; all columns have the same length.

    Attributes:
        rows: the columns of `alarms`: alarm_id, name, severity, origin, project_id, definition, state, timestamp.
        read: what their definitions say.
        matcher: finds the events that they are about.
        is_absence: which of them wait for events, in place of firing for them.
    """

    rows: Sequence[Any]
    read: Sequence[Read]
    matcher: Matcher
    is_absence: Flags

    def __len__(self) -> int:
        return len(self.rows)

    def in_force(self, moment: datetime) -> Flags:
        """Which of them are evaluated at a moment."""
        holds: dict[tuple[TimeConstraint, ...], bool] = {(): True}
        for each in self.read:
            if each.time_constraints not in holds:
                holds[each.time_constraints] = in_force(each.time_constraints, moment)
        return np.array([holds[each.time_constraints] for each in self.read], np.bool_)


@dataclass
class Loader:
    """Loads the alarms; reads a definition again only if it has changed."""

    _known: dict[str, tuple[str, Read | None]] = field(default_factory=dict)
    _loaded: EventAlarms | None = None
    _entry: int = -1

    def load(self, connection: Connection) -> EventAlarms:
        """The alarms as they are now. A definition that cannot be used is left out: the cycle says what is wrong."""
        entry = cycles.newest_entry(connection)
        if self._loaded is None or entry != self._entry:  # whoever changes an alarm or its state writes an entry
            self._loaded, self._entry = self._load(connection), entry
        return self._loaded

    def _load(self, connection: Connection) -> EventAlarms:
        columns = alarms.c
        query = select(
            *(columns.alarm_id, columns.name, columns.severity, columns.origin, columns.project_id),
            *(columns.definition, columns.state, columns.timestamp, columns.type),
        ).where(columns.enabled, columns.type.in_(TYPES))
        rows = connection.execute(query.order_by(columns.name, columns.alarm_id)).all()
        known = {}
        for row in rows:
            before = self._known.get(row.alarm_id)
            known[row.alarm_id] = (
                before if before is not None and before[0] == row.definition else (row.definition, _read(row))
            )
        self._known = known
        taken = [(row, read) for row in rows if (read := known[row.alarm_id][1]) is not None]
        reads = [read for _, read in taken]
        before_all = self._loaded
        same = before_all is not None and list(before_all.read) == reads
        matcher = before_all.matcher if before_all and same else Matcher([read.interest for read in reads])
        is_absence = np.array([row.type == AbsenceRule.TYPE for row, _ in taken], np.bool_)
        return EventAlarms([row for row, _ in taken], reads, matcher, is_absence)


def _read(row: Any) -> Read | None:
    """What a definition says; None if it cannot be used, or waits for points."""
    try:
        found = _DECODER.decode(row.definition)
        if found.name != row.name or not found.rule.event_type:
            return None
        query = tuple(found.rule.query)
        interest = Interest(found.rule.event_type, query, row.project_id or None)
        for each in query:
            typed(each.value, each.type)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError, UsageError):
        return None
    return Read(interest, query, found.repeat_actions, found.rule.within, tuple(found.time_constraints))
