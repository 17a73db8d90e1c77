"""Records and revokes corrections. One transaction records what is changed and marks the event hours that it changes.

So a process that is killed has either done all of it or nothing. The hours are recomputed like those of late points.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
from sqlalchemy import func, insert, select, update

from meterhouse import times
from meterhouse.catalog import TABLE, mark_dirty
from meterhouse.corrections.applying import touched
from meterhouse.corrections.recorded import Action, Correction, active, find
from meterhouse.errors import UnknownName, UsageError
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, quoted
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.warehouse_tables import corrections, series

WAIT_SECONDS = 60.0
"""How long to wait for a catalog run."""

LONGEST_TEXT = 4_096
"""Maximum length of a reason, and of an author's name, in characters."""

_HOURS = "SELECT date_trunc('hour', timestamp) AS hour, count(*) FROM ({query}) GROUP BY hour ORDER BY hour"


@dataclass(frozen=True)
class Reach:
    """What a correction changes.

    Attributes:
        correction: it; one that is not recorded has the id that it would get.
        points: how many rows of samples, copies included.
        hours: their event hours, in order.
    """

    correction: Correction
    points: int
    hours: tuple[datetime, ...]


def propose(
    site: Site,
    action: Action,
    meter: str,
    start: datetime,
    end: datetime,
    *,
    condition: str = "",
    volume: float | None = None,
    factor: float | None = None,
) -> Reach:
    """What a correction would change; nothing is recorded.

    Raises:
        UsageError: the span is empty, the condition cannot be parsed, the new volume is missing or not finite, or the
            meter has only derived points there.
        UnknownName: no series has this meter.
    """
    if start >= end:
        raise UsageError("the span is empty", where="--from/--to", hint="Set --to to a time after --from")
    given = [number for number in (volume, factor) if number is not None]
    if len(given) != (action == "replace"):
        raise UsageError(
            f"a correction that {'replaces volumes' if action == 'replace' else f'is to {action} points'} takes "
            f"{'one of a volume and a factor' if action == 'replace' else 'neither a volume nor a factor'}"
        )
    if not all(map(math.isfinite, given)):
        raise UsageError("the new volume is not a finite number", hint="To take points out, delete them")
    with site.warehouse.read() as connection:
        newest = connection.execute(select(func.max(corrections.c.correction_id))).scalar() or 0
        known = set(connection.execute(select(series.c.meter).distinct()).scalars())
    if meter not in known:
        raise UnknownName("meter", meter, sorted(known))
    one = Correction(newest + 1, action, meter, start, end, condition, volume, factor)
    points, hours = reach(site, one)
    if not points and _is_derived(site, meter):
        raise UsageError(
            f"{meter} is a derived meter", where=meter, hint="Correct the points of the meters that it is made of"
        )
    return Reach(one, points, hours)


def record(site: Site, proposed: Correction, *, reason: str, author: str) -> Reach:
    """Record a correction; its event hours become dirty.

    Args:
        site: the site.
        proposed: from `propose`.
        reason: why.
        author: who.

    Raises:
        UsageError: there is no reason or author, or it is too long.
        AlreadyRunning: the catalog is still being written after WAIT_SECONDS.
    """
    _check_texts(reason=reason, author=author)
    with site.warehouse.lease("catalog", wait_seconds=WAIT_SECONDS) as lease:
        # Samples that the catalog has not followed are marked by it later, and those before are counted here.
        with site.warehouse.read() as connection:
            newest = connection.execute(select(func.max(corrections.c.correction_id))).scalar() or 0
        one = replace(proposed, correction_id=newest + 1, reason=reason, author=author, recorded_at=times.now())
        points, hours = reach(site, one)
        one = replace(one, points=points)
        with lease.begin() as connection:
            connection.execute(insert(corrections).values(**vars_of(one)))
            mark_dirty(connection, list(hours), f"correction {one.correction_id}")
    return Reach(one, points, hours)


def revoke(site: Site, correction_id: int, *, reason: str, author: str) -> Reach:
    """Revoke a correction: its points count again as those before and after it leave them.

    Raises:
        UsageError: it is revoked already, or there is no reason or author.
        UnknownName: there is no such correction.
        AlreadyRunning: the catalog is still being written after WAIT_SECONDS.
    """
    _check_texts(reason=reason, author=author)
    with site.warehouse.lease("catalog", wait_seconds=WAIT_SECONDS) as lease:
        one = find(site, correction_id)
        if not one.is_active:
            raise UsageError(f"correction {correction_id} is revoked already, by {one.revoked_by}")
        points, hours = reach(site, one)
        revoked = replace(one, revoked_at=times.now(), revoked_by=author, revoked_reason=reason)
        gone = {name: getattr(revoked, name) for name in ("revoked_at", "revoked_by", "revoked_reason")}
        with lease.begin() as connection:
            connection.execute(update(corrections).where(corrections.c.correction_id == correction_id).values(**gone))
            mark_dirty(connection, list(hours), f"correction {correction_id} was revoked")
    return Reach(revoked, points, hours)


def vars_of(one: Correction) -> dict[str, object]:
    """The columns of a correction, by name."""
    return {column.name: getattr(one, column.name) for column in corrections.columns}


@retried
def reach(site: Site, one: Correction) -> tuple[int, tuple[datetime, ...]]:
    """How many rows of samples a correction changes, as the active ones before it leave them, and their hours."""
    with site.lake.connect() as duck:
        query = _touched(site, duck, one)
        found = duck.execute(_HOURS.format(query=query)).fetchall()
    return sum(count for _, count in found), tuple(hour for hour, _ in found)


@retried
def changed_points(site: Site, one: Correction, limit: int) -> pa.Table:
    """The rows of samples that a correction changes, by time: as they are without it, and what they become.

    The columns are those of `samples`, and `becomes`, the volume afterwards; null of deleted points.
    """
    with site.lake.connect() as duck:
        query = _touched(site, duck, one)
        return duck.sql(
            "SELECT timestamp, volume, becomes, unit, resource_id, project_id, user_id, type, source, recorded_at "
            f"FROM ({query}) ORDER BY timestamp, resource_id, volume, recorded_at LIMIT {int(limit)}"
        ).to_arrow_table()


def _touched(site: Site, duck: Connection, one: Correction) -> str:
    span = (one.start_at, one.end_at)
    before = [each for each in active(site, [span]) if each.correction_id < one.correction_id]
    site.lake.view(duck, TABLE, site.lake.files(TABLE, overlapping=("timestamp", [span])))
    return touched(duck, f"(SELECT * FROM {TABLE} WHERE meter = {quoted(one.meter)})", before, one)


def _is_derived(site: Site, meter: str) -> bool:
    files = site.lake.files("derived")
    if not files:
        return False
    with site.lake.connect() as duck:
        site.lake.view(duck, "derived", files)
        return duck.execute(f"SELECT 1 FROM derived WHERE meter = {quoted(meter)} LIMIT 1").fetchone() is not None


def _check_texts(**given: str) -> None:
    for name, text in given.items():
        if not text.strip():
            raise UsageError(f"a correction needs its {name}", where=f"--{name}")
        if len(text) > LONGEST_TEXT:
            raise UsageError(f"the {name} has {len(text):,} characters", hint=f"At most {LONGEST_TEXT:,}")
