"""Reads files of samples into columns that are in one piece, with texts as dictionaries.

Files of an hour often hold the same series in the same order. What is the same is not decoded twice: a column that has
one value by its bounds is not read at all. A column whose pages are, byte for byte, those of the file before is that
file's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.stores.lake_tables import columns_of_files

if TYPE_CHECKING:
    from meterhouse.stores.lake import Lake

TABLE: Final = "samples"

SCHEMA: Final = columns_of_files(TABLE)

TEXTS: Final = [column.name for column in SCHEMA if pa.types.is_string(column.type)]

BY_SERIES: Final = {*TEXTS, "series_id", "metadata_id", "sample_id"}
"""Columns that are likely to have one value for each series."""

_KINDS: Final = {
    column.name: pa.dictionary(pa.int32(), column.type) if column.name in TEXTS else column.type for column in SCHEMA
}


def read(lake: "Lake", paths: Sequence[str]) -> pa.Table:
    """The rows of files, one file after the other.

    Args:
        lake: the lake.
        paths: of the files, as Delta has them.

    Returns:
        All columns of the table's files, each in one chunk. Columns that a file lacks are null.

    Raises:
        MeterhouseError: a file cannot be read.
    """
    reader = _Reader()
    for path in paths:
        try:
            with opened(lake, path) as handle:
                reader.add(handle)
        except (OSError, pa.ArrowException) as error:
            raise lake.file_fault(TABLE, path, error) from error
    return pa.table({name: _joined(kind, reader.pieces[name]) for name, kind in _KINDS.items()})


def opened(lake: "Lake", path: str) -> Any:
    """A data file, opened so that reading needs no Python."""
    target = f"{lake.uri(TABLE)}/{unquote(path)}"
    return lake.filesystem.open(target) if lake.object_store is not None else pa.OSFile(target)


def parquet(handle: Any) -> pq.ParquetFile:
    """An opened file, whose texts are read as dictionaries if Arrow can: it cannot read other writers' encodings so."""
    try:
        file = pq.ParquetFile(handle, read_dictionary=TEXTS)
    except KeyError:  # a file of an earlier release lacks a column
        known = pq.ParquetFile(handle)
        there = [name for name in TEXTS if name in known.metadata.schema.names]
        file = pq.ParquetFile(handle, metadata=known.metadata, read_dictionary=there)
    return file if _is_arrows(file) else pq.ParquetFile(handle, metadata=file.metadata)


def row_group(file: pq.ParquetFile, number: int) -> dict[str, pa.Array]:
    """The columns of a row group, each in one piece."""
    rows = file.read_row_group(number, use_threads=False)
    return {name: whole(_of_kind(rows[name], kind)) for name, kind in _KINDS.items()}


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, without a copy if it is in one already."""
    if column.num_chunks == 1:
        return column.chunk(0)
    if not pa.types.is_dictionary(column.type):
        return column.combine_chunks()
    first, *others = [chunk.dictionary for chunk in column.chunks] or [pa.array([], column.type.value_type)]
    if all(other.equals(first) for other in others):  # as files of the same series have them
        codes = pa.chunked_array([chunk.indices for chunk in column.chunks], column.type.index_type)
        return pa.DictionaryArray.from_arrays(codes.combine_chunks(), first)
    return column.unify_dictionaries().combine_chunks()


def _is_arrows(file: pq.ParquetFile) -> bool:
    return bool(file.metadata.created_by.startswith("parquet-cpp"))


def _of_kind(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else column.cast(kind)


@dataclass(frozen=True)
class _Constant:
    """A column that has one value in all rows; None is null."""

    value: Any
    rows: int

    def array(self, kind: pa.DataType) -> pa.Array:
        if self.value is None:
            return pa.nulls(self.rows, kind)
        if not pa.types.is_dictionary(kind):
            return pa.repeat(pa.scalar(self.value, kind), self.rows)
        codes = pa.array(np.zeros(self.rows, np.int32))
        return pa.DictionaryArray.from_arrays(codes, pa.array([self.value], kind.value_type))


@dataclass(frozen=True)
class _Pages:
    """The bytes of a column in a file, by row group, and what they hold."""

    parts: list[bytes]
    column: pa.ChunkedArray


@dataclass
class _Reader:
    """Reads files, one after the other."""

    pieces: dict[str, list[pa.ChunkedArray | _Constant]] = field(default_factory=lambda: {name: [] for name in _KINDS})
    _last: dict[str, _Pages] = field(default_factory=dict)

    def add(self, handle: Any) -> None:
        """Read a file."""
        file = parquet(handle)
        metadata, names = file.metadata, file.metadata.schema.names
        found: dict[str, pa.ChunkedArray | _Constant] = {
            name: _Constant(None, metadata.num_rows) for name in _KINDS if name not in names
        }
        parts: dict[str, list[bytes]] = {}
        if _is_arrows(file):  # other writers shorten bounds
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            for place, name in enumerate(names):
                if name in BY_SERIES:
                    chunks = [group.column(place) for group in groups]
                    bounds = _bounds(chunks)
                    if len(bounds) == 1:
                        found[name] = _Constant(bounds.pop(), metadata.num_rows)
                    elif isinstance(handle, pa.NativeFile) and name != "sample_id":
                        parts[name] = [_pages(handle, chunk) for chunk in chunks]
                        last = self._last.get(name)
                        if last is not None and last.parts == parts[name]:
                            found[name] = last.column
        rows = file.read([name for name in _KINDS if name not in found], use_threads=False)
        for name, kind in _KINDS.items():
            if name not in found:
                found[name] = column = _of_kind(rows[name], kind)
                if name in parts:
                    self._last[name] = _Pages(parts[name], column)
            self.pieces[name].append(found[name])


def _bounds(chunks: list[pq.ColumnChunkMetaData]) -> set[Any]:
    """The lowest and the highest value, None if all are null; nothing or more than one if there is more to know."""
    found = set[Any]()
    for chunk in chunks:
        known = chunk.statistics
        if known is None or not known.has_null_count:
            return set()
        if known.null_count == chunk.num_values:
            found.add(None)
        elif known.null_count or not known.has_min_max:
            return set()
        else:
            found |= {known.min, known.max}
        if len(found) > 1:
            break
    return found


def _pages(handle: pa.NativeFile, chunk: pq.ColumnChunkMetaData) -> bytes:
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    pages: bytes = handle.read_at(chunk.total_compressed_size, start)
    return pages + str(chunk.compression).encode()


def _joined(kind: pa.DataType, pieces: list[pa.ChunkedArray | _Constant]) -> pa.Array:
    constants = [piece for piece in pieces if isinstance(piece, _Constant)]
    if len(constants) == len(pieces) and len({piece.value for piece in constants}) == 1:
        return _Constant(constants[0].value, sum(piece.rows for piece in constants)).array(kind)
    chunks: list[pa.Array] = []
    for piece in pieces:
        chunks += [piece.array(kind)] if isinstance(piece, _Constant) else piece.chunks
    return whole(pa.chunked_array(chunks, kind))
