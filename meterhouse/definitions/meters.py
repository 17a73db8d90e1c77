"""Meter definitions (`meters.yaml`): which samples a notification yields.

The format is Ceilometer's: https://docs.openstack.org/ceilometer/latest/contributor/new_meters.html. All meters that
match an event type are compiled into one plan, which evaluates each distinct expression once per message.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from meterhouse.definitions.columns import Columns, PartialMessages
from meterhouse.definitions.entries import Faults, InvalidEntry
from meterhouse.definitions.expressions import WHOLE_PAYLOAD, Message, all_reads
from meterhouse.definitions.patterns import compile_pattern, max_text_length
from meterhouse.definitions.values import Value, compile_value

TYPES: Final = ("gauge", "delta", "cumulative")
REQUIRED: Final = ("name", "event_type", "type", "unit", "volume", "resource_id")
ATTRIBUTES: Final = ("name", "type", "unit", "volume", "resource_id", "project_id", "user_id", "timestamp")
USER_METADATA_PREFIX: Final = "metering."
USER_METADATA_LENGTH: Final = 256

_PLANS_LIMIT: Final = 4096
# If a meter does not define project and user, Ceilometer intends to take them from the context. But its expression
# parses as `ctxt.(project_id|ctxt).tenant_id`, which finds nothing. Its samples have neither, so these have neither.
_FALLBACKS: Final = {"timestamp": compile_value("metadata.timestamp")}


class RawSample(NamedTuple):
    """A sample as its definition yields it, unchecked. Samples of one message share their metadata."""

    name: Any
    type: Any
    unit: Any
    volume: Any
    resource_id: Any
    project_id: Any
    user_id: Any
    timestamp: Any
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Meter:
    """One entry of meters.yaml, compiled."""

    name: str
    event_types: tuple[re.Pattern[str], ...]
    attributes: Mapping[str, Value]
    literals: Mapping[str, Any]  # name, type and unit as written, used if their expressions find nothing
    metadata: tuple[tuple[str, Value], ...]
    user_metadata: Value | None
    lookup: tuple[str, ...]
    where: str = ""  # file:line
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the entry, as far as it decides on samples

    def values(self) -> Iterator[Value]:
        """All values that it reads from a notification."""
        yield from self.attributes.values()
        yield from (value for _, value in self.metadata)
        if self.user_metadata is not None:
            yield self.user_metadata

    def matches(self, event_type: str) -> bool:
        """Whether one of the regular expressions matches at the start of the event type.

        An expression that could take too long on an event type of this length counts as not matching.
        """
        return any(
            pattern.match(event_type)
            for pattern in self.event_types
            if len(event_type) <= max_text_length(pattern.pattern)
        )


def compile_meter(entry: object, where: str = "") -> Meter:
    """Compile an entry of meters.yaml; `where` is its file and line.

    Raises:
        InvalidEntry: keys are missing or invalid.
    """
    if not isinstance(entry, dict):
        raise InvalidEntry([((), "the entry is not a mapping")])
    faults = Faults()
    for key in REQUIRED:
        if not entry.get(key):
            faults.add((key,) if key in entry else (), f"the required key '{key}' is missing or empty")
    given = {key: entry[key] for key in ATTRIBUTES if entry.get(key)}
    if not isinstance(given.get("name", ""), str):
        faults.add(("name",), "it is not a string")
    lookup = faults.attempt(("lookup",), _lookup, entry) or ()
    looked_up = entry.get("lookup") if isinstance(entry.get("lookup"), (str, list)) else ()
    if "type" in given and "type" not in (looked_up or ()) and given["type"] not in TYPES:
        faults.add(("type",), f"{given['type']!r} is not one of gauge, delta and cumulative")
    attributes: dict[str, Value] = {}
    for key, definition in given.items():
        value = faults.attempt((key,), compile_value, definition)
        if value is None:
            continue
        if lookup and value.many is None:
            faults.add((key,), "with 'lookup', the only plugin that can be used is 'split'")
        attributes[key] = _or_notification_time(value) if key == "timestamp" else value
    event_types = faults.attempt(("event_type",), _patterns, entry["event_type"]) if entry.get("event_type") else ()
    metadata = entry.get("metadata") or {}
    if not isinstance(metadata, dict):
        faults.add(("metadata",), "it is not a mapping")
        metadata = {}
    items = {
        str(key): faults.attempt(("metadata", str(key)), compile_value, definition)
        for key, definition in metadata.items()
    }
    user_metadata = entry.get("user_metadata")
    tags = faults.attempt(("user_metadata",), compile_value, user_metadata) if user_metadata else None
    faults.raise_if_any()
    return Meter(
        name=entry["name"],
        event_types=event_types or (),
        attributes=attributes,
        literals={key: entry[key] for key in ("name", "type", "unit")},
        metadata=tuple((key, value) for key, value in items.items() if value is not None),
        user_metadata=tags,
        lookup=lookup,
        where=where,
        content={
            **{key: entry[key] for key in (*ATTRIBUTES, "metadata", "user_metadata") if entry.get(key)},
            "event_type": [entry["event_type"]] if isinstance(entry["event_type"], str) else entry["event_type"],
            "lookup": lookup,
        },
    )


def _lookup(entry: dict[str, Any]) -> tuple[str, ...]:
    given = entry.get("lookup", [])
    names = [given] if isinstance(given, str) and given else given or []
    if not isinstance(given, (str, list)) or not all(isinstance(name, str) for name in names):
        raise ValueError("it is neither a string nor a list of strings")
    return tuple(names)


def _or_notification_time(value: Value) -> Value:
    """A timestamp that falls back to the notification's if it is empty, not only if it is null."""
    first, many, plain = value.first, value.many, value.plain
    return replace(
        value,
        key=f"time of {value.key}",
        first=lambda message, warn: first(message, warn) or None,
        many=many and (lambda message, warn: [each or message.get("timestamp") for each in many(message, warn)]),
        plain=plain and (lambda message: plain(message) or None),
        fields=(),
    )


