"""Parquet files in which each column of each row group has the encoding that makes it smallest.

pyarrow chooses encodings for a whole file. So the columns of a row group that have the same kind of encoding are
written here as a file of their own, in memory, by pyarrow. Pages are copied as they are, and one footer names them all.
Pages do not know where they are; only the offsets in the footer change. Source: https://parquet.apache.org/docs/file-format/metadata/
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.stores import thrift
from meterhouse.stores.thrift import I32, I64, Items, Struct, Value

MAGIC: Final = b"PAR1"

LEVEL: Final = 3
"""zstd's. Such files are written once and read often, and reading takes the same time at each level."""

HEADER: Final = 1 << 12
"""More bytes than the header of a page takes; the bounds in it are of numbers, or of texts of at most some hundred."""

SAMPLE: Final = 1 << 14
"""Number of neighbouring values, by whose repeats the encodings to try are chosen."""

LONG: Final = 16
"""From this mean length of its runs, a column is written by runs: a shorter run would take more than packed values."""

PAGE: Final = 1 << 20
"""Maximum number of rows of a page."""

_SOME, _MANY = 0.02, 0.9
"""Shares of distinct values: up to the first only a dictionary is tried, from the second on none."""

# Fields of the footer's structs.
_ROWS, _GROUPS, _NOTES = 3, 4, 5
_CHUNK_FILE_OFFSET, CHUNK_META = 2, 3
_VALUES, _PLAIN_SIZE, _SIZE = 5, 6, 7
_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE = 9, 10, 11
OFFSETS: Final = frozenset({_DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE})
_STATISTICS, _NULLS, _SIZE_STATISTICS = 12, 3, 16
# Those of a page's header.
_PLAIN_PAGE_SIZE, _PAGE_SIZE = 2, 3
_RLE, _RLE_DICTIONARY = 3, 8

_HOW: Final[dict[str, Any]] = {
    "compression": "zstd",
    "compression_level": LEVEL,
    "store_schema": False,
    "dictionary_pagesize_limit": 1 << 30,
    "row_group_size": 1 << 30,
    "data_page_size": 1 << 22,  # so that pages of all columns have the same rows
}


@dataclass(frozen=True)
class Runs:
    """A column whose values come in runs.

    Attributes:
        values: the value of each run. A dictionary is compact.
        lengths: how many rows each run has; shape (runs,).
    """

    values: pa.Array
    lengths: npt.NDArray[np.int64]

    def array(self) -> pa.Array:
        """The column, value by value."""
        values, rows = self.values, int(self.lengths.sum())
        if values.null_count == len(values):
            return pa.nulls(rows, values.type)
        if pa.types.is_dictionary(values.type):
            return pa.DictionaryArray.from_arrays(Runs(values.indices, self.lengths).array(), values.dictionary)
        null = np.repeat(values.is_null().to_numpy(zero_copy_only=False), self.lengths) if values.null_count else None
        filled = (values.fill_null(0) if values.null_count else values).to_numpy()
        return pa.array(np.repeat(filled, self.lengths), values.type, mask=null)

    @property
    def long(self) -> bool:
        """Whether runs are so long that nothing is gained by packing their values."""
        return bool(self.lengths.sum() >= LONG * len(self.lengths))

    def coded(self) -> "Runs":
        """The same column with a dictionary."""
        if pa.types.is_dictionary(self.values.type):
            return self
        return Runs(self.values.dictionary_encode(), self.lengths)

    def cut(self, size: int) -> "Iterator[Runs]":
        """The column in pieces of so many rows, the last one of the rest."""
        ends = np.cumsum(self.lengths)
        rows = int(ends[-1]) if len(ends) else 0
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            first, last = (int(place) for place in np.searchsorted(ends, (start + 1, stop)))
            lengths = np.diff(np.clip(ends[first : last + 1], start, stop), prepend=start).astype(np.int64)
            yield Runs(self.values.slice(first, last + 1 - first), lengths)


@dataclass(frozen=True)
class Chunk:
    """The pages of a column of a row group, and the footer's `ColumnChunk`, by which they start at `start`."""

    pages: pa.Buffer
    footer: Struct
    start: int

    @property
    def has_dictionary(self) -> bool:
        """Whether its values are in a dictionary."""
        return _DICTIONARY_PAGE in self.footer[CHUNK_META].value

    def page_sizes(self) -> list[int]:
        """The number of bytes of each page with its header, the dictionary's first if there is one."""
        pages, sizes, at = self.pages.to_pybytes(), [], 0
        while at < len(pages):
            head, length = thrift.read_length(pages[at : at + HEADER])
            sizes.append(length + head[_PAGE_SIZE].value)
            at += sizes[-1]
        return sizes


