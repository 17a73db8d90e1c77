"""Gnocchi's search of resources, as a condition of ours.

Source: Gnocchi's documentation, "Searching for resources"; attributes of resources by Ceilometer's
`gnocchi_resources.yaml`.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from meterhouse.errors import UsageError, shown

_SIGNS: Final = {
    "=": "=",
    "==": "=",
    "eq": "=",
    "!=": "!=",
    "≠": "!=",
    "ne": "!=",
    "<": "<",
    "lt": "<",
    "<=": "<=",
    "≤": "<=",
    "le": "<=",
    ">": ">",
    "gt": ">",
    ">=": ">=",
    "≥": ">=",
    "ge": ">=",
}
_JOINS: Final = {"and": "and", "∧": "and", "or": "or", "∨": "or"}

_FIELDS: Final = {
    "id": ("resource",),
    "original_resource_id": ("resource",),
    "project_id": ("project",),
    "user_id": ("user",),
    "display_name": ("metadata.display_name", "metadata.name"),
    "host": ("metadata.host", "metadata.instance_host"),
    "image_ref": ("metadata.image_ref", "metadata.image.id"),
    "flavor_id": ("metadata.flavor.id", "metadata.instance_flavor_id", "metadata.flavor_id"),
    "flavor_name": ("metadata.flavor.name", "metadata.instance_type", "metadata.flavor_name"),
    "server_group": ("metadata.user_metadata.server_group", "metadata.metering.server_group"),
    "availability_zone": ("metadata.availability_zone", "metadata.OS-EXT-AZ:availability_zone"),
}
"""Attribute of a resource → the fields that may hold it, of which one is enough. Others are keys of the metadata."""

_OF_TIME: Final = ("started_at", "ended_at", "revision_start", "revision_end")
MAX_DEPTH: Final = 30


def as_text(search: Any, depth: int = 0) -> str:
    """The condition that a search says, in the language of filters.

    `{"=": {"ended_at": null}}` says nothing here: what has ended has no points.

    Raises:
        UsageError: it is not a search, or one that we cannot do.
    """
    if depth > MAX_DEPTH:
        raise UsageError(f"the search is nested more than {MAX_DEPTH} levels", hint="Write it flatter")
    if not isinstance(search, dict) or len(search) != 1:
        raise UsageError(f"{shown(search)} is not a search", hint='Write an object with one key, such as {"and": […]}')
    ((key, content),) = search.items()
    op = str(key).lower()
    if op in _JOINS:
        if not isinstance(content, list) or not content:
            raise UsageError(f"{shown(content)} is not a list of searches", where=op, hint="Write at least one")
        parts = [text for text in (as_text(each, depth + 1) for each in content) if text]
        return f"({f' {_JOINS[op]} '.join(parts)})" if parts else ""
    if op in ("not", "¬"):
        inner = as_text(content, depth + 1)
        if not inner:
            raise UsageError("only resources that have ended", where=op, hint="They have no points: leave it out")
        return f"not ({inner})"
    if not isinstance(content, dict) or len(content) != 1:
        raise UsageError(f"{shown(content)} is not a comparison", where=op, hint="Write {ATTRIBUTE: VALUE}")
    ((name, value),) = content.items()
    return _comparison(op, str(name), value)


def _comparison(op: str, name: str, value: Any) -> str:
    if name == "ended_at" and value is None and _SIGNS.get(op) == "=":
        return ""
    if name in _OF_TIME:
        raise UsageError(f"a search by {name}", where=op, hint='Only {"=": {"ended_at": null}} can be asked for')
    made: Callable[[str], str]
    if op in _SIGNS:
        sign, text = _SIGNS[op], quoted(value, name)

        def made(field: str) -> str:
            return f"{field} {sign} {text}"
    elif op == "like":
        pattern = "".join({"%": ".*", "_": "."}.get(each, re.escape(each)) for each in _plain(value, name))

        def made(field: str) -> str:
            return f"{field} =~ {quoted(f'^{pattern}$', name)}"
    elif op in ("in", "∈") and isinstance(value, list) and value:
        listed = ", ".join(quoted(each, name) for each in value)

        def made(field: str) -> str:
            return f"{field} in ({listed})"
    else:
        raise UsageError(f"the operator {shown(op)}", hint="Write one of =, !=, <, <=, >, >=, like, in, and, or, not")
    found = [made(field) for field in _FIELDS.get(name, (f"metadata.{_key(name)}",))]
    return found[0] if len(found) == 1 else f"({' or '.join(found)})"


def _key(name: str) -> str:
    return quoted(name, name) if re.search(r"[^\w.:-]", name) else name


def _plain(value: Any, name: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{shown(value)} is not a value", where=name, hint="Write a text or a number")
    return str(value)


def quoted(value: Any, name: str = "") -> str:
    """A value as the language of filters writes it."""
    return '"' + _plain(value, name).replace('"', '""') + '"'
