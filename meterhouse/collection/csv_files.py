"""Reads CSV files of samples, in columns. A bad line does not affect the others.

What a row is, `csv.reader` decides; see `csv_lines`. Blocks in which Arrow's reader finds the same rows are read by it,
many times faster. These are blocks whose quotes each enclose a whole value, without line breaks and quotes inside. If
Arrow cannot read a block, its halves are tried, down to LINES_BYTES, which are read line by line.

`column_names` lists the names of the columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from meterhouse.collection.csv_lines import LONGEST_VALUE, LineSource, header, rows_of_lines, unreadable_header
from meterhouse.collection.sample_rows import SampleRows, Task, Told, untold
from meterhouse.collection.text_blocks import TextBlocks, line_feeds, lines_of, may_have_longer_lines
from meterhouse.stream.files import Damaged, Line

BLOCK_BYTES: Final = 16 << 20

LINES_BYTES: Final = 1 << 16
"""A block of this size is read line by line if Arrow cannot read it."""

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class _Layout:
    """What a file's header says, and what its rows may be."""

    path: Path
    longest: int
    separator: str
    names: list[str]

    @property
    def columns(self) -> set[str]:
        return {name for name in self.names if name}


def read_csv(path: Path, longest: int, told: Told = untold) -> Iterator[Task]:
    """The parts of a CSV file with a header, separated by commas, semicolons or tabs, in order.

    Args:
        path: the file. If its name ends in `.gz`, it is decompressed.
        longest: maximum number of bytes of a line, and of a row of several lines.
        told: see `Told`.

    Raises:
        BadFile: the header lacks a required column, has one that is not known, or one twice.
        OSError: the file cannot be opened or read.
    """
    try:
        blocks = TextBlocks(path, longest)
    except Damaged as damage:
        raise unreadable_header(path, str(damage)) from None
    try:
        separator, names = header(path, LineSource(path, longest, _lines(blocks)))
        layout = _Layout(path, longest, separator, names)
        for part in _parts(blocks, layout) if names else ():
            told(blocks.share)
            yield part
    finally:
        blocks.close()


def _lines(blocks: TextBlocks) -> Iterator[Line]:
    while (line := blocks.line()) is not None:
        yield line


def _parts(blocks: TextBlocks, layout: _Layout) -> Iterator[Task]:
    size = BLOCK_BYTES
    while True:
        block, number = blocks.block(size)
        if block and (b'"' not in block or _quotes_are_plain(block, layout.separator)):
            yield partial(_rows, block, number, blocks.number - number, layout)
            size = min(size * 2, BLOCK_BYTES)
            continue
        # A row may end behind the block, and what looks like quotes of one value may be those of two.
        if block:
            blocks.give_back(block, number)
            size = max(LINES_BYTES, size // 8)
        source = LineSource(layout.path, layout.longest, _lines(blocks))
        pieces = list(rows_of_lines(source, layout.separator, layout.names, LINES_BYTES))
        yield partial(list, pieces)
        if source.damaged or not source.size:
            return


def _quotes_are_plain(block: bytes | bytearray, separator: str) -> bool:
    """Whether each quote opens a value after a separator or line break, or closes it before one, on the same line."""
    text = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    if len(quotes) % 2:
        return False
    opening, closing = quotes[0::2], quotes[1::2]
    before = np.where(opening > 0, text[opening - 1], ord("\n"))
    after = np.where(closing + 1 < len(text), text[np.minimum(closing + 1, len(text) - 1)], ord("\n"))
    plain = np.isin(before, [ord(separator), ord("\n")]) & np.isin(after, [ord(separator), ord("\n"), ord("\r")])
    if not plain.all():
        return False
    breaks = np.flatnonzero(text == ord("\n"))
    return bool((np.searchsorted(breaks, opening) == np.searchsorted(breaks, closing)).all())


def _rows(block: bytes | bytearray, number: int, feeds: int, layout: _Layout) -> list[SampleRows]:
    """The rows of a block none of which ends behind it.

    Args:
        block: the text.
        number: that of its first line.
        feeds: how many line feeds it has.
        layout: of the file.
    """
    if (taken := _by_arrow(block, number, feeds, layout)) is not None:
        return [taken]
    middle = block.rfind(b"\n", 0, len(block) // 2) + 1 or block.find(b"\n") + 1
    if len(block) <= LINES_BYTES or middle in (0, len(block)):
        source = LineSource(layout.path, layout.longest, lines_of(bytes(block), number, layout.longest))
        return list(rows_of_lines(source, layout.separator, layout.names))
    first = block[:middle]
    before = line_feeds(first)
    return _rows(first, number, before, layout) + _rows(block[middle:], number + before, feeds - before, layout)


def _by_arrow(block: bytes | bytearray, number: int, feeds: int, layout: _Layout) -> SampleRows | None:
    """The rows as Arrow reads them; None if `csv.reader` may find others. The arguments are those of `_rows`."""
    lines = feeds + (not block.endswith(b"\n"))
    if may_have_longer_lines(block, min(layout.longest, LONGEST_VALUE)):
        return None
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return None
    if not block.isascii():
        try:
            block.decode("utf-8")
        except UnicodeDecodeError:
            return None
    for times, volumes in _types(block, layout):
        try:
            rows = _read(block, layout, times, volumes)
        except pa.ArrowInvalid:
            continue
        if rows.num_rows != lines:  # some are empty
            return None
        return SampleRows(
            rows, number, lambda place: bytes(block.split(b"\n")[place].rstrip(b"\r")), layout.columns, []
        )
    return None


def _types(block: bytes | bytearray, layout: _Layout) -> Iterator[tuple[pa.DataType, pa.DataType]]:
    """Types of timestamp and volume to try. Texts fit everything, and are understood later."""
    first = block[: block.find(b"\n")].split(layout.separator.encode(), len(layout.names))
    place = layout.names.index("timestamp")
    zoned = place < len(first) and first[place].strip(b' "\r').endswith((b"Z", b"+00:00"))
    if b"\0" not in block:
        yield pa.timestamp("us", "UTC" if zoned else None), pa.float64()
    yield pa.string(), pa.string()


def _read(block: bytes | bytearray, layout: _Layout, times: pa.DataType, volumes: pa.DataType) -> pa.Table:
    types = {name: _TEXT for name in layout.names if name} | {"timestamp": times, "volume": volumes}
    names = [name or f"unused {place}" for place, name in enumerate(layout.names)]
    how: dict[str, Any] = {
        "read_options": pacsv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
        "parse_options": pacsv.ParseOptions(
            delimiter=layout.separator, quote_char='"' if b'"' in block else False, double_quote=False
        ),
        "convert_options": pacsv.ConvertOptions(
            include_columns=[name for name in layout.names if name],
            column_types=types,
            null_values=[""],
            strings_can_be_null=False,
            check_utf8=False,  # the whole block is checked already
        ),
    }
    return pacsv.read_csv(pa.BufferReader(block), **how)
