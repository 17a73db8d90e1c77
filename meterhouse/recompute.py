"""Backfill: recompute an asset over a span of the past, or what is stale of it. A killed backfill continues."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from meterhouse import times
from meterhouse.errors import AlreadyRunning, UnknownKeyword, UsageError
from meterhouse.progress import Progress, no_progress
from meterhouse.queries import reports

if TYPE_CHECKING:
    from pathlib import Path

    from meterhouse.site import Site

CONVERTED = ("samples", "events")
"""What notifications yield. Their spans are of arrival time."""

Computed = Literal["sample_quality", "rollups"]

COMPUTED = get_args(Computed)
"""What is computed by event hour."""

PERIODS = "resource_periods"
"""What is computed by month of event time."""

RECONCILIATION = "reconciliation"
"""What compares the witnesses of an event day."""

DEFINED = (*CONVERTED, *COMPUTED, PERIODS)
"""The assets that keep by what definitions, rules or policies they were made; see `stale`."""

WAIT_SECONDS = 60.0
"""How long to wait for a step that is running."""

CONTINUED_WITHIN = timedelta(days=7)
"""A backfill that was killed longer ago starts over."""

EXPORTED_WITHIN = timedelta(hours=1)
"""One of a report, whose figures may have changed since, starts over sooner."""


def assets(config_dir: "Path | str | None" = None) -> list[str]:
    """The names of the assets that can be recomputed; with a configuration folder, also of a site's own reports."""
    return [*DEFINED, "archive", RECONCILIATION, *reports.names(config_dir)]


