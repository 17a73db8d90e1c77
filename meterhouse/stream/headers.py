"""The properties and headers of an AMQP message, from their form on the wire."""

import json
from math import isfinite
from typing import Any


def properties(wire: bytes) -> dict[str, Any]:
    """Decode AMQP's properties and headers from the wire; empty if they cannot be read."""
    from amqp.basic_message import Message

    message = Message()
    try:
        message._load_properties(message.CLASS_ID, wire, 0)
    except Exception:  # whatever a publisher sent, a header must not stop a message
        return {}
    return dict(message.properties)


def headers(wire: bytes) -> str | None:
    """The properties and headers as JSON text; None if there are none, or they cannot be read."""
    try:
        found = _plain(properties(wire))
    except RecursionError:
        return None
    return json.dumps(found, sort_keys=True) if found else None


def _plain(value: Any) -> Any:
    """The value in JSON's types; everything else becomes text."""
    if isinstance(value, dict):
        return {_text(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    return _text(value)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