def smallest(
    columns: Mapping[str, pa.Array | Runs],
    otherwise: Mapping[str, str],
    bounds: Collection[str],
    paged: Collection[str] = (),
    page: int = PAGE,
) -> dict[str, Chunk]:
    """The chunks of a row group, each with a dictionary or in another encoding, whichever is smaller.

    Columns whose encoding is clear are written together: to write a file takes longer than to write a column more.

    Args:
        columns: by name, the values in the row group. A dictionary's values are written as they are, so it should be
            compact. All `Runs` have the same lengths.
        otherwise: by column, the other encoding.
        bounds: the columns of which to write the lowest and the highest value, by which readers skip row groups.
        paged: columns that have pages also if they are of runs; other columns of runs are one page.
        page: number of rows of a page, but of the last one.
    """
    runs = {name: column for name, column in columns.items() if isinstance(column, Runs) and column.long}
    others = {
        name: column.array() if isinstance(column, Runs) else column
        for name, column in columns.items()
        if name not in runs
    }
    shares = {name: _distinct_share(column) for name, column in others.items()}
    known = _chunks({name: column for name, column in others.items() if shares[name] < _MANY}, bounds, True, page)
    known |= _of_runs(runs, bounds, paged, page)
    unclear = {
        name: column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for name, column in others.items()
        if shares[name] > _SOME
    }
    some = {name: _middle(column) for name, column in unclear.items() if name in known}
    tried = _chunks(some, (), otherwise, page)
    for name, chunk in tried.items():
        if chunk.pages.size * len(unclear[name]) > known[name].pages.size * len(some[name]):
            del unclear[name]
    for name, chunk in _chunks(unclear, bounds, otherwise, page).items():
        if name not in known or chunk.pages.size < known[name].pages.size:
            known[name] = chunk
    return {name: known[name] for name in columns}


def _of_runs(
    columns: Mapping[str, Runs], bounds: Collection[str], paged: Collection[str], page: int
) -> dict[str, Chunk]:
    """The chunks of columns of runs: of pyarrow's, with one value for each run, all but the data pages stays."""
    made = {}
    for name, chunk in _chunks({name: runs.values for name, runs in columns.items()}, bounds, True, page).items():
        runs, meta = columns[name].coded(), chunk.footer[CHUNK_META].value
        size = meta[_DATA_PAGE].value - chunk.start
        made_pages = [_data_page(piece) for piece in (runs.cut(page) if name in paged else [runs])]
        plain_size = sum(plain for _, plain in made_pages)
        pages = b"".join([chunk.pages.slice(0, size).to_pybytes(), *(data for data, _ in made_pages)])
        head = thrift.read(pages)
        dictionary_size = size - head[_PAGE_SIZE].value + head[_PLAIN_PAGE_SIZE].value
        changed = {
            **meta,
            _VALUES: Value(I64, int(runs.lengths.sum())),
            _PLAIN_SIZE: Value(I64, dictionary_size + plain_size),
            _SIZE: Value(I64, len(pages)),
        }
        if _STATISTICS in meta and runs.values.null_count:
            nulls = Value(I64, int(runs.lengths[runs.values.is_null().to_numpy(zero_copy_only=False)].sum()))
            changed[_STATISTICS] = Value(thrift.STRUCT, {**meta[_STATISTICS].value, _NULLS: nulls})
        changed.pop(_SIZE_STATISTICS, None)  # optional, and of one value a run
        footer = {**chunk.footer, CHUNK_META: Value(thrift.STRUCT, changed)}
        made[name] = Chunk(pa.py_buffer(pages), footer, chunk.start)
    return made


def _data_page(runs: Runs) -> tuple[bytes, int]:
    """A data page, of values of a dictionary, with its header, and its size without compression."""
    values = runs.values
    there = values.is_valid().to_numpy(zero_copy_only=False)
    levels = _packed(there.astype(np.int64), runs.lengths, 1)
    codes = values.indices.drop_null().to_numpy().astype(np.int64)
    width = max((len(values.dictionary) - 1).bit_length(), 1)
    body = b"".join(
        [len(levels).to_bytes(4, "little"), levels, bytes([width]), _packed(codes, runs.lengths[there], width)]
    )
    packed = pa.Codec("zstd", LEVEL).compress(body, asbytes=True)
    page: Struct = {
        1: Value(I32, int(runs.lengths.sum())),
        2: Value(I32, _RLE_DICTIONARY),
        3: Value(I32, _RLE),
        4: Value(I32, _RLE),
    }
    header = thrift.written(
        {
            1: Value(I32, 0),
            _PLAIN_PAGE_SIZE: Value(I32, len(body)),
            _PAGE_SIZE: Value(I32, len(packed)),
            5: Value(thrift.STRUCT, page),
        }
    )
    return header + packed, len(header) + len(body)


