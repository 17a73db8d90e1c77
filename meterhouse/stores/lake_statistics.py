"""Delta's statistics of a data file: row count, and bounds and number of nulls of each column, as JSON text.

Readers skip the files whose bounds exclude what they look for (Delta protocol, "Per-file Statistics"). They differ in
what they make of a column without bounds beside columns that have them: for `DeltaTable.to_pyarrow_dataset()` no row
fulfils a condition on it. So every flat column has bounds here, unless all of its values are null. They need not be
tight. Columns of binary and nested types never have any.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterhouse import times

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

TEXT = 32
"""Number of characters of a text's bounds."""

_LAST = "\U0010ffff"
_SURROGATES = range(0xD800, 0xE000)
_MILLISECOND = timedelta(milliseconds=1)


def statistics(parts: Iterable[pa.Table]) -> str:
    """The statistics of a file that holds these rows, in any order. All parts have the same columns."""
    known = Statistics()
    for part in parts:
        known.add(part)
    return known.text()


@dataclass
class Statistics:
    """The statistics of a file, whose rows are added in parts with the same columns.

    Texts may be dictionaries, whose bounds are those of all their values, used or not.
    """

    rows: int = 0
    columns: dict[str, "_Column"] = field(default_factory=dict)

    def add(self, part: pa.Table) -> None:
        """Add rows."""
        self.rows += part.num_rows
        for column in part.schema:
            if has_bounds(column.type):
                self.columns.setdefault(column.name, _Column()).add(part[column.name])

    def text(self) -> str:
        """Delta's JSON."""
        low = {name: column.low for name, column in self.columns.items() if column.low is not None}
        high = {name: column.high for name, column in self.columns.items() if column.high is not None}
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {name: _below(value) for name, value in low.items()},
                "maxValues": {name: _above(value) for name, value in high.items()},
                "nullCount": {name: column.nulls for name, column in self.columns.items()},
            },
            separators=(",", ":"),
            ensure_ascii=False,  # delta-rs misreads an escaped pair of surrogates
        )


def of_file(uri: str, filesystem: "AbstractFileSystem | None", schema: pa.Schema) -> str:
    """The statistics of a data file, which is read a row group at a time.

    Args:
        uri: the file's.
        filesystem: that of the object store; None for a folder.
        schema: the table's columns, without the partition's; those that the file lacks are null.

    Raises:
        OSError: the file cannot be read.
    """
    with filesystem.open(uri) if filesystem is not None else Path(uri).open("rb") as handle:
        file = pq.ParquetFile(handle)
        there = set(file.schema_arrow.names)
        read = [field.name for field in schema if has_bounds(field.type) and field.name in there]
        absent = [field for field in schema if has_bounds(field.type) and field.name not in there]

        def parts() -> Iterator[pa.Table]:
            yield schema.empty_table()
            for number in range(file.num_row_groups):
                part = file.read_row_group(number, read)
                for field in absent:
                    part = part.append_column(field, pa.nulls(part.num_rows, field.type))
                yield part

        return statistics(parts())


def has_views(uri: str, filesystem: "AbstractFileSystem | None") -> bool:
    """Whether a data file asks readers for Arrow's string or binary views.

    Raises:
        OSError: the file cannot be read.
    """
    with filesystem.open(uri) if filesystem is not None else Path(uri).open("rb") as handle:
        types = pq.read_schema(handle).types
    return any(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind) for kind in types)


def lacking(actions: pa.Table, schema: pa.Schema) -> pa.Table:
    """The files of `Lake.actions` whose statistics lack bounds of a column. `schema` is as in `of_file`."""
    rows = actions["num_records"]
    lack = pc.is_null(rows)
    for column in schema:
        if not has_bounds(column.type):
            continue
        for bound in (f"min.{column.name}", f"max.{column.name}"):
            unbounded = pc.is_null(actions[bound]) if bound in actions.column_names else pa.scalar(True)
            nulls = f"null_count.{column.name}"
            only_nulls = pc.equal(actions[nulls], rows) if nulls in actions.column_names else pa.scalar(False)
            lack = pc.or_(lack, pc.and_not(unbounded, pc.fill_null(only_nulls, False)))
    return actions.filter(lack)


def has_bounds(kind: pa.DataType) -> bool:
    """Whether columns of this type have bounds."""
    types = pa.types
    return bool(
        types.is_timestamp(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_string(kind)
        or types.is_boolean(kind)
        or types.is_date(kind)
        or (types.is_dictionary(kind) and has_bounds(kind.value_type))
    )


@dataclass
class _Column:
    """What is known of a column so far; `low` and `high` are None if it has only nulls."""

    low: Any = None
    high: Any = None
    nulls: int = 0

    def add(self, values: pa.ChunkedArray) -> None:
        self.nulls += values.null_count
        if pa.types.is_dictionary(values.type):
            values = pa.chunked_array([chunk.dictionary for chunk in values.chunks], values.type.value_type)
        low, high = _bounds(values)
        if low is None:
            return
        # NaN has no place in the order that all readers agree on: infinite bounds let each of them look.
        if pa.types.is_floating(values.type) and _has_nan(values):
            low, high = -inf, inf
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)


def _bounds(values: pa.ChunkedArray) -> tuple[Any, Any]:
    """The smallest and the largest value; None if there is none."""
    if values.type != pa.float64() or values.null_count or not len(values):
        bounds = pc.min_max(values)
        return bounds["min"].as_py(), bounds["max"].as_py()
    # NumPy takes a third of the time. With a NaN, one of both is NaN or a number.
    chunks = [chunk.to_numpy() for chunk in values.chunks if len(chunk)]
    return min(each.min().item() for each in chunks), max(each.max().item() for each in chunks)


def _has_nan(values: pa.ChunkedArray) -> bool:
    total = pc.sum(values).as_py()  # a sum is quicker than a search, and not a number if one of them is none
    return bool(total != total and pc.any(pc.is_nan(values)).as_py())


def _below(value: Any) -> Any:
    """A value for Delta's JSON that is not above this one."""
    if isinstance(value, str):
        return value[:TEXT]
    if isinstance(value, datetime):
        return times.text(value.replace(microsecond=value.microsecond // 1000 * 1000))
    if isinstance(value, float):
        return _number(value or -0.0)  # for some readers -0.0 is below 0.0
    return value.isoformat() if isinstance(value, date) else value


def _above(value: Any) -> Any:
    """A value for Delta's JSON that is not below this one."""
    if isinstance(value, str):
        return value if len(value) <= TEXT else _next_text(value)
    if isinstance(value, datetime):
        last = datetime.max.replace(tzinfo=UTC) - _MILLISECOND
        return times.text(-(-(value - _EPOCH) // _MILLISECOND) * _MILLISECOND + _EPOCH if value < last else value)
    if isinstance(value, float):
        return _number(value or 0.0)
    return value.isoformat() if isinstance(value, date) else value


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _number(value: float) -> float | str:
    """JSON has no infinite numbers; Spark and delta-rs read these texts."""
    return value if -inf < value < inf else "Infinity" if value > 0 else "-Infinity"


def _next_text(value: str) -> str:
    """A text of about TEXT characters after all that start as this one does; the order is that of code points."""
    start = value[:TEXT].rstrip(_LAST)
    if not start:
        return value
    code = ord(start[-1]) + 1
    return start[:-1] + chr(_SURROGATES.stop if code in _SURROGATES else code)
