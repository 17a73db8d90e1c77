"""Reads the evidence of whole months again from landed notifications, by the resources.yaml of now.

One commit replaces a month's rows, so a run that is killed leaves the old ones or the new ones. Evidence whose
notifications are no longer landed stays: nothing can replace it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.definitions.resources import Resources
from meterhouse.definitions.resources import load as load_resources
from meterhouse.definitions.units import Units
from meterhouse.definitions.units import load as load_units
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake import REPLACE
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_tables import EVIDENCE, TIME
from meterhouse.stores.leases import Lease
from meterhouse.usage import evidence, made_by
from meterhouse.usage.evidence import AHEAD, Extractor, Read
from meterhouse.usage.periods import STEP, Computed, compute_under

ROWS_AT_ONCE: Final = 200_000
"""About how many rows of evidence are written as one file."""


@dataclass
class Reread:
    """What was done.

    Attributes:
        months: how many months were read again.
        notifications: how many notifications were looked at.
        evidence: how many rows of evidence there are now.
        kept: how many of these are old ones whose notifications are no longer landed.
        unreadable: how many messages cannot be read.
        seconds: how long it took.
        computed: what was computed of it.
    """

    months: int = 0
    notifications: int = 0
    evidence: int = 0
    kept: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    computed: Computed = field(default_factory=Computed)


def reread(
    site: Site,
    months: Sequence[date],
    *,
    left: Sequence[date] | None = None,
    reached: Callable[[date], None] = lambda month: None,
    wait_seconds: float = 0.0,
    progress: Progress = no_progress,
) -> Reread:
    """Read the evidence of months again, and compute the periods of these and all later months.

    Args:
        site: the site.
        months: first days of months.
        left: those of them that are still to be read; default all. If a run was killed, a second one has fewer.
        reached: called with each month that was read.
        wait_seconds: how long to wait for another process that is running the step `periods`.
        progress: gets the months that are read, and how many there are.

    Raises:
        AlreadyRunning: another process is still running the step after `wait_seconds`.
        DefinitionError: resources.yaml or units.yaml cannot be read; nothing was done.
        WentBack: a table of the lake is older than what was read of it, or another one.
        Damaged: a file of the lake cannot be read.
    """
    done, clock = Reread(), time.monotonic()
    resources, units = load_resources(site.settings.config_dir), load_units(site.settings.config_dir)
    with site.warehouse.lease(STEP, wait_seconds=wait_seconds) as lease:
        site.lake.fence(lease, evidence.TABLE, "resource_states")
        evidence.follow(site, lease, resources, units)
        wanted = months if left is None else left
        for number, month in enumerate(wanted):
            progress(number, len(wanted))
            _month(site, lease, resources, units, month, done)
            reached(month)
        done.computed = compute_under(site, lease, months)
        with lease.begin() as connection:
            made_by.replace(connection, made_by.meaning_of(resources, units, site.settings), months)
        progress(len(wanted), len(wanted))
    done.seconds = round(time.monotonic() - clock, 3)
    return done


def start_over(site: Site, lease: Lease, done: Reread) -> None:
    """Read the evidence of all landed notifications again, whatever was read before. `lease` is that of the step.

    Raises:
        DefinitionError: resources.yaml or units.yaml cannot be read; nothing was done.
        Damaged: a file of the lake cannot be read.
    """
    lake = site.lake
    resources, units = load_resources(site.settings.config_dir), load_units(site.settings.config_dir)
    after, old = lake.swaps(evidence.TABLE), lake.actions(evidence.TABLE)
    version = lake.version("notifications")
    landed = list(lake.actions("notifications", version)["path"].to_pylist())
    _replace(site, lease, resources, units, landed, None, old, after, done)
    evidence.record_position(site, lease, version)
    months = set(lake.actions(evidence.TABLE)["partition.event_day"].to_pylist())
    with lease.begin() as connection:
        made_by.replace(connection, made_by.meaning_of(resources, units, site.settings), months)
    done.months += len(months)


def _month(site: Site, lease: Lease, resources: Resources, units: Units, month: date, done: Reread) -> None:
    lake = site.lake
    after, old = lake.swaps(evidence.TABLE), lake.matching(evidence.TABLE, partitions={"event_day": [month]})
    # What came later is read by the next run, which follows from this version.
    actions = lake.actions("notifications", lake.transaction(evidence.TABLE, evidence.APP) or 0)
    _replace(site, lease, resources, units, _files(actions, _span(month)), month, old, after, done)
    done.months += 1


def _replace(
    site: Site,
    lease: Lease,
    resources: Resources,
    units: Units,
    landed: Sequence[str],
    month: date | None,
    old: pa.Table,
    after: int,
    done: Reread,
) -> None:
    """Replace files of evidence by the evidence of landed files: that of a month, or all."""
    lake = site.lake
    extract = Extractor(resources, units, site.settings.sample_source, versioned=site.settings.nova_versioned)
    read, files = Read(), list[DataFile]()
    for rows in _gathered(_found(site, extract, landed, month, read)):
        files += lake.write_files(evidence.TABLE, rows)
        done.evidence += rows.num_rows
    kept = _not_landed(site, old["path"].to_pylist(), landed)
    if kept.num_rows:
        files += lake.write_files(evidence.TABLE, kept)
    if files or old.num_rows:
        note = {REPLACE: "resources"}
        lake.swap(evidence.TABLE, old, files, note, same_rows=False, after=after, lease=lease)
    done.notifications += read.notifications
    done.unreadable += read.errors
    done.evidence += kept.num_rows
    done.kept += kept.num_rows


AGAIN: Final = timedelta(days=40)
"""A creation or deletion may be sent again this long after it: Cinder's audit of a month sends those of the month."""


