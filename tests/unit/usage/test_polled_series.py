"""Series of pollsters, a resource at a time."""

import pyarrow as pa
import pytest

from meterhouse.usage import polled

KNOWN = pa.table(
    {
        "series_id": [1, 2, 3, 4],
        "source": ["s"] * 4,
        "meter": ["cpu", "memory", "cpu", "cpu"],
        "type": ["gauge"] * 4,
        "unit": pa.array(["ns", None, "ns", "ns"]),
        "resource_id": ["b", "a", "a", "b"],
        "project_id": pa.array([None, "p", "p", "q"]),
        "user_id": pa.array([None] * 4, pa.string()),
        "resource_type": ["instance"] * 4,
    }
)
ROLLED = pa.table(
    {
        "series_id": [4, 2, 1, 3],
        "first_at": [40, 20, 10, 30],
        "last_at": [41, 21, 11, 31],
        "points": [4, 2, 1, 3],
        "low": [4.0, 2.0, 1.0, 3.0],
        "high": [4.0, 2.0, 1.5, 3.0],
        "step": [300, 0, 600, 60],
    }
)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_series_of_a_resource_come_together_however_many_are_read_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polled, "_SERIES_AT_ONCE", at_once)
    found = [
        (row.key[1], row.series_id, row.first, row.meter) for row in polled._rows_of(polled._by_resource(KNOWN, ROLLED))
    ]
    assert found == [("a", 2, 20, "memory"), ("a", 3, 30, "cpu"), ("b", 1, 10, "cpu"), ("b", 4, 40, "cpu")]


def test_the_usual_step_of_a_meter_is_the_median_of_those_that_are_known() -> None:
    assert polled._usual_steps(polled._by_resource(KNOWN, ROLLED)) == {"cpu": 300}
