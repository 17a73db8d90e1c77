"""The catalog: writes the series and resources of new samples to the warehouse, and marks their event hours dirty.

Every sample registers its series, its resource and its hour: otherwise nobody could list the bad ones. What a resource
is, and when it was seen, comes from good points only: the roll-up writes it, see `meterhouse/rollups/seen.py`.

In the same transaction, the warehouse records up to which commit it has followed the lake's `samples`. If commits that
it has not followed are no longer there (sealed and vacuumed, or cleaned up), it takes the files in their place.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, and_, delete, func, or_, select, text, update

from meterhouse import arrivals, computed, history, known_series, lateness, sql_files, times
from meterhouse.errors import Replaced
from meterhouse.history import Position
from meterhouse.site import Site
from meterhouse.stores.bulk import upsert
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake_commits import Commit
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import dirty_hours, followed, hourly, quality_daily, resources, series

TABLE = FOLLOWER = "samples"
"""The lake's table, and the warehouse's name of what follows it."""

READER = "the warehouse"

POINTS_AT_ONCE = 2_000_000
"""Files are taken together up to about this many points."""

REPLACEMENTS_AT_ONCE = 24
"""Maximum number of replacements whose files are summed up together."""

HOURS_AT_ONCE = 500
"""Event hours that one query of the warehouse lists; databases bound the parameters of a query."""


@dataclass
class Catalogued:
    """What a catalog run did. `late` counts points of hours that were already rolled up."""

    samples: int = 0
    series: int = 0
    resources: int = 0
    hours: int = 0
    late: int = 0
    seconds: float = 0.0

    def add(self, other: "Catalogued") -> None:
        """Add the counts of another run."""
        self.samples += other.samples
        self.series += other.series
        self.resources += other.resources
        self.hours += other.hours
        self.late += other.late
        self.seconds += other.seconds


def catalog(site: Site, *, wait_seconds: float = 0.0, record: bool = True) -> Catalogued:
    """Add the samples that came since the last run to the catalog.

    Args:
        site: the site.
        wait_seconds: how long to wait for another process that is running this step.
        record: whether to record the run in the warehouse. If false, the caller does.

    Raises:
        AlreadyRunning: another process is still running this step after `wait_seconds`.
        WentBack: the lake's samples are older than what was followed, or others; nothing was done.
        Damaged: a file cannot be read.
    """
    started = times.now()
    with site.warehouse.lease("catalog", wait_seconds=wait_seconds) as lease:
        done = catalog_under(site, lease)
        if done.samples and record:
            site.warehouse.record_run("catalog", started, vars(done))
    return done


def catalog_under(site: Site, lease: Lease) -> Catalogued:
    """See `catalog`; the caller holds the lease."""
    done, clock = Catalogued(), time.monotonic()
    reached = history.check(site, FOLLOWER, TABLE, READER)
    if not site.lake.compared:  # a store is not restored while a process uses it
        computed.reconcile_if_idle(site)
        site.lake.compared = True
    while (found := _follow(site, reached, done, lease)) is not None:
        reached = found
    done.seconds = time.monotonic() - clock
    return done


def commits_behind(site: Site) -> int:
    """How many commits of samples are not in the catalog yet."""
    return max(site.lake.version(TABLE) - history.followed_position(site, FOLLOWER).version, 0)


def start_over(site: Site, lease: Lease, why: str) -> Catalogued:
    """Take all samples that the lake has, mark all hours dirty, and forget series and resources without samples.

    `lease` is that of the step `catalog`.
    """
    done = Catalogued()
    _take_files(site, None, done, lease, why)
    return done


def _follow(site: Site, reached: Position, done: Catalogued, lease: Lease) -> Position | None:
    """Follow a bounded number of commits; return the new position, or None if there are none."""
    lake = site.lake
    try:
        fresh = lake.appended_files(TABLE, reached.version, max_rows=POINTS_AT_ONCE)
        if fresh is None:
            return None
        for start in range(0, len(fresh.replaced), REPLACEMENTS_AT_ONCE):
            _follow_replacements(site, fresh.replaced[start : start + REPLACEMENTS_AT_ONCE], done, lease)
        came = _summed(site, fresh.files)
    except Replaced:
        return _take_files(site, reached, done, lease, "files that hold new points")
    now_at = history.position(lake, TABLE, fresh.version)
    _add_samples(site, came, done, lease, now_at, "new points")
    done.samples += fresh.rows
    return now_at


def _summed(site: Site, files: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The samples of files (with their `path`), summed up; see `arrivals.runs`."""
    return arrivals.runs(site.lake, [file["path"] for file in files], site.settings.lateness_seconds)


