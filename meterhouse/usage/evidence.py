"""Evidence: what landed notifications say of billable resources, one row for each resource that a notification names.

The lake's table `evidence` records with each commit up to which version of `notifications` it has read them, so each
notification is read once, whatever dies. Readers count a notification once too: it has the same id when it comes again.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import NoneType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import history
from meterhouse.conversion import step as conversion
from meterhouse.conversion.bodies import Bodies, read_body, reader
from meterhouse.conversion.nova_versioned import EVENT_TYPES as VERSIONED
from meterhouse.conversion.nova_versioned import legacy_twin
from meterhouse.conversion.step import converted_position, numbers
from meterhouse.definitions.expressions import Message, all_reads
from meterhouse.definitions.meanings import Meaning
from meterhouse.definitions.resources import ATTRIBUTES, SIZE_UNITS, SIZES, TIMES, Effect, Resources, ResourceType
from meterhouse.definitions.units import Units
from meterhouse.definitions.values import Value
from meterhouse.errors import Replaced
from meterhouse.site import Site
from meterhouse.stores.lake_tables import EVIDENCE, TIME
from meterhouse.stores.leases import Lease
from meterhouse.timestamps import parse_utc, to_microseconds
from meterhouse.usage import made_by
from meterhouse.usage.fields import Batch, Fields, Layout, Whole, layout
from meterhouse.verification import VERIFY

TABLE: Final = "evidence"

APP: Final = conversion.APP
"""The application transaction by which the table records the version of `notifications` that it has read."""

NOTIFICATIONS_AT_ONCE: Final = 25_000

AHEAD: Final = 3_600_000_000
"""A time that is further ahead of its arrival, in µs, is wrong: the time of arrival counts."""

LARGEST: Final = 1e11
"""Larger sizes cannot be true, and are none: sums of them would have more digits than there are."""

_HEADERS: Final = ["received_at", "timestamp", "publisher_id", "message_id"]

_BATCH: Final = 8192
_LATEST: Final = 9_000_000_000_000_000


@dataclass
class Read:
    """What a run read: notifications, rows of evidence, messages that cannot be read, the months of event time, and
    those that are noted in the warehouse."""

    notifications: int = 0
    rows: int = 0
    errors: int = 0
    seconds: float = 0.0
    months: set[Any] = field(default_factory=set)
    noted: set[Any] = field(default_factory=set)


def follow(site: Site, lease: Lease, resources: Resources, units: Units) -> Read:
    """Add the evidence of the notifications that came since the last run. `lease` is that of the step.

    Raises:
        WentBack: the lake's notifications are older than what was read, or others; nothing was read.
    """
    done, clock = Read(), time.monotonic()
    lake = site.lake
    extract = Extractor(resources, units, site.settings.sample_source, versioned=site.settings.nova_versioned)
    meaning = made_by.meaning_of(resources, units, site.settings)
    check_history(site)
    while True:
        reached = lake.transaction(TABLE, APP) or 0
        newest = lake.version("notifications")
        try:
            landed = lake.appended("notifications", reached, max_rows=NOTIFICATIONS_AT_ONCE)
        except Replaced:
            _follow_files(site, lease, extract, meaning, reached, newest, done)
            continue
        if landed is None or (landed.rows.num_rows == 0 and landed.version == reached):
            break
        rows = extract.rows(landed.rows, done)
        _note(lease, meaning, done)
        beside = numbers(history.position(lake, "notifications", landed.version))
        lake.append(TABLE, rows, transaction=(APP, landed.version), after=reached, beside=beside, lease=lease)
        done.notifications += landed.rows.num_rows
    done.seconds = time.monotonic() - clock
    return done


def _note(lease: Lease, meaning: Meaning, done: Read) -> None:
    """Note the months of what is about to be appended."""
    if new := done.months - done.noted:
        with lease.begin() as connection:
            made_by.note(connection, meaning, new)
        done.noted |= new


def _follow_files(
    site: Site, lease: Lease, extract: "Extractor", meaning: Meaning, reached: int, newest: int, done: Read
) -> None:
    """Read the files in the place of commits that are no longer there. Those that were read already count once."""
    lake = site.lake
    before = lake.known_files("notifications", reached)
    known = set() if before is None else set(before["path"].to_pylist())
    files = lake.actions("notifications", newest).select(["path"]).to_pylist()
    for action in files:
        if action["path"] in known:
            continue
        for rows in lake.pieces_of("notifications", action["path"], NOTIFICATIONS_AT_ONCE):
            found = extract.rows(rows, done)
            _note(lease, meaning, done)
            lake.append(TABLE, found, lease=lease)
            done.notifications += rows.num_rows
    record_position(site, lease, newest)


def check_history(site: Site) -> None:
    """Compare the notifications that were read with those that there are.

    Raises:
        WentBack: the lake's notifications are older than what was read, or others.
    """
    reached = converted_position(site.lake, TABLE)
    if not history.is_same_history(site.lake, "notifications", reached):
        raise history.went_back(site.lake, "notifications", reached, "the evidence of resources")


def record_position(site: Site, lease: Lease, version: int) -> None:
    """Record that the table has the evidence of the notifications of a version."""
    beside = numbers(history.position(site.lake, "notifications", version))
    site.lake.commit(TABLE, [], 0, transactions={}, beside={APP: version, **beside}, lease=lease)


class Extractor:
    """Reads evidence from notifications. A message that cannot be read does not affect the others.

    Args:
        resources: the types of resources.
        units: converts sizes into the unit of their names.
        source: the source of the evidence.
        versioned: whether Nova's versioned notifications are read as their legacy twins.
    """

    def __init__(self, resources: Resources, units: Units, source: str, *, versioned: bool = True) -> None:
        self._resources, self._units, self._source, self._versioned = resources, units, source, versioned
        self._known: dict[str, list[tuple[ResourceType, Effect]]] = {}

    def about(self, event_type: str) -> list[tuple[ResourceType, Effect]]:
        """The types of resources that an event type is about, and what it says of them."""
        found = self._known.get(event_type)
        if found is None:
            legacy = VERSIONED.get(event_type, event_type) if self._versioned else event_type
            found = [(each, effect) for each in self._resources.types if (effect := each.effect(legacy)) is not None]
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[event_type] = found
        return found

    def rows(self, notifications: pa.Table, done: Read) -> pa.Table:
        """The evidence of a table of schema `NOTIFICATIONS`; a table of schema `EVIDENCE`."""
        encoded = notifications["event_type"].combine_chunks().cast(pa.string()).dictionary_encode()
        wanted = [bool(text and self.about(text)) for text in encoded.dictionary.to_pylist()]
        if not any(wanted):
            return EVIDENCE.empty_table()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        chosen = np.flatnonzero(np.append(np.array(wanted, np.bool_), False)[codes])
        all_ = len(chosen) == notifications.num_rows
        bodies = Bodies(
            notifications.select(["body"]) if all_ else notifications.select(["body"]).take(pa.array(chosen))
        )
        came, codes = notifications.select(_HEADERS).take(pa.array(chosen)), codes[chosen]
        order = np.argsort(codes, kind="stable")
        parts = []
        texts = encoded.dictionary.to_pylist()
        for code in np.unique(codes):
            places = order[np.searchsorted(codes[order], code) : np.searchsorted(codes[order], code, "right")]
            for start in range(0, len(places), _BATCH):
                parts += self._of_type(texts[code], came, places[start : start + _BATCH].tolist(), bodies, done)
        made = pa.concat_tables([EVIDENCE.empty_table(), *parts])
        done.rows += made.num_rows
        done.months |= set(pc.unique(made["event_day"]).to_pylist())
        return made

    def _of_type(
        self, event_type: str, came: pa.Table, places: list[int], bodies: Bodies, done: Read
    ) -> list[pa.Table]:
        about = self.about(event_type)
        twins = self._versioned and event_type in VERSIONED
        fields = None if twins or any(resource.each for resource, _ in about) else self._layout(about)
        batches: list[tuple[list[int], Batch]] = []
        unusual = places
        if fields is not None:
            read = bodies.read(places, fields.read)
            unusual = [place for place, message in zip(places, read, strict=True) if message is None]
            usual = [place for place, message in zip(places, read, strict=True) if message is not None]
            batches.append((usual, Fields(fields, [message for message in read if message is not None])))
        batches.append(self._whole(event_type, unusual, bodies, done))
        return [
            _table(resource, effect, self._units, self._source, came.take(pa.array(kept, pa.int64())), batch, done)
            for kept, batch in batches
            if kept
            for resource, effect in about
        ]

    def _layout(self, about: Sequence[tuple[ResourceType, Effect]]) -> Layout | None:
        values = [value for resource, _ in about for value in _values(resource)]
        return layout(values, all_reads([_reads(resource) for resource, _ in about]))

    def _whole(self, event_type: str, places: list[int], bodies: Bodies, done: Read) -> tuple[list[int], Whole]:
        """The messages of some rows that can be read, as mappings, and their rows."""
        twins = self._versioned and event_type in VERSIONED
        fields = all_reads([_reads(resource) for resource, _ in self.about(event_type)])
        messages: list[Message | None] = [None] * len(places) if twins else bodies.read(places, reader(fields))
        for at, message in enumerate(messages):
            if message is None:
                try:
                    whole = read_body(bodies.text(places[at]))
                    messages[at] = (legacy_twin(whole) or whole) if twins else whole
                except Exception:  # landed as it came: whatever it is, it does not stop the others
                    done.errors += 1
        kept = [(place, message) for place, message in zip(places, messages, strict=True) if message is not None]
        return [place for place, _ in kept], Whole([message for _, message in kept])


def _values(resource: ResourceType) -> list[Value]:
    several = [resource.id, *resource.times.values(), *resource.attributes.values()]
    return [value for each in several for value in each] + [size.value for size in resource.sizes.values()]


def _reads(resource: ResourceType) -> Any:
    found = all_reads([value.reads for value in _values(resource)])
    if found is None:
        return None
    return found | {("payload", key) for key in resource.each} | {("payload", "source")}


def _table(
    resource: ResourceType,
    effect: Effect,
    units: Units,
    source: str,
    rows: pa.Table,
    batch: Batch,
    done: Read,
) -> pa.Table:
    if resource.each:
        single = [(row, one) for row in range(len(batch)) for one in _single(batch.message(row), resource.each)]
        rows, batch = rows.take(pa.array([row for row, _ in single], pa.int64())), Whole([one for _, one in single])
    count = len(batch)
    if not count:
        return EVIDENCE.empty_table()

    def of(value: Value) -> list[Any]:
        try:
            return batch.column(value)
        except Exception:  # an unusual message: one after the other
            return [_alone(value, batch.message(row), done) for row in range(count)]

    def text_of(values: Sequence[Value], name: str = "") -> pa.Array:
        """The first value in each message that is neither missing nor empty."""
        found = pa.nulls(count, pa.string())
        for value in values:
            found = pc.coalesce(found, _attribute(name, of(value)))
            if not found.null_count:
                break
        return found

    def moments_of(values: Sequence[Value]) -> Any:
        found = np.full(count, _NONE)
        for value in values:
            lacking = found == _NONE
            if lacking.any():
                found = np.where(lacking, _moments(of(value)), found)
        return found

    received = np.asarray(rows["received_at"].cast(pa.int64()))
    sent = np.asarray(rows["timestamp"].cast(pa.int64()).fill_null(_LATEST))
    sent = np.where(sent > received + AHEAD, received, sent)
    moments = {key: moments_of(resource.times.get(key, ())) for key in TIMES}
    at = sent.copy()
    if effect == "audit":
        both = (moments["audit_from"] < moments["audit_to"]) & (moments["audit_to"] <= received + AHEAD)
        both &= moments["audit_from"] != _NONE
        # The service reads what the resource is when it sends the audit, some time after the end of the period.
        unsent = np.asarray(rows["timestamp"].is_null())
        at = np.where(both & unsent, moments["audit_to"], sent)
        starts, ends = np.where(both, moments["audit_from"], _NONE), np.where(both, moments["audit_to"], _NONE)
    else:
        # Cinder's audit job sends creations and deletions again: the period of no length is when they were. In an
        # update of Nova's, it says nothing.
        again = (
            np.full(count, effect in ("was", "begins", "ends"))
            & (moments["audit_from"] != _NONE)
            & (moments["audit_from"] == moments["audit_to"])
            & (moments["audit_from"] < at)
        )
        at = np.where(again, moments["audit_from"], at)
        # It is there when it was launched, some time after its creation.
        launched = again & (moments["began"] <= sent)
        at = np.where(launched, np.maximum(at, moments["began"]), at)
        starts = ends = np.where(again, moments["audit_from"], _NONE)
    sizes = {
        name: _numbers(of(size.value), size.unit, SIZE_UNITS.get(name), units) for name, size in resource.sizes.items()
    }
    ids = text_of(resource.id)
    given = batch.field(("payload", "source"))
    publishers = rows["publisher_id"].combine_chunks()
    verify = pc.starts_with(publishers.cast(pa.string()).fill_null(""), VERIFY)
    if VERIFY in given:
        verify = pc.or_(verify, pa.array([each == VERIFY for each in given]))
    message_ids = rows["message_id"].combine_chunks()
    made = pa.table(
        {
            "event_day": _months(at),
            "resource_type": pa.repeat(resource.type, count),
            "resource_id": ids,
            "effect": pa.repeat(effect, count),
            "said_at": pa.array(at).cast(TIME),
            "from_at": _times(starts),
            "to_at": _times(ends),
            "reports": pa.repeat(pa.scalar(1, pa.int64()), count),
            "began_at": _times(moments["began"]),
            "created_at": _times(moments["created"]),
            "ended_at": _times(moments["ended"]),
            "message_id": message_ids,
            "last_message_id": message_ids,
            "event_type": pa.array(list(map(str, batch.field(("message", "event_type")))), pa.string()),
            "reporter": publishers.cast(pa.string()),
            "source": pc.if_else(verify, VERIFY, source),
            **{name: text_of(resource.attributes.get(name, ()), name) for name in ATTRIBUTES},
            **{
                name: pa.array(sizes.get(name, np.full(count, np.nan)), pa.float64(), from_pandas=True)
                for name in SIZES
            },
            "measures": _measures({name: each for name, each in sizes.items() if name not in SIZES}, count),
        }
    )
    good = pc.fill_null(pc.greater(pc.utf8_length(ids), 0), False)
    return made.filter(good).cast(EVIDENCE)


def _single(message: Message, keys: Sequence[str]) -> list[Message]:
    """A message about several resources as one about each: its payload has the resource's own keys first."""
    payload = message.get("payload")
    if not isinstance(payload, dict):
        return []
    for key in keys:
        found = payload.get(key)
        each = found if isinstance(found, list) else [found]
        objects = [one for one in each if isinstance(one, dict)]
        if objects:
            others = {name: value for name, value in payload.items() if name != key}
            return [{**message, "payload": {**others, **one}} for one in objects]
    return [message]


