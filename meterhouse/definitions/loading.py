"""Reads definition files from a configuration folder, or those that Meterhouse ships.

Files are read once per process, and again when one of them has changed. Every fault names its file and line.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from meterhouse.definitions.entries import InvalidEntry
from meterhouse.definitions.events import EventDefinition, EventDefinitions, compile_event
from meterhouse.definitions.meters import Meter, MeterDefinitions, compile_meter
from meterhouse.errors import DefinitionError
from meterhouse.shipped import DEFAULTS
from meterhouse.yaml_lines import TooLarge, read_text

ICEHOUSE_METERS: Final = DEFAULTS / "icehouse_meters.yaml"

Signature = tuple[tuple[str, int, int], ...]
_ICEHOUSE: Final = re.compile(r"""(?<![\w.'"])(\$\.)?_context_""")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_loaded: dict[tuple[Path | None, bool, bool], tuple[Signature, "Definitions"]] = {}


@dataclass(frozen=True)
class Fault:
    """A meter that was left out, as in Ceilometer, and why.

    Attributes:
        hidden: whether it is valid, but an earlier one has its name.
    """

    file: str
    line: int
    name: str
    reason: str
    hidden: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: meter '{self.name}' is left out: {self.reason}"


@dataclass(frozen=True)
class Definitions:
    """The definitions of a deployment.

    Attributes:
        meters: the valid meters.
        events: the event definitions.
        faults: the meters that are invalid, or hidden by an earlier one of their name.
        files: the files that were read.
    """

    meters: MeterDefinitions
    events: EventDefinitions
    faults: tuple[Fault, ...]
    files: tuple[Path, ...]


def load(config_dir: Path | None, *, icehouse_names: bool = True, icehouse_meters: bool = False) -> Definitions:
    """The definitions of a configuration folder.

    Meters are read from `meters.d/*.yaml`, in the order of the file names, then `meters.yaml`; events from
    `event_definitions.yaml`. If the folder lacks one of the two, or there is no folder, the shipped files are used.

    Args:
        config_dir: the folder; None for the shipped files.
        icehouse_names: read `_context_x` as `ctxt.x` and `multi` as `lookup`. Older releases of Ceilometer did, and
            some deployments' files still have these names. Today's Ceilometer finds nothing by them: False gives the
            same results.
        icehouse_meters: also read, after all others, the meters that Ceilometer has dropped since Mitaka.

    Raises:
        DefinitionError: a file cannot be read, is not YAML, or does not have the form; or an event definition is
            invalid.
    """
    meters, events = files_of(config_dir, icehouse_meters)
    signature = _signature([*meters, events])
    key = (config_dir, icehouse_names, icehouse_meters)
    cached = _loaded.get(key)
    if cached is None or cached[0] != signature:
        cached = (signature, load_files(meters, events, icehouse_names=icehouse_names))
        _loaded[key] = cached
    return cached[1]


def load_files(meters: Sequence[Path], events: Path | None, *, icehouse_names: bool = True) -> Definitions:
    """Read the definitions of these files. Without a file of events, events have only the default traits.

    Raises:
        DefinitionError: as in `load`.
    """
    faults: list[Fault] = []
    loaded: dict[str, Meter] = {}
    for path in meters:
        _load_meters(path, loaded, faults, icehouse_names)
    return Definitions(
        MeterDefinitions(tuple(loaded.values())),
        EventDefinitions(_load_events(events, icehouse_names) if events else ()),
        tuple(faults),
        (*meters, events) if events else tuple(meters),
    )


def files_of(config_dir: Path | None, icehouse_meters: bool = False) -> tuple[list[Path], Path]:
    """The files of meters and the file of event definitions that `load` reads."""
    meters: list[Path] = []
    events = DEFAULTS / "event_definitions.yaml"
    if config_dir is not None:
        meters = sorted((config_dir / "meters.d").glob("*.yaml"))
        if (config_dir / "meters.yaml").exists():
            meters.append(config_dir / "meters.yaml")
        if (config_dir / "event_definitions.yaml").exists():
            events = config_dir / "event_definitions.yaml"
    meters = meters or sorted((DEFAULTS / "meters.d").glob("*.yaml"))
    return [*meters, ICEHOUSE_METERS] if icehouse_meters else meters, events


def _signature(paths: Sequence[Path]) -> Signature:
    signature = []
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from None
        signature.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(signature)


def _unreadable(path: Path, error: Exception) -> DefinitionError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return DefinitionError(
        f"the file cannot be read ({reason})", where=str(path), hint="Fix its permissions or remove it"
    )


def _modern(data: Any) -> Any:
    """The data with `ctxt.x` in place of `_context_x` in its paths, and `lookup` in place of `multi` in its meters."""
    if isinstance(data, str):
        return _ICEHOUSE.sub(r"\1ctxt.", data)
    if isinstance(data, list):
        return [_modern(each) for each in data]
    if isinstance(data, dict):
        modern = {key: _modern(value) for key, value in data.items()}
        if "multi" in modern and "event_type" in modern:
            modern.setdefault("lookup", modern["multi"])
        return modern
    return data


def read(path: Path, icehouse_names: bool) -> tuple[Any, Any]:
    """A YAML file as data and as nodes, which know their lines."""
    try:
        loader = _Loader(read_text(path))
        try:
            node = loader.get_single_node()
            if node is None:
                return None, None
            data = loader.construct_document(node)
            return (_modern(data) if icehouse_names else data), node
        finally:
            loader.dispose()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    except TooLarge as error:
        raise DefinitionError(
            f"the file cannot be used: {error}", where=f"{path}:{error.line}", hint="Simplify it"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DefinitionError(f"the file is not YAML: {what}", where=where, hint="Fix the syntax there") from None
    except (RecursionError, ValueError) as error:
        raise DefinitionError(f"the file cannot be used: {error}", where=str(path), hint="Fix or simplify it") from None


def line_of(node: Any, *keys: str) -> int:
    """The line of the value that these keys lead to in a YAML node. A key that does not exist is skipped."""
    for key in keys:
        node = _key_node(node, key)
    return int(node.start_mark.line) + 1


def _key_node(node: Any, key: str) -> Any:
    """The node of a key's value in a mapping node; the node itself if it has no such key."""
    if isinstance(node, yaml.MappingNode):
        for name, value in reversed(node.value):
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                return value
    return node


def meter_entries(path: Path, data: Any, node: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a file of meters, each with its YAML node. `data` and `node` are the results of `read`.

    Raises:
        DefinitionError: as in `load`.
    """
    if data is None:
        return
    entries = data.get("metric") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError(
            "the file is not a mapping with a list 'metric'",
            where=f"{path}:{line_of(node)}",
            hint="Start it with 'metric:' and list the meters below",
        )
    yield from zip(entries, _key_node(node, "metric").value, strict=True)


def event_entries(path: Path, data: Any, node: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a file of event definitions, each with its YAML node; arguments as in `meter_entries`.

    Raises:
        DefinitionError: as in `load`.
    """
    if data is None:
        return
    if not isinstance(data, list):
        raise DefinitionError(
            "the file is not a list", where=f"{path}:{line_of(node)}", hint="List entries of event_type and traits"
        )
    yield from zip(data, node.value, strict=True)


def _load_meters(path: Path, loaded: dict[str, Meter], faults: list[Fault], icehouse_names: bool) -> None:
    # Within a file the last meter of a name wins. Ceilometer therefore reads it backwards, and returns samples in that
    # order.
    for entry, node in reversed(list(meter_entries(path, *read(path, icehouse_names)))):
        name = str(entry.get("name")) if isinstance(entry, dict) else "?"
        if name in loaded and isinstance(entry, dict) and "name" in entry:
            first = loaded[name].where
            faults.append(Fault(str(path), line_of(node), name, f"the meter of this name at {first} hides it", True))
            continue
        try:
            meter = compile_meter(entry, f"{path}:{line_of(node)}")
        except InvalidEntry as error:
            faults.append(Fault(str(path), line_of(node, *error.faults[0][0]), name, str(error)))
        else:
            loaded[name] = meter


def _load_events(path: Path, icehouse_names: bool) -> tuple[EventDefinition, ...]:
    definitions: list[EventDefinition] = []
    for entry, node in event_entries(path, *read(path, icehouse_names)):
        try:
            definitions.append(compile_event(entry, f"{path}:{line_of(node)}"))
        except InvalidEntry as error:
            raise DefinitionError(
                f"an event definition is invalid: {error}",
                where=f"{path}:{line_of(node, *error.faults[0][0])}",
                hint="Fix or remove the entry",
            ) from None
    return tuple(definitions)
