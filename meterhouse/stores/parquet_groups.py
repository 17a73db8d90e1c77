"""Parquet files in which each column of each row group has the encoding that makes it smallest.

pyarrow chooses encodings for a whole file. So each column of a row group is written here as a file of its own, in
memory, by pyarrow. Its pages are copied as they are, and one footer names them all. Pages do not know where they are;
only the offsets in the footer change. Source: https://parquet.apache.org/docs/file-format/metadata/
"""

from dataclasses import dataclass, field
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.stores import thrift
from meterhouse.stores.thrift import I64, Items, Struct, Value

MAGIC: Final = b"PAR1"

LEVEL: Final = 3
"""zstd's. Such files are written once and read often, and reading takes the same time at each level."""

SAMPLE: Final = 1 << 14
"""Number of neighbouring values, by whose repeats the encodings to try are chosen."""

_SOME, _MANY = 0.02, 0.9
"""Shares of distinct values: up to the first only a dictionary is tried, from the second on none."""

# Fields of the footer's structs.
_ROWS, _GROUPS = 3, 4
_CHUNK_FILE_OFFSET, _CHUNK_META = 2, 3
_PLAIN_SIZE, _SIZE = 6, 7
_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE = 9, 10, 11

_HOW: Final[dict[str, Any]] = {
    "compression": "zstd",
    "compression_level": LEVEL,
    "store_schema": False,
    "dictionary_pagesize_limit": 1 << 30,
    "row_group_size": 1 << 30,
    "data_page_size": 1 << 22,  # what repeats is found within a page
    "max_rows_per_page": 1 << 20,
}


@dataclass(frozen=True)
class Chunk:
    """The pages of a column of a row group, and the footer's `ColumnChunk`, whose offsets count from 4."""

    pages: pa.Buffer
    footer: Struct


def smallest(name: str, column: pa.Array, otherwise: str, *, bounds: bool) -> Chunk:
    """A column's chunk, with a dictionary or in another encoding, whichever is smaller.

    Args:
        name: the column's.
        column: its values in the row group. A dictionary's values are written as they are, so it should be compact.
        otherwise: the other encoding.
        bounds: whether to write the lowest and the highest value, by which readers skip row groups.
    """
    share = _distinct_share(column)
    known = None
    if share < _MANY:
        known = _chunk(name, column, write_statistics=bounds, use_dictionary=True)
        if share <= _SOME:
            return known
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    how = {"use_dictionary": False, "column_encoding": {name: otherwise}}
    if known is not None:
        some = _middle(column)
        if _chunk(name, some, write_statistics=False, **how).pages.size * len(column) > known.pages.size * len(some):
            return known
    other = _chunk(name, column, write_statistics=bounds, **how)
    return other if known is None or other.pages.size < known.pages.size else known


def _middle(column: pa.Array) -> pa.Array:
    return column.slice(max(len(column) - SAMPLE, 0) // 2, SAMPLE)


def _distinct_share(column: pa.Array) -> float:
    """The share of distinct values among neighbours in the middle of a column; 0 if all are null."""
    if pa.types.is_dictionary(column.type):
        return len(column.dictionary) / max(len(column), 1)
    values = _middle(column).drop_null()
    if not len(values):
        return 0.0
    return len(np.unique(values.to_numpy(zero_copy_only=False))) / len(values)


def _chunk(name: str, column: pa.Array, **how: Any) -> Chunk:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: column}), sink, **_HOW, **how)
    file = sink.getvalue()
    footer, start = _footer(file)
    (group,) = footer[_GROUPS].value.items
    (chunk,) = group[1].value.items
    return Chunk(file.slice(len(MAGIC), start - len(MAGIC)), chunk)


def _footer(file: pa.Buffer) -> tuple[Struct, int]:
    """A file's footer, and where it starts."""
    end = file.size - len(MAGIC) - 4
    start = end - int.from_bytes(file.slice(end, 4).to_pybytes(), "little")
    return thrift.read(file.slice(start, end - start).to_pybytes()), start


@dataclass
class GroupWriter:
    """Writes a file, one row group after the other.

    Args:
        handle: where to; at its start.
        schema: of flat columns.
    """

    handle: IO[bytes]
    schema: pa.Schema
    _at: int = 0
    _rows: int = 0
    _groups: list[Struct] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._put(MAGIC)

    def add(self, chunks: list[Chunk], rows: int) -> None:
        """Write a row group, whose columns are in the order of the schema."""
        start, columns = self._at, []
        for chunk in chunks:
            columns.append(_moved(chunk.footer, self._at - len(MAGIC)))
            self._put(chunk.pages)
        sizes = [[column[_CHUNK_META].value[number].value for column in columns] for number in (_PLAIN_SIZE, _SIZE)]
        group: Struct = {
            1: Value(thrift.LIST, Items(thrift.STRUCT, columns)),
            2: Value(I64, sum(sizes[0])),
            3: Value(I64, rows),
            5: Value(I64, start),
            6: Value(I64, sum(sizes[1])),
        }
        if len(self._groups) < 1 << 15:
            group[7] = Value(thrift.I16, len(self._groups))
        self._groups.append(group)
        self._rows += rows

    def close(self) -> int:
        """Write the footer; return the file's size."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.schema.empty_table(), sink, **_HOW)
        footer, _ = _footer(sink.getvalue())
        footer[_ROWS] = Value(I64, self._rows)
        footer[_GROUPS] = Value(thrift.LIST, Items(thrift.STRUCT, self._groups))
        text = thrift.written(footer)
        self._put(text + len(text).to_bytes(4, "little") + MAGIC)
        return self._at

    def _put(self, data: Any) -> None:
        self.handle.write(data)
        self._at += len(data)


def _moved(chunk: Struct, by: int) -> Struct:
    """A `ColumnChunk` whose pages are so many bytes further on."""
    meta: Struct = dict(chunk[_CHUNK_META].value)
    for offset in (_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE):
        if offset in meta:
            meta[offset] = Value(I64, meta[offset].value + by)
    return {**chunk, _CHUNK_FILE_OFFSET: Value(I64, 0), _CHUNK_META: Value(thrift.STRUCT, meta)}
