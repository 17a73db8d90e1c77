"""Conditions: comparisons of fields with values, and what joins them. Their size is bounded."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from dataclasses import field as attribute
from datetime import datetime
from typing import ClassVar, Final, NamedTuple, TypeAlias

from meterhouse import times
from meterhouse.errors import UnknownKeyword, UsageError, shown
from meterhouse.filters import regular
from meterhouse.filters.fields import SERIES, Field, Fields, find

OPERATORS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
"""Operator of a comparison → the same in SQL."""

NUMBER: Final = r"^[-+]?(0|[1-9][0-9]{0,14})(\.[0-9]{1,17})?([eE][-+][0-9]{1,2})?$"
"""A text that is a number, for the regular expressions of all stores.

It has no more digits than a double holds, for a tenant may write anything into metadata. What only looks like a number,
such as the ids 007 and 12e4, compares as text; a float's exponent has a sign.
"""

_NUMBER: Final = re.compile(NUMBER, re.ASCII)

MAX_LENGTH: Final = 4_096
"""Maximum length of a value, in characters."""

MAX_DEPTH: Final = 32
"""Maximum number of levels of `and`, `or` and `not` within each other."""

MAX_COMPARISONS: Final = 200
"""Maximum number of comparisons of a condition: databases bound the length and the parameters of a statement."""

MAX_SEARCHES: Final = 20
"""Maximum number of regular expressions of a condition: each is searched in the text of each row."""

MAX_VALUES: Final = 1_000
"""Maximum number of values that all comparisons of a condition together compare with."""


class Size(NamedTuple):
    """How large a condition is.

    Attributes:
        depth: the number of levels of `and`, `or` and `not`.
        comparisons: the number of comparisons.
        values: the number of values that they compare with.
        searches: how many of them are regular expressions.
    """

    depth: int = 0
    comparisons: int = 1
    values: int = 1
    searches: int = 0

    def check(self) -> "Size":
        """This size.

        Raises:
            UsageError: it is beyond a limit.
        """
        if self.depth > MAX_DEPTH:
            raise UsageError(f"the condition is nested more than {MAX_DEPTH} levels", hint="Write it flatter")
        for count, what, most in (
            (self.comparisons, "comparisons", MAX_COMPARISONS),
            (self.values, "values", MAX_VALUES),
            (self.searches, "regular expressions", MAX_SEARCHES),
        ):
            if count > most:
                raise UsageError(f"the condition has more than {most:,} {what}", hint="Ask several times for less")
        return self


Operand: TypeAlias = str | float | datetime
"""A value in its field's type."""


@dataclass(frozen=True)
class Filter:
    """A comparison of a field with a value.

    Attributes:
        field: the name of one of the fields.
        op: one of OPERATORS.
        value: what to compare with, as text. What has no value in the store meets no comparison.
        fields: those of the kind of thing that is queried.
        target: the field that is meant.
        operand: the value in the field's type.

    Raises:
        UnknownKeyword: there is no such field or operator; names near misses.
        UsageError: the value is not of the field's type, or too long.
    """

    field: str
    op: str
    value: str
    fields: Fields = attribute(default_factory=lambda: SERIES, repr=False, compare=False)
    target: Field = attribute(init=False, repr=False)
    operand: Operand = attribute(init=False, repr=False)
    size: ClassVar = Size()

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", find(self.fields, self.field))
        if self.op not in OPERATORS:
            raise UnknownKeyword("operator", self.op, list(OPERATORS))
        operand = _operand(self.target, self.value, self.field)
        if operand != operand and self.op not in ("eq", "ne"):
            raise UsageError(f"nothing is {self.op} nan", where=self.field, hint="Write eq or ne, or a number")
        object.__setattr__(self, "operand", operand)


