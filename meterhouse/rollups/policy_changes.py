"""Hours that were rolled up by other archive policies than those of now: the next roll-ups recompute them.

Each hour keeps the fingerprint of the policies by which it was rolled up, and the warehouse what each fingerprint
meant. An hour is out of date only if the meaning has changed for a meter that may have points in it: so neither another
name or comment, nor a new release whose policies mean the same, recomputes anything. Nor does an hour of a release that
kept no fingerprint.
"""

from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from meterhouse import times
from meterhouse.definitions.archive_policies import Policies, meanings
from meterhouse.site import Site
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import dirty_hours, policy_meanings, series

HOURS_AT_ONCE = 31 * 24
"""Maximum number of hours that become dirty at once, so that a change does not block a site of many years."""

WHY = "the archive policies changed"


def recorded(connection: Connection, policies: Policies) -> str:
    """The fingerprint of these policies, to be kept with hours; what it means is kept in the same transaction."""
    fingerprint = policies.fingerprint
    known = select(policy_meanings.c.fingerprint).where(policy_meanings.c.fingerprint == fingerprint)
    if connection.execute(known).first() is None:
        connection.execute(insert(policy_meanings).values(fingerprint=fingerprint, meaning=policies.meaning))
    return fingerprint


def outdated(site: Site) -> int:
    """How many hours were rolled up by other policies than those of now; some of them may mean the same.

    It is 0 while a policy or rule cannot work: the file is about to change again.
    """
    if site.policies.faults:
        return 0
    of_others = dirty_hours.c.policies != site.policies.fingerprint
    with site.warehouse.read() as connection:
        return int(connection.execute(select(func.count()).where(of_others)).scalar() or 0)


def mark_outdated(site: Site, lease: Lease) -> int:
    """Make hours dirty that were rolled up by policies which mean something else; the newest first, not all at once.

    Args:
        site: the site.
        lease: that of the step `rollups`.

    Returns:
        How many hours became dirty.
    """
    policies = site.policies
    with lease.begin() as connection:
        of_others = dirty_hours.c.policies != policies.fingerprint
        is_dirty = dirty_hours.c.rolled_marks < dirty_hours.c.marks
        waiting = int(
            connection.execute(select(func.count()).select_from(dirty_hours).where(of_others, is_dirty)).scalar() or 0
        )
        before = waiting
        for fingerprint in (
            connection.execute(select(dirty_hours.c.policies).where(of_others).distinct()).scalars().all()
        ):
            waiting += _mark(connection, policies, fingerprint, max(HOURS_AT_ONCE - waiting, 0))
    return waiting - before


def _mark(connection: Connection, policies: Policies, fingerprint: str, limit: int) -> int:
    """Mark up to `limit` hours of a fingerprint. Those that the change does not concern get the one of now."""
    of_it = dirty_hours.c.policies == fingerprint
    span = _concerned(connection, policies, fingerprint)
    others = update(dirty_hours).where(of_it)
    if span is not None:
        others = others.where((dirty_hours.c.hour < span[0]) | (dirty_hours.c.hour > span[1]))
    connection.execute(others.values(policies=recorded(connection, policies)))
    if span is None or not limit:
        return 0
    is_rolled = dirty_hours.c.rolled_marks >= dirty_hours.c.marks
    hours = select(dirty_hours.c.hour).where(of_it, is_rolled).order_by(dirty_hours.c.hour.desc()).limit(limit)
    newest = dirty_hours.c.hour.in_(list(connection.execute(hours).scalars()))
    return connection.execute(update(dirty_hours).where(newest).values(rolled_marks=0, why=WHY)).rowcount


def _concerned(connection: Connection, policies: Policies, fingerprint: str) -> tuple[datetime, datetime] | None:
    """From which hour to which one there may be points of meters for which the meaning changed; None if of none."""
    kept = select(policy_meanings.c.meaning).where(policy_meanings.c.fingerprint == fingerprint)
    meaning = connection.execute(kept).scalar()
    meant = meanings(meaning) if meaning is not None else None
    spans = connection.execute(
        select(series.c.meter, func.min(series.c.first_point_at), func.max(series.c.last_point_at)).group_by(
            series.c.meter
        )
    ).all()
    changed = [
        (first, last) for meter, first, last in spans if meant is None or meant(meter) != policies.of(meter).meaning
    ]
    if not changed:
        return None
    return times.hour_of(min(first for first, _ in changed)), times.hour_of(max(last for _, last in changed))
