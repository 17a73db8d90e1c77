"""Whether there are alarms that look at events: a cheap question, asked each time when events came."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Select, exists, or_, select

from meterhouse.alarms.definitions.rules.absence import AbsenceRule
from meterhouse.alarms.definitions.rules.event import EventRule
from meterhouse.alarms.keeping import cycles
from meterhouse.stores.warehouse_tables import alarms, followed

TYPES: Final = (EventRule.TYPE, AbsenceRule.TYPE)
"""Types of alarms that look at events; of the second, only some do."""

FOLLOWER: Final = "event_alarms"
"""The warehouse's name of the evaluation that follows the lake's events."""


@dataclass
class Asked:
    """The answer, which is the same until the alarms' history grows."""

    _entry: int = -1
    _answer: bool = False

    def is_any(self, connection: Connection) -> bool:
        """Whether there is an enabled alarm that may look at events, or was one when events last came."""
        entry = cycles.newest_entry(connection)
        if entry != self._entry:
            wanted = exists().where(alarms.c.enabled, alarms.c.type.in_(TYPES))
            before = exists().where(followed.c.follower == FOLLOWER)
            self._answer = bool(connection.execute(select(or_(wanted, before))).scalar())
            self._entry = entry
        return self._answer


def defined_since(entry: int) -> Select[str]:
    """The ids of the alarms that may look at events, and were created or changed after an entry of the history.

    Args:
        entry: its number.
    """
    since = cycles.defined_since(entry)
    return select(alarms.c.alarm_id).where(alarms.c.alarm_id.in_(since), alarms.c.type.in_(TYPES))
