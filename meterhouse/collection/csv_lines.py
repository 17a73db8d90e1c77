"""Reads CSV line by line with `csv.reader`, which decides what a row is."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meterhouse.collection.column_names import COLUMNS, BadColumns, understood
from meterhouse.collection.sample_rows import BadFile, Piece, SampleRows, queue
from meterhouse.stream import Raw, too_long
from meterhouse.stream.files import Damaged, Line

SEPARATORS: Final = (",", ";", "\t")

LONGEST_VALUE: Final = csv.field_size_limit()
"""Maximum number of characters of a value."""

_SURROGATE: Final = re.compile("[\udc80-\udcff]")


class LineSource:
    """The lines of a CSV file for `csv.reader`, which takes several for a row if a quoted value has line breaks.

    Attributes:
        taken: the lines of the row that is being read, with their numbers.
        letters: lines that no row can have; `csv.reader` gets an empty line for each.
        size: how many bytes the lines had so far, with their line feeds.
        damaged: whether the file cannot be read any further.
    """

    def __init__(self, path: Path, longest: int, lines: Iterator[Line]) -> None:
        self.taken: list[tuple[int, str]] = []
        self.letters: list[Raw] = []
        self.size, self.damaged = 0, False
        self.path, self._longest, self._lines = path, longest, lines
        self._row_size = 0

    def __iter__(self) -> "LineSource":
        return self

    def __next__(self) -> str:
        try:
            number, line, size = next(self._lines)
        except Damaged as damage:
            self.letters.append(Raw(damage.start, queue(self.path, damage.number), str(damage)))
            self.damaged = True
            raise StopIteration from None
        self.size += size + 1
        if fault := too_long(size, self._longest):
            self.letters.append(Raw(line, queue(self.path, number), fault))
            line, size = b"", 0
        # Bytes that are not UTF-8 become surrogates, so that only their own row is rejected.
        text = line.decode("utf-8", "surrogateescape") + "\n"
        self.taken.append((number, text))
        self._row_size += size
        if self._row_size > self._longest:
            raise csv.Error("the row is too long")
        return text

    def take_letters(self) -> list[Raw]:
        """The letters since the last call."""
        taken, self.letters = self.letters, []
        return taken

    def begin(self) -> None:
        """Begin a row."""
        self.taken, self._row_size = [], 0


def rows_of_lines(
    source: LineSource, separator: str, names: list[str], limit: float = float("inf")
) -> Iterator[SampleRows]:
    """The rows of lines, and what is wrong with lines that are none.

    Args:
        source: the lines after the header.
        separator: between values.
        names: the columns, with an empty text for those that are not used.
        limit: no row is begun after this many bytes.
    """
    columns = {name for name in names if name}
    piece = Piece()
    for lines, row, problem in _csv_rows(source, separator, names, limit):
        text = "".join(each for _, each in lines).rstrip("\r\n")
        if not problem and not text.isascii() and _SURROGATE.search(text):
            problem = "not UTF-8"
        if not problem:
            piece.row(lines[0][0], text, row)
        elif text.strip():
            piece.letter(text.encode("utf-8", "surrogateescape"), queue(source.path, lines[0][0]), problem)
        for letter in source.take_letters():
            piece.letter(*letter[:3])
        if piece.is_full:
            yield piece.take(names, columns)
    piece.letters += source.take_letters()
    if piece.lines or piece.letters:
        yield piece.take(names, columns)


def _csv_rows(
    source: LineSource, separator: str, names: list[str], limit: float
) -> Iterator[tuple[list[tuple[int, str]], list[str], str]]:
    """The rows after the header.

    A quote that is not closed would take the rows behind it into a value. So a value that is used has no line breaks,
    and the lines of a row that cannot be used are read again one by one.
    """
    width = len(names)
    together = csv.reader(source, delimiter=separator, skipinitialspace=True)
    while source.size < limit:
        source.begin()
        try:
            row, problem = _row(together, width)
        except StopIteration:
            return
        if len(source.taken) == 1:
            yield source.taken, row, problem
            continue
        broken = any(name and "\n" in value for name, value in zip(names, row, strict=False))
        if not (problem or broken):
            yield source.taken, row, ""
            continue
        for number, text in source.taken:
            row, problem = _row(csv.reader([text], delimiter=separator, skipinitialspace=True), width)
            unclosed = bool(row) and row[-1].endswith("\n")
            yield [(number, text)], row, "a quote is not closed" if unclosed else problem


def _row(reader: Iterator[list[str]], width: int) -> tuple[list[str], str]:
    """The next row, and what is wrong with it.

    Raises:
        StopIteration: there is none.
    """
    try:
        row = next(reader)
    except csv.Error as error:
        if "field limit" in str(error):
            return [], f"a value is longer than {csv.field_size_limit():,} characters"
        return [], str(error)
    return row, "" if len(row) == width else f"{len(row)} columns where the header has {width}"


def header(path: Path, source: LineSource) -> tuple[str, list[str]]:
    """The separator, and the columns with an empty text for those that are not used; none for an empty file."""
    header = next((line for line in source if line.strip()), "").strip()
    if re.fullmatch(r"sep=.", header):  # as spreadsheets write it; the columns' names show the separator too
        header = next((line for line in source if line.strip()), "").strip()
    if source.letters:
        raise unreadable_header(path, source.letters[0].fault)
    if not header:
        return ",", []
    given = {separator: _split(header, separator) for separator in SEPARATORS}
    separator = max(SEPARATORS, key=lambda each: len(given[each]))
    try:
        names = understood(given[separator])
        missing = [name for name in ("timestamp", "volume") if name not in names]
        if missing:
            raise BadColumns(f"has no column {' and no column '.join(missing)}. Columns: {','.join(COLUMNS)}")
    except BadColumns as fault:
        raise BadFile(str(fault), where=f"{path}:1") from None
    return separator, names


def _split(header: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return [header]


def unreadable_header(path: Path, why: str) -> BadFile:
    """The error for a file whose header cannot be read."""
    return BadFile(f"has a header that cannot be read: {why}", where=str(path))
