"""Reads files of samples, CSV or JSON lines, as rows of texts. A bad line does not affect the others.

The columns are `timestamp`, `volume` (or `value`), `meter` (or `metric`), `resource_id`, `type`, `unit`, `project_id`,
`user_id` and `source`. Ceilometer's `counter_*` names are accepted too. Other columns are ignored.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.errors import MeterhouseError
from meterhouse.stream import Raw
from meterhouse.stream.envelope import BadMessage, parse_json
from meterhouse.stream.files import Damaged, numbered_lines

COLUMNS = ("timestamp", "volume", "meter", "resource_id", "type", "unit", "project_id", "user_id", "source")
ALIASES = {
    "metric": "meter",
    "value": "volume",
    "counter_name": "meter",
    "counter_volume": "volume",
    "counter_type": "type",
    "counter_unit": "unit",
}
SEPARATORS = (",", ";", "\t")
_SURROGATE = re.compile("[\udc80-\udcff]")


@dataclass
class SampleRows:
    """The content of a file.

    Attributes:
        rows: one row for each sample: `line` (where it starts), `raw` (its text in the file) and COLUMNS as texts.
        letters: the lines that are not rows, with the reason.
    """

    rows: pa.Table
    letters: list[Raw]


def _table(lines: list[int], raw: list[str], columns: dict[str, pa.Array]) -> pa.Table:
    missing = pa.nulls(len(lines), pa.string())
    return pa.table(
        {
            "line": pa.array(lines, pa.int64()),
            "raw": pa.array(raw, pa.string()),
            **{name: columns.get(name, missing) for name in COLUMNS},
        }
    )


def is_sample(message: object) -> bool:
    """Whether a line's object is a sample rather than a notification."""
    return (
        isinstance(message, dict)
        and "event_type" not in message
        and any(ALIASES.get(name, name) == "volume" for name in message)
    )


def holds_samples(path: Path) -> bool:
    """Whether a file of JSON lines contains samples: the first object that can be read decides."""
    try:
        for _, line in numbered_lines(path):
            try:
                message = parse_json(line.strip().decode("utf-8"))
            except (BadMessage, UnicodeDecodeError):
                continue
            if isinstance(message, dict):
                return is_sample(message)
    except Damaged:
        return False
    return False


def read_json_lines(path: Path) -> SampleRows:
    """The rows of a file of JSON lines.

    Raises:
        OSError: the file cannot be opened or read.
    """
    lines: list[int] = []
    raw: list[str] = []
    values: list[tuple[str | None, ...]] = []
    letters: list[Raw] = []
    try:
        for number, line in numbered_lines(path):
            body = line.strip()
            if not body:
                continue
            try:
                text = body.decode("utf-8")
                row = parse_json(text)
                if not isinstance(row, dict):
                    raise BadMessage(f"not a JSON object but {type(row).__name__}")
            except (BadMessage, UnicodeDecodeError) as error:
                reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                letters.append(Raw(body, f"load:{path.name}:{number}", reason))
                continue
            named = {ALIASES.get(name, name): _text(value) for name, value in row.items()}
            lines.append(number)
            raw.append(text)
            values.append(tuple(named.get(name) for name in COLUMNS))
    except Damaged as damage:
        letters.append(Raw(b"", f"load:{path.name}:{damage.number}", str(damage)))
    columns = {
        name: pa.array(column, pa.string())
        for name, column in zip(COLUMNS, zip(*values, strict=True), strict=bool(values))
    }
    return SampleRows(_table(lines, raw, columns), letters)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool | dict | list):
        return orjson.dumps(value).decode()
    return str(value)


def read_csv(path: Path) -> SampleRows:
    """The rows of a CSV file with a header, separated by commas, semicolons or tabs. Spaces around values are removed.

    Raises:
        MeterhouseError: the header lacks a required column, or has a column twice.
        OSError: the file cannot be opened or read.
    """
    letters: list[Raw] = []
    taken: list[str] = []
    reached = 0

    def texts() -> Iterator[str]:
        nonlocal reached
        try:
            for number, line in numbered_lines(path):
                reached = number
                # Bytes that are not UTF-8 become surrogates, so that only their own row is rejected.
                taken.append(line.decode("utf-8", "surrogateescape"))
                yield taken[-1]
        except Damaged as damage:
            letters.append(Raw(b"", f"load:{path.name}:{damage.number}", str(damage)))

    source = texts()
    separator, names = _header(path, next(source, ""))
    taken.clear()
    lines: list[int] = []
    raw: list[str] = []
    rows: list[list[str]] = []
    start = reached + 1
    for row in csv.reader(source, delimiter=separator, skipinitialspace=True):
        text = (taken[0] if len(taken) == 1 else "".join(taken)).rstrip("\r\n")
        line, start = start, reached + 1
        taken.clear()
        if len(row) == len(names) and (text.isascii() or not _SURROGATE.search(text)):
            lines.append(line)
            raw.append(text)
            rows.append(row)
        elif row:
            problem = "not UTF-8" if len(row) == len(names) else _width(len(row), len(names))
            letters.append(Raw(text.encode("utf-8", "surrogateescape"), f"load:{path.name}:{line}", problem))
    columns = {
        name: _trimmed(column)
        for name, column in zip(names, zip(*rows, strict=True), strict=bool(rows))
        if name in COLUMNS
    }
    return SampleRows(_table(lines, raw, columns), letters)


def _width(found: int, wanted: int) -> str:
    return f"{found} columns where the header has {wanted}"


def _trimmed(column: Sequence[str]) -> pa.Array:
    """The texts without spaces around them; null for an empty text."""
    trimmed = pc.utf8_trim_whitespace(pa.array(column, pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _header(path: Path, header: str) -> tuple[str, list[str]]:
    """The separator and the columns' names; no names for an empty file."""
    if not header.strip():
        return ",", []
    for separator in SEPARATORS:
        (given,) = csv.reader([header.strip()], delimiter=separator, skipinitialspace=True)
        lowered = [name.strip().lower() for name in given]
        names = [ALIASES.get(name, name) for name in lowered]
        if "timestamp" in names and "volume" in names:
            twice = sorted({name for name in names if names.count(name) > 1 and name in COLUMNS})
            if twice:
                raise MeterhouseError(
                    f"has two columns for {', '.join(twice)}", where=f"{path}:1", hint="Keep one of them"
                )
            return separator, names
    (given,) = csv.reader([header.strip()])
    names = [ALIASES.get(name.strip().lower(), name) for name in given]
    missing = [name for name in ("timestamp", "volume") if name not in names]
    raise MeterhouseError(
        f"has no column {' and no column '.join(missing)}", where=f"{path}:1", hint=f"Columns: {','.join(COLUMNS)}"
    )
