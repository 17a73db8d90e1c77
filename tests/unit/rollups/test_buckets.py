"""The pass over points in order gives what judging and rolling up one by one gives."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_rollup import HOUR, Point, buckets, steps

from meterhouse.definitions.quality_rules import Rules, load
from meterhouse.rollups.buckets import Buckets, Excluded, Tier, roll
from meterhouse.sample_quality.series_table import CUMULATIVE, DELTA, SeriesRules, SeriesTable
from meterhouse.sample_quality.verdicts import Carried, Points, Verdicts, judge, order_of

TIERS = [Tier(300, (0.5, 0.95, 0.99)), Tier(3600, (0.5, 0.95, 0.99)), Tier(86400, (0.5, 0.95, 0.99))]
T0 = 20_000 * 24 * HOUR
CARRY = 3
SERIES = [(7, "cpu_util", "gauge"), (-3, "cpu", "cumulative"), (12, "bandwidth", "delta"), (2**62, "memory", "gauge")]

VOLUMES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, 101.0, -5.0, math.nan, math.inf, -math.inf, 1e150, 1.5e150, -1e150, 1e308]),
    st.integers(0, 9).map(float),
    st.floats(-1e6, 1e6, allow_nan=False),
)


@st.composite
def points(draw: st.DrawFn) -> list[Point]:
    """Points of few series at few times, so that many share one."""
    some = []
    for _ in range(draw(st.integers(0, 40))):
        series_id, meter, kind = draw(st.sampled_from(SERIES))
        time = (
            T0
            + draw(st.sampled_from([0, 1, 300_000_000, 299_999_999, HOUR, 2 * HOUR, 6 * HOUR]))
            + draw(st.integers(0, 3)) * draw(st.sampled_from([0, 60_000_000]))
        )
        arrived = time + draw(st.sampled_from([0, 1, 2_000_000, -1, -400_000_000, 300_000_001]))
        some.append(Point(series_id, meter, kind, time, draw(VOLUMES), arrived, draw(st.integers(1, 3))))
    return some


@st.composite
def carried(draw: st.DrawFn) -> list[Point]:
    """Earlier points of the counter: before all points, and in hours that have none."""
    hours = draw(st.lists(st.sampled_from([-4, -3, -2, -1, 3, 4]), unique=True))
    return [
        Point(
            -3,
            "cpu",
            "cumulative",
            T0 + hour * HOUR + draw(st.integers(0, HOUR - 1)),
            float(draw(st.integers(0, 9))),
            0,
            1,
        )
        for hour in hours
    ]


def table() -> SeriesTable:
    ids, meters, types = zip(*SERIES, strict=True)
    return SeriesTable.of(ids, meters, types)


def computed(some: list[Point], before: list[Point], rules: Rules) -> tuple[list[Buckets], Verdicts, list[Point]]:
    series = table()
    place = series.places(np.array([p.series_id for p in some], np.int64))
    time = np.array([p.time for p in some], np.int64)
    order = order_of(place, time)
    rows = np.arange(len(some)) if order is None else order
    inside = [some[row] for row in rows]
    sample = np.array([p.sample_id or 0 for p in inside], np.int64)
    known = np.array([p.sample_id is not None for p in inside], np.bool_)
    given = Points(
        place[rows],
        time[rows],
        np.array([p.volume for p in inside], np.float64),
        np.array([p.recorded for p in inside], np.int64),
        lambda at: (sample[at], known[at]),
    )
    earlier = Carried(
        series.places(np.array([p.series_id for p in before], np.int64)),
        np.array([p.time for p in before], np.int64),
        np.array([p.volume for p in before], np.float64),
    )
    found = judge(series, SeriesRules.of(rules, series), given, earlier, CARRY)
    out = found.flagged[(found.bits & rules.critical_bits) != 0]
    return roll(found.good, Excluded(given.place[out], given.time[out]), TIERS), found, inside


def as_rows(made: Buckets) -> dict[tuple[int, int], dict[str, Any]]:
    series = table()
    rows = {}
    for n in range(len(made)):
        kind = series.kinds[made.place[n]]
        row: dict[str, Any] = {"count": int(made.count[n]), "excluded": int(made.excluded[n])}
        if row["count"]:
            names = ("sum", "min", "max", "sum_squares", "first", "first_at", "last", "last_at", "increase", "resets")
            row |= {name: getattr(made, name)[n].item() for name in names}
            row |= dict(zip(("p50", "p95", "p99"), (q[n].item() for q in made.quantiles), strict=False))
            if kind == DELTA:
                row["first"] = row["last"] = None
            if kind != CUMULATIVE:
                row["increase"] = row["resets"] = None
        rows[int(series.ids[made.place[n]]), int(made.start[n])] = row
    return rows


@given(points(), carried())
@settings(max_examples=150, deadline=None)
def test_the_pass_equals_the_reference(some: list[Point], before: list[Point]) -> None:
    rules = load(None)
    made, found, inside = computed(some, before, rules)
    expected, bits = steps(some, rules, before, CARRY)
    flagged = {inside[row]: int(each) for row, each in zip(found.flagged, found.bits, strict=True)}
    assert flagged.keys() == {p for p, each in bits.items() if each}
    assert all(bits[p] == each for p, each in flagged.items())
    assert found.repeats == len(some) - len(bits)
    for tier, buckets_made in zip(TIERS, made, strict=True):
        reference = buckets(expected, bits, rules, tier.seconds)
        rows = as_rows(buckets_made)
        assert rows.keys() == reference.keys()
        for key, row in rows.items():
            scale = max((abs(v) for v in reference[key].values() if isinstance(v, float)), default=0.0)
            for name, value in row.items():
                if isinstance(value, float):
                    assert value == pytest.approx(reference[key][name], rel=1e-12, abs=scale * 1e-13), (key, name)
                else:
                    assert value == reference[key][name], (key, name)


@given(points(), carried(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_arrival_changes_no_bit(some: list[Point], before: list[Point], shuffle: Any) -> None:
    rules = load(None)
    once, _, _ = computed(some, before, rules)
    shuffle.shuffle(some)
    again, _, _ = computed(some, before, rules)
    for first, second in zip(once, again, strict=True):
        assert as_bits(first) == as_bits(second)


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (math.nan, -math.nan), (4.0, 4.0)])
def test_two_samples_of_equal_volume_are_one_point(one: float, other: float) -> None:
    some = [Point(7, "cpu_util", "gauge", T0, volume, T0 + n, n) for n, volume in enumerate((one, other))]
    _, found, _ = computed(some, [], load(None))
    assert found.repeats == 1


def as_bits(made: Buckets) -> list[bytes]:
    return [
        value.tobytes()
        for value in (made.place, made.start, made.sum, made.sum_squares, made.increase, *made.quantiles)
    ]
