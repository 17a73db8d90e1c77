"""The operators of expressions, which refuse what would be too large before they compute it."""

import ast
import operator
from collections.abc import Callable
from typing import Any, Final

from meterhouse.polling.expressions.costs import MAX_BITS, VIEWS, Budget, ExpressionError, check_keys
from meterhouse.polling.expressions.formatting import percent

Operation = Callable[[Budget, Any, Any], Any]
_SIZED: Final = (str, list, tuple)
_SETS: Final = (set, frozenset)


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _refuse_bits(bits: float) -> None:
    if bits > MAX_BITS:
        raise ExpressionError(f"an integer may have at most {MAX_BITS:,} bits")


def add(budget: Budget, left: Any, right: Any) -> Any:
    """left + right."""
    if isinstance(left, _SIZED) and isinstance(right, _SIZED):
        _spend_size(budget, left, len(left) + len(right))
    elif isinstance(left, int) and isinstance(right, int):
        _refuse_bits(max(_bits(left), _bits(right)))
    return left + right


def _spend_size(budget: Budget, kind: Any, size: int) -> None:
    if isinstance(kind, str):
        budget.spend_characters(size)
    else:
        budget.built = True
        budget.spend(size)


def multiply(budget: Budget, left: Any, right: Any) -> Any:
    """left * right."""
    if isinstance(left, _SIZED) or isinstance(right, _SIZED):
        many, times = (left, right) if isinstance(left, _SIZED) else (right, left)
        if isinstance(times, int) and times > 0:
            _refuse_bits(_bits(times) * 128)  # no text of more than 2 to the 128th
            _spend_size(budget, many, len(many) * times)
    else:
        _refuse_bits(_bits(left) + _bits(right))
    return left * right


def power(budget: Budget, left: Any, right: Any) -> Any:
    """left ** right."""
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(_bits(right) * 512)
        _refuse_bits(_bits(left) * max(right, 0))
        budget.spend(abs(right) // 64)
    result = left**right
    if isinstance(result, complex):
        raise ExpressionError("the power of a negative number is not a number")
    return result


def _left_shift(budget: Budget, left: Any, right: Any) -> Any:
    if isinstance(right, int):
        _refuse_bits(_bits(left) + max(right, 0))
    return left << right


def _remainder(budget: Budget, left: Any, right: Any) -> Any:
    return percent(budget, left, right) if isinstance(left, str) else left % right


def _or(budget: Budget, left: Any, right: Any) -> Any:
    _refuse_views(left, right)
    if isinstance(left, (*_SETS, dict)) and isinstance(right, (*_SETS, dict)):
        budget.built = True
        budget.spend(len(left) + len(right))
        check_keys([*left, *right])
    return left | right


def _refuse_views(*values: Any) -> None:
    if any(isinstance(each, VIEWS) for each in values):
        raise ExpressionError("keys, values and items have no operators; make a set of them")


def _on_sets(compute: Callable[[Any, Any], Any]) -> Operation:
    def operate(budget: Budget, left: Any, right: Any) -> Any:
        _refuse_views(left, right)
        if isinstance(left, _SETS) and isinstance(right, _SETS):
            budget.built = True
            budget.spend(len(left) + len(right))
            check_keys([*left, *right])
        return compute(left, right)

    return operate


def _plain(compute: Callable[[Any, Any], Any]) -> Operation:
    return lambda budget, left, right: compute(left, right)


BINARY: Final[dict[type[ast.operator], Operation]] = {
    ast.Add: add,
    ast.Sub: _on_sets(operator.sub),
    ast.Mult: multiply,
    ast.Div: _plain(operator.truediv),
    ast.FloorDiv: _plain(operator.floordiv),
    ast.Mod: _remainder,
    ast.Pow: power,
    ast.LShift: _left_shift,
    ast.RShift: _plain(operator.rshift),
    ast.BitOr: _or,
    ast.BitAnd: _on_sets(operator.and_),
    ast.BitXor: _on_sets(operator.xor),
}
"""By the parser's class of the operator."""

UNARY: Final[dict[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}


def _walked(compute: Callable[[Any, Any], Any]) -> Operation:
    """A comparison that may walk over all of both values."""

    def compare(budget: Budget, left: Any, right: Any) -> Any:
        for each in (left, right):
            if not isinstance(each, int | float):
                budget.spend_value(each)
        return compute(left, right)

    return compare


def contains(budget: Budget, left: Any, right: Any) -> bool:
    """left in right."""
    if isinstance(right, dict | set | frozenset | VIEWS[0]):
        return left in right
    if isinstance(right, str):
        budget.spend_characters(len(right))
        return left in right
    if isinstance(right, range) and isinstance(left, int):
        return left in right
    return any(left is each or equal(budget, left, each) for each in budget.iterate(right))


equal: Final = _walked(operator.eq)

COMPARISONS: Final[dict[type[ast.cmpop], Operation]] = {
    ast.Eq: equal,
    ast.NotEq: _walked(operator.ne),
    ast.Lt: _walked(operator.lt),
    ast.LtE: _walked(operator.le),
    ast.Gt: _walked(operator.gt),
    ast.GtE: _walked(operator.ge),
    ast.Is: _plain(operator.is_),
    ast.IsNot: _plain(operator.is_not),
    ast.In: contains,
    ast.NotIn: lambda budget, left, right: not contains(budget, left, right),
}
"""By the parser's class of the comparison."""
