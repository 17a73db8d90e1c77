"""Reads Parquet files of samples, a row group at a time. `column_names` lists the names of the columns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterhouse.collection.column_names import COLUMNS, GRANULARITY, BadColumns, understood
from meterhouse.collection.sample_rows import BadFile, SampleRows, Task, Told, untold

BATCH_ROWS: Final = 1 << 19
"""Maximum number of rows of a part, unless it is a row group."""

_MICROS: Final = pa.timestamp("us", tz="UTC")


def read_parquet(path: Path, told: Told = untold) -> Iterator[Task]:
    """The parts of a Parquet file, in order.

    A time without a zone is UTC; what is below a microsecond is cut off. A row's line is its number, from 1.

    Args:
        path: the file.
        told: see `Told`.

    Raises:
        BadFile: it cannot be read, lacks a required column, has one that is not known, one twice, or one whose type
            cannot be used.
    """
    with _readable(path):
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
    names = _names(path, schema)
    texts = [each.name for each, name in zip(schema, names, strict=True) if name not in ("", "timestamp", "volume")]
    row = 1
    for number in range(file.num_row_groups):
        told(row / max(file.metadata.num_rows, 1))
        rows = file.metadata.row_group(number).num_rows
        if rows <= 2 * BATCH_ROWS:
            yield partial(_row_group, path, file.metadata, number, texts, names, row)
        else:
            at = row
            with _readable(path):
                for batch in pq.ParquetFile(path, metadata=file.metadata, read_dictionary=texts).iter_batches(
                    BATCH_ROWS, [number]
                ):
                    told(at / file.metadata.num_rows)
                    yield partial(_rows, path, pa.table(batch), names, at)
                    at += len(batch)
        row += rows


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise BadFile(f"cannot be read as Parquet: {why}", where=str(path)) from None


def _names(path: Path, schema: pa.Schema) -> list[str]:
    """The columns that the file's stand for, with an empty text for those that are not used."""
    try:
        names = understood(schema.names)
        if missing := [name for name in ("timestamp", "volume") if name not in names]:
            raise BadColumns(f"has no column {' and no column '.join(missing)}. Columns: {','.join(COLUMNS)}")
        for each, name in zip(schema, names, strict=True):
            _check_type(each, name)
    except BadColumns as fault:
        raise BadFile(str(fault), where=str(path)) from None
    return names


def _check_type(column: pa.Field, name: str) -> None:
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    if name == "timestamp":
        fits, wanted = text or types.is_timestamp(kind) or types.is_date(kind), "timestamps, dates, or ISO 8601 texts"
    elif name in ("volume", GRANULARITY):
        fits, wanted = text or number, "numbers"
    else:
        fits, wanted = text or not name, "texts"
    if not fits:
        raise BadColumns(f"has a column {column.name} of {column.type}, not of {wanted}")


def _row_group(
    path: Path, metadata: Any, number: int, texts: list[str], names: list[str], row: int
) -> list[SampleRows]:
    with _readable(path):
        rows = pq.ParquetFile(path, metadata=metadata, read_dictionary=texts).read_row_group(number, use_threads=False)
    return _rows(path, rows, names, row)


def _rows(path: Path, rows: pa.Table, names: Sequence[str], row: int) -> list[SampleRows]:
    with _readable(path):
        columns = {name: _column(rows[place].combine_chunks(), name) for place, name in enumerate(names) if name}

    def text(place: int) -> bytes:
        found = {name: _value(rows[name], place) for name in rows.column_names}
        return orjson.dumps(found, default=str, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)

    return [SampleRows(pa.table(columns), row, text, set(columns), [])]


def _value(column: pa.ChunkedArray, place: int) -> Any:
    try:
        return column[place].as_py()
    except (OverflowError, ValueError):  # a time that Python does not have
        return column[place].cast(pa.int64()).as_py()


def _column(values: pa.Array, name: str) -> pa.Array:
    """A column as `SampleRows` has it."""
    types = pa.types
    coded = types.is_dictionary(values.type)
    kind = values.type.value_type if coded else values.type
    if name == "timestamp" and (types.is_timestamp(kind) or types.is_date(kind)):
        plain = values.dictionary_decode() if coded else values
        return _micros(plain.cast(pa.timestamp("ms")) if types.is_date(kind) else plain)
    if name == "volume" and not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        return (values.dictionary_decode() if coded else values).cast(pa.float64(), safe=False)
    if coded and types.is_string(kind) and name not in ("timestamp", "volume"):
        return values.cast(pa.dictionary(pa.int32(), pa.string()))
    return (values.dictionary_decode() if coded else values).cast(pa.string())


def _micros(moments: pa.Array) -> pa.Array:
    """Times in µs, UTC. One that does not fit becomes one before 1970, which is refused as it would be."""
    numbers, unit = moments.cast(pa.int64()), moments.type.unit
    if unit == "ns":
        numbers = pc.divide(numbers, 1_000)
    elif unit != "us":
        each = {"s": 1_000_000, "ms": 1_000}[unit]
        numbers = pc.multiply(pc.if_else(pc.greater(pc.abs(numbers), (1 << 62) // each), -1, numbers), each)
    return numbers.cast(_MICROS)
