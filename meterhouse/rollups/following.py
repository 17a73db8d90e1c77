"""The warehouse follows the lake: hourly and daily roll-ups, and what they say of series and resources.

Commits of the lake's `rollups` say which hours they replaced. The rows of these hours and of their days are read from
the lake's newest files and replace those of the warehouse: a partition (an hour of `rollup_1h`, a day of `rollup_1d`
with the times of its series and resources) in one transaction, so that no reader sees half of it. Small partitions
share a transaction. The position is recorded last. A run that is killed is repeated, which changes nothing.

If commits are no longer in the log, the files that came since are taken. If the table is not the one that was followed,
or nothing was, all files are taken, and what the lake does not have is deleted.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Table, bindparam, delete, func, select

from meterhouse import history, times
from meterhouse.errors import MeterhouseError, Replaced
from meterhouse.history import Position
from meterhouse.progress import Progress, no_progress
from meterhouse.rollups.seen import note_series, record_seen
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_commits import Commit
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_tables import ROLLUPS
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_partitions import make_room
from meterhouse.stores.warehouse_tables import daily, hourly, series

log = logging.getLogger(__name__)

TABLE = "rollups"

FOLLOWER = "warehouse"

HOURLY, DAILY = 3600, 86400

ROWS_AT_ONCE = 100_000
"""A transaction replaces partitions of together about this many rows, and one at least."""

HOURS_AT_ONCE = 24 * 31
"""Commits are taken together up to about this many changed hours."""

SECONDS = 10.0
"""While a long run rolls up, the warehouse follows it at least this many seconds apart."""

_CLOCKS = timedelta(hours=1)
"""How far clocks may be apart: files that were written this long before the last commit are taken again."""

_HOUR = 3_600_000_000

Integers: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"


@dataclass
class Following:
    """What a run did: the partitions that it replaced, and the rows that it wrote."""

    hours: int = 0
    days: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass
class _Changed:
    """The hours of the hourly tier, and the days of the daily one, that have to be replaced."""

    hours: set[datetime] = field(default_factory=set)
    days: set[date] = field(default_factory=set)


@dataclass(frozen=True)
class _File:
    path: str
    first: datetime | None
    last: datetime | None
    written: datetime


_Files = dict[tuple[int, date], list[_File]]
"""Granularity and event day → the files of this partition."""


@dataclass
class _Batch:
    """What one transaction replaces: partitions, and their new rows."""

    hours: list[datetime] = field(default_factory=list)
    days: list[date] = field(default_factory=list)
    hourly: list[pa.Table] = field(default_factory=list)
    daily: list[pa.Table] = field(default_factory=list)
    rows: int = 0


def follow(
    site: Site, done: Following | None = None, *, wait_seconds: float = 60.0, progress: Progress = no_progress
) -> Following:
    """Replace in the warehouse what has changed in the lake's roll-ups since the last run.

    Args:
        site: the site.
        done: what was done before; this is added to it.
        wait_seconds: how long to wait for another process that is following.
        progress: gets the number of partitions that are replaced, and of those that have to be.

    Raises:
        AlreadyRunning: another process is still following after `wait_seconds`.
        Unavailable: the warehouse does not answer; the next run follows.
        Damaged: a file of the lake cannot be read.
    """
    run = Following()
    started, clock = times.now(), time.monotonic()
    with site.warehouse.lease(FOLLOWER, wait_seconds=wait_seconds) as lease:
        follow_under(site, lease, run, progress)
        run.seconds = time.monotonic() - clock
        if run.hours or run.days:
            site.warehouse.record_run(FOLLOWER, started, vars(run))
    done = done or Following()
    done.hours += run.hours
    done.days += run.days
    done.rows += run.rows
    done.seconds += run.seconds
    return done


def keep_following(site: Site, done: Following | None = None, *, progress: Progress = no_progress) -> Progress:
    """A progress of a roll-up run that also lets the warehouse follow, so that the present does not wait for a backlog.

    If it cannot follow now, the roll-up continues.

    Args:
        site: the site.
        done: gets what is done.
        progress: is called too.
    """
    last = float("-inf")

    def follow_and_report(rolled: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS:
            try:
                follow(site, done, wait_seconds=0)
            except MeterhouseError as error:
                log.warning("the warehouse does not follow yet: %s", error)
            last = time.monotonic()
        progress(rolled, total)

    return follow_and_report


def follow_under(site: Site, lease: Lease, done: Following, progress: Progress = no_progress) -> None:
    """See `follow`; the caller holds the lease."""
    while _follow(site, lease, done, progress):
        pass


@retried
def _follow(site: Site, lease: Lease, done: Following, progress: Progress) -> bool:
    """Follow a bounded number of commits; return whether there were any."""
    lake = site.lake
    reached = history.followed_position(site, FOLLOWER)
    noted = reached.version > 0 or reached.mark is not None
    known = noted and history.is_same_history(lake, TABLE, reached)
    newest = lake.version(TABLE)
    if known and reached.version == newest:
        return False
    files = _files(lake.actions(TABLE))
    if known:
        changed, upto = _what_changed(site, reached, newest, files)
    else:  # a release before this one wrote the rows itself, until its migration: then there is no version, but a time
        since = reached.at - _CLOCKS if reached.version == 0 and reached.at is not None else times.EPOCH
        changed, upto = _everything(site, files, since), newest
    replacing = _Replacing(site, lease, done, progress, len(changed.hours) + len(changed.days), left_out(site))
    for day in sorted(changed.days | {hour.date() for hour in changed.hours}, reverse=True):  # the present first
        hours = sorted(hour for hour in changed.hours if hour.date() == day)
        for hour, rows in zip(hours, _hourly(lake, files.get((HOURLY, day), []), hours), strict=True):
            replacing.hour(hour, rows)
        if day in changed.days:
            replacing.day(day, _rows(lake, files.get((DAILY, day), []), DAY_COLUMNS))
    replacing.end(history.position(lake, TABLE, upto))
    return True


# -- what has changed -----------------------------------------------------------------------------------------


def _files(actions: pa.Table) -> _Files:
    """The live files of the tiers that the warehouse has."""
    followed = actions.filter(pc.is_in(actions["partition.granularity_s"], pa.array([HOURLY, DAILY], pa.int32())))
    wanted = ("path", "partition.granularity_s", "partition.event_day", "min.bucket", "max.bucket", "modification_time")
    found: _Files = defaultdict(list)
    for action in followed.select([name for name in wanted if name in followed.column_names]).to_pylist():
        written = times.EPOCH + timedelta(milliseconds=action["modification_time"])
        file = _File(action["path"], action.get("min.bucket"), action.get("max.bucket"), written)
        found[action["partition.granularity_s"], action["partition.event_day"]].append(file)
    return found


def _what_changed(site: Site, reached: Position, newest: int, files: _Files) -> tuple[_Changed, int]:
    """What the commits after a position have changed, and up to which version."""
    found, upto = _Changed(), reached.version
    try:
        for commit in site.lake.commits(TABLE, reached.version, newest):
            if len(found.hours) >= HOURS_AT_ONCE:
                break
            if commit.changes_data:
                _add(found, commit)
            upto = commit.version
    except Replaced:
        return _everything(site, files, times.EPOCH if reached.at is None else reached.at - _CLOCKS), newest
    except (KeyError, TypeError):  # the partition values of a removed file are optional in Delta
        return _everything(site, files), newest
    return found, upto


def _add(found: _Changed, commit: Commit) -> None:
    """Add the hours and days whose rows a commit has replaced.

    Raises:
        KeyError, TypeError: it does not say of which partition a removed file was.
    """
    touched: dict[int, set[date]] = {HOURLY: set(), DAILY: set()}
    for action in (*commit.added, *commit.removed):
        values = action["partitionValues"]
        touched.setdefault(int(values["granularity_s"]), set()).add(date.fromisoformat(values["event_day"]))
    if (hours := commit.hours) is None:
        found.hours.update(hour for day in touched[HOURLY] for hour in times.hours_of(day))
        found.days |= touched[DAILY]
        return
    found.hours |= {hour for hour in hours if hour.date() in touched[HOURLY]}
    found.days |= {hour.date() for hour in hours} & touched[DAILY]


def _everything(site: Site, files: _Files, since: datetime = times.EPOCH) -> _Changed:
    """All partitions with files that were written since a moment, and those that only the warehouse has."""
    written = {place for place, listed in files.items() if any(file.written >= since for file in listed)}
    with site.warehouse.read() as connection:
        stored = {(HOURLY, day) for day in days_of(connection, hourly)}
        stored |= {(DAILY, day) for day in days_of(connection, daily)}
    places = written | (stored - files.keys())
    return _Changed(
        {hour for seconds, day in places if seconds == HOURLY for hour in times.hours_of(day)},
        {day for seconds, day in places if seconds == DAILY},
    )


def days_of(connection: Connection, table: Table) -> list[date]:
    """The days of which a table of roll-ups has rows, in order: a look-up by key for each."""
    found: list[date] = []
    first = select(func.min(table.c.bucket))
    query = first
    while (bucket := connection.execute(query).scalar()) is not None:
        found.append(bucket.date())
        query = first.where(table.c.bucket >= times.day_start(bucket.date()) + times.DAY)
    return found


# -- the lake's rows ------------------------------------------------------------------------------------------


def _hourly(lake: Lake, files: Sequence[_File], hours: Sequence[datetime]) -> list[pa.Table]:
    """The rows of these hours of a day, each hour's in order of series."""
    if not hours:
        return []
    overlapping = [
        file
        for file in files
        if file.first is None or file.last is None or any(file.first - times.HOUR < h <= file.last for h in hours)
    ]
    rows = _rows(lake, overlapping, HOUR_COLUMNS)
    number = np.asarray(rows["bucket"].cast(pa.int64())) // _HOUR
    wanted = np.array([times.micros(hour) // _HOUR for hour in hours])
    starts, ends = np.searchsorted(number, wanted), np.searchsorted(number, wanted, side="right")
    return [rows.slice(start, end - start) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _rows(lake: Lake, files: Iterable[_File], schema: pa.Schema) -> pa.Table:
    """These columns of files, in order of bucket and series."""
    found = pa.concat_tables([schema.empty_table(), *(_read(lake, file.path, schema) for file in files)])
    order = np.lexsort((np.asarray(found["series_id"]), np.asarray(found["bucket"].cast(pa.int64()))))
    return found.take(pa.array(order))


def _read(lake: Lake, path: str, schema: pa.Schema) -> pa.Table:
    """These columns of a file; null in those that it lacks, because a release before them wrote it."""
    rows = lake.read_file(TABLE, path, schema.names)
    for lacking in [each for each in schema if each.name not in rows.column_names]:
        rows = rows.append_column(lacking, pa.nulls(len(rows), lacking.type))
    return rows.select(schema.names).cast(schema)


HOUR_COLUMNS = pa.schema([ROLLUPS.field(column.name) for column in hourly.columns])

DAY_COLUMNS = pa.schema([*(ROLLUPS.field(column.name) for column in daily.columns), ROLLUPS.field("cadence_s")])
"""What is read of the daily tier: the columns of its table, and the cadence, which belongs to the series."""


def left_out(site: Site) -> Integers:
    """The series whose archive policies keep them out of the warehouse, in order."""
    policies = site.policies
    with site.warehouse.read() as connection:
        meters = connection.execute(select(series.c.meter).distinct()).scalars().all()
        without = [meter for meter in meters if not policies.in_warehouse(meter)]
        found = [
            series_id
            for meter in without
            for series_id in connection.execute(select(series.c.series_id).where(series.c.meter == meter)).scalars()
        ]
    return np.sort(np.array(found, np.int64))


# -- the warehouse's rows -------------------------------------------------------------------------------------


@dataclass
class _Replacing:
    """Replaces partitions in transactions of bounded size.

    Attributes:
        site: the site.
        lease: the follower's.
        done: gets what is done.
        progress: gets the number of partitions that are replaced.
        total: how many there will be.
        left_out: series whose rows are not stored, in order.
    """

    site: Site
    lease: Lease
    done: Following
    progress: Progress
    total: int
    left_out: Integers
    batch: _Batch = field(default_factory=_Batch)
    replaced: int = 0

    def hour(self, hour: datetime, rows: pa.Table) -> None:
        """Replace an hour of the hourly tier."""
        rows = self._stored(rows)
        self._make_room(rows)
        self.batch.hours.append(hour)
        self.batch.hourly.append(rows)

    def day(self, day: date, rows: pa.Table) -> None:
        """Replace a day of the daily tier."""
        self._make_room(rows)
        self.batch.days.append(day)
        self.batch.daily.append(rows)

    def end(self, reached: Position) -> None:
        """Replace what is left, and record the position with it."""
        self._store(reached)

    def _stored(self, rows: pa.Table) -> pa.Table:
        if not len(self.left_out):
            return rows
        return rows.filter(pa.array(~np.isin(np.asarray(rows["series_id"]), self.left_out)))

    def _make_room(self, rows: pa.Table) -> None:
        if self.batch.rows and self.batch.rows + rows.num_rows > ROWS_AT_ONCE:
            self._store(None)
        self.batch.rows += rows.num_rows

    def _store(self, reached: Position | None) -> None:
        batch, self.batch = self.batch, _Batch()
        days = [times.day_start(day) for day in batch.days]
        with self.lease.begin() as connection:
            _put(connection, hourly, batch.hours, batch.hourly)
            if days:
                note_series(connection, batch.days)
                _put(connection, daily, days, [self._stored(rows.select(daily.c.keys())) for rows in batch.daily])
                record_seen(connection, _seen(pa.concat_tables(batch.daily)), batch.days)
            if reached is not None:
                history.record_position(connection, FOLLOWER, reached)
        self.done.hours += len(batch.hours)
        self.done.days += len(batch.days)
        self.done.rows += batch.rows
        self.replaced += len(batch.hours) + len(batch.days)
        self.progress(self.replaced, self.total)


def _put(connection: Connection, table: Table, buckets: Sequence[datetime], parts: Sequence[pa.Table]) -> None:
    """Replace the rows of these buckets."""
    if not buckets:
        return
    connection.execute(
        delete(table).where(table.c.bucket == bindparam("start")), [{"start": bucket} for bucket in buckets]
    )
    make_room(connection, table, (bucket for bucket, rows in zip(buckets, parts, strict=True) if rows.num_rows))
    rows = pa.concat_tables(parts)
    if connection.dialect.name == "sqlite":
        for name in ("first_at", "last_at"):
            place = rows.column_names.index(name)
            rows = rows.set_column(place, name, rows[name].cast(pa.int64()))
    bulk_insert(connection, table.name, rows)


def _seen(rows: pa.Table) -> pa.Table:
    """The first and last good point of each series in these daily rows, and metadata and cadence of its last day.

    They are null if the series has only excluded points.
    """
    series_id, bucket = np.asarray(rows["series_id"]), np.asarray(rows["bucket"].cast(pa.int64()))
    good = np.asarray(rows["count"]) > 0
    order = np.lexsort((bucket, ~good, series_id))  # a series' days without good points come after those with
    starts = np.flatnonzero(np.diff(series_id[order], prepend=series_id[order][:1] - 1))
    several = np.add.reduceat(good[order].astype(np.int64), starts) if len(starts) else starts
    first = rows.take(pa.array(order[starts]))
    last = rows.take(pa.array(order[starts + np.maximum(several, 1) - 1]))
    return pa.table(
        {
            "series_id": first["series_id"],
            "first_at": first["first_at"],
            "last_at": last["last_at"],
            "metadata_id": last["metadata_id"],
            "cadence_s": last["cadence_s"],
        }
    )
