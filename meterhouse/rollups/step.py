"""The roll-up step: computes roll-ups of 5 minutes, 1 hour and 1 day from the good points of dirty event hours.

The roll-ups go to the lake, the hourly and daily ones also to the warehouse, with what the good points say about series
and resources. A run replaces whole hours and their days,
so a second run changes nothing.
"""

import time
from dataclasses import dataclass, field
from datetime import date, datetime
from string import Template

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, Table, and_, delete, func, or_, select, update

from meterhouse import sql_files, times
from meterhouse.catalog import Snapshot, mark_dirty, snapshot
from meterhouse.progress import Progress, no_progress
from meterhouse.rollups.seen import in_days as seen_in_days
from meterhouse.rollups.seen import record_seen
from meterhouse.sample_quality.points import Span, replace_spans, view_carried, view_points, within
from meterhouse.sample_quality.step import Judged, group_hours, judge_snapshot
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.duck import Connection, arrow, one
from meterhouse.stores.warehouse_tables import dirty_hours, rollup_1d, rollup_1h

GRANULARITIES = {300: "5m", 3600: "1h", 86400: "1d"}
"""Granularity in seconds → the name of its tier."""

WAREHOUSE_TIERS = {3600: rollup_1h, 86400: rollup_1d}


@dataclass
class RolledUp:
    """What a roll-up run did. `points` counts the good points of the days that it recomputed."""

    hours: list[datetime] = field(default_factory=list)
    points: int = 0
    rows: int = 0
    excluded: int = 0
    seconds: float = 0.0


def roll_up(site: Site, only: set[datetime] | None = None, *, progress: Progress = no_progress) -> RolledUp:
    """Roll up the dirty event hours, or those in `only`, after judging hours that are not judged yet.

    If the last point of a counter changes, the next hour of its series becomes dirty, because its increase starts from
    that point.

    Raises:
        AlreadyRunning: another process is rolling up or judging.
    """
    done = RolledUp()
    started, clock = times.now(), time.monotonic()
    with site.warehouse.lease("rollups"), site.warehouse.lease("sample_quality"):
        rolled: set[datetime] = set()
        again: set[datetime] = set()  # became dirty by this run
        while True:
            seen = snapshot(site)
            hours = [hour for hour, state in seen.hours.items() if state.unrolled and (only is None or hour in only)]
            hours = [hour for hour in hours if hour not in rolled or hour in again]
            if not hours:
                break
            for group in group_hours(site, seen.version, hours):
                again.difference_update(group)
                again.update(_roll_group(site, seen, group, done))
                done.hours += [hour for hour in group if hour not in rolled]
                rolled.update(group)
                progress(len(rolled), max(len(rolled), len(hours)))
        done.seconds = time.monotonic() - clock
        if done.hours:
            site.warehouse.record_run("rollups", started, {**vars(done), "hours": len(done.hours)})
    return done


def _roll_group(site: Site, seen: Snapshot, hours: list[datetime], done: RolledUp) -> list[datetime]:
    """Roll up these hours; return the hours that became dirty by it."""
    days = sorted({hour.date() for hour in hours})
    whole_days = times.spans([h for day in days for h in times.hours_between(*_day(day))])
    unjudged = [
        hour for hour, state in seen.hours.items() if state.unjudged and any(a <= hour < b for a, b in whole_days)
    ]
    judge_snapshot(site, seen, unjudged, Judged())
    spans = times.spans(hours)
    with site.lake.connect() as duck:
        view_points(duck, site.lake, seen.version, whole_days)
        view_carried(duck, site.lake, whole_days, site.settings.carry_hours)
        site.lake.view(
            duck,
            "quarantine",
            site.lake.files("quarantine", partitions={"event_day": days}),
        )
        duck.execute("CREATE TEMP TABLE excluded_points AS SELECT * FROM quarantine WHERE excluded")
        steps = Template(sql_files.read("lake/steps.sql")).substitute(carry_hours=site.settings.carry_hours)
        duck.execute(f"CREATE TEMP TABLE steps AS {steps}")
        tiers = {seconds: _tier(duck, seconds, whole_days if seconds == 86400 else spans) for seconds in GRANULARITIES}
        (points,) = one(duck, "SELECT count(*) FROM steps")
        next_hours = _next_hours(duck, site, tiers[3600], spans)
        in_days = seen_in_days(duck)
    with site.warehouse.begin() as connection:
        # Before the lake changes: after a kill in between, the next run would find no change, and skip these hours.
        mark_dirty(connection, next_hours, "a counter's previous point changed")
    for seconds, rows in tiers.items():
        replaced = whole_days if seconds == 86400 else spans
        replace_spans(site.lake, "rollups", rows, "bucket", replaced, {"granularity_s": seconds})
    next_hours += _record(site, seen, hours, spans, whole_days, tiers, in_days)
    done.points += points
    done.rows += sum(rows.num_rows for rows in tiers.values())
    done.excluded += int(pc.sum(tiers[3600]["excluded"]).as_py() or 0)
    return next_hours


