"""Times of day, beside the clock on the wall."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.billing.clock import bands
from meterhouse.definitions.prices import TimeOfDay

MINUTE = 60_000_000
SPANS = st.tuples(
    st.integers(0, 24 * 60 - 1), st.integers(0, 24 * 60), st.frozensets(st.integers(0, 6), min_size=1)
).map(lambda each: TimeOfDay("", *each, price=None))


def of_the_wall(of: list[TimeOfDay], instant: datetime) -> int:
    """The time of day that a clock on the wall shows."""
    minute = instant.hour * 60 + instant.minute
    for number, each in enumerate(of, 1):
        until = each.end if each.end > each.start else each.end + 24 * 60
        if each.start <= minute < until and instant.weekday() in each.days:
            return number
        if minute + 24 * 60 < until and (instant.weekday() - 1) % 7 in each.days:
            return number
    return 0


@given(
    st.lists(SPANS, max_size=3),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"]),
    st.integers(0, 30 * 24 * 60),
)
def test_each_instant_has_the_time_of_day_of_the_wall(of: list[TimeOfDay], name: str, minutes: int) -> None:
    zone = ZoneInfo(name)
    start, end = datetime(2026, 9, 1, tzinfo=zone), datetime(2026, 10, 1, tzinfo=zone)
    made = bands(of, start, end, zone)
    instant = min(start.astimezone(UTC) + timedelta(minutes=minutes), end.astimezone(UTC) - timedelta(minutes=1))
    (found,) = made.at(np.array([times.micros(instant)])).tolist()
    assert found == of_the_wall(of, instant.astimezone(zone))


@given(st.lists(SPANS, max_size=3), st.lists(st.integers(0, 30 * 24 * 60), min_size=2, max_size=2, unique=True))
def test_the_times_of_day_of_a_stretch_add_up_to_it(of: list[TimeOfDay], minutes: list[int]) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start, end = datetime(2026, 10, 1, tzinfo=zone), datetime(2026, 11, 1, tzinfo=zone)
    made = bands(of, start, end, zone)
    low, high = (np.array([times.micros(start) + each * MINUTE]) for each in sorted(minutes))
    parts = [int(made.within(band, low, high)[0]) for band in range(made.count)]
    assert sum(parts) == high[0] - low[0]
    for band, part in enumerate(parts):
        if part:
            first, last = made.clipped(band, low, high)
            assert low[0] <= first[0] < last[0] <= high[0]
            assert made.within(band, first, last)[0] == part
            assert made.at(first)[0] == made.at(last - 1)[0] == band


@pytest.mark.parametrize(("month", "hours"), [(3, 7), (7, 8), (10, 9)])
def test_a_night_has_an_hour_less_or_more_when_the_clock_changes(month: int, hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    night = TimeOfDay("night", 22 * 60, 6 * 60, frozenset([5]), price=None)
    day = {3: 28, 7: 25, 10: 24}[month]  # the Saturdays before the changes, and one between
    start = datetime(2026, month, day, 12, tzinfo=zone)
    made = bands([night], start, start + timedelta(days=1), zone)
    low, high = (np.array([times.micros(each)]) for each in (start, start + timedelta(days=1)))
    assert made.within(1, low, high)[0] == hours * 60 * MINUTE
