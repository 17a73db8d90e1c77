"""Texts that may be expressions: `url_path` and `host_command`.

Ceilometer evaluates each, and takes it as it is if that fails: so `v2/servers` is a path, `'v3/' + sample['id']` an
expression, and `list` a builtin, which fails. Here a text is an expression only if it is one of the subset and uses a
variable or has a quoted text; all others are taken as they are.
"""

import ast
from collections.abc import Collection, Mapping
from typing import Any

from meterhouse.polling.expressions.compiling import Expression, compile_expression, parse
from meterhouse.polling.expressions.costs import ExpressionError


class Text:
    """A text, or an expression that makes one.

    Attributes:
        text: as it was written.
        names: the variables that it uses; empty if it is taken as it is.
    """

    __slots__ = ("_expression", "names", "text")

    def __init__(self, text: str, expression: Expression | None) -> None:
        self.text = text
        self.names: frozenset[str] = frozenset() if expression is None else expression.names
        self._expression = expression

    def __call__(self, variables: Mapping[str, Any]) -> str:
        """The text with these variables.

        Raises:
            ExpressionError: the expression has no value, or its value is not a text.
        """
        if self._expression is None:
            return self.text
        made = self._expression(variables)
        if not isinstance(made, str):
            raise ExpressionError(f"'{self.text}' gives a {type(made).__name__}, not a text")
        return made


def compile_text(text: str, names: Collection[str]) -> Text:
    """Compile a text.

    Args:
        text: of a definition.
        names: the variables that there will be.

    Raises:
        ExpressionError: it was meant as an expression, for it uses one of the variables, but is not in the subset.
    """
    try:
        tree = parse(text)
    except ExpressionError:
        return Text(text, None)
    nodes = list(ast.walk(tree))
    uses = any(isinstance(node, ast.Name) and node.id in names for node in nodes)
    quotes = any(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in nodes)
    if not uses and not quotes:
        return Text(text, None)
    try:
        return Text(text, compile_expression(text, names))
    except ExpressionError:
        if uses:
            raise
        return Text(text, None)
