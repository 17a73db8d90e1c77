"""Notifications to samples and events, in memory.

What to make of a notification is in the definitions (`meterhouse.definitions`); this module reads the messages, checks
what the definitions give and builds the lake's tables of it. Batches of polled samples (`telemetry.polling`) need no
definition and take a path of their own.
"""

import json
import re
from array import array
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, cast

import numpy as np
import orjson
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from meterhouse import identity
from meterhouse.definitions.events import kinds
from meterhouse.definitions.loading import Definitions
from meterhouse.definitions.meters import RawSample
from meterhouse.schema import EVENTS, SAMPLES, TRAIT
from meterhouse.timestamps import LATEST, parse_datetime, parse_exact, parse_utc, to_microseconds

SAMPLE_PRIORITIES: Final = frozenset({"info", "sample"})
EVENT_PRIORITIES: Final = frozenset({"info", "error"})

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_UNSIGNED: Final = (1 << 64) - 1
_TIMES_LIMIT: Final = 1 << 16
_POLLED_KEY: Final = itemgetter(
    "source", "counter_name", "counter_type", "counter_unit", "resource_id", "project_id", "user_id"
)
_POLLED_TIMESTAMP: Final = itemgetter("timestamp")
_POLLED_METADATA: Final = itemgetter("resource_metadata")
_POLLED_ID: Final = itemgetter("message_id")
_POLLED_VOLUME: Final = itemgetter("counter_volume")
_SAMPLE_DIMENSIONS: Final = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")

Message = dict[str, Any]
Dimensions = tuple[str | None, str, str, str | None, str | None, str | None, str | None]


class _Unusable(ValueError):
    """A sample that cannot be kept, and why."""


@dataclass(frozen=True, slots=True)
class ConversionError:
    """What of a message was not converted, and why.

    Attributes:
        message_id: the notification's, empty where it has none.
        endpoint: `body` (no notification), `meter`, `polling` or `event`.
        detail: the reason, in one line.
    """

    message_id: str
    endpoint: str
    detail: str


@dataclass(frozen=True)
class Converted:
    """What a table of notifications gives.

    Attributes:
        samples: schema `SAMPLES`, in the order of the notifications.
        events: schema `EVENTS`, in the order of the notifications.
        metadata: metadata_id to canonical JSON, of every snapshot that a sample refers to.
        errors: what was not converted.
        messages: notifications read.
        polled: those of them that are batches of polled samples.
    """

    samples: pa.Table
    events: pa.Table
    metadata: dict[int, bytes]
    errors: list[ConversionError]
    messages: int
    polled: int


