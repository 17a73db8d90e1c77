"""Regular expressions of definition files, with a limit on what they may cost.

Python's engine tries one after the other all ways in which an expression can match. Some expressions have more ways
than there are atoms: `(a+)+$` on a row of a's. Tenants choose the texts, so an expression is accepted only if this
cannot happen. Its parsed tree is walked once to compute an upper bound of the steps on a text of some length: in how
many ways each part can match, what it costs to try them all, and whether the next character leaves only one of the
ways. The bound holds for the engine's worst case: the worst text, with a search from each of its positions. The
expression is applied to texts of at most the greatest length for which the bound is below `MAX_STEPS`.
"""

import importlib
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

MAX_STEPS: Final = 100_000_000
"""Maximum number of steps of the engine on one text: about a second."""

LENGTHS: Final = (65_536, 4_096, 256)
"""Possible limits of a text's length, in characters. An expression gets the greatest that is safe for it."""

MAX_CHARACTERS: Final = 4_096
"""Maximum length of an expression, in characters."""

MAX_RESULT: Final = 1_000_000
"""Maximum length of a text after a substitution, in characters."""

_ALL: Final = (1 << 257) - 1  # one bit for each of the first 256 characters, one for all others
_OTHERS: Final = 1 << 256
_parser: Any = importlib.import_module("re._parser")
_codes: Any = importlib.import_module("re._constants")
_AT_START: Final = ((_codes.AT, _codes.AT_BEGINNING), (_codes.AT, _codes.AT_BEGINNING_STRING))
_REPEATS: Final = (_codes.MAX_REPEAT, _codes.MIN_REPEAT)


def compile_pattern(text: str) -> re.Pattern[str]:
    """Compile a regular expression whose work is bounded on every text of up to `max_text_length` characters.

    Raises:
        ValueError: it is not a regular expression, or could take more than `MAX_STEPS` on a text of 256 characters.
    """
    shown = text if len(text) <= 60 else text[:60] + "…"
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"the regular expression '{shown}' has more than {MAX_CHARACTERS} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"'{shown}' is not a regular expression: {error}") from None
    except (RecursionError, OverflowError):
        raise ValueError(f"the regular expression '{shown}' is nested too deeply or repeats too often") from None
    if not max_text_length(text):
        raise ValueError(
            f"the regular expression '{shown}' can match a text in too many ways: on {LENGTHS[-1]} characters it may "
            f"take more than {MAX_STEPS:,} steps; let the repeated part start with a character that it cannot end with"
        )
    return pattern


@lru_cache(maxsize=4096)
def max_text_length(text: str) -> int:
    """The maximum length of a text, in characters, that a valid expression may be applied to; 0 for none."""
    return next((length for length in LENGTHS if steps(text, length) <= MAX_STEPS), 0)


def match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """`pattern.match(text)`, for a text of any length.

    Raises:
        ValueError: the text is too long for the expression.
    """
    _refuse_if_longer(pattern, text)
    return pattern.match(text)


