"""Meter definitions (`meters.yaml`): which samples a notification gives.

The format is Ceilometer's: https://docs.openstack.org/ceilometer/latest/contributor/new_meters.html. All meters that
match an event type are compiled into one plan, in which each distinct expression is read once per message.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, NamedTuple

from meterhouse.definitions.expressions import Message
from meterhouse.definitions.values import Value, compile_value

TYPES: Final = frozenset({"gauge", "delta", "cumulative"})
REQUIRED: Final = ("name", "event_type", "type", "unit", "volume", "resource_id")
ATTRIBUTES: Final = ("name", "type", "unit", "volume", "resource_id", "project_id", "user_id", "timestamp")
USER_METADATA_PREFIX: Final = "metering."
USER_METADATA_LENGTH: Final = 256

_PLANS_LIMIT: Final = 4096
# Ceilometer means to take project and user from the context where a meter does not say, but writes it so that it
# parses as `ctxt.(project_id|ctxt).tenant_id`, which finds nothing: its samples have none, and so have these.
_FALLBACKS: Final = {"timestamp": compile_value("metadata.timestamp")}


class InvalidMeter(ValueError):
    """An entry of meters.yaml that cannot work.

    Attributes:
        key: the key of the entry at fault, empty where it is the entry itself.
    """

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        super().__init__(f"{key}: {reason}" if key else reason)


class RawSample(NamedTuple):
    """A sample as its definition gives it, nothing checked; metadata is shared by samples of one message."""

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
    literals: Mapping[str, Any]  # what name, type and unit are where their expressions find nothing
    metadata: tuple[tuple[str, Value], ...]
    user_metadata: Value | None
    lookup: tuple[str, ...]

    def matches(self, event_type: str) -> bool:
        """Whether one of the regular expressions matches at the start of the event type."""
        return any(pattern.match(event_type) for pattern in self.event_types)


def compile_meter(entry: object) -> Meter:
    """Compile an entry of meters.yaml.

    Raises:
        InvalidMeter: a key is missing or cannot work.
    """
    if not isinstance(entry, dict):
        raise InvalidMeter("", "the entry is no mapping")
    for key in REQUIRED:
        if key not in entry:
            raise InvalidMeter("", f"the required key '{key}' is missing")
    if not isinstance(entry["name"], str):
        raise InvalidMeter("name", "it is no text")
    lookup = _lookup(entry)
    if "type" not in lookup and entry["type"] not in TYPES:
        raise InvalidMeter("type", f"{entry['type']!r} is none of gauge, delta and cumulative")
    attributes = {key: _value(key, entry[key]) for key in ATTRIBUTES if key in entry}
    if lookup:
        for key, value in attributes.items():
            if value.many is None:
                raise InvalidMeter(key, "with 'lookup', no plugin but 'split' can be used")
    metadata = entry.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InvalidMeter("metadata", "it is no mapping")
    user_metadata = entry.get("user_metadata")
    return Meter(
        name=entry["name"],
        event_types=_patterns(entry["event_type"]),
        attributes=attributes,
        literals={key: entry[key] for key in ("name", "type", "unit")},
        metadata=tuple((str(key), _value("metadata", definition)) for key, definition in metadata.items()),
        user_metadata=None if user_metadata is None else _value("user_metadata", user_metadata),
        lookup=lookup,
    )


def _lookup(entry: dict[str, Any]) -> tuple[str, ...]:
    key = "lookup" if "lookup" in entry else "multi"
    given = entry.get(key) or []
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or any(name not in ATTRIBUTES for name in names):
        raise InvalidMeter(key, f"it can name only {', '.join(ATTRIBUTES)}")
    return tuple(names)


def _patterns(given: Any) -> tuple[re.Pattern[str], ...]:
    types = [given] if isinstance(given, str) else given
    if not isinstance(types, list) or not types or not all(isinstance(each, str) for each in types):
        raise InvalidMeter("event_type", "it is neither a text nor a list of texts")
    try:
        return tuple(re.compile(each) for each in types)
    except re.error as error:
        raise InvalidMeter("event_type", f"'{error.pattern!s}' is no regular expression: {error}") from None


def _value(key: str, definition: Any) -> Value:
    try:
        return compile_value(definition)
    except ValueError as error:
        raise InvalidMeter(key, str(error)) from None


def reserved_user_metadata(given: Any, metadata: dict[str, Any]) -> None:
    """Put the owner's `metering.*` entries under `user_metadata`: prefix gone, dots as underscores, texts cut."""
    if not given or not isinstance(given, dict):
        return
    kept: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(key, str) and key.startswith(USER_METADATA_PREFIX):
            name = key[len(USER_METADATA_PREFIX) :].replace(".", "_")
            if name not in metadata:
                kept[name] = value[:USER_METADATA_LENGTH] if isinstance(value, str) else value
    metadata["user_metadata"] = kept


