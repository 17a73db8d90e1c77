"""Polls SNMP agents: the targets that the source's `resources` name."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meterhouse.definitions.entries import Faults
from meterhouse.polling.asking import Asking
from meterhouse.polling.discovery import discover
from meterhouse.polling.kinds.shares import kept_name, share
from meterhouse.polling.kinds.snmp.agents import Agent, agent, column, objects, shown
from meterhouse.polling.polled import Permanent, Piece, Polled, PollError, Rest, Slot, WireSample
from meterhouse.polling.pollster import Source

KEYS: Final = frozenset({"snmp", "sample_type", "unit", "timeout"})
"""Of an entry of pollsters.d, beside those that all kinds have."""

OPTIONS: Final = frozenset({"oid", "table", "of", "resource", "metadata", "scale"})
"""Of the key `snmp`."""

TYPES: Final = ("gauge", "cumulative", "delta")
TIMEOUT_SECONDS: Final = 10.0

_OID: Final = re.compile(r"\.?\d+(\.\d+){2,127}")


@dataclass(frozen=True)
class Definition:
    """What an entry polls.

    Attributes:
        name, kind, unit: of the meter.
        oids: of the object, or of the column: the first that the agent has.
        rows: whether it is a column of a table.
        of: the object that the value is subtracted from; None: it is not.
        resource: the column with what is put after the host in the resource's id.
        metadata: key → column, or object.
        scale: what values are multiplied by.
        timeout: seconds that an agent has.
    """

    name: str
    kind: str
    unit: str
    oids: tuple[str, ...]
    rows: bool
    of: str | None
    resource: str | None
    metadata: Mapping[str, str]
    scale: float
    timeout: float


class Devices:
    """Polls a meter of agents.

    Args:
        definition: the compiled entry.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition

    def size(self, asking: Asking, source: Source) -> int:
        """The number of agents."""
        return len(_targets(asking, source))

    def poll(self, asking: Asking, slot: Slot, piece: Piece, source: Source) -> Polled:
        """Poll the agents of this piece. Those that fail become a rest, unless all do.

        Raises:
            PollError: none can be polled.
        """
        targets = _targets(asking, source)
        chosen = share(targets, piece)
        seconds = asking.seconds(slot, self.definition.timeout)
        found = asking.each(lambda name: self._one(asking, agent(targets[name]), seconds), chosen)
        polled = Polled(resources=len(chosen))
        failed: list[tuple[str, PollError]] = []
        for name, result in zip(chosen, found, strict=True):
            if isinstance(result, PollError):
                failed.append((name, result))
            elif isinstance(result, Exception):
                raise result
            else:
                polled.samples += result
                if not result:
                    polled.warnings.append(f"{name} has no {self.definition.name}: no samples")
        if failed and len(failed) == len(chosen):
            raise failed[0][1]
        if failed:
            polled.resources -= len(failed)
            polled.rests.append(Rest(Piece(resources=tuple(kept_name(name) for name, _ in failed)), str(failed[0][1])))
        return polled

    def _one(self, asking: Asking, of: Agent, seconds: float) -> list[WireSample]:
        values, about = self._columns(of, seconds) if self.definition.rows else self._object(of, seconds)
        received = asking.now().replace(tzinfo=None).isoformat()
        samples: list[WireSample] = []
        for row, value in values.items():
            metadata = {key: texts[row] for key, texts in about.items() if row in texts}
            label = metadata.pop("", "") or (row if self.definition.rows else "")
            samples.append(
                {
                    "source": asking.settings.sample_source,
                    "counter_name": self.definition.name,
                    "counter_type": self.definition.kind,
                    "counter_unit": self.definition.unit,
                    "counter_volume": value * self.definition.scale,
                    "user_id": None,
                    "project_id": None,
                    "resource_id": f"{of.host}.{label}" if label else of.host,
                    "timestamp": received,
                    "resource_metadata": {**metadata, "resource_url": of.url},
                }
            )
        return samples

    def _object(self, of: Agent, seconds: float) -> tuple[dict[str, float], dict[str, dict[str, str]]]:
        wanted = [self.definition.oids[0], *self.definition.metadata.values()]
        if self.definition.of is not None:
            wanted.append(self.definition.of)
        found = objects(of, wanted, seconds)
        if len(found) < len(wanted):
            return {}, {}
        value = _number(found[0])
        if self.definition.of is not None and value is not None:
            whole = _number(found[-1])
            value = None if whole is None else whole - value
        about = dict(zip(self.definition.metadata, found[1:], strict=False))
        return {} if value is None else {"": value}, {key: {"": text} for key, text in about.items() if text}

    def _columns(self, of: Agent, seconds: float) -> tuple[dict[str, float], dict[str, dict[str, str]]]:
        found: dict[str, float] = {}
        for oid in self.definition.oids:
            numbers = ((str(row), _number(text)) for row, text in column(of, oid, seconds).items())
            found = {row: value for row, value in numbers if value is not None}
            if found:
                break
        else:
            return {}, {}
        wanted = {**self.definition.metadata, **({"": self.definition.resource} if self.definition.resource else {})}
        about = {key: {str(row): text for row, text in column(of, oid, seconds).items()} for key, oid in wanted.items()}
        return found, about


