"""The value of one attribute of a definition: a constant, expressions tried in turn, or a plugin over them.

The form is that of Ceilometer's declarative definitions: an integer; a JSONPath; a list of JSONPaths; or a mapping of
`fields` (any of those) and, optionally, `plugin` (its name, or a mapping of `name` and `parameters`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meterhouse.definitions.expressions import Expression, Message, compile_expression
from meterhouse.definitions.plugins import Matches, Plugin, make


@dataclass(frozen=True, slots=True)
class Value:
    """A compiled definition of a value.

    Attributes:
        key: equal for definitions that are equal, so that a message is asked once.
        first: the value in single-value mode, None where there is none; what is worth a warning is appended.
        many: the values in multi-value mode (`lookup`), nulls kept; None where the plugin cannot give several.
        plain: `first` where no plugin is in play.
        constant: the number that the value always is, else None.
        never: no message has this value.
        payload_field: the field of the payload that the value is, where it is no more than that.
    """

    key: str
    first: Callable[[Message, list[str]], Any]
    many: Callable[[Message, list[str]], list[Any]] | None
    plain: Callable[[Message], Any] | None
    constant: int | float | None = None
    never: bool = False
    payload_field: str | None = None


def compile_value(definition: Any) -> Value:
    """Compile one attribute's definition.

    Raises:
        ValueError: the form is none of those above, an expression does not parse, or there is no such plugin.
    """
    fields, plugin, multiple = _parts(definition)
    if isinstance(fields, (int, float)):
        return _constant(fields)
    texts = [fields] if isinstance(fields, str) else fields
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{definition!r} is neither a number, a JSONPath nor a list of JSONPaths")
    expressions = [compile_expression(text) for text in texts]
    key = repr(definition)
    if plugin is None:
        return _plain(key, expressions)
    return _with_plugin(key, expressions, plugin, multiple)


def _parts(definition: Any) -> tuple[Any, Plugin | None, bool]:
    """The fields, the plugin, and whether that plugin can give several values."""
    if not isinstance(definition, dict):
        return definition, None, True
    if "fields" not in definition:
        raise ValueError("the mapping has no 'fields'")
    plugin = definition.get("plugin")
    if plugin is None:
        return definition["fields"], None, True
    name: Any = plugin
    parameters: Any = {}
    if isinstance(plugin, dict):
        if "name" not in plugin:
            raise ValueError("the plugin has no 'name'")
        name, parameters = plugin["name"], plugin.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise ValueError("the plugin's 'parameters' are no mapping")
    return definition["fields"], make(str(name), parameters), name == "split"


def _constant(number: int | float) -> Value:
    return Value(
        repr(number),
        lambda message, warn: number,
        lambda message, warn: [number],
        lambda message: number,
        number,
    )


def _plain(key: str, expressions: list[Expression]) -> Value:
    useful = [expression for expression in expressions if not expression.constant]
    if len(useful) == 1:
        only = useful[0]
        return Value(
            key,
            lambda message, warn: only.first(message),
            lambda message, warn: only.all(message),
            only.first,
            payload_field=only.payload_field,
        )
    firsts = [expression.first for expression in useful]

    def first(message: Message) -> Any:
        for each in firsts:
            value = each(message)
            if value is not None:
                return value
        return None

    def many(message: Message, warn: list[str]) -> list[Any]:
        return [value for expression in useful for value in expression.all(message)]

    return Value(key, lambda message, warn: first(message), many, first, never=not useful)


def _with_plugin(key: str, expressions: list[Expression], plugin: Plugin, multiple: bool) -> Value:
    def matches(message: Message) -> Matches:
        return [match for expression in expressions for match in expression.matches(message)]

    def first(message: Message, warn: list[str]) -> Any:
        found = [match for match in matches(message) if match[1] is not None]
        return next((value for value in plugin(found, warn) if value is not None), None)

    def many(message: Message, warn: list[str]) -> list[Any]:
        return [value for value in plugin(matches(message), warn) if value is not None]

    return Value(key, first, many if multiple else None, None)