def backfill(
    site: "Site",
    asset: str,
    start: datetime,
    end: datetime,
    *,
    why: str = "",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Recompute an asset over the half-open span [start, end), UTC: of arrival time for samples, events and `archive`.

    Samples and events are converted again from what was landed, by the definitions of now; the event hours that this
    changes become dirty. Recomputing quality recomputes the roll-ups that depend on it too. Periods of resources are
    made of whole months of notifications and roll-ups again, and so are those of all later months. If a backfill is
    killed, a second call with the same start continues it, and repeats nothing that is done.

    Returns:
        What it did, by the name of the figure.

    Raises:
        UnknownKeyword: the asset does not exist.
        UsageError: the span is empty.
        DefinitionError: the definitions cannot work; nothing was recomputed.
        AlreadyRunning: another process is doing this.
    """
    if asset not in (known := assets(site.settings.config_dir)):
        raise UnknownKeyword("asset", asset, known)
    if start >= end:
        raise UsageError("the span is empty", where="--from/--to", hint="Set --to to a time after --from")
    if asset in CONVERTED:
        return _backfill_converted(site, asset, start, end, progress)
    if asset in COMPUTED:
        return _backfill_computed(site, asset, start, end, why, progress)
    if asset == PERIODS:
        return _backfill_periods(site, start, end, progress)
    return _backfill_days(site, asset, start, end, progress)


def backfill_stale(
    site: "Site", asset: str | None = None, *, progress: Callable[[str], Progress] = lambda name: no_progress
) -> dict[str, dict[str, Any]]:
    """Bring what is stale up to date, in the order of the flow; what is not stale stays. See `stale`.

    If it is killed, what is left is still stale, and a second call does only that.

    Args:
        site: the site.
        asset: one of DEFINED, or a report, whose stale exports are made again; default all of them, and then also the
            hours that are dirty for another reason.
        progress: by asset, gets the hours that are done and how many there are.

    Returns:
        Asset → what was done, as of `backfill`; assets of which nothing was stale are left out.

    Raises:
        UnknownKeyword: the asset does not exist, or is neither one of DEFINED nor a report.
        DefinitionError: the definitions cannot work; nothing was recomputed.
        AlreadyRunning: another process is doing this.
    """
    from meterhouse.archive.seal import seal_again
    from meterhouse.catalog import mark_for_recompute, snapshot
    from meterhouse.queries.report_exports import export_stale
    from meterhouse.rollups.policy_changes import outdated
    from meterhouse.stale import RULES_CHANGED, stale_hours

    exported = reports.names(site.settings.config_dir)
    if asset is not None and asset not in (*DEFINED, *exported):
        raise UnknownKeyword("asset", asset, [*DEFINED, *exported])
    done: dict[str, dict[str, Any]] = {}
    for name in CONVERTED:
        if asset in (None, name) and (hours := stale_hours(site, name)):
            done[name] = convert_again(site, name, hours, progress=progress(name))
        elif asset in (None, name):
            seal_again(site, name)  # days that a killed backfill has left
    if asset in (None, "sample_quality") and (judged := set(stale_hours(site, "sample_quality"))):
        mark_for_recompute(site, "sample_quality", judged, RULES_CHANGED)
        done["sample_quality"] = _rolled_up(site, judged, progress("sample_quality"))
    if asset in (None, "rollups"):
        rolled, left = Counter[str](), outdated(site)
        while left or (asset is None and snapshot(site).hours):
            figures = _rolled_up(site, None, progress("rollups"))
            rolled.update(figures)
            before, left = left, outdated(site)
            if not figures["hours"] and left == before:
                break
        if rolled:
            done["rollups"] = dict(rolled)
    if asset in (None, PERIODS) and (months := stale_hours(site, PERIODS)):
        starts = [month.date() for month in months]
        done[PERIODS] = _reread(site, starts, starts, lambda month: None, progress(PERIODS))
    if asset not in DEFINED:
        for each in export_stale(site, asset, progress=progress("reports")):
            by = "months" if len(each.partition) == len("2026-11") else "days"
            figures = done.setdefault(each.report, {by: 0})
            figures[by] += 1
    return done


def convert_again(
    site: "Site",
    table: str,
    hours: Iterable[datetime],
    *,
    reached: Callable[[datetime], None] = lambda hour: None,
    progress: Progress = no_progress,
) -> dict[str, int]:
    """Convert arrival hours of `samples` or `events` again, the newest first, and mark the event hours that changed.

    Days that were sealed are sealed again.

    Args:
        site: the site.
        table: `samples` or `events`.
        hours: arrival hours.
        reached: called with each hour that is done.
        progress: gets the hours that are done, and how many there are.

    Raises:
        AlreadyRunning: another process is converting hours again.
        DefinitionError: the definitions cannot work; nothing was converted.
        MeterhouseError: an hour cannot be converted; those before it are done.
    """
    from meterhouse.archive.seal import seal_again
    from meterhouse.catalog import catalog
    from meterhouse.conversion.redefine import LEASE, Redefinition
    from meterhouse.conversion.step import convert, unconverted

    wanted = sorted(set(hours), reverse=True)
    done, started = Counter(hours=0, changed_hours=0, notifications=0, rows=0, errors=0), times.now()
    event_hours = set[datetime]()
    with site.warehouse.lease(LEASE) as lease:
        site.lake.fence(lease, table)
        work = Redefinition(site, table, lease)
        if unconverted(site):
            with suppress(AlreadyRunning):
                convert(site)

        def end_day(day: date) -> None:
            with suppress(AlreadyRunning):  # who runs it follows these samples too
                catalog(site, wait_seconds=WAIT_SECONDS)
            seal_again(site, table, [day])

        progress(0, len(wanted))
        changed = False
        for number, hour in enumerate(wanted, 1):
            found = work.convert(times.arrival_hour(hour))
            done.update(hours=1, changed_hours=found.changed, notifications=found.notifications)
            done.update(rows=found.rows, errors=found.errors)
            event_hours |= found.event_hours
            changed |= found.changed
            reached(hour)
            if changed and (number == len(wanted) or wanted[number].date() != hour.date()):
                end_day(hour.date())
                changed = False
            progress(number, len(wanted))
        seal_again(site, table)  # days that a killed backfill has left
        figures = {**done, "event_hours": len(event_hours)}
        site.warehouse.record_run(f"{LEASE} {table}", started, figures)
    return figures


def arrival_hours(site: "Site", start: datetime, end: datetime) -> list[datetime]:
    """The arrival hours with notifications that overlap the half-open span [start, end), in order."""
    found = set(site.lake.actions("notifications")["partition.arrival_hour"].to_pylist())
    hours = [times.parse(f"{hour}:00") for hour in found]
    return sorted(hour for hour in hours if times.hour_of(start) <= hour < end)


def _backfill_converted(site: "Site", asset: str, start: datetime, end: datetime, progress: Progress) -> dict[str, Any]:
    from meterhouse.conversion.step import Work

    hours = arrival_hours(site, start, end)
    record = _Record(site, asset, start, end, Work.of(site).meanings[asset].fingerprint)
    left = record.left(hours)
    done = convert_again(site, asset, left, reached=record.reach, progress=progress)
    record.end()
    return done


def _backfill_computed(
    site: "Site", asset: str, start: datetime, end: datetime, why: str, progress: Progress
) -> dict[str, Any]:
    with marked(site, cast(Computed, asset), start, end, why) as hours:
        done = _rolled_up(site, hours, progress)
    return {**done, "hours": len(hours)}


@contextmanager
def marked(site: "Site", asset: Computed, start: datetime, end: datetime, why: str) -> Iterator[set[datetime]]:
    """Mark the event hours with points of a half-open span for the block, which recomputes the dirty ones.

    If the block is killed or fails, a second call with the same start marks no hour again that it has marked.
    """
    from meterhouse.catalog import hours_with_points, mark_for_recompute, snapshot
    from meterhouse.rollups.policy_changes import Declared

    hours = hours_with_points(site, start, end)
    by = f"{site.rules.meaning.fingerprint} {Declared.of(site).fingerprint}"
    record = _Record(site, asset, start, end, by)
    known = record.covered(hours)
    if not known & snapshot(site).hours.keys():
        known = set()  # others have done the rest of it
    mark_for_recompute(site, asset, hours - known, why)
    record.begin()
    yield hours
    record.end()


def _rolled_up(site: "Site", hours: set[datetime] | None, progress: Progress) -> dict[str, Any]:
    from meterhouse.rollups.following import follow, keep_following
    from meterhouse.rollups.step import roll_up

    rolled = roll_up(site, hours, progress=keep_following(site, progress=progress))
    follow(site)
    return {
        "hours": len(rolled.hours),
        "points": rolled.points,
        "excluded": rolled.judged.excluded,
        "rollups": rolled.rows,
    }


def _backfill_periods(site: "Site", start: datetime, end: datetime, progress: Progress) -> dict[str, Any]:
    from meterhouse.usage.made_by import meaning_now

    months = _months(start, end)
    record = _Record(site, PERIODS, start, end, meaning_now(site).fingerprint)
    left = [each.date() for each in record.left(map(times.day_start, months))]
    done = _reread(site, months, left, lambda month: record.reach(times.day_start(month)), progress)
    record.end()
    return done


def _reread(
    site: "Site", months: list[date], left: list[date], reached: Callable[[date], None], progress: Progress
) -> dict[str, Any]:
    from meterhouse.usage.rereading import reread

    done = reread(site, months, left=left, reached=reached, wait_seconds=WAIT_SECONDS, progress=progress)
    computed = vars(done.computed)
    return {
        **{name: computed[name] for name in ("months", "resources", "periods", "changed", "faults")},
        **{name: vars(done)[name] for name in ("notifications", "evidence", "kept", "unreadable", "seconds")},
    }


def _months(start: datetime, end: datetime) -> list[date]:
    """The first days of the months that a half-open span overlaps, up to the present one."""
    last = min(end - timedelta(microseconds=1), times.now()).date()
    months = [start.date().replace(day=1)]
    while (following := (months[-1].replace(day=28) + timedelta(days=4)).replace(day=1)) <= last:
        months.append(following)
    return months


def _backfill_days(site: "Site", asset: str, start: datetime, end: datetime, progress: Progress) -> dict[str, Any]:
    from meterhouse.archive.seal import archive
    from meterhouse.queries import report_exports
    from meterhouse.usage.reconciliation import reconcile

    if asset == "archive":
        by, days = "day", _arrival_days(site, start, end)
    elif asset == RECONCILIATION:
        until = min(end, times.now())
        by, days = "day", sorted({hour.date() for hour in times.hours_between(times.hour_of(start), until)})
    else:
        by, days = _to_export(site, asset, start, end)
    record = _Record(site, asset, start, end, "", EXPORTED_WITHIN)
    left = record.left(map(times.day_start, days))
    rows = 0
    for number, day in enumerate(left, 1):
        if asset == "archive":
            rows += sum(sealed.rows for sealed in archive(site, day.date()).sealed)
        elif asset == RECONCILIATION:
            rows += reconcile(site, day.date()).differing.num_rows
        else:
            rows += report_exports.export(site, asset, day.date()).rows.num_rows
        record.reach(day)
        progress(number, len(left))
    record.end()
    return {f"{by}s": len(left), "rows": rows}


def _to_export(site: "Site", name: str, start: datetime, end: datetime) -> tuple[str, list[date]]:
    """By what a report is exported, and the days of the span, or first days of months, on which there was anything."""
    from sqlalchemy import func, select

    from meterhouse.catalog import hours_with_points
    from meterhouse.queries import reports
    from meterhouse.stores.warehouse_tables import resource_periods

    by = reports.report(site, name).partition
    days = {hour.date() for hour in hours_with_points(site, start, end)}
    began = select(func.min(resource_periods.c.started_at)).where(
        resource_periods.c.started_at < end,
        (resource_periods.c.ended_at > start) | resource_periods.c.ended_at.is_(None),
    )
    with site.warehouse.read() as connection:
        first = connection.execute(began).scalar()
    if first is not None:
        hours = times.hours_between(max(first, start), min(end, times.now()))
        days |= {hour.date() for hour in hours}
    return by, sorted({day.replace(day=1) for day in days} if by == "month" else days)


def _arrival_days(site: "Site", start: datetime, end: datetime) -> list[date]:
    """The days of the span on which messages arrived."""
    from meterhouse.archive.hours import RECIPES

    found = {
        date.fromisoformat(hour[:10])
        for table in RECIPES
        for hour in site.lake.actions(table)["partition.arrival_hour"].to_pylist()
        if times.arrival_hour(start)[:10] <= hour[:10] and times.parse(f"{hour}:00") < end
    }
    return sorted(found)


class _Record:
    """How far a backfill is, in the warehouse's table `backfills`.

    Partitions are done from the newest to the oldest: those from `reached` up to `end_at` are. One with a later end, as
    that of a command without `--to`, has newer partitions to do first.

    Args:
        site: the site.
        asset: what is recomputed.
        start: from when.
        end: until when.
        meaning: by what; a backfill by something else starts over.
        within: how long ago a backfill may have been killed to be continued.
    """

    def __init__(
        self,
        site: "Site",
        asset: str,
        start: datetime,
        end: datetime,
        meaning: str,
        within: timedelta = CONTINUED_WITHIN,
    ) -> None:
        from sqlalchemy import select

        from meterhouse.stores.warehouse_tables import backfills

        self._site, self._table = site, backfills
        self._key = (backfills.c.asset == asset, backfills.c.start_at == start)
        self._values = {"asset": asset, "start_at": start, "end_at": end, "meaning": meaning}
        with site.warehouse.read() as connection:
            row = connection.execute(select(backfills).where(*self._key)).first()
        if row is not None and (row.meaning != meaning or row.worked_at < times.now() - within):
            row = None
        self._end_before: datetime | None = None if row is None else row.end_at
        self._reached: datetime | None = None if row is None else row.reached

    def left(self, partitions: Iterable[datetime]) -> list[datetime]:
        """The partitions that are not done, the newest first."""
        found = sorted(partitions, reverse=True)
        if self._end_before is None or self._reached is None:
            return found
        return [each for each in found if not self._reached <= each < self._end_before]

    def covered(self, partitions: Iterable[datetime]) -> set[datetime]:
        """The partitions of the backfill that is continued."""
        return {each for each in partitions if self._end_before is not None and each < self._end_before}

    def begin(self) -> None:
        """Record that it has begun."""
        self._store(None)

    def reach(self, partition: datetime) -> None:
        """Record that a partition is done, and so are all newer ones."""
        if self._end_before is None or self._reached is None or partition < self._reached:
            self._store(partition)

    def end(self) -> None:
        """Record that all is done."""
        from sqlalchemy import delete

        with self._site.warehouse.begin() as connection:
            connection.execute(delete(self._table).where(*self._key))

    def _store(self, reached: datetime | None) -> None:
        from sqlalchemy import delete, insert

        with self._site.warehouse.begin() as connection:
            connection.execute(delete(self._table).where(*self._key))
            connection.execute(insert(self._table).values(**self._values, reached=reached, worked_at=times.now()))
