"""Converts notifications to samples and events, in memory.

The definitions (`meterhouse.definitions`) say what a notification yields. Notifications of one type are read together,
a column at a time. Only if one of them is unusual are they read one by one.
"""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.conversion import polled, signatures
from meterhouse.conversion.bodies import Bodies, is_partial, read_body, reader
from meterhouse.conversion.event_columns import EventColumns
from meterhouse.conversion.nova_versioned import EVENT_TYPES as VERSIONED
from meterhouse.conversion.nova_versioned import legacy_twin
from meterhouse.conversion.sample_columns import SampleColumns, Unusable, dropped, number
from meterhouse.definitions.columns import Columns
from meterhouse.definitions.endpoints import ENDPOINTS, Endpoint
from meterhouse.definitions.events import TYPED, kinds
from meterhouse.definitions.expressions import Message, all_reads
from meterhouse.definitions.loading import Definitions
from meterhouse.definitions.meters import Block, MeterPlan, RawSample, block_of
from meterhouse.definitions.use import Uses
from meterhouse.garbage import gc_disabled
from meterhouse.settings import Settings
from meterhouse.timestamps import parse_datetime, parse_utc
from meterhouse.verification import VERIFY, sent_by_verify

SAMPLE_PRIORITIES: Final = frozenset({"info", "sample"})
EVENT_PRIORITIES: Final = frozenset({"info", "error"})

BATCH: Final = 256
"""Maximum number of notifications of one type that are read together: enough to spread the cost of a column, few enough
for the processor's cache."""

_ORDINARY_PRIORITIES: Final = frozenset(
    spelled for priority in ("debug", "info", "warn", "error", "critical") for spelled in (priority, priority.upper())
)
_READERS_LIMIT: Final = 4096
_PARTS: Final = 8  # the number of parts that a batch with an unusual message is divided into


@dataclass(frozen=True, slots=True)
class ConversionError:
    """A part of a message that was not converted, and why.

    Attributes:
        message_id: the notification's; empty if it has none.
        endpoint: `body` (not a notification), `meter`, `polling`, `event`, or the name of an endpoint.
        detail: the reason, in one line.
        row: the row of the notification.
    """

    message_id: str
    endpoint: str
    detail: str
    row: int = 0


@dataclass(frozen=True)
class Converted:
    """The result of converting a table of notifications.

    Attributes:
        samples: schema `SAMPLES`, in the order of the notifications.
        events: schema `EVENTS`, in the order of the notifications.
        metadata: metadata_id → canonical JSON, of every snapshot that a sample refers to.
        errors: what was not converted, in the order of the notifications.
        unsigned: samples with a wrong signature: the row of their notification, their JSON, and the reason.
        uses: how often the paths of the definitions found a value.
        messages: the number of notifications.
        polled: how many of them are batches of polled samples.
    """

    samples: pa.Table
    events: pa.Table
    metadata: dict[int, bytes]
    errors: list[ConversionError]
    unsigned: list[tuple[int, bytes, str]]
    uses: Uses
    messages: int
    polled: int


class _Batch:
    """Notifications of one type. With `partial`, only the payload fields that the definitions name were read."""

    def __init__(
        self, rows: list[int], messages: list[Message], message_ids: Sequence[str], *, partial: bool = False
    ) -> None:
        self.rows = rows
        self.message_ids = [message_ids[row] for row in rows]
        self.columns = Columns(messages, partial=partial)
        self._all_ids = message_ids

    def some(self, places: Sequence[int]) -> "_Batch":
        messages = self.columns.messages
        chosen = [messages[at] for at in places]
        return _Batch([self.rows[at] for at in places], chosen, self._all_ids, partial=self.columns.partial)

    def whole(self, bodies: Bodies, fail: Callable[[int, Exception], None]) -> "_Batch":
        """The same batch with complete messages. A message that cannot be read is left out, and reported to `fail`."""
        rows: list[int] = []
        messages: list[Message] = []
        for row in self.rows:
            try:
                messages.append(read_body(bodies.text(row)))
            except Exception as error:
                fail(row, error)
            else:
                rows.append(row)
        return _Batch(rows, messages, self._all_ids)

    def warns(self) -> list[list[str]]:
        return [[] for _ in self.rows]


