"""Cells put together: the figures of each period and group."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from meterhouse.queries.aggregates import counted_by, percentile
from meterhouse.queries.cells import LOST_DIGITS, Cells, is_nothing
from meterhouse.queries.selection import Selection
from meterhouse.sample_quality.series_table import Flags, Floats, Ints, Places

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
    order = _order(key, cells.place, cells.first_at)
    key = key[order]
    starts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    part = _Parts(cells, order, starts)
    usable, total = part.added("usable"), part.added("sum")
    with np.errstate(invalid="ignore"):
        mean = np.where(usable > 0, total / usable, np.nan)
    found = Answers(
        cells.group[order[starts]],
        cells.period[order[starts]],
        np.minimum.reduceat(part.of("first_at"), starts),
        np.maximum.reduceat(part.of("last_at"), starts),
    )
    known: dict[str, Column] = {
        "count": usable if cells.usable is cells.count else part.added("count"),
        "sum": np.where(usable > 0, total, np.nan),
        "avg": mean,
        "min": np.minimum.reduceat(part.of("min"), starts),
        "max": np.maximum.reduceat(part.of("max"), starts),
    }
    if "stddev" in aggregates:
        known["stddev"], found.doubtful = _stddev(part, usable, mean)
    if "first" in aggregates:
        known["first"] = part.of("first")[np.lexsort((part.of("place"), part.of("first_at"), key))[starts]]
    if "last" in aggregates:
        ends = np.append(starts[1:], len(key)) - 1
        known["last"] = part.of("last")[np.lexsort((part.of("place"), part.of("last_at"), key))[ends]]
    if {"increase", "rate"} & set(aggregates):
        known["increase"] = part.added("increase")
    for name in aggregates:
        if (column := counted_by(name)) is not None:
            known[name] = _cardinality(part.of("place"), key, starts, selection, column)
    found.figures = {
        name: np.where(np.isfinite(column), column, np.nan) if column.dtype.kind == "f" else column
        for name, column in known.items()
    }
    return found


@dataclass(frozen=True)
class _Parts:
    """Cells in an order in which those of an answer follow each other.

    Attributes:
        cells: the cells.
        order: the order.
        starts: where each answer begins.
    """

    cells: Cells
    order: Ints
    starts: Ints

    def of(self, name: str) -> Column:
        """A column in that order."""
        column: Column = getattr(self.cells, name)
        return column if is_nothing(column) else column[self.order]

    def added(self, name: str) -> Column:
        """The sum of a column for each answer."""
        return np.add.reduceat(self.of(name), self.starts)


def _order(key: Ints, place: Places, time: Ints) -> Ints:
    """The order by key, of one key by place, and of one place by time.

    So sums do not depend on how cells are spread over files. Files are in order of place and time already.
    """
    order = _by_key(key)
    mine, where, when = key[order], place[order], time[order]
    before = (where[1:] < where[:-1]) | ((where[1:] == where[:-1]) & (when[1:] < when[:-1]))
    if (before & (mine[1:] == mine[:-1])).any():
        return np.lexsort((time, place, key))
    return order


def _by_key(key: Ints) -> Ints:
    """The order by key, in which equal ones stay as they are: 16 bits at a time, NumPy sorts without comparisons."""
    largest = int(key.max())
    if largest >= 1 << 32:
        return np.argsort(key, kind="stable")
    order = np.argsort((key & 0xFFFF).astype(np.uint16), kind="stable")
    if largest >= 1 << 16:
        order = order[np.argsort((key >> 16).astype(np.uint16)[order], kind="stable")]
    return order


def _stddev(part: _Parts, usable: Ints, mean: Floats) -> tuple[Floats, Flags]:
    """The standard deviation of all points of each answer, and whether it has lost its digits.

    The spread of a whole is that of its parts and that between their means (Chan, Golub and LeVeque 1983).
    """
    starts, counted = part.starts, part.of("usable")
    some = counted > 0
    own = np.divide(part.of("sum"), counted, out=np.zeros(len(counted)), where=some)
    away = np.where(some, own - np.repeat(mean, np.diff(np.append(starts, len(counted)))), 0.0)
    spread = np.add.reduceat(part.of("spread") + counted * away * away, starts)
    squares = part.added("squares")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(spread / usable), (squares > 0) & (spread < LOST_DIGITS * squares)


def _cardinality(place: Places, key: Ints, starts: Ints, selection: Selection, column: str) -> Ints:
    """How many different values of a column the series of each answer have; null is none."""
    codes, count = selection.distinct(column)
    code = codes[place]
    there = code >= 0
    pairs = np.unique(key[there] * np.int64(count + 1) + code[there])
    of, numbers = np.unique(pairs // (count + 1), return_counts=True)
    found = np.zeros(len(starts), np.int64)
    found[np.searchsorted(key[starts], of)] = numbers
    return found


def percentiles_of(aggregates: Sequence[str]) -> dict[str, float]:
    """The percentiles among aggregates, by name."""
    return {name: number for name in aggregates if (number := percentile(name)) is not None}
