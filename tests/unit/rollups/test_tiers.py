"""Which roll-ups a series gets by its archive policy and its cadence, and that they are what the policy asks for."""

import math
from collections import defaultdict
from itertools import pairwise
from statistics import median_low
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.definitions.archive_policies import MIN_POINTS, Policies, Policy, Rule, Tier, load
from meterhouse.rollups import buckets, tiers
from meterhouse.rollups.buckets import Buckets, Excluded
from meterhouse.rollups.tiers import Made, Plan
from meterhouse.sample_quality.series_table import SeriesTable
from meterhouse.sample_quality.verdicts import Good

HOUR = 3_600_000_000
DAY = 24 * HOUR
T0 = 20_000 * DAY


def policy(name: str, finer: tuple[int, ...], percentiles: tuple[float, ...], min_points: int = MIN_POINTS) -> Policy:
    return Policy(name, tuple(Tier(seconds) for seconds in (*finer, 3600, 86400)), percentiles, min_points)


NAMED = {
    "usual": policy("usual", (300,), (50, 95, 99)),
    "fine": policy("fine", (60, 300), (10, 50)),
    "bare": policy("bare", (), ()),
    "all": policy("all", (300,), (99.9,), min_points=1),
}
METERS = ["all", "bare", "fine", "usual"]
SERIES = SeriesTable.of(range(8), METERS * 2, ["gauge"] * 8)
POLICIES = Policies(NAMED, tuple(Rule(name, name) for name in METERS), "usual", "x")

STEPS = st.sampled_from([0, 1, 10_000_000, 15_000_000, 60_000_000, 75_000_000, 75_400_000, 300_000_000, HOUR])
POINTS = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from([0, 1, 2, 23, 24, 30]), st.lists(STEPS, max_size=9)), max_size=8
)


def good_points(drawn: list[tuple[int, int, list[int]]]) -> Good:
    """Points of places, each list of steps from the start of an hour; no point leaves its hour."""
    found = set()
    for place, hour, steps in drawn:
        at = 0
        for step in steps:
            at = (at + step) % HOUR
            found.add((place, T0 + hour * HOUR + at))
    rows = sorted(found)
    place = np.array([row[0] for row in rows], np.int32)
    volume = np.array([(n * 7919 % 101) / 10 for n in range(len(rows))])
    return Good(place, np.array([row[1] for row in rows], np.int64), volume)


def excluded_points(drawn: list[tuple[int, int, list[int]]]) -> Excluded:
    found = [(place, T0 + hour * HOUR + step % HOUR) for place, hour, steps in drawn for step in steps[:2]]
    return Excluded(np.array([row[0] for row in found], np.int32), np.array([row[1] for row in found], np.int64))


