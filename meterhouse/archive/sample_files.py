"""Compacted files of samples: equal points once, in order, a meter to a row group, each column as small as it gets.

Points are sorted by meter, series and time. Of equal points, the one that counts stays (`meterhouse.equal_points`). The
random `sample_id` of gauges and counters, which nothing compresses, is dropped: series, time and volume identify them.
Every other value stays. Files are read back, and each column of each row group is compared with what was to be written.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from meterhouse import equal_points
from meterhouse.archive.sample_reading import BY_SERIES, SCHEMA, TABLE, TEXTS, opened, parquet, read, row_group, whole
from meterhouse.errors import MeterhouseError
from meterhouse.stores import lake_cuts, page_index
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_order import Integers, Places, integers, ranks, series_of
from meterhouse.stores.lake_statistics import Statistics
from meterhouse.stores.parquet_groups import Chunk, GroupWriter, Runs, smallest

if TYPE_CHECKING:
    from meterhouse.stores.lake import Lake

MAX_IN_GROUP: Final = 1 << 19
"""Maximum number of rows of a row group. A group has its own dictionaries: many small ones would take room."""

FEW: Final = 1 << 12
"""A meter with fewer rows shares a row group with its neighbours: a group costs some 2 kB."""

SMALL_PAGE: Final = 1 << 13
"""Number of rows of a page: whoever reads one series decodes few others."""

LARGE_PAGE: Final = 1 << 15
"""Number of rows of a page where more is found that repeats: then small pages would take TOO_MUCH."""

TOO_MUCH: Final = 0.2
"""Bytes a point."""

_OTHERWISE: Final = {
    "volume": "BYTE_STREAM_SPLIT",
    "timestamp": "DELTA_BINARY_PACKED",
    "recorded_at": "DELTA_BINARY_PACKED",
}
"""By column: its encoding where a dictionary would be larger; PLAIN for others. Time steps by even distances."""

_BOUNDED: Final = {*SCHEMA.names} - {*TEXTS} | {"meter"}
"""Columns whose bounds in a row group let readers skip it."""


_Group = Mapping[str, pa.Array | Runs]
"""The columns of a row group."""


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
    rows = read(lake, paths)
    files: list[DataFile] = []
    count = 0
    try:
        for number, part in enumerate(_parts(hour, rows)):
            turn = _turn(part)
            files.append(_write(lake, hour, f"arrival_hour={hour}/{name}-{number}.zstd.parquet", _groups(part, turn)))
            count += len(turn.order)
    except BaseException:
        with suppress(MeterhouseError):  # what is raised says why; upkeep deletes what no commit names
            lake.discard(TABLE, files)
        raise
    return Written(files, count, len(rows) - count)


def _parts(hour: str, rows: pa.Table) -> Iterator[pa.Table]:
    """The rows of each file: those whose time is far from their arrival are apart."""
    moments = rows["timestamp"].cast(pa.int64())
    bounds = pc.min_max(moments)
    if not len(rows) or bounds["min"].as_py() is None:
        yield rows
        return
    ends = np.array([bounds["min"].as_py(), bounds["max"].as_py()], np.int64) // lake_cuts.MICROS
    if lake_cuts.all_near(hour, ends):
        yield rows
        return
    hours = pc.fill_null(moments, bounds["min"]).to_numpy() // lake_cuts.MICROS
    place = np.searchsorted(lake_cuts.cuts(hour, hours), hours, side="right")
    for number in np.unique(place):
        yield rows.filter(pa.array(place == number))


@dataclass(frozen=True)
class _Turn:
    """The order of rows: by meter, series and time.

    Attributes:
        place: for each row, the place of its series among those of the rows.
        order: the places of the rows that stay, in order.
        starts: where each series starts in `order`; shape (series + 1,), the last is the number of rows that stay.
    """

    place: Integers
    order: Places
    starts: Places

    def series(self, start: int, end: int) -> tuple[slice, Integers]:
        """The series whose rows are in a part of the order, and how many rows of each."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        last = int(np.searchsorted(self.starts, end, side="left"))
        return slice(first, last), np.diff(np.clip(self.starts[first : last + 1], start, end)).astype(np.int64)


