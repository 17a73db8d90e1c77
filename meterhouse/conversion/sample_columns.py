"""Collects samples in columns."""

import json
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, Final, NamedTuple, cast

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_128_digest

from meterhouse import identity
from meterhouse.definitions.meters import Block
from meterhouse.stores.lake_tables import CONVERTED, POSTED, SAMPLES, taken
from meterhouse.timestamps import LATEST, parse_all, parse_datetime, parse_exact

DIMENSIONS: Final = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")
"""The columns that identify a series."""

POSTED_EVENT: Final = "telemetry.api"
"""The event_type of a notification of posted samples, as Ceilometer's API sent it."""

_UNSIGNED: Final = (1 << 64) - 1
_UNKNOWN: Final = object()
_TEXT_OR_NOTHING: Final = frozenset({str, type(None)})
_TIMES_LIMIT: Final = 1 << 16

Owner = tuple[str | None, str | None, str | None]  # resource, project, user
Dimensions = tuple[str | None, str, str, str | None, str | None, str | None, str | None]


class Unusable(ValueError):
    """A sample that cannot be kept; the message says why."""


class Staged(NamedTuple):
    """Columns of samples that are not added yet."""

    rows: "array[int]"
    codes: "array[int]"
    moments: "array[int]"
    volumes: "array[float]"
    ids: "array[int]"
    metadata_ids: Sequence[int | None]