def substitute(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    """`pattern.sub(replacement, text)`, for a text of any length.

    Raises:
        ValueError: the text is too long for the expression, or the result would be longer than `MAX_RESULT`.
    """
    _refuse_if_longer(pattern, text)
    longest = len(replacement) * (len(text) if "\\" in replacement else 1)
    if isinstance(text, str) and (len(text) + 1) * (longest + 1) > MAX_RESULT:
        return _substitute_counted(pattern, replacement, text)
    return pattern.sub(replacement, text)


def _substitute_counted(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    left = MAX_RESULT

    def expand(found: re.Match[str]) -> str:
        nonlocal left
        expanded = found.expand(replacement)
        left -= len(expanded)
        if left < 0:
            raise ValueError(f"the substitution by '{pattern.pattern:.60}' makes more than {MAX_RESULT} characters")
        return expanded

    return pattern.sub(expand, text)


def _refuse_if_longer(pattern: re.Pattern[str], text: str) -> None:
    # For a value that is not a text, the engine raises the error.
    if isinstance(text, str) and len(text) > LENGTHS[-1] and len(text) > max_text_length(pattern.pattern):
        raise ValueError(
            f"a text of {len(text)} characters is too long for the regular expression '{pattern.pattern:.60}', "
            f"which is applied to at most {max_text_length(pattern.pattern)}"
        )


def steps(text: str, length: int) -> float:
    """An upper bound of the steps that `search` or `sub` take with a valid expression on any text of this length.

    A step is a look at one character or position of the text, or one iteration of a repetition. The bound is infinite
    if it is more than a float holds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = _parser.parse(text)
    try:
        cost = _Bound(length, tree).cost
    except RecursionError:
        return math.inf
    # It is tried at each position of the text, unless it can only match at the start.
    at_start = len(tree) > 0 and tree[0] in _AT_START and not tree.state.flags & re.MULTILINE
    return cost + 2 * length + 1 if at_start else (length + 1) * (cost + 1)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is known about a part of an expression, on texts of some length and from any one position.

    Attributes:
        ways: the maximum number of ways in which it can match.
        cost: the maximum number of steps until all ways have been tried.
        check: the maximum number of steps until it fails on a next character that it cannot start with.
        first: the characters that it can start with.
        open: of any two ways, the one that ends earlier is followed by one of these characters. It is every character
            if two ways can end at the same position, or nothing is known.
        empty: whether it can match nothing.
        least: the minimum number of characters that it takes.
    """

    ways: float = 1.0
    cost: float = 0.0
    check: float = 0.0
    first: int = 0
    open: int = 0
    empty: bool = True
    least: int = 0


_NOTHING: Final = _Part()


class _Bound:
    """The bound of a parsed expression for one length of texts."""

    def __init__(self, length: int, tree: Any) -> None:
        self._length = length
        self.cost = self._sequence(list(tree), tree.state.flags).cost

    def _sequence(self, items: Sequence[Any], flags: int) -> _Part:
        whole = _NOTHING
        for code, argument in reversed(items):
            whole = _followed(self._part(code, argument, flags), whole)
        return whole

    def _part(self, code: Any, argument: Any, flags: int) -> _Part:
        characters = _characters(code, argument, flags)
        if characters is not None:
            return _Part(cost=1, check=1, first=characters, empty=False, least=1)
        if code is _codes.AT:
            return _Part(cost=1, check=1)
        if code in (_codes.ASSERT, _codes.ASSERT_NOT):
            cost = self._sequence(list(argument[1]), flags).cost + 1
            return _Part(cost=cost, check=cost)
        if code is _codes.SUBPATTERN:
            _, add, remove, inner = argument
            return self._sequence(list(inner), (flags | add) & ~remove)
        if code is _codes.ATOMIC_GROUP:
            return _settled(self._sequence(list(argument), flags))
        if code is _codes.BRANCH:
            return self._branch([list(branch) for branch in argument[1]], flags)
        if code in _REPEATS:
            least, most, inner = argument
            return self._repeat(least, most, self._sequence(list(inner), flags))
        if code is _codes.POSSESSIVE_REPEAT:
            least, most, inner = argument
            return _settled(self._repeat(least, most, _settled(self._sequence(list(inner), flags))))
        if code is _codes.GROUPREF:
            return _Part(cost=self._length + 1, check=self._length + 1, first=_ALL)
        if code is _codes.GROUPREF_EXISTS:
            _, yes, no = argument
            return self._branch([list(yes), list(no or [])], flags)
        return _Part(math.inf, math.inf, math.inf, _ALL, _ALL)  # an element of a newer Python

    def _branch(self, branches: list[list[Any]], flags: int) -> _Part:
        parts = [self._sequence(branch, flags) for branch in branches]
        heads = [_head(branch, flags) for branch in branches]
        # Two alternatives exclude each other if the runs of characters that they start with differ at some position.
        apart = all(
            any(not one & other for one, other in zip(heads[a], heads[b], strict=False))
            for a in range(len(heads))
            for b in range(a)
        )
        ways = [part.ways for part in parts]
        return _Part(
            ways=max(ways) if apart else sum(ways),
            cost=sum(part.cost for part in parts) + len(parts),
            check=sum(part.check for part in parts) + len(parts),
            first=_union(part.first for part in parts),
            open=_union(part.open for part in parts) if apart else _ALL,
            empty=any(part.empty for part in parts),
            least=min(part.least for part in parts),
        )

    def _repeat(self, least: int, most: Any, part: _Part) -> _Part:
        bounded = math.inf if most is _codes.MAXREPEAT else float(most)
        # Once the minimum number of turns is reached, a turn that takes nothing is the last one.
        turns = min(bounded, self._length // part.least + 1 if part.least else least + self._length + 1)
        empty = part.empty or not least
        whole = _Part(check=part.check + 1, first=part.first, empty=empty, least=min(least * part.least, 1 << 32))
        if part.ways == 1:
            ways = max(turns - least + 1, 1)
            # Each turn but the last is followed by a character that a turn can start with.
            seen = 0 if ways == 1 else _ALL if part.empty else part.first
            return replace(whole, ways=ways, cost=1 + turns * (part.cost + 1), open=seen)
        if not part.empty and not part.open & part.first:
            # Only the longest way of a turn can be followed by another turn.
            cost = 1 + turns * (part.cost + 1 + part.ways * (part.check + 1))
            return replace(
                whole, ways=min(turns * part.ways, self._length + 1.0), cost=cost, open=part.open | part.first
            )
        if turns <= 1:
            ways = part.ways + (not least)
            seen = _ALL if part.empty and not least else part.open | part.first
            return replace(whole, ways=ways, cost=part.cost + 1, open=seen if not least else part.open)
        ways = _sum_of_powers(part.ways, turns)
        return replace(whole, ways=ways, cost=1 + ways * (part.cost + 1), open=_ALL)


def _followed(part: _Part, rest: _Part) -> _Part:
    """A part and the rest that follows it."""
    first = part.first | (rest.first if part.empty else 0)
    check = part.check + (rest.check if part.empty else 0)
    empty, least = part.empty and rest.empty, part.least + rest.least
    if part.ways == 1:
        return _Part(part.ways * rest.ways, part.cost + rest.cost, check, first, rest.open, empty, least)
    if not part.open & rest.first:
        # At all ends of the part but one, the next character is one that the rest cannot start with.
        ways = rest.ways + (part.ways - 1 if rest.empty else 0)
        seen = rest.open | (part.open if rest.empty else 0)
        cost = part.cost + part.ways * rest.check + rest.cost
        return _Part(ways, cost, check, first, seen, empty, least)
    cost = part.cost + part.ways * rest.cost
    return _Part(part.ways * rest.ways, cost, check, first, _ALL, empty, least)


def _settled(part: _Part) -> _Part:
    """A part of which the engine keeps only the first way."""
    return replace(part, ways=1.0, open=0)


def _sum_of_powers(base: float, most: float) -> float:
    """1 + base + base² + … + base^most."""
    try:
        return float((base ** (most + 1) - 1) / (base - 1))
    except OverflowError:
        return math.inf


def _union(sets: Any) -> int:
    whole = 0
    for each in sets:
        whole |= each
    return whole


# -- sets of characters ----------------------------------------------------------------------------------------------


def _head(items: Sequence[Any], flags: int) -> list[int]:
    """The characters that can be at each of the first positions of a sequence, up to one that may be missing."""
    head: list[int] = []
    for code, argument in items:
        characters = _characters(code, argument, flags)
        if characters is None:
            if code is _codes.SUBPATTERN:
                _, add, remove, inner = argument
                inside = _head(list(inner), (flags | add) & ~remove)
                head += inside
                if len(inside) == len(inner):
                    continue
            elif code in _REPEATS and argument[0]:
                head += _head(list(argument[2]), flags)
            break
        head.append(characters)
    return head


def _characters(code: Any, argument: Any, flags: int) -> int | None:
    """The characters that an element can take, or a superset; None if the element does not take exactly one."""
    if code is _codes.LITERAL:
        return _literal(argument, flags)
    if code is _codes.NOT_LITERAL:
        return _complement(_literal(argument, flags))
    if code is _codes.ANY:
        return _ALL if flags & re.DOTALL else _ALL & ~(1 << 10)
    if code is _codes.IN:
        items = list(argument)
        negated = bool(items) and items[0][0] is _codes.NEGATE
        found = _union(_item(kind, value, flags) for kind, value in items if kind is not _codes.NEGATE)
        return _complement(found) if negated else found
    return None


def _complement(characters: int) -> int:
    # The first 256 characters are tracked exactly, the others not at all.
    return (_ALL & ~characters) | _OTHERS


def _literal(number: int, flags: int) -> int:
    if not flags & re.IGNORECASE:
        return 1 << number if number < 256 else _OTHERS
    if number >= 256:
        return _ALL
    kin = {number, *(ord(each) for each in (chr(number).lower(), chr(number).upper()) if len(each) == 1)}
    return _union(1 << each if each < 256 else _OTHERS for each in kin) | _OTHERS


def _item(kind: Any, value: Any, flags: int) -> int:
    if kind is _codes.LITERAL:
        return _literal(value, flags)
    if kind is _codes.RANGE:
        low, high = value
        found = _union(_literal(number, flags) for number in range(low, min(high, 255) + 1))
        if high < 256:
            return found
        return found | (_ALL if flags & re.IGNORECASE else _OTHERS)
    return _category(value, bool(flags & re.ASCII))


@lru_cache
def _category(category: Any, ascii_only: bool) -> int:
    shorthand = {
        _codes.CATEGORY_DIGIT: r"\d",
        _codes.CATEGORY_NOT_DIGIT: r"\D",
        _codes.CATEGORY_SPACE: r"\s",
        _codes.CATEGORY_NOT_SPACE: r"\S",
        _codes.CATEGORY_WORD: r"\w",
        _codes.CATEGORY_NOT_WORD: r"\W",
    }[category]
    one = re.compile(shorthand, re.ASCII if ascii_only else 0)
    return _union(1 << number for number in range(256) if one.match(chr(number))) | _OTHERS
