"""The rows of a day that is not over, from its hourly rows.

They are added hour by hour, and mostly without sorting: hours of the same series have them in the same order.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from datetime import date
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.definitions.archive_policies import DAY
from meterhouse.in_order import in_order
from meterhouse.rollups import kept_day
from meterhouse.rollups.buckets import MICROS, Buckets
from meterhouse.rollups.made import Made as MadeOfHours
from meterhouse.rollups.made import apart
from meterhouse.rollups.rows import FOLDED, SCHEMA, Metadata, rows_of
from meterhouse.rollups.tiers import Made, mean_steps
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import CUMULATIVE, DELTA, GAUGE, Floats, Ints, SeriesTable
from meterhouse.sample_quality.verdicts import HOUR
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_replace import SMALL_BYTES
from meterhouse.stores.lake_tables import TIME

_FIRST: dict[str, Any] = {
    "count": 0,
    "excluded": 0,
    "resets": 0,
    "sum": -0.0,  # which changes no number that is added to it, not even -0.0
    "sum_squares": -0.0,
    "increase": -0.0,
    "min": np.inf,
    "max": -np.inf,
    "first": 0.0,
    "last": 0.0,
    "first_at": 0,
    "last_at": 0,
    "metadata": 0,
    "described": False,
    "kind": np.int8(GAUGE),
}
"""What a series has before its first hour."""


SERIES_AT_ONCE = 20_000
"""How many series' cadences are sorted together, so that they fit into a processor's cache."""

_IDS = "series_id"

_HOURLY = pa.schema([SCHEMA.field(name) for name in FOLDED])

_STEPS = 31
"""Bits of the number of steps in an hour. A cadence takes 32: it is shorter than 4294 s."""


def rows_of_day(
    lake: Lake, threads: ThreadPoolExecutor, day: date, made: MadeOfHours, replaced: Hours, table: SeriesTable
) -> pa.Table:
    """The daily rows of a day, without percentiles.

    Args:
        lake: has the rows of the other hours. A file of one hour is read when it is that hour's turn.
        threads: read files.
        day: the day.
        made: new hourly rows, maybe of other hours too.
        replaced: the hours that they replace.
        table: see `RunningDay.rows`.
    """
    return _Fold(lake, threads, day, made, replaced).folded().rows(table)


@dataclass
class _Hour:
    """Rows of an hour: paths of files that have no others, those of these to read, and rows that are in memory."""

    paths: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    rows: list[pa.Table] = field(default_factory=list)


class _Fold:
    """The fold of one day.

    An hour of many series has files of its own. Hours of few series share one that is written again with each run. So
    these series are folded by themselves, and others can start from the hours that are kept.
    """

    def __init__(self, lake: Lake, threads: ThreadPoolExecutor, day: date, made: MadeOfHours, replaced: Hours) -> None:
        self._lake, self._threads, self._day, self._replaced = lake, threads, day, replaced
        self._start = times.micros(times.day_start(day))
        self._many, self._few = defaultdict[int, _Hour](_Hour), defaultdict[int, _Hour](_Hour)
        for rows, paths in zip(made.hourly, made.hourly_files, strict=True):
            for number, piece in self._mine(rows, new=True):
                hour = (self._many if paths.get(number) else self._few)[number]
                hour.paths += paths.get(number, [])
                hour.rows.append(piece)
        files = lake.matching("rollups", partitions={"granularity_s": [3600], "event_day": [day]})
        for file in files.select(["path", "size_bytes", "min.bucket", "max.bucket"]).to_pylist():
            first, last = file["min.bucket"], file["max.bucket"]
            if first is None or first != last or file["size_bytes"] <= SMALL_BYTES:
                for number, piece in self._mine(self._read(file["path"]), new=False):
                    self._few[number].rows.append(piece)
            elif not replaced.hold(np.array([times.micros(first)])).any():
                hour = self._many[times.micros(first) // HOUR]
                hour.paths.append(file["path"])
                hour.unread.append(file["path"])

    def folded(self) -> "RunningDay":
        """The day so far."""
        few = self._day_of({number: self._few[number].rows for number in sorted(self._few)}.values())
        many = self._day_of_many()
        if len(few) and many.has_any(few):
            both = sorted({*self._many, *self._few})
            read = {n: [self._read(path) for path in self._many[n].unread] if n in self._many else [] for n in both}
            return self._day_of([*read[n], *self._many[n].rows, *self._few[n].rows] for n in both)
        many.absorb(few)
        return many

    def _day_of(self, hours: Iterable[Sequence[pa.Table]]) -> "RunningDay":
        made = RunningDay(self._start)
        for rows in hours:
            made.add(pa.concat_tables([_HOURLY.empty_table(), *rows]))
        return made

    def _day_of_many(self) -> "RunningDay":
        """The series that have files of their own in each hour, from the hours that are kept."""
        so_far = RunningDay(self._start)
        numbers = sorted(self._many)
        hours = [(number, tuple(sorted(self._many[number].paths))) for number in numbers]
        folder, done = self._lake.spill, 0
        if folder is not None and hours:
            done, kept = kept_day.load(folder, self._day, hours)
            if kept is not None:
                so_far = RunningDay.of(self._start, kept)
        files = [path for number in numbers[done:] for path in self._many[number].unread]
        read = in_order(self._threads, (partial(self._read, path) for path in files))
        for number in numbers[done:]:
            if folder is not None and number == numbers[-1] and len(hours) - 1 > done:
                kept_day.save(folder, self._day, hours[:-1], so_far.columns())
            hour = self._many[number]
            so_far.add(pa.concat_tables([*(next(read) for _ in hour.unread), *hour.rows]))
        return so_far

    def _mine(self, rows: pa.Table, *, new: bool) -> list[tuple[int, pa.Table]]:
        """Those of the rows that count, by hour: of this day, and either new ones or ones that are not replaced."""
        bucket = plain(rows["bucket"].combine_chunks())
        mine = (self._replaced.hold(bucket) == new) & (bucket >= self._start) & (bucket < self._start + DAY * MICROS)
        return apart(rows if mine.all() else rows.filter(pa.array(mine)), HOUR)

    def _read(self, path: str) -> pa.Table:
        with self._lake.parquet("rollups", path) as file:
            there = set(file.schema_arrow.names)
            rows = file.read([name for name in FOLDED if name in there], use_threads=False)
        for name in FOLDED:  # releases before wrote files without the last ones
            if name not in there:
                rows = rows.append_column(_HOURLY.field(name), pa.nulls(len(rows), _HOURLY.field(name).type))
        return rows.select(FOLDED).cast(_HOURLY)


class RunningDay:
    """A day so far, of series in the order in which they come.

    Args:
        start: of the day, µs since 1970, UTC.
    """

    def __init__(self, start: int) -> None:
        self._start = start
        self._ids = np.zeros(0, np.int64)
        self._columns = {name: np.full(0, value) for name, value in _FIRST.items()}
        self._order: Ints | None = None  # of the ids
        self._steps: list[Ints] = []  # of each hour, by series: see `_packed`

    @classmethod
    def of(cls, start: int, kept: pa.Table) -> "RunningDay":
        """The day of which these are the columns."""
        made = cls(start)
        named = {name: np.array(kept[name].combine_chunks()) for name in kept.column_names}  # copies can be changed
        made._ids = named.pop(_IDS)
        made._columns = {name: named.pop(name) for name in _FIRST}
        made._steps = list(named.values())
        return made

    def columns(self) -> dict[str, Any]:
        """All that is known, as columns of one value a series; see `of`."""
        steps = {f"steps {n}": _longer(each, len(self._ids)) for n, each in enumerate(self._steps)}
        return {_IDS: self._ids, **self._columns, **steps}

    def __len__(self) -> int:
        return len(self._ids)

    def has_any(self, other: "RunningDay") -> bool:
        """Whether any series of another day is among those of this one."""
        return bool(np.isin(other._ids, self._ids).any())

    def absorb(self, other: "RunningDay") -> None:
        """Add another day of the same date, which has other series."""
        if not len(other):
            return
        before = len(self._ids)
        self._steps = [
            np.concatenate((_longer(mine, before), _longer(more, len(other))))
            for mine, more in zip_longest(self._steps, other._steps, fillvalue=np.zeros(0, np.int64))
        ]
        self._ids = np.concatenate((self._ids, other._ids))
        self._columns = {name: np.concatenate((each, other._columns[name])) for name, each in self._columns.items()}
        self._order = None

    def add(self, hourly: pa.Table) -> None:
        """Add an hour, later than those before: rows of the table's files, one for each series."""
        if not hourly.num_rows:
            return
        columns = {name: hourly[name].combine_chunks() for name in hourly.column_names}
        at = self._places(plain(columns["series_id"]))
        self._columns["excluded"][at] += plain(columns["excluded"])
        count = plain(columns["count"])
        good = count > 0
        if not good.all():
            kept = np.flatnonzero(good)
            at, count = (kept if isinstance(at, slice) else at[kept]), count[kept]
            columns = {name: column.take(pa.array(kept)) for name, column in columns.items()}
        if len(count):
            self._add_good(at, count, columns)

    def _add_good(self, at: Any, count: Ints, columns: dict[str, pa.Array]) -> None:
        mine = self._columns
        new = mine["count"][at] == 0
        mine["count"][at] += count
        for name in ("sum", "sum_squares", "increase", "resets"):
            mine[name][at] += _filled(columns[name])
        for name, smaller in (("min", np.minimum), ("max", np.maximum)):
            mine[name][at] = smaller(mine[name][at], plain(columns[name]))
        for name in ("first", "first_at"):
            values = _filled(columns[name])
            mine[name][at] = values if new.all() else np.where(new, values, mine[name][at])
        for name in ("last", "last_at"):
            mine[name][at] = _filled(columns[name])
        metadata, known = columns["metadata_id"], plain(columns["metadata_id"].is_valid())
        mine["metadata"][at] = np.where(known, _filled(metadata), mine["metadata"][at])
        mine["described"][at] |= known
        kind = np.where(plain(columns["first"].is_null()), DELTA, GAUGE)
        mine["kind"][at] = np.where(plain(columns["increase"].is_valid()), CUMULATIVE, kind)
        steps = np.zeros(len(self._ids), np.int64)
        steps[at] = _packed(plain(columns["cadence_s"].cast(pa.float64()).fill_null(np.nan)), count - 1)
        self._steps.append(steps)

    def _places(self, ids: Ints) -> Any:
        """Where these series are; new ones get a place."""
        if np.array_equal(ids, self._ids):
            return slice(0, len(ids))
        if len(self._ids):
            if self._order is None:
                self._order = np.argsort(self._ids)
            at = self._order[np.minimum(np.searchsorted(self._ids, ids, sorter=self._order), len(self._ids) - 1)]
            new = self._ids[at] != ids
        else:
            at, new = np.zeros(len(ids), np.int64), np.ones(len(ids), np.bool_)
        if new.any():
            number = int(new.sum())
            at[new] = len(self._ids) + np.arange(number)
            self._ids = np.concatenate((self._ids, ids[new]))
            self._order = None
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate((column, np.full(number, _FIRST[name], column.dtype)))
        return at

    def rows(self, table: SeriesTable) -> pa.Table:
        """The daily rows, without percentiles, in order of place; series that the table does not have come last."""
        place = table.places(self._ids)
        order = np.lexsort((self._ids, np.where(place < 0, len(table), place)))
        of = {name: column[order] for name, column in self._columns.items()}
        none = of["count"] == 0
        for name in ("min", "max"):
            of[name][none] = 0.0
        given: dict[str, Any] = {each.name: of[each.name] for each in fields(Buckets) if each.name in of}
        made = Buckets(DAY, np.arange(len(order), dtype=np.int32), np.full(len(order), self._start), **given)
        rolled = Made(made, cadence=self._cadence()[order])
        return rows_of(rolled, self._ids[order], of["kind"], Metadata(of["metadata"], of["described"]))

    def _cadence(self) -> Floats:
        """The cadence of each series in seconds, see `tiers.day_cadences`."""
        found = mean_steps(*(self._columns[name] for name in ("count", "first_at", "last_at")))
        number = len(self._ids)
        for first in range(0, number if self._steps else 0, SERIES_AT_ONCE):
            last = min(first + SERIES_AT_ONCE, number)
            hours = np.zeros((last - first, len(self._steps)), np.int64)
            for n, steps in enumerate(self._steps):
                some = steps[first:last]
                hours[: len(some), n] = some
            median = _lower_median(hours)
            np.copyto(found[first:last], median, where=~np.isnan(median))
        return found


