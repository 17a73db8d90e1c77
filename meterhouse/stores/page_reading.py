"""Reads a few pages of Parquet files: they are put together to a file in memory, which pyarrow reads.

pyarrow reads whole row groups. The points of one series are in one or two of the pages of a group, so this reads, and
decodes, a hundredth of the bytes. A dictionary is read whole, because the pages refer to it. Source:
https://parquet.apache.org/docs/file-format/metadata/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.stores import thrift
from meterhouse.stores.parquet_groups import MAGIC, footer_of
from meterhouse.stores.thrift import BINARY, I32, Items, Struct, Value

_PHYSICAL = {pa.int64(): 2, pa.timestamp("us", "UTC"): 2, pa.float64(): 5}
_ENCODINGS = (0, 3, 8)  # PLAIN, RLE, RLE_DICTIONARY; the pages themselves name theirs
_ZSTD = 6


@dataclass(frozen=True)
class Pages:
    """Neighbouring pages of a column.

    Attributes:
        dictionary: the dictionary page, empty if there is none.
        data: the data pages.
    """

    dictionary: bytes
    data: bytes


@dataclass(frozen=True)
class Part:
    """The same rows of some columns, as pages that are compressed by zstd."""

    rows: int
    columns: Sequence[Pages]


@dataclass(frozen=True)
class PageReader:
    """Reads pages of columns of a schema, whose types are 64 bits wide."""

    schema: pa.Schema

    def read(self, parts: Sequence[Part]) -> pa.Table:
        """The rows of the parts, one after the other."""
        pieces, at, groups = list[bytes](), len(MAGIC), list[bytes]()
        for part in parts:
            sizes, group = 0, bytearray()
            group += _LIST + _items(len(self.schema), thrift.STRUCT)
            for head, column in zip(self._heads, part.columns, strict=True):
                first, size = len(column.dictionary), len(column.dictionary) + len(column.data)
                sizes += size
                length = thrift.number(size)
                group += head + thrift.number(part.rows) + _NEXT + length + _NEXT + length
                group += _NEXT_BUT_ONE + thrift.number(at + first)
                if first:
                    group += _NEXT_BUT_ONE + thrift.number(at)
                group += b"\0\0"
                pieces += [column.dictionary, column.data]
                at += size
            group += _NEXT + thrift.number(sizes) + _NEXT + thrift.number(part.rows) + b"\0"
            groups.append(bytes(group))
        return opened(self._begin, pieces, groups, sum(part.rows for part in parts)).read(use_threads=False)

    @cached_property
    def _begin(self) -> bytes:
        return beginning_of(self.schema)

    @cached_property
    def _heads(self) -> list[bytes]:
        """By column, what is before the number of values in its `ColumnChunk`."""
        return [_head(field) for field in self.schema]


def beginning_of(schema: pa.Schema) -> bytes:
    """A footer's version and schema, which are its first two fields."""
    whole = footer_of(schema)
    return thrift.written({1: whole[1], 2: whole[2]})[:-1]


def opened(beginning: bytes, pages: Sequence[bytes], groups: Sequence[bytes], rows: int) -> pq.ParquetFile:
    """A file in memory.

    Args:
        beginning: of its footer.
        pages: what follows on MAGIC.
        groups: what the footer says of each row group.
        rows: how many rows all groups have.
    """
    head = [beginning, _NEXT, thrift.number(rows), _LIST, _items(len(groups), thrift.STRUCT)]
    footer = b"".join([*head, *groups, b"\0"])
    whole = [MAGIC, *pages, footer, len(footer).to_bytes(4, "little"), MAGIC]
    return pq.ParquetFile(pa.BufferReader(b"".join(whole)))


def _head(field: pa.Field) -> bytes:
    meta: Struct = {
        1: Value(I32, _PHYSICAL[field.type]),
        2: Value(thrift.LIST, Items(I32, list(_ENCODINGS))),
        3: Value(thrift.LIST, Items(BINARY, [field.name.encode()])),
        4: Value(I32, _ZSTD),
    }
    chunk: Struct = {2: Value(thrift.I64, 0), 3: Value(thrift.STRUCT, meta)}
    return thrift.written(chunk)[:-2] + _NEXT


def _items(count: int, kind: int) -> bytes:
    """What a list of so many items begins with."""
    if count < 15:
        return bytes([count << 4 | kind])
    out = bytearray([15 << 4 | kind])
    while count > 0x7F:
        out.append(count & 0x7F | 0x80)
        count >>= 7
    out.append(count)
    return bytes(out)


_NEXT = bytes([1 << 4 | thrift.I64])
"""Before an integer that is the field after the last one."""

_NEXT_BUT_ONE = bytes([2 << 4 | thrift.I64])

_LIST = bytes([1 << 4 | thrift.LIST])
