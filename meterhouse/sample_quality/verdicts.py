"""Verdicts by one pass over points in order: the good points of a computation, and those that break a rule.

It gives what `sql/lake/judge.sql` gives. Clean points cost two comparisons; only points that may break a rule, or share
their time with another one of their series, are looked at closely.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meterhouse.definitions.quality_rules import LARGEST_VOLUME
from meterhouse.sample_quality.series_table import (
    CUMULATIVE,
    DELTA,
    Flags,
    Floats,
    Ints,
    Places,
    SeriesRules,
    SeriesTable,
)

HOUR = 3_600_000_000
"""µs."""

Identify = Callable[[Ints], tuple[Ints, Flags]]
"""Rows of points → their sample ids, and whether each has one."""


@dataclass(frozen=True)
class Points:
    """Points of some series, ordered by place and time.

    Attributes:
        place: of their series.
        time: µs since 1970, UTC.
        volume: in the meter's unit.
        recorded: when they arrived, µs since 1970.
        identify: gives the sample ids of some rows; it is called only for rows that share series and time.
        accepted: which of them a correction accepts: no critical rule about a point by itself excludes these, unless
            no sum can hold them. None if it accepts none.
    """

    place: Places
    time: Ints
    volume: Floats
    recorded: Ints
    identify: Identify
    accepted: Flags | None = None

    def __len__(self) -> int:
        return len(self.place)


@dataclass(frozen=True)
class Carried:
    """Earlier good points of series, only to compare with, in hours that have none of the points; in any order.

    The volume of a delta is of no meaning.
    """

    place: Places
    time: Ints
    volume: Floats


NOTHING_CARRIED = Carried(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class Good:
    """Points that break no critical rule, ordered by place and time; deltas of one time by their sample ids.

    Attributes:
        place: of their series.
        time: µs since 1970, UTC.
        volume: in the meter's unit.
        rows: which rows of the points they are; None for all, in order.
        increase: of a counter since its previous good point: the difference, or after a reset the volume; 0 if there is
            no previous point within the carry time. Of no meaning for other kinds. None if there is no counter.
        reset: whether the counter is below its previous point; None if there is no counter.
        since: µs since the counter's previous good point; 0 if there is none within the carry time. None if there is no
            counter.
    """

    place: Places
    time: Ints
    volume: Floats
    rows: Ints | None = None
    increase: Floats | None = None
    reset: Flags | None = None
    since: Ints | None = None

    def __len__(self) -> int:
        return len(self.place)

    def within(self, keep: Flags) -> "Good":
        """Those of these points for which `keep` is true."""
        if keep.all():
            return self
        rows = np.flatnonzero(keep) if self.rows is None else self.rows[keep]
        return Good(
            self.place[keep],
            self.time[keep],
            self.volume[keep],
            rows,
            None if self.increase is None else self.increase[keep],
            None if self.reset is None else self.reset[keep],
            None if self.since is None else self.since[keep],
        )


@dataclass(frozen=True)
class Verdicts:
    """What a pass found.

    Attributes:
        good: the good points.
        flagged: the rows of distinct points that break a rule, ascending.
        bits: of the rules that each of these breaks.
        repeats: how many points were copies of another one, and are not among the distinct ones.
    """

    good: Good
    flagged: Ints
    bits: npt.NDArray[np.int32]
    repeats: int


def order_of(place: Places, time: Ints) -> Ints | None:
    """An order of points by place and time; None if they are in order already. Points of one time keep their order."""
    if len(place) < 2:
        return None
    step = np.diff(place)
    if (step >= 0).all() and not ((step == 0) & (time[1:] < time[:-1])).any():
        return None
    return np.lexsort((time, place))


def judge(
    table: SeriesTable, rules: SeriesRules, points: Points, carried: Carried = NOTHING_CARRIED, carry_hours: int = 48
) -> Verdicts:
    """Judge points in order.

    Args:
        table: the series.
        rules: compiled for the table.
        points: in order, see `order_of`.
        carried: earlier points of counters.
        carry_hours: a counter's previous point counts up to this many hours.
    """
    critical = rules.rules.critical_bits
    flagged = np.flatnonzero(_suspects(rules, points))
    bits = _broken(rules, points, flagged)
    order, gone = None, np.zeros(0, np.int64)
    together = (points.place[1:] == points.place[:-1]) & (points.time[1:] == points.time[:-1])
    if together.any():
        crowd = _Crowd.of(table, rules, points, together, critical)
        alone = ~np.isin(flagged, crowd.rows)
        flagged = np.concatenate((flagged[alone], crowd.kept))
        bits = np.concatenate((bits[alone], crowd.bits))
        gone, order = crowd.repeats, crowd.order
    broken = bits != 0
    flagged, bits = flagged[broken], bits[broken]
    excluded = np.concatenate((flagged[(bits & critical) != 0], gone))
    good = _counted(table, _rest(points, excluded, order), carried, carry_hours)
    if good.reset is not None and good.reset.any():
        fell = np.flatnonzero(good.reset)
        warned = rules.bits_of("reset", good.place[fell])
        rows = fell if good.rows is None else good.rows[fell]
        flagged, bits = np.concatenate((flagged, rows)), np.concatenate((bits, warned))
    flagged, bits = _merged(flagged, bits)
    return Verdicts(good, flagged, bits, len(gone))


def _suspects(rules: SeriesRules, points: Points) -> Flags:
    """Points that may break a rule by themselves: all that do, and perhaps others."""
    place, volume = points.place, points.volume
    # Not a number is in no range.
    suspects: Flags = ~((volume >= rules.low[place]) & (volume <= rules.high[place]))
    ahead = points.time - points.recorded
    if len(ahead) and ahead.max() > rules.tolerance.min():
        suspects |= ahead > rules.tolerance[place]
    return suspects


def _broken(rules: SeriesRules, points: Points, rows: Ints) -> npt.NDArray[np.int32]:
    """The bits of the rules that each of some points breaks by itself."""
    volume = points.volume[rows]
    bits = rules.of_points(points.place[rows], points.time[rows], volume, points.recorded[rows])
    if points.accepted is not None:
        summable = np.abs(volume) <= LARGEST_VOLUME  # false for what is not a number
        bits[points.accepted[rows] & summable] &= ~np.int32(rules.rules.critical_bits)
    return bits


@dataclass(frozen=True)
class _Crowd:
    """Points that share series and time with others.

    Attributes:
        rows: all of them.
        kept: those that are no copies.
        bits: of the kept ones.
        repeats: the copies.
        order: the kept ones by series and time; of one time, deltas by sample id, others by arrival and volume.
    """

    rows: Ints
    kept: Ints
    bits: npt.NDArray[np.int32]
    repeats: Ints
    order: Ints

    @classmethod
    def of(cls, table: SeriesTable, rules: SeriesRules, points: Points, together: Flags, critical: int) -> "_Crowd":
        shared = np.zeros(len(points), np.bool_)
        shared[1:] |= together
        shared[:-1] |= together
        rows = np.flatnonzero(shared)
        sample, known = points.identify(rows)
        place, time, volume, recorded = (
            points.place[rows],
            points.time[rows],
            points.volume[rows],
            points.recorded[rows],
        )
        is_delta = table.kinds[place] == DELTA
        same = np.where(is_delta, sample, _bits_of(volume))
        early = recorded < time
        # Copies of a point: the first that arrived at or after its time counts; if there is none, the last.
        order = np.lexsort((volume, sample, ~known, np.where(early, -recorded, recorded), early, same, time, place))
        again = _follows(place[order], time[order], same[order])
        copies, kept = order[again], order[~again]
        rivals = np.where(is_delta, sample, 0)
        broken = _broken(rules, points, rows[kept])
        place, time, volume, recorded, rivals = place[kept], time[kept], volume[kept], recorded[kept], rivals[kept]
        # Of different volumes, the good one that arrived last counts.
        rank = np.lexsort((-volume, -recorded, (broken & critical) != 0, rivals, time, place))
        beaten = rank[_follows(place[rank], time[rank], rivals[rank])]
        broken[beaten] |= rules.bits_of("duplicate", place[beaten])
        in_order = np.lexsort((volume, recorded, rivals, time, place))
        return cls(rows, rows[kept], broken, rows[copies], rows[kept][in_order])


def _bits_of(volume: Floats) -> Ints:
    """The volumes as integers that are equal for equal volumes: -0.0 equals 0.0, and NaN equals NaN."""
    return np.where(np.isnan(volume), np.nan, volume + 0.0).view(np.int64)


def _follows(*keys: npt.NDArray[np.generic]) -> Flags:
    """Whether each row has the same keys as the row before."""
    found = np.ones(len(keys[0]), np.bool_)
    found[:1] = False
    for key in keys:
        found[1:] &= key[1:] == key[:-1]
    return found


def _rest(points: Points, excluded: Ints, order: Ints | None) -> Good:
    """The points without the excluded rows. Rows that share their time are in the order of `order`."""
    if not len(excluded) and order is None:
        return Good(points.place, points.time, points.volume)
    keep = np.ones(len(points), np.bool_)
    keep[excluded] = False
    rows = np.flatnonzero(keep)
    if order is not None:
        order = order[keep[order]]
        rows[np.searchsorted(rows, np.sort(order))] = order
    return Good(points.place[rows], points.time[rows], points.volume[rows], rows)


def _counted(table: SeriesTable, good: Good, carried: Carried, carry_hours: int) -> Good:
    """The good points with the increases of their counters."""
    if not len(good) or not (table.kinds[good.place] == CUMULATIVE).any():
        return good
    place, time, volume = good.place, good.time, good.volume
    reach = carry_hours * HOUR
    head = np.concatenate(([True], place[1:] != place[:-1]))
    increase, since = np.zeros(len(good)), np.zeros(len(good), np.int64)
    np.subtract(volume[1:], volume[:-1], out=increase[1:])
    np.subtract(time[1:], time[:-1], out=since[1:])
    unknown = head.copy()
    if len(carried.place):
        rows, before = carried_before(place, time, head, carried)
        increase[rows] = volume[rows] - carried.volume[before]
        since[rows] = time[rows] - carried.time[before]
        unknown[rows] = False
    unknown |= since > reach
    reset: Flags = (increase < 0) & ~unknown & (table.kinds[place] == CUMULATIVE)
    np.copyto(increase, volume, where=reset)
    increase[unknown] = 0.0
    since[unknown] = 0
    return Good(place, time, volume, good.rows, increase, reset, since)


def carried_before(place: Places, time: Ints, head: Flags, carried: Carried) -> tuple[Ints, Ints]:
    """The points, in order of place and time, whose previous point is a carried one, and which that is.

    A carried point lies in an hour without points of the computation. So only the first point of a series can follow
    it, or one that comes after such an hour.
    """
    far = time[1:] // HOUR - time[:-1] // HOUR > 1
    may = head.copy()
    may[1:] |= far
    rows = np.flatnonzero(may)
    places = np.concatenate((carried.place, place[rows]))
    order = np.lexsort((np.concatenate((carried.time, time[rows])), places))
    count = len(carried.place)
    at = np.flatnonzero((order[1:] >= count) & (order[:-1] < count) & (places[order[1:]] == places[order[:-1]]))
    return rows[order[at + 1] - count], order[at]


def _merged(flagged: Ints, bits: npt.NDArray[np.int32]) -> tuple[Ints, npt.NDArray[np.int32]]:
    """The rows in order, each once, with all of its bits."""
    on = bits != 0
    rows, place = np.unique(flagged[on], return_inverse=True)
    merged = np.zeros(len(rows), np.int32)
    np.bitwise_or.at(merged, place, bits[on])
    return rows, merged
