"""The methods that expressions can call, by type. None changes a value."""

import re
from collections.abc import Callable
from typing import Any, Final

from meterhouse.polling.expressions.costs import Budget, ExpressionError
from meterhouse.polling.expressions.formatting import fields
from meterhouse.polling.expressions.operators import equal

MAX_PADDED: Final = 10_000
"""Maximum length of a text that is padded."""

Method = Callable[..., Any]


def _reading(name: str) -> Method:
    """A method of a text whose result is not longer than the text."""
    method = getattr(str, name)

    def call(budget: Budget, text: str, *values: Any) -> Any:
        budget.spend_characters(len(text))
        return method(text, *values)

    return call


def _splitting(name: str) -> Method:
    method = getattr(str, name)

    def call(budget: Budget, text: str, *values: Any, **named: Any) -> Any:
        separator = values[0] if values else named.get("sep")
        pieces = text.count(separator) if isinstance(separator, str) and separator else len(text) // 2
        budget.built = True
        budget.spend(pieces)
        budget.spend_characters(len(text))
        return method(text, *values, **named)

    return call


def _padding(name: str) -> Method:
    method = getattr(str, name)

    def call(budget: Budget, text: str, width: Any, *values: Any) -> str:
        if isinstance(width, int) and width > MAX_PADDED:
            raise ExpressionError(f"a text is padded to at most {MAX_PADDED:,} characters")
        budget.spend_characters(MAX_PADDED + len(text))
        made: str = method(text, width, *values)
        return made

    return call


def _replace(budget: Budget, text: str, old: Any, new: Any, count: Any = -1) -> str:
    if isinstance(old, str) and isinstance(new, str):
        found = text.count(old)
        if isinstance(count, int) and count >= 0:
            found = min(found, count)
        budget.spend_characters(len(text) + found * len(new))
    return text.replace(old, new, count)


def _join(budget: Budget, text: str, values: Any) -> str:
    parts = list(budget.iterate(values))
    if all(isinstance(each, str) for each in parts):
        budget.spend_characters(sum(map(len, parts)) + len(text) * len(parts))
    return text.join(parts)


def _format(budget: Budget, text: str, *values: Any, **named: Any) -> str:
    return fields(budget, text, values, named)


def _count(budget: Budget, values: Any, wanted: Any) -> int:
    return sum(equal(budget, each, wanted) for each in budget.iterate(values))


def _index(budget: Budget, values: Any, wanted: Any) -> int:
    for at, each in enumerate(budget.iterate(values)):
        if equal(budget, each, wanted):
            return at
    raise ValueError("the value is not in the list")


def _copy(budget: Budget, value: Any) -> Any:
    budget.built = True
    budget.spend(len(value))
    return value.copy()


def _plain(name: str) -> Method:
    def call(budget: Budget, value: Any, *values: Any) -> Any:
        return getattr(value, name)(*values)

    return call


_TEXT: Final[dict[str, Method]] = {
    **{
        name: _reading(name)
        for name in (
            *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdecimal"),
            *("isdigit", "isidentifier", "islower", "isnumeric", "isspace", "istitle", "isupper", "lower", "lstrip"),
            *("partition", "removeprefix", "removesuffix", "rfind", "rindex", "rpartition", "rstrip", "startswith"),
            *("strip", "swapcase", "title", "upper"),
        )
    },
    **{name: _splitting(name) for name in ("split", "rsplit", "splitlines")},
    **{name: _padding(name) for name in ("center", "ljust", "rjust", "zfill")},
    "format": _format,
    "join": _join,
    "replace": _replace,
}
_DICT: Final[dict[str, Method]] = {
    "copy": _copy,
    **{name: _plain(name) for name in ("get", "items", "keys", "values")},
}
_LIST: Final[dict[str, Method]] = {"copy": _copy, "count": _count, "index": _index}
_NUMBER: Final[dict[str, Method]] = {"is_integer": _plain("is_integer"), "bit_length": _plain("bit_length")}
_MATCH: Final[dict[str, Method]] = {name: _plain(name) for name in ("group", "groupdict", "groups")}

_TABLES: Final[tuple[tuple[type | tuple[type, ...], dict[str, Method]], ...]] = (
    (str, _TEXT),
    (dict, _DICT),
    ((list, tuple), _LIST),
    ((int, float), _NUMBER),
    (re.Match, _MATCH),
)

NAMES: Final = frozenset(name for _, table in _TABLES for name in table)
"""The names of all methods."""


def method_of(value: Any, name: str) -> Method:
    """The method of this name of a value: it takes the budget, the value and the arguments.

    Raises:
        ExpressionError: its type has none.
    """
    for kind, table in _TABLES:
        if isinstance(value, kind):
            if name in table:
                return table[name]
            break
    raise ExpressionError(f"a value of type {type(value).__name__} has no method '{name}'")
