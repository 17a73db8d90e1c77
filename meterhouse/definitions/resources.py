"""The billable resources (`resources.yaml`): which notifications and samples say that one exists, and what it is.

A type that cannot work is reported with file, line and reason; it never stops the others.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

from meterhouse import yaml_lines
from meterhouse.definitions.site_files import in_use, once_a_change
from meterhouse.definitions.values import Value, compile_value
from meterhouse.errors import DefinitionError, shown
from meterhouse.shipped import DEFAULTS

FILE: Final = "resources.yaml"
SHIPPED: Final = DEFAULTS / FILE

ATTRIBUTES: Final = ("project_id", "user_id", "name", "flavor", "state", "host", "zone", "image")
"""What a resource may have beside its sizes."""

SIZES: Final = ("vcpus", "memory_mib", "root_gib", "ephemeral_gib", "size_gib")
"""Sizes that are columns of `resource_periods`."""

SIZE_UNITS: Final = {
    "vcpus": "vcpu",
    "memory_mib": "MiB",
    "root_gib": "GiB",
    "ephemeral_gib": "GiB",
    "size_gib": "GiB",
}

TIMES: Final = ("began", "created", "ended", "audit_from", "audit_to")

Effect = Literal["begins", "ends", "is", "was", "seen", "audit"]

_KEYS: Final = frozenset(
    {
        "type",
        "description",
        "events",
        "begins",
        "ends",
        "before",
        "seen",
        "failed",
        "audits",
        "each",
        "id",
        "attributes",
        "sizes",
    }
    | {"absent", "gone", "changes", "passing", "nowhere", "polls", *TIMES}
)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")


@dataclass(frozen=True)
class Size:
    """A size of a resource: where a message has it, and in which unit; None for that of the size's name."""

    value: Value
    unit: str | None = None


@dataclass(frozen=True)
class Polls:
    """What pollsters say of a resource.

    Attributes:
        meters: globs of the meters that are measured of it.
        sizes: size → the gauge that measures it.
        metadata: attribute or size → paths in the metadata of its samples, as keys from the top.
        silent_in: states in which it need not have samples.
    """

    meters: tuple[str, ...] = ()
    sizes: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    silent_in: frozenset[str] = frozenset()

    def measures(self, meter: str) -> bool:
        """Whether a meter is measured of such a resource."""
        return any(fnmatchcase(meter, glob) for glob in self.meters)


@dataclass(frozen=True)
class ResourceType:
    """One type of resource, compiled; the file's comments say what each key means."""

    type: str
    description: str
    events: tuple[str, ...]
    begins: tuple[str, ...]
    ends: tuple[str, ...]
    before: tuple[str, ...]
    seen: tuple[str, ...]
    audits: tuple[str, ...]
    each: tuple[str, ...]
    id: tuple[Value, ...]
    times: dict[str, tuple[Value, ...]]
    attributes: dict[str, tuple[Value, ...]]
    sizes: dict[str, Size]
    failed: frozenset[str]
    passing: frozenset[str]
    nowhere: frozenset[str]
    absent: frozenset[str]
    gone: frozenset[str]
    polls: Polls
    changes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    line: int = 1

    def tells(self, name: str, event_type: str) -> bool:
        """Whether an event of this type tells when an attribute or a size changed; others only show that it did."""
        globs = self.changes.get("sizes" if name in self.sizes or name == "measures" else name)
        return globs is None or _matches(globs, event_type)

    def effect(self, event_type: str) -> Effect | None:
        """What a notification of an event type says of such a resource; None if it is not about one."""
        if _matches(self.audits, event_type):
            return "audit"
        if not _matches(self.events, event_type):
            return None
        if _matches(self.begins, event_type):
            return "begins"
        if _matches(self.ends, event_type):
            return "ends"
        if _matches(self.seen, event_type):
            return "seen"
        return "was" if _matches(self.before, event_type) else "is"


@dataclass(frozen=True)
class Resources:
    """The types of resources of a site, what is wrong with others, and the file."""

    types: tuple[ResourceType, ...]
    faults: tuple[DefinitionError, ...]
    path: str
    meaning: str

    def named(self, name: str) -> ResourceType | None:
        """The type of this name."""
        return next((each for each in self.types if each.type == name), None)


def _matches(globs: Sequence[str], text: str) -> bool:
    if any(fnmatchcase(text, glob[1:]) for glob in globs if glob.startswith("!")):
        return False
    return any(fnmatchcase(text, glob) for glob in globs if not glob.startswith("!"))


def load(config_dir: Path | None) -> Resources:
    """The site's types of resources, or the shipped ones.

    Raises:
        DefinitionError: the file as a whole cannot be read.
    """
    return _current(in_use(config_dir, FILE, SHIPPED))


