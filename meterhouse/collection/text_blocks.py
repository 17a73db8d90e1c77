"""The text of a file in blocks of whole lines, or line by line, plain or compressed. Memory is bounded.

What a block is, is up to the reader: it may take some lines one by one, and the rest in blocks again.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from meterhouse.stream import HEAD_BYTES
from meterhouse.stream.files import BOM, Damaged, Line, is_utf_16

READ_BYTES: Final = 1 << 20

_FEEDS_AT_ONCE: Final = 1 << 18
"""Bytes in which line feeds are counted together: they stay in a processor's cache."""


def line_feeds(text: bytes | bytearray) -> int:
    """How many line feeds a text has. Other threads go on meanwhile, which they do not while Python counts."""
    found = np.frombuffer(text, np.uint8)
    starts = range(0, len(found), _FEEDS_AT_ONCE)
    return sum(int(np.count_nonzero(found[at : at + _FEEDS_AT_ONCE] == 10)) for at in starts)


def lines_of(block: bytes, number: int, longest: int) -> Iterator[Line]:
    """The lines of whole lines, of which the first has this number; of a line longer than `longest`, its start."""
    lines = block.removesuffix(b"\n").split(b"\n")
    for place, line in enumerate(lines):
        yield Line(number + place, line if len(line) <= longest else line[:HEAD_BYTES], len(line))


def may_have_longer_lines(block: bytes | bytearray, size: int) -> bool:
    """Whether a line may have more bytes than this. Such a line has the whole of one of these windows."""
    window = max(size // 2, 1)
    return any(block.find(b"\n", start, start + window) < 0 for start in range(0, len(block) - window, window))


class TextBlocks:
    """A file that is read from its start to its end. A byte-order mark at the start is removed.

    Args:
        path: the file. If its name ends in `.gz`, it is decompressed.
        longest: maximum number of bytes of a line; of a longer one, only the start is kept.

    Raises:
        OSError: the file cannot be opened or read; so for all methods.
        Damaged: it is not UTF-8.

    Attributes:
        number: that of the next line, counted from 1.
    """

    def __init__(self, path: Path, longest: int) -> None:
        self._file = path.open("rb")
        self._bytes = os.fstat(self._file.fileno()).st_size
        self._unpacked = gzip.GzipFile(fileobj=self._file) if path.name.endswith(".gz") else None
        self._longest = longest
        self._held, self._at = b"", 0
        self._ended = False
        self._damage = ""
        self.number = 1
        self._read(READ_BYTES)
        if is_utf_16(self._held):
            self.close()
            raise Damaged(1, "the file is UTF-16, not UTF-8. Save it as UTF-8", self._held[:HEAD_BYTES])
        self._at = len(BOM) if self._held.startswith(BOM) else 0

    def block(self, size: int) -> tuple[bytes | bytearray, int]:
        """About so many bytes of whole lines, and the number of the first; nothing at the end of the file.

        Nothing is returned either if the next line is too long, or the file is damaged there: take it by `line`.
        """
        if self._unpacked is None and not self._ended and self._ahead < size and (read := self._read_block(size)):
            self.number += (lines := line_feeds(read))
            return read, self.number - lines
        self._read(size)
        end = self._held.rfind(b"\n", self._at, self._at + size) + 1
        if self._ended and not self._damage and self._ahead <= size:
            end = len(self._held)
        while not end and self._ahead <= self._longest:
            end = self._held.find(b"\n", self._at) + 1
            if not end and self._ended:
                end = 0 if self._damage else len(self._held)
                break
            if not end:
                self._read(self._ahead + READ_BYTES)
        if not end:
            return b"", self.number
        taken, number = self._held[self._at : end], self.number
        self._at = end
        self.number += line_feeds(taken)
        return taken, number

    def _read_block(self, size: int) -> bytearray:
        """About so many bytes of whole lines, most of which are read now, without a copy; empty if there are none."""
        ahead = self._ahead
        block = bytearray(size)
        block[:ahead] = self._held[self._at :]
        with memoryview(block) as view:
            read = self._file.readinto(view[ahead:])
        end = block.rfind(b"\n", 0, ahead + read) + 1
        self._held, self._at = bytes(block[end : ahead + read]), 0
        del block[end:]
        return block

    def give_back(self, block: bytes | bytearray, number: int) -> None:
        """Undo the call of `block` that returned these, if nothing was taken since."""
        self._held, self._at = bytes(block) + self._held[self._at :], 0
        self.number = number

    def line(self) -> Line | None:
        """The next line; None at the end of the file.

        Raises:
            Damaged: the file cannot be decompressed from here to its end.
        """
        while (end := self._held.find(b"\n", self._at)) < 0 and not self._ended and self._ahead <= self._longest:
            self._read(self._ahead + READ_BYTES)
        if end < 0 and self._ahead > self._longest and not self._ended:
            return self._long_line()
        if end < 0 and self._damage:
            raise Damaged(self.number, self._damage, self._held[self._at :][:HEAD_BYTES])
        if end < 0 and not self._ahead:
            return None
        stop = len(self._held) if end < 0 else end
        size = stop - self._at
        text = self._held[self._at : stop if size <= self._longest else min(stop, self._at + HEAD_BYTES)]
        self._at = min(stop + 1, len(self._held))
        self.number += 1
        return Line(self.number - 1, text, size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def share(self) -> float:
        """The share of the file that was taken, from 0 to 1; of a compressed one, that of its bytes that were read."""
        taken = self._file.tell() - (0 if self._unpacked else self._ahead)
        return min(taken / self._bytes, 1.0) if self._bytes else 1.0

    @property
    def _ahead(self) -> int:
        return len(self._held) - self._at

    def _long_line(self) -> Line:
        """The next line, whose end is not read yet, and which is too long already."""
        head, size, end = b"", 0, -1
        while end < 0 and (self._ahead or not self._ended):
            end = self._held.find(b"\n", self._at)
            stop = len(self._held) if end < 0 else end
            head += self._held[self._at : min(stop, self._at + HEAD_BYTES - len(head))]
            size += stop - self._at
            self._at = stop if end < 0 else end + 1
            if end < 0:
                self._read(READ_BYTES)
        self.number += 1
        return Line(self.number - 1, head, size)

    def _read(self, size: int) -> None:
        """Hold at least this many bytes, or what is left of the file."""
        if self._ahead >= size or self._ended:
            return
        parts = [self._held[self._at :]]
        self._at, have = 0, len(parts[0])
        while have < size and (read := self._read_some(size - have)):
            parts.append(read)
            have += len(read)
        self._ended = have < size
        self._held = b"".join(parts)
        if self._damage and self._held and self._trailing and not self._held.endswith(b"\n"):
            self._held += b"\n"  # behind data that was complete

    _trailing = False

    def _read_some(self, size: int) -> bytes:
        if self._unpacked is None:
            return self._file.read(size)
        try:
            return self._unpacked.read1(READ_BYTES)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            self._damage = f"the file is damaged from here on: {error}"
            self._trailing = isinstance(error, gzip.BadGzipFile)
            return b""
