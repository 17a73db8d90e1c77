"""The outbox: notifications that are to be delivered, written in the transaction that changes the alarms' states."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from meterhouse.alarms.definitions.actions import receiver, without_userinfo
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import deliveries, webhook_credentials


@dataclass(frozen=True)
class Notification:
    """What an alarm has to tell, and whom.

    Attributes:
        event_id: a UUID: of the state's transition, or a new one for a repeated notification.
        alarm_id: the alarm.
        alarm_name: its name.
        severity: low, moderate or critical.
        origin: `file` for an alarm of `alarms.yaml`, else `outside`.
        previous: the state before.
        current: the state now.
        reason: why, for people.
        reason_data: why, for programs; JSON.
        urls: the actions.
        project_id: the alarm's project; empty if it has none.
    """

    event_id: str
    alarm_id: str
    alarm_name: str
    severity: str
    origin: str
    previous: str
    current: str
    reason: str
    reason_data: dict[str, Any]
    urls: tuple[str, ...]
    project_id: str = ""

    def body(self) -> str:
        """The notification as it is sent: JSON in Aodh's form."""
        return json.dumps(
            {
                "alarm_name": self.alarm_name,
                "alarm_id": self.alarm_id,
                "severity": self.severity,
                "previous": self.previous,
                "current": self.current,
                "reason": self.reason,
                "reason_data": self.reason_data,
            }
        )


def enqueue(connection: Connection, notifications: Sequence[Notification], created_at: datetime) -> int:
    """Put notifications into the outbox, in their order; return how many there are, one for each URL.

    User and password of a URL are kept apart from it, so that the outbox can be shown.

    Args:
        connection: a writing transaction that has checked the lease of the evaluations, so that nobody else numbers.
        notifications: what to tell. One with a URL twice is sent there once.
        created_at: when the alarms were evaluated, UTC.
    """
    if not any(notification.urls for notification in notifications):
        return 0
    import pyarrow as pa

    from meterhouse.stores.bulk import bulk_insert, upsert

    of: list[int] = []
    urls: list[str] = []
    secrets: dict[tuple[str, str], str] = {}
    for place, notification in enumerate(notifications):
        parted: dict[str, str] = {}
        for action in notification.urls:
            parted.setdefault(*without_userinfo(action))
        for url, userinfo in parted.items():
            of.append(place)
            urls.append(url)
            if userinfo:
                secrets[notification.alarm_id, url] = userinfo
    bodies = {place: notifications[place].body() for place in of}
    last = int(connection.execute(select(func.max(deliveries.c.sequence))).scalar() or 0)
    queued_at = clock.present(connection)
    count, time = len(of), pa.timestamp("us", tz="UTC")

    def each(name: str) -> pa.Array:
        return pa.array([getattr(notifications[place], name) for place in of], pa.string())

    def same(value: Any, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), count)

    rows = {
        "delivery_id": pa.array(
            [delivery_id(notifications[place].event_id, url) for place, url in zip(of, urls, strict=True)]
        ),
        "sequence": pa.array(range(last + 1, last + 1 + count), pa.int64()),
        "alarm_id": each("alarm_id"),
        "alarm_name": each("alarm_name"),
        "origin": each("origin"),
        "project_id": each("project_id"),
        "event_id": each("event_id"),
        "url": pa.array(urls),
        "receiver": pa.array([receiver(url) for url in urls]),
        "body": pa.array([bodies[place] for place in of]),
        "state": same("pending", pa.string()),
        "attempts": same(0, pa.int64()),
        "next_attempt_at": same(queued_at, time),
        "created_at": same(created_at, time),
        "queued_at": same(queued_at, time),
    }
    bulk_insert(connection, deliveries.name, pa.table(rows))
    if secrets:
        kept = {
            "alarm_id": pa.array([alarm_id for alarm_id, _ in secrets]),
            "url": pa.array([url for _, url in secrets]),
            "userinfo": pa.array(list(secrets.values())),
            "kept_at": pa.repeat(pa.scalar(queued_at, time), len(secrets)),
        }
        upsert(
            connection,
            webhook_credentials,
            pa.table(kept),
            ("userinfo = excluded.userinfo", "kept_at = excluded.kept_at"),
        )
    return count


def delivery_id(event_id: str, url: str) -> str:
    """The idempotency key: the same for the same event and URL, whoever sends it."""
    return str(uuid.uuid5(uuid.UUID(event_id), url))
