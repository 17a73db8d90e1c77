"""Arithmetic of derived meters: expressions that are parsed once, and computed for whole columns by NumPy.

The language is what Ceilometer's transformers use of Python (`scale` of `unit_conversion` and `rate_of_change`, `expr`
of `arithmetic`): numbers, `+ - * / // % **`, comparisons, `and`, `or`, `not`, `a if c else b`, `abs`, `min`, `max`;
`volume`, `resource_metadata.x.y`, `$(meter)` and `$(meter).resource_metadata.x`. Nothing is evaluated as Python.

All numbers are 64-bit floats. A value that is missing counts as false for `or`, and cannot be computed with. If a row
divides by zero, overflows or computes with a missing value, it has no result; other rows have theirs.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from meterhouse.errors import shown

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
    Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]

MAX_LENGTH: Final = 1_000
"""Maximum number of characters of an expression."""

MAX_NODES: Final = 200
"""Maximum number of numbers, names and operations of an expression, which bounds its cost a row."""

MAX_DEPTH: Final = 40
"""Maximum number of operations within each other."""

VOLUME: Final = "volume"
METADATA: Final = "resource_metadata"

_METER: Final = re.compile(r"\$\(\s*([^()\s]+)\s*\)")
_FUNCTIONS: Final = ("abs", "min", "max")


class InvalidExpression(ValueError):
    """An expression that cannot work; the text says why."""


class _Value(ast.expr):
    """A node that stands for a value that the expression reads."""

    def __init__(self, given: "Input") -> None:
        super().__init__()
        self.given = given

    def __reduce__(self) -> "tuple[object, ...]":
        return _Value, (self.given,)


@dataclass(frozen=True)
class Input:
    """A value that an expression reads: a meter's volume, or a path in the resource metadata of its sample.

    Attributes:
        meter: the meter; empty for the sample that the expression is computed for.
        path: the keys in the metadata; empty for the volume.
    """

    meter: str = ""
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expression:
    """A parsed expression. `inputs` are in the order in which the text names them."""

    text: str
    inputs: tuple[Input, ...]
    _tree: ast.expr

    @property
    def meters(self) -> tuple[str, ...]:
        """The meters that it names by `$(meter)`."""
        return tuple(dict.fromkeys(each.meter for each in self.inputs if each.meter))

    @property
    def reads_metadata(self) -> bool:
        """Whether a value depends on resource metadata."""
        return any(each.path for each in self.inputs)

    def compute(self, columns: "Mapping[Input, Floats]", rows: int) -> "Floats":
        """The value of each row; NaN where it has none.

        Args:
            columns: a column of `rows` numbers for each of `inputs`; NaN is a missing value.
            rows: the number of rows.
        """
        import numpy as np

        with np.errstate(all="ignore"):
            found = _Columns(columns, rows).of(self._tree)
            value = np.where(found.failed | found.missing, np.nan, found.value)
            return np.where(np.isfinite(value), value, np.nan)


def parse(text: str, *, of_meters: bool) -> Expression:
    """Parse an expression.

    Args:
        text: the expression.
        of_meters: whether it is about several meters, named by `$(meter)`, and not about one sample.

    Raises:
        InvalidExpression: it is not of the language above, or too large.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidExpression(f"it has more than {MAX_LENGTH:,} characters")
    meters: list[str] = []

    def named(found: "re.Match[str]") -> str:
        meters.append(found[1])
        return f"__meter_{len(meters) - 1}"

    if "__" in text:
        raise InvalidExpression("a name has two underscores in a row")
    python = _METER.sub(named, text.strip())
    if meters and not of_meters:
        raise InvalidExpression(f"$({meters[0]}) names another meter, which only kind: arithmetic can")
    if "$" in python:
        raise InvalidExpression("a `$` does not start a meter: write $(meter)")
    try:
        tree = ast.parse(python, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise InvalidExpression(f"{shown(text)} is not an expression") from None
    reader = _Reader(meters, of_meters)
    checked = reader.read(tree, 0)
    return Expression(text, tuple(dict.fromkeys(reader.inputs)), checked)


class _Reader:
    """Checks a tree: replaces what names an input by a node of its own, and every number by its float."""

    def __init__(self, meters: list[str], of_meters: bool) -> None:
        self.meters, self.of_meters = meters, of_meters
        self.inputs: list[Input] = []
        self.nodes = 0

    def read(self, node: ast.expr, depth: int) -> ast.expr:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise InvalidExpression("it is too long, or nested too deeply")

        def below(each: ast.expr) -> ast.expr:
            return self.read(each, depth + 1)

        match node:
            case ast.Constant(value=int() | float() as number):
                return ast.Constant(_number(number))
            case ast.Name() | ast.Attribute():
                return _Value(self._input(node))
            case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod() | ast.Pow()):
                return ast.BinOp(below(node.left), node.op, below(node.right))
            case ast.UnaryOp(op=ast.UAdd() | ast.USub() | ast.Not()):
                return ast.UnaryOp(node.op, below(node.operand))
            case ast.BoolOp():
                return ast.BoolOp(node.op, [below(each) for each in node.values])
            case ast.Compare(ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE() | ast.Eq() | ast.NotEq()]):
                return ast.Compare(below(node.left), node.ops, [below(node.comparators[0])])
            case ast.IfExp():
                return ast.IfExp(below(node.test), below(node.body), below(node.orelse))
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
                if len(node.args) < (1 if name == "abs" else 2) or (name == "abs" and len(node.args) > 1):
                    raise InvalidExpression(f"{name} has {len(node.args)} arguments")
                return ast.Call(node.func, [below(each) for each in node.args], [])
            case _:
                raise InvalidExpression(f"{shown(ast.unparse(node))} is not arithmetic")

    def _input(self, node: ast.expr) -> Input:
        path: list[str] = []
        while isinstance(node, ast.Attribute):
            path.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise InvalidExpression("only names have attributes")
        path.reverse()
        meter = ""
        name = node.id
        if name.startswith("__meter_"):
            meter = self.meters[int(name.removeprefix("__meter_"))]
            name, path = (path[0], path[1:]) if path else (VOLUME, [])
        elif self.of_meters:
            raise InvalidExpression(f"'{name}' is of no meter: write $(meter) or $(meter).{METADATA}.x")
        if name == METADATA and path:
            found = Input(meter, tuple(path))
        elif name == VOLUME and not path:
            found = Input(meter)
        else:
            what = ".".join([name, *path])
            raise InvalidExpression(f"'{what}' is unknown: an expression reads {VOLUME} and {METADATA}.x")
        self.inputs.append(found)
        return found