@dataclass
class _Work:
    """The results that the conversion of one table collects."""

    bodies: Bodies
    message_ids: list[str]
    of_verify: npt.NDArray[np.bool_]  # which rows `meterhouse verify` sent; all of a batch, or none
    samples: SampleColumns = field(default_factory=SampleColumns)
    events: EventColumns = field(default_factory=EventColumns)
    errors: list[ConversionError] = field(default_factory=list)
    unsigned: list[tuple[int, bytes, str]] = field(default_factory=list)
    uses: Uses = field(default_factory=Uses)
    polled: int = 0

    def fail(self, row: int, endpoint: str, detail: str | Exception) -> None:
        text = _detail(detail) if isinstance(detail, Exception) else detail
        self.errors.append(ConversionError(self.message_ids[row], endpoint, text, row))

    def warn(self, rows: Sequence[int], endpoint: str, warns: Sequence[list[str]]) -> None:
        for row, warn in zip(rows, warns, strict=True):
            for detail in warn:
                self.fail(row, endpoint, detail)


class Converter:
    """Converts notifications with a set of definitions. Keeps no state between calls.

    Args:
        definitions: the meters and events.
        source: the `source` of samples that are made from notifications. Polled samples have their own.
        secret: the key that verifies the signatures of polled samples. If empty, they are not verified.
        store_raw: the priorities whose notifications are kept with their events.
        drop_unmatched: make no event of a notification that no event definition matches.
        versioned: read Nova's versioned notifications as their legacy twins.
    """

    def __init__(
        self,
        definitions: Definitions,
        source: str = "openstack",
        *,
        secret: str = "",
        store_raw: Sequence[str] = (),
        drop_unmatched: bool = False,
        versioned: bool = True,
    ) -> None:
        self._meters = definitions.meters
        self._events = definitions.events
        self._source = source
        self._secret = secret
        self._store_raw = frozenset(store_raw)
        self._drop_unmatched = drop_unmatched
        self.reads_versioned = versioned
        self._readers: dict[str, tuple[Callable[[Any], Message], bool]] = {}

    @classmethod
    def from_settings(cls, settings: Settings, definitions: Definitions) -> "Converter":
        """The converter that the settings describe."""
        return cls(
            definitions,
            settings.sample_source,
            secret=settings.telemetry_secret,
            store_raw=settings.store_raw.split(",") if settings.store_raw else (),
            drop_unmatched=settings.drop_unmatched_notifications,
            versioned=settings.nova_versioned,
        )

    def convert(self, notifications: pa.Table) -> Converted:
        """Convert a table of schema `NOTIFICATIONS`. A message that cannot be converted does not affect the others."""
        with gc_disabled():
            return self._convert(notifications, Bodies(notifications))

    def _convert(self, notifications: pa.Table, bodies: Bodies) -> Converted:
        publishers = notifications.column("publisher_id").combine_chunks().cast(pa.string())
        of_verify = pc.fill_null(pc.starts_with(publishers, VERIFY), False).to_numpy(zero_copy_only=False)
        # The ids that the messages were landed with: a message without one got it from its content.
        work = _Work(bodies, notifications.column("message_id").to_numpy().tolist(), of_verify)
        for event_type, rows in _rows_by_type(notifications, of_verify):
            for start in range(0, len(rows), BATCH):
                self._convert_type(event_type, rows[start : start + BATCH], work)
        return Converted(
            work.samples.table(notifications),
            work.events.table(notifications),
            work.samples.metadata,
            sorted(work.errors, key=lambda error: error.row),
            work.unsigned,
            work.uses,
            notifications.num_rows,
            work.polled,
        )

    # -- a batch of one type ----------------------------------------------------------------------------------

    def _convert_type(self, event_type: str | None, rows: list[int], work: _Work) -> None:
        if event_type == "telemetry.polling":
            rows = self._add_polled_batches(rows, work)
        elif event_type is not None and event_type not in VERSIONED and not _endpoints(event_type):
            rows = self._add_ordinary(event_type, rows, work)
        by_type: dict[str, tuple[list[int], list[Message]]] = {}
        for row in rows:
            try:
                message = read_body(work.bodies.text(row))
                batch = polled.batch_of(message)
                if batch is not None:
                    work.polled += 1
                    self._add_polled(batch, row, work)
                    continue
                type_, message = self._twin(message)
            except Exception as error:
                work.fail(row, "body", error)
                continue
            of_type = by_type.setdefault(type_, ([], []))
            of_type[0].append(row)
            of_type[1].append(message)
        for type_, (rows, messages) in by_type.items():
            self._add_batch(type_, _Batch(rows, messages, work.message_ids), work)

    def _add_polled_batches(self, rows: list[int], work: _Work) -> list[int]:
        """Add the batches of polled samples that have the usual form; return the other rows."""
        if self._secret:
            return rows
        others = []
        for row in rows:
            if not work.bodies.odd(row) and polled.add_ordinary(work.bodies[row], row, work.samples):
                work.polled += 1
            else:
                others.append(row)
        return others

    def _add_ordinary(self, event_type: str, rows: list[int], work: _Work) -> list[int]:
        """Add the notifications that have the usual form, as most have; return the other rows."""
        read, partial = self._reader(event_type)
        messages = work.bodies.read(rows, read)
        ordinary = [
            message is not None
            and message.get("event_type") == event_type
            and type(priority := message.get("priority")) is str
            and priority in _ORDINARY_PRIORITIES
            for message in messages
        ]
        chosen = [message for message in compress(messages, ordinary) if message is not None]
        if chosen:
            batch = _Batch(list(compress(rows, ordinary)), chosen, work.message_ids, partial=partial)
            self._add_batch(event_type, batch, work)
        return [] if len(chosen) == len(rows) else [row for row, is_ in zip(rows, ordinary, strict=True) if not is_]

    def _reader(self, event_type: str) -> tuple[Callable[[Any], Message], bool]:
        """A reader of the fields that definitions use of a type's notifications, and whether it reads only a part."""
        known = self._readers.get(event_type)
        if known is None:
            plan = self._meters.plan(event_type)
            reads = all_reads([plan.reads if plan else frozenset(), self._events.matching(event_type).reads])
            if len(self._readers) >= _READERS_LIMIT:
                self._readers.clear()
            known = self._readers[event_type] = (reader(reads), is_partial(reads))
        return known

    def _add_batch(self, event_type: str, batch: _Batch, work: _Work) -> None:
        priorities = [_priority(message) for message in batch.columns.messages]
        self._add_samples(event_type, _of_priorities(batch, priorities, SAMPLE_PRIORITIES), work)
        self._add_events(event_type, _of_priorities(batch, priorities, EVENT_PRIORITIES), work)

    def _twin(self, message: Message) -> tuple[str, Message]:
        """A message and its type; for a versioned notification, its legacy twin and the twin's type."""
        event_type = message.get("event_type")
        if not isinstance(event_type, str):
            raise ValueError("the notification has no event_type")
        twin = legacy_twin(message) if self.reads_versioned else None
        return (event_type, message) if twin is None else (str(twin["event_type"]), twin)

    def _add_samples(self, event_type: str, batch: _Batch, work: _Work) -> None:
        plan = self._meters.plan(event_type)

        def by_meters(part: _Batch, plan: MeterPlan) -> None:
            warns = part.warns()
            blocks = plan.read(part.columns, warns)
            self._stage(blocks, part, warns, "meter", work, repeats=plan.repeats)
            work.uses.add(event_type, "meter", part.columns)

        def by_endpoint(part: _Batch, endpoint: Endpoint) -> None:
            warns = part.warns()
            blocks = [_endpoint_block(endpoint, part.columns.messages, warns)]
            self._stage(blocks, part, warns, endpoint.name, work, repeats=True)

        def fail(row: int, error: Exception, endpoint: str) -> None:
            work.fail(row, endpoint, error)

        if plan is not None:
            _in_parts(
                batch,
                work.bodies,
                functools.partial(by_meters, plan=plan),
                functools.partial(fail, endpoint="meter"),
            )
        for endpoint in _endpoints(event_type):
            _in_parts(
                batch,
                work.bodies,
                functools.partial(by_endpoint, endpoint=endpoint),
                functools.partial(fail, endpoint=endpoint.name),
            )

    def _stage(
        self,
        blocks: list[Block],
        batch: _Batch,
        warns: list[list[str]],
        endpoint: str,
        work: _Work,
        *,
        repeats: bool,
    ) -> None:
        source = VERIFY if len(batch.rows) and work.of_verify[batch.rows[0]] else self._source
        staged = work.samples.stage(blocks, batch.rows, batch.message_ids, source, warns, repeats=repeats)
        for each in staged:
            work.samples.add(each)
        work.warn(batch.rows, endpoint, warns)

    def _add_events(self, event_type: str, batch: _Batch, work: _Work) -> None:
        definition = self._events.matching(event_type)
        if self._drop_unmatched and not self._events.has_match(event_type):
            return

        def add(part: _Batch) -> None:
            warns = part.warns()
            generated = work.samples.moments_of(part.columns.timestamps)
            traits = definition.read(part.columns, warns)
            work.events.add(part.rows, part.message_ids, event_type, generated, traits)
            work.uses.add(event_type, "event", part.columns)
            work.warn(part.rows, "event", warns)
            for row, message in zip(part.rows, part.columns.messages, strict=True) if self._store_raw else ():
                if _priority(message) in self._store_raw:
                    work.events.keep_raw(row, work.bodies.text(row) or "")

        _in_parts(batch, work.bodies, add, lambda row, error: work.fail(row, "event", error))

    def _add_polled(self, batch: list[Any], row: int, work: _Work) -> None:
        unsigned: set[int] = set()
        if self._secret:
            unsigned = set(signatures.unsigned(batch, self._secret, lambda: _as_sent(work.bodies.text(row))))
        for ordinal, sample in enumerate(batch):
            if ordinal in unsigned:
                work.unsigned.append((row, signatures.as_json(sample), _unsigned(sample)))
                continue
            try:
                polled.add_one(sample, row, work.message_ids[row], ordinal, work.samples)
            except Exception as error:
                work.fail(row, "polling", polled.dropped(sample, error))

    # -- one message, for people ------------------------------------------------------------------------------

    def samples_line(self, message: Message) -> dict[str, Any]:
        """The samples of one notification, for people and for comparison with Ceilometer.

        Returns:
            `message_id`, `event_type`, `samples` (with `published`: whether Ceilometer would publish it) and `errors`,
            each with its `endpoint` and either `warnings` or `error` and `detail`.
        """
        line: dict[str, Any] = {
            "message_id": message.get("message_id"),
            "event_type": message.get("event_type"),
            "samples": [],
            "errors": [],
        }

        def make(endpoint: str, samples: Callable[[list[str]], list[dict[str, Any]]]) -> None:
            warn: list[str] = []
            try:
                line["samples"] += samples(warn)
            except Exception as error:
                line["errors"].append({"endpoint": endpoint, "error": type(error).__name__, "detail": str(error)})
            if warn:
                line["errors"].append({"endpoint": endpoint, "warnings": sorted(warn)})

        def polled_ones(warn: list[str]) -> list[dict[str, Any]]:
            return [self._polled_shown(each, warn) for each in polled.batch_of(message) or []]

        try:
            is_polled = polled.batch_of(message) is not None
        except ValueError:
            is_polled = True
        if is_polled:
            make("polling", polled_ones)
            return line
        if not isinstance(line["event_type"], str) or _priority(message) not in SAMPLE_PRIORITIES:
            return line
        event_type, twin = self._twin(message)
        plan = self._meters.plan(event_type)
        if plan is not None:
            known = plan
            make("meter", lambda warn: self._shown(known.read(Columns([twin]), [warn]), "meter", warn))
        for endpoint in _endpoints(event_type):
            make(
                endpoint.name,
                functools.partial(self._by_endpoint_shown, endpoint, twin),
            )
        if sent_by_verify(message.get("publisher_id")):
            line["samples"] = [{**sample, "source": VERIFY} for sample in line["samples"]]
        return line

    def event_line(self, message: Message) -> dict[str, Any]:
        """The event of one notification, for people and for comparison with Ceilometer.

        Returns:
            `message_id`, `event` (`event_type`, `generated` in UTC, `traits` as [name, type, value]; `raw` if it is
            kept) or None, and `error` (`error`, `detail`) or None.
        """
        line: dict[str, Any] = {"message_id": message.get("message_id"), "event": None, "error": None}
        priority = _priority(message)
        if priority not in EVENT_PRIORITIES or message.get("event_type") == "telemetry.polling":
            return line
        try:
            event_type, twin = self._twin(message)
            if self._drop_unmatched and not self._events.has_match(event_type):
                return line
            generated = parse_utc(_timestamp(twin)).isoformat()
            columns = self._events.matching(event_type).read(Columns([twin]), [[]])
            known = kinds()
            traits = []
            for kind, (value,) in columns:
                if value is not None:
                    name, dtype = known[kind]
                    traits.append([name, dtype, TYPED[dtype](value)])
            line["event"] = {"event_type": event_type, "generated": generated, "traits": traits}
            if priority in self._store_raw:
                line["event"]["raw"] = message
        except Exception as error:
            line["error"] = {"error": type(error).__name__, "detail": str(error)}
        return line

    def _polled_shown(self, sample: Any, warn: list[str]) -> dict[str, Any]:
        line = polled.shown(sample, warn)
        if self._secret and not signatures.is_valid(sample, self._secret):
            line["published"] = False
            warn.append(_unsigned(sample))
        return line

    def _shown(self, blocks: list[Block], endpoint: str, warn: list[str]) -> list[dict[str, Any]]:
        columns = [column for block in blocks for column in zip(*block[1:10], strict=True)]
        return [self._sample_shown(RawSample._make(column), endpoint, warn) for column in columns]

    def _by_endpoint_shown(self, endpoint: Endpoint, message: Message, warn: list[str]) -> list[dict[str, Any]]:
        return self._shown([_endpoint_block(endpoint, [message], [warn])], endpoint.name, warn)

    def _sample_shown(self, sample: RawSample, endpoint: str, warn: list[str]) -> dict[str, Any]:
        moment = parse_datetime(sample.timestamp).isoformat()
        volume, published = sample.volume, True
        try:
            checked = number(volume)
            volume = checked if isinstance(volume, str) else volume
        except Unusable as error:
            published = False
            warn.append(dropped(sample.name, sample.resource_id, sample.timestamp, str(error)))
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
            "endpoint": endpoint,
        }