@dataclass(frozen=True)
class OneOf:
    """A comparison of a field with several values, of which it has to equal one.

    Attributes and errors are those of `Filter`; `among` are the values as text, at least one.
    """

    field: str
    among: tuple[str, ...]
    fields: Fields = attribute(default_factory=lambda: SERIES, repr=False, compare=False)
    target: Field = attribute(init=False, repr=False)
    operands: tuple[Operand, ...] = attribute(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", find(self.fields, self.field))
        if not self.among:
            raise UsageError("there is no value to compare with", where=self.field, hint="Name at least one")
        self.size.check()
        operands = tuple(_operand(self.target, value, self.field) for value in self.among)
        object.__setattr__(self, "operands", operands)

    @property
    def size(self) -> Size:
        """One comparison with all values."""
        return Size(values=len(self.among))


@dataclass(frozen=True)
class Match:
    """A search of a regular expression in a field's text, see `regular.py`.

    Attributes and errors are those of `Filter`; also:
        pattern: the regular expression as it was written.
        found: whether it has to be found, or not to be found; what has no value meets neither.
        expression: the regular expression as all stores read it.
    """

    field: str
    pattern: str
    found: bool = True
    fields: Fields = attribute(default_factory=lambda: SERIES, repr=False, compare=False)
    target: Field = attribute(init=False, repr=False)
    expression: str = attribute(init=False, repr=False)
    size: ClassVar = Size(searches=1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", find(self.fields, self.field))
        if self.target.type not in ("text", "loose"):
            raise UsageError(
                f"a {self.target.type} has no text to search in", where=self.field, hint="Compare it with < or >"
            )
        _check_text(self.pattern, self.field)
        object.__setattr__(self, "expression", regular.expression(self.pattern))


@dataclass(frozen=True)
class And:
    """All parts hold; without parts, it holds always."""

    parts: tuple["Condition", ...]
    size: Size = attribute(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _joint_size(self.parts))


@dataclass(frozen=True)
class Or:
    """At least one of the parts holds."""

    parts: tuple["Condition", ...]
    size: Size = attribute(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _joint_size(self.parts))


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: "Condition"
    size: Size = attribute(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _joint_size((self.part,)))


Leaf: TypeAlias = Filter | OneOf | Match
Condition: TypeAlias = Leaf | And | Or | Not
"""What a query filters by. Each has a `size`, within the limits."""


def all_of(conditions: Iterable[Condition]) -> Condition:
    """The condition that holds if all of them hold; of none, one that holds always.

    Raises:
        UsageError: it is too large, see `Size`.
    """
    parts = tuple(conditions)
    return parts[0] if len(parts) == 1 else And(parts)


def leaves_of(condition: Condition) -> Iterator[Leaf]:
    """The comparisons of a condition."""
    match condition:
        case And(parts) | Or(parts):
            for part in parts:
                yield from leaves_of(part)
        case Not(part):
            yield from leaves_of(part)
        case leaf:
            yield leaf


def fields_of(condition: Condition) -> set[Field]:
    """The fields that a condition compares."""
    return {leaf.target for leaf in leaves_of(condition)}


def number_of(text: str) -> float | None:
    """The number that a text is, as loose values compare; None if it is not one."""
    return float(text) if _NUMBER.fullmatch(text) else None


_UNCOUNTED: Final = Size(0, 0, 0, 0)


def uncounted(condition: Condition) -> Condition:
    """A condition that is not the caller's, and so is not held against the limits of what the caller asks."""
    object.__setattr__(condition, "size", _UNCOUNTED)
    return condition


def _joint_size(parts: tuple[Condition, ...]) -> Size:
    sizes = [part.size for part in parts if part.size is not _UNCOUNTED]
    is_level = len(sizes) != 1 or len(parts) == 1
    depth = max((size.depth for size in sizes), default=0) + is_level
    _, *counts = (sum(each) for each in zip(*sizes, strict=True)) if sizes else Size(0, 0, 0)
    return Size(depth, *counts).check()


def _operand(target: Field, value: str, where: str) -> Operand:
    _check_text(value, where)
    if target.type == "time":
        return times.parse(value)
    return _volume(value, where) if target.type == "number" else value


def _volume(text: str, where: str) -> float:
    try:
        return float(text.replace("_", "no number"))
    except ValueError:
        raise UsageError(f"{shown(text)} is not a number", where=where, hint="Write a number, such as 90") from None


def _check_text(value: str, where: str) -> None:
    if len(value) > MAX_LENGTH:
        raise UsageError(f"the value has {len(value):,} characters", where=where, hint=f"At most {MAX_LENGTH:,}")
    if "\0" in value:
        raise UsageError("the value has a NUL character", where=where, hint="No store holds one")
    if any("\ud800" <= each <= "\udfff" for each in value):
        raise UsageError("the value is not UTF-8", where=where, hint="No store holds another encoding")
