"""Points in JSON: arrays or objects of a time and a value, as servers of time series export them.

The usual forms are turned into CSV by replacing what is between the values, and read by Arrow. Others are read as JSON.
"""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pacsv

from meterhouse import times
from meterhouse.collection.column_names import GRANULARITY
from meterhouse.collection.judged_rows import DIMENSIONS
from meterhouse.collection.sample_rows import BadFile, SampleRows
from meterhouse.stream.envelope import BadMessage, parse_json

Series = dict[str, str | None]
"""By dimension, the value of a series. What is missing gets the file's default."""

_WITHIN: Final = re.compile(rb"[^\s,:\[\]{}]\s+[^\s,:\[\]{}]")
"""A space that is not beside a bracket, comma or colon."""

_OBJECT: Final = re.compile(rb'\{"timestamp":("[^"]*"),(?:"granularity":([^,{}\[\]"]*),)?"value":([^,{}\[\]"]*)\},?')
_LINES: Final = bytes.maketrans(b"]", b"\n")
_CODED: Final = pa.dictionary(pa.int32(), pa.string())


def count(part: bytes) -> int:
    """About how many points a part of an array has; exactly, if no text in it has brackets."""
    return part.count(b"]") or part.count(b"}")


def rows(path: Path, parts: Sequence[tuple[Series, bytes]], fields: Sequence[str], number: int) -> list[SampleRows]:
    """The points of parts of arrays.

    Args:
        path: the file.
        parts: the series of each, and its elements with the commas between them.
        fields: the names of an array's elements: `timestamp` (ISO 8601, or seconds since 1970), GRANULARITY, `volume`.
        number: of the first point in the file.

    Raises:
        BadFile: a part is not JSON.
    """
    if (arrays := _arrays_as_csv([part for _, part in parts])) is not None:
        lines, counts = arrays
        table = _read(lines, ["", *fields])
        if table is not None and table.num_rows == sum(counts):
            return [_of_series(table, parts, counts, number, lambda place: b"[%s]" % lines.split(b"\n")[place][1:])]
    texts = [_as_csv(part, len(fields)) for _, part in parts]
    if all(text is not None for text in texts):
        lines = b"\n".join(text for text in texts if text)
        table = _read(lines, fields)
        counts = [text.count(b"\n") + 1 if text else 0 for text in texts if text is not None]
        if table is not None and table.num_rows == sum(counts):
            return [_of_series(table, parts, counts, number, lambda place: b"[%s]" % lines.split(b"\n")[place])]
    found = [_elements(path, part, fields) for _, part in parts]
    every = [element for elements in found for element in elements]
    columns = {name: pa.array([_text(name, each[name]) for each in every], pa.string()) for name in fields}
    table = pa.table(columns)
    return [_of_series(table, parts, [len(each) for each in found], number, lambda place: orjson.dumps(every[place]))]


def _arrays_as_csv(parts: Sequence[bytes]) -> tuple[bytes, list[int]] | None:
    """The arrays of all parts as lines of CSV, each with an empty value before, and how many each part has.

    None if they have another form than `[A, B], [C, D]`, with or without the spaces. All of them are looked at
    together, by NumPy, which lets other threads go on.
    """
    text = b",".join(part for part in parts if part)
    found = np.frombuffer(text, np.uint8)
    opening, closing = np.flatnonzero(found == ord("[")), np.flatnonzero(found == ord("]"))
    if not len(opening) or len(opening) != len(closing) or opening[0] or closing[-1] != len(text) - 1:
        return None
    between = opening[1:] - closing[:-1]  # 2 for `],[`, 3 for `], [`
    spaces = np.flatnonzero(found == ord(" "))
    if (
        (closing[:-1] < opening[:-1]).any()
        or ((between != 2) & (between != 3)).any()
        or (found[closing[:-1] + 1] != ord(",")).any()
        or (found[opening[1:][between == 3] - 1] != ord(" ")).any()
        or (found[spaces - 1] != ord(",")).any()
        or any(other in text for other in (b"\t", b"\r", b"\n", b"\\"))
    ):
        return None
    sizes = np.array([len(part) + 1 if part else 0 for part in parts])
    counts = np.diff(np.searchsorted(opening, np.cumsum(np.append(0, sizes))))
    return b"," + text.translate(_LINES, b"[ ")[:-1], counts.tolist()


