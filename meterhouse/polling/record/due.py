"""What the time brings: tasks of slots that begin, tasks of members that died, and the end of slots."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from meterhouse.polling.record import making
from meterhouse.polling.record.members import living
from meterhouse.polling.record.transactions import begin
from meterhouse.stores import clock
from meterhouse.stores.leases import died_here
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_members as members
from meterhouse.stores.warehouse_tables import poll_schedules as schedules
from meterhouse.stores.warehouse_tables import poll_tasks as tasks
from meterhouse.times import Span

ROWS_AT_ONCE = 500


def make_due(warehouse: Warehouse, *, away: Span | None = None) -> datetime | None:
    """Bring the record up to the present; every member does it for all.

    1. Slots that have begun get their tasks. Of slots that have ended, those are made up whose service keeps its past.
       The others are recorded as missed, with the reason: a row a slot, and one row for all that are long past.
    2. Tasks whose owner's lease has run out are open again, as are those of a process that has died on this host. They
       are `uncertain` from now on.
    3. Open tasks that it is too late to poll are recorded as missed, except uncertain ones: see `overdue`. Those of
       past slots that can still be made up come after all of present slots.

    A clock of the warehouse that was set back is noticed: slots that were recorded as missed before their time are
    forgotten, and leases end in time.

    Args:
        away: from when to when this member could not reach the warehouse, if that was just now: the reason why slots in
            between had no tasks.

    Returns:
        When the next of these is due, or a task that is open already, by the warehouse's clock; now or earlier if
        another member is doing it right now; None if nothing is scheduled. Other members' releases come earlier: look
        again within a second or so.

    Raises:
        Unavailable: the warehouse does not answer.
    """
    view = _look(warehouse)
    if view.slots:
        while making.make(warehouse, away) == making.SCHEDULES_AT_ONCE:
            pass
    if view.leases:
        while _take_back(warehouse) == ROWS_AT_ONCE:
            pass
    if view.ends:
        while _close(warehouse) == ROWS_AT_ONCE:
            pass
    return _look(warehouse).next_at if view.slots or view.leases or view.ends else view.next_at


@dataclass(frozen=True)
class _View:
    """What the record's tables show: whether slots begin, leases or slots end, and when one of these comes next."""

    slots: bool
    leases: bool
    ends: bool
    next_at: datetime | None


def _look(warehouse: Warehouse) -> _View:
    """Look whether there is something to do, without keeping anybody from writing."""
    with warehouse.read() as connection:
        present = clock.present(connection)
        of_schedules = connection.execute(
            select(schedules.c.interval_seconds, func.min(schedules.c.next_slot_at), func.max(schedules.c.next_slot_at))
            .where(schedules.c.active.is_(True))
            .group_by(schedules.c.interval_seconds)
        ).all()
        owners = connection.execute(
            select(tasks.c.owner, func.min(tasks.c.lease_until), func.max(tasks.c.lease_until), _lease_seconds())
            .select_from(tasks.outerjoin(members, members.c.member == tasks.c.owner))
            .where(tasks.c.state == "claimed")
            .group_by(tasks.c.owner)
        ).all()
        is_open = tasks.c.state == "open"
        ends = connection.execute(
            select(func.min(tasks.c.until)).where(is_open, tasks.c.uncertain.is_(False))
        ).scalar_one()
        passed = connection.execute(
            select(func.min(tasks.c.end_at)).where(is_open, tasks.c.late.is_(False))
        ).scalar_one()
        due = [
            connection.execute(
                select(func.min(tasks.c.due_at)).where(is_open, tasks.c.late.is_(late), tasks.c.due_at > present)
            ).scalar_one()
            for late in (False, True)
        ]
    slots = any(
        first <= present or last > present + timedelta(seconds=seconds) for seconds, first, last in of_schedules
    )
    leases = any(
        first <= present or last > present + timedelta(seconds=seconds or _LONGEST) or died_here(owner)
        for owner, first, last, seconds in owners
    )
    instants = [ends, passed, *due, *(first for _, first, _ in of_schedules), *(first for _, first, _, _ in owners)]
    known = [instant for instant in instants if instant is not None]
    over = any(instant is not None and instant <= present for instant in (ends, passed))
    return _View(slots, leases, over, min(known, default=None))


