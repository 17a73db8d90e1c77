"""The members: processes that poll. They come, show that they are alive, and go."""

import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects import postgresql, sqlite

from meterhouse.polling.pollster import hosts_of
from meterhouse.polling.record.claimed import Claimed
from meterhouse.polling.record.transactions import begin
from meterhouse.stores.leases import died_here
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_members as members
from meterhouse.stores.warehouse_tables import poll_tasks as tasks


@dataclass(frozen=True)
class Member:
    """A process that polls.

    Attributes:
        name: of `stores.leases.this_process`: by it other members of the host notice at once that it has died.
        namespaces: of the pollsters that it polls.
        lease_seconds: after how long without a sign of life others may take its tasks over.
        definitions: the digest of all files that it has read.
        clock_ahead: by how many seconds its clock is ahead of the warehouse's.
        host: where it runs; it polls the pollsters of this host only.
    """

    name: str
    namespaces: frozenset[str]
    lease_seconds: float
    definitions: str
    clock_ahead: float = 0.0
    host: str = field(default_factory=socket.gethostname)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Whose tasks it may claim."""
        return hosts_of(self.namespaces, self.host)


def join(warehouse: Warehouse, member: Member) -> None:
    """Make a member known, or change what is known of it. Repeat it after its files have changed.

    Raises:
        Unavailable: the warehouse does not answer.
    """
    with begin(warehouse) as (connection, present):
        _see(connection, present, member)


def beat(warehouse: Warehouse, member: Member, claims: Collection[Claimed]) -> set[int]:
    """Show that a member is alive, and renew the leases of its tasks; call it each third of the lease.

    A member that was paused is alive again. Its tasks that nobody else has claimed meanwhile are still its own.

    Args:
        claims: what it polls, or has polled and not recorded yet.

    Returns:
        The ids of those tasks that it has lost: other members poll them.

    Raises:
        Unavailable: the warehouse does not answer. The member continues, because the leases may be renewed later.
    """
    with begin(warehouse) as (connection, present):
        _see(connection, present, member)
        return {claim.task_id for claim in claims} - renewed(connection, present, member, claims)


def renewed(connection: Connection, present: datetime, member: Member, claims: Collection[Claimed]) -> set[int]:
    """Renew the leases of tasks; return the ids of those that are still the member's."""
    generations: dict[int, int] = {}
    for claim in claims:  # a task may be claimed again while what came of its earlier claim waits
        generations[claim.task_id] = max(claim.generation, generations.get(claim.task_id, 0))
    ours: set[int] = set()
    for ids in batched(sorted(generations)):
        mine = select(tasks.c.task_id, tasks.c.generation).where(tasks.c.task_id.in_(ids), *owned(member.name))
        rows = connection.execute(mine.order_by(tasks.c.task_id).with_for_update())
        found = [row.task_id for row in rows if row.generation == generations[row.task_id]]
        if found:
            until = present + timedelta(seconds=member.lease_seconds)
            renewal = update(tasks).where(tasks.c.task_id.in_(found)).values(state="claimed", lease_until=until)
            connection.execute(renewal)
            ours.update(found)
    return ours


def owned(name: str) -> tuple[Any, ...]:
    """Conditions: a member claimed it last, and nobody since, even if its lease has run out."""
    return tasks.c.owner == name, tasks.c.state.in_(("claimed", "open"))


def leave(warehouse: Warehouse, member: Member) -> None:
    """Let a member go. Tasks that it still has are taken over at once; `release` before what it has not polled."""
    with begin(warehouse) as (connection, present):
        connection.execute(
            update(members).where(members.c.member == member.name).values(left_at=present, seen_at=present)
        )
        lost = (tasks.c.state == "claimed", tasks.c.owner == member.name)
        connection.execute(update(tasks).where(*lost).values(lease_until=present))


def _see(connection: Connection, present: datetime, member: Member) -> None:
    seen = {
        "host": member.host,
        "namespaces": ",".join(sorted(member.namespaces)),
        "seen_at": present,
        "lease_seconds": member.lease_seconds,
        "left_at": None,
        "clock_ahead_seconds": round(member.clock_ahead, 3),
        "definitions": member.definitions,
    }
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = make(members).values(member=member.name, joined_at=present, **seen)
    connection.execute(row.on_conflict_do_update(index_elements=["member"], set_=seen))


def living(connection: Connection, present: datetime) -> list[Row[Any]]:
    """The rows of the members that are alive."""
    here = select(members).where(members.c.left_at.is_(None)).order_by(members.c.joined_at, members.c.member)
    return [row for row in connection.execute(here) if alive(row, present)]


def alive(row: Row[Any], present: datetime) -> bool:
    """Whether the member of a row of `poll_members` is alive."""
    if row.left_at is not None or died_here(row.member):
        return False
    silent: timedelta = present - row.seen_at
    return silent < timedelta(seconds=row.lease_seconds)


def batched(ids: Iterable[int], size: int = 500) -> Iterable[list[int]]:
    """Ids in lists that a statement can hold in any database."""
    every = list(ids)
    return [every[start : start + size] for start in range(0, len(every), size)]
