"""The quality step: judges the points of dirty event hours, and lists those that break a rule in `quarantine`."""

import json
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
from sqlalchemy import bindparam, delete, select, update

from meterhouse import by_day, computed, meanings, times
from meterhouse.catalog import Snapshot, snapshot_to_compute
from meterhouse.definitions.quality_rules import Rules
from meterhouse.progress import Progress, no_progress
from meterhouse.sample_quality.groups import group_hours
from meterhouse.sample_quality.judging import Judging, Nothing, by_rule
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_replace import replace_spans
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import dirty_hours, quality_daily, runs
from meterhouse.workers import Workers, worker_threads
from meterhouse.workers import opened as workers_of


@dataclass
class Judged:
    """What a quality run did. `flagged` has counts by rule; `days` has hours, points and excluded by event day."""

    hours: list[datetime] = field(default_factory=list)
    days: by_day.Days = field(default_factory=dict)
    points: int = 0
    excluded: int = 0
    flagged: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, hours: list[datetime], points: Mapping[datetime, int], flagged: pa.Table) -> None:
        """Count hours that were judged.

        Args:
            hours: which.
            points: how many distinct points each has.
            flagged: their rows of `quarantine`.
        """
        self.hours += hours
        excluded = Counter(flagged.filter(flagged["excluded"])["event_day"].to_pylist())
        for day, of_day in Counter(hour.date() for hour in hours).items():
            mine = sum(points.get(hour, 0) for hour in hours if hour.date() == day)
            by_day.add(self.days, day, hours=of_day, points=mine, excluded=excluded[day])
        self.points = by_day.total(self.days, "points")
        self.excluded = by_day.total(self.days, "excluded")
        for counted in flagged["reason_names"].combine_chunks().flatten().value_counts().to_pylist():
            self.flagged[counted["values"]] += counted["counts"]


def judge_hours(site: Site, only: set[datetime] | None = None, *, progress: Progress = no_progress) -> Judged:
    """Judge the dirty event hours, or those in `only`.

    Raises:
        AlreadyRunning: another process is judging.
        DefinitionError: the rules cannot be read; nothing was judged.
        Conflict: another process has taken the step over, because this one was paused.
    """
    done = Judged()
    started, clock = times.now(), time.monotonic()
    with workers_of(site) as workers, site.warehouse.lease("sample_quality") as lease:
        site.lake.fence(lease, "quarantine")
        computed.reconcile(site, "quarantine")
        _judge_dirty(site, only, done, lease, workers, progress)
        done.seconds = time.monotonic() - clock
        if done.hours:
            site.warehouse.record_run("sample_quality", started, {**vars(done), "hours": len(done.hours)})
    return done


@retried
def _judge_dirty(
    site: Site, only: set[datetime] | None, done: Judged, lease: Lease, workers: Workers, progress: Progress
) -> None:
    seen = snapshot_to_compute(site)
    hours = hours_to_judge(seen, site.settings.carry_hours, only)
    hours = [hour for hour in hours if hour not in done.hours]
    for group in group_hours(site, seen.version, hours):
        _judge_group(site, seen, group, done, lease, workers)
        progress(len(done.hours), len(hours))


def hours_to_judge(seen: Snapshot, carry_hours: int, only: set[datetime] | None = None) -> list[datetime]:
    """The hours of a snapshot that are not judged, and the judged ones whose verdicts may rest on such an hour.

    A counter's verdict depends on its previous point, at most `carry_hours` hours earlier. If the later hour is rolled
    up, the roll-up notices that this point has changed. These are hours that were judged and are not rolled up yet.

    Args:
        seen: dirty hours.
        carry_hours: how far back a counter's previous point is looked for.
        only: the unjudged hours that are wanted; default all.
    """
    unjudged = sorted(hour for hour, state in seen.hours.items() if state.unjudged and (only is None or hour in only))

    def follows_one(hour: datetime) -> bool:
        place = bisect_left(unjudged, hour)
        return place > 0 and hour - unjudged[place - 1] <= (carry_hours + 1) * times.HOUR

    return unjudged + [hour for hour, state in seen.hours.items() if not state.unjudged and follows_one(hour)]


def judged_last(site: Site) -> tuple[int, int, int]:
    """Of the last quality run: the points, those that were excluded, and those that broke a warning rule.

    A point that broke two warning rules counts twice.
    """
    query = select(runs.c.figures).where(runs.c.step == "sample_quality").order_by(runs.c.sequence.desc()).limit(1)
    with site.warehouse.read() as connection:
        found = json.loads(connection.execute(query).scalar() or "{}")
    warnings = {rule.name for rule in site.rules.rules if rule.severity == "warning"}
    warned = sum(count for rule, count in found.get("flagged", {}).items() if rule in warnings)
    return found.get("points", 0), found.get("excluded", 0), warned


def _judge_group(
    site: Site, seen: Snapshot, hours: list[datetime], done: Judged, lease: Lease, workers: Workers
) -> None:
    with worker_threads() as threads:
        judging = Judging(site, seen.version, hours, [*hours, *context_hours(seen, hours)], threads, workers)
        for _ in judging.passes(Nothing()):
            pass
        flagged = judging.flagged()
    store_flagged(site, seen, hours, flagged, judging.rules, lease)
    done.add(hours, judging.points_by_hour(), flagged)


def context_hours(seen: Snapshot, hours: Sequence[datetime]) -> list[datetime]:
    """The hours before spans of these that have to be read, to know the counters' previous points.

    Those that are rolled up need not be: the roll-ups have their last points.
    """
    before = [start - times.HOUR for start, _ in times.spans(hours)]
    return [hour for hour in before if hour in seen.hours and seen.hours[hour].unrolled]


def store_flagged(
    site: Site, seen: Snapshot, hours: list[datetime], flagged: pa.Table, rules: Rules, lease: Lease
) -> None:
    """Replace what `quarantine` has of these hours, and note that they are judged.

    Args:
        site: the site.
        seen: the snapshot whose marks count.
        hours: in order.
        flagged: their rows of `quarantine`.
        rules: by which they were judged.
        lease: of the step `sample_quality`.
    """
    replace_spans(site.lake, "quarantine", flagged, "timestamp", times.spans(hours), lease=lease)
    _record(site, seen, hours, by_rule(flagged, rules), rules, lease)


def _record(site: Site, seen: Snapshot, hours: list[datetime], daily: pa.Table, rules: Rules, lease: Lease) -> None:
    with lease.begin() as connection:
        connection.execute(
            delete(quality_daily).where(
                quality_daily.c.day == bindparam("judged_day"), quality_daily.c.hour == bindparam("judged_hour")
            ),
            [{"judged_day": hour.date(), "judged_hour": hour} for hour in hours],
        )
        bulk_insert(connection, "quality_daily", daily)
        connection.execute(
            update(dirty_hours)
            .where(dirty_hours.c.hour == bindparam("judged_hour"))
            .values(
                judged_marks=bindparam("marks_seen"),
                judged_at=times.now(),
                rules=meanings.record(connection, rules.meaning),
            ),
            [{"judged_hour": hour, "marks_seen": seen.hours[hour].marks} for hour in hours],
        )
        computed.record(site, connection, "quarantine")