def _follow_replacements(site: Site, commits: Sequence[Commit], done: Catalogued, lease: Lease) -> None:
    """Add the series and resources of samples in the place of others, and mark the event hours that changed.

    These samples did not come now, so they do not count as late. Those that are no longer there have left their hours.

    Raises:
        Replaced: a file was replaced and deleted since.
    """
    hours = {hour for commit in commits for hour in commit.hours or ()}
    samples = _summed(site, [file for commit in commits for file in commit.added])
    with lease.begin() as connection:
        lock_catalog(connection)
        _add_series(connection, site, samples)
        mark_dirty(connection, sorted(hours), "samples were converted again")
    done.series += len(pc.unique(samples["series_id"]))
    done.resources += _resources(samples)
    done.hours += len(hours)


@retried
def _take_files(site: Site, reached: Position | None, done: Catalogued, lease: Lease, why: str) -> Position:
    """Take the live files that hold anything newer than a position, or all files, in bounded pieces.

    Without a position, the hours that have no samples any more are marked too, and what is in the catalog without
    samples is deleted from it.
    """
    lake = site.lake
    now_at = history.position(lake, TABLE, lake.version(TABLE))
    files = lake.actions(TABLE, now_at.version).select(["path", "num_records"]).to_pylist()
    before = None if reached is None else lake.known_files(TABLE, reached.version)
    known = set() if before is None else set(before["path"].to_pylist())
    sources, resource_ids = set[int](), set[tuple[str, str]]()
    with lease.begin() as connection:
        if before is None:
            mark_dirty(connection, _all_hours(connection), why)
        else:
            _mark_hours_of(connection, before, {file["path"] for file in files}, why)
    for piece in _pieces([file for file in files if file["path"] not in known]):
        came = _summed(site, piece)
        _add_samples(site, came, done, lease, None, why)
        if reached is None:
            sources |= set(pc.unique(came["series_id"]).to_pylist())
            found = came.select(["source", "resource_id"]).group_by(["source", "resource_id"]).aggregate([])
            rows = (tuple(row.values()) for row in found.to_pylist())
            resource_ids |= {(source, resource_id) for source, resource_id in rows if resource_id is not None}
        done.samples += sum(int(file["num_records"]) for file in piece)
    with lease.begin() as connection:
        if reached is None:
            _forget_others(connection, sources, resource_ids)
        history.record_position(connection, FOLLOWER, now_at)
    return now_at


def _mark_hours_of(connection: Connection, before: pa.Table, live: set[str], why: str) -> None:
    """Mark the known hours of files (rows of `Lake.actions`) that are no longer live: their rows may have changed."""
    if "min.timestamp" not in before.column_names:
        return
    for file in before.select(["path", "min.timestamp", "max.timestamp"]).to_pylist():
        first, last = file["min.timestamp"], file["max.timestamp"]
        if file["path"] in live or first is None or last is None:
            continue
        within = and_(dirty_hours.c.hour >= times.hour_of(first), dirty_hours.c.hour <= last)
        change = {"marks": dirty_hours.c.marks + 1, "marked_at": times.now(), "why": why}
        connection.execute(update(dirty_hours).where(within).values(**change))


