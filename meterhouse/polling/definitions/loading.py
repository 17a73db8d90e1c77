"""Reads polling.yaml and pollsters.d of a configuration folder, or the shipped ones."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from meterhouse.definitions.entries import InvalidEntry
from meterhouse.definitions.loading import read
from meterhouse.errors import DefinitionError, near_misses
from meterhouse.polling.definitions import filters
from meterhouse.polling.definitions.findings import Finding, line_at, named_pollster, named_source
from meterhouse.polling.definitions.pollsters import compile_pollster, unknown_keys
from meterhouse.polling.definitions.sources import KEYS, compile_source
from meterhouse.polling.pollster import HOST_NAMESPACES, Pollster, Scheduled, Source
from meterhouse.shipped import DEFAULTS

SOURCES: Final = "polling.yaml"
"""The file of the sources."""

FOLDER: Final = "pollsters.d"
"""The folder of the pollsters."""


@dataclass(frozen=True)
class Polling:
    """What is to be polled.

    Attributes:
        sources: in the order of the file.
        pollsters: in the order in which they were read. Those of a name have no namespace in common.
        findings: what is wrong with entries that were left out or are probably mistakes.
        files: that were read.
        kept: entries that have a fault now, and are as they were when the files were read before: see `kept.keep`.
    """

    sources: tuple[Source, ...]
    pollsters: tuple[Pollster, ...]
    findings: tuple[Finding, ...]
    files: tuple[Path, ...]
    kept: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings about entries that were left out."""
        return tuple(each for each in self.findings if each.severity == "fault")

    def doubtful(self, source: str, pollster: str) -> bool:
        """Whether a fault may be why a pollster of a source is not there: it has one, or an entry without a name."""
        named = {"", named_source("?"), named_pollster("?"), named_source(source), named_pollster(pollster)}
        return any(each.entry in named for each in self.faults)

    @property
    def digest(self) -> str:
        """Of all sources and pollsters: another one after any change."""
        return _digest(*map(repr, self.sources), *(each.digest for each in self.pollsters))

    def schedules(self, namespaces: Collection[str]) -> list[Scheduled]:
        """Which pollster of which source a member of these namespaces polls.

        A pollster that several sources of the same name have is in the first of them.
        """
        mine: dict[str, Pollster] = {}
        for each in self.pollsters:
            if not each.namespaces.isdisjoint(namespaces):
                mine.setdefault(each.name, each)
        found: dict[tuple[str, str], Scheduled] = {}
        for source in self.sources:
            for pollster in mine.values():
                key = (source.name, pollster.name)
                if key not in found and filters.matches(source.meters, pollster.name):
                    of_host = (pollster.namespaces & set(namespaces)) <= HOST_NAMESPACES
                    found[key] = Scheduled(source, pollster, of_host, _digest(repr(source), pollster.digest))
        return list(found.values())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:32]


def load(config_dir: Path | None) -> Polling:
    """What a configuration folder says is to be polled.

    Sources are read from `polling.yaml`; without it, or without a folder, from the shipped one. Pollsters are read from
    `pollsters.d/*.yaml` in the order of the file names, then the shipped ones. Of two pollsters with the same name and
    a namespace in common, the first that is valid is used.

    Raises:
        DefinitionError: polling.yaml cannot be read, is not YAML, or has no sources.
    """
    sources, pollsters = files_of(config_dir)
    polling = load_files(sources, pollsters, config_dir)
    return replace(polling, findings=(*polling.findings, *_unread(config_dir)))


def _unread(config_dir: Path | None) -> list[Finding]:
    """The files of pollsters.d that are not read, because of their ending."""
    if config_dir is None:
        return []
    reason = "this file is not read; only those that end with .yaml are"
    return [Finding(str(each), 1, "warning", "", reason) for each in sorted((config_dir / FOLDER).glob("*.yml"))]


def files_of(config_dir: Path | None) -> tuple[Path, list[Path]]:
    """The file of sources and the files of pollsters that `load` reads."""
    sources, own = DEFAULTS / SOURCES, list[Path]()
    if config_dir is not None:
        own = sorted((config_dir / FOLDER).glob("*.yaml"))
        if (config_dir / SOURCES).exists():
            sources = config_dir / SOURCES
    return sources, own + sorted((DEFAULTS / FOLDER).glob("*.yaml"))