def _longer(steps: Ints, length: int) -> Ints:
    """The steps of this many series, of which the last ones have none."""
    return np.concatenate((steps, np.zeros(length - len(steps), np.int64)))


def _packed(cadence: Floats, steps: Ints) -> Ints:
    """Cadences in seconds, each with the number of steps that have it, as numbers in their order; 0 for NaN.

    Cadences are whole microseconds, see `tiers.cadences`.
    """
    known = ~np.isnan(cadence)
    micros = np.rint(np.where(known, cadence, 0.0) * MICROS).astype(np.int64)
    return np.where(known, (micros + 1) << _STEPS | steps, 0)


def _lower_median(packed: Ints) -> Floats:
    """In each row of packed cadences, which gets sorted, the lower median in seconds; NaN if there is none.

    Each cadence has the weight of its steps.
    """
    packed.sort(axis=1)
    reached = np.cumsum(packed & ((1 << _STEPS) - 1), axis=1)
    at = np.argmax(reached >= (reached[:, -1:] + 1) // 2, axis=1)
    found = packed[np.arange(len(packed)), at] >> _STEPS
    return np.where(found > 0, (found - 1) / MICROS, np.nan)


def _filled(column: pa.Array) -> Any:
    if pa.types.is_timestamp(column.type):
        column = column.cast(TIME).view(pa.int64())
    return plain(pc.fill_null(column, 0) if column.null_count else column)
