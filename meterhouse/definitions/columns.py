"""A batch of notifications of one type as columns. Each distinct path is read once, for meters and events together."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from meterhouse.definitions.expressions import Message
from meterhouse.definitions.values import Value

Reader = Literal["meter", "event"]


class PartialMessages(Exception):
    """A definition needs more of the messages than was read."""


class Columns:
    """The notifications of a batch, and the values that paths find in them.

    Args:
        messages: the notifications, unwrapped.
        partial: whether only those fields of the payloads were read that the definitions name.

    Attributes:
        payloads: the payload of each notification; empty if it is not a mapping.
        timestamps: the timestamp of each notification, as it came.
        found: for each kind of definition, the paths that were read, with their columns.
    """

    def __init__(self, messages: Sequence[Message], *, partial: bool = False) -> None:
        self.messages = messages
        self.partial = partial
        self.payloads = [payload if isinstance(payload := message.get("payload"), dict) else {} for message in messages]
        self.timestamps: list[Any] = [message.get("timestamp") for message in messages]
        self.found: dict[Reader, dict[str, Sequence[Any]]] = {"meter": {}, "event": {}}
        self._known: dict[object, Any] = {(("message", "timestamp"),): self.timestamps}

    def __len__(self) -> int:
        return len(self.messages)

    def of(self, value: Value, reader: Reader, warns: Sequence[list[str]]) -> list[Any]:
        """The value in each notification, None if there is none.

        Args:
            value: the definition of the value.
            reader: the kind of definition that it is read for.
            warns: for each notification, a list to which warnings are appended.

        Raises:
            Exception: an expression failed on an unusual message.
        """
        column: list[Any] = self.cached(
            value.fields or (value.key, reader), lambda: value.column(self.messages, self.payloads, warns)
        )
        if value.constant is None:
            self.found[reader][value.key] = column
        return column

    def constant(self, value: Any) -> list[Any]:
        """A column that has one value in every row."""
        column: list[Any] = self.cached(("constant", type(value), repr(value)), lambda: [value] * len(self))
        return column

    def kinds(self, column: Sequence[Any]) -> frozenset[type]:
        """The types of the values of a column."""
        kinds: frozenset[type] = self.cached(("kinds", id(column)), lambda: frozenset(map(type, column)))
        return kinds

    def cached(self, key: object, make: Callable[..., Any], *arguments: Any) -> Any:
        """The result of `make(*arguments)`, which is called once for each key."""
        made = self._known.get(key)
        if made is None:
            made = self._known[key] = make(*arguments)
        return made
