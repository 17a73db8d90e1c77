"""Conditions as JSON, in the form of Ceilometer's complex queries (`POST /v2/query/samples`).

An object has one key: a comparison's operator with `{FIELD: VALUE}`, or `and`, `or` (a list of objects) or `not` (one
object), such as `{"and": [{"=": {"project": "shop"}}, {"not": {"in": {"resource": ["a", "b"]}}}]}`.

Source: Ceilometer 6.0.0, `ceilometer/api/controllers/v2/query.py`. As there, operators may have capitals, and `=<` and
`=>` are known too. More than there: `!~`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from meterhouse.errors import SHOWN_LENGTH, UsageError, near_misses, shown
from meterhouse.filters.conditions import And, Condition, Filter, Leaf, Match, Not, OneOf, Or, Size
from meterhouse.filters.fields import Fields
from meterhouse.filters.text import COMPARISONS, SEARCHES

_COMPARISONS: Final = {**COMPARISONS, "=<": "le", "=>": "ge"}
_JOINS: Final[dict[str, type[And] | type[Or]]] = {"and": And, "or": Or}
FEWEST: Final = 2
"""How many conditions a join has at least."""

OPERATORS: Final = (*_COMPARISONS, *SEARCHES, "in", *_JOINS, "not")


def from_json(condition: Any, fields: Fields) -> Condition:
    """The condition that a value of JSON says.

    Args:
        condition: as a parser of JSON has read it, see the top of this module.
        fields: those of the kind of thing that is queried.

    Raises:
        UsageError: it is not a condition; the error has the place (`and[1].not`), what is wrong, and what to do.
    """
    return _Reader(fields).condition(condition, "", 0)


class _Reader:
    """Reads conditions within each other, and counts them before it makes anything of them."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._comparisons = self._values = 0

    def condition(self, given: Any, where: str, depth: int) -> Condition:
        """The condition at a place, which is this many levels deep."""
        with _placed(where):
            Size(depth).check()
        if not isinstance(given, dict) or len(given) != 1:
            raise UsageError(
                f"{shown(given)} is not a condition",
                where=where,
                hint='Write an object with one key, such as {"=": {"project": "shop"}}',
            )
        ((key, content),) = given.items()
        op = str(key).lower()
        inner = f"{where}.{op}" if where else op
        if op == "not":
            part = self.condition(content, inner, depth + 1)
            with _placed(inner):
                return Not(part)
        if op in _JOINS:
            if not isinstance(content, list) or len(content) < FEWEST:
                raise UsageError(
                    f"{shown(content)} is not a list of conditions to join", where=inner, hint="Write at least two"
                )
            parts = [self.condition(each, f"{inner}[{n}]", depth + 1) for n, each in enumerate(content)]
            with _placed(inner):
                return _JOINS[op](tuple(parts))
        if op not in OPERATORS:
            near = near_misses(op[:SHOWN_LENGTH], OPERATORS) or OPERATORS
            raise UsageError(f"unknown operator {shown(key)}", where=where, hint=f"Write one of {', '.join(near)}")
        if not isinstance(content, dict) or len(content) != 1:
            raise UsageError(f"{shown(content)} is not a comparison", where=inner, hint="Write {FIELD: VALUE}")
        ((name, value),) = content.items()
        with _placed(inner):
            return self._comparison(op, str(name), value)

    def _comparison(self, op: str, name: str, value: Any) -> Leaf:
        if op == "in" and not isinstance(value, list):
            raise UsageError(f"{shown(value)} is not a list", where=name, hint="Write a list of values")
        self._values += len(value) if op == "in" else 1
        self._comparisons += 1
        Size(0, self._comparisons, self._values).check()
        if op == "in":
            return OneOf(name, tuple(_text(each, name) for each in value), self._fields)
        if op in SEARCHES:
            return Match(name, _text(value, name), SEARCHES[op], self._fields)
        return Filter(name, _COMPARISONS[op], _text(value, name), self._fields)


def _text(value: Any, name: str) -> str:
    """A value as the text that it compares as: `true` for true."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        try:
            return json.dumps(value)
        except ValueError:  # more digits than Python prints
            pass
    raise UsageError(f"{shown(value)} is not a value", where=name, hint="Write a text, a number, true or false")


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Say in an error of the block where in the condition it is."""
    try:
        yield
    except UsageError as error:
        place = ": ".join(each for each in (where, error.where) if each)
        raise UsageError(error.what, where=place, hint=error.hint) from None