class Converter:
    """Converts notifications by a set of definitions; keeps nothing between calls.

    Args:
        definitions: the meters and events.
        source: the `source` of samples that are made from notifications; polled samples carry their own.
    """

    def __init__(self, definitions: Definitions, source: str = "openstack") -> None:
        self._meters = definitions.meters
        self._events = definitions.events
        self._source = source

    def convert(self, notifications: pa.Table) -> Converted:
        """Convert a table of schema `NOTIFICATIONS`; a message that cannot be converted costs only itself."""
        samples, events = _Samples(), _Events()
        errors: list[ConversionError] = []
        polled = 0
        bodies = notifications.column("body").to_pylist()
        # The id that it was landed under: a message without one got it from its content.
        names = notifications.column("message_id").to_pylist()
        for row, body in enumerate(bodies):
            message_id = names[row]
            try:
                message = read_body(body)
                priority = _priority(message)
                event_type = message.get("event_type")
                if priority == "sample" or event_type == "telemetry.polling":
                    batch = polled_batch(message)
                    if batch is not None:
                        polled += 1
                        self._add_polled(batch, row, message_id, samples, errors)
                        continue
                if not isinstance(event_type, str):
                    raise ValueError("the notification has no event_type")
            except Exception as error:
                errors.append(ConversionError(message_id, "body", _detail(error)))
                continue
            if priority in SAMPLE_PRIORITIES and (plan := self._meters.plan(event_type)) is not None:
                warn: list[str] = []
                try:
                    raw = plan.samples(message, warn)
                    self._add_samples(raw, row, message_id, samples, warn)
                except Exception as error:
                    errors.append(ConversionError(message_id, "meter", _detail(error)))
                if warn:
                    errors += [ConversionError(message_id, "meter", detail) for detail in warn]
            if priority in EVENT_PRIORITIES and event_type != "telemetry.polling":
                warn = []
                try:
                    generated = _in_range(to_microseconds(parse_utc(_timestamp(message))))
                    found, values = self._events.matching(event_type).read(message, warn)
                    events.add(row, message_id, event_type, generated, found, values)
                except Exception as error:
                    errors.append(ConversionError(message_id, "event", _detail(error)))
                if warn:
                    errors += [ConversionError(message_id, "event", detail) for detail in warn]
        return Converted(
            samples.table(notifications),
            events.table(notifications),
            samples.metadata,
            errors,
            len(bodies),
            polled,
        )

    def samples_line(self, message: Message) -> dict[str, Any]:
        """What the meters make of one notification, for people and for comparison with Ceilometer.

        Returns:
            `message_id`, `event_type`, `samples` (with `published`: whether the lake would get it) and `errors`, each
            of an `endpoint`, with either `warnings` or `error` and `detail`.
        """
        line: dict[str, Any] = {
            "message_id": message.get("message_id"),
            "event_type": message.get("event_type"),
            "samples": [],
            "errors": [],
        }
        warn: list[str] = []
        endpoint = "meter"
        try:
            batch = polled_batch(message)
            if batch is not None:
                endpoint = "polling"
                line["samples"] = [_polled_shown(each, warn) for each in batch]
            elif _priority(message) in SAMPLE_PRIORITIES and isinstance(line["event_type"], str):
                plan = self._meters.plan(line["event_type"])
                raw = plan.samples(message, warn) if plan is not None else []
                line["samples"] = [self._shown(each, warn) for each in raw]
        except Exception as error:
            line["errors"].append({"endpoint": endpoint, "error": type(error).__name__, "detail": str(error)})
        if warn:
            line["errors"].append({"endpoint": endpoint, "warnings": sorted(warn)})
        return line

    def event_line(self, message: Message) -> dict[str, Any]:
        """The event that one notification becomes, for people and for comparison with Ceilometer.

        Returns:
            `message_id`, `event` (`event_type`, `generated` in UTC, `traits` as [name, type, value]) or None, and
            `error` (`error`, `detail`) or None.
        """
        line: dict[str, Any] = {"message_id": message.get("message_id"), "event": None, "error": None}
        event_type = message.get("event_type")
        if _priority(message) not in EVENT_PRIORITIES or event_type == "telemetry.polling":
            return line
        try:
            if not isinstance(event_type, str):
                raise ValueError("the notification has no event_type")
            generated = parse_utc(_timestamp(message)).isoformat()
            found, values = self._events.matching(event_type).read(message, [])
            known = kinds()
            line["event"] = {
                "event_type": event_type,
                "generated": generated,
                "traits": [[*known[kind], value] for kind, value in zip(found, values, strict=True)],
            }
        except Exception as error:
            line["error"] = {"error": type(error).__name__, "detail": str(error)}
        return line

    def _add_samples(
        self, raw: list[RawSample], row: int, message_id: str, samples: "_Samples", warn: list[str]
    ) -> None:
        ordinals: dict[str, int] = {}
        last_metadata: dict[str, Any] | None = None
        metadata_id: int | None = None
        # All timestamps first: one that is malformed costs the whole message, as it does in Ceilometer.
        times = [samples.time(sample.timestamp) for sample in raw]
        for sample, moment in zip(raw, times, strict=True):
            try:
                volume = _volume(sample.volume)
                _in_range(moment)
                name = sample.name
                if type(name) is not str or not name:
                    raise _Unusable(f"a sample has no name but {name!r}")
                code = samples.code(
                    (
                        self._source,
                        name,
                        sample.type,
                        sample.unit,
                        sample.resource_id,
                        sample.project_id,
                        sample.user_id,
                    )
                )
                if sample.metadata is not last_metadata:
                    last_metadata = sample.metadata
                    metadata_id = samples.metadata_id(last_metadata)
            except _Unusable as error:
                warn.append(_dropped(sample.name, sample.resource_id, sample.timestamp, str(error)))
                continue
            ordinal = ordinals.get(name, 0)
            ordinals[name] = ordinal + 1
            samples.add(row, code, moment, volume, identity.sample_id(message_id, name, ordinal), metadata_id)

    def _add_polled(
        self, batch: list[Any], row: int, message_id: str, samples: "_Samples", errors: list[ConversionError]
    ) -> None:
        if samples.add_batch(row, batch):
            return
        for ordinal, sample in enumerate(batch):
            try:
                code = samples.code(_polled_dimensions(sample))
                volume = _volume(sample.get("counter_volume"))
                moment = _in_range(samples.time(sample.get("timestamp")))
                metadata_id = samples.metadata_id(sample.get("resource_metadata"))
                own_id = sample.get("message_id")
                sample_id = (
                    identity.sample_id(str(own_id))
                    if own_id
                    else identity.sample_id(message_id, str(sample["counter_name"]), ordinal)
                )
            except Exception as error:
                errors.append(ConversionError(message_id, "polling", _polled_dropped(sample, error)))
                continue
            samples.add(row, code, moment, volume, sample_id, metadata_id)

    def _shown(self, sample: RawSample, warn: list[str]) -> dict[str, Any]:
        moment = parse_datetime(sample.timestamp).isoformat()
        volume, published = sample.volume, True
        try:
            checked = _volume(volume)
            volume = checked if isinstance(volume, str) else volume
        except _Unusable as error:
            published = False
            warn.append(_dropped(sample.name, sample.resource_id, sample.timestamp, str(error)))
        return {
            "name": sample.name,
            "type": sample.type,
            "unit": sample.unit,
            "volume": volume,
            "resource_id": sample.resource_id,
            "project_id": sample.project_id,
            "user_id": sample.user_id,
            "timestamp": moment,
            "source": self._source,
            "metadata": sample.metadata,
            "published": published,
            "endpoint": "meter",
        }


