"""What can be filtered by, for each kind of thing: DIMENSIONS, SERIES, SAMPLES, EVENTS, RESOURCES."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from meterhouse.errors import UnknownKeyword, UsageError


@dataclass(frozen=True)
class Field:
    """A field of a query.

    Attributes:
        column: the column that holds it.
        type: how values compare; `loose` values, whose type is not declared, compare as numbers if both are numbers.
        key: of a column that holds many values, such as metadata: the name of the one that is meant.
    """

    column: str
    type: Literal["text", "number", "time", "loose"] = "text"
    key: str = ""


Fields = Mapping[str, Field]
"""The fields of one kind of thing, by name. A name that ends with a dot takes any key after it."""

METADATA: Final = "metadata"
"""The column of fields that are values of resource metadata, and the start of their names."""

TRAITS: Final = "traits"
"""The column of fields that are traits of an event, and the start of their names."""

DIMENSIONS: Fields = {
    "resource": Field("resource_id"),
    "resource_id": Field("resource_id"),
    "project": Field("project_id"),
    "project_id": Field("project_id"),
    "user": Field("user_id"),
    "user_id": Field("user_id"),
    "source": Field("source"),
    "type": Field("type"),
    "unit": Field("unit"),
}

SERIES: Fields = {**DIMENSIONS, f"{METADATA}.": Field(METADATA, "loose")}

SAMPLES: Fields = {
    **SERIES,
    "volume": Field("volume", "number"),
    "timestamp": Field("timestamp", "time"),
    "recorded_at": Field("recorded_at", "time"),
}

EVENTS: Fields = {
    "event_type": Field("event_type"),
    "message_id": Field("message_id"),
    "generated": Field("generated", "time"),
    f"{TRAITS}.": Field(TRAITS, "loose"),
}

RESOURCES: Fields = {
    **{
        name: SERIES[name] for name in ("resource", "resource_id", "project", "project_id", "user", "user_id", "source")
    },
    "meter": Field("meter"),
    "first_sample_at": Field("first_sample_at", "time"),
    "last_sample_at": Field("last_sample_at", "time"),
    f"{METADATA}.": Field(METADATA, "loose"),
}

MAX_KEY: Final = 255
"""Maximum length of a key, in characters."""

MAX_POSITIONS: Final = 2
"""Maximum number of steps of a key that may be positions in a list: each doubles the places that are looked at."""

POSITION: Final = re.compile("0|[1-9][0-9]{0,8}")
"""A step of a key that may be a position in a list."""


def names(fields: Fields) -> list[str]:
    """The fields as a person writes them: `metadata.KEY` for any key."""
    return sorted(f"{name}KEY" if name.endswith(".") else name for name in fields)


def find(fields: Fields, name: str) -> Field:
    """The field that has a name.

    Raises:
        UnknownKeyword: there is none.
        UsageError: its key is too long, or has too many positions in lists.
    """
    prefix, dot, key = name.partition(".")
    found = fields.get(prefix + dot)
    unusable = set(key) & set('"\\\0')  # SQLite has no escape for these in a path
    if found is None or unusable or bool(dot) != bool(key):
        raise UnknownKeyword("field", name if len(name) <= MAX_KEY else f"{name[:MAX_KEY]}…", names(fields))
    if len(key) > MAX_KEY:
        raise UsageError(f"the key has {len(key):,} characters", where=prefix, hint=f"At most {MAX_KEY}")
    if sum(POSITION.fullmatch(step) is not None for step in re.split("[.:]", key)) > MAX_POSITIONS:
        raise UsageError(f"'{key}' has more than {MAX_POSITIONS} positions in lists", where=prefix, hint="Shorten it")
    return dataclasses.replace(found, key=key)


def paths(key: str) -> list[list[str]]:
    """Where the value of a key may be, the first that has one counts: the key as it is, or keys within each other.

    Ceilometer's API shows keys within each other as `a.b:c:d`.
    """
    found = [[key]]
    if "." in key:
        found.append(key.split("."))
        if ":" in key:
            found.append(re.split("[.:]", key))
    return found
