"""Puts notifications into the outbox, for tests of delivery."""

import json
import uuid
from datetime import timedelta
from typing import Any

from builders import warehouse_rows
from sqlalchemy import func, insert, select, update

from meterhouse import times
from meterhouse.alarms.delivery.outbox import Notification, enqueue
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import deliveries


def put(site: Site, url: str, number: int = 0, *, alarm: str = "alarm-1", body: str = "", created: Any = None) -> str:
    """Put a notification into the outbox, after those that are there."""
    delivery_id = str(uuid.uuid4())
    moment = times.now() - timedelta(hours=1) + timedelta(seconds=number)
    with site.warehouse.begin() as connection:
        connection.execute(
            insert(deliveries).values(
                delivery_id=delivery_id,
                sequence=(connection.execute(select(func.max(deliveries.c.sequence))).scalar() or 0) + 1,
                alarm_id=alarm,
                event_id=str(uuid.uuid4()),
                url=url,
                body=body or json.dumps({"alarm_id": alarm, "number": number}),
                state="pending",
                attempts=0,
                next_attempt_at=moment,
                created_at=created or moment,
            )
        )
    return delivery_id


def tell(
    site: Site, *urls: str, origin: str = "file", alarm: str = "alarm-1", project: str = "", current: str = "alarm"
) -> int:
    """Put a notification into the outbox as an evaluation does."""
    told = Notification(
        event_id=str(uuid.uuid4()),
        alarm_id=alarm,
        alarm_name=f"name of {alarm}",
        severity="low",
        origin=origin,
        previous="ok",
        current=current,
        reason="because",
        reason_data={"type": "threshold"},
        urls=urls,
        project_id=project,
    )
    with site.warehouse.begin() as connection:
        return enqueue(connection, [told], times.now())


def wait_no_longer(site: Site) -> None:
    """Pretend that the pause before the next attempts is over."""
    with site.warehouse.begin() as connection:
        connection.execute(update(deliveries).values(next_attempt_at=times.now() - timedelta(seconds=1)))


def ledger(site: Site) -> list[tuple[Any, ...]]:
    """State, attempts and last error of each notification, in order."""
    return warehouse_rows(site, "SELECT state, attempts, last_error FROM deliveries ORDER BY sequence")
