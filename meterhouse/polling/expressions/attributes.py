"""Attributes of entries: a path into the entry, then operations on the value: `flavor.vcpus | int(value) * 2`.

The form is Ceilometer's: `|` divides the text wherever it is, `.` alone is the whole entry, and each operation is an
expression of the variable `value`.
"""

from collections.abc import Callable
from typing import Any, Final

from meterhouse.errors import shown
from meterhouse.polling.expressions.compiling import Expression, compile_expression
from meterhouse.polling.expressions.costs import ENTRY_STEPS, ExpressionError

_VALUE: Final = frozenset({"value"})


class Attribute:
    """A compiled attribute: called with an entry, it returns its value there.

    Attributes:
        text: as it was written.
        keys: the path, outermost first; empty for the whole entry.
        operations: on the value, in their order.
    """

    __slots__ = ("_call", "keys", "operations", "text")

    def __init__(self, text: str, keys: tuple[str, ...], operations: tuple[Expression, ...]) -> None:
        self.text = text
        self.keys = keys
        self.operations = operations
        self._call = _compiled(keys, operations)

    def __call__(self, entry: Any) -> Any:
        """The value.

        Raises:
            MissingAttribute: the entry has nothing there.
            ExpressionError: an operation has no value for it.
        """
        try:
            return self._call(entry)
        except ExpressionError:
            raise
        except (KeyError, IndexError, TypeError):
            raise MissingAttribute(f"there is no {shown('.'.join(self.keys))}") from None


class MissingAttribute(ExpressionError):
    """An entry has nothing where the path of an attribute leads."""


def _compiled(keys: tuple[str, ...], operations: tuple[Expression, ...]) -> Callable[[Any], Any]:
    if not operations and len(keys) == 1:
        key = keys[0]
        return lambda entry: entry[key]

    def call(value: Any) -> Any:
        for key in keys:
            value = value[key]
        for operation in operations:
            value = operation({"value": value})
        return value

    return call


def compile_attribute(text: str, steps: int = ENTRY_STEPS) -> Attribute:
    """Compile an attribute.

    Args:
        text: the path, then operations, each after a `|`.
        steps: maximum number of steps of an operation.

    Raises:
        ExpressionError: an operation is not in the subset, or does not use `value`.
    """
    path, *operations = text.split("|")
    path = path.strip()
    keys = () if path == "." else tuple(path.split("."))
    compiled = []
    for operation in operations:
        expression = compile_expression(operation.strip(), _VALUE, steps)
        if not expression.names:
            raise ExpressionError(f"the operation '{operation.strip()}' does not use the variable value")
        compiled.append(expression)
    return Attribute(text, keys, tuple(compiled))