def _pieces(files: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The files in pieces of about POINTS_AT_ONCE rows."""
    piece: list[dict[str, Any]] = []
    rows = 0
    for file in files:
        if piece and rows + int(file["num_records"]) > POINTS_AT_ONCE:
            yield piece
            piece, rows = [], 0
        piece.append(file)
        rows += int(file["num_records"])
    if piece:
        yield piece


def _all_hours(connection: Connection) -> list[datetime]:
    """All event hours that the warehouse knows anything of."""
    found = set(connection.execute(select(dirty_hours.c.hour)).scalars())
    found |= set(connection.execute(select(hourly.c.bucket).distinct()).scalars())
    found |= set(connection.execute(select(quality_daily.c.hour).distinct()).scalars())
    return sorted(found)


def _forget_others(connection: Connection, series_ids: set[int], resource_ids: set[tuple[str, str]]) -> None:
    """Delete the series and resources that are not among these."""
    for known in list(connection.execute(select(series.c.series_id)).scalars()):
        if known not in series_ids:
            connection.execute(delete(series).where(series.c.series_id == known))
    for source, resource_id in connection.execute(select(resources.c.source, resources.c.resource_id)).all():
        if (source, resource_id) not in resource_ids:
            connection.execute(
                delete(resources).where(resources.c.source == source, resources.c.resource_id == resource_id)
            )


def _add_samples(
    site: Site, samples: pa.Table, done: Catalogued, lease: Lease, reached: Position | None, why: str
) -> None:
    """Add samples to the catalog, as `arrivals.runs` sums them up, and record the position with them.

    Without a position, series and resources are written whether the catalog seems to know them or not.
    """
    with site.lake.connect() as duck:
        duck.register("runs", samples)
        hours = duck.execute(sql_files.read("lake/catalog_hours.sql")).fetchall()
        came = arrow(duck, sql_files.read("lake/catalog_lateness.sql")) if reached is not None else None
    with lease.begin() as connection:
        lock_catalog(connection)
        _add_series(connection, site, samples if reached is None else known_series.unknown(connection, samples))
        if came is not None:  # samples that were counted before are taken again with their files
            done.late += _count_late(connection, hours)
            lateness.add(connection, came)
        mark_dirty(connection, [row[0] for row in hours], why)
        if reached is not None:
            history.record_position(connection, FOLLOWER, reached)
    done.series += len(pc.unique(samples["series_id"]))
    done.resources += _resources(samples)
    done.hours += len(hours)


def _resources(samples: pa.Table) -> int:
    """Of how many resources samples are."""
    found = samples.select(["source", "resource_id"]).filter(samples["resource_id"].is_valid())
    return len(found.group_by(["source", "resource_id"]).aggregate([]))


def _add_series(connection: Connection, site: Site, samples: pa.Table) -> None:
    """Add the series and resources of samples, as `arrivals.runs` sums them up. The catalog has to be locked."""
    if not samples.num_rows:
        return
    with site.lake.connect() as duck:
        duck.register("runs", samples)
        new_series = arrow(duck, sql_files.read("lake/catalog_series.sql"))
        new_resources = arrow(duck, sql_files.read("lake/catalog_resources.sql"))
    upsert(
        connection,
        series,
        new_series,
        [
            "first_point_at = CASE WHEN excluded.first_point_at < series.first_point_at"
            " THEN excluded.first_point_at ELSE series.first_point_at END",
            "last_point_at = CASE WHEN excluded.last_point_at > series.last_point_at"
            " THEN excluded.last_point_at ELSE series.last_point_at END",
        ],
    )
    upsert(connection, resources, new_resources)


def lock_catalog(connection: Connection) -> None:
    """Let no other transaction write series and resources: two that write many of them could wait for each other.

    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE series IN SHARE ROW EXCLUSIVE MODE"))


def mark_dirty(connection: Connection, hours: list[datetime], why: str) -> None:
    """Mark event hours dirty, so that they are judged and rolled up again."""
    if not hours:
        return
    marked_at = times.now()
    rows = pa.table(
        {
            "hour": pa.array(hours, pa.timestamp("us", tz="UTC")),
            "marks": pa.array([1] * len(hours), pa.int64()),
            "marked_at": pa.array([marked_at] * len(hours), pa.timestamp("us", tz="UTC")),
            "why": [why] * len(hours),
        }
    )
    upsert(
        connection,
        dirty_hours,
        rows,
        ["marks = dirty_hours.marks + 1", "marked_at = excluded.marked_at", "why = excluded.why"],
    )


def hours_of_meters(connection: Connection, wanted: Callable[[str], bool]) -> tuple[datetime, datetime] | None:
    """From which event hour to which one meters may have points; None if no series is of such a meter.

    Args:
        connection: the warehouse.
        wanted: whether a meter is one of them, by its name.
    """
    first, last = func.min(series.c.first_point_at), func.max(series.c.last_point_at)
    by_meter = connection.execute(select(series.c.meter, first, last).group_by(series.c.meter)).all()
    spans = [(first, last) for meter, first, last in by_meter if wanted(meter)]
    if not spans:
        return None
    return times.hour_of(min(first for first, _ in spans)), times.hour_of(max(last for _, last in spans))


def hours_with_points(site: Site, start: datetime, end: datetime) -> set[datetime]:
    """The event hours with points that overlap the half-open span [start, end)."""
    within = and_(dirty_hours.c.hour >= times.hour_of(start), dirty_hours.c.hour < end)
    with site.warehouse.read() as connection:
        return set(connection.execute(select(dirty_hours.c.hour).where(within)).scalars())


def mark_for_recompute(site: Site, step: Literal["sample_quality", "rollups"], hours: set[datetime], why: str) -> int:
    """Make event hours dirty although nothing new came.

    With `rollups` they are only rolled up again; with `sample_quality` they are judged and rolled up again.

    Returns:
        How many of the hours have points. The others are skipped.
    """
    found = 0
    marks = dirty_hours.c.marks
    change: dict[str, Any] = (
        {"rolled_marks": 0} if step == "rollups" else {"marks": marks + 1, "marked_at": times.now()}
    )
    with site.warehouse.begin() as connection:
        for start, end in times.spans(list(hours)):
            within = and_(dirty_hours.c.hour >= start, dirty_hours.c.hour < end)
            found += connection.execute(update(dirty_hours).where(within).values(why=why, **change)).rowcount
    return found


def _count_late(connection: Connection, hours: list[tuple[datetime, int, int]]) -> int:
    """Count the late points of hours that were rolled up after they had ended, and add the count to the hour."""
    belated = {hour: count for hour, _, count in hours if count}
    if not belated:
        return 0
    late = 0
    hour_of_row = dirty_hours.c.hour
    listed = sorted(belated)
    for place in range(0, len(listed), HOURS_AT_ONCE):
        some = listed[place : place + HOURS_AT_ONCE]
        rolled = select(hour_of_row, dirty_hours.c.rolled_at).where(
            hour_of_row.in_(some), dirty_hours.c.rolled_at.is_not(None)
        )
        for hour, rolled_at in connection.execute(rolled).all():
            if rolled_at >= hour + times.HOUR:
                late += belated[hour]
                connection.execute(
                    update(dirty_hours).where(hour_of_row == hour).values(late=dirty_hours.c.late + belated[hour])
                )
    return late


def points_by_hour(site: Site, start: datetime, end: datetime) -> dict[datetime, int]:
    """The number of good points of the rolled-up hours of a half-open span, by hour, oldest first."""
    query = (
        select(dirty_hours.c.hour, dirty_hours.c.good_points)
        .where(dirty_hours.c.hour >= start, dirty_hours.c.hour < end, dirty_hours.c.good_points.is_not(None))
        .order_by(dirty_hours.c.hour)
    )
    with site.warehouse.read() as connection:
        return {row.hour: row.good_points for row in connection.execute(query)}


@dataclass(frozen=True)
class Hour:
    """An event hour's bookkeeping at one moment."""

    hour: datetime
    marks: int
    judged_marks: int
    rolled_marks: int

    @property
    def unjudged(self) -> bool:
        """Whether the hour is dirty since it was last judged."""
        return self.marks > self.judged_marks

    @property
    def unrolled(self) -> bool:
        """Whether the hour is dirty since it was last rolled up."""
        return self.marks > self.rolled_marks


@dataclass(frozen=True)
class Snapshot:
    """The dirty event hours at one moment, and the version of `samples` up to which their marks count."""

    version: int
    hours: dict[datetime, Hour]


def snapshot_to_compute(site: Site) -> Snapshot:
    """As `snapshot`, with a version that the lake can still read: the rows are the same, in the newest files.

    Raises:
        WentBack: the lake's samples are older than what was followed, or others.
    """
    reached = history.check(site, FOLLOWER, TABLE, READER)
    seen = snapshot(site)
    return Snapshot(site.lake.same_rows(TABLE, max(seen.version, reached.version)), seen.hours)


def snapshot(site: Site) -> Snapshot:
    """The hours that are dirty now. Every sample up to the version has marked its hour."""
    with site.warehouse.read() as connection:
        version = connection.execute(select(followed.c.version).where(followed.c.follower == FOLLOWER)).scalar()
        rows = connection.execute(
            select(
                dirty_hours.c.hour,
                dirty_hours.c.marks,
                dirty_hours.c.judged_marks,
                dirty_hours.c.rolled_marks,
            )
            .where(
                or_(
                    dirty_hours.c.marks > dirty_hours.c.judged_marks,
                    dirty_hours.c.marks > dirty_hours.c.rolled_marks,
                )
            )
            .order_by(dirty_hours.c.hour)
        ).all()
    return Snapshot(int(version or 0), {row.hour: Hour(*row) for row in rows})
