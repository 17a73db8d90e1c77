"""Many rows at once out of the warehouse, into Arrow tables."""

from typing import Any, Final

import pyarrow as pa
from sqlalchemy import Connection, Select, Text, type_coerce

from meterhouse.stores.warehouse_tables import Micros, UtcTime

ROWS_AT_ONCE: Final = 50_000


def bulk_read(connection: Connection, query: Select[Any], schema: pa.Schema) -> pa.Table:
    """A query's answer as an Arrow table.

    SQLite's texts of times are read by Arrow, many at once, in a fifth of the time.

    Args:
        connection: where.
        query: its columns are those of the schema, in this order.
        schema: names and types.
    """
    if connection.dialect.name == "sqlite":
        columns = [_as_stored(column) for column in query.selected_columns]
        query = query.with_only_columns(*columns, maintain_column_froms=True)
    parts = [
        pa.table(
            [_array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)],
            schema=schema,
        )
        for rows in connection.execute(query).partitions(ROWS_AT_ONCE)
    ]
    return pa.concat_tables([schema.empty_table(), *parts])


def raw_rows(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    """A query's rows as the driver gives them, which takes a third of the time: flags may be numbers, times texts."""
    cursor: Any = connection.execute(query).cursor
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _as_stored(column: Any) -> Any:
    text = isinstance(column.type, UtcTime) and not isinstance(column.type, Micros)
    return type_coerce(column, Text()) if text else column


def _array(values: tuple[Any, ...], type_: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(type_) and isinstance(next((each for each in values if each is not None), None), str):
        return pa.array(values, pa.string()).cast(pa.timestamp("us")).cast(type_)
    return pa.array(values, type_)