class SampleColumns:
    """Collects samples batch by batch, and returns them as a table in the order of the notifications.

    Attributes:
        metadata: metadata_id → canonical JSON, of every snapshot that a sample refers to.
    """

    def __init__(self) -> None:
        self.metadata: dict[int, bytes] = {}
        self._codes: dict[Any, int] = {}  # by the dimensions of a series
        self._dimensions: list[Dimensions] = []  # by code
        self._series: array[int] = array("q")  # by code
        self._owners: dict[Owner, int] = {}
        self._by_meter: dict[tuple[str, str, str, str], dict[int, int]] = {}
        self._times: dict[str, int] = {}  # only times in range
        self._snapshots: dict[bytes, int | None] = {}  # by the digest of their JSON as it came
        self._rows: array[int] = array("i")
        self._row_codes: array[int] = array("i")
        self._moments: array[int] = array("q")
        self._volumes: array[float] = array("d")
        self._ids: array[int] = array("Q")
        self._metadata_ids: list[int | None] = []
        self._latest: tuple[list[Any], array[int]] = ([], array("q"))

    def add(self, staged: Staged) -> None:
        """Add samples that are ready."""
        self._rows.extend(staged.rows)
        self._row_codes.extend(staged.codes)
        self._moments.extend(staged.moments)
        self._volumes.extend(staged.volumes)
        self._ids.extend(staged.ids)
        self._metadata_ids += staged.metadata_ids

    def add_one(self, row: int, code: int, moment: int, volume: float, sample_id: int, metadata_id: int | None) -> None:
        """Add one sample."""
        self._rows.append(row)
        self._row_codes.append(code)
        self._moments.append(moment)
        self._volumes.append(volume)
        self._ids.append(sample_id & _UNSIGNED)
        self._metadata_ids.append(metadata_id)

    # -- columns of polled batches, as they came --------------------------------------------------------------

    def codes_of(self, keys: Iterable[tuple[Any, ...]]) -> list[int | None]:
        """The numbers of the series with these dimensions, None for a new series.

        Raises:
            TypeError: a dimension is not a text, and cannot be hashed.
        """
        return list(map(self._codes.get, keys))

    def times_of(self, texts: Sequence[Any]) -> list[int]:
        """Timestamps as µs since the epoch, UTC.

        Raises:
            ValueError, TypeError: one of them is malformed or out of range.
        """
        known = list(map(self._times.get, texts))
        if None not in known:
            return cast(list[int], known)
        new = list({text for text, moment in zip(texts, known, strict=True) if moment is None})
        moments = parse_all(new)
        if min(moments) < 0 or max(moments) > LATEST:
            raise Unusable("has a timestamp outside the years 1970 to 2262")
        if len(self._times) >= _TIMES_LIMIT:
            self._times.clear()
            return self.times_of(texts)
        self._times.update(zip(new, moments, strict=True))
        return cast(list[int], list(map(self._times.get, texts)))

    def snapshots_of(self, texts: Sequence[Any]) -> list[int | None]:
        """Keep metadata snapshots and return their ids. `texts` is their JSON (bytes), which agents often repeat.

        Raises:
            ValueError: one of them is not JSON.
        """
        digests = list(map(xxh3_128_digest, texts))
        known: list[Any] = list(map(cast(Any, self._snapshots.get), digests, repeat(_UNKNOWN)))
        if _UNKNOWN in known:
            for at, digest in enumerate(digests):
                if known[at] is _UNKNOWN:
                    known[at] = self._snapshots[digest] = self.metadata_id(msgspec.json.decode(texts[at]))
        return known

    def moments_of(self, timestamps: list[Any]) -> "array[int]":
        """The timestamps of a batch of notifications, µs since the epoch, UTC. The result for the last list is cached.

        Raises:
            ValueError: one of them is malformed or out of range.
        """
        moments = self._moments_of(timestamps)
        if moments and not (min(moments) >= 0 and max(moments) <= LATEST):
            for moment in moments:
                in_range(moment)
        return moments

    def _moments_of(self, timestamps: list[Any]) -> "array[int]":
        if self._latest[0] is not timestamps:
            self._latest = timestamps, array("q", parse_all(timestamps))
        return self._latest[1]

    # -- columns of one meter, made by definitions ------------------------------------------------------------

    def owners_of(self, owners: Iterable[Owner]) -> list[int]:
        """A number for each resource, project and user, the same for equal ones."""
        known = self._owners
        return [known.setdefault(owner, len(known)) for owner in owners]

    def codes_of_meter(self, meter: tuple[str, str, str, str], owners: Sequence[int]) -> list[int]:
        """The numbers of the series of a meter (source, name, type, unit) with these owners."""
        series = self._by_meter.setdefault(meter, {})
        codes = list(map(series.get, owners))
        if None in codes:
            every = list(self._owners)
            for owner in {owner for owner, code in zip(owners, codes, strict=True) if code is None}:
                series[owner] = self.code((*meter, *every[owner]))
            codes = list(map(series.get, owners))
        return cast(list[int], codes)

    # -- one value at a time ----------------------------------------------------------------------------------

    def code(self, given: tuple[Any, ...]) -> int:
        """A number for a series, the same for equal dimensions.

        Raises:
            Unusable: the series has no meter or no type.
        """
        try:
            known = self._codes.get(given)
        except TypeError:
            known = None
        if known is not None:
            return known
        texts = tuple(each if each is None or type(each) is str else _text(each) for each in given)
        source, meter, type_, unit, resource_id, project_id, user_id = texts
        if not meter or not type_:
            raise Unusable(f"has no {'type' if meter else 'meter'}")
        # 1, 1.0 and True are the same key in Python but different texts, so only texts are cached as they come.
        code = self._codes.get(texts)
        if code is None:
            code = self._codes[texts] = len(self._dimensions)
            self._dimensions.append((source, meter, type_, unit, resource_id, project_id, user_id))
            self._series.append(identity.series_id(source, meter, type_, unit, resource_id, project_id, user_id))
        return code

    def time(self, text: Any) -> int:
        """Microseconds since the epoch, UTC, of a timestamp.

        Raises:
            ValueError: it is malformed.
        """
        if type(text) is not str:
            return parse_exact(text)
        moment = self._times.get(text)
        if moment is None:
            moment = parse_exact(text)
            if len(self._times) >= _TIMES_LIMIT:
                self._times.clear()
            if 0 <= moment <= LATEST:
                self._times[text] = moment
        return moment

    def metadata_id(self, snapshot: Any) -> int | None:
        """Keep a snapshot and return its id; None for None."""
        if snapshot is None:
            return None
        canonical = canonical_json(snapshot)
        known = identity.metadata_id(canonical)
        if known not in self.metadata:
            self.metadata[known] = canonical
        return known

    # -- blocks, made by definitions --------------------------------------------------------------------------

    def stage(
        self,
        blocks: Sequence[Block],
        rows: Sequence[int],
        message_ids: Sequence[str],
        source: str,
        warns: Sequence[list[str]],
        *,
        repeats: bool,
    ) -> list[Staged]:
        """The samples of a batch of notifications, ready to be added. Those that cannot be kept are left out.

        Args:
            blocks: the samples by meter.
            rows: the row of each notification of the batch in the table.
            message_ids: the ids of the notifications.
            source: the source of the samples.
            warns: for each notification, a list to which the reasons of samples that are left out are appended.
            repeats: whether a notification can yield several samples of one name.

        Raises:
            ValueError: a timestamp is malformed. As in Ceilometer, all samples of its message are then lost.
        """
        moments: dict[int, array[int]] = {}
        for block in blocks:
            if id(block.timestamp) not in moments:
                moments[id(block.timestamp)] = self._moments_of(block.timestamp)
        if not blocks:
            return []
        batch = _Batch(
            self,
            source,
            array("i", rows),
            message_ids,
            warns,
            moments,
            all(min(column, default=0) >= 0 and max(column, default=0) <= LATEST for column in moments.values()),
            repeats,
        )
        return [batch.staged(block) for block in blocks if block.rows]

    def table(self, notifications: pa.Table) -> pa.Table:
        """All samples, schema `SAMPLES`."""
        rows: Any = np.frombuffer(self._rows, np.int32)
        codes: Any = np.frombuffer(self._row_codes, np.int32)
        columns: dict[str, Any] = {
            "series_id": np.frombuffer(self._series, np.int64)[codes],
            "timestamp": np.frombuffer(self._moments, np.int64),
            "volume": np.frombuffer(self._volumes, np.float64),
            "sample_id": np.frombuffer(self._ids, np.uint64).view(np.int64),
        }
        metadata_ids = pa.array(self._metadata_ids, pa.int64())
        if np.any(rows[1:] < rows[:-1]):
            order = np.argsort(rows, kind="stable")
            rows, codes, metadata_ids = rows[order], codes[order], metadata_ids.take(pa.array(order))
            columns = {name: column[order] for name, column in columns.items()}
        arrays: dict[str, Any] = {name: pa.array(column) for name, column in columns.items()}
        arrays["arrival_hour"] = taken(notifications, "arrival_hour", rows)
        arrays["recorded_at"] = taken(notifications, "received_at", rows)
        arrays["metadata_id"] = metadata_ids
        arrays["origin"] = _origins(notifications["event_type"], rows)
        by_code = list(zip(*self._dimensions, strict=True)) or [()] * len(DIMENSIONS)
        places = pa.array(codes)
        for name, values in zip(DIMENSIONS, by_code, strict=True):
            arrays[name] = pa.array(values, pa.string()).take(places)
        return pa.table({field.name: arrays[field.name].cast(field.type) for field in SAMPLES}, schema=SAMPLES)


