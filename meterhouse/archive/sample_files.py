"""Compacted files of samples: equal points once, in order, a meter to a row group, each column as small as it gets.

Points are sorted by meter, series and time. Of equal points, the one that counts stays (`meterhouse.equal_points`). The
random `sample_id` of gauges and counters, which nothing compresses, is dropped: series, time and volume identify them.
Every other value stays. Files are read back, and each column of each row group is compared with what was to be written.
"""

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from meterhouse import equal_points
from meterhouse.errors import MeterhouseError
from meterhouse.stores import lake_cuts
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_order import Integers, Places, integers, ranks, series_of
from meterhouse.stores.lake_statistics import Statistics
from meterhouse.stores.lake_tables import columns_of_files
from meterhouse.stores.parquet_groups import GroupWriter, smallest

if TYPE_CHECKING:
    from meterhouse.stores.lake import Lake

TABLE: Final = "samples"

MAX_IN_GROUP: Final = 1 << 19
"""Maximum number of rows of a row group. A group has its own dictionaries: many small ones would take room."""

FEW: Final = 1 << 12
"""A meter with fewer rows shares a row group with its neighbours: a group costs some 2 kB."""

_SCHEMA: Final = columns_of_files(TABLE)
_TEXTS: Final = [column.name for column in _SCHEMA if pa.types.is_string(column.type)]
_OTHERWISE: Final = {
    "volume": "BYTE_STREAM_SPLIT",
    "timestamp": "DELTA_BINARY_PACKED",
    "recorded_at": "DELTA_BINARY_PACKED",
}
"""By column: its encoding where a dictionary would be larger; PLAIN for others. Time steps by even distances."""

_UNBOUNDED: Final = set(_TEXTS) - {"meter"}
"""Columns whose bounds in a row group would let nobody skip it."""


@dataclass(frozen=True)
class Written:
    """Files that are not committed yet.

    Attributes:
        files: the files.
        rows: how many rows they have, all together.
        duplicates: how many rows were copies of others.
    """

    files: list[DataFile]
    rows: int
    duplicates: int


def rewrite(lake: "Lake", hour: str, paths: list[str], name: str) -> Written:
    """Write the rows of files of an arrival hour into compacted files.

    Args:
        lake: the lake.
        hour: the arrival hour.
        paths: of the files, as Delta has them.
        name: of the new files, without number and ending.

    Raises:
        MeterhouseError: a file cannot be read or written, or what was written is not what is read back.
    """
    rows = _read(lake, paths)
    files: list[DataFile] = []
    count = 0
    try:
        for number, part in enumerate(_parts(hour, rows)):
            order = _order(rows, part)
            files.append(_write(lake, hour, f"arrival_hour={hour}/{name}-{number}.zstd.parquet", _groups(rows, order)))
            count += len(order)
    except BaseException:
        with suppress(MeterhouseError):  # what is raised says why; upkeep deletes what no commit names
            lake.discard(TABLE, files)
        raise
    return Written(files, count, len(rows) - count)


def _read(lake: "Lake", paths: list[str]) -> pa.Table:
    """The rows of files, with texts as dictionaries that all share."""
    pieces = []
    for path in paths:
        try:
            with _opened(lake, path) as handle:
                pieces.append(_columns(_parquet(handle)))
        except (OSError, pa.ArrowException) as error:
            raise lake.file_fault(TABLE, path, error) from error
    return pa.concat_tables(pieces).unify_dictionaries().combine_chunks()


def _parquet(handle: Any) -> pq.ParquetFile:
    """An opened file, whose texts are read as dictionaries if Arrow can: it cannot read other writers' encodings so."""
    known = pq.ParquetFile(handle)
    if not known.metadata.created_by.startswith("parquet-cpp"):
        return known
    return pq.ParquetFile(handle, metadata=known.metadata, read_dictionary=_TEXTS)


def _columns(file: pq.ParquetFile, group: int | None = None) -> pa.Table:
    """All columns of a file or of a row group; those that it lacks are null."""
    names = set(file.schema_arrow.names)
    there = [name for name in _SCHEMA.names if name in names]
    rows = (
        file.read(there, use_threads=False) if group is None else file.read_row_group(group, there, use_threads=False)
    )
    columns = {}
    for column in _SCHEMA:
        kind = pa.dictionary(pa.int32(), column.type) if column.name in _TEXTS else column.type
        if column.name not in names:
            columns[column.name] = pa.nulls(len(rows), kind)
        else:
            found = rows[column.name]
            columns[column.name] = found if found.type == kind else found.cast(kind)
    return pa.table(columns)


def _parts(hour: str, rows: pa.Table) -> Iterator[Places | None]:
    """The places of the rows of each file: those whose time is far from their arrival are apart. None means all."""
    moments = rows["timestamp"].cast(pa.int64())
    bounds = pc.min_max(moments)
    if not len(rows) or bounds["min"].as_py() is None:
        yield None
        return
    ends = np.array([bounds["min"].as_py(), bounds["max"].as_py()], np.int64) // lake_cuts.MICROS
    if lake_cuts.all_near(hour, ends):
        yield None
        return
    hours = pc.fill_null(moments, bounds["min"]).to_numpy() // lake_cuts.MICROS
    place = np.searchsorted(lake_cuts.cuts(hour, hours), hours, side="right")
    for number in np.unique(place):
        yield np.flatnonzero(place == number)