def rounded(step: int) -> float:
    unit = 1_000_000 if step >= 10_000_000 else 1000
    return (step + unit // 2) // unit * unit / 1e6


def expected_cadences(good: Good) -> dict[tuple[int, int], float]:
    """By place and start of the hour."""
    times = defaultdict(list)
    for place, time in zip(good.place.tolist(), good.time.tolist(), strict=True):
        times[place, time // HOUR * HOUR].append(time)
    steps = {key: [b - a for a, b in pairwise(some)] for key, some in times.items()}
    return {key: rounded(median_low(some)) for key, some in steps.items() if some}


def rows(made: Buckets, keep: Any = None) -> dict[tuple[int, int], tuple[Any, ...]]:
    names = ("count", "sum", "min", "max", "first_at", "last_at", "excluded")
    columns = [getattr(made, name).tolist() for name in names]
    keys = zip(made.place.tolist(), made.start.tolist(), strict=True)
    return {key: row for key, row in zip(keys, zip(*columns, strict=True), strict=True) if keep is None or keep(key)}


@given(POINTS, POINTS)
@settings(max_examples=60, deadline=None)
def test_every_series_gets_the_tiers_of_its_policy_where_its_points_come_often_enough(drawn: Any, bad: Any) -> None:
    good, excluded = good_points(drawn), excluded_points(bad)
    plan = Plan.of(POLICIES, SERIES)
    made = {each.buckets.seconds: each for each in tiers.roll(plan, good, excluded)}
    cadence = expected_cadences(good)
    meters = [SERIES.meter_names[meter] for meter in SERIES.meters.tolist()]
    for name in METERS:
        places = [place for place, meter in enumerate(meters) if meter == name]
        mine = Good(*(column[np.isin(good.place, places)] for column in (good.place, good.time, good.volume)))
        without = np.isin(excluded.place, places)
        alone = buckets.roll(
            mine,
            Excluded(excluded.place[without], excluded.time[without]),
            [buckets.Tier(tier.seconds) for tier in NAMED[name].tiers],
        )
        for each in alone:
            seconds = each.seconds

            def is_made(key: tuple[int, int], seconds: int = seconds, name: str = name) -> bool:
                return seconds in NAMED[name].made(cadence.get((key[0], key[1] // HOUR * HOUR)))

            found = made[seconds].buckets if seconds in made else each
            assert rows(each, is_made) == rows(found, lambda key, places=places: key[0] in places), (name, seconds)
    if 3600 in made:
        hourly = made[3600]
        keys = zip(hourly.buckets.place.tolist(), hourly.buckets.start.tolist(), strict=True)
        assert hourly.cadence is not None
        found_cadence = {key: c for key, c in zip(keys, hourly.cadence.tolist(), strict=True) if not math.isnan(c)}
        assert found_cadence == cadence
    for each_made in made.values():
        assert_percentiles(each_made, good, meters)


def assert_percentiles(made: Made, good: Good, meters: list[str]) -> None:
    by_row = tiers.percentile_maps(made).to_pylist()
    span = made.buckets.seconds * 1_000_000
    usual = dict(zip((50, 95, 99), made.buckets.quantiles, strict=True))
    for row, (place, start) in enumerate(zip(made.buckets.place.tolist(), made.buckets.start.tolist(), strict=True)):
        volumes = good.volume[(good.place == place) & (good.time // span * span == start)]
        wanted = NAMED[meters[place]].percentiles if len(volumes) else ()
        expected = {number: float(np.percentile(volumes, number)) for number in wanted}
        for number, values in usual.items():
            assert math.isnan(values[row]) if number not in expected else values[row] == pytest.approx(expected[number])
        others = {f"p{number:g}": pytest.approx(value) for number, value in expected.items() if number not in usual}
        assert (dict(by_row[row]) if by_row[row] is not None else {}) == others
        assert (by_row[row] is None) == (not others)


@given(POINTS)
@settings(max_examples=30, deadline=None)
def test_an_hour_alone_gives_the_same_rows_as_among_others(drawn: Any) -> None:
    good, nothing = good_points(drawn), excluded_points([])
    plan = Plan.of(POLICIES, SERIES)
    together: dict[Any, Any] = {}
    for made in tiers.roll(plan, good, nothing, days=False):
        together |= {(made.buckets.seconds, *key): row for key, row in rows(made.buckets).items()}
    apart: dict[Any, Any] = {}
    for hour in np.unique(good.time // HOUR).tolist()[::-1]:
        for made in tiers.roll(plan, good.within(good.time // HOUR == hour), nothing, days=False):
            apart |= {(made.buckets.seconds, *key): row for key, row in rows(made.buckets).items()}
    assert apart == together


@given(POINTS)
@settings(max_examples=30, deadline=None)
def test_the_cadence_of_a_day_is_the_median_of_those_of_its_hours_by_their_steps(drawn: Any) -> None:
    good = good_points(drawn)
    made = {each.buckets.seconds: each for each in tiers.roll(Plan.of(POLICIES, SERIES), good, excluded_points([]))}
    if not made:
        return
    of_hours = expected_cadences(good)
    daily = made[86400]
    assert daily.cadence is not None
    for place, start, found in zip(
        daily.buckets.place.tolist(), daily.buckets.start.tolist(), daily.cadence.tolist(), strict=True
    ):
        times = good.time[(good.place == place) & (good.time // DAY * DAY == start)]
        weighted = [
            cadence
            for (of_place, hour), cadence in of_hours.items()
            if of_place == place and hour // DAY * DAY == start
            for _ in range(int((times // HOUR * HOUR == hour).sum()) - 1)
        ]
        if weighted:
            assert found == median_low(weighted)
        elif len(times) > 1:
            assert found == rounded(int((times[-1] - times[0]) // (len(times) - 1)))
        else:
            assert math.isnan(found)


def test_the_shipped_policies_make_5_minutes_for_points_of_a_minute_and_not_for_those_of_two() -> None:
    table = SeriesTable.of([1, 2, 3], ["cpu_util"] * 3, ["gauge"] * 3)
    plan = Plan.of(load(None), table)
    assert len(plan.policies) == 1
    at = [(place, n * step) for place, step in enumerate((60, 120, 75)) for n in range(3600 // step)]
    good = Good(
        np.array([row[0] for row in at], np.int32),
        np.array([T0 + row[1] * 1_000_000 for row in at], np.int64),
        np.arange(len(at), dtype=np.float64),
    )
    made = {each.buckets.seconds: each for each in tiers.roll(plan, good, excluded_points([]))}
    assert np.bincount(made[300].buckets.place).tolist() == [12, 0, 12]
    assert made[3600].cadence is not None
    assert made[3600].cadence.tolist() == [60, 120, 75]


def test_steps_that_are_not_punctual_give_a_cadence_in_whole_seconds() -> None:
    late = np.cumsum([0, 75_003_000, 74_996_000, 75_400_000, 80_000_000, 75_001_000])
    assert tiers.cadences(late, np.array([len(late)])).tolist() == [75.0]
    assert tiers.cadences(np.cumsum([0, 250_400, 250_300]), np.array([3])).tolist() == [0.25]


def test_readers_take_the_coarsest_tier_that_is_there_or_the_points() -> None:
    cadence = np.array([10.0, 15.0, 60.0, 76.0, math.nan])
    read = {period: tiers.to_read(NAMED["fine"], period, cadence).tolist() for period in (60, 90, 300, 900, 5400, 7200)}
    assert read == {
        60: [60, 60, 0, 0, 0],
        90: [0] * 5,
        300: [300, 300, 300, 0, 0],
        900: [300, 300, 300, 0, 0],
        5400: [300, 300, 300, 0, 0],
        7200: [3600] * 5,
    }
    assert tiers.to_read(NAMED["bare"], 300, cadence).tolist() == [0] * 5
    assert tiers.to_read(NAMED["all"], 300, cadence).tolist() == [300] * 5
    assert tiers.to_read(NAMED["bare"], 2 * 86400, cadence).tolist() == [86400] * 5


@given(STEPS | st.integers(0, HOUR - 1))
def test_a_tier_that_readers_take_is_one_that_the_policy_makes(step: int) -> None:
    for one in NAMED.values():
        (found,) = tiers.to_read(one, 300, np.array([step / 1e6])).tolist()
        assert found == max((seconds for seconds in one.made(step / 1e6) if 300 % seconds == 0), default=0)