def _day(day: date) -> Span:
    start = times.day_start(day)
    return start, start + times.DAY


def _tier(duck: Connection, seconds: int, spans: list[Span]) -> pa.Table:
    query = Template(sql_files.read("lake/rollup.sql")).substitute(seconds=seconds, wanted=within("timestamp", spans))
    return arrow(duck, query)


def _next_hours(duck: Connection, site: Site, hourly: pa.Table, spans: list[Span]) -> list[datetime]:
    """The later hours, outside the spans, with counters whose increase starts from a point that this run changes."""
    last = spans[-1][1] + site.settings.carry_hours * times.HOUR
    files = site.lake.files("rollups", between=("bucket", spans[0][0], last), partitions={"granularity_s": [3600]})
    site.lake.view(duck, "rollups", files)
    inside = within("bucket", spans)
    columns = 'series_id, bucket, "last", last_at, increase'
    duck.execute(
        f"CREATE OR REPLACE TEMP VIEW before AS SELECT {columns} FROM rollups WHERE granularity_s = 3600 AND {inside}"
    )
    duck.execute(
        f"CREATE OR REPLACE TEMP VIEW later AS SELECT {columns} FROM rollups "
        f"WHERE granularity_s = 3600 AND bucket < '{times.text(last)}' AND NOT {inside}"
    )
    duck.register("after", hourly)
    return [row[0] for row in duck.execute(sql_files.read("lake/carry_changed.sql")).fetchall()]


def _record(
    site: Site,
    seen: Snapshot,
    hours: list[datetime],
    spans: list[Span],
    whole_days: list[Span],
    tiers: dict[int, pa.Table],
    in_days: pa.Table,
) -> list[datetime]:
    with site.warehouse.begin() as connection:
        for seconds, table in WAREHOUSE_TIERS.items():
            connection.execute(delete(table).where(_in_spans(table, whole_days if seconds == 86400 else spans)))
            bulk_insert(connection, table.name, tiers[seconds].drop_columns(["granularity_s", "event_day"]))
        again = record_seen(connection, in_days, sorted({hour.date() for hour in hours}))
        for hour in hours:
            connection.execute(
                update(dirty_hours)
                .where(dirty_hours.c.hour == hour)
                .values(rolled_marks=seen.hours[hour].marks, rolled_at=times.now())
            )
    return again


def _in_spans(table: Table, spans: list[Span]) -> ColumnElement[bool]:
    return or_(*(and_(table.c.bucket >= start, table.c.bucket < end) for start, end in spans))


def points_by_hour(site: Site, limit: int) -> dict[datetime, int]:
    """The number of good points of the latest rolled-up hours, oldest first."""
    query = (
        select(rollup_1h.c.bucket, func.sum(rollup_1h.c.count))
        .where(rollup_1h.c.count > 0)
        .group_by(rollup_1h.c.bucket)
        .order_by(rollup_1h.c.bucket.desc())
        .limit(limit)
    )
    with site.warehouse.read() as connection:
        return {row[0]: int(row[1]) for row in reversed(connection.execute(query).all())}
