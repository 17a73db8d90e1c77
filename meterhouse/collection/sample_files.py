"""Reads files of samples, CSV or JSON, piece by piece as rows of texts. A bad line does not affect the others.

`column_names` lists the names of the columns.
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.collection.column_names import COLUMNS, GRANULARITY, BadColumns, is_sample, understood
from meterhouse.errors import MeterhouseError
from meterhouse.stream import Raw, too_long
from meterhouse.stream.envelope import BadMessage, parse_json
from meterhouse.stream.files import Damaged, Line, numbered_lines

TEXTS = (*COLUMNS, GRANULARITY)
SEPARATORS = (",", ";", "\t")
ROWS_AT_ONCE, BYTES_AT_ONCE = 50_000, 16 << 20
"""The rows, or the bytes of their texts, at which a piece is complete."""

_SURROGATE = re.compile("[\udc80-\udcff]")


class BadFile(MeterhouseError):
    """A file that cannot be loaded. Others can."""


@dataclass
class SampleRows:
    """A piece of a file.

    Attributes:
        rows: one row for each sample: `line` (where it starts), `raw` (its text in the file) and TEXTS.
        columns: those of TEXTS that the piece has, whatever their values.
        letters: the lines that are not rows, with the reason.
    """

    rows: pa.Table
    columns: set[str]
    letters: list[Raw]


@dataclass
class _Piece:
    """What was read and not yielded yet."""

    lines: list[int] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    values: list[Sequence[str | None]] = field(default_factory=list)
    letters: list[Raw] = field(default_factory=list)
    size: int = 0

    def row(self, line: int, raw: str, values: Sequence[str | None]) -> None:
        self.lines.append(line)
        self.raw.append(raw)
        self.values.append(values)
        self.size += len(raw)

    def letter(self, body: bytes, queue: str, reason: str) -> None:
        self.letters.append(Raw(body, queue, reason))
        self.size += len(body)

    @property
    def is_full(self) -> bool:
        return len(self.lines) + len(self.letters) >= ROWS_AT_ONCE or self.size >= BYTES_AT_ONCE

    def take(self, names: Sequence[str], columns: set[str]) -> SampleRows:
        """The rows as a table, with the columns of the values in order. The piece is empty afterwards."""
        missing = pa.nulls(len(self.lines), pa.string())
        found = {
            name: _trimmed(values)
            for name, values in zip(names, zip(*self.values, strict=True), strict=bool(self.values))
            if name
        }
        rows = pa.table(
            {
                "line": pa.array(self.lines, pa.int64()),
                "raw": pa.array(self.raw, pa.string()),
                **{name: found.get(name, missing) for name in TEXTS},
            }
        )
        taken = SampleRows(rows, columns, self.letters)
        self.lines, self.raw, self.values, self.letters, self.size = [], [], [], [], 0
        return taken


def _trimmed(column: Sequence[str | None]) -> pa.Array:
    """The texts without spaces around them; null for an empty text."""
    trimmed = pc.utf8_trim_whitespace(pa.array(column, pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def queue(path: Path, line: int) -> str:
    """Where a dead letter of a file came from."""
    return f"load:{path.name}:{line}"


# -- JSON -----------------------------------------------------------------------------------------------------


def read_json(path: Path, longest: int) -> Iterator[SampleRows] | None:
    """The samples of a file of JSON lines, or of one JSON array as clients of OpenStack print it.

    Returns None if the file has notifications: the first object that can be read decides.

    Args:
        path: the file.
        longest: maximum number of bytes of a line, and of an array.

    Raises:
        BadFile: the first sample has a column that cannot be used, or the array cannot be read.
        OSError: the file cannot be opened or read.
    """
    first: dict[str, Any] | None = None
    try:
        for _, line, size in numbered_lines(path, longest, _opened):
            text = line.strip()
            if text.startswith(b"[") and (found := _array(path, longest, alone=text == b"[")) is not None:
                _check(path, found)
                return _rows_of_array(path, found)
            first = _object(text) if size <= longest else None
            if first is not None:
                break
    except Damaged:
        return None
    if first is None or not is_sample(first):
        return None
    _check(path, [first])
    return _rows_of_lines(path, longest)


def _opened(path: Path) -> Any:
    return path.open("rb")


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(text.decode("utf-8"))
    except (BadMessage, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None


def _check(path: Path, found: Sequence[Any]) -> None:
    """Check the columns of the first sample: a name that is wrong there is wrong in every line."""
    for sample in found[:1]:
        try:
            _understood(tuple(sample))
        except BadColumns as fault:
            raise BadFile(str(fault), where=str(path)) from None


@lru_cache(maxsize=1024)
def _understood(names: tuple[str, ...]) -> list[str]:
    return understood(names)


def _array(path: Path, longest: int, *, alone: bool) -> list[Any] | None:
    """The objects of a file that is one JSON array; None if it is not.

    Raises:
        BadFile: its first line shows that it is an array (`alone`), but it cannot be read.
    """
    read: list[bytes] = []
    size = 0
    try:
        for _, line, length in numbered_lines(path, longest, _opened):
            read.append(line)
            size += length + 1
            if size > longest:
                break
    except Damaged:
        size = longest + 1
    found: Any = None
    if size <= longest:
        try:
            found = parse_json(b"\n".join(read).decode("utf-8"))
        except (BadMessage, UnicodeDecodeError):
            found = None
    if isinstance(found, list) and all(isinstance(each, dict) and is_sample(each) for each in found):
        return found
    if alone:
        raise BadFile(
            f"is not a JSON array of samples of at most {longest:,} bytes", where=str(path), hint="Write JSON lines"
        )
    return None


def _rows_of_array(path: Path, found: list[Any]) -> Iterator[SampleRows]:
    piece, columns = _Piece(), set[str]()
    for place, sample in enumerate(found, 1):
        text = json.dumps(sample, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
        _take(piece, columns, queue(path, place), place, text, sample)
        if piece.is_full:
            yield piece.take(TEXTS, columns)
    yield piece.take(TEXTS, columns)


def _rows_of_lines(path: Path, longest: int) -> Iterator[SampleRows]:
    piece, columns = _Piece(), set[str]()
    try:
        for number, line, size in numbered_lines(path, longest, _opened):
            if fault := too_long(size, longest):
                piece.letter(line, queue(path, number), fault)
            elif body := line.strip():
                try:
                    text = body.decode("utf-8")
                    sample = parse_json(text)
                    if not isinstance(sample, dict):
                        raise BadMessage(f"not a JSON object but {type(sample).__name__}")
                except (BadMessage, UnicodeDecodeError) as error:
                    reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                    piece.letter(body, queue(path, number), reason)
                else:
                    _take(piece, columns, queue(path, number), number, text, sample)
            if piece.is_full:
                yield piece.take(TEXTS, columns)
    except Damaged as damage:
        piece.letter(damage.start, queue(path, damage.number), str(damage))
    yield piece.take(TEXTS, columns)


def _take(piece: _Piece, columns: set[str], place: str, line: int, text: str, sample: dict[str, Any]) -> None:
    """Take an object as a row, or as a dead letter with what is wrong with its names and values."""
    try:
        if "event_type" in sample:
            raise BadMessage("a notification in a file of samples")
        names = _understood(tuple(sample))
        values = {name: _text(name, value) for name, value in zip(names, sample.values(), strict=True) if name}
    except ValueError as fault:
        piece.letter(text.encode(), place, str(fault))
        return
    columns.update(values)
    piece.row(line, text, [values.get(name) for name in TEXTS])


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool):
        return orjson.dumps(value).decode()
    if isinstance(value, dict | list):
        raise ValueError(f"the {name} is neither a text nor a number")
    return str(value)


# -- CSV ------------------------------------------------------------------------------------------------------


CsvRow = tuple[list[tuple[int, str]], list[str], str]
"""Lines with their numbers, the values in them, and what is wrong with them."""


class _Source:
    """The lines of a CSV file for `csv.reader`, which takes several for a row if a quoted value has line breaks.

    Attributes:
        taken: the lines of the row that is being read, with their numbers.
        letters: lines that no row can have; `csv.reader` gets an empty line for each.
    """

    def __init__(self, path: Path, longest: int) -> None:
        self.taken: list[tuple[int, str]] = []
        self.letters: list[Raw] = []
        self._path, self._longest = path, longest
        self._lines: Iterator[Line] = numbered_lines(path, longest, _opened)
        self._size = 0

    def __iter__(self) -> "_Source":
        return self

    def __next__(self) -> str:
        try:
            number, line, size = next(self._lines)
        except Damaged as damage:
            self.letters.append(Raw(damage.start, queue(self._path, damage.number), str(damage)))
            raise StopIteration from None
        if fault := too_long(size, self._longest):
            self.letters.append(Raw(line, queue(self._path, number), fault))
            line, size = b"", 0
        # Bytes that are not UTF-8 become surrogates, so that only their own row is rejected.
        text = line.decode("utf-8", "surrogateescape") + "\n"
        self.taken.append((number, text))
        self._size += size
        if self._size > self._longest:
            raise csv.Error("the row is too long")
        return text

    def take_letters(self) -> list[Raw]:
        """The letters since the last call."""
        taken, self.letters = self.letters, []
        return taken

    def begin(self) -> None:
        """Begin a row."""
        self.taken, self._size = [], 0


def read_csv(path: Path, longest: int) -> Iterator[SampleRows]:
    """The rows of a CSV file with a header, separated by commas, semicolons or tabs. Spaces around values are removed.

    Args:
        path: the file.
        longest: maximum number of bytes of a line, and of a row of several lines.

    Raises:
        BadFile: the header lacks a required column, has one that is not known, or one twice.
        OSError: the file cannot be opened or read.
    """
    source = _Source(path, longest)
    separator, names = _header(path, source)
    columns = {name for name in names if name}
    piece = _Piece()
    for lines, row, problem in _csv_rows(source, separator, names):
        text = "".join(each for _, each in lines).rstrip("\r\n")
        if not problem and not text.isascii() and _SURROGATE.search(text):
            problem = "not UTF-8"
        if not problem:
            piece.row(lines[0][0], text, row)
        elif text.strip():
            piece.letter(text.encode("utf-8", "surrogateescape"), queue(path, lines[0][0]), problem)
        for letter in source.take_letters():
            piece.letter(*letter[:3])
        if piece.is_full:
            yield piece.take(names, columns)
    piece.letters += source.letters
    yield piece.take(names, columns)


def _csv_rows(
    source: _Source, separator: str, names: list[str]
) -> Iterator[tuple[list[tuple[int, str]], list[str], str]]:
    """The rows after the header.

    A quote that is not closed would take the rows behind it into a value. So a value that is used has no line breaks,
    and the lines of a row that cannot be used are read again one by one.
    """
    width = len(names)
    together = csv.reader(source, delimiter=separator, skipinitialspace=True)
    while True:
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


def _header(path: Path, source: _Source) -> tuple[str, list[str]]:
    """The separator, and the columns with an empty text for those that are not used; none for an empty file."""
    header = next((line for line in source if line.strip()), "").strip()
    if re.fullmatch(r"sep=.", header):  # as spreadsheets write it; the columns' names show the separator too
        header = next((line for line in source if line.strip()), "").strip()
    if source.letters:
        raise BadFile(f"has a header that cannot be read: {source.letters[0].fault}", where=str(path))
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
