"""The functions that expressions can call: those of Python's builtins that only compute, `json` and `re`."""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from meterhouse.polling.expressions import regular
from meterhouse.polling.expressions.costs import CHARACTERS, Budget, ExpressionError, check_keys
from meterhouse.polling.expressions.formatting import as_text, formatted
from meterhouse.polling.expressions.operators import add, power

MAX_DIGITS: Final = 4_300
"""Maximum length of a text that is read as a number."""


class Function:
    """A function or a lambda as a value, so that it can be given to `filter`, `map`, `sorted` and others.

    Attributes:
        call: takes the budget and the arguments.
        types: for `isinstance`, if the function is a type's name.
    """

    __slots__ = ("call", "types")

    def __init__(self, call: Callable[..., Any], types: tuple[type, ...] = ()) -> None:
        self.call = call
        self.types = types


def _called(budget: Budget, function: Any, *values: Any) -> Any:
    if not isinstance(function, Function):
        raise ExpressionError("what is called is not a function")
    budget.spend(1)
    return function.call(budget, *values)


def _integer(budget: Budget, value: Any = 0, base: Any = None) -> int:
    if isinstance(value, str):
        if len(value) > MAX_DIGITS:
            raise ExpressionError(f"a number may have at most {MAX_DIGITS:,} digits")
        return int(value) if base is None else int(value, base)
    return int(value)


def _float(budget: Budget, value: Any = 0.0) -> float:
    if isinstance(value, str) and len(value) > MAX_DIGITS:
        raise ExpressionError(f"a number may have at most {MAX_DIGITS:,} digits")
    return float(value)


def _round(budget: Budget, value: Any, digits: Any = None) -> Any:
    if digits is None:
        return round(value)
    if isinstance(digits, int) and abs(digits) > MAX_DIGITS:
        raise ExpressionError(f"a number is rounded to at most {MAX_DIGITS:,} digits")
    return round(value, digits)


def _sum(budget: Budget, values: Any, start: Any = 0) -> Any:
    if isinstance(start, str):
        raise TypeError("sum() can't sum strings")
    for each in budget.iterate(values):
        start = add(budget, start, each)
    return start


def _sorted(budget: Budget, values: Any, *, key: Any = None, reverse: Any = False) -> list[Any]:
    made = budget.collect(values)
    keys = made if key is None else [_called(budget, key, each) for each in made]
    for each in keys:
        budget.spend(budget.spend_value(each) * math.log2(len(made) + 1))
    order = sorted(range(len(made)), key=keys.__getitem__, reverse=bool(reverse))
    return [made[at] for at in order]


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    absent = object()

    def call(budget: Budget, *values: Any, key: Any = None, default: Any = absent) -> Any:
        made = budget.collect(values[0] if len(values) == 1 else values)
        if not made and default is not absent:
            return default
        keys = made if key is None else [_called(budget, key, each) for each in made]
        for each in keys:
            budget.spend(2 * budget.spend_value(each))
        return made[choose(range(len(made)), key=keys.__getitem__)]

    return call


def _filter(budget: Budget, function: Any, values: Any) -> Iterator[Any]:
    each_one = budget.iterate(values)
    if function is None:
        return (each for each in each_one if each)
    return (each for each in each_one if _called(budget, function, each))


def _map(budget: Budget, function: Any, *values: Any) -> Iterator[Any]:
    if not values:
        raise TypeError("map() must have at least two arguments.")
    return (_called(budget, function, *each) for each in zip(*(budget.iterate(one) for one in values), strict=False))


def _next(budget: Budget, values: Any, *default: Any) -> Any:
    return next(values, *default)


def _dict(budget: Budget, values: Any = (), /, **named: Any) -> dict[Any, Any]:
    pairs = budget.collect(values.items() if isinstance(values, dict) else values)
    made: dict[Any, Any] = {}
    for pair in pairs:
        key, value = list(budget.iterate(pair))
        made[key] = value
        if len(made) % 1_000 == 0:
            check_keys(made)
    check_keys(made)
    return {**made, **named}


