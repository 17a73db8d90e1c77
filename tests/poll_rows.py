"""Rows of the record of polling, for tests of what reads it."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert

from meterhouse import times
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import poll_schedules, poll_tasks

INTERVAL = timedelta(seconds=60)
LONG_AGO = timedelta(days=7)


def schedule(site: Site, pollster: str, done: datetime | None = None, **other: Any) -> None:
    """Add a schedule that is not due, whose last completely polled slot begins at `done`."""
    now = times.now()
    row = {"source": "nova", "pollster": pollster, "host": "", "interval_seconds": INTERVAL.seconds, "shards": 1}
    row |= {"definition": "", "active": True, "next_slot_at": now + INTERVAL, "done_slot_at": done}
    row |= {"changed_at": now - LONG_AGO, "changed_by": "m1", "namespaces": "central"}
    _insert(site, poll_schedules, {**row, **other})


def task(site: Site, pollster: str, **other: Any) -> None:
    """Add a task, which is open and due now."""
    now = times.now()
    row = {"source": "nova", "pollster": pollster, "host": "", "shard": "1/1", "slot_at": now, "due_at": now}
    row |= {"end_at": now + INTERVAL, "until": now + INTERVAL, "state": "open", "message_id": pollster}
    _insert(site, poll_tasks, {**row, **other})


def _insert(site: Site, table: Any, row: dict[str, Any]) -> None:
    with site.warehouse.begin() as connection:
        connection.execute(insert(table).values({name: value for name, value in row.items() if name in table.c}))
