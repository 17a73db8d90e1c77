"""Definitions checked as a whole: every fault of every file, and what loads but cannot be meant."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from meterhouse.definitions.entries import InvalidEntry
from meterhouse.definitions.events import EventDefinition, compile_event
from meterhouse.definitions.loading import event_entries, line_of, meter_entries, read
from meterhouse.definitions.meters import ATTRIBUTES, REQUIRED, Meter, compile_meter
from meterhouse.definitions.values import Value
from meterhouse.errors import DefinitionError

METER_KEYS: Final = frozenset({*REQUIRED, *ATTRIBUTES, "lookup", "multi", "metadata", "user_metadata"})
EVENT_KEYS: Final = frozenset({"event_type", "traits"})
_FINDS_NOTHING: Final = (
    "'{}' finds nothing in any notification: a path begins with payload, ctxt, publisher_id, event_type or metadata"
)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a definition.

    Attributes:
        file: the file it stands in.
        line: the line, from 1.
        severity: `fault`: it cannot work; `warning`: it loads, and cannot be meant so.
        definition: the meter's name or the event types, empty where it is the file itself.
        reason: what is wrong.
    """

    file: str
    line: int
    severity: Literal["fault", "warning"]
    definition: str
    reason: str

    def __str__(self) -> str:
        named = f" {self.definition}:" if self.definition else ""
        return f"{self.file}:{self.line}: {self.severity}:{named} {self.reason}"


@dataclass(frozen=True)
class Checked:
    """What a check found, and how many definitions it read."""

    findings: tuple[Finding, ...]
    files: int
    meters: int
    events: int

    @property
    def faults(self) -> int:
        """How many findings are faults."""
        return sum(finding.severity == "fault" for finding in self.findings)


def check(files: Sequence[Path], *, icehouse_names: bool = True) -> Checked:
    """Check definition files together, meters and event definitions in any mixture; never raises for a bad file.

    Args:
        files: in the order in which they are loaded.
        icehouse_names: as `loading.load`.
    """
    findings: list[Finding] = []
    counts = {"meters": 0, "events": 0}
    names: dict[str, str] = {}
    for path in files:
        try:
            data, _ = read(path, icehouse_names)
            if isinstance(data, list):
                findings += _events(path, icehouse_names, counts)
            elif data is not None:
                findings += _meters(path, icehouse_names, counts, names)
        except DefinitionError as error:
            place, _, line = error.where.rpartition(":")
            at = (place, int(line)) if line.isdigit() else (error.where, 1)
            findings.append(Finding(*at, "fault", "", error.what))
    return Checked(tuple(findings), len(files), counts["meters"], counts["events"])


def _meters(path: Path, icehouse_names: bool, counts: dict[str, int], names: dict[str, str]) -> list[Finding]:
    found: list[Finding] = []
    entries = list(meter_entries(path, icehouse_names))
    counts["meters"] += len(entries)
    last = {entry["name"]: at for at, (entry, _) in enumerate(entries) if _has_name(entry)}
    for at, (entry, node) in enumerate(entries):
        name = str(entry.get("name", "?")) if isinstance(entry, dict) else "?"

        def say(
            severity: Literal["fault", "warning"], reason: str, *keys: str, node: Any = node, name: str = name
        ) -> None:
            found.append(Finding(str(path), line_of(node, *keys), severity, name, reason))

        try:
            meter = compile_meter(entry)
        except InvalidEntry as error:
            for keys, reason in error.faults:
                say("fault", f"{keys[-1]}: {reason}" if keys else reason, *keys)
        else:
            for keys, reason in _doubts_of_meter(meter):
                say("warning", reason, *keys)
        if isinstance(entry, dict):
            for key in entry.keys() - METER_KEYS:
                say("warning", f"there is no key '{key}', it is not read", str(key))
        if _has_name(entry):
            if last[entry["name"]] != at:
                say(
                    "warning",
                    f"a later meter of this name, at line {line_of(entries[last[entry['name']]][1])}, hides it",
                )
            elif entry["name"] in names:
                say("warning", f"the meter of this name at {names[entry['name']]} hides it")
            else:
                names[entry["name"]] = f"{path}:{line_of(node)}"
    return found


def _has_name(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _doubts_of_meter(meter: Meter) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in meter.attributes.items():
        if key not in ("name", "type", "unit") and value.never:
            yield (key,), _FINDS_NOTHING.format(value.key)
    for key, value in meter.metadata:
        if value.never:
            yield ("metadata", key), _FINDS_NOTHING.format(value.key)
    if meter.user_metadata is not None and meter.user_metadata.never:
        yield ("user_metadata",), _FINDS_NOTHING.format(meter.user_metadata.key)
    for name in meter.lookup:
        if name not in ATTRIBUTES:
            yield ("lookup",), f"there is no attribute '{name}' to look up"


def _events(path: Path, icehouse_names: bool, counts: dict[str, int]) -> list[Finding]:
    found: list[Finding] = []
    later: dict[frozenset[str], int] = {}
    entries = list(event_entries(path, icehouse_names))
    counts["events"] += len(entries)
    for entry, node in reversed(entries):
        name = _event_types(entry)

        def say(
            severity: Literal["fault", "warning"], reason: str, *keys: str, node: Any = node, name: str = name
        ) -> None:
            found.append(Finding(str(path), line_of(node, *keys), severity, name, reason))

        try:
            definition = compile_event(entry)
        except InvalidEntry as error:
            for keys, reason in error.faults:
                say("fault", f"trait {keys[-1]}: {reason}" if keys[:1] == ("traits",) else reason, *keys)
        else:
            for trait, value in _silent_traits(definition):
                say("warning", f"trait {trait}: {_FINDS_NOTHING.format(value.key)}", "traits", trait)
            line = later.setdefault(frozenset(definition.globs), line_of(node))
            if line != line_of(node):
                say("warning", f"a later definition of the same event types, at line {line}, takes its place")
        if isinstance(entry, dict):
            for key in entry.keys() - EVENT_KEYS:
                say("warning", f"there is no key '{key}', it is not read", str(key))
    return found[::-1]


def _silent_traits(definition: EventDefinition) -> Iterator[tuple[str, Value]]:
    for trait in definition.traits:
        if trait.value.never:
            yield trait.name, trait.value


def _event_types(entry: Any) -> str:
    given = entry.get("event_type", "?") if isinstance(entry, dict) else "?"
    return ", ".join(map(str, given)) if isinstance(given, list) else str(given)
