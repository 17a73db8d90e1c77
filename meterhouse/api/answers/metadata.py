"""Resource metadata as Ceilometer shows it: flat, and all values are texts in Python's form.

Keys within each other are joined: the first separator is a dot, those after it are colons, as in `a.b:c`. A list is one
value. Source: Ceilometer 6.0.0, `ceilometer/api/controllers/v2/utils.py`.
"""

from collections.abc import Mapping
from typing import Any

import orjson


def flat(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """Metadata, flat; empty if there is none. An empty object within has no key."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = list((metadata or {}).items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{key}.{inner}", each) for inner, each in value.items()]
        else:
            found[_joined(key)] = _text(value)
    return dict(sorted(found.items()))


def _joined(key: str) -> str:
    first, dot, rest = key.replace(".", ":").partition(":")
    return f"{first}.{rest}" if dot else first


def _text(value: Any) -> str:
    try:
        return str(value)
    except (RecursionError, ValueError):  # too deep, or more digits than Python prints
        return orjson.dumps(value, default=repr).decode()