def _turn(rows: pa.Table) -> _Turn:
    """The order of the rows, without copies of points."""
    place, moment = series_places(rows), integers(rows["timestamp"])
    order = _sorted_by(place, moment)
    in_turn, at = place[order], moment[order]
    repeated = (in_turn[1:] == in_turn[:-1]) & (at[1:] == at[:-1])
    if repeated.any():
        order = _without_copies(rows, order, place, moment, repeated)
        in_turn = place[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(in_turn)) + 1, [len(order)]])
    return _Turn(place, order, starts)


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


def _write(lake: "Lake", hour: str, path: str, groups: Iterator[_Group]) -> DataFile:
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


def _write_groups(handle: Any, groups: Iterator[_Group]) -> _Draft:
    writer, known, pages = GroupWriter(handle, SCHEMA), Statistics(), page_index.Pages()
    prints = []
    for group in groups:
        chunks, page = _chunks(group)
        rows = pa.table(
            {name: column.array() if isinstance(column, Runs) else column for name, column in group.items()}
        )
        places = writer.add([chunks[name] for name in SCHEMA.names], len(rows))
        pages.add(rows, chunks, dict(zip(SCHEMA.names, places, strict=True)), page)
        known.add(rows)
        prints.append([fingerprint(whole(rows[name]), chunks[name].has_dictionary) for name in SCHEMA.names])
    return _Draft(writer.close({page_index.KEY: pages.index().text()}), known.text(), prints)


def _chunks(group: _Group) -> tuple[dict[str, Chunk], int]:
    """What is written of a row group, and the number of rows of its pages."""
    chunks = smallest(group, _OTHERWISE, _BOUNDED, page_index.COLUMNS, SMALL_PAGE)
    column = group["volume"]
    rows = int(column.lengths.sum()) if isinstance(column, Runs) else len(column)
    if rows > SMALL_PAGE:
        volume = smallest({"volume": column}, _OTHERWISE, _BOUNDED, (), LARGE_PAGE)["volume"]
        if chunks["volume"].pages.size - volume.pages.size > TOO_MUCH * rows:
            return smallest(group, _OTHERWISE, _BOUNDED, page_index.COLUMNS, LARGE_PAGE), LARGE_PAGE
    return chunks, SMALL_PAGE


def _groups(rows: pa.Table, turn: _Turn) -> Iterator[_Group]:
    """The row groups of a file, with texts as compact dictionaries and ids of samples only where they are needed."""
    without = pc.if_else(pa.array(is_delta(rows["type"])), rows["sample_id"], None)
    rows = rows.set_column(rows.column_names.index("sample_id"), "sample_id", without)
    columns = {name: _column(rows[name], turn, by_series=name in BY_SERIES) for name in SCHEMA.names}
    for start, end in _bounds(columns["meter"].codes(turn)):
        yield {name: column.part(turn, start, end) for name, column in columns.items()}


@dataclass(frozen=True)
class _Column:
    """A column as NumPy arrays.

    Attributes:
        kind: its type in Arrow.
        values: the values or a dictionary's codes, by row.
        null: which of them are null; None if none is.
        dictionary: the dictionary, or None.
        by_series: whether `values` and `null` are by series instead: each series has one value.
    """

    kind: pa.DataType
    values: npt.NDArray[Any]
    null: npt.NDArray[np.bool_] | None
    dictionary: pa.Array | None
    by_series: bool

    def codes(self, turn: _Turn) -> npt.NDArray[Any]:
        """The values of all rows, in order."""
        return np.repeat(self.values, np.diff(turn.starts)) if self.by_series else self.values[turn.order]

    def part(self, turn: _Turn, start: int, end: int) -> pa.Array | Runs:
        """Some rows, in order, as Arrow has them; a dictionary is compact."""
        if self.by_series:
            places, counts = turn.series(start, end)
            return Runs(self._array(places), counts)
        return self._array(turn.order[start:end])

    def _array(self, places: Places | slice) -> pa.Array:
        values, null = self.values[places], None if self.null is None else self.null[places]
        if self.dictionary is None:
            return pa.array(values, mask=null).view(self.kind)
        used = np.zeros(len(self.dictionary), np.bool_)
        used[values if null is None else values[~null]] = True
        codes = (np.cumsum(used, dtype=np.int32) - 1)[values] if len(used) else values
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=null), self.dictionary.filter(pa.array(used)))