def _as_csv(part: bytes, width: int) -> bytes | None:
    """A part as lines of CSV; None if it has another form."""
    text = part.replace(b", ", b",").replace(b": ", b":")
    if any(space in text for space in (b" ", b"\n", b"\t", b"\r")):
        if _WITHIN.search(text):
            return None
        text = text.translate(None, b" \t\r\n")
    if not text:
        return b""
    if b"\\" in text:
        return None
    if text.startswith(b"{"):
        lines, found = _OBJECT.subn(rb"\1,\2,\3" + b"\n" if width == 3 else rb"\1,\3" + b"\n", text)
        return lines[:-1] if found == lines.count(b"\n") and b"{" not in lines else None
    lines = text[1:-1].replace(b"],[", b"\n")
    return None if b"[" in lines or b"]" in lines else lines


def _read(lines: bytes, fields: Sequence[str]) -> pa.Table | None:
    """The lines as Arrow reads them; None if it cannot. A field without a name is left out."""
    named = [name for name in fields if name]
    if not lines:
        return pa.table({name: pa.array([], pa.string()) for name in named})
    numbered = not lines.startswith((b'"', b',"'))
    types = {
        "timestamp": pa.float64() if numbered else pa.timestamp("us", "UTC" if b"+" in lines[:40] else None),
        "volume": pa.float64(),
        GRANULARITY: _CODED,
    }
    if b"+Inf" in lines:
        lines = lines.replace(b'"+Inf"', b'"Inf"')
    try:
        table = pacsv.read_csv(
            pa.BufferReader(lines),
            pacsv.ReadOptions(use_threads=False, block_size=len(lines) + 1, column_names=list(fields)),
            pacsv.ParseOptions(double_quote=False),
            pacsv.ConvertOptions(
                include_columns=named, column_types=types, null_values=["", "null"], strings_can_be_null=True
            ),
        )
    except pa.ArrowInvalid:
        return None
    return table.set_column(0, "timestamp", _from_seconds(table["timestamp"])) if numbered else table


def _from_seconds(column: pa.ChunkedArray) -> pa.Array:
    """Times from seconds since 1970, to the nearest microsecond; null for what is none."""
    seconds = column.combine_chunks().to_numpy(zero_copy_only=False)
    fits = np.abs(seconds) < 1e12
    micros = np.rint(np.where(fits, seconds, -1.0) * 1e6).astype(np.int64)
    return pa.array(micros, pa.int64(), mask=np.isnan(seconds)).cast(pa.timestamp("us", "UTC"))


def _elements(path: Path, part: bytes, fields: Sequence[str]) -> list[dict[str, Any]]:
    try:
        found: Any = parse_json(f"[{part.decode()}]")
    except (BadMessage, UnicodeDecodeError) as error:
        raise BadFile(f"cannot be read as JSON: {error}", where=str(path)) from None
    return [_named(each, fields) for each in found]


def _named(element: Any, fields: Sequence[str]) -> dict[str, Any]:
    """A point's values by field, None for those that it lacks."""
    if isinstance(element, dict):
        given = {"volume" if name == "value" else name: value for name, value in element.items()}
        return {name: given.get(name) for name in fields}
    values = element if isinstance(element, list) and len(element) == len(fields) else [None] * len(fields)
    return dict(zip(fields, values, strict=True))


def _text(name: str, value: Any) -> str | None:
    if name == "timestamp" and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return times.text(times.EPOCH + timedelta(seconds=value))
        except (OverflowError, ValueError):
            return str(value)
    return value if value is None or isinstance(value, str) else str(value)


def _of_series(
    table: pa.Table,
    parts: Sequence[tuple[Series, bytes]],
    counts: Sequence[int],
    number: int,
    text: Callable[[int], bytes],
) -> SampleRows:
    codes = pa.array(np.repeat(np.arange(len(parts), dtype=np.int32), counts))
    for name in DIMENSIONS:
        values = [series.get(name) for series, _ in parts]
        if any(values):
            coded = pa.DictionaryArray.from_arrays(codes, pa.array([value or "" for value in values], pa.string()))
            table = table.append_column(name, coded)
    return SampleRows(table, number, text, set(table.column_names), [])
