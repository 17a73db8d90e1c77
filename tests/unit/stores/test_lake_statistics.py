"""Statistics of data files: bounds that hold, whatever the values are."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.stores.lake_statistics import lacking, statistics

LETTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(LETTERS, max_size=40), st.text(st.sampled_from("\U0010ffff\ud7ff\ue000a"), min_size=30, max_size=40)
)
FEW = settings(max_examples=150, deadline=None)


def of(values: list[Any], kind: pa.DataType) -> tuple[Any, Any, int]:
    """The bounds and the number of nulls of a column, whose values come in two parts."""
    parts = [pa.table({"x": pa.array(half, kind)}) for half in (values[::2], values[1::2])]
    found = json.loads(statistics(parts))
    assert found["numRecords"] == len(values)
    return found["minValues"].get("x"), found["maxValues"].get("x"), found["nullCount"]["x"]


@given(st.lists(st.none() | TEXTS, max_size=6))
@FEW
def test_bounds_of_texts_hold_in_the_order_of_their_bytes(values: list[str | None]) -> None:
    low, high, nulls = of(values, pa.string())
    texts = [each for each in values if each is not None]
    assert nulls == len(values) - len(texts)
    assert (low is None) == (high is None) == (not texts)
    assert all(low.encode() <= each.encode() <= high.encode() for each in texts)


@given(st.lists(st.floats(), min_size=1, max_size=5))
@FEW
def test_bounds_of_numbers_hold_and_are_infinite_where_one_is_not_a_number(values: list[float]) -> None:
    low, high, _ = of(values, pa.float64())
    if any(math.isnan(each) for each in values):
        assert (low, high) == ("-Infinity", "Infinity")
    assert all(float(low) <= each <= float(high) for each in values if not math.isnan(each))
    assert math.copysign(1, float(low)) == -1 or float(low) > 0  # -0.0 is the lower of both zeros
    assert math.copysign(1, float(high)) == 1 or float(high) < 0


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=1, max_size=4))
@FEW
def test_bounds_of_times_hold_although_they_have_milliseconds(values: list[datetime]) -> None:
    low, high, _ = of(values, pa.timestamp("us", tz="UTC"))
    assert datetime.fromisoformat(low) <= min(values)
    assert max(values) <= datetime.fromisoformat(high)


def test_a_file_lacks_statistics_if_a_column_with_values_has_no_bounds() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int64()), ("c", pa.list_(pa.string())), ("d", pa.binary())])
    columns = {"min.a": ["x", None, None, None], "max.a": ["y", None, None, None], "null_count.a": [0, 2, 1, None]}
    actions = pa.table({"path": list("abcd"), "num_records": [2] * 4, **columns, "min.b": [1] * 4, "max.b": [1] * 4})
    assert lacking(actions, schema)["path"].to_pylist() == ["c", "d"]
    assert lacking(actions.drop_columns(["max.b"]), schema).num_rows == 4
