"""Reconciliation: what events, audits and polls say of each resource on a day, compared with its periods hour by hour.

It is the proof behind a bill. A witness speaks of a type of resource in an hour if it reported any resource of the
type; then each that exists in the whole hour should be among those. Resources on which all agree are counted; the
others are kept by day in the warehouse's table `reconciliation`, with the hours in question. So are resources of whose
beginning, change or end on the day no event told, with when it may have been.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import delete, exists, func, or_, select

from meterhouse import sql_files, times
from meterhouse.definitions.resources import load as load_resources
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.duck import arrow
from meterhouse.stores.warehouse_tables import (
    reconciliation,
    reconciliation_daily,
    resource_periods,
    runs,
    series,
)
from meterhouse.usage.evidence import month_of
from meterhouse.usage.periods import STEP
from meterhouse.verification import VERIFY

_HOUR: Final = 3_600_000_000

LEASE: Final = "reconciliation"

DAY: Final = "reconcile"
"""The step that `runs` lists for each day that was compared, so that exports of reports that read it are looked at."""

CHANGED_AT_ONCE: Final = 62
"""Maximum number of days of the past that are compared again in one run, the newest ones."""


@dataclass(frozen=True)
class Reconciled:
    """A day, compared.

    Attributes:
        day: the day, UTC.
        resources: how many resources were compared.
        hours: how many of their hours.
        agreed: in how many of these all witnesses that spoke agree.
        differing: rows of the warehouse's table `reconciliation`.
        seconds: how long it took.
    """

    day: date
    resources: int
    hours: int
    agreed: int
    differing: pa.Table
    seconds: float

    @property
    def share(self) -> float:
        """The share of hours on which the witnesses agree, 0 to 1; 1 if there are none."""
        return self.agreed / self.hours if self.hours else 1.0


def reconcile(site: Site, day: date) -> Reconciled:
    """Compare what the witnesses say of a day, and keep the result in the warehouse; a second run replaces it.

    Args:
        site: the site; its periods and roll-ups are taken as they are.
        day: UTC.

    Raises:
        AlreadyRunning: another process is comparing.
    """
    started, clock = times.now(), time.monotonic()
    found = _compared(site, day)
    doubts = _doubts(site, day)
    keys = zip(found["resource_type"].to_pylist(), found["resource_id"].to_pylist(), strict=True)
    doubtful = pa.array([key in doubts for key in keys], pa.bool_())
    agree = pc.equal(found["compared_hours"], found["agreed_hours"])
    differing = _rows(found.filter(pc.or_(pc.invert(agree), doubtful)), day, doubts)
    by_type = found.group_by("resource_type").aggregate(
        [("resource_id", "count"), ("compared_hours", "sum"), ("agreed_hours", "sum"), ("hours", "sum")]
    )
    differ = Counter(differing["resource_type"].to_pylist())
    types = by_type["resource_type"].to_pylist()
    daily = pa.table(
        {
            "day": pa.repeat(pa.scalar(day), by_type.num_rows),
            "resource_type": by_type["resource_type"],
            "resources": by_type["resource_id_count"],
            "hours": by_type["hours_sum"],
            "compared_hours": by_type["compared_hours_sum"],
            "agreed_hours": by_type["agreed_hours_sum"],
            "differing_resources": pa.array([differ[each] for each in types], pa.int64()),
        }
    )
    with site.warehouse.lease(LEASE, wait_seconds=60) as lease, lease.begin() as connection:
        for table, rows in ((reconciliation, differing), (reconciliation_daily, daily)):
            connection.execute(delete(table).where(table.c.day == day))
            bulk_insert(connection, table.name, rows)
    hours, agreed = (int(pc.sum(found[name]).as_py() or 0) for name in ("compared_hours", "agreed_hours"))
    site.warehouse.record_run(DAY, started, {"days": [day], "differing_resources": differing.num_rows})
    return Reconciled(day, found.num_rows, hours, agreed, differing, time.monotonic() - clock)


@dataclass(frozen=True)
class Agreement:
    """How far the witnesses of a day agree, as the warehouse keeps it.

    Attributes:
        day: UTC.
        resources: how many were compared.
        hours: how many of their hours.
        agreed: in how many of these all witnesses that spoke agree.
        differing: how many resources are listed.
    """

    day: date
    resources: int
    hours: int
    agreed: int
    differing: int

    @property
    def share(self) -> float:
        """The share of hours on which the witnesses agree, 0 to 1; 1 if there are none."""
        return self.agreed / self.hours if self.hours else 1.0


def agreement(site: Site, days: int) -> list[Agreement]:
    """How far the witnesses agree on the last compared days, newest first."""
    c = reconciliation_daily.c
    counted = (c.resources, c.compared_hours, c.agreed_hours, c.differing_resources)
    wanted = select(c.day, *(func.sum(each) for each in counted)).group_by(c.day).order_by(c.day.desc()).limit(days)
    with site.warehouse.read() as connection:
        return [Agreement(day, *map(int, sums)) for day, *sums in connection.execute(wanted)]


def changed_days(site: Site, before: date) -> list[date]:
    """The days before a day that periods were computed about since days were last compared, in order.

    Late events and audits change periods of the past, and the verdict of their days.
    """
    with site.warehouse.read() as connection:
        last = select(func.coalesce(func.max(runs.c.sequence), 0)).where(runs.c.step == LEASE).scalar_subquery()
        found = select(runs.c.figures).where(runs.c.step == STEP, runs.c.sequence > last)
        listed = [json.loads(figures).get("days", []) for figures in connection.execute(found).scalars()]
    days = {date.fromisoformat(day) for of_run in listed for day in of_run}
    return sorted(day for day in days if day < before)


def reconcile_changed(site: Site, day: date) -> Reconciled:
    """Compare a day, and those before it that changed since days were last compared, at most CHANGED_AT_ONCE.

    Raises:
        AlreadyRunning: another process is comparing.
    """
    started = times.now()
    earlier = changed_days(site, day)[-CHANGED_AT_ONCE:]
    for each in earlier:
        reconcile(site, each)
    done = reconcile(site, day)
    site.warehouse.record_run(LEASE, started, {"day": day, "earlier": earlier, "share_agreed": done.share})
    return done


def _compared(site: Site, day: date) -> pa.Table:
    start = times.day_start(day)
    end = min(start + times.DAY, max(times.hour_of(times.now()), start))  # of the running hour, not all has come
    resources = load_resources(site.settings.config_dir)
    hours = np.arange(times.micros(start), times.micros(end), _HOUR)
    silent = [(kind.type, state) for kind in resources.types for state in sorted(kind.polls.silent_in)]
    nowhere = [(kind.type, state) for kind in resources.types for state in sorted(kind.nowhere)]
    periods, lives = _periods(site, start, end)
    lake = site.lake
    months = {month_of(start), month_of(start + times.DAY), month_of(start + timedelta(days=31))}
    files = lake.files("evidence", partitions={"event_day": months})
    polled, known = _polled_series(site, start, end)
    with lake.connect() as duck:
        duck.register("hours", pa.table({"hour": pa.array(hours, pa.int64())}))
        duck.register("periods", periods)
        duck.register("lives", lives)
        duck.register("polled", polled)
        duck.register("silent", _texts(("resource_type", "state"), silent))
        duck.register("nowhere", _texts(("resource_type", "state"), nowhere))
        lake.view(duck, "evidence", files)
        rollups = lake.files("rollups", partitions={"granularity_s": [3600], "event_day": [day]})
        duck.register("known", known)
        lake.view(duck, "rollups", rollups)
        span = {"start": start, "end": end}
        duck.execute(sql_files.read("lake/reconciled_audits.sql"), {"verify": VERIFY, **span})
        duck.execute(sql_files.read("lake/reconciled_polls.sql"), span)
        return arrow(duck, sql_files.read("lake/reconciled_day.sql"))


def _periods(site: Site, start: datetime, end: datetime) -> tuple[pa.Table, pa.Table]:
    """The periods of the day, and the time for which events say that resources exist."""
    p = resource_periods.c
    columns = (
        *(p.resource_type, p.resource_id, p.project_id, p.state, p.started_at, p.ended_at),
        *(p.start_witness, p.end_witness, p.confirmed_by),
    )
    of_day = or_(p.ended_at.is_(None), p.ended_at > start)
    wanted = select(*columns).where(p.started_at < end, of_day, p.source != VERIFY)
    earlier = resource_periods.alias("earlier").c
    by_events = (
        select(p.resource_type, p.resource_id)
        .where(p.started_at < end, of_day, p.source != VERIFY)
        .where(
            exists().where(
                earlier.resource_type == p.resource_type,
                earlier.resource_id == p.resource_id,
                earlier.started_at < end,
                earlier.confirmed_by.like("%events%"),
            )
        )
    )
    with site.warehouse.read() as connection:
        rows = connection.execute(wanted.order_by(p.resource_type, p.resource_id, p.started_at)).all()
        known = {tuple(row) for row in connection.execute(by_events)}
    now = times.micros(min(end, times.now()))
    told: dict[tuple[str, str], tuple[int, int]] = {}
    kept = []
    for row in rows:
        key = (row.resource_type, row.resource_id)
        first = times.micros(row.started_at)
        last = now if row.ended_at is None else min(times.micros(row.ended_at), now)
        kept.append((row, first, last))
        if key in told:
            told[key] = (told[key][0], last if row.end_witness == "event" else now)
        elif key in known:
            # If something else ended it, events say on this day that it goes on.
            told[key] = (first, last if row.end_witness == "event" else now)
    periods = pa.table(
        {
            "resource_type": pa.array([row.resource_type for row, _, _ in kept], pa.string()),
            "resource_id": pa.array([row.resource_id for row, _, _ in kept], pa.string()),
            "project_id": pa.array([row.project_id for row, _, _ in kept], pa.string()),
            "state": pa.array([row.state for row, _, _ in kept], pa.string()),
            "started_us": pa.array([first for _, first, _ in kept], pa.int64()),
            "ended_us": pa.array([last for _, _, last in kept], pa.int64()),
            "by_events": pa.array(["events" in row.confirmed_by for row, _, _ in kept], pa.bool_()),
        }
    )
    keys = list(told)
    lives = pa.table(
        {
            "resource_type": pa.array([key[0] for key in keys], pa.string()),
            "resource_id": pa.array([key[1] for key in keys], pa.string()),
            "started_us": pa.array([told[key][0] for key in keys], pa.int64()),
            "ended_us": pa.array([told[key][1] for key in keys], pa.int64()),
        }
    )
    return periods, lives


def _polled_series(site: Site, start: datetime, end: datetime) -> tuple[pa.Table, pa.Table]:
    """The resources that are known by polls, and the series of meters of pollsters that have points about the day."""
    p, s = resource_periods.c, series.c
    resources = load_resources(site.settings.config_dir)
    # A notification's sample has the unit of its definition. A series in another unit is a pollster's.
    by_notifications = {(meter.name, meter.literals.get("unit")) for meter in site.definitions.meters.meters}
    with site.warehouse.read() as connection:
        meters = connection.execute(select(s.meter).distinct()).scalars().all()
        kinds = {meter: kind.type for meter in meters for kind in resources.types if kind.polls.measures(meter)}
        polled = connection.execute(
            select(p.resource_type, p.resource_id)
            .where(p.confirmed_by.like("%polls%"), p.started_at < end, or_(p.ended_at.is_(None), p.ended_at > start))
            .distinct()
        ).all()
        wanted = select(s.series_id, s.meter, s.unit, s.resource_id).where(
            s.meter.in_(list(kinds)),
            s.resource_id.is_not(None),
            s.source != VERIFY,
            s.first_point_at < end,
            s.last_point_at >= start - times.HOUR,
        )
        rows = connection.execute(wanted).all() if kinds else []
    return _texts(("resource_type", "resource_id"), polled), pa.table(
        {
            "series_id": pa.array([row.series_id for row in rows], pa.int64()),
            "resource_type": pa.array([kinds[row.meter] for row in rows], pa.string()),
            "resource_id": pa.array([row.resource_id for row in rows], pa.string()),
            "meter": pa.array([f"{row.meter} {row.unit}" for row in rows], pa.string()),
            "shared": pa.array(
                [not by_notifications.isdisjoint({(row.meter, row.unit), (row.meter, None)}) for row in rows],
                pa.bool_(),
            ),
        }
    )


def _texts(names: Sequence[str], rows: Sequence[Any]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table([pa.array(each, pa.string()) for each in columns], list(names))


def _doubts(site: Site, day: date) -> dict[tuple[str, str], list[str]]:
    """What of a day no event told, by resource: beginnings, changes and ends, and when they may have been."""
    start, end = times.day_start(day), times.day_start(day) + times.DAY
    p = resource_periods.c
    sides = (
        (p.started_at, p.start_reason, p.start_earliest, p.start_latest),
        (p.ended_at, p.end_reason, p.end_earliest, p.end_latest),
    )
    found: dict[tuple[str, str], list[str]] = {}
    with site.warehouse.read() as connection:
        for moment, reason, earliest, latest in sides:
            wanted = select(p.resource_type, p.resource_id, reason, earliest, latest).where(
                reason.is_not(None), moment >= start, moment < end, p.source != VERIFY
            )
            for type_, name, why, first, last in connection.execute(wanted.order_by(moment)).all():
                text = f"{why}, between {times.text(first)} and {times.text(last)}"
                listed = found.setdefault((type_, name), [])
                if text not in listed:
                    listed.append(text)
    return found


def _rows(found: pa.Table, day: date, doubts: Mapping[tuple[str, str], list[str]]) -> pa.Table:
    """Rows of `reconciliation`."""
    findings = []
    for row in found.to_pylist():
        parts = [
            f"{text} {_hours(row[name])}"
            for name, text in (
                ("without_event", "exists without an event in hours"),
                ("without_audit", "no audit in hours"),
                ("without_poll", "no sample in hours"),
                ("seen_only", "seen by a witness although it did not exist in hours"),
            )
            if row[name]
        ]
        parts += doubts.get((row["resource_type"], row["resource_id"]), [])
        findings.append("; ".join(parts))

    def hours(name: str) -> pa.Array:
        return pc.if_else(found[f"{name}s_spoke"], found[f"{name}_hours"].cast(pa.int64()), None)

    return pa.table(
        {
            "day": pa.repeat(pa.scalar(day), found.num_rows),
            "resource_type": found["resource_type"],
            "resource_id": found["resource_id"],
            "project_id": found["project_id"],
            "hours": found["hours"],
            "event_hours": hours("event"),
            "audit_hours": hours("audit"),
            "poll_hours": hours("poll"),
            "compared_hours": found["compared_hours"],
            "agreed_hours": found["agreed_hours"],
            "finding": pa.array(findings, pa.string()),
        }
    )


def _hours(numbers: Sequence[int]) -> str:
    """Hours of a day in words: `3, 5-8`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
