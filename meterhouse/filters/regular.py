r"""Regular expressions that mean the same to all stores, and cost none of them much.

DuckDB searches by RE2, PostgreSQL by its own engine, and SQLite by what its connection has: RE2 too, see
`meterhouse/stores/sqlite_functions.py`. So an expression consists of what all of them read alike, and is written again
so that they do:

    abc          these characters
    .            any character, a line feed too
    [a-z_] [^0]  one of these characters; none of them
    \d \w \s     a digit, a letter, digit or _, a space, of ASCII; \D \W \S: any other character
    \t \n \r     a tab, a line feed, a carriage return
    \.           the character after it, of those that mean something here
    ^ $          the start and the end of the text, not of a line
    (a|b)        one of the alternatives; (?:a|b) is the same
    * + ?        any number of times, at least once, at most once
    {2} {2,} {2,4}

It has no look-around, no back-reference and no flags. A match may be anywhere in the text, as with Ceilometer's `=~`.
None of the engines backtracks on such expressions. Their size is bounded, counting what is repeated as often as it is.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from meterhouse.errors import UsageError
from meterhouse.filters.marked import place

MAX_CHARACTERS: Final = 500
"""Maximum length of an expression, in characters."""

MAX_SIZE: Final = 500
"""Maximum number of characters that an expression takes, counting what is repeated as often as it must or may be."""

MAX_OPTIONAL: Final = 50
"""Maximum number of parts that may be missing, counted likewise: for each text, PostgreSQL looks at all pairs."""

MAX_TIMES: Final = 255
"""Maximum number of a repetition: PostgreSQL knows no more."""

MAX_DEPTH: Final = 20
"""Maximum number of groups within each other."""

_SPECIAL: Final = frozenset(".^$|?*+()[]{}\\")
_ESCAPED: Final = frozenset(".^$|?*+()[]{}\\-&~/\"' #,:;<=>@!%`")
_SHORTHANDS: Final = {"d": "0-9", "w": "0-9A-Za-z_", "s": " \t\n\r\f\v"}
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r"}
_TIMES: Final = re.compile(r"\{([0-9]{1,4})(,([0-9]{1,4})?)?\}")


class _Part(NamedTuple):
    """A part of an expression.

    Attributes:
        text: as all stores read it.
        size: how many characters it takes at most, counting repetitions.
        optional: how many parts in it may be missing, counting repetitions.
        anchored: whether it has the start or the end of the text within.
    """

    text: str
    size: int = 1
    optional: int = 0
    anchored: bool = False

    @classmethod
    def joined(cls, by: str, parts: "Sequence[_Part]") -> "_Part":
        """Parts after each other, or alternatives."""
        return cls(
            by.join(part.text for part in parts),
            sum(part.size for part in parts),
            sum(part.optional for part in parts),
            any(part.anchored for part in parts),
        )


def expression(pattern: str) -> str:
    """A regular expression as DuckDB, PostgreSQL and SQLite (and Python) read it alike.

    Raises:
        UsageError: it is not one, has what the stores do not read alike, or is too large.
    """
    if len(pattern) > MAX_CHARACTERS:
        raise UsageError(
            f"the regular expression has {len(pattern):,} characters",
            hint=f"At most {MAX_CHARACTERS}; `in` lists texts",
        )
    reader = _Reader(pattern)
    whole = reader.alternatives(0)
    if reader.left:
        raise reader.fault("a ) that closes no group", r"Write \) for the character")
    return whole.text


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at = pattern, 0

    @property
    def left(self) -> str:
        """What was not read yet."""
        return self._pattern[self._at :]

    def fault(self, what: str, hint: str, at: int | None = None) -> UsageError:
        """An error about what follows, or about what is at another place."""
        where = place(self._pattern, self._at if at is None else at)
        return UsageError(what, where=f"the regular expression, {where}", hint=hint)

    def alternatives(self, depth: int) -> _Part:
        """One or several alternatives, up to a closing parenthesis or the end."""
        if depth > MAX_DEPTH:
            raise self.fault(f"more than {MAX_DEPTH} groups within each other", "Write it flatter")
        parts = [self._sequence(depth)]
        while self._take("|"):
            parts.append(self._sequence(depth))
        return self._bounded(_Part.joined("|", parts))

    def _sequence(self, depth: int) -> _Part:
        start, parts = self._at, list[_Part]()
        while self.left and self.left[0] not in "|)":
            parts.append(self._repeated(depth))
        if not parts:
            raise self.fault("nothing to search for", "Write ? after what may be missing", start)
        return self._bounded(_Part.joined("", parts))

    def _repeated(self, depth: int) -> _Part:
        start = self._at
        part = self._one(depth)
        begun = self._at
        if (least_most := self._times()) is None:
            return part
        repeated = self._pattern[begun : self._at]
        least, most = least_most
        if part.anchored:
            raise self.fault("the start or the end of the text cannot be repeated", "Write it outside", start)
        self._take("?")  # as few as possible: whether there is a match does not depend on it
        if self.left and self.left[0] in "*+?{":
            raise self.fault("a repetition of a repetition", "Put the first one into ( )")
        if most is not None and most < least:
            raise self.fault(f"{repeated} has more at least than at most", "Exchange the numbers", begun)
        if max(least, most or 0) > MAX_TIMES:
            raise self.fault(f"{repeated} repeats more than {MAX_TIMES} times", "Repeat less", begun)
        times = max(least, most or 0, 1)
        skipped = not least if most is None else most - least
        return self._bounded(_Part(f"{part.text}{repeated}", part.size * times, part.optional * times + skipped))

    def _times(self) -> tuple[int, int | None] | None:
        """How often at least and at most (None: any number) what was read is repeated; None if nothing says so."""
        for sign, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return times
        if not self.left.startswith("{"):
            return None
        found = _TIMES.match(self._pattern, self._at)
        if found is None:
            raise self.fault("a { that starts no number of times", r"Write {2}, {2,} or {2,4}, or \{ for the character")
        self._at = found.end()
        least = int(found[1])
        return least, int(found[3]) if found[3] else None if found[2] else least

    def _one(self, depth: int) -> _Part:
        start, sign = self._at, self.left[0]
        self._at += 1
        match sign:
            case "(":
                return self._group(start, depth)
            case "[":
                return self._set(start)
            case ".":
                return _Part(r"(?:.|\n)")
            case "^" | "$":
                return _Part(sign, anchored=True)
            case "\\":
                return _Part(self._escape(start))
            case "*" | "+" | "?" | "{":
                raise self.fault(f"nothing before {sign} to repeat", f"Write \\{sign} for the character", start)
            case "]" | "}":
                return _Part(f"\\{sign}")
        return _Part(sign)

    def _group(self, start: int, depth: int) -> _Part:
        if not self._take("?:") and self.left.startswith("?"):
            raise self.fault("a group that stores do not read alike", "Write ( ) or (?: ), without flags", start)
        inner = self.alternatives(depth + 1)
        if not self._take(")"):
            raise self.fault("a ( that is not closed", r"Write ) at its end, or \( for the character", start)
        return inner._replace(text=f"(?:{inner.text})")

    def _set(self, start: int) -> _Part:
        negated = "^" if self._take("^") else ""
        text = ""
        while not self._take("]"):
            low = self._member(start)
            if len(low) > 1:
                text += low
            elif not self.left.startswith("-") or self.left.startswith("-]"):
                text += _in_set(low)
            else:
                at = self._at
                self._at += 1
                high = self._member(start)
                if len(high) > 1 or high < low:
                    raise self.fault("a range that ends before it starts", r"Write the lower one first, or \-", at)
                text += f"{_in_set(low)}-{_in_set(high)}"
        if not text:
            raise self.fault("a set without characters", r"Write \[ for the character, or \] within a set", start)
        return _Part(f"[{negated}{text}]")

    def _member(self, start: int) -> str:
        """A character of a set, or the ranges of a shorthand."""
        if not self.left:
            raise self.fault("a [ that is not closed", r"Write ] at its end, or \[ for the character", start)
        if self.left.startswith(("[:", "[.", "[=")):
            raise self.fault("a class that stores do not read alike", r"Write \d, \w, \s or ranges such as a-z")
        at, sign = self._at, self.left[0]
        self._at += 1
        if sign != "\\":
            return sign
        letter = self.left[:1]
        if letter in _SHORTHANDS:
            self._at += 1
            return _SHORTHANDS[letter]
        return self._escaped(at)

    def _escape(self, start: int) -> str:
        letter = self.left[:1]
        if letter.lower() in _SHORTHANDS:
            self._at += 1
            return f"[{'^' if letter.isupper() else ''}{_SHORTHANDS[letter.lower()]}]"
        sign = self._escaped(start)
        return f"\\{sign}" if sign in _SPECIAL else sign

    def _escaped(self, start: int) -> str:
        """The character that is meant by the one after a backslash."""
        letter = self.left[:1]
        self._at += 1
        if letter and letter in _CONTROLS:
            return _CONTROLS[letter]
        if not letter or letter not in _ESCAPED:
            raise self.fault(
                rf"\{letter} is not part of regular expressions here", r"Write \\ for a backslash; see the guide", start
            )
        return letter

    def _take(self, text: str) -> bool:
        taken = self._pattern.startswith(text, self._at)
        self._at += len(text) if taken else 0
        return taken

    def _bounded(self, part: _Part) -> _Part:
        for count, what, most in (
            (part.size, "characters", MAX_SIZE),
            (part.optional, "parts that may be missing", MAX_OPTIONAL),
        ):
            if count > most:
                raise self.fault(f"more than {most} {what}, counting what is repeated as often as it is", "Repeat less")
        return part


def _in_set(sign: str) -> str:
    return f"\\{sign}" if sign in _SPECIAL or sign in "-&~" else sign
