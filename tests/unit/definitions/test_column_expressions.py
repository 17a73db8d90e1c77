"""Expressions of derived meters: restricted arithmetic on columns."""

import math
import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.definitions.column_expressions import Input, InvalidExpression, parse

ICEHOUSE = "100.0 / (10**9 * (resource_metadata.cpu_number or 1))"


def value(text: str, **inputs: float) -> float:
    """The value of an expression of one sample; `a__b` is `resource_metadata.a.b`."""
    columns = {
        Input() if name == "volume" else Input("", tuple(name.split("__"))): np.array([number])
        for name, number in inputs.items()
    }
    return float(parse(text, of_meters=False).compute(columns, 1)[0])


def test_the_scale_of_icehouse_divides_by_the_cores_or_by_one() -> None:
    assert value(ICEHOUSE, cpu_number=4.0) == 100.0 / (10**9 * 4)
    assert value(ICEHOUSE, cpu_number=math.nan) == value(ICEHOUSE, cpu_number=0.0) == 100.0 / 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("volume * 1.0 / 1024", 2.0),
        ("-volume // 1000 % 7", 4.0),
        ("max(volume, 3, 5) - abs(-1)", 2047.0),
        ("1 if volume > 5 else volume / 0", 1.0),
        ("(0 and 1 / 0) or (5 or 1 / 0)", 5.0),
        ("not volume", 0.0),
    ],
)
def test_operators_are_those_of_python(text: str, expected: float) -> None:
    assert value(text, volume=2048.0) == expected


@pytest.mark.parametrize("text", ["volume / 0", "1 / (1 / 0)", "10 ** 999", "(0 - 8) ** 0.5", "(0 / 0) or 1", "flavor"])
def test_what_cannot_be_computed_has_no_value(text: str) -> None:
    text = text.replace("flavor", "resource_metadata.flavor.vcpus + 1")
    assert math.isnan(value(text, volume=1.0, flavor__vcpus=math.nan))


def test_a_row_that_fails_leaves_the_others() -> None:
    found = parse("$(a) / $(b)", of_meters=True).compute({Input("a"): np.ones(3), Input("b"): np.arange(3.0)}, 3)
    np.testing.assert_array_equal(found, [math.nan, 1.0, 0.5])


@pytest.mark.parametrize(
    "text",
    [
        *("__import__('os')", "open('x')", "volume.real", "[1]", "'a'", "lambda: 1", "volume[0]", "(volume).real"),
        *("unknown", "resource_metadata", "$(cpu) * 2", "1 < 2 < 3", "1j", "volume; 1", "", "1" * 400, "$volume"),
        *("9**9**9**9**" * 60 + "9", "(" * 300 + "1" + ")" * 300, "+".join(["1"] * 300), "-" * 300 + "1", "max(1)"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidExpression):
        parse(text, of_meters=False)


def test_arithmetic_names_its_meters() -> None:
    parsed = parse("100 * $(memory.usage) / ($(memory).resource_metadata.flavor.ram or $(memory))", of_meters=True)
    assert parsed.meters == ("memory.usage", "memory")
    assert Input("memory", ("flavor", "ram")) in parsed.inputs
    with pytest.raises(InvalidExpression, match="of no meter"):
        parse("volume * $(memory)", of_meters=True)


numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 2)) | st.sampled_from([0.0, 1.0, 1e308, math.nan])
trees = st.recursive(
    st.sampled_from(["volume", "resource_metadata.x", "0", "2", "0.5"]),
    lambda below: st.tuples(st.sampled_from(["+", "-", "*", "/", "%", "//", "or", "and", "<", "=="]), below, below).map(
        lambda t: f"({t[1]} {t[0]} {t[2]})"
    ),
    max_leaves=8,
)


def finite(operation: Callable[[float, float], float], turned: bool = False) -> Callable[[Any, Any], Any]:
    """The operation on two numbers, which fails if one is missing or the result is not finite."""

    def compute(one: Any, other: Any) -> Any:
        first, second = (other, one) if turned else (one, other)
        if isinstance(one, Missing) or isinstance(other, Missing):
            raise TypeError("missing")
        value = operation(float(first), float(second))
        if not math.isfinite(value):
            raise OverflowError("not finite")
        return Number(value)

    return compute


class Number(float):
    """A float of which no operation goes on with an infinite value."""


class Missing:
    """A value that is not there: false, and nothing is computed with it."""

    def __bool__(self) -> bool:
        return False


for kind in (Number, Missing):
    for name in ("add", "sub", "mul", "truediv", "mod", "floordiv"):
        setattr(kind, f"__{name}__", finite(getattr(operator, name)))
        setattr(kind, f"__r{name}__", finite(getattr(operator, name), turned=True))
    for name in ("lt", "gt", "eq"):
        setattr(kind, f"__{name}__", finite(getattr(operator, name)))


@settings(max_examples=300, deadline=None)
@given(trees, st.lists(st.tuples(st.floats(-50, 50), numbers), min_size=1, max_size=4))
def test_columns_have_what_python_computes_row_by_row(text: str, rows: list[tuple[float, float]]) -> None:
    columns = {Input(): np.array([r[0] for r in rows]), Input("", ("x",)): np.array([r[1] for r in rows])}
    found = parse(text, of_meters=False).compute(columns, len(rows))
    for got, (volume, x) in zip(found, rows, strict=True):
        metadata = SimpleNamespace(x=Missing() if math.isnan(x) else Number(x))
        try:
            want = eval(text, {"volume": Number(volume), "resource_metadata": metadata})
        except (ZeroDivisionError, TypeError, OverflowError):
            want = Missing()
        if isinstance(want, Missing):
            assert math.isnan(got)
        else:
            assert got == pytest.approx(float(want), rel=1e-12, abs=1e-300)
