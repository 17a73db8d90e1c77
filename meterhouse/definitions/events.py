"""Event definitions (`event_definitions.yaml`): which event, with which traits, a notification becomes.

The format is Ceilometer's: https://docs.openstack.org/ceilometer/latest/admin/telemetry-events.html. Exactly one
definition applies to a notification: the last of the file that matches it. If none matches, the event has only the
default traits.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

from meterhouse.definitions.columns import Columns
from meterhouse.definitions.entries import Faults, InvalidEntry
from meterhouse.definitions.expressions import Field, all_reads
from meterhouse.definitions.values import Value, compile_value
from meterhouse.timestamps import parse_utc
from meterhouse.verification import VERIFY_EVENT

TEXT_LENGTH: Final = 255
TRAIT_TYPES: Final = {"text": "text", "int": "integer", "float": "float", "datetime": "datetime", "none": "none"}
"""Name of a type in the file, in lower case → type of the trait."""

DEFAULT_TRAITS: Final[dict[str, Any]] = {
    "service": "publisher_id",
    "request_id": "ctxt.request_id",
    "project_id": ["payload.tenant_id", "ctxt.project_id"],
    "user_id": ["payload.user_id", "ctxt.user_id"],
    "tenant_id": ["payload.tenant_id", "ctxt.project_id"],
}

_MATCHED_LIMIT: Final = 4096
_TEXT_OR_NOTHING: Final = frozenset({str, type(None)})


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
    globs: tuple[str, ...] = ()  # as written
    where: str = ""  # file:line
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the traits, as written
    _readers: list[tuple[int, Callable[[list[Any]], list[str | None]] | None, Value]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        readers = [
            (_kind(trait.name, trait.dtype), _CONVERT.get(trait.dtype), trait.value)
            for trait in self.traits
            if not trait.value.never
        ]
        object.__setattr__(self, "_readers", readers)

    @property
    def reads(self) -> frozenset[Field] | None:
        """The fields of the request context and the payload that it reads; None for the whole message."""
        return all_reads(trait.value.reads for trait in self.traits)

    def matches(self, event_type: str) -> bool:
        """Whether a glob includes the event type and none excludes it."""
        if any(pattern.match(event_type) for pattern in self.excluded):
            return False
        return any(pattern.match(event_type) for pattern in self.included)

    def read(self, columns: Columns, warns: Sequence[list[str]]) -> list[tuple[int, list[str | None]]]:
        """The traits of notifications: for each kind (see `kinds`), a column with a value or None for each message.

        A value is text, not yet cut to `TEXT_LENGTH`. An int, a float or a datetime (ISO, UTC) is the result of `str`.

        Args:
            columns: the notifications.
            warns: for each notification, a list to which warnings are appended.

        Raises:
            Exception: a value of one of the messages is not of its trait's type. Ceilometer makes no event of such a
                message.
        """
        traits = []
        for kind, convert, value in self._readers:
            column = columns.of(value, "event", warns)
            if convert is None:
                if not _TEXT_OR_NOTHING.issuperset(columns.kinds(column)):
                    column = columns.cached(("texts", id(column)), _texts, column)
            else:
                column = columns.cached((convert, id(column)), convert, column)
            traits.append((kind, column))
        return traits


_kinds: dict[tuple[str, str], int] = {}


def _kind(name: str, dtype: str) -> int:
    """A number for a trait's name and dtype, the same for all definitions of the process."""
    return _kinds.setdefault((name, dtype), len(_kinds))


def kinds() -> list[tuple[str, str]]:
    """The name and dtype of each kind of trait, by its number."""
    return list(_kinds)


def _moment(value: Any) -> str:
    return _known_moment(value) if type(value) is str else parse_utc(value).isoformat()


@lru_cache(maxsize=1 << 15)
def _known_moment(text: str) -> str:
    # Cached, because all messages of a resource have the time of its creation.
    return parse_utc(text).isoformat()


def _texts(column: list[Any]) -> list[str | None]:
    return [value if value is None or type(value) is str else str(value) for value in column]


