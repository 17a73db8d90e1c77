"""Conditions as JSON, in the form of Ceilometer's complex queries."""

import time
from typing import Any

import pytest

from meterhouse.errors import UsageError
from meterhouse.filters import SAMPLES, And, Filter, Match, Not, OneOf, Or
from meterhouse.filters import from_json as read
from meterhouse.filters.conditions import Condition


def from_json(given: Any) -> Condition:
    return read(given, SAMPLES)


def test_every_operator_is_read_in_any_case() -> None:
    given = {
        "And": [
            {"=": {"resource_id": "x"}},
            {"OR": [{"IN": {"project_id": ["a", "b"]}}, {"not": {"=~": {"metadata.name": "^web"}}}]},
            {"=<": {"volume": 9}},
            {"=>": {"timestamp": "2026-11-20T10:00:00"}},
            {"!~": {"user": "x"}},
        ]
    }
    assert from_json(given) == And(
        (
            Filter("resource_id", "eq", "x", SAMPLES),
            Or((OneOf("project_id", ("a", "b"), SAMPLES), Not(Match("metadata.name", "^web", True, SAMPLES)))),
            Filter("volume", "le", "9", SAMPLES),
            Filter("timestamp", "ge", "2026-11-20T10:00:00", SAMPLES),
            Match("user", "x", False, SAMPLES),
        )
    )


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (9, "9"), (0.5, "0.5"), (1e22, "1e+22"), ("x", "x")]
)
def test_values_have_the_text_that_metadata_has(value: Any, text: str) -> None:
    assert from_json({"=": {"metadata.a": value}}) == Filter("metadata.a", "eq", text, SAMPLES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "{} is not a condition"),
        ([], r"\[\] is not a condition"),
        ("project = a", "is not a condition"),
        ({"=": {"user": "a"}, "!=": {"user": "b"}}, "is not a condition"),
        ({"and": {"=": {"user": "a"}}}, "and: .* is not a list of conditions"),
        ({"or": []}, r"or: \[\] is not a list of conditions to join. Write at least two"),
        ({"and": [{"=": {"user": "a"}}, {"not": []}]}, r"and\[1\]\.not: \[\] is not a condition"),
        ({"and": [{"=": {"usr": "a"}}, {}]}, r"and\[0\]\.=: unknown field 'usr'. Did you mean user"),
        ({"like": {"user": "a"}}, "unknown operator 'like'"),
        ({"=": {"user": "a", "project": "b"}}, "=: .* is not a comparison"),
        ({"=": {"user": None}}, "=: user: None is not a value"),
        ({"=": {"user": 10**5_000}}, "is not a value"),
        ({"in": {"user": "a"}}, "in: user: 'a' is not a list"),
        ({"in": {"user": []}}, "in: user: there is no value"),
        ({"in": {"user": [["a"]]}}, r"in: user: \['a'\] is not a value"),
        ({">": {"volume": "many"}}, ">: volume: 'many' is not a number"),
        ({"=~": {"user": "a("}}, "=~: the regular expression, column 3, at 'a\\(--> '"),
        ({1: 2}, "unknown operator 1"),
    ],
)
def test_an_error_says_what_is_wrong_and_where(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        from_json(given)
    assert caught.value.hint


def test_a_hostile_condition_is_a_usage_error_at_once() -> None:
    deep: Any = {"=": {"user": "a"}}
    for _ in range(900):
        deep = {"not": deep}
    one = {"=": {"user": "a"}}
    wide = {"and": [{"or": [one] * 500}] * 500}
    many = {"in": {"user": ["a"] * 1_000_000}}
    begun = time.process_time()
    odd = {"x" * 1_000_000: {"user": "a"}}
    for given, what in ((deep, "levels"), (wide, "comparisons"), (many, "values"), (odd, "unknown operator")):
        with pytest.raises(UsageError, match=what) as caught:
            from_json(given)
        assert len(str(caught.value)) < 1_000
    assert time.process_time() - begun < 30
