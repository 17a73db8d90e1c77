"""Cells from the roll-ups of the lake."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import cancelling, costs, times
from meterhouse.definitions.archive_policies import PERCENTILES, Policy
from meterhouse.queries.cells import Cells, nothing, spread_of
from meterhouse.queries.periods import Periods
from meterhouse.queries.planner import NO_PAIRS, Pairs, Plan
from meterhouse.queries.rolled_files import TABLE, RolledFile, Rows, may_keep, opened
from meterhouse.queries.selection import Selection
from meterhouse.rollups.tiers import made_of
from meterhouse.sample_quality.reading import plain
from meterhouse.sample_quality.series_table import DELTA, Flags, Floats, Ints, Places
from meterhouse.sample_quality.verdicts import HOUR
from meterhouse.site import Site

_DAY = 24 * HOUR
_NEEDED = ("bucket", "count", "first_at", "last_at")
_OF_AGGREGATES = {
    "sum": ("sum",),
    "avg": ("sum",),
    "min": ("min",),
    "max": ("max",),
    "stddev": ("sum", "sum_squares", "min", "max"),
    "first": ("first",),
    "last": ("last",),
    "increase": ("increase", "sum"),
    "rate": ("increase", "sum"),
}


@dataclass
class Read:
    """What was read of one granularity."""

    seconds: int
    rows: int = 0
    files: int = 0


@dataclass
class Rolled:
    """Cells from roll-ups.

    Attributes:
        cells: the cells.
        percentiles: by the percentile's number; NaN where the row has none.
        lacking: series without rows of a finer tier, and the hour: their points have to be read.
        read: of each granularity.
    """

    cells: Cells
    percentiles: dict[float, Floats] = field(default_factory=dict)
    lacking: Pairs = NO_PAIRS
    read: list[Read] = field(default_factory=list)


def rolled_cells(
    site: Site,
    meter: str,
    plan: Plan,
    selection: Selection,
    periods: Periods,
    aggregates: Collection[str],
    percentiles: Collection[float] = (),
) -> Rolled:
    """The cells of all that a plan reads from roll-ups.

    Args:
        site: the site.
        meter: the meter.
        plan: the plan.
        selection: the series.
        periods: the periods that are asked for.
        aggregates: what is asked for; of columns that it does not need, the cells have zeros.
        percentiles: by number.
    """
    wanted = {name for each in aggregates for name in _OF_AGGREGATES.get(each, ())}
    reader = _Reader(site, selection, periods, wanted, sorted(percentiles), plan)
    reader.take(86_400, plan.days, lambda place, bucket: ~plan.split.hold(place, bucket // _DAY))
    if len(plan.split.place):
        of_days = (np.unique(plan.split.number)[:, None] * 24 + np.arange(24)).ravel()
        reader.take(3600, of_days, lambda place, bucket: plan.split.hold(place, bucket // _DAY), hours=True)
    reader.take(3600, plan.hours, None, hours=True)
    policy = site.policies.of(meter)
    for seconds, hours in plan.fine.items():
        lacking = reader.without(seconds, hours, policy)
        reader.take(seconds, hours, partial(_outside, lacking), hours=True)
    return reader.done()


def _outside(pairs: Pairs, place: Places, bucket: Ints) -> Flags:
    return ~pairs.hold(place, bucket // HOUR)


class _Reader:
    def __init__(
        self,
        site: Site,
        selection: Selection,
        periods: Periods,
        columns: Collection[str],
        percentiles: list[float],
        plan: Plan,
    ) -> None:
        self._site, self._selection, self._periods, self._plan = site, selection, periods, plan
        self._columns, self._wanted = columns, percentiles
        self._files = site.lake.actions(TABLE)
        self._cells: list[Cells] = []
        self._percentiles: dict[float, list[Floats]] = {number: [] for number in percentiles}
        self._lacking: list[Pairs] = []
        self._read: dict[int, Read] = {}

    def take(
        self, seconds: int, numbers: Ints, keep: Callable[[Places, Ints], Flags] | None, *, hours: bool = False
    ) -> None:
        """Take the rows of a granularity.

        Args:
            seconds: the granularity.
            numbers: of the hours or days.
            keep: chooses rows by place and bucket (µs); None for all.
            hours: whether `numbers` are of hours.
        """
        unit = HOUR if hours else _DAY
        names = [*_NEEDED, *sorted(self._columns), *_percentile_columns(self._wanted)]
        for file in self._opened(seconds, numbers, unit, names):
            place, rows = file.rows_of(self._selection.table)
            if not len(place):
                continue
            bucket = file.column("bucket", rows)
            inside = file.column("count", rows) > 0
            inside &= _among(numbers, bucket // unit)
            inside &= (bucket >= self._plan.first) & (bucket < self._plan.last)
            if hours and len(self._plan.changed.place):
                inside &= ~self._plan.changed.hold(place, bucket // HOUR)
            if keep is not None:
                inside &= keep(place, bucket)
            group = self._selection.group[self._selection.spans(place, bucket)]
            inside &= group >= 0
            if not inside.all():
                chosen = np.flatnonzero(inside)
                place, group, bucket = place[chosen], group[chosen], bucket[chosen]
                rows = chosen + rows.start if isinstance(rows, slice) else rows[chosen]
            if len(place):
                self._add(seconds, file, place, group, bucket, rows)

    def without(self, seconds: int, hours: Ints, policy: Policy) -> Pairs:
        """The series that have points but no rows of a finer tier, and the hour."""
        found = [(np.zeros(0, np.int32), np.zeros(0, np.int64))]
        for file in self._opened(3600, hours, HOUR, ["bucket", "count", "cadence_s"]):
            place, rows = file.rows_of(self._selection.table)
            hour = file.column("bucket", rows) // HOUR
            lacks = (file.column("count", rows) > 0) & ~made_of(policy, seconds, file.column("cadence_s", rows))
            lacks &= _among(hours, hour)
            found.append((place[lacks], hour[lacks]))
        lacking = Pairs(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
        self._lacking.append(lacking)
        return lacking

    def done(self) -> Rolled:
        """All that was taken."""
        lacking = [NO_PAIRS, *self._lacking]
        return Rolled(
            Cells.together(self._cells),
            {number: np.concatenate([np.zeros(0), *parts]) for number, parts in self._percentiles.items()},
            Pairs(np.concatenate([each.place for each in lacking]), np.concatenate([each.number for each in lacking])),
            list(self._read.values()),
        )

    def _opened(self, seconds: int, numbers: Ints, unit: int, names: list[str]) -> Iterator[RolledFile]:
        """Each file that may have rows of some hours or days, with these columns."""
        if not len(numbers):
            return
        days = np.unique(numbers * unit // _DAY).tolist()
        files = self._site.lake.matching(
            TABLE,
            among=self._files,
            partitions={
                "granularity_s": [seconds],
                "event_day": [times.EPOCH.date() + timedelta(days=day) for day in days],
            },
            overlapping=("bucket", _spans(numbers, unit)),
        )
        counted = files["num_records"].to_pylist()
        buckets = unit // (seconds * 1_000_000) if unit > seconds * 1_000_000 else 1
        costs.expect(min(sum(counted), len(self._selection) * len(numbers) * buckets))
        read = self._read.setdefault(seconds, Read(seconds))
        keep = may_keep(self._site, sum(counted))
        for path, rows in zip(files["path"].to_pylist(), counted, strict=True):
            cancelling.check()
            read.files += 1
            yield opened(self._site, path, rows, names, keep=keep)

    def _add(self, seconds: int, file: RolledFile, place: Places, group: Ints, bucket: Ints, rows: Rows) -> None:
        self._read[seconds].rows += len(place)

        def column(name: str) -> Any:
            return file.column(name, rows) if name in self._columns else nothing(len(place))

        count, total, low, high = file.column("count", rows), column("sum"), column("min"), column("max")
        squares = column("sum_squares")
        spread = distances = nothing(len(place))
        if "sum_squares" in self._columns:
            spread = spread_of(count, total, squares, low, high)
            distances = np.where(low != high, squares, 0.0)
        increase = column("increase")
        if "increase" in self._columns:
            deltas = self._selection.table.kinds[place] == DELTA
            increase = np.where(deltas, total, increase)
        self._cells.append(
            Cells(
                place,
                group,
                self._periods.numbers(bucket),
                count,
                count,
                total,
                low,
                high,
                spread,
                distances,
                column("first"),
                file.column("first_at", rows),
                column("last"),
                file.column("last_at", rows),
                increase,
            )
        )
        for number, parts in self._percentiles.items():
            parts.append(_percentile(file, number, rows))


def _percentile_columns(wanted: Sequence[float]) -> list[str]:
    """The columns that have these percentiles."""
    usual = [f"p{number:g}" for number in wanted if number in PERCENTILES]
    return usual if len(usual) == len(wanted) else [*usual, "percentiles"]


def _percentile(file: RolledFile, number: float, rows: Rows) -> Floats:
    """A percentile of some rows; NaN where there is none."""
    name = f"p{number:g}"
    if number in PERCENTILES:
        found: Floats = file.column(name, rows)
        return found
    maps = file.columns["percentiles"]
    if not isinstance(maps, pa.MapArray):  # the file has none
        return np.full(file.rows, np.nan)[rows]
    taken = maps.take(pa.array(np.arange(len(maps))[rows]))
    values = pc.map_lookup(taken, pa.scalar(name), "first")
    return np.asarray(plain(values.cast(pa.float64()).fill_null(np.nan)), np.float64)


def _among(numbers: Ints, given: Ints) -> Flags:
    """Which of the given ones are among some numbers in order."""
    at = np.minimum(np.searchsorted(numbers, given), len(numbers) - 1)
    found: Flags = numbers[at] == given
    return found


def _spans(numbers: Ints, unit: int) -> list[times.Span]:
    """The spans of time that hours or days, in order, cover."""
    new = np.flatnonzero(np.diff(numbers) != 1) + 1
    starts, ends = numbers[np.concatenate(([0], new))], numbers[np.concatenate((new - 1, [len(numbers) - 1]))]
    return [
        (times.EPOCH + timedelta(microseconds=int(a) * unit), times.EPOCH + timedelta(microseconds=int(b + 1) * unit))
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