_LONGEST = 3600
"""Seconds of the longest lease that a setting allows."""


def _lease_seconds() -> Any:
    return func.max(members.c.lease_seconds)


def _take_back(warehouse: Warehouse) -> int:
    """Open the tasks of members that are silent or dead; return how many claimed tasks were looked at."""
    with begin(warehouse) as (connection, present):
        rows = connection.execute(
            select(tasks.c.task_id, tasks.c.owner, tasks.c.lease_until, tasks.c.slot_at, tasks.c.end_at)
            .where(tasks.c.state == "claimed")
            .order_by(tasks.c.lease_until)
            .limit(ROWS_AT_ONCE)
            .with_for_update(skip_locked=True)
        ).all()
        leases = connection.execute(select(members.c.member, members.c.lease_seconds))
        lease = {row.member: row.lease_seconds for row in leases}
        gone = {owner: died_here(owner) for owner in {row.owner for row in rows}}
        lost = [row for row in rows if row.lease_until <= present or gone[row.owner]]
        for row in lost:
            why = "has ended" if gone[row.owner] else f"lost its lease at {row.lease_until:%Y-%m-%dT%H:%M:%SZ}"
            connection.execute(
                update(tasks)
                .where(tasks.c.task_id == row.task_id)
                .values(
                    state="open",
                    due_at=max(present, row.slot_at),
                    lease_until=None,
                    uncertain=True,
                    late=row.end_at <= present,
                    last_result="lost",
                    error=f"member {row.owner} {why}",
                )
            )
        for owner in {row.owner for row in rows} - {row.owner for row in lost}:
            longest = present + timedelta(seconds=lease.get(owner, _LONGEST))  # later: the clock was set back since
            mine = (tasks.c.state == "claimed", tasks.c.owner == owner, tasks.c.lease_until > longest)
            connection.execute(update(tasks).where(*mine).values(lease_until=longest))
        return len(rows) if lost else 0


def _close(warehouse: Warehouse) -> int:
    """Record open tasks as missed that it is too late to poll; return their number.

    Those that can be made up come after the tasks of present slots from now on.
    """
    with begin(warehouse) as (connection, present):
        passed = (tasks.c.state == "open", tasks.c.late.is_(False), tasks.c.end_at <= present)
        chosen = select(tasks.c.task_id).where(*passed).with_for_update(skip_locked=True).cte("chosen")
        connection.execute(update(tasks).where(tasks.c.task_id == chosen.c.task_id).values(late=True))
        rows = connection.execute(
            select(tasks.c.task_id, tasks.c.host, tasks.c.error)
            .where(tasks.c.state == "open", tasks.c.until <= present, tasks.c.uncertain.is_(False))
            .order_by(tasks.c.until)
            .limit(ROWS_AT_ONCE)
            .with_for_update(skip_locked=True)
        ).all()
        if not rows:
            return 0
        by_error: dict[str, list[int]] = {}
        alive = living(connection, present)
        for row in rows:
            by_error.setdefault(row.error or _unclaimed(row.host, alive), []).append(row.task_id)
        for error, ids in by_error.items():
            missed = update(tasks).where(tasks.c.task_id.in_(ids))
            connection.execute(missed.values(state="missed", ended_at=present, error=error))
        return len(rows)


def _unclaimed(host: str, alive: list[Any]) -> str:
    """Why nobody claimed a task in its slot."""
    if host and not any(row.host == host for row in alive):
        return f"no member of host {host} was alive"
    return f"no member claimed it in the slot: {len(alive)} were alive, but busy, or without this pollster"
