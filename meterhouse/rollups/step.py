"""The roll-up step: computes roll-ups of 5 minutes, 1 hour and 1 day from the good points of dirty event hours.

The roll-ups go to the lake. `following.py` takes the hourly and daily ones to the warehouse, with what they say about
series and resources. A run replaces whole hours and their days, so a second run changes nothing.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime
from string import Template

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import bindparam, func, select, update

from meterhouse import computed, sql_files, times
from meterhouse.catalog import Snapshot, mark_dirty, snapshot_to_compute
from meterhouse.progress import Progress, no_progress
from meterhouse.sample_quality.groups import group_hours, present_hours
from meterhouse.sample_quality.points import view_carried, view_points
from meterhouse.sample_quality.spans import SpanTable, reaching, span_table
from meterhouse.sample_quality.step import Judged, hours_to_judge, judge_snapshot
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow, one
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_replace import replace_spans
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import dirty_hours, rollup_1h

GRANULARITIES = {300: "5m", 3600: "1h", 86400: "1d"}
"""Granularity in seconds → the name of its tier."""


@dataclass
class RolledUp:
    """What a roll-up run did. `points` counts the good points of the days that it recomputed."""

    hours: list[datetime] = field(default_factory=list)
    points: int = 0
    rows: int = 0
    excluded: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Leases:
    rollups: Lease
    quality: Lease


def roll_up(site: Site, only: set[datetime] | None = None, *, progress: Progress = no_progress) -> RolledUp:
    """Roll up the dirty event hours, or those in `only`, after judging hours that are not judged yet.

    If the last point of a counter changes, the next hour of its series becomes dirty, because its increase starts from
    that point. A backlog of old hours does not delay those of today: they come first, and again between its groups.

    Raises:
        AlreadyRunning: another process is rolling up or judging.
        Conflict: another process has taken the step over, because this one was paused.
    """
    done = RolledUp()
    started, clock = times.now(), time.monotonic()
    with site.warehouse.lease("rollups") as rollups, site.warehouse.lease("sample_quality") as quality:
        site.lake.fence(rollups, "rollups")
        site.lake.fence(quality, "quarantine")
        for table in computed.TABLES:
            computed.reconcile(site, table)
        leases = _Leases(rollups, quality)
        rolled: set[datetime] = set()
        again: set[datetime] = set()  # became dirty by this run

        def dirty() -> tuple[Snapshot, list[datetime]]:
            seen = snapshot_to_compute(site)
            return seen, [h for h, state in seen.hours.items() if state.unrolled and (only is None or h in only)]

        def roll(seen: Snapshot, hours: list[datetime]) -> None:
            again.difference_update(hours)
            again.update(_roll_group(site, seen, hours, done, leases))
            done.hours += [hour for hour in hours if hour not in rolled]
            rolled.update(hours)

        @retried
        def roll_all() -> None:
            while True:
                seen, hours = dirty()
                hours = [hour for hour in hours if hour not in rolled or hour in again]
                if not hours:
                    break
                for number, group in enumerate(group_hours(site, seen.version, hours)):
                    if number:
                        latest, waiting = dirty()
                        if present := present_hours(waiting):
                            roll(latest, present)
                    roll(seen, group)
                    progress(len(rolled), max(len(rolled), len(hours)))

        roll_all()
        done.seconds = time.monotonic() - clock
        if done.hours:
            site.warehouse.record_run("rollups", started, {**vars(done), "hours": len(done.hours)})
    return done


def _roll_group(site: Site, seen: Snapshot, hours: list[datetime], done: RolledUp, leases: _Leases) -> list[datetime]:
    """Roll up these hours; return the other hours that became dirty."""
    days = sorted({hour.date() for hour in hours})
    whole_days = times.spans(hour for day in days for hour in times.hours_of(day))
    of_days = set(days)
    to_judge = [hour for hour in hours_to_judge(seen, site.settings.carry_hours) if hour.date() in of_days]
    judge_snapshot(site, seen, to_judge, Judged(), leases.quality)
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
        wanted = span_table(duck, "wanted", spans)
        wanted_days = span_table(duck, "wanted_days", whole_days)
        tiers = {
            seconds: _tier(duck, seconds, wanted_days if seconds == 86400 else wanted) for seconds in GRANULARITIES
        }
        (points,) = one(duck, "SELECT count(*) FROM steps")
        next_hours = _next_hours(duck, site, tiers[3600], wanted)
    with leases.rollups.begin() as connection:
        # Before the lake changes: after a kill in between, the next run would find no change, and skip these hours.
        mark_dirty(connection, next_hours, "a counter's previous point changed")
    for seconds, rows in tiers.items():
        replaced = whole_days if seconds == 86400 else spans
        tier = {"granularity_s": seconds}
        replace_spans(site.lake, "rollups", rows, "bucket", replaced, tier, leases.rollups)
    _record(site, seen, hours, leases.rollups)
    done.points += points
    done.rows += sum(rows.num_rows for rows in tiers.values())
    done.excluded += int(pc.sum(tiers[3600]["excluded"]).as_py() or 0)
    return next_hours


def _tier(duck: Connection, seconds: int, wanted: SpanTable) -> pa.Table:
    query = Template(sql_files.read("lake/rollup.sql")).substitute(seconds=seconds, wanted=wanted.within("timestamp"))
    if seconds == 86400:
        described = sql_files.read("lake/seen.sql")
        query = (
            "SELECT r.* REPLACE (d.metadata_id AS metadata_id) "
            f"FROM ({query}) AS r LEFT JOIN ({described}) AS d USING (series_id, bucket)"
        )
    return arrow(duck, query)


def _next_hours(duck: Connection, site: Site, hourly: pa.Table, wanted: SpanTable) -> list[datetime]:
    """The later hours, outside the wanted ones, with counters whose increase starts from a point that is changed."""
    carry_hours = site.settings.carry_hours
    reach = reaching(wanted.spans, ahead=carry_hours)
    files = site.lake.files("rollups", overlapping=("bucket", reach), partitions={"granularity_s": [3600]})
    site.lake.view(duck, "rollups", files)
    inside = wanted.within("bucket")
    duck.execute(
        'CREATE OR REPLACE TEMP VIEW before AS SELECT series_id, bucket, "last", last_at FROM rollups '
        f"WHERE granularity_s = 3600 AND {inside}"
    )
    duck.execute(
        "CREATE OR REPLACE TEMP VIEW later AS SELECT series_id, bucket FROM rollups "
        f"WHERE granularity_s = 3600 AND increase IS NOT NULL AND NOT {inside}"
    )
    duck.register("after", hourly)
    query = Template(sql_files.read("lake/carry_changed.sql")).substitute(carry_hours=carry_hours)
    return [row[0] for row in duck.execute(query).fetchall()]


def _record(site: Site, seen: Snapshot, hours: list[datetime], lease: Lease) -> None:
    """Record which hours are rolled up, as of the marks that were seen."""
    with lease.begin() as connection:
        connection.execute(
            update(dirty_hours)
            .where(dirty_hours.c.hour == bindparam("rolled_hour"))
            .values(rolled_marks=bindparam("marks_seen"), rolled_at=times.now()),
            [{"rolled_hour": hour, "marks_seen": seen.hours[hour].marks} for hour in hours],
        )
        computed.record(site, connection, "rollups")


def points_by_hour(site: Site, limit: int) -> dict[datetime, int]:
    """The number of good points of the latest rolled-up hours, oldest first. Hours to come are left out."""
    query = (
        select(rollup_1h.c.bucket, func.sum(rollup_1h.c.count))
        .where(rollup_1h.c.count > 0, rollup_1h.c.bucket <= times.now())
        .group_by(rollup_1h.c.bucket)
        .order_by(rollup_1h.c.bucket.desc())
        .limit(limit)
    )
    with site.warehouse.read() as connection:
        return {row[0]: int(row[1]) for row in reversed(connection.execute(query).all())}