def load_files(sources: Path, pollsters: Sequence[Path], folder: Path | None) -> Polling:
    """Read a file of sources and files of pollsters.

    Args:
        sources: the file.
        pollsters: the files, in the order in which they count.
        folder: the configuration folder, with the files that pollsters name.

    Raises:
        DefinitionError: as in `load`.
    """
    findings: list[Finding] = []
    made, places = _sources(sources, findings)
    found: dict[str, list[Pollster]] = {}
    for path in pollsters:
        _pollsters(path, folder, found, findings)
    loaded = tuple(pollster for several in found.values() for pollster in several)
    findings += _unmatched(sources, made, places, [each.name for each in loaded])
    files = (sources, *pollsters)
    order = {str(path): at for at, path in enumerate(files)}
    findings.sort(key=lambda each: (order[each.file], each.line))
    return Polling(tuple(made), loaded, tuple(findings), files)


def _sources(path: Path, findings: list[Finding]) -> tuple[list[Source], list[Any]]:
    """The valid sources of a file, each with its YAML node."""
    data, node = read(path, icehouse_names=False)
    entries = data.get("sources") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError(
            "the file is not a mapping with a list 'sources'",
            where=f"{path}:{line_at(node, ('sources',)) if node else 1}",
            hint="Start it with 'sources:' and list the sources below",
        )
    made: list[Source] = []
    places: list[Any] = []
    lines: dict[str, int] = {}
    nodes = [value for key, value in node.value if key.value == "sources"][-1].value
    for entry, place in zip(entries, nodes, strict=True):
        named = named_source(_name(entry))
        try:
            source = compile_source(entry)
        except InvalidEntry as error:
            findings += _faults(path, place, named, error)
            continue
        for key in entry:
            if key not in KEYS:
                findings.append(_warning(path, place, named, f"unknown key '{key}', it is ignored", str(key)))
        if "group_id_coordination_expression" in entry:
            reason = "group_id_coordination_expression is not needed: members claim the tasks of every source"
            findings.append(_warning(path, place, named, reason, "group_id_coordination_expression"))
        if source.name in lines:
            reason = f"the source at line {lines[source.name]} has this name too: what both have is polled for that one"
            findings.append(_warning(path, place, named, reason))
        lines.setdefault(source.name, line_at(place))
        made.append(source)
        places.append(place)
    return made, places


def _name(entry: Any) -> str:
    return str(entry.get("name", "?")) if isinstance(entry, dict) else "?"


def _faults(path: Path, node: Any, named: str, error: InvalidEntry) -> Iterator[Finding]:
    for keys, reason in error.faults:
        text = f"{'.'.join(keys)}: {reason}" if keys else reason
        yield Finding(str(path), line_at(node, keys), "fault", named, text)


def _warning(path: Path, node: Any, named: str, reason: str, *keys: str) -> Finding:
    return Finding(str(path), line_at(node, keys), "warning", named, reason)


def _pollsters(path: Path, folder: Path | None, found: dict[str, list[Pollster]], findings: list[Finding]) -> None:
    """Add the valid pollsters of a file to those that were found."""
    try:
        data, node = read(path, icehouse_names=False)
        if data is not None and not isinstance(data, list):
            raise DefinitionError(
                "the file is not a list", where=f"{path}:{line_at(node)}", hint="List the pollsters, each after a '- '"
            )
    except DefinitionError as error:
        line = error.where.removeprefix(f"{path}:")
        reason = f"{error.what}. {error.hint}"
        findings.append(Finding(str(path), int(line) if line.isdecimal() else 1, "fault", "", reason))
        return
    nodes: Sequence[Any] = [] if node is None else node.value
    for entry, place in zip(data or [], nodes, strict=True):
        named = named_pollster(_name(entry))
        try:
            pollster = compile_pollster(entry, f"{path}:{line_at(place)}", folder)
        except InvalidEntry as error:
            findings += _faults(path, place, named, error)
            continue
        same = found.setdefault(pollster.name, [])
        hiding = next((each for each in same if each.namespaces & pollster.namespaces), None)
        if hiding is None:
            same.append(pollster)
        elif not path.is_relative_to(DEFAULTS):  # a shipped one may be replaced
            findings.append(_warning(path, place, named, f"the pollster of this name at {hiding.where} hides it"))
        for key in unknown_keys(entry):
            findings.append(_warning(path, place, named, f"unknown key '{key}', it is ignored", key))


def _unmatched(path: Path, sources: Sequence[Source], places: Sequence[Any], names: Sequence[str]) -> list[Finding]:
    """The patterns of sources that no pollster's name matches."""
    findings = []
    for source, place in zip(sources, places, strict=True):
        for at, pattern in enumerate(source.meters):
            if pattern == "*" or pattern.startswith("!") or any(filters.matches((pattern,), name) for name in names):
                continue
            near = near_misses(pattern, names)
            reason = f"no pollster is called '{pattern}'" + (f"; did you mean {near[0]}?" if near else "")
            findings.append(_warning(path, place, named_source(source.name), reason, "meters", str(at)))
    return findings