def _span(month: date) -> tuple[datetime, datetime]:
    return times.day_start(month), times.day_start((month.replace(day=28) + 4 * times.DAY).replace(day=1))


def _files(actions: pa.Table, span: tuple[datetime, datetime]) -> list[str]:
    """The paths of the files that may have notifications of a span: by their own time, or by that of arrival."""
    start, end = span
    names = ("min.timestamp", "max.timestamp", "null_count.timestamp", "min.received_at", "max.received_at")
    if not all(name in actions.column_names for name in names):
        return list(actions["path"].to_pylist())

    def below(one: str, other: Any) -> pa.Array:
        return pc.fill_null(pc.less(actions[one], other), True)

    ahead = pa.scalar(times.HOUR, pa.duration("us"))
    of_own = pc.and_(
        below("min.timestamp", end + AGAIN), pc.fill_null(pc.greater_equal(actions["max.timestamp"], start), True)
    )
    unsent = pc.and_(
        pc.fill_null(pc.greater(actions["null_count.timestamp"], 0), True),
        pc.fill_null(pc.greater_equal(pc.add(actions["max.received_at"], ahead), start), True),
    )
    of_arrival = pc.and_(
        below("min.received_at", end), pc.fill_null(pc.greater_equal(actions["max.received_at"], start), True)
    )
    return list(actions.filter(pc.or_(pc.or_(of_own, unsent), of_arrival))["path"].to_pylist())


def _found(site: Site, extract: Extractor, paths: Sequence[str], month: date | None, read: Read) -> Iterator[pa.Table]:
    """The evidence of files of notifications, or what of it is of a month, in pieces."""
    for path in paths:
        for rows in site.lake.pieces_of("notifications", path, evidence.NOTIFICATIONS_AT_ONCE):
            some = rows if month is None else rows.filter(_may_be_of(rows, _span(month)))
            read.notifications += some.num_rows
            found = extract.rows(some, read)
            if month is not None:
                found = found.filter(pc.equal(found["event_day"], pa.scalar(month)))
            if found.num_rows:
                yield found


def _may_be_of(rows: pa.Table, span: tuple[datetime, datetime]) -> pa.Array:
    """Which notifications may be about a span: by their own time, if they have one that is not ahead of its arrival."""
    start, end = (pa.scalar(moment, TIME) for moment in span)
    own, came = rows["timestamp"], rows["received_at"]
    within = pc.and_(pc.greater_equal(own, start), pc.less(own, pa.scalar(span[1] + AGAIN, TIME)))
    arrived = pc.and_(pc.greater_equal(came, start), pc.less(came, end))
    wrong = pc.and_(arrived, pc.greater(own, pc.add(came, pa.scalar(AHEAD, pa.duration("us")))))
    return pc.or_(pc.or_(pc.fill_null(within, False), pc.fill_null(wrong, False)), pc.is_null(own))


def _gathered(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The pieces, several joined to about ROWS_AT_ONCE rows."""
    waiting: list[pa.Table] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(each.num_rows for each in waiting) >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _not_landed(site: Site, old: Sequence[str], landed: Sequence[str]) -> pa.Table:
    """The rows of files of evidence whose notifications are in none of the landed files."""
    if not old:
        return EVIDENCE.empty_table()
    lake = site.lake
    with lake.connect() as duck:
        lake.view(duck, evidence.TABLE, [f"{lake.uri(evidence.TABLE)}/{path}" for path in old])
        lake.view(duck, "notifications", [f"{lake.uri('notifications')}/{path}" for path in landed])
        query = f"SELECT * FROM {evidence.TABLE} ANTI JOIN notifications USING (message_id)"
        return arrow(duck, query).select(EVIDENCE.names).cast(EVIDENCE)
