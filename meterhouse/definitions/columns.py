"""A batch of notifications of one type as columns: each distinct path is read once, for meters and events together."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from meterhouse.definitions.expressions import Message
from meterhouse.definitions.values import Value

Reader = Literal["meter", "event"]


class PartialMessages(Exception):
    """More of the messages is asked for than was read of them."""


class Columns:
    """The notifications of a batch, and what paths find in them.

    Args:
        messages: the notifications, unwrapped.
        partial: whether of the payloads only what the definitions name was read.

    Attributes:
        payloads: the payload of each, empty where it is no mapping.
        timestamps: the timestamp of each, as it came.
        found: for each kind of definition, the paths that it has read, each with its column.
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
        """What a value is in each notification, None where there is none.

        Args:
            value: the definition of it.
            reader: for which kind of definition it is read.
            warns: for each notification a list, to which what is worth a warning is appended.

        Raises:
            Exception: whatever an expression meets in an odd message.
        """
        column: list[Any] = self.once(
            value.fields or (value.key, reader), lambda: value.column(self.messages, self.payloads, warns)
        )
        if value.constant is None:
            self.found[reader][value.key] = column
        return column

    def constant(self, value: Any) -> list[Any]:
        """A column of one value."""
        column: list[Any] = self.once(("constant", type(value), repr(value)), lambda: [value] * len(self))
        return column

    def kinds(self, column: Sequence[Any]) -> frozenset[type]:
        """The types of the values of a column."""
        kinds: frozenset[type] = self.once(("kinds", id(column)), lambda: frozenset(map(type, column)))
        return kinds

    def once(self, key: object, make: Callable[..., Any], *arguments: Any) -> Any:
        """What `make` gives for the arguments, the same object for the same key."""
        made = self._known.get(key)
        if made is None:
            made = self._known[key] = make(*arguments)
        return made
