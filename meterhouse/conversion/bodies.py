"""Bodies of notifications: from JSON text to messages, as mappings."""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypedDict, TypeVar, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.definitions.expressions import WHOLE_PAYLOAD, Field, Message

T = TypeVar("T")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_WINDOW: Final = 1 << 18
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_DECODE: Final = msgspec.json.Decoder().decode
_FIELDS: Final = ("message_id", "event_type", "publisher_id", "priority", "timestamp", "payload")

NUL: Final = "\\u0000"
"""The JSON escape of a character that PostgreSQL's texts cannot hold; only `read_body` reads a body with it."""

_NUL_BYTES: Final = NUL.encode()


def read_body(body: str | bytes | None) -> Message:
    """Read a notification from its JSON text.

    The literals NaN and Infinity are accepted. Lone surrogates are replaced, because UTF-8 cannot hold them. NUL
    characters are left out, because PostgreSQL's texts cannot hold them.

    Raises:
        ValueError: it is not JSON, or not a JSON object.
        RecursionError: it is nested too deeply.
    """
    if body is None:
        raise ValueError("the notification has no body")
    if isinstance(body, bytes):
        body = body.decode("utf-8")
    if NUL in body:
        body = _NUL.sub(r"\1", body)
    try:
        message = _DECODE(body)
    except msgspec.MsgspecError:
        message = json.loads(body)
        text = json.dumps(message, ensure_ascii=False)
        if _SURROGATE.search(text):
            message = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    if not isinstance(message, dict):
        raise ValueError(f"the notification is not a JSON object but a {type(message).__name__}")
    return message


@lru_cache(maxsize=4096)
def reader(reads: frozenset[Field] | None) -> Callable[[Any], Message]:
    """A reader of bodies (UTF-8) that skips fields that no definition uses, twice as fast as reading everything.

    It raises `msgspec.MsgspecError` or RecursionError if the body is unusual. `read_body` may still read it.

    Args:
        reads: the fields of the request context and the payload to read; None for the whole message.
    """
    if reads is None:
        return msgspec.json.Decoder(dict[str, Any]).decode
    fields: dict[str, Any] = dict.fromkeys(
        [*_FIELDS, *(name for kind, name in sorted(reads) if kind == "message")], Any
    )
    if is_partial(reads):
        fields["payload"] = _typed("Payload", {name: Any for kind, name in sorted(reads) if kind == "payload"})
    return cast(Callable[[Any], Message], msgspec.json.Decoder(_typed("Notification", fields)).decode)


def is_partial(reads: frozenset[Field] | None) -> bool:
    """Whether a reader of these fields skips a part of the payload."""
    return reads is not None and not reads >= WHOLE_PAYLOAD


def _typed(name: str, fields: dict[str, Any]) -> Any:
    return cast(Any, TypedDict)(name, fields, total=False)


class Bodies:
    """The bodies of a table of notifications, read without converting them to Python texts."""

    def __init__(self, notifications: pa.Table) -> None:
        column = notifications.column("body").combine_chunks()
        if not pa.types.is_string(column.type):
            column = column.cast(pa.large_string())
        _, offsets, data = column.buffers()
        width = np.int32 if pa.types.is_string(column.type) else np.int64
        self._offsets = np.frombuffer(offsets, width)[column.offset :].tolist() if offsets else [0]
        self._data = memoryview(data) if data is not None else memoryview(b"")
        odd = pc.match_substring(column, NUL).fill_null(True) if _has_nul(self._data) else column.is_null()
        self._odd = frozenset(np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist())
        self._missing = frozenset(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist())

    def __getitem__(self, row: int) -> memoryview:
        return self._data[self._offsets[row] : self._offsets[row + 1]]

    def odd(self, row: int) -> bool:
        """Whether only `read_body` can read the row."""
        return row in self._odd

    def read(self, rows: list[int], read: Callable[[Any], T]) -> list[T | None]:
        """The messages of these rows; None for one that only `read_body` can read, or reject."""
        data, offsets = self._data, self._offsets
        if self._odd.isdisjoint(rows):
            try:
                return [read(data[offsets[row] : offsets[row + 1]]) for row in rows]
            except Exception:
                pass  # one of them is unusual
        messages: list[T | None] = []
        for row in rows:
            try:
                messages.append(None if row in self._odd else read(self[row]))
            except Exception:
                messages.append(None)
        return messages

    def text(self, row: int) -> str | None:
        """The text of a row, None if it has none."""
        return None if row in self._missing else str(self[row], "utf-8")


def _has_nul(data: memoryview) -> bool:
    """Whether `\\u0000` occurs anywhere. Backslashes are rare enough to look at each one."""
    for start in range(0, len(data), _WINDOW):
        window = np.frombuffer(data, np.uint8, min(_WINDOW + len(NUL) - 1, len(data) - start), start)
        found = window == _NUL_BYTES[0]
        if found.any():
            places = np.flatnonzero(found[: max(len(window) - len(NUL) + 1, 0)])
            for at in range(1, len(NUL)):
                places = places[window[places + at] == _NUL_BYTES[at]]
            if places.size:
                return True
    return False
