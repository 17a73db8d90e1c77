"""Roll-ups of good points, by NumPy over points in order: a bucket is a run of rows.

The order of adding is fixed, so the same points give the same bits, in whatever order they arrived: the points of a
bucket of the finest tier by time, deltas of one time by sample id; a coarser tier adds the buckets of the finer one, in
order. Runs are added by `numpy.add.reduceat`. The hours of a day are added one after the other, because a day that is
not over is made so, see `running_day`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from meterhouse.definitions.archive_policies import DAY
from meterhouse.rollups.quantiles import quantiles
from meterhouse.sample_quality.series_table import Flags, Floats, Ints, Places
from meterhouse.sample_quality.verdicts import Good

MICROS = 1_000_000


@dataclass(frozen=True)
class Tier:
    """What to make: buckets of `seconds`, aligned to 1970, UTC, with these quantiles (0 to 1)."""

    seconds: int
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True)
class Buckets:
    """The buckets of one tier, ordered by place and time. A column has one value a bucket.

    Attributes:
        seconds: the granularity.
        place: of the series.
        start: µs since 1970, UTC.
        count: good points. If it is 0, all values but `excluded` are 0 and mean nothing.
        sum: of the volumes.
        min: the smallest.
        max: the largest.
        sum_squares: of the squares of the volumes.
        first: the volume of the first point.
        first_at: its time, µs.
        last: the volume of the last point.
        last_at: its time, µs.
        increase: sum of the increases; of meaning for counters only.
        resets: how many resets; of meaning for counters only.
        excluded: points that break a critical rule.
        quantiles: a column for each quantile of the tier.
    """

    seconds: int
    place: Places
    start: Ints
    count: Ints
    sum: Floats
    min: Floats
    max: Floats
    sum_squares: Floats
    first: Floats
    first_at: Ints
    last: Floats
    last_at: Ints
    increase: Floats
    resets: Ints
    excluded: Ints
    quantiles: tuple[Floats, ...] = ()

    def __len__(self) -> int:
        return len(self.place)


@dataclass(frozen=True)
class Excluded:
    """The points that break a critical rule, in any order."""

    place: Places
    time: Ints


def roll(good: Good, excluded: Excluded, tiers: Sequence[Tier]) -> list[Buckets]:
    """The buckets of each tier.

    Args:
        good: good points.
        excluded: points that are counted in `excluded`.
        tiers: the finest first.
    """
    made: list[Buckets] = []
    finer: Buckets | None = None
    starts = np.zeros(0, np.int64)
    for tier in tiers:
        if finer is None or tier.seconds % finer.seconds:
            finer, starts = _from_points(good, tier)
        else:
            runs = run_starts(finer.place, finer.start // (tier.seconds * MICROS))
            finer, starts = _folded(finer, runs, tier), starts[runs]
        finer = replace(finer, quantiles=tuple(quantiles(good.volume, starts, finer.count, tier.quantiles)))
        made.append(_with_excluded(finer, excluded))
    return made


def _from_points(good: Good, tier: Tier) -> tuple[Buckets, Ints]:
    """The buckets of points, and where each begins."""
    span = tier.seconds * MICROS
    numbers = good.time // span
    starts = run_starts(good.place, numbers)
    count = np.diff(np.append(starts, len(good)))
    ends = starts + count - 1
    volume = good.volume
    increase = np.zeros(len(starts)) if good.increase is None else _added(good.increase, starts)
    resets = np.zeros(len(starts), np.int64)
    if good.reset is not None and good.reset.any():
        resets = np.add.reduceat(good.reset, starts, dtype=np.int64)
    made = Buckets(
        tier.seconds,
        good.place[starts],
        numbers[starts] * span,
        count,
        _added(volume, starts),
        np.minimum.reduceat(volume, starts) if len(starts) else np.zeros(0),
        np.maximum.reduceat(volume, starts) if len(starts) else np.zeros(0),
        _added(volume * volume, starts),
        volume[starts],
        good.time[starts],
        volume[ends],
        good.time[ends],
        increase,
        resets,
        np.zeros(len(starts), np.int64),
    )
    return made, starts


def _folded(finer: Buckets, runs: Ints, tier: Tier) -> Buckets:
    """The buckets of runs of finer ones, all of which have points."""
    span = tier.seconds * MICROS
    if not len(runs):
        return replace(chosen(finer, np.zeros(len(finer), np.bool_)), seconds=tier.seconds, quantiles=())
    ends = np.append(runs[1:], len(finer)) - 1
    added = _added_one_by_one if tier.seconds >= DAY else _added
    return Buckets(
        tier.seconds,
        finer.place[runs],
        finer.start[runs] // span * span,
        np.add.reduceat(finer.count, runs),
        added(finer.sum, runs),
        np.minimum.reduceat(finer.min, runs),
        np.maximum.reduceat(finer.max, runs),
        added(finer.sum_squares, runs),
        finer.first[runs],
        finer.first_at[runs],
        finer.last[ends],
        finer.last_at[ends],
        added(finer.increase, runs),
        np.add.reduceat(finer.resets, runs),
        np.zeros(len(runs), np.int64),
    )


def run_starts(place: Places, number: Ints) -> Ints:
    """Where each run of equal place and number begins."""
    new = np.empty(len(place), np.bool_)
    new[:1] = True
    np.not_equal(number[1:], number[:-1], out=new[1:])
    new[1:] |= place[1:] != place[:-1]
    return np.flatnonzero(new)


def _added(values: Floats, starts: Ints) -> Floats:
    return np.add.reduceat(values, starts) if len(starts) else np.zeros(0)


def _added_one_by_one(values: Floats, starts: Ints) -> Floats:
    """The sums of short runs."""
    lengths = np.diff(np.append(starts, len(values)))
    made = values[starts]
    for n in range(1, int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > n)
        made[longer] += values[starts[longer] + n]
    return made


def _with_excluded(made: Buckets, excluded: Excluded) -> Buckets:
    """The buckets with their numbers of excluded points, and new ones where there are only excluded points."""
    if not len(excluded.place):
        return made
    span = made.seconds * MICROS
    starts = excluded.time // span * span
    order = np.lexsort((starts, excluded.place))
    place, start = excluded.place[order], starts[order]
    runs = run_starts(place, start)
    number = np.diff(np.append(runs, len(order)))
    place, start = place[runs], start[runs]
    # Both are in order: after a merge, an excluded bucket comes right behind the bucket of its place and time.
    both = np.lexsort((np.concatenate((made.start, start)), np.concatenate((made.place, place))))
    where = np.empty(len(both), np.int64)
    where[both] = np.arange(len(both))
    before = both[np.maximum(where[len(made) :] - 1, 0)]
    inside = before < len(made)
    at = np.where(inside, before, 0)
    if len(made):
        inside &= (made.place[at] == place) & (made.start[at] == start)
    else:
        inside[:] = False
    numbers = made.excluded.copy()
    numbers[at[inside]] = number[inside]
    made = replace(made, excluded=numbers)
    if inside.all():
        return made
    alone = ~inside
    return _inserted(made, place[alone], start[alone], number[alone])


def _inserted(made: Buckets, place: Places, start: Ints, excluded: Ints) -> Buckets:
    """The buckets and further ones without good points, in order."""
    order = np.lexsort((np.concatenate((made.start, start)), np.concatenate((made.place, place))))
    given: dict[str, Any] = {"place": place, "start": start, "excluded": excluded}

    def joined(name: str, column: Any) -> Any:
        more = given.get(name, np.zeros(len(place), column.dtype))
        return np.concatenate((column, more))[order]

    return _mapped(made, joined)


def chosen(made: Buckets, keep: Flags) -> Buckets:
    """Those of the buckets for which `keep` is true."""
    return _mapped(made, lambda name, column: column[keep])


def _mapped(made: Buckets, change: Callable[[str, Any], Any]) -> Buckets:
    """The buckets with each column changed, which is given by name; those of quantiles have none."""
    names = [each.name for each in fields(made) if each.name not in ("seconds", "quantiles")]
    columns: dict[str, Any] = {name: change(name, getattr(made, name)) for name in names}
    return replace(made, **columns, quantiles=tuple(change("", column) for column in made.quantiles))