def _order(rows: pa.Table, part: Places | None) -> Places:
    """The places of the rows that stay, in order: by meter, series and time.

    Raises:
        MeterhouseError: a row would be lost.
    """
    chosen = rows if part is None else rows.take(pa.array(part))
    place, moment = series_places(chosen), integers(chosen["timestamp"])
    order = _sorted_by(place, moment)
    in_turn, at = place[order], moment[order]
    repeated = (in_turn[1:] == in_turn[:-1]) & (at[1:] == at[:-1])
    if repeated.any():
        order = _without_copies(chosen, order, place, moment, repeated)
    return order if part is None else part[order]


def series_places(rows: pa.Table) -> Integers:
    """For each row, the place of its series among those of the rows, by meter and id."""
    codes, ids, meters = series_of(rows)
    place = np.empty(len(ids), np.int64)
    place[np.lexsort((ids, ranks(meters.cast(pa.string()))))] = np.arange(len(ids))
    by_row: Integers = place[codes]
    return by_row


def _sorted_by(place: Integers, moment: Integers) -> Places:
    if not len(place):
        return np.arange(0)
    low, width = int(moment.min()), int(moment.max()) - int(moment.min()) + 1
    if (int(place.max()) + 1) * width > equal_points.NULL:  # the key would not fit
        return np.lexsort((moment, place))
    return np.argsort(place * width + (moment - low), kind="stable")  # files are sorted: their runs are merged


def _without_copies(
    rows: pa.Table, order: Places, place: Integers, moment: Integers, repeated: npt.NDArray[np.bool_]
) -> Places:
    """The order without the copies of points. `repeated`: whether a row has the series and time of the one before."""
    crowded = np.zeros(len(order), np.bool_)
    crowded[1:] |= repeated
    crowded[:-1] |= repeated
    slots = np.flatnonzero(crowded)
    among = order[slots]
    first = among[_counting(rows.take(pa.array(among)), place[among], moment[among])]
    # Rows of one series and time have neighbouring slots: those that stay take the first of these.
    starts = np.flatnonzero(np.concatenate([[True], ~repeated[slots[1:] - 1] | (np.diff(slots) > 1)]))
    opens = np.ones(len(first), np.bool_)
    opens[1:] = (place[first[1:]] != place[first[:-1]]) | (moment[first[1:]] != moment[first[:-1]])
    group = np.cumsum(opens) - 1
    taken = slots[starts[group] + np.arange(len(first)) - np.flatnonzero(opens)[group]]
    stays = ~crowded
    stays[taken] = True
    order = order.copy()
    order[taken] = first
    return order[stays]


def _counting(rows: pa.Table, place: Integers, moment: Integers) -> Places:
    return equal_points.counting(
        place,
        moment,
        pc.fill_null(rows["volume"], np.nan).to_numpy(),
        integers(rows["sample_id"]),
        integers(rows["recorded_at"]),
        integers(rows["metadata_id"]),
        is_delta(rows["type"]),
    )