def read_body(body: str | bytes | None) -> Message:
    """A notification from its JSON text.

    The literals NaN and Infinity are read. Lone surrogates are replaced and NUL characters are left out: no UTF-8 text
    holds the ones, no text of PostgreSQL the others.

    Raises:
        ValueError: it is no JSON, or no JSON object.
    """
    if body is None:
        raise ValueError("the notification has no body")
    if isinstance(body, str) and "\\u0000" in body:
        body = _NUL.sub(r"\1", body)
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        message = json.loads(body)
        text = json.dumps(message, ensure_ascii=False)
        if _SURROGATE.search(text):
            message = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    if not isinstance(message, dict):
        raise ValueError(f"the notification is no JSON object but a {type(message).__name__}")
    return message


def polled_batch(message: Message) -> list[Any] | None:
    """The samples of a batch of polled samples, None where the message is another kind of notification.

    Polling agents send `telemetry.polling` with `{"samples": [...]}`, the old API `telemetry.api`, and the `notifier://`
    publisher a bare list, all with the priority `sample`.
    """
    payload = message.get("payload")
    event_type = message.get("event_type")
    if event_type == "telemetry.polling" or _priority(message) == "sample":
        if isinstance(payload, dict) and event_type in ("telemetry.polling", "telemetry.api"):
            payload = payload.get("samples")
        if isinstance(payload, list) and (
            event_type in ("telemetry.polling", "telemetry.api")
            or (bool(payload) and isinstance(payload[0], dict) and "counter_name" in payload[0])
        ):
            return payload
        if event_type == "telemetry.polling":
            raise ValueError("the batch of polled samples has no list of samples")
    return None


