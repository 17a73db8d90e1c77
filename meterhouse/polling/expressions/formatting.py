"""Values as text: `str`, `repr`, `format`, f-strings and `%`, none wider than a limit."""

import re
import string
from typing import Any, Final

from meterhouse.polling.expressions.costs import CHARACTERS, Budget, ExpressionError

MAX_WIDTH: Final = 1_000
"""Maximum width and precision in a format."""

_NUMBER: Final = re.compile(r"\d+")
_PERCENT: Final = re.compile(r"%(?:\([^()]*\))?[-#0 +]*(?P<width>\d*)(?:\.(?P<precision>\d*))?(?P<kind>[a-zA-Z%])")
_TEXTS: Final = (str, int, float, type(None), list, tuple, dict, set, frozenset)


def _refuse_wider(digits: str) -> None:
    if len(digits) > 4 or int(digits) > MAX_WIDTH:
        raise ExpressionError(f"a format may be at most {MAX_WIDTH:,} wide")


def as_text(budget: Budget, value: Any, kind: str = "s") -> str:
    """`str(value)`, or for the kinds `r` and `a`, `repr(value)` and `ascii(value)`.

    Raises:
        ExpressionError: it is a function or an iterator, or there are not enough steps for it.
    """
    if not isinstance(value, _TEXTS):
        raise ExpressionError("a function or an iterator has no text; make a list of it")
    budget.spend_value(value)
    text: str = str(value) if kind == "s" else repr(value) if kind == "r" else ascii(value)
    budget.spend_characters(len(text))
    return text


def formatted(budget: Budget, value: Any, specification: str) -> str:
    """`format(value, specification)`.

    Raises:
        ExpressionError: it is wider than `MAX_WIDTH`.
    """
    if not isinstance(specification, str):
        raise TypeError("the format of a value is a text")
    if not specification:
        return as_text(budget, value)
    for each in _NUMBER.findall(specification):
        _refuse_wider(each)
    if not isinstance(value, str | int | float):
        raise ExpressionError(f"a value of type {type(value).__name__} has no format")
    budget.spend(1 + len(specification) // CHARACTERS + MAX_WIDTH // CHARACTERS)
    text = format(value, specification)
    budget.spend_characters(len(text))
    return text


def percent(budget: Budget, template: str, values: Any) -> str:
    """`template % values`.

    Raises:
        ExpressionError: a value is wider than `MAX_WIDTH`, or its width is itself a value.
    """
    budget.spend_characters(len(template))
    for found in _PERCENT.finditer(template):
        budget.spend(1)
        for each in (found["width"], found["precision"]):
            if each:
                _refuse_wider(each)
                budget.spend(MAX_WIDTH // CHARACTERS)
        if isinstance(values, dict):  # each field can take the same value
            budget.spend_value(values)
    if "%" in _PERCENT.sub("", template):
        raise ExpressionError("the format after % is not known")
    for each in values if isinstance(values, tuple) else (values,):
        as_text(budget, each)
    result: str = template % values
    budget.spend_characters(len(result))
    return result


def fields(budget: Budget, template: str, values: tuple[Any, ...], named: dict[str, Any]) -> str:
    """`template.format(*values, **named)`, without fields of attributes and items.

    Raises:
        ExpressionError: the template has such a field, or a format that is itself a field.
    """
    budget.spend_characters(len(template))
    made: list[str] = []
    automatic = 0
    for literal, name, specification, conversion in string.Formatter().parse(template):
        budget.spend(1)
        made.append(literal)
        if name is None:
            continue
        if name and not name.isidentifier() and not name.isdecimal():
            raise ExpressionError("a field of a format is a number or a name")
        if "{" in (specification or ""):
            raise ExpressionError("a field of a format has no fields in it")
        if not name:
            name, automatic = str(automatic), automatic + 1
        if len(name) > 4 and name.isdecimal():
            raise ExpressionError("a field of a format has no value")
        value = values[int(name)] if name.isdecimal() else named[name]
        if conversion:
            value = as_text(budget, value, conversion)
        made.append(formatted(budget, value, specification or ""))
    return "".join(made)
