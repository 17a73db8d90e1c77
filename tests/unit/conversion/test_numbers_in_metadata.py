"""Metadata is JSON that every database reads, whatever numbers a message has."""

import math

import orjson
import pytest

from meterhouse.conversion.sample_columns import canonical_json


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("beside", [1, 10**30])
def test_a_number_that_is_none_becomes_null_beside_any_other_number(value: float, beside: int) -> None:
    text = canonical_json({"b": [value, {"c": value}], "a": beside})
    assert orjson.loads(text)["b"] == [None, {"c": None}]
    assert text.startswith(b'{"a":1')