class _Samples:
    """The columns of the samples as they grow."""

    def __init__(self) -> None:
        self.codes: dict[Any, int] = {}  # of a series' dimensions, as they come
        self.dimensions: list[Dimensions] = []  # by code
        self.series: array[int] = array("q")  # by code
        self.times: dict[str, int] = {}  # only those in range
        self.snapshots: dict[bytes, int] = {}  # by JSON, in canonical order and as it came
        self.metadata: dict[int, bytes] = {}
        self.rows: array[int] = array("i")
        self.row_codes: array[int] = array("i")
        self.moments: array[int] = array("q")
        self.volumes: array[float] = array("d")
        self.ids: array[int] = array("Q")
        self.metadata_ids: list[int | None] = []

    def add(self, row: int, code: int, moment: int, volume: float, sample_id: int, metadata_id: int | None) -> None:
        self.rows.append(row)
        self.row_codes.append(code)
        self.moments.append(moment)
        self.volumes.append(volume)
        self.ids.append(sample_id & _UNSIGNED)
        self.metadata_ids.append(metadata_id)

    def add_batch(self, row: int, batch: list[Any]) -> bool:
        """Add polled samples, all of them or, where one of them is out of the ordinary, none.

        Whole columns at a time, in loops that run in C: an agent sends the same series and metadata again and again.
        """
        try:
            codes = list(map(self.codes.get, map(_POLLED_KEY, batch)))
            moments = list(map(self.times.get, map(_POLLED_TIMESTAMP, batch)))
            snapshots = list(map(self.snapshots.get, map(orjson.dumps, map(_POLLED_METADATA, batch))))
            if "" in map(_POLLED_ID, batch):
                return False
            ids = array("Q", map(xxh3_64_intdigest, map(str.encode, map(_POLLED_ID, batch))))
            volumes = array("d", map(_POLLED_VOLUME, batch))
            if None in codes:
                codes = [
                    self.code(_polled_dimensions(sample)) if code is None else code
                    for code, sample in zip(codes, batch, strict=True)
                ]
            if None in moments:
                moments = [_in_range(self.time(_POLLED_TIMESTAMP(sample))) for sample in batch]
            if None in snapshots:
                snapshots = [self.metadata_id(_POLLED_METADATA(sample)) for sample in batch]
            row_codes, times = array("i", cast(list[int], codes)), array("q", cast(list[int], moments))
        except Exception:
            return False
        self.rows.extend(array("i", [row]) * len(batch))
        self.row_codes.extend(row_codes)
        self.moments.extend(times)
        self.volumes.extend(volumes)
        self.ids.extend(ids)
        self.metadata_ids += snapshots
        return True

    def code(self, given: tuple[Any, ...]) -> int:
        """A number for a series, the same for the same dimensions."""
        try:
            known = self.codes.get(given)
        except TypeError:
            known = None
        if known is not None:
            return known
        texts = tuple(each if each is None or type(each) is str else _text(each) for each in given)
        source, meter, type_, unit, resource_id, project_id, user_id = texts
        if not meter or not type_:
            raise _Unusable(f"has no {'type' if meter else 'meter'}")
        # 1, 1.0 and True are one key to Python but not one text: only texts are remembered as they come.
        code = self.codes.get(texts)
        if code is None:
            code = self.codes[texts] = len(self.dimensions)
            self.dimensions.append((source, meter, type_, unit, resource_id, project_id, user_id))
            self.series.append(identity.series_id(source, meter, type_, unit, resource_id, project_id, user_id))
        return code

    def time(self, text: Any) -> int:
        if type(text) is not str:
            return parse_exact(text)
        moment = self.times.get(text)
        if moment is None:
            moment = parse_exact(text)
            if len(self.times) >= _TIMES_LIMIT:
                self.times.clear()
            if 0 <= moment <= LATEST:
                self.times[text] = moment
        return moment

    def metadata_id(self, snapshot: Any) -> int | None:
        if snapshot is None:
            return None
        try:
            as_it_came = orjson.dumps(snapshot)
        except TypeError:
            as_it_came = canonical_json(snapshot)
        known = self.snapshots.get(as_it_came)
        if known is None:
            canonical = canonical_json(snapshot)
            known = identity.metadata_id(canonical)
            self.snapshots[as_it_came] = known
            self.metadata[known] = canonical
        return known

    def table(self, notifications: pa.Table) -> pa.Table:
        rows: Any = np.frombuffer(self.rows, np.int32)
        codes: Any = np.frombuffer(self.row_codes, np.int32)
        columns: dict[str, Any] = {
            "arrival_hour": _taken(notifications, "arrival_hour", rows),
            "series_id": pa.array(np.frombuffer(self.series, np.int64)[codes]),
            "timestamp": pa.array(np.frombuffer(self.moments, np.int64)),
            "volume": pa.array(np.frombuffer(self.volumes, np.float64)),
            "sample_id": pa.array(np.frombuffer(self.ids, np.uint64).view(np.int64)),
            "recorded_at": _taken(notifications, "received_at", rows),
            "metadata_id": pa.array(self.metadata_ids, pa.int64()),
        }
        by_code = list(zip(*self.dimensions, strict=True)) or [()] * len(_SAMPLE_DIMENSIONS)
        for name, values in zip(_SAMPLE_DIMENSIONS, by_code, strict=True):
            columns[name] = pa.array(values, pa.string()).take(codes)
        return _table(columns, SAMPLES)