def is_delta(kinds: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Whether each row is a delta. `kinds`: a dictionary of types."""
    column = kinds.combine_chunks()
    by_code = np.array([kind == "delta" for kind in column.dictionary.to_pylist()] + [False], np.bool_)
    found: npt.NDArray[np.bool_] = by_code[column.indices.fill_null(len(by_code) - 1).to_numpy()]
    return found


def _write(lake: "Lake", hour: str, path: str, groups: Iterator[pa.Table]) -> DataFile:
    """Write row groups into a file, and compare it with them."""
    target = f"{lake.uri(TABLE)}/{path}"
    try:
        if lake.object_store is not None:
            buffer = io.BytesIO()
            draft = _write_groups(buffer, groups)
            lake.object_store.pipe_file(target, buffer.getvalue())
        else:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            with Path(target).open("wb") as handle:
                draft = _write_groups(handle, groups)
        _compare(lake, path, draft.prints)
    except OSError as error:
        _delete(lake, target)
        raise lake.unreachable(TABLE, error) from error
    except BaseException:
        _delete(lake, target)
        raise
    return DataFile(path, draft.size, {"arrival_hour": hour}, draft.statistics)


def _delete(lake: "Lake", target: str) -> None:
    with suppress(OSError):  # there may be no file, and the error on its way says more
        lake.filesystem.rm_file(target)


@dataclass(frozen=True)
class _Draft:
    size: int
    statistics: str
    prints: list[list[int]]


def _write_groups(handle: Any, groups: Iterator[pa.Table]) -> _Draft:
    writer, known = GroupWriter(handle, _SCHEMA), Statistics()
    prints = []
    for rows in groups:
        columns = {name: whole(rows[name]) for name in _SCHEMA.names}
        chunks = [
            smallest(name, column, _OTHERWISE.get(name, "PLAIN"), bounds=name not in _UNBOUNDED)
            for name, column in columns.items()
        ]
        writer.add(chunks, len(rows))
        known.add(rows)
        prints.append([fingerprint(column) for column in columns.values()])
    return _Draft(writer.close(), known.text(), prints)


def _groups(rows: pa.Table, order: Places) -> Iterator[pa.Table]:
    """The row groups of a file, with texts as compact dictionaries and ids of samples only where they are needed."""
    columns = {name: _Column.of(rows[name]) for name in _SCHEMA.names}
    deltas = is_delta(rows["type"])
    for start, end in _bounds(columns["meter"].values[order]):
        places = order[start:end]
        taken = {name: column.taken(places) for name, column in columns.items()}
        without = ~deltas[places]
        taken["sample_id"] = taken["sample_id"].without(without)
        yield pa.table({name: column.array() for name, column in taken.items()})


@dataclass(frozen=True)
class _Column:
    """A column as NumPy arrays: its values or a dictionary's codes, and which are null, or None."""

    kind: pa.DataType
    values: npt.NDArray[Any]
    null: npt.NDArray[np.bool_] | None
    dictionary: pa.Array | None = None

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "_Column":
        array = whole(column)
        null = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
        if pa.types.is_dictionary(array.type):
            return cls(array.type, array.indices.fill_null(0).to_numpy(), null, array.dictionary)
        kind = array.type if pa.types.is_floating(array.type) else pa.int64()
        return cls(array.type, array.view(kind).fill_null(0).to_numpy(), null)

    def taken(self, places: Places) -> "_Column":
        null = None if self.null is None else self.null[places]
        return _Column(self.kind, self.values[places], null, self.dictionary)

    def without(self, gone: npt.NDArray[np.bool_]) -> "_Column":
        """The same with nulls in some places."""
        return _Column(self.kind, np.where(gone, 0, self.values), gone if self.null is None else gone | self.null)

    def array(self) -> pa.Array:
        """As Arrow has it; a dictionary is compact."""
        if self.dictionary is None:
            return pa.array(self.values, mask=self.null).view(self.kind)
        used = np.zeros(len(self.dictionary), np.bool_)
        used[self.values if self.null is None else self.values[~self.null]] = True
        codes = (np.cumsum(used, dtype=np.int32) - 1)[self.values] if len(used) else self.values
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=self.null), self.dictionary.filter(pa.array(used)))


def _bounds(meters: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Where row groups start and end, by the sorted rows' meters: those with few rows share one."""
    starts = [0, *(np.flatnonzero(np.diff(meters)) + 1).tolist(), len(meters)]
    shared = 0
    for start, end in pairwise(starts):
        if end - start < FEW:
            if start - shared >= 4 * FEW:
                yield shared, start
                shared = start
            continue
        if shared < start:
            yield shared, start
        pieces = -(-(end - start) // MAX_IN_GROUP)
        yield from pairwise(start + (end - start) * number // pieces for number in range(pieces + 1))
        shared = end
    if shared < len(meters):
        yield shared, len(meters)


def fingerprint(column: pa.Array) -> int:
    """A hash of a column's values, in order. Nulls differ from all values, and each NaN from the others."""
    if pa.types.is_dictionary(column.type):
        hashes = [xxhash.xxh3_64_intdigest(text) for text in column.dictionary.cast(pa.binary()).to_pylist()]
        by_code = np.array([*hashes, 0], np.uint64)
        return xxhash.xxh3_64_intdigest(memoryview(by_code[column.indices.fill_null(len(hashes)).to_numpy()]))
    nulls = b"" if not column.null_count else np.packbits(column.is_null().to_numpy(zero_copy_only=False)).tobytes()
    numbers = column if pa.types.is_floating(column.type) else column.view(pa.int64())
    values = memoryview(numbers.fill_null(0).to_numpy())
    return xxhash.xxh3_64_intdigest(values) ^ xxhash.xxh3_64_intdigest(nulls, seed=1)


def _compare(lake: "Lake", path: str, prints: list[list[int]]) -> None:
    """Read a file back, and compare the columns of each row group.

    Raises:
        MeterhouseError: it is not what was written.
    """
    target = f"{lake.uri(TABLE)}/{path}"
    with _opened(lake, path) as handle:
        file = _parquet(handle)
        found = file.num_row_groups == len(prints)
        for number, expected in enumerate(prints if found else []):
            rows = _columns(file, number)
            if [fingerprint(whole(rows[name])) for name in _SCHEMA.names] != expected:
                found = False
                break
    if not found:
        raise MeterhouseError(
            "the compacted file differs from the rows that were to be written; nothing was replaced",
            where=target,
            hint="Check the disk or object store, and compact the hour again",
        )


def _opened(lake: "Lake", path: str) -> Any:
    """A data file, opened so that reading needs no Python."""
    target = f"{lake.uri(TABLE)}/{unquote(path)}"
    return lake.filesystem.open(target) if lake.object_store is not None else pa.OSFile(target)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, without a copy if it is in one already."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return (
        column.unify_dictionaries().combine_chunks() if pa.types.is_dictionary(column.type) else column.combine_chunks()
    )
