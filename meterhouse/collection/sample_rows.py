"""Rows of a file of samples, in columns as they were read: what every reader of a format yields."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from meterhouse.collection.column_names import COLUMNS, GRANULARITY
from meterhouse.errors import MeterhouseError
from meterhouse.stream import Raw

TEXTS = (*COLUMNS, GRANULARITY)

ROWS_AT_ONCE, BYTES_AT_ONCE = 50_000, 16 << 20
"""The rows, or the bytes of their texts, at which a piece that is read line by line is complete."""


class BadFile(MeterhouseError):
    """A file that cannot be loaded. Others can."""


@dataclass
class SampleRows:
    """A piece of a file.

    Attributes:
        rows: a column for each of TEXTS that the piece has. `timestamp` is texts, or times in µs, UTC; `volume` is
            texts or 64-bit floats; the others are texts, which may be dictionaries. Null and empty mean missing.
        line: the line on which each row starts: of the first row if all follow each other, else of every row.
        text: the text of a row, by its place in the piece, for a dead letter.
        columns: those of TEXTS that the file names, whatever their values.
        letters: the lines that are not rows, with the reason.
    """

    rows: pa.Table
    line: int | Sequence[int]
    text: Callable[[int], bytes]
    columns: set[str]
    letters: list[Raw]

    def line_of(self, place: int) -> int:
        """The line on which a row starts."""
        return self.line + place if isinstance(self.line, int) else self.line[place]


Task = Callable[[], list[SampleRows]]
"""Reads a part of a file. Parts may be read at the same time, in any order."""

Told = Callable[[float], None]
"""Is called with the share of a file, from 0 to 1, that is divided into parts so far."""


def untold(share: float) -> None:
    """Ignore it."""


@dataclass
class Piece:
    """What was read line by line, and not yielded yet."""

    lines: list[int] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    values: list[Sequence[str | None]] = field(default_factory=list)
    letters: list[Raw] = field(default_factory=list)
    size: int = 0

    def row(self, line: int, raw: str, values: Sequence[str | None]) -> None:
        """Add a row."""
        self.lines.append(line)
        self.raw.append(raw)
        self.values.append(values)
        self.size += len(raw)

    def letter(self, body: bytes, queue: str, reason: str) -> None:
        """Add a line that is not a row."""
        self.letters.append(Raw(body, queue, reason))
        self.size += len(body)

    @property
    def is_full(self) -> bool:
        """Whether it is time to take the rows."""
        return len(self.lines) + len(self.letters) >= ROWS_AT_ONCE or self.size >= BYTES_AT_ONCE

    def take(self, names: Sequence[str], columns: set[str]) -> SampleRows:
        """The rows, with the columns of the values in order. The piece is empty afterwards."""
        by_column = zip(*self.values, strict=True) if self.values else [()] * len(names)
        rows = {name: pa.array(values, pa.string()) for name, values in zip(names, by_column, strict=True) if name}
        raw = self.raw
        taken = SampleRows(pa.table(rows), self.lines, lambda place: raw[place].encode(), set(columns), self.letters)
        self.lines, self.raw, self.values, self.letters, self.size = [], [], [], [], 0
        return taken


def queue(path: Path, line: int) -> str:
    """Where a dead letter of a file came from."""
    return f"load:{path.name}:{line}"
