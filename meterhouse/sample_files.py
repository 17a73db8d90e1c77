"""Files of samples, CSV or JSON lines, as rows of texts: whatever is odd costs only its own line.

The columns are `timestamp, volume` (or `value`), and `meter` (or `metric`), `resource_id`, `type`, `unit`,
`project_id`, `user_id`, `source`; also the `counter_*` names of Ceilometer. Others are passed over.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from meterhouse.envelope import BadMessage, parse_json
from meterhouse.errors import MeterhouseError
from meterhouse.stream import Raw
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


@dataclass
class SampleRows:
    """Rows of a file: the line each starts on, its text as it stands there, and a text or None for each of COLUMNS.

    `letters` are the lines that are no rows at all, with the reason.
    """

    lines: list[int] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    values: list[tuple[str | None, ...]] = field(default_factory=list)
    letters: list[Raw] = field(default_factory=list)

    def as_table(self) -> pa.Table:
        """Columns `line`, `raw` and COLUMNS, all but the first of text."""
        columns = zip(*self.values, strict=True) if self.values else [()] * len(COLUMNS)
        return pa.table(
            {
                "line": pa.array(self.lines, pa.int64()),
                "raw": pa.array(self.raw, pa.string()),
                **{name: pa.array(column, pa.string()) for name, column in zip(COLUMNS, columns, strict=True)},
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
    """Whether a file of JSON lines is one of samples: the first object in it that can be read decides."""
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
    found = SampleRows()
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
                found.letters.append(Raw(body, f"load:{path.name}:{number}", reason))
                continue
            named = {ALIASES.get(name, name): _text(value) for name, value in row.items()}
            found.lines.append(number)
            found.raw.append(text)
            found.values.append(tuple(named.get(name) for name in COLUMNS))
    except Damaged as damage:
        found.letters.append(Raw(b"", f"load:{path.name}:{damage.number}", str(damage)))
    return found


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool | dict | list):
        return orjson.dumps(value).decode()
    return str(value)


def read_csv(path: Path) -> SampleRows:
    """The rows of a CSV file with a header, separated by comma, semicolon or tab; spaces around values are dropped.

    Raises:
        MeterhouseError: the header has not the columns, or one of them twice.
        OSError: the file cannot be opened or read.
    """
    found = SampleRows()
    taken: list[str] = []
    reached = 0

    def lines() -> Iterator[str]:
        nonlocal reached
        try:
            for number, line in numbered_lines(path):
                reached = number
                # Bytes that are no UTF-8 come through as surrogates, and only their own row is refused.
                taken.append(line.decode("utf-8", "surrogateescape"))
                yield taken[-1]
        except Damaged as damage:
            found.letters.append(Raw(b"", f"load:{path.name}:{damage.number}", str(damage)))

    source = lines()
    header = next(source, "")
    separator, names = _header(path, header)
    if not names:
        return found
    taken.clear()
    places = {name: names.index(name) for name in COLUMNS if name in names}
    start = reached + 1
    for row in csv.reader(source, delimiter=separator, skipinitialspace=True):
        raw = "".join(taken).rstrip("\r\n")
        line, start = start, reached + 1
        taken.clear()
        if not row:
            continue
        problem = None
        if len(row) != len(names):
            problem = f"{len(row)} columns where the header has {len(names)}"
        elif not raw.isascii() and any("\udc80" <= character <= "\udcff" for character in raw):
            problem = "not UTF-8"
        if problem:
            body = raw.encode("utf-8", "surrogateescape")
            found.letters.append(Raw(body, f"load:{path.name}:{line}", problem))
            continue
        found.lines.append(line)
        found.raw.append(raw)
        found.values.append(tuple((row[places[name]].strip() or None) if name in places else None for name in COLUMNS))
    return found


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