def _column(column: pa.ChunkedArray, turn: _Turn, *, by_series: bool) -> _Column:
    """A column; `by_series` says to find out whether each series has one value."""
    array = whole(column)
    null = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    dictionary = array.dictionary if pa.types.is_dictionary(array.type) else None
    numbers = array.indices if dictionary is not None else array
    values = _filled(numbers if pa.types.is_floating(numbers.type) else numbers.view(_integer(numbers.type)))
    first = turn.order[turn.starts[:-1]]
    if by_series and _same(values, turn.place, first) and (null is None or _same(null, turn.place, first)):
        return _Column(array.type, values[first], null if null is None else null[first], dictionary, True)
    return _Column(array.type, values, null, dictionary, False)


def _integer(kind: pa.DataType) -> pa.DataType:
    return pa.int32() if kind.bit_width == 32 else pa.int64()


def _same(values: npt.NDArray[Any], place: Integers, first: Places) -> bool:
    """Whether each row has the value of the first one of its series."""
    return bool((values[first][place] == values).all())


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


def fingerprint(column: pa.Array, has_dictionary: bool) -> int:
    """A hash of a column's values, in order. Nulls differ from all values, and each NaN from the others.

    Args:
        column: the column. A dictionary's hash depends on the order of its values.
        has_dictionary: whether the column is in the file as a dictionary, so that it is read back in the same order.
    """
    if column.null_count == len(column):
        return len(column)
    nulls = b"" if not column.null_count else np.packbits(column.is_null().to_numpy(zero_copy_only=False)).tobytes()
    if pa.types.is_dictionary(column.type):
        if not has_dictionary:
            return fingerprint(column.cast(column.type.value_type), has_dictionary)
        return _hash(nulls, _filled(column.indices), *_texts(column.dictionary))
    if pa.types.is_string(column.type):
        return _hash(nulls, *_texts(column.fill_null("")))
    return _hash(nulls, _filled(column if pa.types.is_floating(column.type) else column.view(pa.int64())))


def _hash(*parts: Any) -> int:
    found = xxhash.xxh3_64()
    for part in parts:
        found.update(part)
    return found.intdigest()


def _texts(column: pa.Array) -> tuple[memoryview, bytes]:
    """The lengths of texts, none of which is null, and all their bytes."""
    return memoryview(pc.binary_length(column).to_numpy()), b"".join(column.cast(pa.binary()).to_pylist())


def _filled(column: pa.Array) -> npt.NDArray[Any]:
    """Numbers, with 0 for null; without a copy if there is no null."""
    filled: npt.NDArray[Any] = (column.fill_null(0) if column.null_count else column).to_numpy()
    return filled


def _compare(lake: "Lake", path: str, prints: list[list[int]]) -> None:
    """Read a file back, and compare the columns of each row group.

    Raises:
        MeterhouseError: it is not what was written.
    """
    target = f"{lake.uri(TABLE)}/{path}"
    with opened(lake, path) as handle:
        file = parquet(handle)
        found = file.num_row_groups == len(prints)
        for number, expected in enumerate(prints if found else []):
            columns, chunks = row_group(file, number), file.metadata.row_group(number)
            if [
                fingerprint(columns[name], chunks.column(place).has_dictionary_page)
                for place, name in enumerate(SCHEMA.names)
            ] != expected:
                found = False
                break
    if not found:
        raise MeterhouseError(
            "the compacted file differs from the rows that were to be written; nothing was replaced",
            where=target,
            hint="Check the disk or object store, and compact the hour again",
        )