def unique(budget: Budget, values: Any) -> set[Any]:
    """A set of the values."""
    made: set[Any] = set()
    for each in budget.iterate(values):
        budget.spend_value(each)
        made.add(each)
        if len(made) % 1_000 == 0:
            check_keys(made)
    check_keys(made)
    budget.built = True
    return made


def _isinstance(budget: Budget, value: Any, kinds: Any) -> bool:
    types: list[type] = []
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if not isinstance(kind, Function) or not kind.types:
            raise ExpressionError("isinstance takes the name of a type, such as str or list")
        types += kind.types
    return isinstance(value, tuple(types))


def _text(budget: Budget, value: Any = "") -> str:
    return as_text(budget, value)


def _range(budget: Budget, *limits: Any) -> range:
    return range(*limits)


def _reversed(budget: Budget, values: Any) -> list[Any]:
    if not isinstance(values, str | list | tuple | dict | range):
        raise TypeError(f"'{type(values).__name__}' object is not reversible")
    return budget.collect(values)[::-1]


def _loads(budget: Budget, text: Any) -> Any:
    if not isinstance(text, str):
        raise TypeError("json.loads takes a text")
    budget.spend(len(text) // 4)
    budget.built = True
    return json.loads(text)


def _dumps(budget: Budget, value: Any, *, sort_keys: Any = False) -> str:
    budget.spend_value(value)
    text = json.dumps(value, sort_keys=bool(sort_keys))
    budget.spend(len(text) // CHARACTERS)
    return text


def _power(budget: Budget, base: Any, exponent: Any) -> Any:
    return power(budget, base, exponent)


def _of_one(function: Callable[[Any], Any]) -> Callable[[Budget, Any], Any]:
    return lambda budget, value: function(value)


def _divmod(budget: Budget, left: Any, right: Any) -> Any:
    return divmod(left, right)


FUNCTIONS: Final[dict[str, Function]] = {
    "abs": Function(_of_one(abs)),
    "all": Function(lambda budget, values: all(budget.iterate(values))),
    "any": Function(lambda budget, values: any(budget.iterate(values))),
    "bool": Function(lambda budget, value=False: bool(value), (bool,)),
    "chr": Function(_of_one(chr)),
    "dict": Function(_dict, (dict,)),
    "divmod": Function(_divmod),
    "enumerate": Function(lambda budget, values, start=0: enumerate(budget.iterate(values), start)),
    "filter": Function(_filter),
    "float": Function(_float, (float,)),
    "format": Function(lambda budget, value, specification="": formatted(budget, value, specification)),
    "hex": Function(_of_one(hex)),
    "int": Function(_integer, (int,)),
    "isinstance": Function(_isinstance),
    "iter": Function(lambda budget, values: budget.iterate(values)),
    "len": Function(_of_one(len)),
    "list": Function(lambda budget, values=(): budget.collect(values), (list,)),
    "map": Function(_map),
    "max": Function(_extreme(max)),
    "min": Function(_extreme(min)),
    "next": Function(_next),
    "ord": Function(_of_one(ord)),
    "pow": Function(_power),
    "range": Function(_range),
    "repr": Function(lambda budget, value: as_text(budget, value, "r")),
    "reversed": Function(_reversed),
    "round": Function(_round),
    "set": Function(lambda budget, values=(): unique(budget, values), (set,)),
    "sorted": Function(_sorted),
    "str": Function(_text, (str,)),
    "sum": Function(_sum),
    "tuple": Function(lambda budget, values=(): tuple(budget.collect(values)), (tuple,)),
    "zip": Function(lambda budget, *values: zip(*(budget.iterate(each) for each in values), strict=False)),
}
"""By name."""

OF_MODULES: Final[dict[tuple[str, str], Function]] = {
    ("json", "loads"): Function(_loads),
    ("json", "dumps"): Function(_dumps),
    **{("re", name): Function(call) for name, call in regular.FUNCTIONS.items()},
}
"""By module and name: Ceilometer's expressions can use what its own code imports."""
