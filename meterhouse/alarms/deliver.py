"""Delivers alarm notifications from the outbox, with a timeout, and retries with back-off and jitter.

Each notification is sent at least once; the `Idempotency-Key` header identifies repeats. Notifications of one alarm to
one URL are sent in order. Body and headers are Aodh's.
"""

import logging
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, and_, exists, func, select, update

from meterhouse import times
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import deliveries

if TYPE_CHECKING:
    import httpx

MAX_PAUSE = 300.0
"""Maximum number of seconds between two attempts, before jitter."""

log = logging.getLogger(__name__)


@dataclass
class Delivered:
    """What a delivery run did; `pending` notifications still wait."""

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    pending: int = 0
    seconds: float = 0.0


def due(site: Site) -> int:
    """How many notifications could be sent now."""
    with site.warehouse.read() as connection:
        return int(connection.execute(select(func.count()).select_from(_due().subquery())).scalar() or 0)


def deliver(site: Site, *, limit: int = 200, workers: int = 16) -> Delivered:
    """Make one attempt to send each notification that is due, at most `limit` of them.

    A failed notification is retried by a later call, until METERHOUSE_WEBHOOK_ATTEMPTS attempts were made. Several
    processes may deliver at the same time: each attempt is claimed in the outbox before it is made.
    """
    import httpx

    done = Delivered()
    clock = time.monotonic()
    with site.warehouse.read() as connection:
        rows = connection.execute(_due().limit(limit)).all()
    if rows:
        with (
            httpx.Client(timeout=site.settings.webhook_timeout_seconds) as client,
            ThreadPoolExecutor(max_workers=min(workers, len(rows))) as pool,
        ):
            for result in pool.map(lambda row: _attempt(site, client, row), rows):
                if result is not None:
                    setattr(done, result, getattr(done, result) + 1)
    with site.warehouse.read() as connection:
        pending = select(func.count()).select_from(deliveries).where(deliveries.c.state == "pending")
        done.pending = int(connection.execute(pending).scalar() or 0)
    done.seconds = time.monotonic() - clock
    return done


def _due() -> Any:
    earlier = deliveries.alias("earlier")
    blocked = exists().where(
        and_(
            earlier.c.state == "pending",
            earlier.c.alarm_id == deliveries.c.alarm_id,
            earlier.c.url == deliveries.c.url,
            earlier.c.created_at < deliveries.c.created_at,
        )
    )
    return (
        select(deliveries)
        .where(deliveries.c.state == "pending", deliveries.c.next_attempt_at <= times.now(), ~blocked)
        .order_by(deliveries.c.created_at)
    )


def _attempt(site: Site, client: "httpx.Client", row: Row[Any]) -> str | None:
    """Claim and send one notification; return the figure to count it in, None if another process has claimed it."""
    attempts = row.attempts + 1
    # No other process sends it until then. If this process dies, another one sends it after that.
    claimed_until = times.now() + timedelta(seconds=2 * site.settings.webhook_timeout_seconds + 5)
    with site.warehouse.begin() as connection:
        claim = (
            update(deliveries)
            .where(
                deliveries.c.delivery_id == row.delivery_id,
                deliveries.c.state == "pending",
                deliveries.c.attempts == row.attempts,
            )
            .values(attempts=attempts, next_attempt_at=claimed_until)
        )
        if connection.execute(claim).rowcount != 1:
            return None
    error = _send(client, row)
    values: dict[str, Any] = {"last_error": error}
    if error is None:
        figure = "delivered"
        values |= {"state": "delivered", "delivered_at": times.now()}
    elif attempts >= site.settings.webhook_attempts:
        figure = "dead"
        values["state"] = "dead"
    else:
        figure = "failed"
        pause = min(MAX_PAUSE, 2.0 ** (attempts - 1)) * random.uniform(0.5, 1.0)
        values["next_attempt_at"] = times.now() + timedelta(seconds=pause)
    with site.warehouse.begin() as connection:
        connection.execute(update(deliveries).where(deliveries.c.delivery_id == row.delivery_id).values(**values))
    return figure


def _send(client: "httpx.Client", row: Row[Any]) -> str | None:
    """Send a notification; return the error in one line, if it failed."""
    import httpx

    if row.url.startswith("log:"):
        log.warning("alarm notification: %s", row.body)
        return None
    try:
        answer = client.post(
            row.url,
            content=row.body,
            headers={
                "content-type": "application/json",
                "x-openstack-request-id": f"req-{uuid.uuid4()}",
                "idempotency-key": row.delivery_id,
            },
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None if answer.is_success else f"the receiver answered {answer.status_code}"