def read(path: Path) -> Resources:
    """The types of resources of a file.

    Raises:
        DefinitionError: the file as a whole cannot be read.
    """
    content = yaml_lines.read(path)
    entries = content.get("resources") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError(
            "the file has no list `resources`", where=f"{path}:1", hint="Start the file with `resources:`"
        )
    made, faults = list[ResourceType](), list[DefinitionError]()
    for entry in entries:
        line = getattr(entry, "line", 1)
        try:
            one = _type(entry, line)
            if any(one.type == other.type for other in made):
                raise ValueError(f"the type '{one.type}' is defined already")
            made.append(one)
        except ValueError as error:
            hint = "The comments of the shipped resources.yaml explain each key"
            faults.append(DefinitionError(str(error), where=f"{path}:{line}", hint=hint))
    known = {one.type for one in made}
    meaning = json.dumps(
        [each for each in entries if isinstance(each, dict) and each.get("type") in known], default=str
    )
    return Resources(tuple(made), tuple(faults), str(path), meaning)


_current: Final = once_a_change(read)


def _type(entry: Any, line: int) -> ResourceType:
    if not isinstance(entry, dict):
        raise ValueError("a resource is not a mapping")
    name = entry.get("type")
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(f"the type {shown(name)} is not lower-case letters, digits and _")
    if unknown := sorted(str(key) for key in set(entry) - _KEYS):
        raise ValueError(f"'{name}' has no {', '.join(unknown)}; it may have {', '.join(sorted(_KEYS))}")
    if "id" not in entry:
        raise ValueError(f"'{name}' has no id")

    def value(key: str, given: Any) -> Value:
        try:
            return compile_value(given)
        except ValueError as error:
            raise ValueError(f"'{name}': {key}: {error}") from None

    def several(key: str, given: Any) -> tuple[Value, ...]:
        return tuple(value(key, each) for each in (given if isinstance(given, list) else [given]))

    def texts(key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        given = entry.get(key, list(default))
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            raise ValueError(f"'{name}': {key} is {shown(given)}, not a list of texts")
        return tuple(given)

    attributes = _mapping(entry, name, "attributes")
    if unknown := sorted(set(_mapping(entry, name, "changes")) - {*ATTRIBUTES, "sizes"}):
        raise ValueError(f"'{name}': changes: there is no {', '.join(unknown)}; known: sizes, {', '.join(ATTRIBUTES)}")
    if unknown := sorted(set(attributes) - set(ATTRIBUTES)):
        raise ValueError(f"'{name}': there is no attribute {', '.join(unknown)}; known: {', '.join(ATTRIBUTES)}")
    sizes = {key: _size(name, key, given, value) for key, given in _mapping(entry, name, "sizes").items()}
    return ResourceType(
        name,
        str(entry.get("description", "")),
        texts("events"),
        texts("begins"),
        texts("ends"),
        texts("before", ("*.start", "*.error")),
        texts("seen"),
        texts("audits"),
        texts("each"),
        several("id", entry["id"]),
        {key: several(key, entry[key]) for key in TIMES if key in entry},
        {key: several(key, given) for key, given in attributes.items()},
        sizes,
        frozenset(each.lower() for each in texts("failed")),
        frozenset(each.lower() for each in texts("passing")),
        frozenset(each.lower() for each in texts("nowhere")),
        frozenset(each.lower() for each in texts("absent")),
        frozenset(each.lower() for each in texts("gone")),
        _polls(entry, name),
        {key: _globs(name, f"changes: {key}", each) for key, each in _mapping(entry, name, "changes").items()},
        line,
    )


def _globs(name: str, key: str, given: Any) -> tuple[str, ...]:
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"'{name}': {key} is {shown(found)}, not a list of texts")
    return tuple(found)


def _mapping(entry: dict[str, Any], name: str, key: str) -> dict[str, Any]:
    given = entry.get(key, {})
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given):
        raise ValueError(f"'{name}': {key} is {shown(given)}, not a mapping of names")
    return dict(given)


def _size(name: str, key: str, given: Any, value: Callable[[str, Any], Value]) -> Size:
    if not _NAME.match(key):
        raise ValueError(f"'{name}': the size {shown(key)} is not lower-case letters, digits and _")
    if isinstance(given, dict) and "path" in given:
        if set(given) - {"path", "unit"}:
            raise ValueError(f"'{name}': the size {key} has other keys than path and unit")
        return Size(value(key, given["path"]), str(given["unit"]) if "unit" in given else None)
    return Size(value(key, given))


def _polls(entry: dict[str, Any], name: str) -> Polls:
    given = _mapping(entry, name, "polls")
    if unknown := sorted(set(given) - {"meters", "sizes", "metadata", "silent_in"}):
        raise ValueError(f"'{name}': polls has no {', '.join(unknown)}")
    sizes, metadata = _mapping(given, name, "sizes"), _mapping(given, name, "metadata")
    if unknown := sorted(set(metadata) - {*ATTRIBUTES, *SIZES}):
        raise ValueError(f"'{name}': polls: metadata: there is no {', '.join(unknown)}")
    paths = {
        key: tuple(
            tuple(str(path).removeprefix("$.").split(".")) for path in (each if isinstance(each, list) else [each])
        )
        for key, each in metadata.items()
    }

    def texts(key: str) -> tuple[str, ...]:
        found = given.get(key, [])
        found = [found] if isinstance(found, str) else found
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError(f"'{name}': polls: {key} is {shown(found)}, not a list of texts")
        return tuple(found)

    return Polls(
        texts("meters"),
        {key: str(each) for key, each in sizes.items()},
        paths,
        frozenset(each.lower() for each in texts("silent_in")),
    )
