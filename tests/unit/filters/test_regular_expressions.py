"""Regular expressions of filters: they mean the same everywhere, and none is costly."""

import re

import pyarrow as pa
import pytest
from conditions import PATTERNS, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import literal, select

from meterhouse.errors import UsageError
from meterhouse.filters.regular import MAX_CHARACTERS, MAX_OPTIONAL, MAX_SIZE, expression
from meterhouse.site import Site
from meterhouse.stores import duck


@settings(max_examples=300, deadline=None)
@given(PATTERNS, st.lists(TEXTS, min_size=1, max_size=8))
def test_an_expression_written_again_means_the_same(pattern: str, texts: list[str]) -> None:
    end = pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
    written = expression(pattern)
    written = written[:-1] + r"\Z" if written.endswith("$") else written
    for text in texts:
        assert bool(re.search(written, text)) == bool(re.search(end, text, re.ASCII | re.DOTALL))


@pytest.mark.parametrize(
    ("pattern", "found", "missed"),
    [
        ("web", ["web", "my-web-1"], ["we", "WEB"]),
        ("^web$", ["web"], ["web1", "a\nweb", "web\n"]),
        (r"^m1\.(small|large)$", ["m1.small"], ["m1xsmall", "m1.smallest"]),
        ("^a.c$", ["abc", "a\nc", "a☃c"], ["ac"]),
        (r"^\d{2,3}$", ["10", "100"], ["1", "1000", "١٢"]),
        (r"^\w+$", ["a_1"], ["é", "a-1"]),
        (r"\s", ["a b", "a\tb", "a\x0bb"], ["ab", "a\u00a0b"]),
        (r"^[\]\-a^]+$", ["]-a^"], ["b"]),
        ("^[^]x]$".replace("]x", r"\]x"), ["a", "\n"], ["]", "x"]),
        (r"\(\)\{\}\[\]\.\*\+\?\|\^\$\\", ["(){}[].*+?|^$\\"], ["()"]),
        ("a.*?b", ["a--b"], ["ba"]),
        ("(a|b){2}", ["ab"], ["ac"]),
    ],
)
def test_what_is_found_and_what_is_not(any_warehouse: Site, pattern: str, found: list[str], missed: list[str]) -> None:
    written, texts = expression(pattern), [*found, *missed]
    with duck.SINGLE.connect() as connection:
        connection.register("texts", pa.table({"n": range(len(texts)), "text": texts}))
        answer = connection.execute("SELECT text FROM texts WHERE regexp_matches(text, ?) ORDER BY n", [written])
        assert [row[0] for row in answer.fetchall()] == found
    with any_warehouse.warehouse.read() as reader:
        matched = [text for text in texts if reader.execute(select(literal(text).regexp_match(written))).scalar()]
    assert matched == found


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("", "nothing to search for"),
        ("a|", "nothing to search for"),
        ("()", "nothing to search for"),
        ("(a", r"a \( that is not closed"),
        ("a)", r"a \) that closes no group"),
        ("[a", r"a \[ that is not closed"),
        ("[]", "a set without characters"),
        ("[z-a]", "a range that ends before it starts"),
        ("[[:alpha:]]", "a class that stores do not read alike"),
        ("*a", r"nothing before \* to repeat"),
        ("a**", "a repetition of a repetition"),
        ("a*+", "a repetition of a repetition"),
        ("a{2", r"a \{ that starts no number of times"),
        ("a{3,2}", "more at least than at most"),
        ("a{256}", "repeats more than 255 times"),
        ("^*", "the start or the end of the text cannot be repeated"),
        ("(^a)+", "the start or the end of the text cannot be repeated"),
        ("(?i)a", "a group that stores do not read alike"),
        ("(?=a)", "a group that stores do not read alike"),
        ("(?P<n>a)", "a group that stores do not read alike"),
        (r"(a)\1", r"\\1 is not part of"),
        (r"\bweb", r"\\b is not part of"),
        ("a\\", "is not part of"),
        (r"[\D]", r"\\D is not part of"),
        ("(a{100}){100}", f"more than {MAX_SIZE} characters"),
        ("(a?b*){26}", f"more than {MAX_OPTIONAL} parts that may be missing"),
        ("a{1,52}", f"more than {MAX_OPTIONAL} parts that may be missing"),
        ("a" * (MAX_CHARACTERS + 1), "has 501 characters"),
    ],
)
def test_what_stores_do_not_read_alike_or_is_too_large_is_a_usage_error(pattern: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        expression(pattern)
    assert caught.value.hint


@settings(max_examples=300)
@given(st.text(st.sampled_from(r"ab[](){}*+?|^$.\-:=,129dwsDn"), max_size=20))
def test_any_text_is_an_expression_that_all_read_or_a_usage_error(pattern: str) -> None:
    try:
        written = expression(pattern)
    except UsageError:
        return
    re.compile(written)
    with duck.SINGLE.connect() as connection:
        connection.execute("SELECT regexp_matches('ab', ?)", [written]).fetchall()


HOSTILE = ("(a+)+$", "(a|a)*b$", "(a|aa)+$", "(.*)*x$", "(a?){50}a{50}$", "([a-z]+)*[0-9]$", "(a*b?){25}c$")


@pytest.mark.parametrize("pattern", HOSTILE)
def test_no_expression_is_tried_in_all_ways(any_warehouse: Site, pattern: str) -> None:
    """A backtracking engine would not end."""
    text = "a" * 10_000 + "!"
    written = expression(pattern)
    with any_warehouse.warehouse.read() as reader:
        assert not reader.execute(select(literal(text).regexp_match(written))).scalar()
    with duck.SINGLE.connect() as connection:
        assert connection.execute("SELECT regexp_matches(?, ?)", [text, written]).fetchone() == (False,)
