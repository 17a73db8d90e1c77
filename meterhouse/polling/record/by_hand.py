"""What a person decides about tasks."""

from typing import Any

from sqlalchemy import select, update

from meterhouse.polling.record.claiming import at_once
from meterhouse.polling.record.due import ROWS_AT_ONCE
from meterhouse.polling.record.reading import Asked, conditions
from meterhouse.polling.record.transactions import begin
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_tasks as tasks


def release(warehouse: Warehouse, asked: Asked, task_ids: tuple[int, ...] = ()) -> dict[str, int]:
    """Take tasks from the members that have claimed them, and let those that wait for a retry be due at once.

    A member that polls such a task right now finds that it has lost it. Its samples are not counted twice.

    Returns:
        `released`: number of claimed tasks; `due`: of those that waited.

    Raises:
        Unavailable: the warehouse does not answer.
    """
    wanted = conditions(asked) + ([tasks.c.task_id.in_(task_ids)] if task_ids else [])
    taken: dict[str, Any] = {
        "state": "open",
        "owner": None,
        "lease_until": None,
        "uncertain": True,
        "last_result": "lost",
        "error": "released by hand",
    }
    done = {"released": 0, "due": 0}
    while True:
        with begin(warehouse) as (connection, present):
            claimed = select(tasks.c.task_id).where(tasks.c.state == "claimed", *wanted).limit(ROWS_AT_ONCE)
            ids = connection.execute(claimed.with_for_update()).scalars().all()
            connection.execute(update(tasks).where(tasks.c.task_id.in_(ids)).values(**taken, due_at=at_once(present)))
            done["released"] += len(ids)
            if len(ids) == ROWS_AT_ONCE:
                continue
            waiting = update(tasks).where(tasks.c.state == "open", tasks.c.due_at > present, *wanted)
            done["due"] = connection.execute(waiting.values(due_at=at_once(present))).rowcount
            return done