def _rows_by_type(notifications: pa.Table, of_verify: npt.NDArray[np.bool_]) -> Iterator[tuple[str | None, list[int]]]:
    """The rows of each event type, those that `meterhouse verify` sent apart."""
    encoded = notifications.column("event_type").combine_chunks().cast(pa.string()).dictionary_encode("encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False) * 2 + of_verify
    order = np.argsort(codes, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(codes[order])) + 1).tolist(), len(order)]
    types = encoded.dictionary.to_pylist()
    for start, end in pairwise(bounds):
        if start < end:
            yield types[codes[order[start]] // 2], order[start:end].tolist()


def _of_priorities(batch: _Batch, priorities: list[str], wanted: frozenset[str]) -> _Batch:
    if wanted.issuperset(priorities):
        return batch
    return batch.some([at for at, priority in enumerate(priorities) if priority in wanted])


def _in_parts(
    batch: _Batch, bodies: Bodies, do: Callable[[_Batch], None], fail: Callable[[int, Exception], None]
) -> None:
    """Process a batch at once. If that fails, divide it, down to the messages that are at fault."""
    if not batch.rows:
        return
    try:
        do(batch)
    except Exception as error:
        if batch.columns.partial:
            _in_parts(batch.whole(bodies, fail), bodies, do, fail)
            return
        if len(batch.rows) == 1:
            fail(batch.rows[0], error)
            return
        size = -(-len(batch.rows) // _PARTS)
        for start in range(0, len(batch.rows), size):
            part = batch.some(range(start, min(start + size, len(batch.rows))))
            _in_parts(part, bodies, do, fail)


@lru_cache(maxsize=4096)
def _endpoints(event_type: str) -> list[Endpoint]:
    return [endpoint for endpoint in ENDPOINTS if endpoint.matches(event_type)]


def _endpoint_block(endpoint: Endpoint, messages: Sequence[Message], warns: Sequence[list[str]]) -> Block:
    rows: list[int] = []
    samples: list[RawSample] = []
    for at, (message, warn) in enumerate(zip(messages, warns, strict=True)):
        found = endpoint.read(message, warn)
        samples += found
        rows += [at] * len(found)
    return block_of(rows, samples)


def _priority(message: Message) -> str:
    priority = message.get("priority")
    return priority.lower() if isinstance(priority, str) else ""


def _timestamp(message: Message) -> Any:
    timestamp = message.get("timestamp")
    if timestamp is None:
        raise ValueError("the notification has no timestamp")
    return timestamp


def _as_sent(body: str | None) -> list[Any]:
    """The samples of a batch exactly as they were signed, with values that cannot be kept."""
    return polled.batch_of(json.loads(body or "null")) or []


def _unsigned(sample: Any) -> str:
    name, resource = (sample.get("counter_name"), sample.get("resource_id")) if isinstance(sample, dict) else ("?", "?")
    return f"the signature of polled sample {name!s:.100} of {resource!s:.100} is wrong"


def _detail(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