def _alone(value: Value, message: Message, done: Read) -> Any:
    try:
        return value.first(message, [])
    except Exception:
        done.errors += 1
        return None


_NONE: Final = np.int64(np.iinfo(np.int64).min)


@lru_cache(maxsize=65536)
def _parsed(text: str) -> int:
    try:
        micros = to_microseconds(parse_utc(text))
    except (ValueError, OverflowError):
        return int(_NONE)
    return micros if abs(micros) < _LATEST else int(_NONE)


def _moments(values: list[Any]) -> Any:
    """Times as µs; `_NONE` where there is none, or it cannot be read."""
    try:
        encoded = pa.array(values, pa.string()).dictionary_encode()
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        encoded = pa.array(
            [each if each.__class__ is str else None for each in values], pa.string()
        ).dictionary_encode()
    indices = np.asarray(encoded.indices.fill_null(len(encoded.dictionary)))
    return np.append(_moments_of(encoded.dictionary), _NONE)[indices]


def _moments_of(texts: pa.Array) -> Any:
    """`_parsed` of many texts."""
    zoned = pc.and_(pc.ends_with(texts, "+00:00"), pc.greater_equal(pc.binary_length(texts), 25))
    plain = pc.if_else(zoned, pc.utf8_slice_codeunits(texts, 0, -6), texts)
    try:
        # Arrow reads a part of the grammar, and quickly. Without a zone it is UTC.
        found = pc.if_else(pc.equal(plain, ""), None, plain).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return np.array([_parsed(text) if text else _NONE for text in texts.to_pylist()], np.int64)
    micros = np.asarray(found.cast(pa.int64()).fill_null(int(_NONE)))
    return np.where((micros > -_LATEST) & (micros < _LATEST), micros, _NONE)


