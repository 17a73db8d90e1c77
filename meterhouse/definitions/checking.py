"""Checks definitions as a whole: finds every fault of every file, and what loads but is probably a mistake."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from meterhouse.definitions import archive_policies
from meterhouse.definitions.entries import InvalidEntry
from meterhouse.definitions.events import EventDefinition, compile_event
from meterhouse.definitions.loading import event_entries, files_of, line_of, meter_entries, read
from meterhouse.definitions.meters import ATTRIBUTES, REQUIRED, Meter, compile_meter
from meterhouse.definitions.values import Value
from meterhouse.errors import DefinitionError

METER_KEYS: Final = frozenset({*REQUIRED, *ATTRIBUTES, "lookup", "multi", "metadata", "user_metadata"})
EVENT_KEYS: Final = frozenset({"event_type", "traits"})
VALUE_KEYS: Final = frozenset({"fields", "plugin"})
TRAIT_KEYS: Final = VALUE_KEYS | {"type"}
PLUGIN_KEYS: Final = frozenset({"name", "parameters"})
_OTHERS: Final = (
    "quality.yaml",
    "alarms.yaml",
    "polling.yaml",
    "polling_endpoints.yaml",
    archive_policies.FILE,
    "derived_meters.yaml",
    "prices.yaml",
)  # of a configuration folder
_OF_GNOCCHI: Final = "gnocchi_resources.yaml"
_FINDS_NOTHING: Final = (
    "'{}' finds nothing in any notification: a path starts with payload, ctxt, publisher_id, event_type or metadata"
)


@dataclass(frozen=True)
class Finding:
    """A problem of a definition.

    Attributes:
        file: the file that has the definition.
        line: the line, from 1.
        severity: `fault`: the definition cannot work; `warning`: it loads, but is probably a mistake.
        definition: the meter's name or the event types; empty if the problem is the file itself.
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
    """The findings of a check, and the number of files and definitions that it read."""

    findings: tuple[Finding, ...]
    files: int
    meters: int
    events: int

    @classmethod
    def together(cls, parts: Sequence["Checked"]) -> "Checked":
        """The results of several checks as one."""
        return cls(
            tuple(finding for part in parts for finding in part.findings),
            sum(part.files for part in parts),
            sum(part.meters for part in parts),
            sum(part.events for part in parts),
        )

    @property
    def faults(self) -> int:
        """How many findings are faults."""
        return sum(finding.severity == "fault" for finding in self.findings)


def check_folder(
    folder: Path | None, *, icehouse_names: bool = True, icehouse_meters: bool = False, shipped: bool = True
) -> Checked:
    """Check the definition files of a configuration folder.

    Each YAML file of the folder that nothing reads, because of its name or place, is a warning.

    Args:
        folder: the folder; None for the shipped files.
        icehouse_names: as in `loading.load`.
        icehouse_meters: as in `loading.load`.
        shipped: also check the shipped files that are used in place of files that the folder lacks. If false, it is a
            fault if the folder has no definition file.
    """
    meters, events = files_of(folder, icehouse_meters)
    files = [*meters, events]
    if folder is None:
        return check(files, icehouse_names=icehouse_names)
    if not shipped:
        files = [path for path in files if path.is_relative_to(folder)]
    checked = check(files, icehouse_names=icehouse_names)
    findings = list(checked.findings)
    others = {*folder.glob("*.y*ml"), *(folder / "meters.d").glob("*.y*ml")} - {folder / name for name in _OTHERS}
    for path in sorted(others - set(files)):
        reason = "this file is not read; only meters.d/*.yaml, meters.yaml and event_definitions.yaml are"
        if path.name == _OF_GNOCCHI:
            reason = f"this file is not read; `meterhouse policies import` makes {archive_policies.FILE} of it"
        findings.append(Finding(str(path), 1, "warning", "", reason))
    findings += policy_findings(folder)
    if not files:
        reason = "the folder has no meters.d/*.yaml, meters.yaml or event_definitions.yaml: the shipped ones are used"
        findings.append(Finding(str(folder), 1, "fault", "", reason))
    return Checked(tuple(findings), checked.files, checked.meters, checked.events)


def policy_findings(folder: Path) -> list[Finding]:
    """What is wrong with the archive policies of a configuration folder, if it has any."""
    if not (folder / archive_policies.FILE).exists():
        return []
    try:
        policies = archive_policies.load(folder)
    except DefinitionError as error:
        return [_finding(error, "fault")]
    return [_finding(each, "fault") for each in policies.faults] + [
        _finding(each, "warning") for each in policies.notes
    ]


