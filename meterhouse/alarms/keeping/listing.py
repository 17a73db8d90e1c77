"""Lists alarms and their history: conditions, orders and pages, answered by the warehouse."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, case, false, func, literal, select, true

from meterhouse.alarms.definitions.actions import shown_json
from meterhouse.alarms.definitions.alarm import SEVERITIES
from meterhouse.alarms.keeping.callers import Caller
from meterhouse.alarms.keeping.cycles import evaluate_timestamp
from meterhouse.alarms.keeping.finding import COLUMNS
from meterhouse.alarms.keeping.pages import Key, after, ordered
from meterhouse.alarms.keeping.states import shown
from meterhouse.errors import UsageError
from meterhouse.filters import And, Condition, Field, Fields, Filter, Leaf, OneOf, all_of
from meterhouse.filters.warehouse import compared, joined
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import UtcTime, alarm_history, alarms
from meterhouse.times import EPOCH
from meterhouse.untrusted import is_plain

_OWNERS: Final[Fields] = {
    "user_id": Field("user_id"),
    "user": Field("user_id"),
    "project_id": Field("project_id"),
    "project": Field("project_id"),
}

ALARMS: Final[Fields] = {
    **{name: Field(name) for name in ("alarm_id", "name", "description", "type", "enabled", "severity", "state")},
    **{name: Field(name) for name in ("state_reason", "repeat_actions")},
    **{name: Field(name, "time") for name in ("timestamp", "state_timestamp", "evaluate_timestamp")},
    **_OWNERS,
}
"""By what alarms can be listed and ordered."""

HISTORY: Final[Fields] = {
    **{name: Field(name) for name in ("event_id", "alarm_id", "type", "detail", "severity", "on_behalf_of")},
    "timestamp": Field("timestamp", "time"),
    **_OWNERS,
}
"""By what entries of the history can be listed and ordered."""

FLAGS: Final = ("enabled", "repeat_actions")
"""Columns that are true or false."""


@dataclass(frozen=True)
class Page:
    """What to list.

    Attributes:
        limit: maximum number of rows.
        conditions: that all have to hold, on fields of ALARMS or HISTORY.
        order: columns and whether each is descending; empty for the newest first.
        marker: the id of the last one of the page before; None for the first page.
    """

    limit: int
    conditions: Sequence[Condition] = ()
    order: Sequence[tuple[str, bool]] = field(default_factory=tuple)
    marker: str | None = None


def alarms_of(site: Site, caller: Caller, page: Page) -> list[dict[str, Any]]:
    """The alarms that a caller may see, as in `states.alarm_list`; the one that was defined last comes first.

    Raises:
        UsageError: a flag is compared with what is neither true nor false.
        UnknownMarker: the marker is not an alarm that the caller may see.
    """
    keys = _keys(page.order or [("timestamp", True)], _of_alarm, alarms.c.alarm_id)
    if any(map(_names_some, page.conditions)):
        # SQLite would rather follow the index of the order, through all alarms.
        keys = [replace(key, value=func.coalesce(key.value, key.value)) for key in keys]
    query = caller.visible(select(*COLUMNS)).where(_condition(page.conditions, _of_alarm))
    with site.warehouse.read() as connection:
        if page.marker is not None:
            known = caller.visible(_values(keys)).where(alarms.c.alarm_id == page.marker)
            query = query.where(after(keys, _marker(connection, "alarm", page.marker, known)))
        return [shown(row._mapping) for row in connection.execute(ordered(query, keys).limit(page.limit))]


def history_of(
    site: Site,
    caller: Caller,
    page: Page,
    *,
    alarm_id: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[dict[str, Any]]:
    """What happened to alarms of a caller's project, newest first: the columns of `alarm_history`, `detail` as JSON.

    Args:
        site: the site.
        caller: who asks. Who is no administrator sees what happened on behalf of its project.
        page: what to list.
        alarm_id: the alarm, which may be gone; None for all.
        start: entries since then, UTC.
        end: entries before then, UTC.

    Raises:
        UsageError: a flag is compared with what is neither true nor false.
        UnknownMarker: the marker is not an entry that the caller may see.
    """
    columns = alarm_history.c
    keys = _keys(page.order or [("sequence", True)], _of_history, columns.sequence)
    query = _visible(caller, select(*(each for each in columns if each is not columns.sequence)))
    query = query.where(_condition(page.conditions, _of_history))
    if alarm_id is not None:
        query = query.where(columns.alarm_id == alarm_id)
    if start is not None:
        query = query.where(columns.timestamp >= start)
    if end is not None:
        query = query.where(columns.timestamp < end)
    with site.warehouse.read() as connection:
        if page.marker is not None:
            known = _visible(caller, _values(keys)).where(columns.event_id == page.marker)
            query = query.where(after(keys, _marker(connection, "entry of the history", page.marker, known)))
        rows = connection.execute(ordered(query, keys).limit(page.limit)).all()
    # Entries of earlier releases may have users and passwords of actions.
    return [{**row._mapping, "detail": shown_json(row.detail)} for row in rows]


def has_history(site: Site, caller: Caller, alarm_id: str) -> bool:
    """Whether there is, or was, an alarm that a caller may see."""
    if not is_plain(alarm_id):
        return False
    past = _visible(caller, select(alarm_history.c.event_id)).where(alarm_history.c.alarm_id == alarm_id)
    present = caller.visible(select(alarms.c.alarm_id)).where(alarms.c.alarm_id == alarm_id)
    with site.warehouse.read() as connection:
        return any(connection.execute(query.limit(1)).first() is not None for query in (present, past))


def _visible(caller: Caller, query: Select[Any]) -> Select[Any]:
    if caller.admin:
        return query
    return query.where(alarm_history.c.on_behalf_of == caller.project_id if caller.project_id else false())


def _condition(conditions: Iterable[Condition], column: Callable[[str], ColumnElement[Any]]) -> ColumnElement[bool]:
    return joined(all_of(conditions), lambda leaf: _compared(leaf, column(leaf.target.column)))


def _names_some(condition: Condition) -> bool:
    """Whether a condition can be met by few alarms alone, which an index finds."""
    match condition:
        case And(parts):
            return any(map(_names_some, parts))
        case Filter(op="eq", target=target) | OneOf(target=target):
            return target.column in ("alarm_id", "name")
    return False


def _compared(leaf: Leaf, column: ColumnElement[Any]) -> ColumnElement[bool]:
    if leaf.target.column not in FLAGS:
        return compared(leaf, column)
    match leaf:
        case Filter(op="eq", value=value):
            return column == _flag(leaf, value)
        case Filter(op="ne", value=value):
            return column != _flag(leaf, value)
        case OneOf(among=among):
            return column.in_([_flag(leaf, value) for value in among])
    raise UsageError("a flag is compared by = or !=", where=leaf.field, hint="Write one of these")


def _flag(leaf: Leaf, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise UsageError(f"the value '{value}' is neither true nor false", where=leaf.field, hint="Write true or false")
    return value.lower() == "true"


def _of_alarm(name: str) -> ColumnElement[Any]:
    if name == "evaluate_timestamp":
        return evaluate_timestamp()
    return alarms.c[name]


def _of_history(name: str) -> ColumnElement[Any]:
    return alarm_history.c[name]


_RANKS: Final[Mapping[str, int]] = {severity: rank for rank, severity in enumerate(SEVERITIES)}


def _keys(
    order: Sequence[tuple[str, bool]], column: Callable[[str], ColumnElement[Any]], tie: ColumnElement[Any]
) -> list[Key]:
    """The keys of an order; at last what tells all rows apart, in the direction of the one before."""
    made = [Key(_key(column(name), name), descending) for name, descending in order]
    return [*made, Key(tie, made[-1].descending)]


def _key(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    """What rows are ordered by for a column: severities by what they mean; texts as the database orders them."""
    if name == "severity":
        return case(_RANKS, value=column, else_=-1)
    if name == "evaluate_timestamp":
        return func.coalesce(column, literal(EPOCH, UtcTime()))
    if name in FLAGS:
        return case((column.is_(true()), 1), else_=0)
    return func.coalesce(column, "") if isinstance(column, Column) and column.nullable else column


def _values(keys: Sequence[Key]) -> Select[Any]:
    return select(*(key.value.label(f"key{n}") for n, key in enumerate(keys)))


class UnknownMarker(UsageError):
    """A page after something that there is not, or that the caller may not see."""


_HOW: Final = "Give the id of the last one of the page before"
_MAX_SHOWN: Final = 255


def _marker(connection: Connection, kind: str, marker: str, known: Select[Any]) -> Sequence[Any]:
    """The values of the keys of a marker's row."""
    found: Row[Any] | None = connection.execute(known).first() if is_plain(marker) else None
    if found is None:
        raise UnknownMarker(f"there is no {kind} '{marker[:_MAX_SHOWN]}'", where="marker", hint=_HOW)
    return tuple(found)
