"""The roll-up step: judges dirty event hours, and computes roll-ups of 1 hour, 1 day and what the policies ask for.

Points are read once, for verdicts and all tiers (see `sample_quality/judging.py`). What else is made of the good points
of a series is made in `rolling.py`, from each shard, in several threads or on other machines; what needs many series,
in `_roll_group`, from the rows of all shards, before anything is stored.

A run replaces whole hours and their days, so a second run changes nothing. First it stores the flagged points, then the
roll-ups of all tiers in one commit.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from string import Template

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import bindparam, func, select, update

from meterhouse import by_day, computed, meanings, sql_files, times
from meterhouse.catalog import Snapshot, mark_dirty, snapshot_to_compute
from meterhouse.definitions.archive_policies import Policies
from meterhouse.errors import MeterhouseError
from meterhouse.progress import Progress, no_progress
from meterhouse.rollups import described, policy_changes
from meterhouse.rollups.derive import Deriving
from meterhouse.rollups.described import Changes
from meterhouse.rollups.made import HOURLY, is_open
from meterhouse.rollups.rolling import COUNTED, Plan, RollingUp
from meterhouse.rollups.rows import SCHEMA
from meterhouse.rollups.running_day import rows_of_day
from meterhouse.sample_quality.groups import group_hours, points_by_day, present_hours
from meterhouse.sample_quality.judging import Judging
from meterhouse.sample_quality.reading import Hours
from meterhouse.sample_quality.spans import reaching, span_table
from meterhouse.sample_quality.step import Judged, context_hours, store_flagged
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_replace import replace
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import dirty_hours
from meterhouse.workers import Workers, worker_threads
from meterhouse.workers import opened as workers_of

FEW_POINTS = 2_000_000
"""The rows of a day that is not over are made of all its points, percentiles too, up to about this many."""


@dataclass
class RolledUp:
    """What a roll-up run did, in the hours that it recomputed; `points` are the good ones.

    `days` has hours, points, excluded and rows by event day; `judged` is what the same pass found.
    """

    hours: list[datetime] = field(default_factory=list)
    days: by_day.Days = field(default_factory=dict)
    points: int = 0
    rows: int = 0
    excluded: int = 0
    seconds: float = 0.0
    judged: Judged = field(default_factory=Judged)

    def add(self, hours: list[datetime], hourly: pa.Table, rows: Mapping[date, int]) -> None:
        """Count hours that were rolled up.

        Args:
            hours: which.
            hourly: their rows of an hour each.
            rows: how many rows of all tiers each of their days got.
        """
        points, excluded = _sums(hourly, "count"), _sums(hourly, "excluded")
        for day in sorted({hour.date() for hour in hours}):
            mine = [hour for hour in hours if hour.date() == day]
            by_day.add(
                self.days,
                day,
                hours=len(mine),
                points=sum(points.get(hour, 0) for hour in mine),
                excluded=sum(excluded.get(hour, 0) for hour in mine),
                rows=rows.get(day, 0),
            )
        self.points, self.rows = by_day.total(self.days, "points"), by_day.total(self.days, "rows")
        self.excluded = by_day.total(self.days, "excluded")


@dataclass(frozen=True)
class _Leases:
    rollups: Lease
    quality: Lease


def roll_up(site: Site, only: set[datetime] | None = None, *, progress: Progress = no_progress) -> RolledUp:
    """Roll up the dirty event hours, or those in `only`, after judging hours that are not judged yet.

    If the last point of a counter changes, the next hour of its series becomes dirty, because its increase starts from
    that point. A backlog, or a backfill of the hours in `only`, does not delay what becomes dirty meanwhile: hours of
    today come first, and all that is dirty besides the backlog is rolled up between its groups.

    Raises:
        AlreadyRunning: another process is rolling up or judging.
        Conflict: another process has taken the step over, because this one was paused.
    """
    done = RolledUp()
    started, clock = times.now(), time.monotonic()
    with (
        workers_of(site) as workers,
        site.warehouse.lease("rollups") as rollups,
        site.warehouse.lease("sample_quality") as quality,
    ):
        site.lake.fence(rollups, "rollups", "derived")
        site.lake.fence(quality, "quarantine")
        for table in computed.TABLES:
            computed.reconcile(site, table)
        leases = _Leases(rollups, quality)
        changed = only is None and policy_changes.outdated(site) > 0
        _close_days(site)
        if changed:
            policy_changes.mark_outdated(site, rollups)
        rolled: set[datetime] = set()
        again: set[datetime] = set()  # became dirty by this run

        def dirty() -> tuple[Snapshot, list[datetime]]:
            seen = snapshot_to_compute(site)
            return seen, [h for h, state in seen.hours.items() if state.unrolled and (only is None or h in only)]

        def roll(seen: Snapshot, hours: list[datetime], total: int) -> None:
            def told(share: float) -> None:
                reached = len(rolled) + int(share * len(hours))
                progress(reached, max(reached, total))

            again.difference_update(hours)
            again.update(_roll_group(site, seen, hours, done, leases, workers, told))
            done.hours += [hour for hour in hours if hour not in rolled]
            rolled.update(hours)

        def roll_meanwhile(first: Snapshot, left: set[datetime], total: int) -> Snapshot:
            """Roll up what does not wait for the hours that are left; return the snapshot that the rest is made of.

            Days are made of all their points. If the rest were made of the first snapshot, it would take from a day
            the points that came meanwhile to its other hours.
            """
            latest = snapshot_to_compute(site)
            waiting = [hour for hour, state in latest.hours.items() if state.unrolled]
            came = {h for h in left.intersection(waiting) - again if latest.hours[h].marks > first.hours[h].marks}
            due = {*present_hours(waiting), *came, *(hour for hour in waiting if hour not in left)}
            for some in group_hours(site, latest.version, due):
                roll(latest, some, total)
            left.intersection_update(waiting)
            left.difference_update(due)
            return latest

        @retried
        def roll_all() -> None:
            while True:
                first, hours = dirty()
                hours = [hour for hour in hours if hour not in rolled or hour in again]
                if not hours:
                    break
                left, seen = set(hours), first
                for number, group in enumerate(group_hours(site, first.version, hours)):
                    if number:
                        seen = roll_meanwhile(first, left, len(hours))
                    if some := [hour for hour in group if hour in left]:
                        roll(seen, some, len(hours))
                    left.difference_update(group)
                    progress(len(rolled), max(len(rolled), len(hours)))

        roll_all()
        if changed:
            policy_changes.mark_outdated(site, rollups)  # the next run takes these
        done.seconds = time.monotonic() - clock
        if done.hours:
            done.judged.seconds = done.seconds
            for step, figures in (("sample_quality", vars(done.judged)), ("rollups", vars(done))):
                kept = {name: value for name, value in figures.items() if name != "judged"}
                site.warehouse.record_run(step, started, {**kept, "hours": len(figures["hours"])})
    return done


def _plan_of(site: Site, seen: Snapshot, hours: list[datetime]) -> Plan:
    """What these hours need."""
    days = sorted({hour.date() for hour in hours})
    points = points_by_day(site, seen.version, days)
    present = times.now().date()
    whole = [day for day in days if day < present or points[day] <= FEW_POINTS]
    read = sorted({*hours, *(hour for day in whole for hour in times.hours_of(day))})
    context = [hour for hour in context_hours(seen, hours) if hour not in set(read)]
    return Plan(sorted(hours), read, context, whole, _later_files(site, sorted(hours)).num_rows > 0)


def _roll_group(
    site: Site,
    seen: Snapshot,
    hours: list[datetime],
    done: RolledUp,
    leases: _Leases,
    workers: Workers,
    progress: Callable[[float], None],
) -> list[datetime]:
    """Judge these hours and roll them up; return the other hours that became dirty.

    `progress` gets the share of the work that is done, after each pass but the last one.
    """
    plan, declared = _plan_of(site, seen, hours), policy_changes.Declared.of(site)
    granularities = _granularities(site, declared.policies, plan.hours)
    made = plan.made(granularities)
    with worker_threads() as threads:
        counted = [*plan.read, *plan.context]
        judging = Judging(site, seen.version, plan.hours, counted, threads, workers)
        deriving = Deriving(site, judging, declared.derived.definitions, plan.hours, plan.read, counted)
        work = RollingUp(plan, declared.policies, judging.table, granularities, deriving.work)
        received, found = [SCHEMA.empty_table().select(COUNTED)], list[Changes]()
        try:
            for rolled in judging.passes(work):
                made.join(rolled.made)
                deriving.join(rolled.derived)
                received.append(rolled.received)
                found.append(rolled.changes)
                if judging.share < 1:
                    progress(judging.share)
            changes = described.changes(site.lake, Changes.together(found), Hours(counted), site.settings.carry_hours)
            for judged in deriving.finish(changes):
                work.roll_derived(site, threads, made, judged)
            flagged = pa.concat_tables([judging.flagged(), *deriving.kept.flagged])
            for day in plan.folded():
                of_day = rows_of_day(site.lake, threads, day, made, Hours(plan.hours), judging.table)
                made.add(site.lake, threads, 86400, [of_day])
            next_hours = _next_hours(site, plan, made.hourly, deriving, changes)
            store_flagged(site, seen, plan.hours, flagged, judging.rules, leases.quality)
            with leases.rollups.begin() as connection:
                # Before the lake changes: after a kill in between, the next run would find no change, and skip them.
                mark_dirty(connection, next_hours, "a series' previous point or metadata changed")
                next_hours += deriving.prepare(connection)
        except MeterhouseError:
            made.discard(site.lake)
            deriving.discard()
            raise
    counts = pa.concat_tables(received)
    deriving.store(leases.rollups)
    replace(site.lake, "rollups", "bucket", made.parts, leases.rollups)
    _record(site, seen, plan.hours, counts, changes, declared, leases.rollups)
    done.judged.add(plan.hours, judging.points_by_hour(), flagged)
    done.add(plan.hours, counts, made.rows)
    return next_hours


def _granularities(site: Site, policies: Policies, hours: list[datetime]) -> list[int]:
    """Of all tiers that these hours may get, or have got by earlier policies, in seconds, the finest first."""
    of_days = site.lake.matching("rollups", partitions={"event_day": {hour.date() for hour in hours}})
    return sorted({*policies.granularities, *of_days["partition.granularity_s"].to_pylist()})


def _sums(hourly: pa.Table, column: str) -> dict[datetime, int]:
    """The sum of a column in each hour."""
    found = hourly.group_by("bucket").aggregate([(column, "sum")])
    return dict(zip(found["bucket"].to_pylist(), found[f"{column}_sum"].to_pylist(), strict=True))


def _later_files(site: Site, hours: list[datetime]) -> pa.Table:
    """The files of hourly roll-ups of these hours and of those that they reach; none if none has later hours.

    While a process rolls up, no other one adds roll-ups.

    Returns:
        Rows of `Lake.actions`.
    """
    reach = reaching(times.spans(hours), ahead=site.settings.carry_hours)
    found = site.lake.matching("rollups", overlapping=("bucket", reach), partitions={"granularity_s": [3600]})
    return found.slice(0, 0) if not found.num_rows or _none_later(found, hours) else found


def _next_hours(
    site: Site, plan: Plan, hourly: list[pa.Table], deriving: Deriving, changes: pa.Table
) -> list[datetime]:
    """The later hours, outside of those of a plan, that depend on what has changed in these.

    They start from the last point or metadata of a series, or have derived points that read metadata of their resource.
    """
    day = plan.hours[0].date()
    files = site.lake.matching("rollups", partitions={"granularity_s": [3600]}, at_least={"event_day": day})
    if not files.num_rows or _none_later(files, plan.hours):
        return []
    found = set(deriving.hours_described_otherwise(changes))
    if plan.carried:
        found |= _starting_otherwise(site, plan.hours, hourly, deriving)
    return sorted(found)


def _starting_otherwise(site: Site, hours: list[datetime], hourly: list[pa.Table], deriving: Deriving) -> set[datetime]:
    """The later hours that start from a point that has changed, of a counter or for a rate, or from other metadata."""
    carry_hours, spans = site.settings.carry_hours, times.spans(hours)
    files = _later_files(site, hours)["path"].to_pylist()
    with site.lake.connect() as duck:
        site.lake.view(duck, "rollups", [f"{site.lake.uri('rollups')}/{path}" for path in files])
        inside = span_table(duck, "wanted", spans).within("bucket")
        duck.execute(
            'CREATE TEMP VIEW before AS SELECT series_id, bucket, "last", last_at, metadata_id FROM rollups '
            f"WHERE granularity_s = 3600 AND {inside}"
        )
        duck.execute(
            "CREATE TEMP VIEW described AS SELECT series_id, bucket FROM rollups "
            f"WHERE granularity_s = 3600 AND metadata_id IS NOT NULL AND NOT {inside}"
        )
        duck.register("after", pa.concat_tables(rows.select(HOURLY) for rows in [SCHEMA.empty_table(), *hourly]))
        lost = "SELECT DISTINCT series_id FROM before ANTI JOIN after USING (series_id)"
        compared = deriving.compared([row[0] for row in duck.execute(lost).fetchall()])
        of_which = "increase IS NOT NULL"
        if len(compared):
            duck.register("compared", pa.table({"series_id": compared}))
            of_which = f"({of_which} OR last_at IS NOT NULL AND series_id IN (SELECT series_id FROM compared))"
        duck.execute(
            "CREATE TEMP VIEW later AS SELECT series_id, bucket FROM rollups "
            f"WHERE granularity_s = 3600 AND {of_which} AND NOT {inside}"
        )
        found = set[datetime]()
        for name in ("carry_changed", "metadata_changed"):
            query = Template(sql_files.read(f"lake/{name}.sql")).substitute(carry_hours=carry_hours)
            found |= {row[0] for row in duck.execute(query).fetchall()}
        return found


def _none_later(files: pa.Table, hours: list[datetime]) -> bool:
    """Whether no file has rows after the first of these hours, but of these hours."""
    latest = pc.max(files["max.bucket"]).as_py()
    if files["max.bucket"].null_count:
        return False
    number = (times.hour_of(latest) - hours[0]) // times.HOUR + 1
    return number <= 0 or (number <= len(hours) and hours[number - 1] == times.hour_of(latest))


def _record(
    site: Site,
    seen: Snapshot,
    hours: list[datetime],
    received: pa.Table,
    changes: pa.Table,
    declared: policy_changes.Declared,
    lease: Lease,
) -> None:
    """Note in the warehouse that these hours are rolled up. What they hold follows later: see `following.py`."""
    good, excluded = _sums(received, "count"), _sums(received, "excluded")
    with lease.begin() as connection:
        described.record(connection, hours, changes)
        connection.execute(
            update(dirty_hours)
            .where(dirty_hours.c.hour == bindparam("rolled_hour"))
            .values(
                rolled_marks=bindparam("marks_seen"),
                rolled_at=times.now(),
                rolled_version=site.lake.version("rollups"),
                policies=meanings.record(connection, declared),
                good_points=bindparam("good"),
                excluded_points=bindparam("bad"),
            ),
            [
                {
                    "rolled_hour": hour,
                    "marks_seen": seen.hours[hour].marks,
                    "good": good.get(hour, 0),
                    "bad": excluded.get(hour, 0),
                }
                for hour in hours
            ],
        )
        computed.record(site, connection, "rollups")
        computed.record(site, connection, "derived")


def _close_days(site: Site) -> None:
    """Mark an hour of each day that is over and whose percentiles are not known: they are made with its roll-ups."""
    daily = site.lake.matching("rollups", partitions={"granularity_s": [86400]})
    listed = zip(daily["path"].to_pylist(), daily["partition.event_day"].to_pylist(), strict=True)
    over = sorted({day for path, day in listed if is_open(path) and day < times.now().date()})
    if not over:
        return
    with site.warehouse.begin() as connection:
        for day in over:
            start = times.day_start(day)
            last = select(func.max(dirty_hours.c.hour)).where(
                dirty_hours.c.hour >= start, dirty_hours.c.hour < start + times.DAY
            )
            connection.execute(
                update(dirty_hours)
                .where(dirty_hours.c.hour == last.scalar_subquery())
                .values(rolled_marks=0, why="its day is over: percentiles of the day")
            )
