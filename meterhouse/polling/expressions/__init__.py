"""Expressions of pollsters: a subset of Python's that can compute, but execute nothing, within limits of work and size.

Ceilometer evaluates them as Python, so that whoever writes a definition runs anything. Here a text is parsed by
Python's parser and compiled to closures of this package. What is not in the subset is refused when the definition is
loaded.
"""

from meterhouse.polling.expressions.attributes import Attribute, compile_attribute
from meterhouse.polling.expressions.compiling import Expression, compile_expression
from meterhouse.polling.expressions.costs import ANSWER_STEPS, ENTRY_STEPS, ExpressionError
from meterhouse.polling.expressions.texts import Text, compile_text

__all__ = [
    "ANSWER_STEPS",
    "ENTRY_STEPS",
    "Attribute",
    "Expression",
    "ExpressionError",
    "Text",
    "compile_attribute",
    "compile_expression",
    "compile_text",
]
