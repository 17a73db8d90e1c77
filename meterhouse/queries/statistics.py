"""Statistics of a meter's good points, by period, group, unit and type, as Ceilometer's v2 API has them.

Points in different units are never put together, nor are points of different types: the mean of a gauge and a counter
says nothing. Periods without points are left out.

The figures come from roll-ups where these say it exactly, and from points that are judged as they are read for the
rest, see `planner.py`. What roll-ups cannot say is computed from points: percentiles of anything but a bucket of one
series, and a standard deviation that their sums of squares have too few digits for.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from meterhouse import times
from meterhouse.errors import UsageError
from meterhouse.filters import SERIES, Condition, all_of
from meterhouse.queries.aggregates import checked_aggregates, checked_groups
from meterhouse.queries.answers import Answers, answers, percentiles_of
from meterhouse.queries.cells import Cells, of_points
from meterhouse.queries.meters import meter_span
from meterhouse.queries.own_metadata import own_metadata
from meterhouse.queries.periods import Fixed, Periods, calendar
from meterhouse.queries.planner import NO_PAIRS, Pairs, Plan, all_from_points, fresh_samples, plan, unrolled
from meterhouse.queries.point_cells import PointsRead, good_points
from meterhouse.queries.rolled_cells import Read, rolled_cells
from meterhouse.queries.selection import Selection, asks_for_metadata, select_series
from meterhouse.queries.statistics_rows import NO_ROWS, StatisticsRows, instants
from meterhouse.rollups.quantiles import quantiles
from meterhouse.sample_quality.series_table import DELTA, Flags, Floats, Ints
from meterhouse.sample_quality.verdicts import HOUR, Good
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried

MAX_VOLUMES = 100_000_000
"""Maximum number of points of which percentiles are computed at once: one takes 16 bytes."""

_EXCLUDED = "excluded points are asked for"
_COARSE = "a series has too few points for the finer tier"
_LOST = "sums of squares have lost digits"

_Volumes = tuple[Ints, Ints, Floats]
"""Groups, numbers of periods, and volumes of points."""

_NO_VOLUMES = (np.zeros(0, np.int64), np.zeros(0))


@dataclass
class Question:
    """What is asked of a meter.

    Attributes:
        scope: whose points.
        meter: its name.
        query: conditions on SERIES; all of them have to hold. Metadata is that of the resource at the time.
        period: length of a period in seconds, 0 for one period of all, or one of periods.CALENDAR.
        timezone: IANA name of the time zone whose calendar counts.
        anchor: a start of a period of a fixed length; default the start of the question, or else the first point.
        groupby: columns of GROUPS, or `metadata.KEY`: what came with the samples.
        aggregate: which of AGGREGATES and percentiles (`p95`) to give; default USUAL.
        start, end: half-open span of event time, UTC; default that of the meter's points.
        own_metadata: metadata is what came with each sample, also in hours that are not rolled up; if none came, none.
        include_excluded: count the points too that the quality rules exclude. If a volume is infinite, not a number or
            beyond LARGEST_VOLUME, the point counts in `count`, and no other aggregate is computed with it.
    """

    scope: Scope
    meter: str
    query: Sequence[Condition] = ()
    period: int | str = 0
    timezone: str = "UTC"
    anchor: datetime | None = None
    groupby: Sequence[str] = ()
    aggregate: Sequence[str] = ()
    start: datetime | None = None
    end: datetime | None = None
    own_metadata: bool = False
    include_excluded: bool = False


@dataclass
class Explained:
    """Where an answer came from.

    Attributes:
        rolled: what was read of roll-ups, by granularity.
        points: what was read of points.
        why: how many hours were read from points for which reason.
        seconds: how long it took.
    """

    rolled: list[Read] = field(default_factory=list)
    points: PointsRead = field(default_factory=PointsRead)
    why: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def rows(self) -> list[dict[str, Any]]:
        """A mapping for each source: source, rows, files and why."""
        found: dict[int, Read] = {}
        for each in self.rolled:
            known = found.setdefault(each.seconds, Read(each.seconds))
            known.rows += each.rows
            known.files += each.files
        listed: list[dict[str, Any]] = [
            {"source": f"roll-ups of {_length(seconds)}", "rows": each.rows, "files": each.files, "why": None}
            for seconds, each in sorted(found.items(), reverse=True)
            if each.files
        ]
        if self.points.files or self.why:
            why = "; ".join(f"{count} hour{'s' * (count != 1)}: {reason}" for reason, count in self.why.items())
            listed.append(
                {"source": "points", "rows": self.points.points, "files": self.points.files, "why": why or None}
            )
        return listed


def _length(seconds: int) -> str:
    for name, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {name}{'s' * (seconds != length)}"
    return f"{seconds} seconds"


def statistics(site: Site, scope: Scope, meter: str, **asked: Any) -> list[dict[str, Any]]:
    """Statistics of a meter; the keywords are the attributes of `Question`.

    Returns:
        One mapping a period, group, unit and type: the aggregates, unit, type, period (s), period_start, period_end,
        duration (s), duration_start, duration_end, groupby. Times are aware, UTC. `rate` is the increase a second of
        the part of the period that lies in the span.

    Raises:
        UnknownName: no such meter; names near misses.
        UnknownKeyword: no such group, aggregate or period.
        UsageError: the question cannot be answered, such as a negative period or a span that ends before it starts.
    """
    return explained(site, Question(scope, meter, **asked))[0].rows()


@retried
def explained(site: Site, asked: Question) -> tuple[StatisticsRows, Explained]:
    """As `statistics`, in columns, and where the answer came from."""
    clock = time.monotonic()
    rows, found = _Asked(site, asked).answered()
    found.seconds = time.monotonic() - clock
    return rows, found


class _Asked:
    """A question that is being answered."""

    def __init__(self, site: Site, asked: Question) -> None:
        self._site, self._asked = site, asked
        self._aggregates = checked_aggregates(asked.aggregate)
        self._groupby = checked_groups(asked.groupby)
        self._percentiles = percentiles_of(self._aggregates)
        if isinstance(asked.period, int) and asked.period < 0:
            raise UsageError(f"the period is {asked.period} seconds", hint="Give 0 or more")
        if asked.start is not None and asked.end is not None and asked.start > asked.end:
            raise UsageError("the span ends before it starts", hint="Give a --to that is after --from")
        if asked.include_excluded and {"increase", "rate"} & set(self._aggregates):
            raise UsageError("increase and rate are of good points only", hint="Leave out --include-excluded")
        self._version = site.lake.version("samples")
        self._fresh = fresh_samples(site, self._version, asked.meter)
        first, last = (times.micros(each) for each in meter_span(site, asked.scope, asked.meter))
        if self._fresh.span is not None:
            first, last = min(first, self._fresh.span[0]), max(last, self._fresh.span[1])
        self._first = first if asked.start is None else times.micros(asked.start)
        self._last = last + 1 if asked.end is None else times.micros(asked.end)
        self._read_first, self._read_last = self._first, self._last
        if self._fresh.hours is not None:  # then no other hour has points
            self._read_first = max(self._first, first // HOUR * HOUR)
            self._read_last = min(self._last, (last // HOUR + 1) * HOUR)
        self._start, self._end = instants(np.array([self._first, self._last]))
        self.explained = Explained()
        self._volumes: list[_Volumes] = []
        self._of_rows = 0

    def answered(self) -> tuple[StatisticsRows, Explained]:
        if self._read_first >= self._read_last:
            return NO_ROWS, self.explained
        self._selection = self._selected()
        if not len(self._selection):
            return NO_ROWS, self.explained
        periods = self._periods()
        if periods is None:
            return NO_ROWS, self.explained
        self._plan = self._planned(periods)
        self.explained.why = dict(self._plan.why)
        found = self._found(periods)
        return self._rows(found, periods), self.explained

    def _selected(self) -> Selection:
        asked = self._asked
        condition = all_of(asked.scope.within(asked.query, SERIES))
        own, hours = None, np.zeros(0, np.int64)
        if asked.own_metadata and asks_for_metadata(self._groupby, condition):
            hours = self._unrolled()
            own = partial(own_metadata, self._site, asked.meter, hours=hours, version=self._version)
        return select_series(
            self._site,
            asked.meter,
            self._groupby,
            condition,
            own=own,
            fresh=self._fresh.series,
            keep=not len(hours),
        )

    def _unrolled(self) -> Ints:
        """The hours of the question whose samples may have other metadata than roll-ups know."""
        hours = np.arange(self._read_first // HOUR, -(-self._read_last // HOUR))
        if self._asked.include_excluded:  # roll-ups know the metadata of good points alone
            return hours
        changed = unrolled(self._site, self._asked.meter, self._read_first, self._read_last, self._fresh)
        return hours if changed is None else np.intersect1d(hours, changed)

    def _periods(self) -> Periods | None:
        """The periods; None if there are no points at which they could start."""
        period = self._asked.period
        if isinstance(period, str):
            return calendar(period, self._asked.timezone, self._start, self._end)
        whole = Fixed(self._first, self._last - self._first)
        if not period:
            return whole
        anchor = self._asked.anchor or self._asked.start
        if anchor is not None:
            return Fixed(times.micros(anchor), period * 1_000_000)
        cells, _ = self._cells(self._planned(whole), whole, ["count"], [])
        return Fixed(int(cells.first_at.min()), period * 1_000_000) if len(cells) else None

    def _planned(self, periods: Periods) -> Plan:
        why = _EXCLUDED if self._asked.include_excluded else ""
        if {"first", "last"} & set(self._aggregates) and (self._selection.table.kinds == DELTA).any():
            why = why or "roll-ups keep no first and last of deltas"
        return plan(
            self._site,
            self._asked.meter,
            self._read_first,
            self._read_last,
            periods,
            self._selection,
            self._fresh,
            increases=bool({"increase", "rate"} & set(self._aggregates)),
            why=why,
        )

    def _cells(
        self, planned: Plan, periods: Periods, aggregates: Sequence[str], percentiles: Sequence[float]
    ) -> tuple[Cells, dict[float, Floats]]:
        """The cells of a plan, and the percentiles of each, NaN where they are not known."""
        rolled = rolled_cells(self._site, self._asked.meter, planned, self._selection, periods, aggregates, percentiles)
        self.explained.rolled += rolled.read
        if len(rolled.lacking.number):
            self.explained.why[_COARSE] = len(np.unique(rolled.lacking.number))
        pairs = Pairs(
            np.concatenate([planned.changed.place, rolled.lacking.place]),
            np.concatenate([planned.changed.number, rolled.lacking.number]),
        )
        parts = [rolled.cells]
        for good in self._good(planned, pairs, aggregates):
            parts.append(of_points(good, self._selection, periods))
            if percentiles:
                self._volumes.append(self._volumes_of(good, periods))
                _check_volumes(sum(len(each[0]) for each in self._volumes))
        cells = Cells.together(parts)
        self._of_rows = len(rolled.cells)
        unknown = np.full(len(cells) - len(rolled.cells), np.nan)
        return cells, {number: np.concatenate([part, unknown]) for number, part in rolled.percentiles.items()}

    def _good(self, planned: Plan, pairs: Pairs, aggregates: Sequence[str]) -> Iterator[Good]:
        return good_points(
            self._site,
            self._asked.meter,
            self._version,
            planned,
            pairs,
            self._selection,
            self.explained.points,
            increases=bool({"increase", "rate"} & set(aggregates)),
            everything=self._asked.include_excluded,
        )

    def _found(self, periods: Periods) -> Answers:
        cells, known = self._cells(self._plan, periods, self._aggregates, list(self._percentiles.values()))
        found = answers(cells, self._selection, self._aggregates)
        if found.doubtful.any():
            at, again = self._from_points(found, found.doubtful, periods, ["stddev"], _LOST)
            found.figures["stddev"][at] = again.figures["stddev"]
        if self._percentiles:
            self._add_percentiles(found, cells, known, periods)
        return found

    def _from_points(
        self, found: Answers, which: Flags, periods: Periods, aggregates: Sequence[str], why: str
    ) -> tuple[Ints, Answers]:
        """Some of the answers again, from points: their places, and they."""
        planned = self._only(found, which, periods, why)
        cells = Cells.together([of_points(g, self._selection, periods) for g in self._good(planned, NO_PAIRS, [])])
        again = answers(cells, self._selection, aggregates)
        at, there = found.at(again.group, again.period)
        mine = there & which[at]
        kept = {name: column[mine] for name, column in again.figures.items()}
        return at[mine], replace(again, figures=kept)

    def _only(self, found: Answers, which: Flags, periods: Periods, why: str) -> Plan:
        """A plan that reads the hours of some answers from points."""
        wanted = np.unique(found.period[which])
        hours = np.arange(self._read_first // HOUR, -(-self._read_last // HOUR))
        starts = np.maximum(hours * HOUR, self._read_first)
        ends = np.minimum((hours + 1) * HOUR, self._read_last) - 1
        least, most = periods.numbers(starts), periods.numbers(ends)
        # The next wanted period that is not before the hour's first one is not after its last one.
        after = np.minimum(np.searchsorted(wanted, least), len(wanted) - 1)
        mine = hours[(wanted[after] >= least) & (wanted[after] <= most)]
        self.explained.why[why] = len(mine)
        return all_from_points(self._read_first, self._read_last, mine, mine[:0], why)

    def _add_percentiles(self, found: Answers, cells: Cells, known: dict[float, Floats], periods: Periods) -> None:
        """Add the percentiles: of rows where an answer is one row, else of points."""
        at, _ = found.at(cells.group, cells.period)
        alone = np.bincount(at, minlength=len(found)) == 1
        for name, number in self._percentiles.items():
            figures = np.full(len(found), np.nan)
            figures[at] = known[number]
            figures[~alone] = np.nan
            found.figures[name] = figures
        unknown = np.logical_or.reduce([np.isnan(found.figures[name]) for name in self._percentiles])
        of_rows = unknown & (np.bincount(at[: self._of_rows], minlength=len(found)) > 0)
        parts = [self._chosen(found, unknown & ~of_rows, each) for each in self._volumes]
        if of_rows.any():
            planned = self._only(found, of_rows, periods, "percentiles of several rows")
            for good in self._good(planned, NO_PAIRS, []):
                parts.append(self._chosen(found, of_rows, self._volumes_of(good, periods)))
                _check_volumes(sum(len(rows) for rows, _ in parts))
        rows, volumes = (np.concatenate(columns) for columns in zip(_NO_VOLUMES, *parts, strict=True))
        order = np.argsort(rows, kind="stable")
        which, starts, count = np.unique(rows[order], return_index=True, return_counts=True)
        numbers = [number / 100 for number in self._percentiles.values()]
        for name, values in zip(self._percentiles, quantiles(volumes[order], starts, count, numbers), strict=True):
            found.figures[name][which] = values

    def _volumes_of(self, good: Good, periods: Periods) -> _Volumes:
        """The finite volumes of points, with their groups and periods."""
        group = self._selection.group[self._selection.spans(good.place, good.time)]
        mine = (group >= 0) & np.isfinite(good.volume)
        return group[mine], periods.numbers(good.time[mine]), good.volume[mine]

    @staticmethod
    def _chosen(found: Answers, which: Flags, volumes: _Volumes) -> tuple[Ints, Floats]:
        """The volumes of some answers, and the answer of each."""
        group, period, volume = volumes
        rows, there = found.at(group, period)
        mine = there & which[rows]
        return rows[mine], volume[mine]

    def _rows(self, found: Answers, periods: Periods) -> StatisticsRows:
        """The answers by group, period, unit and type."""
        groups = [each[:-2] for each in self._selection.groups]
        ranks = {group: n for n, group in enumerate(dict.fromkeys(groups))}  # groups are in order
        of_group = np.array([ranks[group] for group in groups], np.int64)
        order = np.lexsort((found.group, found.period, of_group[found.group]))
        group, first_at, last_at = found.group[order], found.first_at[order], found.last_at[order]
        starts, ends, seconds = self._bounds(found.period[order], periods, first_at, last_at)
        figures = {name: column[order] for name, column in found.figures.items()}
        if {"increase", "rate"} & set(self._aggregates):
            is_gauge = np.array([each[-1] == "gauge" for each in self._selection.groups], np.bool_)
            figures["increase"] = np.where(is_gauge[group], np.nan, figures["increase"])
            unknown = np.full(len(order), np.nan)
            figures["rate"] = np.divide(figures["increase"], seconds, out=unknown, where=seconds != 0)
        length = self._asked.period
        return StatisticsRows(
            {name: figures[name] for name in self._aggregates},
            self._selection.groups,
            group,
            self._groupby,
            length if isinstance(length, int) else None,
            starts,
            ends,
            first_at,
            last_at,
        )

    def _bounds(self, numbers: Ints, periods: Periods, first_at: Ints, last_at: Ints) -> tuple[Ints, Ints, Floats]:
        """The start and end of the period of each answer, and how many seconds of it lie in the span."""
        if not self._asked.period:
            start = self._first if self._asked.start is not None else int(first_at.min(initial=self._last))
            return np.full(len(numbers), start), last_at, (last_at - start) / 1e6
        distinct, of = np.unique(numbers, return_inverse=True)
        bounds = [[times.micros(moment) for moment in periods.bounds(number)] for number in distinct.tolist()]
        starts, ends = np.array(bounds, np.int64).reshape(-1, 2).T
        inside = (np.minimum(ends, self._last) - np.maximum(starts, self._first)) / 1e6
        return starts[of], ends[of], inside[of]


def _check_volumes(count: int) -> None:
    if count > MAX_VOLUMES:
        raise UsageError(
            f"the percentiles are of more than {MAX_VOLUMES:,} points",
            hint="Narrow the question by --from and --to, or by a filter",
        )
