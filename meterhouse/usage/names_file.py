"""Names that a person gives: `names.csv` in the configuration folder, with the columns kind, id, name, and if wanted
domain and valid_from.

A row that cannot be used is left out and reported with its line; the others count.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from meterhouse import times
from meterhouse.definitions.site_files import once_a_change
from meterhouse.errors import DefinitionError, shown

FILE: Final = "names.csv"
KINDS: Final = ("project", "user", "domain", "flavor", "image", "volume_type")
REQUIRED: Final = ("kind", "id", "name")
OPTIONAL: Final = ("domain", "valid_from")

MAX_BYTES: Final = 64 << 20
MAX_TEXT: Final = 1_000
"""Maximum number of characters of an id or a name."""

MAX_FAULTS: Final = 100
"""Faults that are listed; the others are counted."""

_SEPARATORS: Final = (",", ";", "\t")


@dataclass(frozen=True)
class FileName:
    """A row of the file. `valid_from` is 1970 if it has none."""

    kind: str
    id: str
    valid_from: datetime
    name: str
    domain_name: str | None


@dataclass(frozen=True)
class NamesFile:
    """The names of a file.

    Attributes:
        names: the rows that can be used.
        faults: those that cannot, with file and line.
        path: the file; None if there is none.
    """

    names: tuple[FileName, ...] = ()
    faults: tuple[DefinitionError, ...] = ()
    path: Path | None = None


def load(config_dir: Path | None) -> NamesFile:
    """The names of the configuration folder's `names.csv`, read again when it changes; none without the file.

    Raises:
        DefinitionError: the file cannot be read, or its first line does not name the columns.
    """
    path = config_dir / FILE if config_dir else None
    if path is None or not path.exists():
        return NamesFile()
    try:
        return _current(path)
    except OSError as error:
        raise DefinitionError(f"cannot be read: {error.strerror or error}", where=str(path)) from None


def read(path: Path) -> NamesFile:
    """The names of a file.

    Raises:
        DefinitionError: the file cannot be read, or its first line does not name the columns.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise DefinitionError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    if len(content) > MAX_BYTES:
        raise DefinitionError(f"is larger than {MAX_BYTES >> 20} MiB", where=str(path))
    text = content.decode("utf-8-sig", "surrogateescape")
    head = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    rows = _rows(path, text, separator)
    first = next(rows, None)
    columns = [name.strip().lower() for name in first[1]] if first else []
    unknown = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    if unknown or len(set(columns)) != len(columns) or not set(REQUIRED) <= set(columns):
        raise DefinitionError(
            f"the first line has the columns {shown(','.join(columns))}",
            where=f"{path}:1",
            hint=f"Write {','.join(REQUIRED)}, and if you want {' and '.join(OPTIONAL)}",
        )
    names: dict[tuple[str, str, datetime], FileName] = {}
    faults: list[DefinitionError] = []
    left_out = 0
    for line, cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        try:
            one = _name(columns, cells)
            key = (one.kind, one.id, one.valid_from)
            if key in names and names[key] != one:
                raise ValueError(f"{one.kind} {shown(one.id)} has another name from the same time on")
            names[key] = one
        except ValueError as error:
            left_out += 1
            if len(faults) < MAX_FAULTS:
                faults.append(DefinitionError(str(error), where=f"{path}:{line}"))
    if left_out > len(faults):
        faults.append(DefinitionError(f"{left_out - len(faults)} further rows cannot be used", where=str(path)))
    return NamesFile(tuple(names.values()), tuple(faults), path)


_current: Final = once_a_change(read)


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its first line.

    Raises:
        DefinitionError: the text is not CSV.
    """
    lines = text.splitlines(keepends=True)
    reader = csv.reader(lines, delimiter=separator)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DefinitionError(f"is not CSV: {error}", where=f"{path}:{line}") from None
        yield line, row


def _name(columns: list[str], cells: list[str]) -> FileName:
    """A row.

    Raises:
        ValueError: it cannot be used.
    """
    if len(cells) != len(columns):
        raise ValueError(f"the row has {len(cells)} values, and there are {len(columns)} columns")
    row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    for name, value in row.items():
        if any("\udc80" <= each <= "\udcff" for each in value):
            raise ValueError(f"{name} is not UTF-8 text")
        if len(value) > MAX_TEXT or "\0" in value:
            raise ValueError(f"{name} is longer than {MAX_TEXT:,} characters, or has a NUL")
        if name in REQUIRED and not value:
            raise ValueError(f"{name} is empty")
    if row["kind"].lower() not in KINDS:
        raise ValueError(f"unknown kind {shown(row['kind'])}. Known: {', '.join(KINDS)}")
    valid_from = times.EPOCH
    if given := row.get("valid_from"):
        try:
            valid_from = datetime.fromisoformat(given)
            valid_from = valid_from.replace(tzinfo=UTC) if valid_from.tzinfo is None else valid_from.astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValueError(f"valid_from is {shown(given)}. Write ISO 8601, such as 2026-11-01") from None
        if not 1970 <= valid_from.year <= 2261:
            raise ValueError(f"valid_from is {shown(given)}, which is out of reach")
    return FileName(row["kind"].lower(), row["id"], valid_from, row["name"], row.get("domain") or None)
