"""What is polled how often: the schedules, from the files of the members."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, text, update

from meterhouse.polling.pollster import Scheduled
from meterhouse.polling.record.making import make_for, slot_after
from meterhouse.polling.record.members import Member, living
from meterhouse.polling.record.transactions import begin
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_schedules as schedules
from meterhouse.stores.warehouse_tables import poll_tasks as tasks

Key = tuple[str, str, str]
"""Source, pollster, host."""


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Attributes:
        added, changed, removed: numbers of schedules.
        unknown: sources and pollsters that other members poll, and this one does not know: `claim` without them.
    """

    added: int
    changed: int
    removed: int
    unknown: frozenset[tuple[str, str]]


def sync(
    warehouse: Warehouse,
    scheduled: Sequence[Scheduled],
    member: Member,
    *,
    read_now: bool = True,
    doubtful: Callable[[str, str], bool] = lambda source, pollster: False,
) -> Synced:
    """Let the record have the schedules of a member's files. `join` before.

    Members may have different files, as while they are upgraded one by one. So:

    - The member that has read its files last decides on intervals and shards. A new interval begins with its first slot
      after now; tasks of slots of the old one are still polled.
    - A schedule ends when no living member of its namespaces has it in its files. Its open tasks are then recorded as
      missed, with this reason; claimed ones are finished. A schedule that comes back begins as a new one.
    - A new schedule begins with the present slot if half of it is left, or 10 s, otherwise with the next.

    Args:
        scheduled: what this member polls, all of it.
        read_now: whether the files were read just now. Otherwise this is the repetition that ends what the members that
            have gone had; call it every minute or so.
        doubtful: whether a pollster of a source may be missing in the files only because of a fault in them. Its
            schedule does not end: its slots are missed, until the fault is mended.

    Raises:
        Unavailable: the warehouse does not answer.
    """
    mine: dict[Key, Scheduled] = {
        (each.source.name, each.pollster.name, member.host if each.of_host else ""): each for each in scheduled
    }
    with begin(warehouse) as (connection, present):
        _one_at_a_time(connection)
        rows = {(row.source, row.pollster, row.host): row for row in connection.execute(select(schedules))}
        new = [key for key in mine if key not in rows or not rows[key].active]
        known = mine.keys() - new if read_now else set()
        changed = sorted(key for key in known if _differs(rows[key], mine[key]))
        unknown = [row for key, row in rows.items() if row.active and key not in mine and row.host in ("", member.host)]
        gone = [row for row in unknown if not doubtful(row.source, row.pollster)]
        left = _left(connection, present, gone, member) if gone else []
        rows |= _locked(connection, [*changed, *((row.source, row.pollster, row.host) for row in left)])
        _add(connection, present, {key: mine[key] for key in new}, rows, member)
        _change(connection, present, {key: mine[key] for key in changed}, rows, member)
        _end(connection, present, [rows[row.source, row.pollster, row.host] for row in left], member)
    ended = {(row.source, row.pollster, row.host) for row in left}
    others = frozenset(
        (row.source, row.pollster) for row in unknown if (row.source, row.pollster, row.host) not in ended
    )
    return Synced(len(new), len(changed), len(left), others)


def resize(warehouse: Warehouse, sizes: Mapping[Key, int]) -> None:
    """Set into how many tasks coming slots are divided, for sources that leave it to the number of resources.

    Args:
        sizes: source, pollster, host → number of shards, from 1.

    Raises:
        Unavailable: the warehouse does not answer.
    """
    with begin(warehouse) as (connection, _):
        for key, shards in sorted(sizes.items()):
            connection.execute(update(schedules).where(*_of(key)).values(shards=max(1, shards)))


