"""The catalog: writes the series and resources of new samples to the warehouse, and marks their event hours dirty.

Every sample registers its series, its resource and its hour: otherwise nobody could list the bad ones. What a resource
is, and when it was seen, comes from good points only: the roll-up writes it, see `meterhouse/rollups/seen.py`.

In the same transaction, the warehouse records up to which version it has followed the lake's `samples`.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from string import Template
from typing import Any, Literal

import pyarrow as pa
from sqlalchemy import Connection, and_, or_, select, text, update

from meterhouse import sql_files, times
from meterhouse.site import Site
from meterhouse.stores.bulk import upsert
from meterhouse.stores.duck import arrow
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import dirty_hours, followed, resources, series

FOLLOWER = "samples"

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
    """
    done = Catalogued()
    started, clock = times.now(), time.monotonic()
    with site.warehouse.lease("catalog", wait_seconds=wait_seconds) as lease:
        while (fresh := site.lake.appended("samples", site.warehouse.followed_version(FOLLOWER))) is not None:
            _add_samples(site, fresh.rows, fresh.version, done, lease)
        done.seconds = time.monotonic() - clock
        if done.samples and record:
            site.warehouse.record_run("catalog", started, vars(done))
    return done


def commits_behind(site: Site) -> int:
    """How many commits of samples are not in the catalog yet."""
    return max(site.lake.version("samples") - site.warehouse.followed_version(FOLLOWER), 0)


def _add_samples(site: Site, fresh: pa.Table, version: int, done: Catalogued, lease: Lease) -> None:
    with site.lake.connect() as duck:
        duck.register("fresh", fresh)
        new_series = arrow(duck, sql_files.read("lake/catalog_series.sql"))
        new_resources = arrow(duck, sql_files.read("lake/catalog_resources.sql"))
        query = Template(sql_files.read("lake/catalog_hours.sql"))
        hours = duck.execute(query.substitute(lateness_seconds=site.settings.lateness_seconds)).fetchall()
    with lease.begin() as connection:
        lock_catalog(connection)
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
        done.late += _count_late(connection, hours)
        mark_dirty(connection, [row[0] for row in hours], "new points")
        connection.execute(
            text(
                "INSERT INTO followed (follower, version) VALUES (:follower, :version) "
                "ON CONFLICT (follower) DO UPDATE SET version = excluded.version"
            ),
            {"follower": FOLLOWER, "version": version},
        )
    done.samples += fresh.num_rows
    done.series += new_series.num_rows
    done.resources += new_resources.num_rows
    done.hours += len(hours)


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