def _finding(error: DefinitionError, severity: Literal["fault", "warning"]) -> Finding:
    place, _, line = error.where.rpartition(":")
    at = (place, int(line)) if line.isdigit() else (error.where, 1)
    return Finding(*at, severity, "", f"{error.what}. {error.hint}" if error.hint else error.what)


def check(files: Sequence[Path], *, icehouse_names: bool = True) -> Checked:
    """Check files of meters and event definitions together. Does not raise for a bad file.

    Args:
        files: the files in the order in which they are loaded.
        icehouse_names: as in `loading.load`.
    """
    findings: list[Finding] = []
    counts = {"meters": 0, "events": 0}
    names: dict[str, str] = {}
    for path in files:
        try:
            data, node = read(path, icehouse_names)
            if isinstance(data, list):
                findings += _events(path, data, node, counts)
            elif data is not None:
                for key in data.keys() - {"metric"} if isinstance(data, dict) else ():
                    reason = f"unknown key '{key}', it is ignored"
                    findings.append(Finding(str(path), line_of(node, str(key)), "warning", "", reason))
                findings += _meters(path, data, node, counts, names)
        except DefinitionError as error:
            findings.append(_finding(error, "fault"))
    return Checked(tuple(findings), len(files), counts["meters"], counts["events"])


def _meters(path: Path, data: Any, node: Any, counts: dict[str, int], names: dict[str, str]) -> list[Finding]:
    found: list[Finding] = []
    entries = list(meter_entries(path, data, node))
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
                say("fault", f"{' '.join(keys)}: {reason}" if keys else reason, *keys)
        else:
            for keys, reason in _warnings_of_meter(meter):
                say("warning", reason, *keys)
        if isinstance(entry, dict):
            for keys in _unread_of_meter(entry):
                say("warning", f"unknown key '{keys[-1]}', it is ignored", *keys)
        if _has_name(entry):
            if last[entry["name"]] != at:
                say(
                    "warning",
                    f"the later meter of this name at line {line_of(entries[last[entry['name']]][1])} hides it",
                )
            elif entry["name"] in names:
                say("warning", f"the meter of this name at {names[entry['name']]} hides it")
            else:
                names[entry["name"]] = f"{path}:{line_of(node)}"
    return found


def _has_name(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _unread(value: Any, known: frozenset[str], *keys: str) -> Iterator[tuple[str, ...]]:
    """The unknown keys of a mapping and of the plugin in it."""
    if isinstance(value, dict):
        yield from ((*keys, str(key)) for key in value if key not in known)
        if "plugin" in known:
            yield from _unread(value.get("plugin"), PLUGIN_KEYS, *keys, "plugin")


def _unread_of_meter(entry: dict[Any, Any]) -> Iterator[tuple[str, ...]]:
    yield from _unread(entry, METER_KEYS)
    for key in (*ATTRIBUTES, "user_metadata"):
        yield from _unread(entry.get(key), VALUE_KEYS, key)
    metadata = entry.get("metadata")
    for key, value in metadata.items() if isinstance(metadata, dict) else ():
        yield from _unread(value, VALUE_KEYS, "metadata", str(key))


def _unread_of_event(entry: dict[Any, Any]) -> Iterator[tuple[str, ...]]:
    yield from _unread(entry, EVENT_KEYS)
    traits = entry.get("traits")
    for key, value in traits.items() if isinstance(traits, dict) else ():
        yield from _unread(value, TRAIT_KEYS, "traits", str(key))


def _warnings_of_meter(meter: Meter) -> Iterator[tuple[tuple[str, ...], str]]:
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
            yield ("lookup",), f"unknown attribute '{name}'"


def _events(path: Path, data: Any, node: Any, counts: dict[str, int]) -> list[Finding]:
    found: list[Finding] = []
    later: dict[frozenset[str], int] = {}
    entries = list(event_entries(path, data, node))
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
                say("warning", f"the later definition of the same event types at line {line} hides it")
        if isinstance(entry, dict):
            for keys in _unread_of_event(entry):
                say("warning", f"unknown key '{keys[-1]}', it is ignored", *keys)
    return found[::-1]


def _silent_traits(definition: EventDefinition) -> Iterator[tuple[str, Value]]:
    for trait in definition.traits:
        if trait.value.never:
            yield trait.name, trait.value


def _event_types(entry: Any) -> str:
    given = entry.get("event_type", "?") if isinstance(entry, dict) else "?"
    return ", ".join(map(str, given)) if isinstance(given, list) else str(given)
