"""Claims: which member polls which task."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, literal, not_, select, tuple_, update

from meterhouse.polling.record.claimed import Claimed, of_row
from meterhouse.polling.record.members import Member, batched, owned, renewed
from meterhouse.polling.record.transactions import begin
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import UtcTime
from meterhouse.stores.warehouse_tables import poll_tasks as tasks

Conditions = tuple[ColumnElement[bool], ...]


def claim(
    warehouse: Warehouse,
    member: Member,
    limit: int,
    *,
    per_source: int | None = None,
    taken: Mapping[str, int] | None = None,
    without: Collection[tuple[str, str]] = (),
) -> list[Claimed]:
    """Claim tasks that are due, for the member's lease: those of present slots first, and those first that are due
    longest. No other member has or gets them, and no member waits for another (PostgreSQL: SKIP LOCKED).

    A member that is paused here for longer than its lease gets tasks that others may have taken over: see `renew`.

    Args:
        limit: at most this many: the free places.
        per_source: how many places a source may have; as many as there are if it is None.
        taken: source → places that it has already.
        without: sources and pollsters that the member does not know.

    Raises:
        Unavailable: the warehouse does not answer. Tasks that were claimed all the same are taken over when their lease
            runs out.
    """
    if limit <= 0 or not member.hosts:
        return []
    with begin(warehouse) as (connection, present):
        theirs: Conditions = (tasks.c.host.in_(member.hosts), tasks.c.due_at <= present, tasks.c.until > present)
        if without:
            theirs += (not_(tuple_(tasks.c.source, tasks.c.pollster).in_(list(without))),)
        values = {**_ours(member, present), "attempts": tasks.c.attempts + 1}
        chosen = _spread(connection, theirs, limit, limit if per_source is None else per_source, dict(taken or {}))
        rows = _update(connection, chosen, values)
    return [of_row(row) for row in sorted(rows, key=lambda row: (row.late, row.due_at, row.task_id))]


def overdue(warehouse: Warehouse, member: Member, limit: int = 100) -> list[Claimed]:
    """Claim tasks that it is too late to poll, and of which nobody knows whether their samples were or will be landed.

    The member lands an empty batch with the task's message_id, and then calls `settle`: with `Missed` if the batch was
    landed, or with `Finished` if the samples had been landed before. If it dies meanwhile, another member does it.

    Raises:
        Unavailable: the warehouse does not answer.
    """
    with begin(warehouse) as (connection, present):
        closing = select(tasks.c.task_id).where(
            tasks.c.state == "open", tasks.c.until <= present, tasks.c.uncertain.is_(True)
        )
        chosen = connection.execute(
            closing.order_by(tasks.c.until).limit(limit).with_for_update(skip_locked=True)
        ).scalars()
        rows = _update(connection, list(chosen), _ours(member, present))
    return [of_row(row) for row in rows]


def renew(warehouse: Warehouse, member: Member, claims: Collection[Claimed]) -> set[int]:
    """Renew the leases of tasks right before what rests on them is landed.

    Returns:
        The ids of those tasks that are still the member's. What it polled for the others must not be landed.

    Raises:
        Unavailable: the warehouse does not answer.
    """
    with begin(warehouse) as (connection, present):
        return renewed(connection, present, member, claims)


def release(warehouse: Warehouse, member: Member, claims: Collection[Claimed]) -> None:
    """Give tasks back of which nothing was or will be landed; others may claim them at once, as if they never had been.

    Raises:
        Unavailable: the warehouse does not answer. The tasks are taken over when their lease runs out.
    """
    generations = {claim.task_id: claim.generation for claim in claims}
    with begin(warehouse) as (connection, present):
        for ids in batched(sorted(generations)):
            mine = select(tasks.c.task_id, tasks.c.generation).where(tasks.c.task_id.in_(ids), *owned(member.name))
            rows = connection.execute(mine.order_by(tasks.c.task_id).with_for_update())
            ours = [row.task_id for row in rows if row.generation == generations[row.task_id]]
            values: dict[str, Any] = {
                "state": "open",
                "owner": None,
                "lease_until": None,
                "due_at": at_once(present),
                "attempts": tasks.c.attempts - 1,
                "late": tasks.c.end_at <= present,
            }
            connection.execute(update(tasks).where(tasks.c.task_id.in_(ours)).values(values))


def at_once(present: datetime) -> Any:
    """When a task is due that may be claimed at once: not before its slot, if the clock was set back."""
    return case((tasks.c.slot_at > present, tasks.c.slot_at), else_=literal(present, UtcTime()))


def _ours(member: Member, present: datetime) -> dict[str, Any]:
    return {
        "state": "claimed",
        "owner": member.name,
        "lease_until": present + timedelta(seconds=member.lease_seconds),
        "generation": tasks.c.generation + 1,
    }


def _due(conditions: Conditions, limit: int) -> Any:
    """The ids and sources of open tasks, locked until the transaction ends; without those that others lock."""
    found = select(tasks.c.task_id, tasks.c.source).where(tasks.c.state == "open", *conditions)
    return found.order_by(tasks.c.late, tasks.c.due_at).limit(limit).with_for_update(skip_locked=True)


def _spread(
    connection: Connection, conditions: Conditions, limit: int, per_source: int, taken: dict[str, int]
) -> list[int]:
    """The ids of open tasks, of each source only as many as it may have."""
    chosen: list[int] = []
    full = {source for source, places in taken.items() if places >= per_source}
    while (wanted := limit - len(chosen)) > 0:
        others = and_(tasks.c.source.not_in(list(full)), tasks.c.task_id.not_in(list(chosen)))
        rows = connection.execute(_due((*conditions, others), wanted)).all()
        for row in rows:
            if taken.get(row.source, 0) < per_source:
                taken[row.source] = taken.get(row.source, 0) + 1
                chosen.append(row.task_id)
            if taken[row.source] >= per_source:
                full.add(row.source)
        if len(rows) < wanted:
            break
    return chosen


def _update(connection: Connection, ids: Sequence[int], values: Mapping[str, Any]) -> list[Row[Any]]:
    rows: list[Row[Any]] = []
    for some in batched(ids):
        rows += connection.execute(
            update(tasks).where(tasks.c.task_id.in_(some)).values(dict(values)).returning(*tasks.c)
        )
    return rows
