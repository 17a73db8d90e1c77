"""Cells put together: the figures of each period and group."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from meterhouse.queries.aggregates import counted_by, percentile
from meterhouse.queries.cells import LOST_DIGITS, Cells
from meterhouse.queries.selection import Selection
from meterhouse.sample_quality.series_table import Flags, Floats, Ints

Column = npt.NDArray[Any]


@dataclass
class Answers:
    """The figures of all periods and groups that have points, ordered by group and period.

    Attributes:
        group: as a place in `Selection.groups`.
        period: its number.
        first_at: the time of the first point, µs.
        last_at: that of the last.
        figures: by aggregate; NaN where there is none.
        doubtful: whether the spread has lost its digits, because it was computed from sums of squares.
    """

    group: Ints
    period: Ints
    first_at: Ints
    last_at: Ints
    figures: dict[str, Column] = field(default_factory=dict)
    doubtful: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __len__(self) -> int:
        return len(self.group)

    def at(self, group: Ints, period: Ints) -> tuple[Ints, Flags]:
        """The row of each of these groups and periods, and whether it is among them; if not, the row is any."""
        if not len(self):
            return np.zeros(len(group), np.int64), np.zeros(len(group), np.bool_)
        wanted = self._keys(group, period)
        rows = np.minimum(np.searchsorted(self._keys(self.group, self.period), wanted), len(self) - 1)
        return rows, (self.group[rows] == group) & (self.period[rows] == period)

    def _keys(self, group: Ints, period: Ints) -> Ints:
        low = int(self.period.min(initial=0))
        width = int(self.period.max(initial=0)) - low + 1
        return group * width + (period - low)


def answers(cells: Cells, selection: Selection, aggregates: Collection[str]) -> Answers:
    """The answers that cells give; without percentiles and rates."""
    found = Answers(cells.group, cells.period, cells.first_at, cells.last_at)
    if not len(cells):
        found.figures = {name: np.zeros(0) for name in (*aggregates, "increase")}
        return found
    key = found._keys(cells.group, cells.period)
    order = np.lexsort((cells.first_at, cells.place, key))
    cells, key = cells.some(order), key[order]
    starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    length = np.diff(np.append(starts, len(key)))
    usable = np.add.reduceat(cells.usable, starts)
    total = np.add.reduceat(cells.sum, starts)
    with np.errstate(invalid="ignore"):
        mean = np.where(usable > 0, total / usable, np.nan)
    found = Answers(
        cells.group[starts],
        cells.period[starts],
        np.minimum.reduceat(cells.first_at, starts),
        np.maximum.reduceat(cells.last_at, starts),
    )
    known: dict[str, Column] = {
        "count": np.add.reduceat(cells.count, starts),
        "sum": np.where(usable > 0, total, np.nan),
        "avg": mean,
        "min": np.minimum.reduceat(cells.min, starts),
        "max": np.maximum.reduceat(cells.max, starts),
    }
    if "stddev" in aggregates:
        known["stddev"], found.doubtful = _stddev(cells, starts, length, usable, mean)
    if "first" in aggregates:
        known["first"] = cells.first[np.lexsort((cells.place, cells.first_at, key))[starts]]
    if "last" in aggregates:
        known["last"] = cells.last[np.lexsort((cells.place, cells.last_at, key))[starts + length - 1]]
    if {"increase", "rate"} & set(aggregates):
        known["increase"] = np.add.reduceat(cells.increase, starts)
    for name in aggregates:
        if (column := counted_by(name)) is not None:
            known[name] = _cardinality(cells, key, starts, selection, column)
    found.figures = {
        name: np.where(np.isfinite(column), column, np.nan) if column.dtype.kind == "f" else column
        for name, column in known.items()
    }
    return found


def _stddev(cells: Cells, starts: Ints, length: Ints, usable: Ints, mean: Floats) -> tuple[Floats, Flags]:
    """The standard deviation of all points of each answer, and whether it has lost its digits.

    The spread of a whole is that of its parts and that between their means (Chan, Golub and LeVeque 1983).
    """
    some = cells.usable > 0
    own = np.divide(cells.sum, cells.usable, out=np.zeros(len(cells)), where=some)
    away = np.where(some, own - np.repeat(mean, length), 0.0)
    spread = np.add.reduceat(cells.spread + cells.usable * away * away, starts)
    squares = np.add.reduceat(cells.squares, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(spread / usable), (squares > 0) & (spread < LOST_DIGITS * squares)


def _cardinality(cells: Cells, key: Ints, starts: Ints, selection: Selection, column: str) -> Ints:
    """How many different values of a column the series of each answer have; null is none."""
    codes, count = selection.distinct(column)
    code = codes[cells.place]
    there = code >= 0
    pairs = np.unique(key[there] * np.int64(count + 1) + code[there])
    of, numbers = np.unique(pairs // (count + 1), return_counts=True)
    found = np.zeros(len(starts), np.int64)
    found[np.searchsorted(key[starts], of)] = numbers
    return found


def percentiles_of(aggregates: Sequence[str]) -> dict[str, float]:
    """The percentiles among aggregates, by name."""
    return {name: number for name in aggregates if (number := percentile(name)) is not None}