def _one_at_a_time(connection: Connection) -> None:
    """Let nobody else sync until the transaction ends. SQLite's writing transactions are one at a time already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('poll_schedules', 0))"))


def _of(key: Key) -> tuple[Any, ...]:
    return schedules.c.source == key[0], schedules.c.pollster == key[1], schedules.c.host == key[2]


def _locked(connection: Connection, keys: Sequence[Key]) -> dict[Key, Row[Any]]:
    found = {}
    for key in sorted(keys):
        row = connection.execute(select(schedules).where(*_of(key)).with_for_update()).first()
        if row is not None:
            found[key] = row
    return found


def _namespaces(scheduled: Scheduled) -> str:
    return ",".join(sorted(scheduled.pollster.namespaces))


def _differs(row: Row[Any], scheduled: Scheduled) -> bool:
    source, pollster = scheduled.source, scheduled.pollster
    shards = source.shards or row.shards
    return (row.interval_seconds, row.shards, row.history_seconds, row.definition, row.namespaces) != (
        source.interval,
        shards,
        pollster.history_seconds,
        scheduled.digest,
        _namespaces(scheduled),
    )


def _values(scheduled: Scheduled, present: datetime, member: Member) -> dict[str, Any]:
    return {
        "namespaces": _namespaces(scheduled),
        "interval_seconds": scheduled.source.interval,
        "history_seconds": scheduled.pollster.history_seconds,
        "definition": scheduled.digest,
        "active": True,
        "changed_at": present,
        "changed_by": member.name,
    }


def _add(
    connection: Connection,
    present: datetime,
    new: Mapping[Key, Scheduled],
    rows: Mapping[Key, Row[Any]],
    member: Member,
) -> None:
    for key, scheduled in sorted(new.items()):
        interval = scheduled.source.interval
        following = slot_after(present, interval)
        enough = timedelta(seconds=min(interval / 2, 10))
        begins = following - timedelta(seconds=interval) if following - present >= enough else following
        values = _values(scheduled, present, member) | {"next_slot_at": begins, "done_slot_at": None}
        shards = max(1, scheduled.source.shards)
        if key in rows:
            connection.execute(update(schedules).where(*_of(key)).values(**values, shards=shards))
            continue
        named = {"source": key[0], "pollster": key[1], "host": key[2]}
        connection.execute(insert(schedules).values(**values, **named, shards=shards))


def _change(
    connection: Connection,
    present: datetime,
    changed: Mapping[Key, Scheduled],
    rows: Mapping[Key, Row[Any]],
    member: Member,
) -> None:
    make_for(connection, present, [rows[key] for key in changed])
    for key, scheduled in sorted(changed.items()):
        values = _values(scheduled, present, member)
        if scheduled.source.shards:
            values["shards"] = scheduled.source.shards
        if scheduled.source.interval != rows[key].interval_seconds:
            values["next_slot_at"] = slot_after(present, scheduled.source.interval)
        connection.execute(update(schedules).where(*_of(key)).values(values))


def _left(connection: Connection, present: datetime, unknown: Sequence[Row[Any]], member: Member) -> list[Row[Any]]:
    """Those active schedules of the member's namespaces that no living member has in its files."""
    others = [
        row
        for row in living(connection, present)
        if row.member != member.name and row.definitions != member.definitions
    ]
    left = []
    for row in unknown:
        namespaces = set(row.namespaces.split(","))
        having = [
            other for other in others if namespaces & set(other.namespaces.split(",")) and row.host in ("", other.host)
        ]
        if namespaces & member.namespaces and not having:
            left.append(row)
    return left


def _end(connection: Connection, present: datetime, left: Sequence[Row[Any]], member: Member) -> None:
    make_for(connection, present, left)
    for row in left:
        key = (row.source, row.pollster, row.host)
        ended = {"active": False, "changed_at": present, "changed_by": member.name}
        connection.execute(update(schedules).where(*_of(key)).values(ended))
        theirs = (
            tasks.c.source == row.source,
            tasks.c.pollster == row.pollster,
            tasks.c.host == row.host,
            tasks.c.state == "open",
        )
        reason = f"source {row.source} or its pollster {row.pollster} was removed from polling.yaml or pollsters.d"
        uncertain = tasks.c.uncertain.is_(True)
        connection.execute(
            update(tasks).where(*theirs, ~uncertain).values(state="missed", ended_at=present, error=reason)
        )
        connection.execute(update(tasks).where(*theirs, uncertain).values(until=present, error=reason))
