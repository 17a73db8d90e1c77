"""The arguments of a request: those that a path declares, from its query string or, of a GET, from a JSON body.

Source: WSME, by which Ceilometer and Aodh read requests. An argument that is not declared is an error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fastapi import Request

from meterhouse.api.answers.faults import Fault, invalid, unknown_argument
from meterhouse.api.requests.bodies import json_body
from meterhouse.errors import near_misses, shown

Pairs = Sequence[tuple[str, str]]
"""The arguments of a query string, in order."""

_TRUE: Final = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE: Final = frozenset({"0", "f", "false", "off", "n", "no"})
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)

MAX_ARGUMENTS: Final = 1_000
"""Maximum number of arguments of a request."""


@dataclass(frozen=True)
class Argument:
    """An argument of a path.

    Attributes:
        name: as clients write it.
        meaning: what it does, for the documentation.
        kind: its type.
        repeated: whether it may be given several times.
        structured: whether it consists of objects, such as `q.field` and `q[0].field`; then `parts` are their keys.
        parts: key of such an object → what it means.
        default: if it is not given, for the documentation.
        minimum: of an integer, for the documentation.
        example: a value, for the documentation.
    """

    name: str
    meaning: str
    kind: Literal["string", "integer", "boolean"] = "string"
    repeated: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)
    default: Any = None
    minimum: int | None = None
    example: Any = None

    def takes(self, name: str) -> bool:
        """Whether a name in a query string is of this argument."""
        if not self.parts:
            return name == self.name
        prefix, dot, part = name.partition(".")
        is_own = prefix == self.name or re.fullmatch(rf"{re.escape(self.name)}\[[0-9]{{1,9}}\]", prefix) is not None
        return is_own and bool(dot) and part in self.parts

    def documented(self) -> list[dict[str, Any]]:
        """It as parameters of an OpenAPI operation."""
        if self.parts:
            return [
                _parameter(f"{self.name}.{part}", text, {"type": "array", "items": {"type": "string"}})
                for part, text in self.parts.items()
            ]
        schema: dict[str, Any] = {"type": self.kind}
        if self.minimum is not None:
            schema["minimum"] = self.minimum
        if self.default is not None:
            schema["default"] = self.default
        if self.repeated:
            schema = {"type": "array", "items": schema}
        return [_parameter(self.name, self.meaning, schema, self.example)]


def _parameter(name: str, meaning: str, schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = {"in": "query", "name": name, "required": False, "description": meaning, "schema": schema}
    if example is not None:
        made["example"] = example
    return made


class Arguments:
    """The arguments that a path declares."""

    def __init__(self, *declared: Argument) -> None:
        self._declared = {each.name: each for each in declared}

    @property
    def documented(self) -> dict[str, Any]:
        """For `openapi_extra` of a route."""
        return {"parameters": [each for argument in self._declared.values() for each in argument.documented()]}

    async def of(self, request: Request) -> "Given":
        """The arguments that a request gives.

        Raises:
            Fault: one is not declared, or is given several times and must not be: status 400.
        """
        pairs = request.query_params.multi_items()
        if len(pairs) > MAX_ARGUMENTS:
            raise Fault(400, f"The request has {len(pairs):,} arguments. Give at most {MAX_ARGUMENTS:,}")
        values: dict[str, list[tuple[str, str]]] = {}
        for name, value in pairs:
            values.setdefault(self._argument(name).name, []).append((name, value))
        for name, some in values.items():
            declared = self._declared[name]
            if not declared.repeated and not declared.parts and len(some) > 1:
                raise invalid(name, some[-1][1], "It is given several times. Give it once")
        body = await json_body(request) if request.method == "GET" else None
        if body is None:
            return Given(values, {})
        if not isinstance(body, dict):
            raise Fault(400, f'The body is {shown(body)}. Write an object, such as {{"q": []}}, or leave it out')
        for name in body:
            if name not in self._declared:
                raise self._unknown(name)
            if name in values:
                raise invalid(name, str(body[name]), "It is given in the query string and in the body. Give it once")
        return Given(values, body)

    def _argument(self, name: str) -> Argument:
        for each in self._declared.values():
            if each.takes(name):
                return each
        raise self._unknown(name)

    def _unknown(self, name: str) -> Fault:
        names = [
            n for each in self._declared.values() for n in ([f"{each.name}.{p}" for p in each.parts] or [each.name])
        ]
        near = near_misses(name, names) or names
        return unknown_argument(name, f"Known here: {', '.join(near)}" if names else "This path takes none")


@dataclass(frozen=True)
class Given:
    """The arguments of a request.

    Attributes:
        values: argument → names and values in the query string, in order.
        body: argument → value in the body.
    """

    values: Mapping[str, Pairs]
    body: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """A text; None if it is not given."""
        found = self.texts(name)
        return found[-1] if found else None

    def texts(self, name: str) -> list[str]:
        """All values of an argument that may be repeated."""
        if name in self.body:
            value = self.body[name]
            return [_as_text(name, each) for each in (value if isinstance(value, list) else [value])]
        return [value for _, value in self.values.get(name, ())]

    def integer(self, name: str) -> int | None:
        """An integer; None if it is not given.

        Raises:
            Fault: it is not one: status 400.
        """
        text = self.text(name)
        if text is None:
            return None
        if not _INTEGER.fullmatch(text.strip()):
            raise invalid(name, text, "Write an integer")
        return int(text)

    def boolean(self, name: str, default: bool = False) -> bool:
        """Whether something is asked for.

        Raises:
            Fault: it is neither true nor false: status 400.
        """
        text = self.text(name)
        if text is None:
            return default
        found = truth(text)
        if found is None:
            raise invalid(name, text, "Write true or false")
        return found


def truth(text: str) -> bool | None:
    """Whether a text says true or false, as OpenStack's services read it: `True`, `yes`, `on`, `1`; None if neither."""
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    raise invalid(name, value, "Write a text, a number, true or false")
