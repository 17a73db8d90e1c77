"""Cells from the roll-ups of the lake."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.definitions.archive_policies import PERCENTILES, Policy
from meterhouse.queries.cells import Cells, spread_of
from meterhouse.queries.periods import Periods
from meterhouse.queries.planner import NO_PAIRS, Pairs, Plan
from meterhouse.queries.selection import Selection
from meterhouse.rollups.tiers import made_of
from meterhouse.sample_quality.reading import plain
from meterhouse.sample_quality.series_table import DELTA, Flags, Floats, Ints, Places
from meterhouse.sample_quality.verdicts import HOUR
from meterhouse.site import Site

_DAY = 24 * HOUR
_NEEDED = ("series_id", "bucket", "count", "first_at", "last_at")
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
        self._files = site.lake.actions("rollups")
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
        for rows in self._rows(seconds, numbers, unit, names):
            bucket, count = plain(rows["bucket"]), plain(rows["count"])
            place = self._selection.table.places(plain(rows["series_id"]))
            chosen = (place >= 0) & (count > 0)
            bucket_of = bucket[chosen]
            inside = _among(numbers, bucket_of // unit)
            inside &= (bucket_of >= self._plan.first) & (bucket_of < self._plan.last)
            if hours:
                inside &= ~self._plan.changed.hold(place[chosen], bucket_of // HOUR)
            if keep is not None:
                inside &= keep(place[chosen], bucket_of)
            at = np.flatnonzero(chosen)[inside]
            group = self._selection.group[self._selection.spans(place[at], bucket[at])]
            at, group = at[group >= 0], group[group >= 0]
            if len(at):
                self._add(seconds, rows, place[at], group, bucket[at], at)

    def without(self, seconds: int, hours: Ints, policy: Policy) -> Pairs:
        """The series that have points but no rows of a finer tier, and the hour."""
        found = [(np.zeros(0, np.int32), np.zeros(0, np.int64))]
        for rows in self._rows(3600, hours, HOUR, ["series_id", "bucket", "count", "cadence_s"]):
            place = self._selection.table.places(plain(rows["series_id"]))
            hour = plain(rows["bucket"]) // HOUR
            cadence = plain(rows["cadence_s"].cast(pa.float64()).fill_null(np.nan))
            lacks = (place >= 0) & (plain(rows["count"]) > 0) & ~made_of(policy, seconds, cadence)
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

    def _rows(self, seconds: int, numbers: Ints, unit: int, names: list[str]) -> Iterator[dict[str, pa.Array]]:
        """Columns of each file that may have rows of some hours or days; null where the file lacks one."""
        if not len(numbers):
            return
        lake = self._site.lake
        days = np.unique(numbers * unit // _DAY).tolist()
        files = lake.matching(
            "rollups",
            among=self._files,
            partitions={
                "granularity_s": [seconds],
                "event_day": [times.EPOCH.date() + timedelta(days=day) for day in days],
            },
            overlapping=("bucket", _spans(numbers, unit)),
        )
        read = self._read.setdefault(seconds, Read(seconds))
        for path in files["path"].to_pylist():
            with lake.parquet("rollups", path) as opened:
                there = [name for name in names if name in opened.schema_arrow.names]
                rows = opened.read(there, use_threads=False)
            read.files += 1
            columns = {name: rows[name].combine_chunks() for name in there}
            yield {name: columns.get(name, pa.nulls(rows.num_rows, pa.float64())) for name in names}

    def _add(
        self, seconds: int, rows: Mapping[str, pa.Array], place: Places, group: Ints, bucket: Ints, at: Ints
    ) -> None:
        taken = pa.array(at)
        read = self._read[seconds]
        read.rows += len(at)

        def column(name: str) -> Any:
            if name not in rows:
                return np.zeros(len(at))
            values = rows[name].take(taken)
            return plain(values.fill_null(0) if values.null_count else values)

        count, total = plain(rows["count"].take(taken)), column("sum")
        low, high = column("min"), column("max")
        squares = column("sum_squares")
        spread = spread_of(count, total, squares, low, high) if "sum_squares" in rows else np.zeros(len(at))
        increase = column("increase")
        if "increase" in rows:
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
                np.where(low != high, squares, 0.0),
                column("first"),
                column("first_at"),
                column("last"),
                column("last_at"),
                increase,
            )
        )
        for number, parts in self._percentiles.items():
            parts.append(_percentile(rows, number, taken))


def _percentile_columns(wanted: Sequence[float]) -> list[str]:
    """The columns that have these percentiles."""
    usual = [f"p{number:g}" for number in wanted if number in PERCENTILES]
    return usual if len(usual) == len(wanted) else [*usual, "percentiles"]


def _percentile(rows: Mapping[str, pa.Array], number: float, taken: pa.Array) -> Floats:
    """A percentile of some rows; NaN where there is none."""
    name = f"p{number:g}"
    if number in PERCENTILES:
        values = rows[name].take(taken)
    else:
        maps = rows["percentiles"].take(taken)
        if not pa.types.is_map(maps.type):
            return np.full(len(taken), np.nan)
        values = pc.map_lookup(maps, pa.scalar(name), "first")
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
