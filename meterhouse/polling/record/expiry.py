"""Deletes what the record keeps no longer."""

from datetime import timedelta

from sqlalchemy import delete, select, update

from meterhouse.polling.record.members import batched
from meterhouse.polling.record.transactions import begin
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_members as members
from meterhouse.stores.warehouse_tables import poll_schedules as schedules
from meterhouse.stores.warehouse_tables import poll_tasks as tasks

ROWS_AT_ONCE = 5_000


def expire(warehouse: Warehouse, days: int) -> int:
    """Delete tasks that ended, members that were last seen and schedules that ended more than this many days ago.

    A schedule of a host ends first, if no member of the host was seen for so long: the host is gone.

    Returns:
        The number of deleted rows.
    """
    kept = timedelta(days=days)
    deleted = 0
    while True:  # by the index of slots, in short transactions
        with begin(warehouse) as (connection, present):
            over = (tasks.c.slot_at < present - kept, tasks.c.end_at < present - kept, tasks.c.until <= present)
            closed = tasks.c.state.in_(("done", "missed"))
            ids = connection.execute(
                select(tasks.c.task_id).where(*over, closed).order_by(tasks.c.slot_at).limit(ROWS_AT_ONCE)
            ).scalars()
            count = 0
            for some in batched(ids):
                count += connection.execute(delete(tasks).where(tasks.c.task_id.in_(some))).rowcount
        deleted += count
        if count < ROWS_AT_ONCE:
            break
    with begin(warehouse) as (connection, present):
        before = present - kept
        hosts = select(members.c.host).where(members.c.seen_at >= before)
        silent = (
            schedules.c.host != "",
            schedules.c.host.not_in(hosts),
            schedules.c.changed_at < before,
        )
        connection.execute(
            update(schedules).where(schedules.c.active.is_(True), *silent).values(active=False, changed_by="upkeep")
        )
        old = delete(schedules).where(schedules.c.active.is_(False), schedules.c.changed_at < before)
        unseen = delete(members).where(members.c.seen_at < before)
        return deleted + connection.execute(old).rowcount + connection.execute(unseen).rowcount
