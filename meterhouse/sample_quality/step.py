"""The quality step: judges the points of dirty event hours, and lists those that break a rule in `quarantine`."""

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from string import Template

import pyarrow as pa
from sqlalchemy import and_, delete, or_, update

from meterhouse import computed, sql_files, times
from meterhouse.catalog import Snapshot, snapshot_to_compute
from meterhouse.progress import Progress, no_progress
from meterhouse.sample_quality.judge import judge, reason_names
from meterhouse.sample_quality.points import replace_spans, view_carried, view_points, within
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.duck import arrow, one
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.warehouse_tables import dirty_hours, quality_daily

POINTS_AT_ONCE = 20_000_000
"""Hours are processed together up to about this many points, which limits the memory of one pass."""


@dataclass
class Judged:
    """What a quality run did. `flagged` has counts by rule."""

    hours: list[datetime] = field(default_factory=list)
    points: int = 0
    excluded: int = 0
    flagged: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def judge_hours(site: Site, only: set[datetime] | None = None, *, progress: Progress = no_progress) -> Judged:
    """Judge the dirty event hours, or those in `only`.

    Raises:
        AlreadyRunning: another process is judging.
        DefinitionError: the rules cannot be read; nothing was judged.
    """
    done = Judged()
    started, clock = times.now(), time.monotonic()
    with site.warehouse.lease("sample_quality"):
        computed.reconcile(site, "quarantine")
        _judge_dirty(site, only, done, progress)
        done.seconds = time.monotonic() - clock
        if done.hours:
            site.warehouse.record_run("sample_quality", started, {**vars(done), "hours": len(done.hours)})
    return done


@retried
def _judge_dirty(site: Site, only: set[datetime] | None, done: Judged, progress: Progress) -> None:
    seen = snapshot_to_compute(site)
    hours = [hour for hour, state in seen.hours.items() if state.unjudged and (only is None or hour in only)]
    judge_snapshot(site, seen, [hour for hour in hours if hour not in done.hours], done, progress)


def judge_snapshot(
    site: Site, seen: Snapshot, hours: list[datetime], done: Judged, progress: Progress = no_progress
) -> None:
    """Judge these hours of a snapshot. The caller holds the lease `sample_quality`."""
    for group in group_hours(site, seen.version, hours):
        _judge_group(site, seen, group, done)
        progress(len(done.hours), len(hours))


def group_hours(site: Site, version: int, hours: list[datetime]) -> list[list[datetime]]:
    """The hours in order, in groups of about POINTS_AT_ONCE points. The hours of a day are in one group."""
    actions = site.lake.actions("samples", version).select(["num_records", "min.timestamp", "max.timestamp"])
    files = actions.to_pylist() if hours else []
    days: dict[object, list[datetime]] = {}
    for hour in sorted(hours):
        days.setdefault(hour.date(), []).append(hour)
    groups: list[list[datetime]] = []
    points = 0
    for members in days.values():
        start, end = members[0], members[-1] + times.HOUR
        rows = sum(int(f["num_records"]) for f in files if f["min.timestamp"] < end and f["max.timestamp"] >= start)
        if groups and points + rows <= POINTS_AT_ONCE:
            groups[-1].extend(members)
            points += rows
        else:
            groups.append(members)
            points = rows
    return groups


def _judge_group(site: Site, seen: Snapshot, hours: list[datetime], done: Judged) -> None:
    spans = times.spans(hours)
    wanted = within("v.timestamp", spans)
    rules = site.rules
    # One more hour before each span, so that a counter's previous point is known even if it is not rolled up yet.
    with_context = times.spans([*hours, *(start - times.HOUR for start, _ in spans)])
    with site.lake.connect() as duck:
        view_points(duck, site.lake, seen.version, with_context)
        view_carried(duck, site.lake, with_context, site.settings.carry_hours)
        judge(duck, rules, site.settings.carry_hours)
        query = Template(sql_files.read("lake/quarantine.sql")).substitute(
            reason_names=reason_names(rules, "v.bits"), critical=rules.critical_bits, wanted=wanted
        )
        flagged = arrow(duck, query)
        (points,) = one(duck, f"SELECT count(*) FROM verdicts AS v WHERE {wanted}")
        duck.register("flagged", flagged)
        daily = arrow(
            duck,
            "SELECT timestamp::DATE AS day, date_trunc('hour', timestamp) AS hour, meter, rule, count(*) AS flagged "
            "FROM (SELECT timestamp, meter, unnest(reason_names) AS rule FROM flagged) GROUP BY ALL",
        )
    replace_spans(site.lake, "quarantine", flagged, "timestamp", spans)
    _record(site, seen, spans, hours, daily)
    done.hours += hours
    done.points += points
    done.excluded += sum(flagged["excluded"].to_pylist())
    for rule, count in zip(daily["rule"].to_pylist(), daily["flagged"].to_pylist(), strict=True):
        done.flagged[rule] += count


def _record(
    site: Site, seen: Snapshot, spans: list[tuple[datetime, datetime]], hours: list[datetime], daily: pa.Table
) -> None:
    severities = {rule.name: rule.severity for rule in site.rules.rules}
    daily = daily.append_column(
        "severity", pa.array([severities[name] for name in daily["rule"].to_pylist()], pa.string())
    )
    in_spans = [and_(quality_daily.c.hour >= start, quality_daily.c.hour < end) for start, end in spans]
    with site.warehouse.begin() as connection:
        connection.execute(delete(quality_daily).where(or_(*in_spans)))
        bulk_insert(connection, "quality_daily", daily)
        for hour in hours:
            state = seen.hours.get(hour)
            if state is not None:
                connection.execute(
                    update(dirty_hours)
                    .where(dirty_hours.c.hour == hour)
                    .values(judged_marks=state.marks, judged_at=times.now())
                )
        computed.record(site, connection, "quarantine")
