"""Which roll-ups each series gets, and these roll-ups: the archive policies, compiled for the series of a table.

Roll-ups of an hour and of a day are always made. Whether a finer tier is made is decided for each series and hour by
that hour's good points alone, because an hour is what is recomputed: the rows are the same in whatever order points
came, and an hour that fills minute by minute never changes the tiers of another one. The cadence is the lower median of
the steps from point to point within the hour. A tier is made if `min_points` times the cadence is at most its
granularity. An hour with a single point has no cadence, and no finer tier.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.definitions.archive_policies import DAY, HOUR, PERCENTILES, Policies, Policy
from meterhouse.rollups import buckets
from meterhouse.rollups.buckets import MICROS, Buckets, Excluded, Tier
from meterhouse.rollups.quantiles import quantiles
from meterhouse.sample_quality.series_table import Flags, Floats, Ints, SeriesTable
from meterhouse.sample_quality.verdicts import Good

_ROUGHLY = 10 * MICROS
"""From this cadence on, it is rounded to whole seconds, below to milliseconds: agents are not punctual."""


@dataclass(frozen=True)
class Plan:
    """What is made of each series.

    Attributes:
        policies: those that differ in what they make.
        of_place: the policy of each series, as a place in `policies`.
    """

    policies: tuple[Policy, ...]
    of_place: npt.NDArray[np.int16]

    @classmethod
    def of(cls, policies: Policies, table: SeriesTable) -> "Plan":
        """The plan for the series of a table: each meter is looked up once."""
        distinct: dict[tuple[object, ...], int] = {}
        found: list[Policy] = []
        of_meter = np.zeros(len(table.meter_names), np.int16)
        for number, meter in enumerate(table.meter_names):
            policy = policies.of(meter)
            makes = (policy.finer, policy.percentiles, policy.min_points)
            if makes not in distinct:
                distinct[makes] = len(found)
                found.append(policy)
            of_meter[number] = distinct[makes]
        return cls(tuple(found), of_meter[table.meters])


@dataclass(frozen=True)
class Made:
    """The roll-ups of one tier, ordered by place and time.

    Attributes:
        buckets: the buckets; their quantiles are those of PERCENTILES, NaN where the policy does not ask for one.
        others: further percentiles, by their number from 0 to 100; NaN in buckets whose policy does not ask for it.
        cadence: in seconds, of hours and days; NaN if there are fewer than two good points. None in finer tiers.
    """

    buckets: Buckets
    others: dict[float, Floats] = field(default_factory=dict)
    cadence: Floats | None = None


def roll(plan: Plan, good: Good, excluded: Excluded, *, hours: bool = True, days: bool = True) -> list[Made]:
    """The roll-ups of each tier, the finest first.

    Args:
        plan: what is made of which series.
        good: good points, in order, of whole hours, or if `days` of whole days.
        excluded: points that are counted in `excluded`.
        hours: whether the tiers up to an hour are wanted.
        days: whether that of a day is.
    """
    parts: dict[int, list[Made]] = defaultdict(list)
    for policy, some, without in _by_policy(plan, good, excluded):
        for made in _of_policy(policy, some, without, hours, days):
            parts[made.buckets.seconds].append(made)
    return [_together(parts[seconds]) for seconds in sorted(parts)]


def _by_policy(plan: Plan, good: Good, excluded: Excluded) -> Iterator[tuple[Policy, Good, Excluded]]:
    if len(plan.policies) == 1:
        yield plan.policies[0], good, excluded
        return
    of_good, of_excluded = plan.of_place[good.place], plan.of_place[excluded.place]
    for number, policy in enumerate(plan.policies):
        mine, without = of_good == number, of_excluded == number
        if mine.any() or without.any():
            yield policy, good.within(mine), Excluded(excluded.place[without], excluded.time[without])


def _of_policy(policy: Policy, good: Good, excluded: Excluded, hours: bool, days: bool) -> Iterator[Made]:
    tiers = [Tier(seconds) for seconds in (*policy.finer, HOUR, *([DAY] if days else []))]
    made = {each.seconds: each for each in buckets.roll(good, excluded, tiers)}
    hourly = made[HOUR]
    cadence = cadences(good.time, hourly.count)
    if hours:
        for seconds in policy.finer:
            finer = made[seconds]
            holds = made_of(policy, seconds, cadence)
            kept = np.repeat(holds, np.diff(np.append(_hours(finer), len(finer))))
            yield _with_percentiles(finer, good.volume, policy.percentiles, kept)
        yield replace(_with_percentiles(hourly, good.volume, policy.percentiles), cadence=cadence)
    if days:
        daily = _with_percentiles(made[DAY], good.volume, policy.percentiles)
        yield replace(daily, cadence=day_cadences(hourly, cadence, made[DAY]))


def _hours(finer: Buckets) -> Ints:
    """Where the buckets of each series and hour begin."""
    return buckets.run_starts(finer.place, finer.start // (HOUR * MICROS))


def _with_percentiles(made: Buckets, volume: Floats, wanted: Sequence[float], kept: Flags | None = None) -> Made:
    """The kept buckets with their percentiles, from the volumes of the points of all buckets, in order."""
    starts = np.cumsum(made.count) - made.count
    if kept is not None and not kept.all():
        made, starts = buckets.chosen(made, kept), starts[kept]
    there = made.count > 0
    whole = bool(there.all())
    counts = made.count if whole else made.count[there]
    found = quantiles(volume, starts if whole else starts[there], counts, [each / 100 for each in wanted])
    if not whole:
        for number, values in enumerate(found):
            found[number] = np.full(len(made), np.nan)
            found[number][there] = values
    by_number = dict(zip(wanted, found, strict=True))
    usual = tuple(by_number.pop(each) if each in by_number else np.full(len(made), np.nan) for each in PERCENTILES)
    return Made(replace(made, quantiles=usual), by_number)


# -- cadence ------------------------------------------------------------------------------------------------


def cadences(time: Ints, counts: Ints) -> Floats:
    """The cadence of consecutive runs of points, in seconds; NaN for a run of fewer than two points.

    Args:
        time: µs, in order within a run; a run is shorter than 4294 s.
        counts: how many points each run has.
    """
    found = np.full(len(counts), np.nan)
    some = np.flatnonzero(counts > 1)
    if not len(some):
        return found
    within = np.ones(len(time), np.bool_)
    within[np.cumsum(counts)[counts > 0] - 1] = False  # from the last point of a run there is no step
    steps = (time[1:] - time[:-1])[within[:-1]]
    number = counts[some] - 1
    starts = np.cumsum(number) - number
    low = _rounded(np.minimum.reduceat(steps, starts))
    even = low == _rounded(np.maximum.reduceat(steps, starts))
    found[some] = low
    uneven = np.flatnonzero(~even)
    if len(uneven):
        of_uneven = steps if len(uneven) == len(some) else steps[np.repeat(~even, number)]
        number = number[uneven]
        starts = np.cumsum(number) - number
        key = np.repeat(np.arange(len(uneven), dtype=np.int64) << 32, number)
        key += of_uneven
        key.sort()
        found[some[uneven]] = _rounded(key[starts + (number - 1) // 2] & 0xFFFFFFFF)
    return found / MICROS


def _rounded(steps: Ints) -> Ints:
    unit = np.where(steps >= _ROUGHLY, MICROS, 1_000)
    rounded: Ints = (steps + unit // 2) // unit * unit
    return rounded


def day_cadences(hourly: Buckets, cadence: Floats, daily: Buckets) -> Floats:
    """The cadence of each series and day: the lower median of those of its hours, each with the weight of its steps.

    If no hour has two points, it is the mean step from the first point of the day to the last.

    Args:
        hourly: the hours of whole days, ordered by place and time.
        cadence: of each hour, in seconds; NaN if it has none.
        daily: the days, in the same order.

    Returns:
        A value for each day; NaN if it has fewer than two points.
    """
    starts = buckets.run_starts(hourly.place, hourly.start // (DAY * MICROS))
    day = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(hourly))))
    found = mean_steps(daily.count, daily.first_at, daily.last_at)
    known = np.flatnonzero(~np.isnan(cadence))
    days, medians = median_cadences(day[known], cadence[known], hourly.count[known] - 1)
    found[days] = medians
    return found


def median_cadences(of: Ints, cadence: Floats, steps: Ints) -> tuple[Ints, Floats]:
    """The lower median of cadences, each with the weight of its steps.

    Args:
        of: the number of what has this cadence.
        cadence: in seconds.
        steps: how many steps have it.

    Returns:
        The distinct numbers, and the median of each.
    """
    if not len(of):
        return of, cadence
    order = np.lexsort((cadence, of))
    weight = steps[order]
    which, first = np.unique(of[order], return_index=True)
    last = np.append(first[1:], len(order)) - 1
    reached = np.cumsum(weight)
    before = reached[first] - weight[first]
    half = before + (reached[last] - before + 1) // 2
    return which, cadence[order][np.searchsorted(reached, half)]


def mean_steps(count: Ints, first_at: Ints, last_at: Ints) -> Floats:
    """The mean step in seconds between so many points, from the first to the last; NaN if there are fewer than two."""
    found = np.full(len(count), np.nan)
    some = count > 1
    found[some] = _rounded((last_at[some] - first_at[some]) // (count[some] - 1)) / MICROS
    return found


# -- readers ------------------------------------------------------------------------------------------------

POINTS = 0
"""In place of a granularity: read the points themselves."""


def to_read(policy: Policy, period: int, cadence: Floats) -> Ints:
    """From which tier the figures of periods come, for each hour of a series.

    It holds for hours that were rolled up by this policy (`dirty_hours.policies`); of others read the points.

    Args:
        policy: that of the series.
        period: in seconds, aligned to 1970, UTC.
        cadence: of the hours, the column `cadence_s` of their hourly rows; NaN where it is null.

    Returns:
        The coarsest granularity in seconds whose rows are there and divide the period; POINTS if there is none.
    """
    found = np.full(len(cadence), POINTS, np.int64)
    for tier in policy.tiers:
        if period % tier.seconds == 0:
            found[made_of(policy, tier.seconds, cadence)] = tier.seconds
    return found


def made_of(policy: Policy, seconds: int, cadence: Floats) -> Flags:
    """Whether a tier of a policy is made, for each of these cadences in seconds, NaN for none."""
    with np.errstate(invalid="ignore"):
        often: Flags = policy.min_points * cadence <= seconds
    return often | (seconds >= HOUR or policy.min_points <= 1)


# -- rows ---------------------------------------------------------------------------------------------------


def percentile_maps(made: Made) -> pa.Array:
    """The column `percentiles`: a map from names like `p90` to values; null where the policy asks for no others."""
    kind = pa.map_(pa.string(), pa.float64())
    rows = len(made.buckets)
    if not made.others:
        return pa.nulls(rows, kind)
    numbers = sorted(made.others)
    values = np.column_stack([made.others[number] for number in numbers])
    there = ~np.isnan(values)
    some = there.any(axis=1)
    offsets = np.concatenate(([0], np.cumsum(there.sum(axis=1))))
    names = np.array([f"p{number:g}" for number in numbers], dtype=object)
    keys = pa.array(np.broadcast_to(names, values.shape)[there], pa.string())
    made_of = pa.array(offsets.astype(np.int32), mask=np.append(~some, False))
    return pa.MapArray.from_arrays(made_of, keys, pa.array(values[there]))


def _together(parts: Sequence[Made]) -> Made:
    """The roll-ups of one tier by several policies, in order: each series has one policy."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([part.buckets.place for part in parts]), kind="stable")

    def joined(columns: Sequence[Any]) -> Any:
        return np.concatenate(columns)[order]

    names = [each.name for each in fields(Buckets) if each.name not in ("seconds", "quantiles")]
    columns = {name: joined([getattr(part.buckets, name) for part in parts]) for name in names}
    usual = tuple(joined([part.buckets.quantiles[n] for part in parts]) for n in range(len(PERCENTILES)))
    others = {
        number: joined([part.others.get(number, np.full(len(part.buckets), np.nan)) for part in parts])
        for number in sorted({number for part in parts for number in part.others})
    }
    cadence = None if parts[0].cadence is None else joined([part.cadence for part in parts])
    return Made(replace(parts[0].buckets, **columns, quantiles=usual), others, cadence)
