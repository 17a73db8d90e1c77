"""Transformers of Ceilometer's `pipeline.yaml`, mapped to derived meters.

Reads every form that releases had: sources and sinks (Icehouse to Rocky), and the flat list of pipelines before it
(`counters` in Grizzly). What a transformer cannot be mapped to is named with the reason; nothing is left out silently.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meterhouse import yaml_lines
from meterhouse.errors import DefinitionError, shown

_SCALES = (int, float, str)


@dataclass
class Imported:
    """Entries for `derived_meters`, and remarks: file, line, what was left out or differs."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Chain:
    """The transformers that the samples of some meters pass in turn."""

    where: str
    meters: tuple[str, ...]
    transformers: tuple[Any, ...]


class _NotMapped(Exception):
    """A transformer that no derived meter can be."""


def imported(paths: list[Path]) -> Imported:
    """The derived meters that the transformers of these pipeline files made.

    Raises:
        DefinitionError: a file cannot be read, or is not a pipeline file.
    """
    found = Imported()
    for path in paths:
        for chain in _chains(path, yaml_lines.read(path), found):
            _map_chain(chain, found)
    unique: list[dict[str, Any]] = []
    for entry in found.entries:
        if entry not in unique:
            unique.append(entry)
    found.entries = unique
    return found


def _chains(path: Path, content: Any, found: Imported) -> Iterator[_Chain]:
    if isinstance(content, list):
        for entry in content:
            if isinstance(entry, dict):
                yield _chain(path, entry, _meters(entry), entry, found)
        return
    if not isinstance(content, dict) or not isinstance(content.get("sinks"), list):
        raise DefinitionError(
            "the file is not a pipeline", where=f"{path}:1", hint="Give Ceilometer's pipeline.yaml, with its `sinks:`"
        )
    sources = [each for each in content.get("sources") or [] if isinstance(each, dict)]
    for sink in content["sinks"]:
        if not isinstance(sink, dict):
            continue
        meters = [
            meter for source in sources if sink.get("name") in _list(source.get("sinks")) for meter in _meters(source)
        ]
        yield _chain(path, sink, meters, sink, found)


def _chain(path: Path, sink: dict[str, Any], meters: list[str], named: dict[str, Any], found: Imported) -> _Chain:
    where = f"{path}:{getattr(sink, 'line', 1)}: {named.get('name', 'a sink')}"
    chain = _Chain(where, tuple(dict.fromkeys(meters)), tuple(_list(sink.get("transformers"))))
    if chain.transformers and not chain.meters:
        found.remarks.append(f"{where}: no source sends it anything")
    return chain


def _meters(source: dict[str, Any]) -> list[str]:
    return [str(each) for each in _list(source.get("meters", source.get("counters")))]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _map_chain(chain: _Chain, found: Imported) -> None:
    meters = chain.meters
    for transformer in chain.transformers if meters else ():
        name = transformer.get("name") if isinstance(transformer, dict) else transformer
        given = transformer.get("parameters") if isinstance(transformer, dict) else None
        parameters = given if isinstance(given, dict) else {}
        try:
            if name == "accumulator":
                found.remarks.append(f"{chain.where}: accumulator: nothing to do, samples are landed in batches")
                continue
            if name == "aggregator":
                _aggregator(parameters)
                found.remarks.append(
                    f"{chain.where}: aggregator: nothing to do, the samples are kept and roll-ups put them together"
                )
                continue
            make = _MAPPED.get(str(name))
            if make is None:
                raise _NotMapped("it is not one of Ceilometer's transformers")
            entry = make(meters, parameters)
        except _NotMapped as reason:
            found.remarks.append(f"{chain.where}: {name}: not imported: {reason}")
            return
        if transformer is not chain.transformers[-1]:
            found.remarks.append(f"{chain.where}: '{entry['name']}', between two transformers, is a meter too")
        found.entries.append(entry)
        if "\\" in entry["name"] and transformer is not chain.transformers[-1]:
            meters = tuple(_next_names(meters, entry))
        else:
            meters = (entry["name"],)


def _next_names(meters: tuple[str, ...], entry: dict[str, Any]) -> list[str]:
    """What a template makes of the meters that are named literally."""
    names = []
    for meter in meters:
        made = re.fullmatch(entry["match"], meter)
        if made:
            names.append(made.expand(entry["name"]))
    return names or ["!*"]


def _aggregator(given: dict[str, Any]) -> None:
    target = _mapping(given, "target")
    if target.get("name") or target.get("map_to") or "scale" in target:
        raise _NotMapped("it makes a meter of another name, and aggregates over arrival, not over time")


def _rate(meters: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    entry = _scaled("rate", meters, given)
    scale = _mapping(given, "target").get("scale")
    if scale is not None:
        entry["scale"] = _scale(scale)
    return entry


def _convert(meters: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    entry = _scaled("convert", meters, given)
    scale = _scale(_mapping(given, "target").get("scale", 1))
    entry["expression" if isinstance(scale, str) else "scale"] = scale
    return entry


def _scaled(kind: str, meters: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    source, target = _mapping(given, "source"), _mapping(given, "target")
    come, go = _mapping(source, "map_from"), _mapping(target, "map_to")
    entry: dict[str, Any] = {"name": None, "kind": kind, "from": list(meters)}
    if "name" in go:
        entry["name"] = str(go["name"])
        entry["match"] = str(come.get("name", ".*"))
    elif "name" in target:
        entry["name"] = str(target["name"])
    if entry["name"] is None or entry["name"] in meters:
        raise _NotMapped("its meter has the name of its source, and samples received under a name count")
    if "unit" in go:
        entry["unit"] = str(go["unit"])
        entry["match_unit"] = str(come.get("unit", ".*"))
    elif "unit" in target:
        entry["unit"] = str(target["unit"])
    if "unit" in source:
        entry["source_unit"] = str(source["unit"])
    if "type" in target:
        entry["type"] = str(target["type"])
    if "max" in target:
        entry["maximum"] = target["max"]
    return entry


def _delta(meters: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    target = _mapping(given, "target")
    entry = _scaled("delta", meters, {**given, "target": {k: v for k, v in target.items() if k not in ("type", "max")}})
    if given.get("growth_only", target.get("growth_only")):
        entry["growth_only"] = True
    return entry


def _arithmetic(meters: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    target = _mapping(given, "target")
    if not target.get("name") or not target.get("expr"):
        raise _NotMapped("it has no name or no expr")
    entry = {"name": str(target["name"]), "kind": "arithmetic", "expression": str(target["expr"])}
    return entry | {key: str(target[key]) for key in ("unit", "type") if key in target}


def _mapping(given: dict[str, Any], key: str) -> dict[str, Any]:
    value = given.get(key)
    return value if isinstance(value, dict) else {}


def _scale(value: Any) -> Any:
    if not isinstance(value, _SCALES) or isinstance(value, bool):
        raise _NotMapped(f"its scale is {shown(value)}")
    return value


_MAPPED = {"rate_of_change": _rate, "unit_conversion": _convert, "delta": _delta, "arithmetic": _arithmetic}