def _number(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidExpression("a number is too large")
    return number


@dataclass
class _Column:
    """Values by row; which are missing; and which could not be computed."""

    value: "Floats"
    missing: "Bools"
    failed: "Bools"

    @property
    def false(self) -> "Bools":
        """Which count as false."""
        found: Bools = self.missing | (self.value == 0)
        return found


class _Columns:
    """Computes a tree for all rows at once."""

    def __init__(self, columns: "Mapping[Input, Floats]", rows: int) -> None:
        import numpy as np

        self.columns, self.rows = columns, rows
        self.none: Bools = np.zeros(rows, bool)
        self.operations: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
            ast.Add: np.add,
            ast.Sub: np.subtract,
            ast.Mult: np.multiply,
            ast.Div: np.divide,
            ast.FloorDiv: np.floor_divide,
            ast.Mod: np.mod,
            ast.Pow: np.power,
        }
        self.comparisons: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
            ast.Lt: np.less,
            ast.LtE: np.less_equal,
            ast.Gt: np.greater,
            ast.GtE: np.greater_equal,
            ast.Eq: np.equal,
            ast.NotEq: np.not_equal,
        }

    def of(self, node: ast.expr) -> _Column:
        import numpy as np

        match node:
            case _Value():
                value = self.columns[node.given]
                return _Column(value, np.isnan(value), self.none)
            case ast.Constant(value=float() as number):
                return _Column(np.full(self.rows, number), self.none, self.none)
            case ast.BinOp():
                return self._computed(self.operations[type(node.op)], self.of(node.left), self.of(node.right))
            case ast.UnaryOp(op=ast.Not()):
                operand = self.of(node.operand)
                return _Column(operand.false.astype(float), self.none, operand.failed)
            case ast.UnaryOp():
                sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
                return self._computed(np.multiply, self.of(node.operand), self.of(ast.Constant(sign)))
            case ast.Compare():
                compare = self.comparisons[type(node.ops[0])]
                return self._computed(
                    lambda a, b: compare(a, b).astype(float), self.of(node.left), self.of(node.comparators[0])
                )
            case ast.BoolOp():
                stops_at_false = isinstance(node.op, ast.And)
                found = self.of(node.values[0])
                for each in node.values[1:]:
                    found = _chosen(found.false != stops_at_false, found, self.of(each), found)
                return found
            case ast.IfExp():
                test = self.of(node.test)
                return _chosen(test.false, test, self.of(node.orelse), self.of(node.body))
            case ast.Call(func=ast.Name(id=name)):
                found = self.of(node.args[0])
                if name == "abs":
                    return self._computed(lambda a, _: np.abs(a), found, found)
                for each in node.args[1:]:
                    found = self._computed(np.minimum if name == "min" else np.maximum, found, self.of(each))
                return found
            case _:
                raise TypeError(f"{type(node).__name__} was not refused")

    def _computed(self, how: Callable[[Any, Any], Any], a: _Column, b: _Column) -> _Column:
        import numpy as np

        value = how(a.value, b.value)
        failed = a.failed | b.failed | a.missing | b.missing | ~np.isfinite(value)
        return _Column(value, self.none, failed)


def _chosen(where: "Bools", tested: _Column, a: _Column, b: _Column) -> _Column:
    """`a` where it is chosen and `b` elsewhere; the other one is not evaluated, so its failure does not count."""
    import numpy as np

    return _Column(
        np.where(where, a.value, b.value),
        np.where(where, a.missing, b.missing),
        tested.failed | np.where(where, a.failed, b.failed),
    )
