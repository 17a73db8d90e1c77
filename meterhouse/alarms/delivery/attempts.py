"""Attempts of deliveries in the ledger: claimed before the calls, recorded after them, many in one transaction.

A claim is what lets any number of processes deliver at the same time, and what makes a notification come again whose
process died: until the claim runs out, nobody else sends it.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, bindparam, insert, or_, select, tuple_, update

from meterhouse.alarms.delivery.call import Answer
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import deliveries, delivery_attempts, webhook_credentials

MAX_PAUSE = 300.0
"""Maximum number of seconds between two attempts."""

CLAIM_MARGIN = 5.0
"""For how many seconds more than two calls an attempt is claimed, to record its result."""


@dataclass(frozen=True)
class Claim:
    """A notification that nobody else sends before `until`.

    Attributes:
        row: the notification as the ledger has it, this attempt counted.
        userinfo: user and password of its URL.
        until: on the monotonic clock.
        claimed_at: the warehouse's time.
        claimed: the same on the monotonic clock.
    """

    row: Row[Any]
    userinfo: str
    until: float
    claimed_at: datetime
    claimed: float

    def at(self, moment: float) -> datetime:
        """The warehouse's time at a moment of the monotonic clock."""
        return self.claimed_at + timedelta(seconds=moment - self.claimed)


@dataclass(frozen=True)
class Attempt:
    """An attempt that was made.

    Attributes:
        claim: of what.
        answer: how it ended.
        started_at: when, by the warehouse's clock.
        digest_id: the idempotency key of the digest that it was part of; None if it was sent alone.
    """

    claim: Claim
    answer: Answer
    started_at: datetime
    digest_id: str | None = None


def is_due(present: datetime) -> ColumnElement[bool]:
    """Whether the time of a notification's next attempt has come."""
    return or_(
        deliveries.c.next_attempt_at <= present,
        # No pause is that long: the clock was set back since.
        deliveries.c.next_attempt_at > present + timedelta(seconds=MAX_PAUSE),
    )


def claim(site: Site, delivery_ids: Sequence[str]) -> list[Claim]:
    """Claim one attempt of each notification that is still due, in the order of the outbox."""
    seconds = 2 * site.settings.webhook_timeout_seconds + CLAIM_MARGIN
    claimed = time.monotonic()
    with site.warehouse.begin() as connection:
        present = clock.present(connection)
        free = (deliveries.c.delivery_id.in_(delivery_ids), deliveries.c.state == "pending", is_due(present))
        # Another process may claim the same ones: they are locked in one order, and what it has is left to it.
        query = select(deliveries).where(*free).order_by(deliveries.c.sequence).with_for_update(skip_locked=True)
        rows = connection.execute(query).all()
        if not rows:
            return []
        values = {"attempts": deliveries.c.attempts + 1, "next_attempt_at": present + timedelta(seconds=seconds)}
        ours = deliveries.c.delivery_id.in_([row.delivery_id for row in rows])
        found = {
            row.delivery_id: row
            for row in connection.execute(update(deliveries).where(ours).values(**values).returning(deliveries))
        }
        places = {(row.alarm_id, row.url) for row in rows}
        kept = webhook_credentials.c
        secrets = {
            (row.alarm_id, row.url): row.userinfo
            for row in connection.execute(
                select(webhook_credentials).where(tuple_(kept.alarm_id, kept.url).in_(sorted(places)))
            )
        }
    return [
        Claim(found[row.delivery_id], secrets.get((row.alarm_id, row.url), ""), claimed + seconds, present, claimed)
        for row in rows
    ]


def release(site: Site, claims: Sequence[Claim]) -> None:
    """Give claims back whose calls were not begun: the attempts do not count, and others may make them now."""
    with site.warehouse.begin() as connection:
        values = {"attempts": deliveries.c.attempts - 1, "next_attempt_at": clock.present(connection)}
        ours = (
            deliveries.c.delivery_id == bindparam("of"),
            deliveries.c.attempts == bindparam("made"),
            deliveries.c.state == "pending",
        )
        given = [{"of": each.row.delivery_id, "made": each.row.attempts} for each in claims]
        connection.execute(update(deliveries).where(*ours).values(**values), given)


def record(site: Site, made: Sequence[Attempt]) -> list[str]:
    """Record what attempts led to, each as `delivered`, `failed` or `dead`.

    An attempt whose claim had run out, and whose notification another process has sent, is not among them.
    """
    results: list[tuple[str, dict[str, Any]]] = []
    by_key = {(each.claim.row.delivery_id, each.claim.row.attempts): each for each in made}
    with site.warehouse.begin() as connection:
        present = clock.present(connection)
        ours = select(deliveries.c.delivery_id, deliveries.c.attempts).where(
            tuple_(deliveries.c.delivery_id, deliveries.c.attempts).in_(list(by_key)), deliveries.c.state == "pending"
        )
        locked = connection.execute(ours.order_by(deliveries.c.sequence).with_for_update()).all()
        for key in locked:
            results.append(_result(site, by_key[key.delivery_id, key.attempts], present))
        if results:
            columns = ("state", "delivered_at", "next_attempt_at", "last_error", "alone")
            change = (
                update(deliveries)
                .where(deliveries.c.delivery_id == bindparam("of"))
                .values({name: bindparam(f"new_{name}") for name in columns})
            )
            connection.execute(change, [values for _, values in results])
        connection.execute(insert(delivery_attempts), [_as_row(each) for each in made])
    return [figure for figure, _ in results]


def _result(site: Site, made: Attempt, present: datetime) -> tuple[str, dict[str, Any]]:
    row, answer = made.claim.row, made.answer
    given_up = row.attempts - row.attempts_before >= site.settings.webhook_attempts
    age = (present - (row.queued_at or row.created_at)).total_seconds()
    values: dict[str, Any] = {
        "of": row.delivery_id,
        "new_state": "pending",
        "new_delivered_at": None,
        "new_next_attempt_at": row.next_attempt_at,
        "new_last_error": answer.error,
        "new_alone": row.alone or (made.digest_id is not None and answer.status in _NO_DIGESTS) or None,
    }
    if answer.error is None:
        return "delivered", {**values, "new_state": "delivered", "new_delivered_at": present}
    if answer.is_final or given_up or age >= site.settings.webhook_give_up_seconds:
        return "dead", {**values, "new_state": "dead"}
    pause = min(MAX_PAUSE, 2.0 ** min(row.attempts - row.attempts_before - 1, 16)) * random.uniform(0.5, 1.0)
    pause = max(pause, min(answer.retry_after or 0, MAX_PAUSE))
    return "failed", {**values, "new_next_attempt_at": present + timedelta(seconds=pause)}


_NO_DIGESTS: Final = frozenset({400, 404, 413, 415, 422})
"""Statuses of receivers that do not understand a digest."""


def _as_row(made: Attempt) -> dict[str, Any]:
    row, answer = made.claim.row, made.answer
    return {
        "delivery_id": row.delivery_id,
        "attempt": row.attempts,
        "started_at": made.started_at,
        "seconds": round(answer.seconds, 6),
        "address": answer.address,
        "status": answer.status,
        "error": answer.error,
        "answer": answer.body,
        "digest_id": made.digest_id,
    }
