"""Many rows at once into the warehouse, from Arrow tables."""

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Table, text


def bulk_insert(connection: Connection, table: str, rows: pa.Table) -> None:
    """Insert an Arrow table's rows into a table of the same column names: COPY in PostgreSQL, executemany in SQLite."""
    if rows.num_rows == 0:
        return
    columns = ", ".join(f'"{name}"' for name in rows.column_names)
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * rows.num_columns)
        lists = [_sqlite_values(rows[name]) for name in rows.column_names]
        driver.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", zip(*lists, strict=True))
        return
    from pyarrow import csv as arrow_csv

    buffer = io.BytesIO()
    arrow_csv.write_csv(
        # In one chunk: for an empty one, the writer writes memory that nobody has filled (pyarrow 26.0).
        rows.cast(pa.schema([_postgres_field(f) for f in rows.schema])).combine_chunks(),
        buffer,
        arrow_csv.WriteOptions(include_header=False),
    )
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {table} ({columns}) FROM STDIN WITH (FORMAT csv)") as copy,
    ):
        # A text in PostgreSQL cannot hold a NUL, and one such value must not stop all the others.
        copy.write(buffer.getvalue().replace(b"\0", "\N{REPLACEMENT CHARACTER}".encode()))


def upsert(connection: Connection, table: Table, rows: pa.Table, updates: Sequence[str] = ()) -> None:
    """Insert rows; if the primary key exists already, do the updates.

    Args:
        rows: Arrow table whose columns are columns of the table.
        updates: assignments in SQL, with `excluded.` for the new row and the table's name for the old one.
    """
    if rows.num_rows == 0:
        return
    stage = f"stage_{table.name}"
    columns = ", ".join(f'"{name}"' for name in rows.column_names)
    keys = ", ".join(column.name for column in table.primary_key.columns)
    action = f"DO UPDATE SET {', '.join(updates)}" if updates else "DO NOTHING"
    connection.execute(text(f"DROP TABLE IF EXISTS {stage}"))
    connection.execute(text(f"CREATE TEMP TABLE {stage} AS SELECT {columns} FROM {table.name} WHERE 1 = 0"))
    bulk_insert(connection, stage, rows)
    connection.execute(
        text(
            f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {stage} WHERE 1 = 1 "
            f"ON CONFLICT ({keys}) {action}"
        )
    )
    connection.execute(text(f"DROP TABLE {stage}"))


def _sqlite_values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # SQLAlchemy's own text form of a DateTime in SQLite.
        import pyarrow.compute as pc

        return list(pc.strftime(column.cast(pa.timestamp("us")), "%Y-%m-%d %H:%M:%S").to_pylist())
    if pa.types.is_date(column.type):
        return [day and day.isoformat() for day in column.to_pylist()]
    return list(column.to_pylist())


def _postgres_field(column: "pa.Field[Any]") -> "pa.Field[Any]":
    if pa.types.is_timestamp(column.type):
        return pa.field(column.name, pa.timestamp("us", tz="UTC"))
    return column
