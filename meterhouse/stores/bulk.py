"""Many rows at once into the warehouse, from Arrow tables."""

import io
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, Table, text

SQLITE_VARIABLES = 999
"""How many variables a statement may have in any SQLite, by its SQLITE_MAX_VARIABLE_NUMBER."""

SQLITE_ROWS = 20_000
"""How many rows are Python's values at a time."""


def bulk_insert(connection: Connection, table: str, rows: pa.Table) -> None:
    """Insert an Arrow table's rows into a table of the same column names: COPY in PostgreSQL, executemany in SQLite.

    SQLite gets many rows with each statement: to start one takes as long as to insert half a row.
    Texts and days go to PostgreSQL as CSV. Rows of whole and decimal numbers and times alone go in the binary format,
    in any order, which takes both sides a fraction of the time.
    """
    if rows.num_rows == 0:
        return
    columns = ", ".join(f'"{name}"' for name in rows.column_names)
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        row = f"({', '.join('?' * rows.num_columns)})"
        values = chain.from_iterable(
            zip(*(_sqlite_values(column) for column in rows.slice(start, SQLITE_ROWS).columns), strict=True)
            for start in range(0, rows.num_rows, SQLITE_ROWS)
        )
        many = max(1, SQLITE_VARIABLES // rows.num_columns)
        flat = (list(chain.from_iterable(islice(values, many))) for _ in range(rows.num_rows // many))
        insert = f"INSERT INTO {table} ({columns}) VALUES "
        driver.executemany(insert + ", ".join([row] * many), flat)
        driver.executemany(insert + row, values)  # the rest
        return
    if all(_is_fixed(column.type) for column in rows.columns):
        with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)") as copy:
            copy.write(_HEAD)
            for part in _binary(rows):
                copy.write(part)
            copy.write(_END)
        return
    from pyarrow import csv as arrow_csv

    buffer = io.BytesIO()
    # Of a chunk without rows, pyarrow 26 writes whatever is in memory.
    arrow_csv.write_csv(
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


_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""The head of PostgreSQL's binary format ("COPY", "Binary Format"): signature, no flags, no extension."""

_END = b"\xff\xff"

_POSTGRES_EPOCH = 946_684_800_000_000
"""2000-01-01, from which PostgreSQL counts, in microseconds since 1970-01-01."""


def _is_fixed(kind: pa.DataType) -> bool:
    """Whether a value takes eight bytes in PostgreSQL's binary format: bigint, double precision, timestamptz."""
    return bool(pa.types.is_int64(kind) or pa.types.is_float64(kind) or pa.types.is_timestamp(kind))


def _binary(rows: pa.Table) -> Iterator[bytes]:
    """The rows in PostgreSQL's binary format, those with nulls in the same columns together.

    A row is the number of its fields (16 bits), then each field's length (32 bits, -1 for null) and its bytes, all in
    network order.
    """
    columns = [rows.column(place).combine_chunks() for place in range(rows.num_columns)]
    values = [_plain(column) for column in columns]
    nulls = np.zeros(rows.num_rows, np.int64)
    for place, column in enumerate(columns):
        if column.null_count:
            nulls |= np.asarray(column.is_null(), np.int64) << place
    for pattern in np.unique(nulls):
        chosen = np.flatnonzero(nulls == pattern)
        empty = [bool(pattern >> place & 1) for place in range(len(columns))]
        fields: list[tuple[str, str]] = [("fields", ">i2")]
        for place, null in enumerate(empty):
            fields.append((f"length{place}", ">i4"))
            if not null:
                fields.append((f"value{place}", values[place].dtype.newbyteorder(">").str))
        made = np.empty(len(chosen), fields)
        made["fields"] = len(columns)
        for place, null in enumerate(empty):
            made[f"length{place}"] = -1 if null else 8
            if not null:
                made[f"value{place}"] = values[place][chosen]
        yield made.tobytes()


def _plain(column: pa.Array) -> "np.ndarray[tuple[int], np.dtype[Any]]":
    """The values as NumPy has them, anything where they are null; times as PostgreSQL counts them."""
    if pa.types.is_timestamp(column.type):
        micros = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64()).fill_null(0)
        return np.asarray(micros) - _POSTGRES_EPOCH
    return np.asarray(column.fill_null(0))


def _sqlite_values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_float64(column.type):
        return list(column.fill_null(float("nan")).to_numpy().tolist())  # SQLite stores NaN as null
    if pa.types.is_int64(column.type) and not column.null_count:
        return list(column.to_numpy().tolist())
    if pa.types.is_timestamp(column.type):
        # SQLAlchemy's own text form of a DateTime in SQLite. A bucket is the same in many rows.
        import pyarrow.compute as pc

        encoded = column.cast(pa.timestamp("us")).combine_chunks().dictionary_encode()
        texts = pc.strftime(encoded.dictionary, "%Y-%m-%d %H:%M:%S").to_pylist()
        return [None if place is None else texts[place] for place in encoded.indices.to_pylist()]
    if pa.types.is_date(column.type):
        return [day and day.isoformat() for day in column.to_pylist()]
    return list(column.to_pylist())


def _postgres_field(column: "pa.Field[Any]") -> "pa.Field[Any]":
    if pa.types.is_timestamp(column.type):
        return pa.field(column.name, pa.timestamp("us", tz="UTC"))
    return column