def _patterns(given: Any) -> tuple[re.Pattern[str], ...]:
    types = [given] if isinstance(given, str) else given
    if not isinstance(types, list) or not types or not all(isinstance(each, str) for each in types):
        raise ValueError("it is neither a string nor a list of strings")
    return tuple(compile_pattern(each) for each in types)


def reserved_user_metadata(given: Any, metadata: dict[str, Any]) -> None:
    """Copy the owner's `metering.*` entries to `user_metadata`: without the prefix, dots as underscores, texts cut."""
    if not given:
        return
    if not isinstance(given, dict):
        raise TypeError(f"the user metadata is not a mapping but a {type(given).__name__}")
    kept: dict[str, Any] = {}
    for key, value in given.items():
        if key.startswith(USER_METADATA_PREFIX):
            name = key[len(USER_METADATA_PREFIX) :].replace(".", "_")
            if name not in metadata:
                kept[name] = value[:USER_METADATA_LENGTH] if isinstance(value, str) else value
    if kept:
        metadata["user_metadata"] = kept


class Block(NamedTuple):
    """The samples that one meter makes of a batch of notifications, unchecked: a column for each attribute.

    Attributes:
        rows: for each sample, the index of its notification in the batch, ascending.
        name: like the other attributes, the values. Meters with the same definition share the list.
        metadata: the snapshots, shared in the same way.
        literals: name, type and unit, if each is one text for all these samples.
    """

    rows: Sequence[int]
    name: list[Any]
    type: list[Any]
    unit: list[Any]
    volume: list[Any]
    resource_id: list[Any]
    project_id: list[Any]
    user_id: list[Any]
    timestamp: list[Any]
    metadata: list[dict[str, Any]]
    literals: tuple[str, str, str] | None


class MeterPlan:
    """All meters that match one event type."""

    def __init__(self, meters: list[Meter]) -> None:
        self._meters = [(meter, _literals(meter), _metadata_key(meter)) for meter in meters]
        names = [literals[0] if literals else None for _, literals, _ in self._meters]
        self.repeats = None in names or len(set(names)) < len(names)
        """Whether a notification can yield several samples of one name."""
        reads = [value.reads for meter in meters for value in meter.values()]
        # A sample without its own metadata gets the whole payload.
        reads += [WHOLE_PAYLOAD for meter in meters if not meter.metadata]
        self.reads = all_reads(reads)
        """The fields of the request context and the payload that it reads; None for the whole message."""

    def read(self, columns: Columns, warns: Sequence[list[str]]) -> list[Block]:
        """The samples of notifications of this event type, meter by meter in Ceilometer's order.

        Args:
            columns: the notifications.
            warns: for each notification, a list to which warnings are appended.

        Raises:
            Exception: an expression failed on an unusual message. The error does not say on which one of the batch.
        """
        snapshots: dict[_MetadataKey, list[dict[str, Any]]] = {}
        whole: list[dict[str, Any] | None] = [None] * len(columns)
        blocks: list[Block] = []
        for meter, literals, key in self._meters:
            metadata = snapshots.get(key)
            if metadata is None:
                metadata = snapshots[key] = _snapshots(meter, columns, warns, whole)
            if meter.lookup:
                block = _looked_up_block(meter, columns.messages, metadata, warns)
                giving = set(block.rows)
                columns.found["meter"][meter.attributes["name"].key] = [
                    at if at in giving else None for at in range(len(columns))
                ]
                blocks.append(block)
            else:
                attributes = [_attribute(columns, meter, name, warns) for name in ATTRIBUTES]
                blocks.append(Block._make((range(len(columns)), *attributes, metadata, literals)))
        return blocks


_MetadataKey = tuple[tuple[tuple[str, str], ...], str | None]


def _metadata_key(meter: Meter) -> _MetadataKey:
    items = tuple((name, value.key) for name, value in meter.metadata)
    return items, meter.user_metadata.key if meter.user_metadata else None


