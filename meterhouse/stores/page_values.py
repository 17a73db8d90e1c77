"""Some values of a page of a Parquet file, without decoding the others, which pyarrow would do.

It reads what compacted files have most: pages of version 1, compressed by zstd, of 64-bit values none of which is null,
by a dictionary or by BYTE_STREAM_SPLIT or PLAIN. Of anything else it says that it cannot read it. Sources:
https://parquet.apache.org/docs/file-format/data-pages/ and .../encodings/
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_CODEC: Final = pa.Codec("zstd")
_I32: Final = 0x15
"""The head of a field that is an integer and follows on the field before."""

_STRUCTS: Final = {0: 0x2C, 2: 0x4C}
"""Kind of a page → the head of the struct that tells of such pages."""

_DATA_PAGE: Final = 0
_PLAIN, _DICTIONARY, _SPLIT = 0, 8, 9

Values = npt.NDArray[Any]


class Unreadable(Exception):
    """The page is not one of those that this module reads."""


class Dictionary:
    """A dictionary page.

    Args:
        page: the page with its header.
        kind: the type of its values, as NumPy has it.

    Attributes:
        values: its values.

    Raises:
        Unreadable: see the top of this module.
    """

    def __init__(self, page: bytes, kind: str) -> None:
        self._page = page
        self.values = np.frombuffer(_plain(_Header(page)), kind)

    @classmethod
    def after(cls, before: "Dictionary | None", page: bytes, kind: str) -> "Dictionary":
        """A dictionary page; the one before if it is the same."""
        return before if before is not None and before._page == page else cls(page, kind)


class Page:
    """A data page.

    Args:
        page: the page with its header.
        rows: how many rows it has.

    Raises:
        Unreadable: see the top of this module.
    """

    def __init__(self, page: bytes, rows: int) -> None:
        header = _Header(page)
        if header.kind != _DATA_PAGE:
            raise Unreadable
        body = _plain(header)
        size = int.from_bytes(body[:4], "little")
        levels = body[4 : 4 + size]
        runs, end = _varint(levels, 0)
        if header.count != rows or runs != rows << 1 or levels[end:] != b"\x01":
            raise Unreadable
        self._header, self._rows, self._body, self._start = header, rows, body, 4 + size
        self._codes_of: tuple[int, int, Values] | None = None
        self._run_of: tuple[int, int, int] | None = None

    @classmethod
    def after(cls, before: "Page | None", page: bytes, rows: int) -> "Page":
        """A data page; the one before if it has the same content, for whose values more may be known."""
        return before if before is not None and before._header.is_alike(_Header(page)) else cls(page, rows)

    @property
    def is_coded(self) -> bool:
        """Whether the values are in an encoding that only pyarrow decodes here, such as DELTA_BINARY_PACKED."""
        return self._header.encoding not in (_DICTIONARY, _SPLIT, _PLAIN)

    def values(self, start: int, stop: int, dictionary: Values | None, kind: str) -> Values:
        """The values of some rows.

        Args:
            start, stop: the rows.
            dictionary: the values of the dictionary, if the column has one.
            kind: their type, as NumPy has it.
        """
        encoding = self._header.encoding
        if encoding == _DICTIONARY and dictionary is not None:
            if self._codes_of is None or self._codes_of[:2] != (start, stop):
                self._codes_of = (start, stop, self._codes(start, stop))
            found: Values = dictionary[self._codes_of[2]]
            return found
        if encoding not in (_SPLIT, _PLAIN):
            raise Unreadable
        values = np.frombuffer(self._body, np.uint8, self._rows * 8, self._start)
        if encoding == _SPLIT:
            return values.reshape(8, self._rows)[:, start:stop].T.copy().view(kind).ravel()
        return values.view(kind)[start:stop]

    def run_of(self, code: int) -> tuple[int, int]:
        """The first row and the one after the last of those that have a code, if all codes come in runs.

        Both are 0 if no row has it.
        """
        if self._run_of is None or self._run_of[0] != code:
            self._run_of = (code, *self._found_run(code))
        return self._run_of[1:]

    def _found_run(self, code: int) -> tuple[int, int]:
        body, width = self._body, -(-self._body[self._start] // 8)
        for head in (1, 2):  # the size of the runs' headers
            size = len(body) - self._start - 1
            if self._header.encoding != _DICTIONARY or size % (head + width):
                continue
            runs = np.frombuffer(body, np.uint8, size, self._start + 1).reshape(-1, head + width)
            if (runs[:, : head - 1] < 0x80).any() or (runs[:, head - 1] >= 0x80).any() or (runs[:, 0] & 1).any():
                continue
            lengths = runs[:, 0].astype(np.int64) >> 1
            if head > 1:
                lengths = ((runs[:, 0] & 0x7F) | runs[:, 1].astype(np.int64) << 7) >> 1
            ends = np.cumsum(lengths)
            if ends[-1] != self._rows:
                continue
            codes = sum(runs[:, head + n].astype(np.int64) << 8 * n for n in range(width))
            found = np.flatnonzero(codes == code)
            if len(found) > 1:
                raise Unreadable
            return (int(ends[found[0]] - lengths[found[0]]), int(ends[found[0]])) if len(found) else (0, 0)
        raise Unreadable

    def _codes(self, start: int, stop: int) -> Values:
        """The codes of some rows: runs of one code, and codes packed by eights."""
        body, at, row, pieces = self._body, self._start + 1, 0, []
        width = body[self._start]
        size = -(-width // 8)
        while row < stop:
            head, after = _varint(body, at)
            if head & 1:
                count, end = (head >> 1) * 8, after + (head >> 1) * width
                # Packed runs are mostly of one length: those before the first row are passed over together.
                skipped = (start - row) // count
                if (
                    skipped > 1
                    and after == at + 1
                    and body[at : at + skipped * (end - at) : end - at] == (body[at : at + 1] * skipped)
                ):
                    row += skipped * count
                    at += skipped * (end - at)
                    continue
                first, last = max(start - row, 0) // 8, -(-min(stop - row, count) // 8)
                if last > first:
                    packed = np.frombuffer(body, np.uint8, (last - first) * width, after + first * width)
                    bits = np.unpackbits(packed, bitorder="little").reshape(-1, width)
                    codes = bits @ _POWERS[:width]
                    pieces.append(codes[max(start - row, 0) - first * 8 : min(stop - row, count) - first * 8])
            else:
                count, end = head >> 1, after + size
                inside = min(stop, row + count) - max(start, row)
                if inside > 0:
                    pieces.append(np.full(inside, int.from_bytes(body[after:end], "little"), np.int64))
            if not count:
                raise Unreadable
            row, at = row + count, end
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


_POWERS: Final = np.left_shift(np.int64(1), np.arange(32, dtype=np.int64))


class _Header:
    """The header of a page.

    Attributes:
        kind: 0 for a data page of version 1, 2 for a dictionary.
        plain: the size of the content without compression.
        content: the content, compressed.
        count: the number of values.
        encoding: theirs, by its number.
    """

    def __init__(self, page: bytes) -> None:
        self.kind, at = _field(page, 0)
        self.plain, at = _field(page, at)
        size, at = _field(page, at)
        # A dictionary's struct is the seventh field, that of a data page the fifth; crc, the fourth, is left out.
        if not 0 < size <= len(page) - at or page[at] != _STRUCTS.get(self.kind):
            raise Unreadable
        self.count, at = _field(page, at + 1)
        self.encoding, _ = _field(page, at)
        self.content = page[len(page) - size :]

    def is_alike(self, other: "_Header") -> bool:
        """Whether the pages have the same content. Bounds of their values may differ in the rest of the header."""
        mine, others = ((each.kind, each.plain, each.count, each.encoding) for each in (self, other))
        return mine == others and self.content == other.content


def _plain(header: _Header) -> bytes:
    """The content of a page without compression."""
    try:
        found: bytes = _CODEC.decompress(header.content, header.plain, asbytes=True)
    except (OSError, ValueError) as error:
        raise Unreadable from error
    return found


def _field(data: bytes, at: int) -> tuple[int, int]:
    """An integer that is a field, and where it ends."""
    if data[at] != _I32:
        raise Unreadable
    found, at = _varint(data, at + 1)
    return found >> 1, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    found = data[at]
    at += 1
    if found < 0x80:
        return found, at
    found &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