def _times(micros: Any) -> pa.Array:
    return pa.array(micros, pa.int64(), mask=micros == _NONE).cast(TIME)


def _months(at: Any) -> pa.Array:
    return pa.array(at.astype("datetime64[us]").astype("datetime64[M]").astype("datetime64[D]"))


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    return value if value.__class__ is str else json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _texts(values: list[Any]) -> pa.Array:
    """Values as texts; null where there is none, or an empty one."""
    try:
        found = pa.array(values, pa.string())
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.array([_text(each) for each in values], pa.string())
    return pc.if_else(pc.equal(found, ""), pa.scalar(None, pa.string()), found)


def _attribute(name: str, values: list[Any]) -> pa.Array:
    """An attribute as texts. Nova names an image by its id or by a URL that ends with it, and no zone by `None`."""
    found = _texts(values)
    if name == "zone":
        return pc.if_else(pc.equal(found, "None"), pa.scalar(None, pa.string()), found)
    if name == "image" and pc.any(pc.match_substring(found, "/")).as_py():
        encoded = found.dictionary_encode()
        names = [each.rsplit("/", 1)[-1] or None for each in encoded.dictionary.to_pylist()]
        return pa.array(names, pa.string()).take(encoded.indices)
    return found


def _numbers(values: list[Any], unit: str | None, to: str | None, units: Units) -> Any:
    """Sizes in the unit of their name; NaN where there is none that can be true."""
    factor = units.factor(unit, to) if unit else None
    kinds = set(map(type, values))
    if kinds <= {int, float, NoneType}:
        found = np.array(values, np.float64)
    else:
        found = np.array([_number(value) for value in values], np.float64)
    if factor is not None:
        found = found * factor.numerator / factor.denominator
    found[~np.isfinite(found) | (found < 0) | (found > LARGEST)] = np.nan
    return found


def _number(value: Any) -> float:
    if value.__class__ is bool or value is None:
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _measures(sizes: dict[str, Any], rows: int) -> pa.Array:
    if not sizes:
        return pa.nulls(rows, pa.string())
    made = []
    for row in range(rows):
        known = {name: float(column[row]) for name, column in sizes.items() if not np.isnan(column[row])}
        made.append(json.dumps(known, sort_keys=True) if known else None)
    return pa.array(made, pa.string())


def month_of(moment: datetime) -> Any:
    """The first day of a moment's month, UTC."""
    return moment.date().replace(day=1)
