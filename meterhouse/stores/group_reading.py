"""Reads row groups of many Parquet files as one: they are put together to a file in memory, which pyarrow reads.

To open a file and to read its footer takes longer than to decode a small row group. So before the pages of each row
group is its *head*: what the footer says of it, in a form to which the offsets of the pages can be added. Readers of
Parquet do not look there. A head has the number of rows and that of offsets; for each offset, how far from the start of
the pages it is, and how many bytes of the footer are before it (all 4 bytes, little-endian); then these bytes, without
the offsets. Source: https://parquet.apache.org/docs/file-format/metadata/
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import pyarrow as pa

from meterhouse.stores import thrift
from meterhouse.stores.page_reading import beginning_of, opened
from meterhouse.stores.parquet_groups import CHUNK_META, MAGIC, OFFSETS, Chunk, group_of
from meterhouse.stores.thrift import I64, Items, Struct, Value

_PAIR: Final = struct.Struct("<II")

_MARK: Final = 1 << 62
"""Numbers from here on are nowhere else in what a footer says."""


def head_of(chunks: Sequence[Chunk], rows: int) -> bytes:
    """The head of a row group, whose chunks are one after the other."""
    group = group_of(chunks, rows, 0)
    columns, offsets = [], list[int]()
    for column in group[1].value.items:
        meta: Struct = dict(column[CHUNK_META].value)
        for field in sorted(OFFSETS & meta.keys()):
            offsets.append(meta[field].value)
            meta[field] = Value(I64, _MARK + len(offsets))
        columns.append({**column, CHUNK_META: Value(thrift.STRUCT, meta)})
    rest = thrift.written({**group, 1: Value(thrift.LIST, Items(thrift.STRUCT, columns))})
    pairs, pieces = [], []
    for number, offset in enumerate(offsets, 1):
        piece, _, rest = rest.partition(thrift.number(_MARK + number))
        pairs.append(_PAIR.pack(offset, len(piece)))
        pieces.append(piece)
    return b"".join([_PAIR.pack(rows, len(pairs)), *pairs, *pieces, rest])


@dataclass(frozen=True)
class GroupReader:
    """Reads row groups of files of one schema."""

    schema: pa.Schema

    def read(self, groups: Sequence[tuple[bytes, bytes]], columns: Sequence[str]) -> pa.Table:
        """Columns of row groups, one after the other.

        Args:
            groups: the head of each, and its pages, at least those of the columns.
            columns: which.
        """
        at, rows, footers = len(MAGIC), 0, []
        for head, pages in groups:
            footers.append(_placed(head, at))
            rows += _PAIR.unpack_from(head)[0]
            at += len(pages)
        file = opened(self._beginning, [pages for _, pages in groups], footers, rows)
        return file.read(list(columns), use_threads=False)

    @cached_property
    def _beginning(self) -> bytes:
        return beginning_of(self.schema)


def _placed(head: bytes, at: int) -> bytes:
    """What a footer says of a row group whose pages start at this place."""
    _, count = _PAIR.unpack_from(head)
    place = _PAIR.size * (count + 1)
    pieces = []
    for offset, before in _PAIR.iter_unpack(head[_PAIR.size : place]):
        pieces += [head[place : place + before], thrift.number(at + offset)]
        place += before
    return b"".join([*pieces, head[place:]])
