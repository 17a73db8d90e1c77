"""Regular expressions of definition files: an accepted one ends in time, whatever the text."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meterhouse.definitions.meters import compile_meter
from meterhouse.definitions.patterns import LENGTHS, MAX_CHARACTERS, MAX_STEPS, compile_pattern, max_text_length, steps
from meterhouse.shipped import DEFAULTS

codes: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

CATASTROPHIC = [
    r"(a+)+$",
    r"(a*)*$",
    r"(a+)*b",
    r"(a|a)*$",
    r"(a|aa)+$",
    r"(a|a?)+$",
    r"(.*)*x",
    r"(.*a){12}",
    r"(.+)+\.end",
    r"(\w+\s?)*$",
    r"^(\w+\s?)*$",
    r"(\s*\w+\s*)*;",
    r"(x+x+)+y",
    r"(?:a?){40}a{40}",
    "a?" * 30 + "a" * 30,
    r".*.*.*x",
    r".*a.*a.*a.*a.*a",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"([a-zA-Z]+)*",
    r"(?:[^.]+)+\.exists",
    r"(?:\w|\d\d)*!",
    r"(?i:a|A)+(?:a|A)+(?:A|a)+b",
    r"(?:a{1,100}){1,100}",
    r"(?:(?:(?:){1000}){1000}){1000}",
    r"(?:(?:a{0,50}){0,50}){0,50}b",
    r"(?=(a+)+$)x",
    r"(?!(a+)+$)x",
    r"(?:(?=a)a|aa)*b",
    r"(a*)(\1)*(\1)*b",
    r"(a)?(?(1)a|b)*(?:a|ab)*c",
    r"(?:compute|volume|compute.instance)*(?:\.\w+)*(?:\w+\.)*",
    r"(?i:(k|\u212a)+)*$",
    r"((a*?)*?)*?b",
    r"(?s:.+)+(?s:.+)+x",
]
HARMLESS = [
    "",
    r"^$",
    r".*",
    r"a*b",
    r"compute\.instance\.(?!create.start|update).*",
    r"compute.instance.(create|delete|exists|resize).*",
    r"^(?:image|volume)\.(?:create|delete)\.end$",
    r"identity\.\w+\.\w+",
    r"(GET|POST|PUT)+",
    r"(\w+\.)*foo",
    r"([a-z]+\.)+[a-z]+$",
    r"^[\w.]+@[\w.]+$",
    r"\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}",
    r"^(\d+,)*\d+$",
    r"(?:[^,]*,){3}",
    r"(?i)^cpu(_util)?$",
    r"(?x) vol ume  # a comment",
    r"(?s)begin.*end",
    r"(?m)^line$",
    r"(.)\1",
    r"[^\d\W]+-\d+",
    r"(?<=host-)\d+",
    r"(?P<first>a)(?P=first)",
    r"a{2,30}b{3}",
    r"\Aa\Z",
    "é+[à-ü]ö*",
]


@pytest.mark.parametrize("text", CATASTROPHIC)
def test_an_expression_that_can_take_too_long_is_rejected(text: str) -> None:
    re.compile(text)
    with pytest.raises(ValueError, match="can match a text in too many ways") as caught:
        compile_pattern(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", HARMLESS)
def test_a_safe_expression_is_accepted_and_compiled_by_python(text: str) -> None:
    assert compile_pattern(text) == re.compile(text)
    assert max_text_length(text) in LENGTHS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(", r"'\(' is not a regular expression: missing \)"),
        ("a**", "is not a regular expression: multiple repeat"),
        ("[z-a]", "is not a regular expression: bad character range"),
        (r"\1", "is not a regular expression: invalid group reference"),
        ("(?<=a*)b", "is not a regular expression: look-behind"),
        ("a{99999999999}", "nested too deeply or repeats too often"),
        ("(" * 1_500 + ")" * 1_500, "nested too deeply|is not a regular expression"),
        ("a" * (MAX_CHARACTERS + 1), f"has more than {MAX_CHARACTERS} characters"),
        ("(a+)+" * 10_000, f"has more than {MAX_CHARACTERS} characters"),
    ],
)
def test_an_invalid_regular_expression_is_rejected_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        compile_pattern(text)
    assert len(str(caught.value)) < 300
    assert not isinstance(caught.value, UnicodeError)


def event_types(path: Path) -> Iterator[str]:
    """The regular expressions of a meters.yaml."""
    content = yaml.safe_load(path.read_text("utf-8"))
    for entry in content.get("metric") or [] if isinstance(content, dict) else []:
        given = entry["event_type"]
        yield from [given] if isinstance(given, str) else given


def test_regular_expressions_of_real_definition_files_are_accepted(shared: Path) -> None:
    files = [*(shared / "definitions").rglob("meters*.yaml"), *DEFAULTS.rglob("*.yaml")]
    texts = sorted({text for path in files for text in event_types(path)})
    assert len(texts) > 60
    for text in texts:
        assert compile_pattern(text) == re.compile(text)
        assert max_text_length(text) >= 4_096, text


def test_a_meter_does_not_apply_an_expression_to_an_event_type_beyond_its_limit() -> None:
    keys = {"name": "m", "type": "gauge", "unit": "u", "volume": 1, "resource_id": "payload.id"}
    meter = compile_meter({**keys, "event_type": [r"(\w+\.)*foo", "short$"]})
    assert meter.matches("a." * 126 + "foo")
    assert not meter.matches("a." * 2_000 + "foo")
    assert meter.matches("short")


def test_the_limit_is_the_greatest_length_with_few_enough_steps() -> None:
    assert max_text_length(r"^abc$") == 65_536
    assert max_text_length(r"a*b") == 4_096
    assert max_text_length(r"(\w+\.)*foo") == 256
    for text in HARMLESS:
        assert steps(text, max_text_length(text)) <= MAX_STEPS
        assert all(steps(text, length) > MAX_STEPS for length in LENGTHS if length > max_text_length(text))


@pytest.mark.parametrize("text", HARMLESS)
@pytest.mark.parametrize("unlucky", ["a", "a.", "9,", "GETPUT", "line\n", "é", "2026-11-10T", "compute.instance."])
def test_a_text_of_the_maximum_length_is_matched_in_time(text: str, unlucky: str) -> None:
    """Passes if it ends at all."""
    whole = (unlucky * max_text_length(text))[: max_text_length(text) - 1] + "\0"
    pattern = compile_pattern(text)
    pattern.search(whole)
    pattern.match(whole)
    pattern.sub("", whole)


# -- the bound, held against a matcher that tries every way ---------------------------------------------------


class TooMany(Exception):
    """The matcher takes more steps than the bound allows."""


class Matcher:
    """Tries all ways in which an expression matches, like a backtracking engine on failure, and counts its steps."""

    def __init__(self, text: str, most: float) -> None:
        self.text = text
        self.most = most
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps > self.most:
            raise TooMany

    def ends(self, items: list[Any], at: int) -> Iterator[int]:
        """The positions where a sequence can end, once for each way."""
        if not items:
            yield at
            return
        (code, argument), rest = items[0], items[1:]
        for end in self.one(code, argument, at):
            yield from self.ends(rest, end)

    def one(self, code: Any, argument: Any, at: int) -> Iterator[int]:
        if code is codes.BRANCH:
            for branch in argument[1]:
                self.step()
                yield from self.ends(list(branch), at)
        elif code is codes.SUBPATTERN:
            yield from self.ends(list(argument[3]), at)
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            least, most, inner = argument
            yield from self.turns(least, most, list(inner), at, 0)
        elif code in (codes.ASSERT, codes.ASSERT_NOT):
            self.step()
            found = next(self.ends(list(argument[1]), at), None) is not None
            if found is (code is codes.ASSERT):
                yield at
        elif code is codes.AT:
            self.step()
            if at == (0 if argument is codes.AT_BEGINNING else len(self.text)):
                yield at
        else:
            self.step()
            if at < len(self.text) and self.takes(code, argument, self.text[at]):
                yield at + 1

    def turns(self, least: int, most: Any, inner: list[Any], at: int, done: int) -> Iterator[int]:
        self.step()
        if most is codes.MAXREPEAT or done < most:
            for end in self.ends(inner, at):
                if end > at or done < least:
                    yield from self.turns(least, most, inner, end, done + 1)
        if done >= least:
            yield at

    @staticmethod
    def takes(code: Any, argument: Any, character: str) -> bool:
        if code is codes.ANY:
            return character != "\n"
        if code is codes.IN:
            negated = argument[0][0] is codes.NEGATE
            return negated is not any(ord(character) == value for kind, value in argument if kind is codes.LITERAL)
        return (ord(character) == argument) is (code is codes.LITERAL)


def expressions() -> st.SearchStrategy[str]:
    """Expressions of the characters a, b and c."""
    atoms = st.sampled_from(["a", "b", "c", "ab", ".", "[ab]", "[^a]", "[bc]", "^", "$", "(?:)"])

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        counts = st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{1,2}", "{0,3}"])
        return st.one_of(
            st.lists(inner, min_size=2, max_size=4).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda several: f"(?:{'|'.join(several)})"),
            st.tuples(inner, counts).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
            st.tuples(st.sampled_from(["a", "b", "[bc]", "."]), counts).map("".join),
            inner.map(lambda one: f"(?={one})"),
            inner.map(lambda one: f"(?!{one})"),
        )

    return st.recursive(atoms, larger, max_leaves=9)


@settings(deadline=None, max_examples=600)
@given(expressions(), st.text("abc", max_size=9))
@example("(?:a+b)*", "aabab")
@example("(?:a*b?)*c", "aaabaab")
@example("(?:ab|a)(?:b|)*c", "abbb")
@example("(?:a|b(?:a|)+)*c", "abababa")
@example("(?:[ab]c|a)*?b", "acacaca")
@example("(?:a?b?){0,3}c", "ababab")
@example("(?:(?:^|a)b)*", "abab")
def test_no_way_of_matching_takes_more_steps_than_the_bound(expression: str, text: str) -> None:
    bound = steps(expression, len(text))
    matcher = Matcher(text, min(bound, 200_000))
    items = list(parser.parse(expression))
    try:
        for start in range(len(text) + 1):
            for _ in matcher.ends(items, start):
                pass
    except TooMany:
        assert bound > 200_000, f"{expression!r} takes more than {bound} steps on {text!r}"
    assert re.compile(expression).search(text) is None or bound >= 1


@settings(deadline=None, max_examples=200)
@given(expressions(), st.text("abc", max_size=8))
def test_the_matcher_of_these_tests_matches_what_python_does(expression: str, text: str) -> None:
    matcher = Matcher(text, 1_000_000)
    items = list(parser.parse(expression))
    try:
        found = set(matcher.ends(items, 0))
    except TooMany:
        return
    assert (re.compile(expression).match(text) is not None) is bool(found)
    whole = re.compile(expression).fullmatch(text) is not None
    assert whole is (len(text) in found)