def _literals(meter: Meter) -> tuple[str, str, str] | None:
    """Name, type and unit, if each is always the text as written, because its expression can find nothing."""
    if meter.lookup or not all(meter.attributes[name].never for name in ("name", "type", "unit")):
        return None
    name, type_, unit = (meter.literals[name] for name in ("name", "type", "unit"))
    return (name, type_, unit) if all(isinstance(each, str) for each in (name, type_, unit)) else None


def _attribute(columns: Columns, meter: Meter, name: str, warns: Sequence[list[str]]) -> list[Any]:
    value = meter.attributes.get(name)
    fallback: Value | None = _FALLBACKS.get(name)
    literal = meter.literals.get(name)
    if value is None or value.never:
        return columns.constant(literal) if fallback is None else columns.timestamps
    column = columns.of(value, "meter", warns)
    if (literal is None and fallback is None) or None not in column:
        return column
    others = columns.timestamps if fallback else columns.constant(literal)
    key = ("either", id(column), id(others))
    either: list[Any] = columns.cached(
        key, lambda: [other if found is None else found for found, other in zip(column, others, strict=True)]
    )
    return either


def _snapshots(
    meter: Meter, columns: Columns, warns: Sequence[list[str]], whole: list[dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """The metadata of each notification's samples. If the definition finds none, it is the whole payload."""
    names = [name for name, _ in meter.metadata]
    found = [columns.of(value, "meter", warns) for _, value in meter.metadata]
    snapshots: list[dict[str, Any]] = (
        [
            {name: value for name, value in zip(names, values, strict=True) if value}
            for values in zip(*found, strict=True)
        ]
        if found
        else [{} for _ in columns.messages]
    )
    if meter.user_metadata is not None:
        for snapshot, given in zip(snapshots, columns.of(meter.user_metadata, "meter", warns), strict=True):
            reserved_user_metadata(given, snapshot)
    for at, snapshot in enumerate(snapshots):
        if not snapshot:
            if columns.partial:
                raise PartialMessages
            every = whole[at]
            if every is None:
                every = whole[at] = _whole_payload(columns.messages[at])
            snapshots[at] = every
    return snapshots


def _whole_payload(message: Message) -> dict[str, Any]:
    payload = message.get("payload")
    whole = dict(payload) if isinstance(payload, dict) else {}
    whole["event_type"] = message.get("event_type")
    whole["host"] = message.get("publisher_id")
    return whole


def _looked_up_block(
    meter: Meter, messages: Sequence[Message], metadata: list[dict[str, Any]], warns: Sequence[list[str]]
) -> Block:
    rows: list[int] = []
    samples: list[RawSample] = []
    for at, (message, snapshot, warn) in enumerate(zip(messages, metadata, warns, strict=True)):
        found = _looked_up(meter, message, snapshot, warn)
        if any(sample.type not in TYPES for sample in found):
            raise ValueError("the type of a sample is not one of gauge, delta and cumulative")
        samples += found
        rows += [at] * len(found)
    return block_of(rows, samples)


def block_of(rows: list[int], samples: list[RawSample]) -> Block:
    """Samples as columns; `rows` has the index of each sample's notification."""
    columns = [list(column) for column in zip(*samples, strict=True)] or [[] for _ in RawSample._fields]
    return Block._make((rows, *columns, None))


def _looked_up(meter: Meter, message: Message, metadata: dict[str, Any], warn: list[str]) -> list[RawSample]:
    """The samples of a meter that makes several of one message."""
    columns: dict[str, list[Any]] = {}
    for name in ATTRIBUTES:
        value = meter.attributes.get(name)
        found = value.many(message, warn) if value is not None and value.many is not None else []
        if not found and name != "name" and (value is None or name not in meter.lookup):
            fallback = _FALLBACKS.get(name)
            found = [meter.literals.get(name) if fallback is None else fallback.first(message, warn)]
        columns[name] = found
    count = len(columns["name"])
    if not count:
        return []
    sizes = {name: len(column) for name, column in columns.items()} | {"metadata": 1, "message": 1}
    for name, size in sizes.items():
        if size != count and (size != 1 or name in meter.lookup):
            warn.append(f"meter {meter.name}: {count} values of name but {size} of {name}, the samples will be dropped")
            return []
    if not all(each in TYPES for each in columns["type"]):
        raise ValueError("a sample's type is not one of gauge, delta and cumulative")
    rows = zip(*(column if len(column) == count else column * count for column in columns.values()), strict=True)
    return [RawSample._make((*row, metadata)) for row in rows]


@dataclass
class MeterDefinitions:
    """The meters of a deployment, in the order in which they yield samples."""

    meters: tuple[Meter, ...]
    _plans: dict[str, MeterPlan | None] = field(default_factory=dict, repr=False)

    def plan(self, event_type: str) -> MeterPlan | None:
        """The plan of an event type, None if no meter matches it."""
        try:
            return self._plans[event_type]
        except KeyError:
            matching = [meter for meter in self.meters if meter.matches(event_type)]
            if len(self._plans) >= _PLANS_LIMIT:
                self._plans.clear()
            plan = MeterPlan(matching) if matching else None
            self._plans[event_type] = plan
            return plan
