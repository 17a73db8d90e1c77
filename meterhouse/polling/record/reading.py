"""What the record shows: how each schedule is doing, what came of tasks, and who polls."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, func, select

from meterhouse import times
from meterhouse.polling.lateness import TOO_LATE, behind
from meterhouse.polling.record.members import alive
from meterhouse.stores import clock
from meterhouse.stores.leases import died_here
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_members as members
from meterhouse.stores.warehouse_tables import poll_schedules as schedules
from meterhouse.stores.warehouse_tables import poll_tasks as tasks

STATES: Final = ("open", "claimed", "done", "missed")

MISSED_WITHIN: Final = times.DAY
"""For how long a slot that was missed counts as missed lately."""

_GONE: Final = times.DAY
"""For how long a member that has gone is still listed."""

_KEY = ("source", "pollster", "host")


@dataclass(frozen=True)
class Asked:
    """Which tasks are asked for; None for any.

    Attributes:
        source, pollster, host: of the schedule.
        state: one of STATES.
        member: that polled it, or a part of its name, such as its host.
        start, end: the slots that begin in this span, UTC.
    """

    source: str | None = None
    pollster: str | None = None
    host: str | None = None
    state: str | None = None
    member: str | None = None
    start: datetime | None = None
    end: datetime | None = None


def status(warehouse: Warehouse, *, ended: bool = False) -> list[dict[str, Any]]:
    """How each pollster of each source is doing, those first that are furthest behind.

    Args:
        warehouse: the warehouse.
        ended: also those that are in no files any more.

    Raises:
        MeterhouseError: the warehouse cannot be read.
    """
    with warehouse.read() as connection:
        present = clock.present(connection)
        wanted = select(schedules) if ended else select(schedules).where(schedules.c.active.is_(True))
        rows = connection.execute(wanted).all()
        waiting = _counts(connection, tasks.c.state == "open")
        polled = _counts(connection, tasks.c.state == "claimed")
        missed = _counts(connection, and_(tasks.c.state == "missed", tasks.c.slot_at >= present - MISSED_WITHIN))
        errors = _last_errors(connection, present - MISSED_WITHIN)
    found = []
    for row in rows:
        key = (row.source, row.pollster, row.host)
        found.append(
            {
                **dict(zip(_KEY, key, strict=True)),
                "state": _state(row, present),
                "behind": behind(row, present) if row.active else 0,
                "interval": row.interval_seconds,
                "shards": row.shards,
                "polled_slot": row.done_slot_at,
                "open": waiting.get(key, 0),
                "claimed": polled.get(key, 0),
                "missed": missed.get(key, 0),
                "last_error": errors.get(key),
                "next_slot": row.next_slot_at if row.active else None,
                "namespaces": row.namespaces,
                "definition": row.definition,
                "changed_at": row.changed_at,
                "changed_by": row.changed_by,
            }
        )
    return sorted(found, key=lambda shown: (-(shown["behind"] or 0), *(shown[name] for name in _KEY)))


def _counts(connection: Connection, condition: Any) -> dict[tuple[str, ...], int]:
    columns = [tasks.c[name] for name in _KEY]
    counted = select(*columns, func.sum(tasks.c.slots)).where(condition).group_by(*columns)
    return {tuple(row[:3]): int(row[3]) for row in connection.execute(counted)}


def _last_errors(connection: Connection, since: datetime) -> dict[tuple[str, ...], str]:
    """The latest error of each schedule, of missed tasks and of those that are retried."""
    columns = [tasks.c[name] for name in (*_KEY, "slot_at", "error")]
    retried = select(*columns).where(tasks.c.state == "open", tasks.c.error.is_not(None))
    missed = (tasks.c.state == "missed", tasks.c.slot_at >= since)
    newest = select(*(tasks.c[name] for name in _KEY), func.max(tasks.c.slot_at).label("slot_at"))
    last = newest.where(*missed).group_by(*(tasks.c[name] for name in _KEY)).subquery()
    same = and_(*(tasks.c[name] == last.c[name] for name in (*_KEY, "slot_at")))
    found = [
        *connection.execute(select(*columns).join(last, same).where(*missed)),
        *connection.execute(retried),
    ]
    return {(row.source, row.pollster, row.host): row.error for row in sorted(found, key=lambda row: row.slot_at)}


def _state(row: Row[Any], present: datetime) -> str:
    if not row.active:
        return "ended"
    return "late" if behind(row, present) >= TOO_LATE else "ok"


def history(warehouse: Warehouse, asked: Asked, limit: int) -> list[dict[str, Any]]:
    """Tasks and what came of them, those of the newest slots first.

    Raises:
        MeterhouseError: the warehouse cannot be read.
    """
    order = (tasks.c.slot_at.desc(), tasks.c.task_id.desc())
    with warehouse.read() as connection:
        rows = connection.execute(select(tasks).where(*conditions(asked)).order_by(*order).limit(limit)).all()
    return [_task(row) for row in rows]


def conditions(asked: Asked) -> list[Any]:
    """The conditions of the tasks that are asked for."""
    wanted = [tasks.c[name] == value for name in (*_KEY, "state") if (value := getattr(asked, name)) is not None]
    if asked.member is not None:
        wanted.append(tasks.c.owner.contains(asked.member, autoescape=True))
    if asked.start is not None:
        wanted.append(tasks.c.slot_at >= asked.start)
    if asked.end is not None:
        wanted.append(tasks.c.slot_at < asked.end)
    return wanted


def _task(row: Row[Any]) -> dict[str, Any]:
    names = (
        *("task_id", "source", "pollster", "host", "slot_at", "end_at", "slots", "shard", "part", "state"),
        *("due_at", "until", "attempts", "generation", "lease_until", "uncertain", "last_result"),
        *("resources", "samples", "seconds", "ended_at", "message_id", "error"),
    )
    return {name: getattr(row, name) for name in names} | {"member": row.owner}


def who(warehouse: Warehouse, *, gone: bool = False) -> list[dict[str, Any]]:
    """The members, those that are alive first. What has gone is listed for a day, or with `gone` as long as it is kept.

    Raises:
        MeterhouseError: the warehouse cannot be read.
    """
    with warehouse.read() as connection:
        present = clock.present(connection)
        rows = connection.execute(select(members).order_by(members.c.joined_at.desc(), members.c.member)).all()
        having = select(tasks.c.owner, func.count()).where(tasks.c.state == "claimed").group_by(tasks.c.owner)
        claimed = {row[0]: row[1] for row in connection.execute(having)}
    shown = [
        {
            "member": row.member,
            "state": _member_state(row, present),
            "host": row.host,
            "namespaces": row.namespaces,
            "claimed": claimed.get(row.member, 0),
            "joined_at": row.joined_at,
            "seen_at": row.seen_at,
            "left_at": row.left_at,
            "lease_seconds": row.lease_seconds,
            "clock_ahead_seconds": row.clock_ahead_seconds,
            "definitions": row.definitions,
        }
        for row in rows
        if gone or alive(row, present) or row.seen_at > present - _GONE
    ]
    return sorted(shown, key=lambda member: member["state"] != "alive")


def _member_state(row: Row[Any], present: datetime) -> str:
    if alive(row, present):
        return "alive"
    if row.left_at is not None:
        return "left"
    return "dead" if died_here(row.member) else "silent"
