"""Reads lines of files, plain or compressed, up to where a file is damaged."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

BOM = b"\xef\xbb\xbf"


class Damaged(Exception):
    """A compressed file that cannot be read from a line on; the message says why."""

    def __init__(self, number: int, reason: Exception) -> None:
        self.number = number
        super().__init__(f"the file is damaged from here on: {reason}")


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The file's lines with their numbers, from 1. A byte-order mark at the start is removed.

    Raises:
        OSError: the file cannot be opened or read.
        Damaged: it is compressed and cannot be read to its end; the lines before were yielded.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                yield number, line.removeprefix(BOM) if number == 1 else line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Damaged(number + 1, error) from None