def _others(convert: Callable[[Any], Any]) -> Callable[[list[Any]], list[str | None]]:
    def converted(column: list[Any]) -> list[str | None]:
        return [None if value is None or value == "" else str(convert(value)) for value in column]

    return converted


_CONVERT: Final[
    dict[str, Callable[[list[Any]], list[str | None]]]
] = {  # most values are text already, and need no conversion
    "none": _others(str),
    "integer": _others(int),
    "float": _others(float),
    "datetime": _others(_moment),
}

TYPED: Final[dict[str, Callable[[str], Any]]] = {
    "text": lambda text: text[:TEXT_LENGTH],
    "none": lambda text: text[:TEXT_LENGTH],
    "integer": int,
    "float": float,
    "datetime": str,
}
"""dtype → function from the text that was read to the trait's value."""


def as_text(trait: Trait, value: Any) -> str | None:
    """The text of a trait with this value, None if it has no value.

    Raises:
        Exception: the value is not of the trait's type.
    """
    convert = _CONVERT.get(trait.dtype, _texts)
    return convert([value])[0]


def compile_event(entry: object, where: str = "") -> EventDefinition:
    """Compile an entry of event_definitions.yaml; `where` is its file and line.

    Raises:
        InvalidEntry: keys are missing or invalid.
    """
    if not isinstance(entry, dict):
        raise InvalidEntry([((), "the entry is not a mapping")])
    faults = Faults()
    for key in ("event_type", "traits"):
        if key not in entry:
            faults.add((), f"the required key '{key}' is missing")
    given = entry.get("event_type", [])
    globs = [given] if isinstance(given, str) else given
    if not isinstance(globs, list) or not all(isinstance(glob, str) for glob in globs):
        faults.add(("event_type",), "it is neither a string nor a list of strings")
        globs = []
    included = [glob for glob in globs if not glob.startswith("!")]
    excluded = [glob[1:] for glob in globs if glob.startswith("!")]
    given_traits = entry.get("traits") or {}
    if not isinstance(given_traits, dict):
        faults.add(("traits",), "it is not a mapping")
        given_traits = {}
    traits = dict(_DEFAULT_TRAITS)
    for name, definition in given_traits.items():
        trait = faults.attempt(("traits", str(name)), _trait, str(name), definition)
        if trait is not None:
            traits[trait.name] = trait
    faults.raise_if_any()
    return EventDefinition(
        tuple(re.compile(translate(glob)) for glob in (included or ["*"] if excluded else included)),
        tuple(re.compile(translate(glob)) for glob in excluded),
        tuple(traits.values()),
        catch_all="*" in included and not excluded,
        globs=tuple(globs),
        where=where,
        content=given_traits,
    )


def _trait(name: str, definition: Any) -> Trait:
    type_name = definition.get("type", "text") if isinstance(definition, dict) else "text"
    if not isinstance(type_name, str) or type_name.lower() not in TRAIT_TYPES:
        raise ValueError(f"'{type_name}' is not one of text, int, float and datetime")
    return Trait(name, TRAIT_TYPES[type_name.lower()], compile_value(definition))


_DEFAULT_TRAITS: Final = {name: Trait(name, "text", compile_value(path)) for name, path in DEFAULT_TRAITS.items()}


@dataclass
class EventDefinitions:
    """The event definitions of a deployment, in the order of the file."""

    definitions: tuple[EventDefinition, ...]
    _matched: dict[str, EventDefinition] = field(default_factory=dict, repr=False)
    _default: EventDefinition = field(
        default_factory=lambda: EventDefinition((re.compile(""),), (), tuple(_DEFAULT_TRAITS.values()), catch_all=True),
        repr=False,
    )

    def has_match(self, event_type: str) -> bool:
        """Whether a definition of the file, not only the default, applies to an event type."""
        return self.matching(event_type) is not self._default or event_type == VERIFY_EVENT

    def matching(self, event_type: str) -> EventDefinition:
        """The definition that applies to an event type."""
        try:
            return self._matched[event_type]
        except KeyError:
            found = next((each for each in reversed(self.definitions) if each.matches(event_type)), self._default)
            if len(self._matched) >= _MATCHED_LIMIT:
                self._matched.clear()
            self._matched[event_type] = found
            return found
