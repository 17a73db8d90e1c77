"""Reading definition files: from a configuration folder, else the definitions that Meterhouse ships.

Files are read once per process and again when one of them changed. Every fault names its file and line.
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
from meterhouse.yaml_lines import Unbounded, read_text

ICEHOUSE_METERS: Final = DEFAULTS / "icehouse_meters.yaml"

Signature = tuple[tuple[str, int, int], ...]
_ICEHOUSE: Final = re.compile(r"""(?<![\w.'"])(\$\.)?_context_""")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_loaded: dict[tuple[Path | None, bool, bool], tuple[Signature, "Definitions"]] = {}


@dataclass(frozen=True)
class Fault:
    """A meter that was left out, as Ceilometer leaves it out, and why."""

    file: str
    line: int
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: meter '{self.name}' is left out: {self.reason}"


@dataclass(frozen=True)
class Definitions:
    """What to make of notifications.

    Attributes:
        meters: the meters that can work.
        events: the event definitions.
        faults: the meters that cannot, or that an earlier one of their name hides.
        files: where all that was read from.
    """

    meters: MeterDefinitions
    events: EventDefinitions
    faults: tuple[Fault, ...]
    files: tuple[Path, ...]


def load(config_dir: Path | None, *, icehouse_names: bool = True, icehouse_meters: bool = False) -> Definitions:
    """The definitions of a configuration folder.

    Meters are read from `meters.d/*.yaml`, by name, then `meters.yaml`; events from `event_definitions.yaml`. What the
    folder has not, or all where there is no folder, is what Meterhouse ships.

    Args:
        config_dir: the folder, None for what Meterhouse ships.
        icehouse_names: read `_context_x` as `ctxt.x` and `multi` as `lookup`, as older Ceilometers did and as some
            deployments' files still say. Ceilometer finds nothing by these names today: False gives just what it gives.
        icehouse_meters: read the meters that Ceilometer has dropped since Mitaka after all others.

    Raises:
        DefinitionError: a file cannot be read, is no YAML, or has not the form; or an event definition cannot work.
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
    """The definitions of these files, read now; with no file of events, events have the default traits only.

    Raises:
        DefinitionError: as `load`.
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
        f"the file cannot be read ({reason})", where=str(path), hint="Mend its permissions or take it away"
    )


def _modern(data: Any) -> Any:
    """The same data with `_context_x` spelled `ctxt.x` in its paths, and with `lookup` for `multi` in its meters."""
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
    except Unbounded as error:
        raise DefinitionError(
            f"the file is no YAML that can be used: {error}", where=f"{path}:{error.line}", hint="Simplify it"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DefinitionError(f"the file is no YAML: {what}", where=where, hint="Mend the syntax there") from None
    except (RecursionError, ValueError) as error:
        raise DefinitionError(
            f"the file is no YAML that can be used: {error}", where=str(path), hint="Mend or simplify it"
        ) from None


def line_of(node: Any, *keys: str) -> int:
    """The line of a YAML node, or of what these keys lead to in it, as far as they do."""
    for key in keys:
        node = _key_node(node, key)
    return int(node.start_mark.line) + 1


def _key_node(node: Any, key: str) -> Any:
    """The value's node under a key of a mapping node, else the node itself."""
    if isinstance(node, yaml.MappingNode):
        for name, value in reversed(node.value):
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                return value
    return node


def meter_entries(path: Path, data: Any, node: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a file of meters, as `read` gave it, each with its YAML node.

    Raises:
        DefinitionError: as `load`.
    """
    if data is None:
        return
    entries = data.get("metric") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError(
            "the file is no mapping with a list 'metric'",
            where=f"{path}:{line_of(node)}",
            hint="Begin it with 'metric:' and list the meters below",
        )
    yield from zip(entries, _key_node(node, "metric").value, strict=True)


def event_entries(path: Path, data: Any, node: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a file of event definitions, as `read` gave it, each with its YAML node.

    Raises:
        DefinitionError: as `load`.
    """
    if data is None:
        return
    if not isinstance(data, list):
        raise DefinitionError(
            "the file is no list", where=f"{path}:{line_of(node)}", hint="List entries of event_type and traits"
        )
    yield from zip(data, node.value, strict=True)


def _load_meters(path: Path, loaded: dict[str, Meter], faults: list[Fault], icehouse_names: bool) -> None:
    # Within a file the last of a name wins, so Ceilometer reads it backwards and gives the samples in that order.
    for entry, node in reversed(list(meter_entries(path, *read(path, icehouse_names)))):
        name = str(entry.get("name")) if isinstance(entry, dict) else "?"
        if name in loaded and isinstance(entry, dict) and "name" in entry:
            first = loaded[name].where
            faults.append(Fault(str(path), line_of(node), name, f"a meter of this name was read already, at {first}"))
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
                f"an event definition cannot work: {error}",
                where=f"{path}:{line_of(node, *error.faults[0][0])}",
                hint="Mend the entry or take it away",
            ) from None
    return tuple(definitions)