class _Batch:
    """The data that the blocks of one batch of notifications share while they are staged."""

    def __init__(
        self,
        columns: SampleColumns,
        source: str,
        rows: "array[int]",
        message_ids: Sequence[str],
        warns: Sequence[list[str]],
        moments: dict[int, "array[int]"],
        in_range: bool,
        repeats: bool,
    ) -> None:
        self.columns = columns
        self.source = source
        self.rows = rows
        self.message_ids = message_ids
        self.warns = warns
        self.moments = moments
        self.in_range = in_range
        self.ordinals: dict[tuple[int, str], int] | None = {} if repeats else None
        self.metadata: dict[int, list[int | None]] = {}
        self.owners: dict[tuple[int, int, int], list[int]] = {}
        self.heads: list[bytes] | None = None

    def staged(self, block: Block) -> Staged:
        if self.ordinals is None and self.in_range and block.literals and len(block.rows) == len(self.rows):
            try:
                return self._whole(block, block.literals)
            except (TypeError, OverflowError, Unusable):
                pass
        return self._one_by_one(block)

    def _whole(self, block: Block, literals: tuple[str, str, str]) -> Staged:
        """One sample of each notification, in loops that run in C.

        Raises:
            TypeError, OverflowError, Unusable: one of them is unusual.
        """
        volumes = array("d", block.volume)
        if self.heads is None:
            self.heads = identity.sample_id_heads(self.message_ids)
        return Staged(
            self.rows,
            array("i", self.columns.codes_of_meter((self.source, *literals), self._owners(block))),
            self.moments[id(block.timestamp)],
            volumes,
            identity.sample_ids(self.heads, literals[0]),
            self._metadata_ids(block),
        )

    def _owners(self, block: Block) -> list[int]:
        key = (id(block.resource_id), id(block.project_id), id(block.user_id))
        found = self.owners.get(key)
        if found is None:
            columns = (block.resource_id, block.project_id, block.user_id)
            if not all(_TEXT_OR_NOTHING.issuperset(map(type, column)) for column in columns):
                raise Unusable("has a resource, project or user that is not text")
            found = self.owners[key] = self.columns.owners_of(zip(*columns, strict=True))
        return found

    def _metadata_ids(self, block: Block) -> list[int | None]:
        found = self.metadata.get(id(block.metadata))
        if found is None:
            found = self.metadata[id(block.metadata)] = list(map(self.columns.metadata_id, block.metadata))
        return found

    def _one_by_one(self, block: Block) -> Staged:
        moments = self.moments[id(block.timestamp)]
        staged = Staged(array("i"), array("i"), array("q"), array("d"), array("Q"), kept := [])
        for at, place in enumerate(block.rows):
            name, resource_id = block.name[at], block.resource_id[at]
            try:
                volume = number(block.volume[at])
                in_range(moments[at])
                if type(name) is not str or not name:
                    raise Unusable(f"a sample has no name but {name!r}")
                code = self.columns.code(
                    (
                        self.source,
                        name,
                        block.type[at],
                        block.unit[at],
                        resource_id,
                        block.project_id[at],
                        block.user_id[at],
                    )
                )
            except Unusable as error:
                self.warns[place].append(dropped(name, resource_id, block.timestamp[at], str(error)))
                continue
            ordinal = 0
            if self.ordinals is not None:
                ordinal = self.ordinals.get((place, name), 0)
                self.ordinals[place, name] = ordinal + 1
            staged.rows.append(self.rows[place])
            staged.codes.append(code)
            staged.moments.append(moments[at])
            staged.volumes.append(volume)
            staged.ids.append(identity.sample_id(self.message_ids[place], name, ordinal) & _UNSIGNED)
            kept.append(self.columns.metadata_id(block.metadata[at]))
        return staged