def _packed(codes: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], width: int) -> bytes:
    """Runs of codes of so many bits each in Parquet's RLE encoding; neighbours of one code become one run."""
    if not len(codes):
        return b""
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    codes, headers = codes[starts], np.add.reduceat(lengths, starts) << 1
    size = -(-width // 8)
    # A header is a varint: seven bits a byte, and the highest bit says that another one follows.
    taken = 1 + np.searchsorted([1 << 7, 1 << 14, 1 << 21, 1 << 28], headers, side="right")
    ends = np.cumsum(taken + size)
    out = np.zeros(int(ends[-1]), np.uint8)
    begins = ends - taken - size
    for number in range(int(taken.max())):
        some = taken > number
        follows = (taken[some] > number + 1).astype(np.int64) << 7
        out[begins[some] + number] = headers[some] >> 7 * number & 0x7F | follows
    for number in range(size):
        out[ends - size + number] = codes >> 8 * number & 0xFF
    return out.tobytes()


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


def chunks_of(rows: pa.Table, **how: Any) -> list[Chunk]:
    """The chunks of a row group as pyarrow writes them: one for each column that holds values, in order.

    Args:
        rows: the rows; columns may be nested.
        how: arguments of `pyarrow.parquet.write_table`.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **{**_HOW, **how})
    return _chunks_in(sink.getvalue())


def _chunks_in(file: pa.Buffer) -> list[Chunk]:
    """The chunks of a file of one row group."""
    footer, _ = _footer(file)
    (group,) = footer[_GROUPS].value.items
    made = []
    for chunk in group[1].value.items:
        meta = chunk[CHUNK_META].value
        start = min(meta[field].value for field in (_DATA_PAGE, _DICTIONARY_PAGE) if field in meta)
        made.append(Chunk(file.slice(start, meta[_SIZE].value), chunk, start))
    return made


def _chunks(
    columns: Mapping[str, pa.Array],
    bounds: Collection[str],
    encodings: Mapping[str, str] | Literal[True],
    page: int,
) -> dict[str, Chunk]:
    """The chunks of columns in these encodings; True means with dictionaries."""
    if not columns:
        return {}
    sink = pa.BufferOutputStream()
    how = {} if encodings is True else {"column_encoding": {name: encodings.get(name, "PLAIN") for name in columns}}
    with_bounds = [name for name in columns if name in bounds]
    pq.write_table(
        pa.table(dict(columns)),
        sink,
        use_dictionary=encodings is True,
        write_statistics=with_bounds,
        max_rows_per_page=page,
        **how,
        **_HOW,
    )
    return dict(zip(columns, _chunks_in(sink.getvalue()), strict=True))


def footer_of(schema: pa.Schema) -> Struct:
    """The footer of a file of these columns that has no row group."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink, **_HOW)
    return _footer(sink.getvalue())[0]


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
        schema: of its columns.
    """

    handle: IO[bytes]
    schema: pa.Schema
    _at: int = 0
    _rows: int = 0
    _groups: list[Struct] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._put(MAGIC)

    def add(self, chunks: Sequence[Chunk], rows: int) -> list[int]:
        """Write a row group, whose chunks are in the order of the schema; return where each begins in the file."""
        start, group = self._at, group_of(chunks, rows, self._at)
        places = [start + sum(chunk.pages.size for chunk in chunks[:number]) for number in range(len(chunks))]
        for chunk in chunks:
            self._put(chunk.pages)
        group[5] = Value(I64, start)
        if len(self._groups) < 1 << 15:
            group[7] = Value(thrift.I16, len(self._groups))
        self._groups.append(group)
        self._rows += rows
        return places

    def append(self, data: bytes) -> int:
        """Write bytes that no footer tells of; return where they are."""
        self._put(data)
        return self._at - len(data)

    def close(self, notes: Mapping[str, str] | None = None) -> int:
        """Write the footer, with these pairs of key and value; return the file's size."""
        footer = footer_of(self.schema)
        if notes:
            pairs = [
                {1: Value(thrift.BINARY, key.encode()), 2: Value(thrift.BINARY, value.encode())}
                for key, value in notes.items()
            ]
            footer[_NOTES] = Value(thrift.LIST, Items(thrift.STRUCT, pairs))
        footer[_ROWS] = Value(I64, self._rows)
        footer[_GROUPS] = Value(thrift.LIST, Items(thrift.STRUCT, self._groups))
        text = thrift.written(footer)
        self._put(text + len(text).to_bytes(4, "little") + MAGIC)
        return self._at

    def _put(self, data: Any) -> None:
        self.handle.write(data)
        self._at += len(data)


def group_of(chunks: Sequence[Chunk], rows: int, start: int) -> Struct:
    """The footer's `RowGroup` of chunks that are one after the other from `start` on; it does not say where it is."""
    columns = []
    for chunk in chunks:
        columns.append(_moved(chunk.footer, start - chunk.start))
        start += chunk.pages.size
    sizes = [[column[CHUNK_META].value[number].value for column in columns] for number in (_PLAIN_SIZE, _SIZE)]
    return {
        1: Value(thrift.LIST, Items(thrift.STRUCT, columns)),
        2: Value(I64, sum(sizes[0])),
        3: Value(I64, rows),
        6: Value(I64, sum(sizes[1])),
    }


def _moved(chunk: Struct, by: int) -> Struct:
    """A `ColumnChunk` whose pages are so many bytes further on."""
    meta: Struct = dict(chunk[CHUNK_META].value)
    for offset in OFFSETS:
        if offset in meta:
            meta[offset] = Value(I64, meta[offset].value + by)
    return {**chunk, _CHUNK_FILE_OFFSET: Value(I64, 0), CHUNK_META: Value(thrift.STRUCT, meta)}
