"""A day that is made of its hourly rows, hour by hour, is the day that is made of its points."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.definitions.archive_policies import Policies, Policy, Rule, Tier
from meterhouse.rollups import tiers
from meterhouse.rollups.buckets import Excluded
from meterhouse.rollups.rows import FOLDED, Metadata, rows_of
from meterhouse.rollups.running_day import RunningDay
from meterhouse.sample_quality.series_table import CUMULATIVE, SeriesTable
from meterhouse.sample_quality.verdicts import Good

HOUR = 3_600_000_000
T0 = 20_000 * 24 * HOUR
TYPES = ["cumulative", "delta", "gauge", "gauge"]
SERIES = SeriesTable.of([90, -5, 7, 1], ["a", "b", "c", "d"], TYPES)
BARE = Policy("bare", (Tier(3600), Tier(86400)), ())
PLAN = tiers.Plan.of(Policies({"bare": BARE}, (Rule("*", "bare"),), "bare", "x"), SERIES)

VOLUMES = st.one_of(st.sampled_from([0.0, -0.0, 1e150, -1e150, 0.1, 0.7]), st.floats(-1e9, 1e9, allow_nan=False))
STEPS = st.sampled_from([1, 10_000_000, 10_400_000, 60_000_000, 300_000_000, 1_700_000_000])
POINTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 23), st.lists(st.tuples(STEPS, VOLUMES), max_size=6), st.booleans()),
    max_size=30,
)


def columns(drawn: list[tuple[int, int, list[tuple[int, float]], bool]]) -> tuple[Good, Excluded]:
    """Points in order, each at a sum of steps from the start of an hour, and excluded ones at starts of hours."""
    found: dict[tuple[int, int], float] = {}
    out = []
    for place, hour, steps, bad in drawn:
        at = 0
        for step, volume in steps:
            at = (at + step) % HOUR
            found[place, T0 + hour * HOUR + at] = volume
        if bad:
            out.append((place, T0 + hour * HOUR))
    rows = sorted(found)
    place = np.array([row[0] for row in rows], np.int32)
    volume = np.array([found[row] for row in rows], np.float64)
    counter = SERIES.kinds[place] == CUMULATIVE
    increase = np.where(counter, np.abs(volume) / 3, 0.0)
    good = Good(place, np.array([row[1] for row in rows], np.int64), volume, increase, counter & (volume < 0))
    return good, Excluded(np.array([row[0] for row in out], np.int32), np.array([row[1] for row in out], np.int64))


def as_rows(made: tiers.Made, metadata: bool) -> pa.Table:
    described = Metadata(made.buckets.last_at, (made.buckets.count > 0) & (made.buckets.start // HOUR % 2 == 0))
    return rows_of(made, SERIES.ids, SERIES.kinds, described if metadata else None).select(FOLDED)


@given(POINTS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_a_day_of_hourly_rows_is_the_day_of_points_to_the_bit(drawn: Any, shuffle: Any) -> None:
    hourly, daily = tiers.roll(PLAN, *columns(drawn))
    rows = as_rows(hourly, metadata=True)
    so_far, apart = RunningDay(T0), [RunningDay(T0), RunningDay(T0)]
    for number in range(24):
        of_hour = [n for n, bucket in enumerate(hourly.buckets.start.tolist()) if bucket == T0 + number * HOUR]
        shuffle.shuffle(of_hour)
        so_far.add(rows.take(pa.array(of_hour, pa.int64())))
        if number % 5 == 0:
            so_far = RunningDay.of(T0, pa.table(so_far.columns()))
        for n in range(2):
            apart[n].add(rows.take(pa.array([r for r in of_hour if hourly.buckets.place[r] % 2 == n], pa.int64())))
    made = so_far.rows(SERIES).select(FOLDED)
    assert not apart[0].has_any(apart[1])
    apart[0].absorb(apart[1])
    assert repr(apart[0].rows(SERIES).select(FOLDED).to_pylist()) == repr(made.to_pylist())
    left_out = ["metadata_id"]
    expected = as_rows(daily, metadata=False).drop_columns(left_out)
    # A kind is known from good points only.
    assert made.drop_columns(left_out).num_rows == expected.num_rows
    for name in expected.column_names:
        ours, theirs = made[name].combine_chunks(), expected[name].combine_chunks()
        assert ours.to_pylist() == theirs.to_pylist(), name
        if pa.types.is_floating(ours.type):
            some = ours.is_valid()
            assert ours.filter(some).to_numpy().tobytes() == theirs.filter(some).to_numpy().tobytes(), name
    last: dict[int, int] = {}
    for row in rows.to_pylist():
        if row["metadata_id"] is not None:
            last[row["series_id"]] = row["metadata_id"]
    assert {row["series_id"]: row["metadata_id"] for row in made.to_pylist() if row["metadata_id"]} == last


def test_series_that_come_later_get_their_row_and_unknown_ones_come_last() -> None:
    place = np.array([0, 2, 2, 3], np.int32)
    time = np.array([T0, T0 + HOUR, T0 + HOUR + 1, T0], np.int64)
    hourly, _ = tiers.roll(PLAN, Good(place, time, np.arange(4.0)), columns([])[1])
    rows = as_rows(hourly, metadata=True)
    known = SeriesTable.of(SERIES.ids[2:], ["c", "d"], TYPES[2:])
    so_far = RunningDay(T0)
    for bucket in (T0, T0 + HOUR):
        so_far.add(rows.filter(pa.array(hourly.buckets.start == bucket)))
    assert so_far.rows(known)["series_id"].to_pylist() == [*SERIES.ids[2:].tolist(), int(SERIES.ids[0])]