def _targets(asking: Asking, source: Source) -> dict[str, str]:
    """The agents: URL without secrets → URL."""
    named = [*source.resources, *(target for each in source.discovery for target in discover(asking, each))]
    if not named:
        raise Permanent(
            "there are no SNMP agents to ask", hint=f"Name them in `resources` of the source '{source.name}'"
        )
    return {shown(target): target for target in named}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def compile_poll(entry: dict[str, Any], faults: Faults, folder: Path | None) -> Devices:
    """Compile the keys of an entry of pollsters.d that are this kind's.

    Args:
        entry: its content.
        faults: where faults go.
        folder: the configuration folder, which this kind does not need.
    """
    options = entry["snmp"]
    if not isinstance(options, dict):
        faults.add(("snmp",), f"is not a mapping of {', '.join(sorted(OPTIONS))}")
        options = {}
    for key in options.keys() - OPTIONS:
        faults.add(("snmp", str(key)), f"is not an option of SNMP; those are {', '.join(sorted(OPTIONS))}")
    if ("oid" in options) == ("table" in options):
        faults.add(("snmp",), "needs either 'oid', an object, or 'table', a column")
    rows = "table" in options
    given = options.get("table" if rows else "oid", "1.3.6")
    oids = _oids(given if isinstance(given, list) and rows else [given], faults, "table" if rows else "oid")
    of, resource = options.get("of"), options.get("resource")
    if of is not None:
        _oids([of], faults, "of")
    if resource is not None:
        _oids([resource], faults, "resource")
    metadata = options.get("metadata", {})
    if not isinstance(metadata, dict):
        faults.add(("snmp", "metadata"), "is not a mapping of keys to objects")
        metadata = {}
    for key, oid in metadata.items():
        _oids([oid], faults, "metadata", str(key))
    kind = entry.get("sample_type")
    if kind not in TYPES:
        faults.add(("sample_type",), f"{kind!r} is none of {', '.join(TYPES)}")
    unit = entry.get("unit", "")
    if not isinstance(unit, str):
        faults.add(("unit",), f"{unit!r} is not text")
    scale, timeout = options.get("scale", 1), entry.get("timeout", TIMEOUT_SECONDS)
    for keys, number in ((("snmp", "scale"), scale), (("timeout",), timeout)):
        if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
            faults.add(keys, f"{number!r} is not a number above 0")
            scale, timeout = 1, TIMEOUT_SECONDS
    about = {str(key): str(oid) for key, oid in metadata.items()}
    return Devices(
        Definition(
            str(entry.get("name")), str(kind), str(unit), oids, rows, of, resource, about, float(scale), float(timeout)
        )
    )


def _oids(given: Sequence[Any], faults: Faults, *keys: str) -> tuple[str, ...]:
    for oid in given:
        if not isinstance(oid, str) or not _OID.fullmatch(oid):
            faults.add(("snmp", *keys), f"{oid!r} is not the id of an object, such as 1.3.6.1.2.1.1.3.0")
    return tuple(str(oid) for oid in given)
