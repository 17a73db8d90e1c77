"""The span of time outside of which a condition on samples does not hold."""

from collections.abc import Callable, Mapping
from typing import Final

from meterhouse import times
from meterhouse.filters import And, Condition, Filter, Leaf, Not, OneOf, Or
from meterhouse.queries.sample_ids import POINT_KEY, point_of

Bounds = tuple[int, int]
"""A half-open span, µs since 1970."""


def bounds_of(condition: Condition) -> Bounds:
    """The half-open span of time, µs since 1970, outside of which a condition does not hold."""
    return _bounds(condition, True)


_ALWAYS: Final = (-(1 << 62), 1 << 62)
_NEVER: Final = (0, 0)


def _bounds(condition: Condition, holds: bool) -> Bounds:
    match condition:
        case Not(part):
            return _bounds(part, not holds)
        case And(parts) | Or(parts):
            spans = [_bounds(part, holds) for part in parts]
            if isinstance(condition, And) is holds:
                starts, ends = zip(_ALWAYS, *spans, strict=True)
                return max(starts), min(ends)
            spans = [span for span in spans if span[0] < span[1]]
            return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else _NEVER
    return _of_leaf(condition, holds)


def _of_leaf(leaf: Leaf, holds: bool) -> Bounds:
    if leaf.target.column == POINT_KEY and isinstance(leaf, OneOf) and holds:
        moments = [point[1] for text in leaf.among if (point := point_of(text)) is not None]
        return min(moments), max(moments) + 1
    if leaf.target.column != "timestamp":
        return _ALWAYS
    match leaf:
        case OneOf(operands=operands) if holds:
            among = [times.micros(each) for each in operands if not isinstance(each, str | float)]
            return min(among), max(among) + 1
        case Filter(op=op, operand=operand) if not isinstance(operand, str | float):
            at = times.micros(operand)
            return _SPANS[op if holds else _OPPOSITE[op]](at)
    return _ALWAYS


_OPPOSITE: Final = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "le": "gt", "gt": "le"}
_SPANS: Final[Mapping[str, Callable[[int], Bounds]]] = {
    "eq": lambda at: (at, at + 1),
    "ne": lambda at: _ALWAYS,
    "lt": lambda at: (_ALWAYS[0], at),
    "le": lambda at: (_ALWAYS[0], at + 1),
    "gt": lambda at: (at + 1, _ALWAYS[1]),
    "ge": lambda at: (at, _ALWAYS[1]),
}
