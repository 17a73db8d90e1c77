"""Delivers alarm notifications from the outbox, with a deadline, and retries with back-off and jitter.

Each notification is sent at least once; the `Idempotency-Key` header identifies repeats. Notifications of one alarm to
one URL are sent in order. Body and headers are Aodh's.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice, zip_longest
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Row, and_, exists, func, or_, select, update

from meterhouse.alarms.delivery import webhook
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import deliveries

MAX_PAUSE = 300.0
"""Maximum number of seconds between two attempts."""

START_SECONDS = 10.0
"""For how many seconds a run starts attempts. It ends after these and the deadline of one call."""

CLAIM_MARGIN = 5.0
"""For how many seconds more than two calls an attempt is claimed, to record its result."""

CALLS_PER_HOST: Final = 16
"""How many calls one receiver gets at the same time."""

CANDIDATES: Final = 5_000
"""How many notifications that are due a run chooses from."""

log = logging.getLogger(__name__)


@dataclass
class Delivered:
    """What a delivery run did; `pending` notifications still wait."""

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    pending: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Claim:
    """A notification that nobody else sends before `until`, on the monotonic clock."""

    row: Row[Any]
    until: float


def due(site: Site) -> int:
    """How many notifications could be sent now."""
    with site.warehouse.read() as connection:
        query = select(func.count()).select_from(_due(clock.present(connection)).subquery())
        return int(connection.execute(query).scalar() or 0)


def deliver(site: Site, *, limit: int = 200) -> Delivered:
    """Make one attempt to send each notification that is due, at most `limit` of them.

    It ends in bounded time: within START_SECONDS and METERHOUSE_WEBHOOK_TIMEOUT_SECONDS, whatever the receivers do.
    Receivers take turns, so that none delays the others. A failed notification is retried by a later call, until
    METERHOUSE_WEBHOOK_ATTEMPTS attempts were made. Several processes may deliver at the same time: each attempt is
    claimed in the outbox before it is made.
    """
    done = Delivered()
    began = time.monotonic()
    chosen = _choose(site, limit)
    if chosen:
        with asyncio.Runner(loop_factory=webhook.Loop) as runner:
            for result in runner.run(_attempt_all(site, chosen)):
                if result is not None:
                    setattr(done, result, getattr(done, result) + 1)
    with site.warehouse.read() as connection:
        pending = select(func.count()).select_from(deliveries).where(deliveries.c.state == "pending")
        done.pending = int(connection.execute(pending).scalar() or 0)
    done.seconds = time.monotonic() - began
    return done


def _due(present: datetime) -> Any:
    """The notifications that can be sent: those without an earlier one to the same URL that waits."""
    earlier = deliveries.alias("earlier")
    blocked = exists().where(
        and_(
            earlier.c.state == "pending",
            earlier.c.alarm_id == deliveries.c.alarm_id,
            earlier.c.url == deliveries.c.url,
            earlier.c.sequence < deliveries.c.sequence,
        )
    )
    return select(deliveries.c.delivery_id, deliveries.c.url, deliveries.c.attempts, deliveries.c.sequence).where(
        deliveries.c.state == "pending",
        or_(
            deliveries.c.next_attempt_at <= present,
            # No pause is that long: the clock was set back since.
            deliveries.c.next_attempt_at > present + timedelta(seconds=MAX_PAUSE),
        ),
        ~blocked,
    )


def _choose(site: Site, limit: int) -> list[Row[Any]]:
    """The notifications to send now: the receivers take turns, each in the order of its notifications."""
    with site.warehouse.read() as connection:
        waiting = _due(clock.present(connection)).subquery()
        turn = func.row_number().over(partition_by=waiting.c.url, order_by=waiting.c.sequence)
        rows = connection.execute(select(waiting).order_by(turn, waiting.c.sequence).limit(CANDIDATES)).all()
    by_host: dict[str, list[Row[Any]]] = {}
    for row in rows:
        by_host.setdefault(_host(row.url), []).append(row)
    in_turn: Iterable[Row[Any] | None] = chain.from_iterable(zip_longest(*by_host.values()))
    return list(islice((row for row in in_turn if row is not None), limit))


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:  # a URL of an earlier release; its call fails
        return url


async def _attempt_all(site: Site, rows: list[Row[Any]]) -> list[str | None]:
    """Make the attempts; for each, the figure to count it in, None if it was left to another process or a later run."""
    last_start = time.monotonic() + START_SECONDS
    loop = asyncio.get_running_loop()
    gates = {_host(row.url): asyncio.Semaphore(CALLS_PER_HOST) for row in rows}
    with ThreadPoolExecutor(max_workers=4) as warehouse:  # whose calls block
        async with webhook.client() as client:

            async def attempt(row: Row[Any]) -> str | None:
                async with gates[_host(row.url)]:
                    if time.monotonic() > last_start:
                        return None
                    claim = await loop.run_in_executor(warehouse, _claim, site, row)
                    if claim is None or time.monotonic() > claim.until:  # paused: another process may have sent it
                        return None
                    error = await _send(client, claim.row, site.settings.webhook_timeout_seconds)
                return await loop.run_in_executor(warehouse, _record, site, claim, error)

            results = await asyncio.gather(*map(attempt, rows), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _claim(site: Site, row: Row[Any]) -> _Claim | None:
    """Claim one attempt, so that no other process makes it until the claim has run out."""
    seconds = 2 * site.settings.webhook_timeout_seconds + CLAIM_MARGIN
    until = time.monotonic() + seconds
    ours = (deliveries.c.delivery_id == row.delivery_id, deliveries.c.state == "pending")
    with site.warehouse.begin() as connection:
        claimed_until = clock.present(connection) + timedelta(seconds=seconds)
        claim = (
            update(deliveries)
            .where(*ours, deliveries.c.attempts == row.attempts)
            .values(attempts=row.attempts + 1, next_attempt_at=claimed_until)
        )
        if connection.execute(claim).rowcount != 1:
            return None
        return _Claim(connection.execute(select(deliveries).where(*ours)).one(), until)


def _record(site: Site, claim: _Claim, error: str | None) -> str | None:
    """Record the result of an attempt; None if the claim had run out and another process has made the next attempt."""
    row = claim.row
    with site.warehouse.begin() as connection:
        present = clock.present(connection)
        values: dict[str, Any] = {"last_error": error}
        if error is None:
            figure = "delivered"
            values |= {"state": "delivered", "delivered_at": present}
        elif row.attempts >= site.settings.webhook_attempts:
            figure = "dead"
            values["state"] = "dead"
        else:
            figure = "failed"
            pause = min(MAX_PAUSE, 2.0 ** min(row.attempts - 1, 16)) * random.uniform(0.5, 1.0)
            values["next_attempt_at"] = present + timedelta(seconds=pause)
        ours = (
            deliveries.c.delivery_id == row.delivery_id,
            deliveries.c.state == "pending",
            deliveries.c.attempts == row.attempts,
        )
        return figure if connection.execute(update(deliveries).where(*ours).values(**values)).rowcount == 1 else None


async def _send(client: Any, row: Row[Any], seconds: float) -> str | None:
    """Send a notification; return the error in one line, if it failed."""
    if row.url.startswith("log:"):
        log.warning("alarm notification: %s", row.body)
        return None
    headers = {
        "content-type": "application/json",
        "x-openstack-request-id": f"req-{uuid.uuid4()}",
        "idempotency-key": row.delivery_id,
    }
    return await webhook.post(client, row.url, row.body, headers, seconds)
