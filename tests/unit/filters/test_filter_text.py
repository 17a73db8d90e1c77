"""Conditions as a text: what they mean, and what an error says."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.errors import UsageError
from meterhouse.filters import EVENTS, RESOURCES, SAMPLES, SERIES, And, Filter, Match, Not, OneOf, Or, all_of, fields_of
from meterhouse.filters import parse as read
from meterhouse.filters.conditions import MAX_COMPARISONS, MAX_DEPTH, MAX_LENGTH, MAX_SEARCHES, MAX_VALUES, Condition
from meterhouse.filters.text import MAX_CHARACTERS


def parse(text: str) -> Condition:
    return read(text, SAMPLES)


def equal(field: str, value: str) -> Filter:
    return Filter(field, "eq", value, SAMPLES)


A, B, C = equal("project", "a"), equal("user", "b"), equal("source", "c")


def test_and_binds_closer_than_or_and_not_closest() -> None:
    assert parse("project = a or user = b and source = c") == Or((A, And((B, C))))
    assert parse("(project = a or user = b) and source = c") == And((Or((A, B)), C))
    assert parse("not project = a and user = b") == And((Not(A), B))
    assert parse("not (project = a and user = b)") == Not(And((A, B)))
    assert parse("NOT project=a AND\n\tnot not user='b'") == And((Not(A), Not(Not(B))))


def test_all_comparisons_can_be_written() -> None:
    signs = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    for sign, op in signs.items():
        for text in (f"volume {sign} 9", f"volume{sign}9", f'volume{sign}"9"'):
            assert parse(text) == Filter("volume", op, "9", SAMPLES)
    assert parse("resource =~ ^web") == Match("resource", "^web", True, SAMPLES)
    assert parse(r'resource !~ "m1\..*"') == Match("resource", r"m1\..*", False, SAMPLES)
    assert parse("resource IN (a, 'b c' , 3)") == OneOf("resource", ("a", "b c", "3"), SAMPLES)


def test_the_longest_example() -> None:
    text = r'project = "a" and (metadata.flavor.name =~ "m1\..*" or not resource in ("x", "y"))'
    flavor = Match("metadata.flavor.name", r"m1\..*", True, SAMPLES)
    assert parse(text) == And((A, Or((flavor, Not(OneOf("resource", ("x", "y"), SAMPLES))))))
    assert {(field.column, field.key) for field in fields_of(parse(text))} == {
        ("project_id", ""),
        ("metadata", "flavor.name"),
        ("resource_id", ""),
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("web-01", "web-01"),
        ("2026-11-20T10:00:00+01:00", "2026-11-20T10:00:00+01:00"),
        ('"and"', "and"),
        ("''", ""),
        ('"a ""b"" \'c\'"', "a \"b\" 'c'"),
        ("'it''s'", "it's"),
        (r'"a\b\"', "a\\b\\"),
        ('"(x) = y, z"', "(x) = y, z"),
        ("☃", "☃"),
    ],
)
def test_a_value_is_one_word_or_in_quotes(written: str, value: str) -> None:
    assert parse(f"resource = {written}") == equal("resource", value)
    assert parse(f"resource in ({written},{written})") == OneOf("resource", (value, value), SAMPLES)


def test_a_key_may_be_in_quotes() -> None:
    assert parse('metadata."odd key (1)" = x') == equal("metadata.odd key (1)", "x")
    assert read("traits.'a=b' = x", EVENTS) == Filter("traits.a=b", "eq", "x", EVENTS)


def test_no_condition_holds_always_and_one_is_itself() -> None:
    assert all_of([]) == And(())
    assert all_of([A]) == A
    assert all_of([A, B]) == And((A, B))


@pytest.mark.parametrize(
    ("text", "column", "what", "hint"),
    [
        ("", 1, "nothing where a comparison should be", "FIELD OPERATOR VALUE"),
        ("project", 8, "nothing after project", "= != < <= > >= =~ !~ in"),
        ("project =", 10, "nothing where a value should be", "Write a value"),
        ("projct = a", 1, "unknown field 'projct'", "Did you mean project"),
        ("user = b and projct = a", 14, "unknown field 'projct'", "Did you mean project"),
        ("metadata = a", 1, "unknown field 'metadata'", "metadata.KEY"),
        ("project == a", 9, "unknown operator '=='", "Write one of ="),
        ("project like a", 9, "unknown operator 'like'", "=~"),
        ("project eq a", 9, "unknown operator 'eq'", "="),
        ("project = a adn user = b", 13, "'adn' does not continue", "`and` or `or`"),
        ("resource = web server", 16, "'server' does not continue", "quotes around a value with spaces"),
        ("project = and", 11, "'and' where a value should be", "in quotes"),
        ("and = a", 1, "'and' where a comparison should be", ""),
        ('"project" = a', 1, "where a comparison should be", ""),
        ("(project = a", 13, "the end before the ) of column 1", ""),
        ("project = a)", 12, "a ) that closes nothing", ""),
        ("project in a", 12, "no list of values after `in`", "in (VALUE, VALUE)"),
        ("project in ()", 13, "')' where a value should be", ""),
        ("project in (a b)", 15, "'b' before the )", "a comma"),
        ("project not in (a)", 9, "`not` after project", "not project in"),
        ("project = 'a", 11, "a quote that is not closed", ""),
        ('user = b and project =   "a', 26, "a quote that is not closed", ""),
        ("volume > many", 10, "volume: 'many' is not a number", "such as 90"),
        ("user = b or volume > nan", 22, "nothing is gt nan", ""),
        ("timestamp > soon", 13, "'soon' is not a time", "ISO 8601"),
        ("volume =~ 9", 11, "a number has no text to search in", ""),
        ("project =~ '('", 12, "nothing to search for", ""),
        ("project = a\0", 11, "NUL", ""),
    ],
)
def test_an_error_says_what_is_wrong_where_and_what_to_do(text: str, column: int, what: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    said = str(caught.value)
    assert said.startswith(f"column {column}, at '"), said
    assert what in said
    assert hint in caught.value.hint
    assert "\n" not in said


def test_an_error_points_at_its_place() -> None:
    long = " or ".join(f"user = u{n}" for n in range(50))
    with pytest.raises(UsageError, match=r"column \d+, at '….* and --> projct = a or .*…': unknown field 'projct'"):
        parse(f"{long} and projct = a or {long}")


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(["project", "=", "=~", "!", "(", ")", ",", "'", '"', "and", "not", "in", "a", "(a", " ", "\n"]),
        max_size=30,
    ).map(" ".join)
)
def test_any_text_is_a_condition_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("(" * 5_000, f"nested more than {MAX_DEPTH} levels"),
        ("not " * 2_400, f"nested more than {MAX_DEPTH} levels"),
        (" or ".join(["user=b"] * 900), f"more than {MAX_COMPARISONS} comparisons"),
        (" or ".join(["user=~b"] * 21), f"more than {MAX_SEARCHES} regular expressions"),
        (f"user in ({','.join('b' * (MAX_VALUES + 1))})", f"more than {MAX_VALUES:,} values"),
        (f"user = {'b' * (MAX_LENGTH + 1)}", "the value has 4,097 characters"),
        ("x" * 1_000_000, f"the condition has 1,000,000 characters. At most {MAX_CHARACTERS:,}"),
        ("'" * (MAX_CHARACTERS - 1), "where a comparison should be|quote"),
        (f"metadata.{'k' * 300} = x", "the key has 300 characters"),
        ("metadata.0.1.2.3 = x", "more than 2 positions"),
        (f"{'f' * 5_000} = x", "unknown field"),
        ("user =~ '" + "(" * 200 + "a" + ")" * 200 + "'", "groups within each other"),
    ],
    ids=["(", "not", "or", "=~", "in", "value", "all", "quotes", "key", "positions", "field", "groups"],
)
def test_a_hostile_condition_is_a_usage_error_at_once(text: str, what: str) -> None:
    begun = time.process_time()
    with pytest.raises(UsageError, match=what) as caught:
        parse(text)
    assert len(str(caught.value)) < 1_000
    assert time.process_time() - begun < 30


def test_conditions_that_are_joined_later_are_bounded_too() -> None:
    with pytest.raises(UsageError, match="comparisons"):
        all_of([A] * (MAX_COMPARISONS + 1))
    deep: Condition = A
    for _ in range(MAX_DEPTH):
        deep = Not(deep)
    with pytest.raises(UsageError, match="levels"):
        all_of([deep, B])


def test_the_fields_are_those_of_the_kind_of_thing() -> None:
    assert read("metadata.a = x and meter = cpu", RESOURCES)
    with pytest.raises(UsageError, match="unknown field 'meter'"):
        read("meter = cpu", SERIES)
