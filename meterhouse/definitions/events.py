"""Event definitions (`event_definitions.yaml`): which event, with which traits, a notification becomes.

The format is Ceilometer's: https://docs.openstack.org/ceilometer/latest/admin/telemetry-events.html. Exactly one
definition serves a notification: the last of the file that matches it, else one with the default traits only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

from meterhouse.definitions.expressions import Message
from meterhouse.definitions.values import Value, compile_value
from meterhouse.timestamps import parse_utc

TEXT_LENGTH: Final = 255
TRAIT_TYPES: Final = {"text": "text", "int": "integer", "float": "float", "datetime": "datetime"}
"""From the name of a type in the file to that of the trait."""

DEFAULT_TRAITS: Final[dict[str, Any]] = {
    "service": "publisher_id",
    "request_id": "ctxt.request_id",
    "project_id": ["payload.tenant_id", "ctxt.project_id"],
    "user_id": ["payload.user_id", "ctxt.user_id"],
    "tenant_id": ["payload.tenant_id", "ctxt.project_id"],
}

_MATCHED_LIMIT: Final = 4096


class InvalidEvent(ValueError):
    """An entry of event_definitions.yaml that cannot work.

    Attributes:
        key: the key of the entry at fault, empty where it is the entry itself.
        trait: the trait at fault, empty where it is none.
    """

    def __init__(self, key: str, reason: str, *, trait: str = "") -> None:
        self.key = key
        self.trait = trait
        super().__init__(f"trait {trait}: {reason}" if trait else f"{key}: {reason}" if key else reason)


@dataclass(frozen=True)
class Trait:
    """A named value of an event; its dtype is text, integer, float or datetime."""

    name: str
    dtype: str
    value: Value


@dataclass(frozen=True)
class EventDefinition:
    """One entry of event_definitions.yaml, compiled."""

    included: tuple[re.Pattern[str], ...]
    excluded: tuple[re.Pattern[str], ...]
    traits: tuple[Trait, ...]
    catch_all: bool = False
    _readers: list[tuple[int, Callable[[Any], Any] | None, str | None, Callable[[Message], Any] | None, Value]] = field(
        init=False, repr=False
    )

    def __post_init__(self) -> None:
        readers = [
            (
                _kind(trait.name, trait.dtype),
                _CONVERT.get(trait.dtype),
                trait.value.payload_field,
                trait.value.plain,
                trait.value,
            )
            for trait in self.traits
            if not trait.value.never
        ]
        object.__setattr__(self, "_readers", readers)

    def matches(self, event_type: str) -> bool:
        """Whether a glob includes the event type and none excludes it."""
        if any(pattern.match(event_type) for pattern in self.excluded):
            return False
        return any(pattern.match(event_type) for pattern in self.included)

    def read(self, message: Message, warn: list[str]) -> tuple[list[int], list[Any]]:
        """The traits of a notification: their kinds (see `kinds`), and their values.

        A value is a str, an int, a float or, for a datetime, its ISO text in UTC.

        Args:
            message: the notification, unwrapped.
            warn: what is worth a warning is appended.

        Raises:
            ValueError: a value is not of its trait's type; Ceilometer makes no event then.
        """
        found: list[int] = []
        values: list[Any] = []
        payload = message.get("payload")
        if not isinstance(payload, dict):
            payload = _NOTHING
        for kind, convert, name, plain, definition in self._readers:
            if name is not None:
                value = payload.get(name)
            else:
                value = definition.first(message, warn) if plain is None else plain(message)
            if value is None:
                continue
            if convert is None:
                value = (value if type(value) is str else str(value))[:TEXT_LENGTH]
            elif value == "":
                continue
            else:
                value = convert(value)
            found.append(kind)
            values.append(value)
        return found, values


_NOTHING: Final[dict[str, Any]] = {}
_kinds: dict[tuple[str, str], int] = {}


def _kind(name: str, dtype: str) -> int:
    """A number for the traits of a name and dtype, the same for all definitions of the process."""
    return _kinds.setdefault((name, dtype), len(_kinds))


def kinds() -> list[tuple[str, str]]:
    """The name and dtype of each kind of trait, by its number."""
    return list(_kinds)


def _moment(value: Any) -> str:
    return _known_moment(value) if type(value) is str else parse_utc(value).isoformat()


@lru_cache(maxsize=1 << 15)
def _known_moment(text: str) -> str:
    # All messages of a resource carry the time of its creation.
    return parse_utc(text).isoformat()


_CONVERT: Final[dict[str, Callable[[Any], Any]]] = {"integer": int, "float": float, "datetime": _moment}


def compile_event(entry: object) -> EventDefinition:
    """Compile an entry of event_definitions.yaml.

    Raises:
        InvalidEvent: a key is missing or cannot work.
    """
    if not isinstance(entry, dict):
        raise InvalidEvent("", "the entry is no mapping")
    for key in ("event_type", "traits"):
        if key not in entry:
            raise InvalidEvent("", f"the required key '{key}' is missing")
    given = entry["event_type"]
    globs = [given] if isinstance(given, str) else given
    if not isinstance(globs, list) or not globs or not all(isinstance(glob, str) for glob in globs):
        raise InvalidEvent("event_type", "it is neither a text nor a list of texts")
    included = [glob for glob in globs if not glob.startswith("!")]
    excluded = [glob[1:] for glob in globs if glob.startswith("!")]
    traits = entry["traits"] or {}
    if not isinstance(traits, dict):
        raise InvalidEvent("traits", "it is no mapping")
    return EventDefinition(
        tuple(re.compile(translate(glob)) for glob in included or ["*"]),
        tuple(re.compile(translate(glob)) for glob in excluded),
        _traits(traits),
        catch_all="*" in included and not excluded,
    )


def _traits(given: dict[Any, Any]) -> tuple[Trait, ...]:
    traits = {name: Trait(name, "text", compile_value(value)) for name, value in DEFAULT_TRAITS.items()}
    for name, definition in given.items():
        type_name = definition.get("type", "text") if isinstance(definition, dict) else "text"
        if type_name not in TRAIT_TYPES:
            raise InvalidEvent("traits", f"'{type_name}' is none of {', '.join(TRAIT_TYPES)}", trait=str(name))
        try:
            value = compile_value(definition)
        except ValueError as error:
            raise InvalidEvent("traits", str(error), trait=str(name)) from None
        traits[str(name)] = Trait(str(name), TRAIT_TYPES[type_name], value)
    return tuple(traits.values())


@dataclass
class EventDefinitions:
    """The event definitions of a deployment, in the order of the file."""

    definitions: tuple[EventDefinition, ...]
    _matched: dict[str, EventDefinition] = field(default_factory=dict, repr=False)
    _default: EventDefinition = field(
        default_factory=lambda: EventDefinition((re.compile(""),), (), _traits({}), catch_all=True),
        repr=False,
    )

    def matching(self, event_type: str) -> EventDefinition:
        """The definition that serves an event type."""
        try:
            return self._matched[event_type]
        except KeyError:
            found = next((each for each in reversed(self.definitions) if each.matches(event_type)), self._default)
            if len(self._matched) >= _MATCHED_LIMIT:
                self._matched.clear()
            self._matched[event_type] = found
            return found
