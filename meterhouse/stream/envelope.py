"""Unwraps messages: removes oslo.messaging's envelope and reads the header fields.

The wire format is that of oslo.messaging's `messagingv2` driver: an object with `oslo.version` and `oslo.message`; the
latter is JSON text. A body without both is the bare message of the `messaging` driver.
"""

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
import xxhash

from meterhouse.timestamps import parse as parse_timestamp


class BadMessage(ValueError):
    """A body that is not a notification; the message says why."""


@dataclass(slots=True)
class Notification:
    """A notification's header, and its body as JSON text. `timestamp` is in µs since the epoch, UTC."""

    message_id: str
    event_type: str
    publisher_id: str | None
    priority: str
    timestamp: int | None
    body: str


class _Envelope(msgspec.Struct):
    version: str = msgspec.field(name="oslo.version")
    message: str = msgspec.field(name="oslo.message")


class _Header(msgspec.Struct):
    message_id: str
    event_type: str
    timestamp: str
    publisher_id: str | None = None
    priority: str = ""


_envelope = msgspec.json.Decoder(_Envelope).decode
_header = msgspec.json.Decoder(_Header).decode


def parse_json(text: bytes | str) -> Any:
    """Parse JSON. The literals NaN and Infinity, which Python's own encoder writes, are accepted too.

    Raises:
        BadMessage: it is not JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError as error:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise BadMessage(f"not JSON: {error}") from None


def unwrap(body: bytes) -> Notification:
    """The notification in a message body.

    A message without an id gets one made from its content, so that a repeat is still recognised.

    Raises:
        BadMessage: the body is not a JSON object, its envelope has another version, or it has no event_type.
    """
    try:
        envelope = _envelope(body)
        header = _header(envelope.message)
        if envelope.version[:2] == "2." and header.message_id and header.event_type:
            return Notification(
                clean(header.message_id),
                clean(header.event_type),
                clean(header.publisher_id) if header.publisher_id is not None else None,
                clean(header.priority).lower(),
                parse_timestamp(header.timestamp),
                envelope.message,
            )
    except (ValueError, RecursionError):  # not in the usual form
        pass
    return _unwrap_whole(body)


def _unwrap_whole(body: bytes) -> Notification:
    """The notification in a body of any form. This is three times as slow, because everything is parsed."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage(f"not UTF-8: {error.reason} at byte {error.start}") from None
    message = parse_json(text)
    if isinstance(message, dict) and "oslo.message" in message and "oslo.version" in message:
        version = str(message["oslo.version"])
        if version.partition(".")[0] != "2":
            raise BadMessage(f"oslo.messaging envelope version {version[:20]!r}, 2.x is known")
        text = message["oslo.message"]
        if not isinstance(text, str):
            raise BadMessage("oslo.message is not text")
        message = parse_json(text)
    if not isinstance(message, dict):
        raise BadMessage(f"not a JSON object but {type(message).__name__}")
    event_type = message.get("event_type")
    if not isinstance(event_type, str) or not event_type:
        raise BadMessage("no event_type")
    message_id = message.get("message_id")
    if not isinstance(message_id, str) or not message_id:
        message_id = f"xxh3:{xxhash.xxh3_128_hexdigest(text.encode('utf-8', 'surrogatepass'))}"
    publisher = message.get("publisher_id")
    priority = message.get("priority")
    try:
        stamp = message.get("timestamp")
        timestamp = parse_timestamp(stamp) if isinstance(stamp, str) else None
    except ValueError:
        timestamp = None
    return Notification(
        clean(message_id),
        clean(event_type),
        clean(publisher) if isinstance(publisher, str) else None,
        clean(priority).lower() if isinstance(priority, str) else "",
        timestamp,
        clean(text),
    )


def clean(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, and remove NUL, which PostgreSQL cannot hold."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