Plain = Callable[[Message], Any]
Warned = Callable[[Message, list[str]], Any]


class _Slots:
    """Where in a message's list of values each distinct expression puts its own."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.readers: list[Warned | None] = []
        self.plain: list[Plain | None] = []
        self.payload_fields: list[str | None] = []
        self.constants: list[Any] = []

    def add(
        self,
        key: str,
        plain: Plain | None,
        warned: Warned | None,
        constant: Any = None,
        payload_field: str | None = None,
    ) -> int:
        if key not in self.keys:
            self.keys[key] = len(self.keys)
            self.plain.append(None if payload_field else plain)
            self.payload_fields.append(payload_field)
            self.readers.append(warned)
            self.constants.append(constant)
        return self.keys[key]


def _value_slot(slots: _Slots, value: Value) -> int:
    if value.constant is not None:
        return slots.add(f"constant {value.constant!r}", None, None, value.constant)
    warned = None if value.plain else value.first
    return slots.add(value.key, value.plain, warned, payload_field=value.payload_field)


def _attribute_slot(slots: _Slots, meter: Meter, name: str) -> int:
    value = meter.attributes.get(name)
    fallback: Value | None = _FALLBACKS.get(name)
    literal = meter.literals.get(name)
    if value is None or value.never:
        if fallback is None:
            return slots.add(f"constant {literal!r}", None, None, literal)
        return slots.add(fallback.key, fallback.plain, None)
    if value.constant is not None or (literal is None and fallback is None):
        return _value_slot(slots, value)
    key = f"{value.key} else {fallback.key if fallback else repr(literal)}"
    return (
        slots.add(key, None, _else(value, fallback, literal))
        if value.plain is None
        else slots.add(key, _plain_else(value.plain, fallback.plain if fallback else None, literal), None)
    )


def _plain_else(plain: Plain, fallback: Plain | None, literal: Any) -> Plain:
    if fallback is None:
        return lambda message: literal if (found := plain(message)) is None else found
    return lambda message: fallback(message) if (found := plain(message)) is None else found


def _else(value: Value, fallback: Value | None, literal: Any) -> Warned:
    def read(message: Message, warn: list[str]) -> Any:
        found = value.first(message, warn)
        if found is not None:
            return found
        return literal if fallback is None else fallback.first(message, warn)

    return read


@dataclass(frozen=True)
class _Metadata:
    """A metadata mapping that one or more meters of a plan share."""

    items: tuple[tuple[str, int], ...]
    user_metadata: int | None


class MeterPlan:
    """All meters that match one event type."""

    def __init__(self, meters: list[Meter]) -> None:
        slots = _Slots()
        groups: dict[_Metadata, int] = {}
        self._meters: list[tuple[Meter | None, Callable[[list[Any]], tuple[Any, ...]] | None, int]] = []
        for meter in meters:
            metadata = _Metadata(
                tuple((name, _value_slot(slots, value)) for name, value in meter.metadata),
                None if meter.user_metadata is None else _value_slot(slots, meter.user_metadata),
            )
            group = groups.setdefault(metadata, len(groups))
            if meter.lookup:
                self._meters.append((meter, None, group))
            else:
                self._meters.append(
                    (None, itemgetter(*(_attribute_slot(slots, meter, name) for name in ATTRIBUTES)), group)
                )
        self._groups = list(groups)
        self._fields = [(at, name) for at, name in enumerate(slots.payload_fields) if name is not None]
        self._plain = [(at, read) for at, read in enumerate(slots.plain) if read is not None]
        self._warned = [(at, read) for at, read in enumerate(slots.readers) if read is not None]
        self._constants = slots.constants

    def samples(self, message: Message, warn: list[str]) -> list[RawSample]:
        """The samples of a notification of this event type, in the order in which Ceilometer gives them.

        Args:
            message: the notification, unwrapped.
            warn: what is worth a warning is appended.

        Raises:
            Exception: whatever an expression meets in an odd message; the message is lost for meters.
        """
        values = self._constants.copy()
        payload = message.get("payload")
        if isinstance(payload, dict):
            for at, name in self._fields:
                values[at] = payload.get(name)
        for at, read in self._plain:
            values[at] = read(message)
        for at, read_warned in self._warned:
            values[at] = read_warned(message, warn)
        metadata: list[dict[str, Any] | None] = [None] * len(self._groups)
        samples: list[RawSample] = []
        whole: dict[str, Any] | None = None
        for meter, pick, group in self._meters:
            snapshot = metadata[group]
            if snapshot is None:
                snapshot = self._snapshot(self._groups[group], values)
                if not snapshot:
                    snapshot = whole = _whole_payload(message) if whole is None else whole
                metadata[group] = snapshot
            if pick is not None:
                samples.append(RawSample._make((*pick(values), snapshot)))
            elif meter is not None:
                samples += _looked_up(meter, message, snapshot, warn)
        return samples

    @staticmethod
    def _snapshot(group: _Metadata, values: list[Any]) -> dict[str, Any]:
        snapshot = {name: value for name, at in group.items if (value := values[at])}
        if group.user_metadata is not None:
            reserved_user_metadata(values[group.user_metadata], snapshot)
        return snapshot


def _whole_payload(message: Message) -> dict[str, Any]:
    payload = message.get("payload")
    whole = dict(payload) if isinstance(payload, dict) else {}
    whole["event_type"] = message.get("event_type")
    whole["host"] = message.get("publisher_id")
    return whole


def _looked_up(meter: Meter, message: Message, metadata: dict[str, Any], warn: list[str]) -> list[RawSample]:
    """The samples of a meter that makes several of one message."""
    columns: dict[str, list[Any]] = {}
    for name in ATTRIBUTES:
        value = meter.attributes.get(name)
        found = value.many(message, warn) if value is not None and value.many is not None else []
        if not found and name not in meter.lookup and name != "name":
            fallback = _FALLBACKS.get(name)
            found = [meter.literals.get(name) if fallback is None else fallback.first(message, warn)]
        columns[name] = found
    count = len(columns["name"])
    if not count:
        return []
    for name in meter.lookup:
        if len(columns[name]) != count:
            warn.append(
                f"meter {meter.name}: {count} values of name but {len(columns[name])} of {name}, "
                "the samples will be dropped"
            )
            return []
    rows = zip(*([column[at % len(column)] for at in range(count)] for column in columns.values()), strict=True)
    return [RawSample._make((*row, metadata)) for row in rows]


@dataclass
class MeterDefinitions:
    """The meters of a deployment, in the order in which they give samples."""

    meters: tuple[Meter, ...]
    _plans: dict[str, MeterPlan | None] = field(default_factory=dict, repr=False)

    def plan(self, event_type: str) -> MeterPlan | None:
        """The plan of an event type, None where no meter matches it."""
        try:
            return self._plans[event_type]
        except KeyError:
            matching = [meter for meter in self.meters if meter.matches(event_type)]
            if len(self._plans) >= _PLANS_LIMIT:
                self._plans.clear()
            plan = MeterPlan(matching) if matching else None
            self._plans[event_type] = plan
            return plan
