"""The ledger of deliveries: what was sent where, with every attempt and its answer; and sending dead ones again."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from meterhouse.errors import UnknownName, UsageError
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import deliveries, delivery_attempts

STATES = ("pending", "delivered", "dead")
"""States of a delivery."""

_AT_ONCE = 500


def listed(
    site: Site,
    *,
    state: str | None = None,
    alarm: str | None = None,
    project_id: str | None = None,
    event_id: str | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Deliveries, newest first, each with `tried`: its attempts in order.

    A delivery has delivery_id, sequence, alarm_id, alarm_name, project_id, event_id, url (without user and password),
    state, attempts, created_at, next_attempt_at (None unless it is pending), delivered_at and last_error. An attempt
    has attempt, started_at, seconds, address, status, error, answer and digest_id. An attempt that is missing was made
    by a process that died, or is being made. All times are UTC.

    Args:
        site: the site.
        state: pending, delivered or dead.
        alarm: name or id of an alarm.
        project_id: only of alarms of this project.
        event_id: only of this transition.
        limit: how many at most.
    """
    wanted = select(deliveries).order_by(deliveries.c.sequence.desc()).limit(limit)
    if state is not None:
        wanted = wanted.where(deliveries.c.state == state)
    if alarm is not None:
        wanted = wanted.where((deliveries.c.alarm_name == alarm) | (deliveries.c.alarm_id == alarm))
    if project_id is not None:
        wanted = wanted.where(deliveries.c.project_id == project_id)
    if event_id is not None:
        wanted = wanted.where(deliveries.c.event_id == event_id)
    names = ("delivery_id", "sequence", "alarm_id", "alarm_name", "project_id", "event_id", "url", "state", "attempts")
    more = ("created_at", "next_attempt_at", "delivered_at", "last_error")
    with site.warehouse.read() as connection:
        rows = connection.execute(wanted).all()
        tried = _attempts(connection, [row.delivery_id for row in rows])
    found = []
    for row in rows:
        made = {name: row._mapping[name] for name in (*names, *more)}
        if row.state != "pending":
            made["next_attempt_at"] = None
        found.append({**made, "tried": tried.get(row.delivery_id, [])})
    return found


def _attempts(connection: Connection, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    table = delivery_attempts
    for start in range(0, len(ids), _AT_ONCE):
        some = select(table).where(table.c.delivery_id.in_(ids[start : start + _AT_ONCE])).order_by(table.c.attempt)
        for row in connection.execute(some):
            attempt = dict(row._mapping)
            found.setdefault(attempt.pop("delivery_id"), []).append(attempt)
    return found


def resend(site: Site, delivery_ids: Sequence[str] = (), *, dead: bool = False) -> int:
    """Let deliveries be sent again, by the next run; return how many.

    Each has the number of attempts and the time of a new one, and the idempotency key that it had: a receiver that has
    taken it already can tell. One that waits is tried at once. They go in the order of their transitions, but after
    what was delivered in the meantime.

    Args:
        site: the site.
        delivery_ids: which ones.
        dead: all dead ones.

    Raises:
        UnknownName: there is no such delivery; nothing is sent.
        UsageError: neither ids nor `dead` is given, or both.
    """
    if bool(delivery_ids) == dead:
        raise UsageError("which deliveries are to be sent again?", hint="Give their ids, or --dead for all dead ones")
    wanted = list(dict.fromkeys(delivery_ids))
    with site.warehouse.begin() as connection:
        present = clock.present(connection)
        values = {
            "state": "pending",
            "next_attempt_at": present,
            "queued_at": present,
            "delivered_at": None,
            "attempts_before": deliveries.c.attempts,
        }
        if dead:
            return connection.execute(update(deliveries).where(deliveries.c.state == "dead").values(**values)).rowcount
        known = set()
        for start in range(0, len(wanted), _AT_ONCE):
            some = deliveries.c.delivery_id.in_(wanted[start : start + _AT_ONCE])
            known |= set(connection.execute(select(deliveries.c.delivery_id).where(some)).scalars())
        for each in wanted:
            if each not in known:
                raise UnknownName("delivery", each, [])
        again = update(deliveries).where(deliveries.c.delivery_id == bindparam("of")).values(**values)
        connection.execute(again, [{"of": each} for each in wanted])
    return len(wanted)


def counted(site: Site) -> dict[str, int]:
    """State → number of deliveries."""
    with site.warehouse.read() as connection:
        query = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
        return {state: int(count) for state, count in connection.execute(query)}