class _Events:
    """The columns of the events as they grow."""

    def __init__(self) -> None:
        self.rows: array[int] = array("i")
        self.message_ids: list[str] = []
        self.event_types: list[str] = []
        self.generated: array[int] = array("q")
        self.offsets: array[int] = array("i", [0])
        self.trait_kinds: array[int] = array("i")
        self.values: list[str] = []

    def add(
        self, row: int, message_id: str, event_type: str, generated: int, kinds: list[int], values: list[Any]
    ) -> None:
        self.values += [value if type(value) is str else str(value) for value in values]
        self.trait_kinds.extend(kinds)
        self.offsets.append(len(self.values))
        self.rows.append(row)
        self.message_ids.append(message_id)
        self.event_types.append(event_type)
        self.generated.append(generated)

    def table(self, notifications: pa.Table) -> pa.Table:
        known = kinds()
        codes: Any = np.frombuffer(self.trait_kinds, np.int32)
        offsets: Any = pa.array(np.frombuffer(self.offsets, np.int32))
        traits = pa.StructArray.from_arrays(
            [
                pa.array([name for name, _ in known], pa.string()).take(codes),
                pa.array([dtype for _, dtype in known], pa.string()).take(codes),
                pa.array(self.values, pa.string()),
            ],
            fields=list(TRAIT),
        )
        columns: dict[str, Any] = {
            "arrival_hour": _taken(notifications, "arrival_hour", np.frombuffer(self.rows, np.int32)),
            "message_id": pa.array(self.message_ids, pa.string()),
            "event_type": pa.array(self.event_types, pa.string()),
            "generated": pa.array(np.frombuffer(self.generated, np.int64)),
            "traits": pa.ListArray.from_arrays(offsets, traits),
            "raw": pa.nulls(len(self.rows), pa.string()),
        }
        return _table(columns, EVENTS)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces; what is not finite is null."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer of more than 64 bits, or nesting that is too deep for orjson
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _taken(notifications: pa.Table, column: str, rows: Any) -> Any:
    values = notifications.column(column).combine_chunks()
    return values.take(pa.array(rows))


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    return pa.table({field.name: columns[field.name].cast(field.type) for field in schema}, schema=schema)


def _priority(message: Message) -> str:
    priority = message.get("priority")
    return priority.lower() if isinstance(priority, str) else ""


def _timestamp(message: Message) -> Any:
    timestamp = message.get("timestamp")
    if timestamp is None:
        raise ValueError("the notification has no timestamp")
    return timestamp


def _detail(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _in_range(moment: int) -> int:
    if not 0 <= moment <= LATEST:
        raise _Unusable("has a timestamp outside the years 1970 to 2262")
    return moment


def _volume(volume: Any) -> float:
    if type(volume) is float:
        return volume
    if volume is None:
        raise _Unusable("has no volume (volume: None)")
    try:
        if isinstance(volume, (int, float, str)):
            return float(volume)
    except OverflowError:
        raise _Unusable("has a volume that is too large for a float") from None
    except ValueError:
        pass
    raise _Unusable(f"has volume which is not a number (volume: {volume!s:.100})")


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (int, float)) else canonical_json(value).decode()


def _dropped(name: Any, resource_id: Any, timestamp: Any, reason: str) -> str:
    moment = parse_datetime(timestamp).isoformat()
    return f"metering data {name} for {resource_id} @ {moment} {reason}, the sample will be dropped"


def _polled_dimensions(sample: Any) -> tuple[Any, ...]:
    if not isinstance(sample, dict):
        raise _Unusable("is no JSON object")
    return (
        sample.get("source") or "openstack",
        sample.get("counter_name"),
        sample.get("counter_type"),
        sample.get("counter_unit"),
        sample.get("resource_id"),
        sample.get("project_id"),
        sample.get("user_id"),
    )


def _polled_dropped(sample: Any, error: Exception) -> str:
    name, resource = (sample.get("counter_name"), sample.get("resource_id")) if isinstance(sample, dict) else ("?", "?")
    reason = str(error) if isinstance(error, _Unusable) else f"cannot be used ({_detail(error)})"
    return f"polled sample {name!s:.100} of {resource!s:.100} {reason}, the sample is dropped"


def _polled_shown(sample: Any, warn: list[str]) -> dict[str, Any]:
    published = True
    shown = sample if isinstance(sample, dict) else {}
    moment = shown.get("timestamp")
    try:
        _Samples().code(_polled_dimensions(sample))
        _volume(shown.get("counter_volume"))
        _in_range(parse_exact(moment))
        moment = parse_datetime(moment).isoformat()
    except Exception as error:
        published = False
        warn.append(_polled_dropped(sample, error))
    return {
        "name": shown.get("counter_name"),
        "type": shown.get("counter_type"),
        "unit": shown.get("counter_unit"),
        "volume": shown.get("counter_volume"),
        "resource_id": shown.get("resource_id"),
        "project_id": shown.get("project_id"),
        "user_id": shown.get("user_id"),
        "timestamp": moment,
        "source": shown.get("source") or "openstack",
        "metadata": shown.get("resource_metadata"),
        "published": published,
        "endpoint": "polling",
    }
