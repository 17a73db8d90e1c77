"""Parts of statistics that can be put together: of points of one series, in one period and group."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from meterhouse.definitions.quality_rules import LARGEST_VOLUME
from meterhouse.queries.periods import Periods
from meterhouse.queries.selection import Selection
from meterhouse.rollups.buckets import run_starts
from meterhouse.sample_quality.series_table import DELTA, Floats, Ints, Places
from meterhouse.sample_quality.verdicts import Good

LOST_DIGITS = 2e-6
"""A spread below this share of the sum of squares is not computed from it: fewer than 9 digits would be right."""


@dataclass(frozen=True)
class Cells:
    """Parts of statistics, in any order.

    Attributes:
        place: of the series.
        group: as a place in `Selection.groups`.
        period: its number.
        count: points.
        usable: those of them whose volume can be computed with; the other columns are of these.
        sum: of the volumes.
        min: the smallest; inf if there is none.
        max: the largest; -inf if there is none.
        spread: the sum of the squared distances from the mean.
        squares: the sum of squares that the spread was computed from; 0 if it comes from the points.
        first: the volume of the earliest point.
        first_at: its time, µs.
        last: the volume of the latest point.
        last_at: its time, µs.
        increase: of counters; of deltas, the sum.
    """

    place: Places
    group: Ints
    period: Ints
    count: Ints
    usable: Ints
    sum: Floats
    min: Floats
    max: Floats
    spread: Floats
    squares: Floats
    first: Floats
    first_at: Ints
    last: Floats
    last_at: Ints
    increase: Floats

    def __len__(self) -> int:
        return len(self.place)

    def some(self, keep: Any) -> "Cells":
        """Those that flags or an index choose."""
        chosen = keep if keep.dtype != np.bool_ else np.flatnonzero(keep)
        columns = (getattr(self, each.name) for each in fields(self))
        return Cells(*(nothing(len(chosen)) if is_nothing(column) else column[chosen] for column in columns))

    @classmethod
    def together(cls, parts: "Sequence[Cells]") -> "Cells":
        """All of these."""
        if len(parts) == 1:
            return parts[0]
        none = cls(*(np.zeros(0, kind) for kind in _KINDS))
        columns = [[getattr(part, each.name) for part in (none, *parts)] for each in fields(cls)]
        count = sum(map(len, parts))
        return cls(
            *(nothing(count) if count and all(map(is_nothing, some[1:])) else np.concatenate(some) for some in columns)
        )


_ZERO = np.zeros(1)
_KINDS = ("i4", *["i8"] * 4, *["f8"] * 6, "i8", "f8", "i8", "f8")


def nothing(count: int) -> Any:
    """A column of zeros that takes no memory, of what is not asked for."""
    return np.broadcast_to(_ZERO, count)


def is_nothing(column: Any) -> bool:
    """Whether a column was not asked for."""
    return column.base is _ZERO


def of_points(good: Good, selection: Selection, periods: Periods) -> Cells:
    """The cells of points in order of place and time, but for those whose series does not matter at their time."""
    span = selection.spans(good.place, good.time)
    group = selection.group[span]
    if (group < 0).any():
        good, span = good.within(group >= 0), span[group >= 0]
    period = periods.numbers(good.time)
    starts = run_starts(span.astype(np.int32), period)
    count = np.diff(np.append(starts, len(good)))
    ends = starts + count - 1
    volume = good.volume
    usable = np.abs(volume) <= LARGEST_VOLUME  # false for what is not a number
    whole = bool(usable.all())
    numbers = count if whole else _added(usable.astype(np.int64), starts)
    known = volume if whole else np.where(usable, volume, 0.0)
    total = _added(known, starts)
    mean = np.divide(total, numbers, out=np.zeros(len(total)), where=numbers > 0)
    away = known - np.repeat(mean, count)
    if not whole:
        away[~usable] = 0.0
    at_first, at_last = starts, ends
    if not whole:
        rows = np.arange(len(good))
        at_first = np.minimum(_reduced(np.minimum, np.where(usable, rows, len(good)), starts), ends)
        at_last = np.maximum(_reduced(np.maximum, np.where(usable, rows, -1), starts), starts)
    grown = np.zeros(len(starts)) if good.increase is None else _added(good.increase, starts)
    return Cells(
        good.place[starts],
        selection.group[span[starts]],
        period[starts],
        count,
        numbers,
        total,
        _reduced(np.minimum, volume if whole else np.where(usable, volume, np.inf), starts),
        _reduced(np.maximum, volume if whole else np.where(usable, volume, -np.inf), starts),
        _added(away * away, starts),
        np.zeros(len(starts)),
        volume[at_first],
        good.time[starts],
        volume[at_last],
        good.time[ends],
        np.where(selection.table.kinds[good.place[starts]] == DELTA, total, grown),
    )


def spread_of(count: Ints, total: Floats, squares: Floats, low: Floats, high: Floats) -> Floats:
    """The sum of squared distances from the mean, from sums of squares."""
    spread = np.maximum(squares - total * (total / np.maximum(count, 1)), 0.0)
    spread[low == high] = 0.0
    return spread


def _added(values: Any, starts: Ints) -> Any:
    return _reduced(np.add, values, starts)


def _reduced(how: np.ufunc, values: Any, starts: Ints) -> Any:
    return how.reduceat(values, starts) if len(starts) else np.zeros(0, values.dtype)
