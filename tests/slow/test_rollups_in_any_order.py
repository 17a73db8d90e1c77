"""Roll-ups are the same whatever the order and the batches in which the points came."""

from datetime import timedelta
from typing import Any

import pytest
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import assert_right

from meterhouse.sample_quality import groups
from meterhouse.sample_quality.step import judge_hours

pytestmark = pytest.mark.slow

MOMENTS = st.sampled_from(
    [
        *(at(0), at(3), at(59), at(hours=1), at(90), at(hours=5), at(hours=13), at(hours=36), at(hours=47)),
        *(at(days=-20000), at(days=-30), at(days=40), at(days=42), at(days=20000)),
    ]
)
ANY_POINT = st.builds(
    lambda when, volume, kind, late: point(
        volume,
        when,
        meter={"gauge": "cpu_util", "delta": "requests", "cumulative": "cpu"}[kind],
        type=kind,
        recorded_at=when + timedelta(minutes=late),
    ),
    MOMENTS,
    st.sampled_from([1.0, 2.0, 5.0, 40.0, -1.0, float("nan")]),
    st.sampled_from(["gauge", "delta", "cumulative", "cumulative"]),
    st.integers(-10, 5000),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batches=st.lists(st.lists(ANY_POINT, min_size=1, max_size=6), min_size=1, max_size=4),
    between=st.sampled_from([roll_up, judge_hours, None]),
    days=st.sampled_from([1, 100]),
)
def test_any_order_and_batching_of_arrivals_gives_the_same_rollups(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch, batches: list[list[dict[str, Any]]], between: Any, days: int
) -> None:
    monkeypatch.setattr(groups, "DAYS_AT_ONCE", days)
    site = open_site()
    for batch in batches:
        land_points(site, batch)
        if between is not None:
            between(site)
    roll_up(site)
    assert_right(site, [one for batch in batches for one in batch])
