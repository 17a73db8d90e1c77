"""The value of one attribute of a definition: a constant, expressions tried in turn, or a plugin over them.

The form is that of Ceilometer's declarative definitions: an integer, a JSONPath, a list of JSONPaths, or a mapping of
`fields` (any of these) and optionally `plugin` (its name, or a mapping of `name` and `parameters`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from meterhouse.definitions.expressions import Expression, Field, Message, compile_expression
from meterhouse.definitions.plugins import Plugin, make


@dataclass(frozen=True, slots=True)
class Value:
    """A compiled definition of a value.

    Attributes:
        key: the same for equal definitions, so that a message is read once for all of them.
        first: the value in single-value mode, None if there is none; warnings are appended to the list.
        many: the values in multi-value mode (`lookup`), with nulls; None if the plugin cannot return several.
        plain: `first` without the list of warnings, if there is no plugin.
        constant: the number, if the value is a constant.
        never: whether no message can have this value.
        fields: if the value is simply the first of some fields that is not null: these fields.
        reads: the fields of the request context and the payload that it can read; None for the whole message.
        expression: the expression; None for a constant.
        plugin: the name of the plugin; empty if there is none.
    """

    key: str
    first: Callable[[Message, list[str]], Any]
    many: Callable[[Message, list[str]], list[Any]] | None
    plain: Callable[[Message], Any] | None
    constant: int | float | None = None
    never: bool = False
    fields: tuple[Field, ...] = ()
    reads: frozenset[Field] | None = frozenset()
    expression: Expression | None = None
    plugin: str = ""

    def column(
        self, messages: Sequence[Message], payloads: Sequence[dict[str, Any]], warns: Sequence[list[str]]
    ) -> list[Any]:
        """`first` for many messages at once.

        Args:
            messages: the notifications, unwrapped.
            payloads: the payload of each notification; empty if it is not a mapping.
            warns: for each notification, a list to which warnings are appended.
        """
        if self.constant is not None:
            return [self.constant] * len(messages)
        if self.fields:
            (kind, name), *further = self.fields
            found = list(map(dict.get, payloads if kind == "payload" else messages, repeat(name)))
            for kind, name in further:
                if None not in found:
                    break
                others = payloads if kind == "payload" else messages
                found = [
                    other.get(name) if value is None else value for value, other in zip(found, others, strict=True)
                ]
            return found
        if self.plain is not None:
            return [self.plain(message) for message in messages]
        return [self.first(message, warn) for message, warn in zip(messages, warns, strict=True)]


def compile_value(definition: Any) -> Value:
    """Compile one attribute's definition.

    Raises:
        ValueError: the form is none of the above, an expression does not parse, or the plugin is unknown.
    """
    fields, plugin, multiple = _parts(definition)
    if isinstance(fields, list):
        fields = fields[0] if len(fields) == 1 else "|".join(f"({path})" for path in fields)
    if isinstance(fields, int):
        return _constant(fields)
    if not isinstance(fields, str):
        raise ValueError(f"{definition!r} is neither an integer, a JSONPath nor a list of JSONPaths")
    expression = compile_expression(fields)
    if plugin is None:
        return _plain(expression)
    name = definition["plugin"]
    value = _with_plugin(repr(definition), expression, plugin, multiple)
    return replace(value, plugin=name["name"] if isinstance(name, dict) else name)


def _parts(definition: Any) -> tuple[Any, Plugin | None, bool]:
    """The fields, the plugin, and whether the plugin can return several values."""
    if not isinstance(definition, dict):
        return definition, None, True
    if "fields" not in definition:
        raise ValueError("the mapping has no 'fields'")
    if "plugin" not in definition:
        return definition["fields"], None, True
    name: Any = definition["plugin"]
    parameters: Any = None
    if isinstance(name, dict):
        if "name" not in name:
            raise ValueError("the plugin has no 'name'")
        name, parameters = name["name"], name.get("parameters")
    if not isinstance(name, str):
        raise ValueError("the plugin is neither a name nor a mapping of 'name' and 'parameters'")
    if parameters is not None and not isinstance(parameters, dict):
        raise ValueError("the plugin's 'parameters' are not a mapping")
    return definition["fields"], make(name, parameters or {}), name == "split"


def _constant(number: int) -> Value:
    return Value(
        f"constant {number!r}",
        lambda message, warn: number,
        lambda message, warn: [number],
        lambda message: number,
        number,
    )


def _plain(expression: Expression) -> Value:
    return Value(
        expression.text,
        lambda message, warn: expression.first(message),
        lambda message, warn: expression.all(message),
        expression.first,
        never=expression.constant,
        fields=expression.fields,
        reads=expression.reads,
        expression=expression,
    )


def _with_plugin(key: str, expression: Expression, plugin: Plugin, multiple: bool) -> Value:
    def first(message: Message, warn: list[str]) -> Any:
        found = [match for match in expression.matches(message) if match[1] is not None]
        return next((value for value in plugin(found, warn) if value is not None), None)

    def many(message: Message, warn: list[str]) -> list[Any]:
        return [value for value in plugin(expression.matches(message), warn) if value is not None]

    return Value(key, first, many if multiple else None, None, reads=expression.reads, expression=expression)
