"""Makes the tasks of slots: once each, under a lock of the schedule's row."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from meterhouse import times
from meterhouse.polling.record import shards
from meterhouse.polling.record.transactions import begin
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_members as members
from meterhouse.stores.warehouse_tables import poll_schedules as schedules
from meterhouse.stores.warehouse_tables import poll_tasks as tasks
from meterhouse.times import Span

SCHEDULES_AT_ONCE: Final = 250

SLOTS: Final = 1_000
"""How many missed slots of a schedule have a row each; all before them are one row. No more slots of a schedule than
this have their tasks made in one transaction, besides the present slot."""

ROWS: Final = 20_000
"""How many past slots a transaction makes at most; with many schedules, each has fewer."""

_ROWS_AT_ONCE: Final = 1_000
"""Rows of an insert: PostgreSQL ends a transaction in which it hears nothing for too long."""

Values = dict[str, Any]


def make(warehouse: Warehouse, away: Span | None) -> int:
    """Make the tasks of slots that have begun; return for how many schedules, at most SCHEDULES_AT_ONCE.

    Schedules that another member is making tasks for are left to it. If very many slots can still be made up, some of
    them are left to the next call; the present slot is not.
    """
    with begin(warehouse) as (connection, present):
        active = schedules.c.active.is_(True)
        due = select(schedules).where(active, schedules.c.next_slot_at <= present)
        rows = connection.execute(
            due.order_by(schedules.c.next_slot_at).limit(SCHEDULES_AT_ONCE).with_for_update(skip_locked=True)
        ).all()
        make_for(connection, present, rows, away, leave_some=True)
        if len(rows) < SCHEDULES_AT_ONCE:
            _set_back(connection, present)
        return len(rows)


def make_for(
    connection: Connection,
    present: datetime,
    rows: Sequence[Row[Any]],
    away: Span | None = None,
    *,
    leave_some: bool = False,
) -> None:
    """Make the tasks of slots of locked schedules that have begun.

    Args:
        connection: of the transaction that has the locks.
        present: by the warehouse's clock.
        rows: of the schedules.
        away: see `make_due`.
        leave_some: of very many slots that can still be made up, leave some to the next call. Otherwise those that
            began longest ago are recorded as missed.
    """
    made: list[Values] = []
    next_slots = []
    reasons = _Reasons(connection, away)
    limit = max(1, min(SLOTS, ROWS // max(1, len(rows))))
    every_known = _known(connection, rows)
    for row in rows:
        interval = timedelta(seconds=row.interval_seconds)
        count = (present - row.next_slot_at) // interval + 1
        if count <= 0:
            continue
        known = every_known.get((row.source, row.pollster, row.host), set())
        alone = max(0, count - limit)
        after = count
        if leave_some:
            past = timedelta(seconds=row.history_seconds)
            alone = min(alone, max(0, (present - past - row.next_slot_at) // interval))
            after = min(count, alone + limit)
        begun = row.next_slot_at + alone * interval
        if left := alone - len([start for start in known if start < begun]):
            why = reasons.why(row.host, row.next_slot_at, begun)
            made.append(_missed(row, row.next_slot_at, begun, left, present, why))
        for number in sorted({*range(alone, after), count - 1}):
            start = row.next_slot_at + number * interval
            if start in known:
                continue
            if start + interval + timedelta(seconds=row.history_seconds) <= present:
                why = reasons.why(row.host, start, start + interval)
                made.append(_missed(row, start, start + interval, 1, present, why))
            else:
                made += _tasks(row, start, present)
        next_slots.append({**_bound_key(row), "next": row.next_slot_at + after * interval})
        if len(made) >= _ROWS_AT_ONCE:
            _insert(connection, made)
            made = []
    _insert(connection, made)
    if next_slots:
        connection.execute(update(schedules).where(*_KEY).values(next_slot_at=bindparam("next")), next_slots)


def _insert(connection: Connection, made: list[Values]) -> None:
    """Insert tasks, without those that exist already."""
    if made:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(insert(tasks).on_conflict_do_nothing(), made)


_KEY = (
    schedules.c.source == bindparam("of_source"),
    schedules.c.pollster == bindparam("of_pollster"),
    schedules.c.host == bindparam("of_host"),
)


def _bound_key(row: Row[Any]) -> Values:
    return {"of_source": row.source, "of_pollster": row.pollster, "of_host": row.host}


def slot_after(present: datetime, interval_seconds: int) -> datetime:
    """The start of the first slot that begins after an instant."""
    interval = timedelta(seconds=interval_seconds)
    return present + interval - (present - times.EPOCH) % interval


def _tasks(row: Row[Any], start: datetime, present: datetime) -> list[Values]:
    end = start + timedelta(seconds=row.interval_seconds)
    return [
        _values(row, start, end, shard) | {"state": "open", "due_at": start, "late": end <= present}
        for shard in shards.first(row.shards)
    ]


def _known(connection: Connection, rows: Sequence[Row[Any]]) -> dict[tuple[str, str, str], set[datetime]]:
    """The slots of each schedule, from its next one on, that have rows already.

    They have if the clock was set back since, or if slots before them were left.
    """
    found: dict[tuple[str, str, str], set[datetime]] = {}
    same = [tasks.c[name] == schedules.c[name] for name in _NAMES]
    later = select(*(tasks.c[name] for name in (*_NAMES, "slot_at"))).join(schedules, and_(*same)).distinct()
    for first in range(0, len(rows), SCHEDULES_AT_ONCE):
        keys = [tuple(getattr(row, name) for name in _NAMES) for row in rows[first : first + SCHEDULES_AT_ONCE]]
        chosen = tuple_(*(schedules.c[name] for name in _NAMES)).in_(keys)
        for *key, start in connection.execute(later.where(chosen, tasks.c.slot_at >= schedules.c.next_slot_at)):
            found.setdefault((key[0], key[1], key[2]), set()).add(start)
    return found


def absent(connection: Connection, present: datetime, row: Row[Any], begins: datetime) -> None:
    """Record the slots of a schedule, from its next one to an instant, as those that no member had in its files."""
    if slots := (begins - row.next_slot_at) // timedelta(seconds=row.interval_seconds):
        why = f"no living member had it in its files from {_text(row.next_slot_at)} to {_text(begins)}"
        _insert(connection, [_missed(row, row.next_slot_at, begins, slots, present, why)])


def _missed(row: Row[Any], start: datetime, end: datetime, slots: int, present: datetime, why: str) -> Values:
    return _values(row, start, end, shards.ALL) | {
        "slots": slots,
        "state": "missed",
        "due_at": start,
        "late": True,
        "error": why,
        "ended_at": present,
    }


def _values(row: Row[Any], start: datetime, end: datetime, shard: str) -> Values:
    return {
        "source": row.source,
        "pollster": row.pollster,
        "host": row.host,
        "slot_at": start,
        "end_at": end,
        "until": end + timedelta(seconds=row.history_seconds),
        "shard": shard,
        "slots": 1,
        "error": None,
        "ended_at": None,
        "message_id": shards.message_id(row.source, row.pollster, row.host, start, shard),
    }


class _Reasons:
    """Why slots had no tasks, by who was alive."""

    def __init__(self, connection: Connection, away: Span | None) -> None:
        self._connection, self._away = connection, away
        self._members: list[Row[Any]] | None = None

    def why(self, host: str, start: datetime, end: datetime) -> str:
        """The reason for a slot, or for several."""
        if self._away and self._away[0] < end and start < self._away[1]:
            begun, ended = map(_text, self._away)
            return f"the warehouse did not answer from {begun} to {ended}"
        if self._members is None:
            self._members = list(self._connection.execute(select(members)))
        whose = f" of host {host}" if host else ""
        mine = [row for row in self._members if host in ("", row.host)]
        before = [row.seen_at for row in mine if row.joined_at < end and row.seen_at < end]
        during = [row for row in mine if row.joined_at < end and row.seen_at >= end]
        if during:
            return f"members{whose} were alive, but paused or without the warehouse"
        return f"no member{whose} was alive" + (f" after {_text(max(before))}" if before else "")


def _text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def _set_back(connection: Connection, present: datetime) -> None:
    """Begin again with the present slot of schedules that are ahead of the clock, which was set back.

    What was recorded as missed before its time, without tasks, is forgotten.
    """
    active = schedules.c.active.is_(True)
    intervals = select(schedules.c.interval_seconds, func.max(schedules.c.next_slot_at)).where(active)
    for seconds, last in connection.execute(intervals.group_by(schedules.c.interval_seconds)).all():
        following = slot_after(present, seconds)
        if last <= following:
            continue
        begun = following - timedelta(seconds=seconds)
        ahead = (active, schedules.c.interval_seconds == seconds, schedules.c.next_slot_at > following)
        rows = connection.execute(select(schedules).where(*ahead).with_for_update(skip_locked=True)).all()
        for row in rows:
            _forget(connection, row, begun)
            back = update(schedules).where(*(schedules.c[name] == getattr(row, name) for name in _NAMES))
            connection.execute(back.values(next_slot_at=begun))


_NAMES = ("source", "pollster", "host")


def _forget(connection: Connection, row: Row[Any], begun: datetime) -> None:
    """Delete the slots of a schedule that were recorded as missed without ever having had tasks, from an instant on."""
    never = (*(tasks.c[name] == getattr(row, name) for name in _NAMES), tasks.c.shard == shards.ALL)
    connection.execute(delete(tasks).where(*never, tasks.c.slot_at >= begun))
    across = select(tasks.c.task_id, tasks.c.slot_at).where(*never, tasks.c.slots > 1, tasks.c.end_at > begun)
    for task_id, start in connection.execute(across).all():
        slots = (begun - start) // timedelta(seconds=row.interval_seconds)
        shorter = update(tasks).where(tasks.c.task_id == task_id)
        connection.execute(shorter.values(slots=slots, end_at=begun, until=begun))
