"""Conditions as a text, such as `project = shop and (metadata.flavor.name =~ "^m1" or not resource in (a, b))`.

    condition   all { or all }
    all         one { and one }
    one         not one | ( condition ) | comparison
    comparison  FIELD OPERATOR VALUE | FIELD in ( VALUE { , VALUE } )

The keywords `and`, `or`, `not` and `in` may have capitals. A value may be in double or single quotes, and so may a key
of metadata or of traits, as in `metadata."odd key"`. A quote within is doubled; a backslash is a backslash.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from meterhouse.errors import UsageError, shown
from meterhouse.filters.conditions import (
    OPERATORS,
    And,
    Condition,
    Filter,
    Leaf,
    Match,
    Not,
    OneOf,
    Or,
    Size,
)
from meterhouse.filters.fields import Fields, find
from meterhouse.filters.marked import place

MAX_CHARACTERS: Final = 10_000
"""Maximum length of a text, in characters."""

COMPARISONS: Final = {sign: op for op, sign in OPERATORS.items()}
"""Sign → operator of a comparison."""

SEARCHES: Final = {"=~": True, "!~": False}
"""Sign → whether a regular expression has to be found."""

_KEYWORDS: Final = frozenset({"and", "or", "not", "in"})
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<quoted> "(?:[^"]|"")*" | '(?:[^']|'')*' )
      | (?P<sign> [=<>!~]+ )
      | (?P<mark> [(),] )
      | (?P<word> [^\s()",'=<>!~]+ )
      | (?P<end> \Z )
    )""",
    re.VERBOSE,
)


def parse(text: str, fields: Fields) -> Condition:
    """The condition that a text says.

    Args:
        text: see the top of this module.
        fields: those of the kind of thing that is queried.

    Raises:
        UsageError: the text is not a condition; the error has the column, what is wrong there, and what to do.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the condition has {len(text):,} characters", hint=f"At most {MAX_CHARACTERS:,}")
    return _Parser(text, fields).whole()


class _Parser:
    """Reads a text from left to right, one token ahead.

    Attributes of the token:
        kind: quoted, sign, mark, word or end.
        token: its text.
        at: its place in the text, from 0.
        end: the place after it.
    """

    def __init__(self, text: str, fields: Fields) -> None:
        self._text, self._fields = text, fields
        self.kind, self.token, self.at, self.end = "", "", 0, 0
        self._advance()

    def whole(self) -> Condition:
        """The condition of the whole text."""
        found = self._condition(0)
        if self.token == ")":
            raise self._fault("a ) that closes nothing", "Leave it out, or write the ( before")
        if self.kind != "end":
            raise self._fault(
                f"{shown(self.token)} does not continue the condition",
                "Write `and` or `or` before another comparison, and quotes around a value with spaces",
            )
        return found

    def _condition(self, depth: int) -> Condition:
        begun, parts = self.at, [self._all(depth)]
        while self._takes("or"):
            parts.append(self._all(depth))
        with self._placed(begun):
            return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self, depth: int) -> Condition:
        begun, parts = self.at, [self._one(depth)]
        while self._takes("and"):
            parts.append(self._one(depth))
        with self._placed(begun):
            return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, depth: int) -> Condition:
        begun = self.at
        with self._placed(begun):
            Size(depth).check()
        if self._takes("not"):
            part = self._one(depth + 1)
            with self._placed(begun):
                return Not(part)
        if self._takes("("):
            inner = self._condition(depth + 1)
            self._close(begun)
            return inner
        return self._comparison()

    def _comparison(self) -> Leaf:
        name = self._field()
        sign, at = self.token, self.at
        if self._takes("in"):
            among = self._list()
            with self._placed(at):
                return OneOf(name, among, self._fields)
        if self._takes("not"):
            raise self._fault(f"`not` after {name}", f"Write it before: not {name} in (…)", at)
        if sign not in COMPARISONS and sign not in SEARCHES:
            signs = " ".join([*COMPARISONS, *SEARCHES, "in"])
            found = f"unknown operator {shown(sign)}" if self.kind != "end" else f"nothing after {name}"
            raise self._fault(found, f"Write one of {signs}")
        self._advance()
        at, value = self.at, self._value()
        with self._placed(at):
            if sign in SEARCHES:
                return Match(name, value, SEARCHES[sign], self._fields)
            return Filter(name, COMPARISONS[sign], value, self._fields)

    def _field(self) -> str:
        at, name = self.at, self.token
        if self.kind != "word" or name.lower() in _KEYWORDS:
            found = shown(name) if name else "nothing"
            raise self._fault(f"{found} where a comparison should be", "Write FIELD OPERATOR VALUE")
        end = self.end
        self._advance()
        if name.endswith(".") and self.kind == "quoted" and self.at == end:
            name += self._value()
        with self._placed(at):
            find(self._fields, name)
        return name

    def _list(self) -> tuple[str, ...]:
        begun = self.at
        if not self._takes("("):
            raise self._fault("no list of values after `in`", "Write in (VALUE, VALUE)")
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        self._close(begun)
        return tuple(values)

    def _value(self) -> str:
        kind, token = self.kind, self.token
        if kind == "quoted":
            self._advance()
            return token[1:-1].replace(token[0] * 2, token[0])
        if kind != "word" or token.lower() in _KEYWORDS:
            found = shown(token) if token else "nothing"
            raise self._fault(f"{found} where a value should be", "Write a value, in quotes if it is not one word")
        self._advance()
        return token

    def _close(self, begun: int) -> None:
        if not self._takes(")"):
            found = shown(self.token) if self.token else "the end"
            raise self._fault(f"{found} before the ) of column {begun + 1}", "Write `and`, `or`, a comma or )")

    def _takes(self, word: str) -> bool:
        """Whether the token is this keyword or mark; if it is, read it."""
        taken = self.kind in ("word", "mark") and self.token.lower() == word
        if taken:
            self._advance()
        return taken

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self.end)
        if found is None:  # only a quote starts no token
            self.at = self._text.index(self._text[self.end :].lstrip()[0], self.end)
            raise self._fault("a quote that is not closed", "Write it again at the end; double it within")
        self.kind = str(found.lastgroup)
        self.token, self.at, self.end = found[self.kind], found.start(self.kind), found.end()

    def _fault(self, what: str, hint: str, at: int | None = None) -> UsageError:
        return UsageError(what, where=place(self._text, self.at if at is None else at), hint=hint)

    @contextmanager
    def _placed(self, at: int) -> Iterator[None]:
        """Say in an error of the block where in the text it is."""
        try:
            yield
        except UsageError as error:
            what = f"{error.where}: {error.what}" if error.where else error.what
            raise self._fault(what, error.hint, at) from None
