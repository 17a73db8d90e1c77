"""Reads lines of files, plain or compressed, up to where a file is damaged. Whatever a file has, memory is bounded."""

import gzip
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from meterhouse.stream import HEAD_BYTES

BOM = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
BLOCK_BYTES = 1 << 18
"""How much is read at once."""


class Damaged(Exception):
    """A file that cannot be read from a line on; the message says why.

    Attributes:
        number: the line.
        start: what was read of it.
    """

    def __init__(self, number: int, reason: str, start: bytes = b"") -> None:
        self.number, self.start = number, start
        super().__init__(reason)


def is_utf_16(start: bytes) -> bool:
    """Whether a file starts as UTF-16. A line of noise may have the same two bytes, but not the zeros of a text."""
    return start.startswith(_UTF_16) and 8 * start.count(0) >= len(start)


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        number: counted from 1.
        text: its bytes, without the line feed. Of a line that is longer than allowed, the first HEAD_BYTES.
        size: how many bytes it has in the file, without the line feed.
    """

    number: int
    text: bytes
    size: int


def open_regular(path: Path) -> BinaryIO:
    """Open a file of a folder that others write into.

    Raises:
        OSError: it cannot be opened, or is a link or no regular file.
    """
    # Without O_NONBLOCK, a pipe without a writer would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is not a regular file")
    return os.fdopen(descriptor, "rb")


def numbered_lines(path: Path, longest: int, opened: Callable[[Path], BinaryIO] = open_regular) -> Iterator[Line]:
    """The file's lines. A byte-order mark at the start is removed. A name that ends in `.gz` is decompressed.

    Args:
        path: the file.
        longest: maximum number of bytes of a line; of a longer one, only the start is kept.
        opened: opens the file.

    Raises:
        OSError: the file cannot be opened or read.
        Damaged: it is not UTF-8 or cannot be decompressed to its end; the lines before were yielded.
    """
    with opened(path) as handle:
        if not path.name.endswith(".gz"):
            yield from lines(lambda: handle.read(BLOCK_BYTES), longest)
            return
        with gzip.GzipFile(fileobj=handle) as unpacked:
            yield from lines(lambda: unpacked.read1(BLOCK_BYTES), longest)


def lines(read: Callable[[], bytes], longest: int) -> Iterator[Line]:
    """The lines of what `read` returns block by block, until it returns nothing; see `numbered_lines`."""
    number, size = 1, 0
    parts: list[bytes] = []  # of the line that has not ended yet

    def add(part: bytes) -> None:
        nonlocal size
        if size <= longest:
            parts.append(part)
        size += len(part)
        if size > longest:
            parts[:] = [b"".join(parts)[:HEAD_BYTES]]

    def end() -> Line:
        nonlocal number, size
        ended = Line(number, b"".join(parts), size)
        parts.clear()
        number, size = number + 1, 0
        return ended

    first = True
    try:
        while block := read():
            if first and is_utf_16(block):
                raise Damaged(1, "the file is UTF-16, not UTF-8. Save it as UTF-8", block[:HEAD_BYTES])
            if first:
                block, first = block.removeprefix(BOM), False
            rest, *others = block.split(b"\n")
            add(rest)
            for other in others:
                yield end()
                add(other)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        if size and isinstance(error, gzip.BadGzipFile):  # behind data that was complete
            yield end()
        start = b"".join(parts)[:HEAD_BYTES]
        raise Damaged(number, f"the file is damaged from here on: {error}", start) from None
    if size:
        yield end()