def _origins(event_types: pa.ChunkedArray, rows: Any) -> pa.Array:
    """Where the samples that notifications yielded came from, by the rows of these."""
    posted = pc.fill_null(pc.equal(event_types, POSTED_EVENT), False)
    if not pc.any(posted).as_py():
        return pa.repeat(CONVERTED, len(rows))
    return pc.if_else(posted.combine_chunks().take(pa.array(rows)), POSTED, CONVERTED)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces. Numbers that are not finite are null."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an integer of more than 64 bits, or nesting that is too deep for orjson
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def in_range(moment: int) -> int:
    """The moment itself, if it is in range.

    Raises:
        Unusable: it is out of range.
    """
    if not 0 <= moment <= LATEST:
        raise Unusable("has a timestamp outside the years 1970 to 2262")
    return moment


def number(volume: Any) -> float:
    """A volume as a number. A text is parsed.

    Raises:
        Unusable: it is not a number.
    """
    if type(volume) is float:
        return volume
    if volume is None:
        raise Unusable("has no volume (volume: None)")
    try:
        if isinstance(volume, (int, float, str)):
            return float(volume)
    except OverflowError:
        raise Unusable("has a volume that is too large for a float") from None
    except ValueError:
        pass
    raise Unusable(f"has volume which is not a number (volume: {volume!s:.100})")


def dropped(name: Any, resource_id: Any, timestamp: Any, reason: str) -> str:
    """The warning about a sample that is left out, with Ceilometer's text."""
    moment = _iso(timestamp) if type(timestamp) is str else parse_datetime(timestamp).isoformat()
    return f"metering data {name} for {resource_id} @ {moment} {reason}, the sample will be dropped"


@lru_cache(maxsize=4096)
def _iso(timestamp: str) -> str:
    return parse_datetime(timestamp).isoformat()


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (int, float)) else canonical_json(value).decode()
