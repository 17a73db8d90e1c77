"""Reading definition files: from a configuration folder, else the definitions that Meterhouse ships.

Files are read once per process and again when one of them changed. Every fault names its file and line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from meterhouse.definitions.events import EventDefinition, EventDefinitions, InvalidEvent, compile_event
from meterhouse.definitions.meters import InvalidMeter, Meter, MeterDefinitions, compile_meter
from meterhouse.errors import DefinitionError

DEFAULTS: Final = Path(__file__).parent.parent / "defaults"

Signature = tuple[tuple[str, int, int], ...]
_ICEHOUSE: Final = re.compile(r"""(?<![\w.'"])(\$\.)?_context_""")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_loaded: dict[tuple[Path | None, bool], tuple[Signature, "Definitions"]] = {}


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


def load(config_dir: Path | None, *, icehouse_names: bool = False) -> Definitions:
    """The definitions of a configuration folder.

    Meters are read from `meters.d/*.yaml`, by name, then `meters.yaml`; events from `event_definitions.yaml`. What the
    folder has not, or all where there is no folder, is what Meterhouse ships.

    Args:
        config_dir: the folder, None for what Meterhouse ships.
        icehouse_names: read `_context_x` as `ctxt.x`, as Ceilometer did until Juno and as some deployments' files still
            say; Ceilometer finds nothing by that name today, so without it these files give what they give there.

    Raises:
        DefinitionError: a file cannot be read, is no YAML, or has not the form; or an event definition cannot work.
    """
    meters, events = _files(config_dir)
    signature = _signature([*meters, events])
    key = (config_dir, icehouse_names)
    cached = _loaded.get(key)
    if cached is None or cached[0] != signature:
        cached = (signature, load_files(meters, events, icehouse_names=icehouse_names))
        _loaded[key] = cached
    return cached[1]


def load_files(meters: Sequence[Path], events: Path | None, *, icehouse_names: bool = False) -> Definitions:
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


def _files(config_dir: Path | None) -> tuple[list[Path], Path]:
    meters: list[Path] = []
    events = DEFAULTS / "event_definitions.yaml"
    if config_dir is not None:
        meters = sorted((config_dir / "meters.d").glob("*.yaml"))
        if (config_dir / "meters.yaml").exists():
            meters.append(config_dir / "meters.yaml")
        if (config_dir / "event_definitions.yaml").exists():
            events = config_dir / "event_definitions.yaml"
    return meters or sorted((DEFAULTS / "meters.d").glob("*.yaml")), events


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
    """The same data with `_context_x` spelled `ctxt.x` in its paths."""
    if isinstance(data, str):
        return _ICEHOUSE.sub(r"\1ctxt.", data)
    if isinstance(data, list):
        return [_modern(each) for each in data]
    if isinstance(data, dict):
        return {key: _modern(value) for key, value in data.items()}
    return data


def _read(path: Path, icehouse_names: bool) -> tuple[Any, Any]:
    """A YAML file as data and as nodes, which know their lines."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, None
            data = loader.construct_document(node)
            return (_modern(data) if icehouse_names else data), node
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DefinitionError(f"the file is no YAML: {what}", where=where, hint="Mend the syntax there") from None
    except (RecursionError, ValueError) as error:
        raise DefinitionError(
            f"the file is no YAML that can be used: {error}", where=str(path), hint="Mend or simplify it"
        ) from None


def _key_node(node: Any, key: str) -> Any:
    """The value's node under a key of a mapping node, else the node itself."""
    if isinstance(node, yaml.MappingNode):
        for name, value in reversed(node.value):
            if isinstance(name, yaml.ScalarNode) and name.value == key:
                return value
    return node


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _load_meters(path: Path, loaded: dict[str, Meter], faults: list[Fault], icehouse_names: bool) -> None:
    data, node = _read(path, icehouse_names)
    if data is None:
        return
    entries = data.get("metric") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError(
            "the file is no mapping with a list 'metric'",
            where=f"{path}:{_line(node)}",
            hint="Begin it with 'metric:' and list the meters below",
        )
    nodes = _key_node(node, "metric").value
    # Within a file the last of a name wins, so Ceilometer reads it backwards and gives the samples in that order.
    for entry, entry_node in zip(reversed(entries), reversed(nodes), strict=True):
        name = str(entry.get("name")) if isinstance(entry, dict) else "?"
        if name in loaded and isinstance(entry, dict) and "name" in entry:
            faults.append(Fault(str(path), _line(entry_node), name, "a meter of this name was read already"))
            continue
        try:
            meter = compile_meter(entry)
        except InvalidMeter as error:
            faults.append(Fault(str(path), _line(_key_node(entry_node, error.key)), name, str(error)))
        else:
            loaded[name] = meter


def _load_events(path: Path, icehouse_names: bool) -> tuple[EventDefinition, ...]:
    data, node = _read(path, icehouse_names)
    if data is None:
        return ()
    if not isinstance(data, list):
        raise DefinitionError(
            "the file is no list", where=f"{path}:{_line(node)}", hint="List entries of event_type and traits"
        )
    definitions: list[EventDefinition] = []
    for entry, entry_node in zip(data, node.value, strict=True):
        try:
            definitions.append(compile_event(entry))
        except InvalidEvent as error:
            at = _key_node(entry_node, error.key)
            at = _key_node(at, error.trait) if error.trait else at
            raise DefinitionError(
                f"an event definition cannot work: {error}",
                where=f"{path}:{_line(at)}",
                hint="Mend the entry or take it away",
            ) from None
    return tuple(definitions)
