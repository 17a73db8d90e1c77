"""DuckDB in memory, in UTC: the connection, and its answers as Arrow or as one row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    import pyarrow as pa

Connection = duckdb.DuckDBPyConnection


def connect(memory_limit: str | None = None, spill: str | None = None) -> Connection:
    """A connection in memory. `spill` is the folder for what does not fit into `memory_limit`."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    if memory_limit:
        connection.execute(f"SET memory_limit = '{memory_limit}'")
    if spill:
        connection.execute("SET temp_directory = ?", [spill])
    return connection


def lock(connection: Connection, folders: Sequence[str]) -> None:
    """Let the connection read and write below these folders only, load no extension, and change no setting.

    It may still write there, so run only statements that are known to read.
    """
    listed = ", ".join(quoted(folder.rstrip("/") + "/") for folder in folders)
    for setting, value in (
        ("allowed_directories", f"[{listed}]"),
        ("enable_external_access", "false"),
        ("python_enable_replacements", "false"),  # by which a name may be a variable of this program
        ("autoinstall_known_extensions", "false"),
        ("autoload_known_extensions", "false"),
        ("lock_configuration", "true"),
    ):
        connection.execute(f"SET {setting} = {value}")


def view_files(
    connection: Connection, view: str, schema: "pa.Schema", files: Sequence[str], options: str, *, lacking: bool
) -> None:
    """Create a view of Parquet files.

    Args:
        connection: where.
        view: its name.
        schema: its columns.
        files: paths or URLs; none for an empty view.
        options: further arguments of `read_parquet`.
        lacking: whether some or all of the files may lack columns, which are null then.
    """

    def create(source: str) -> None:
        columns = ", ".join(schema.names)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT {columns} FROM {source}")

    empty = f"{view}_none"
    listed = f"[{', '.join(quoted(file) for file in files)}], {options}"
    by_name = f"read_parquet({listed}, union_by_name = true)"
    if not files:
        connection.register(empty, schema.empty_table())
        create(empty)
    elif not lacking:
        create(f"read_parquet({listed})")
    else:
        try:
            create(by_name)
        except duckdb.BinderException:  # none of the files has all columns
            connection.register(empty, schema.empty_table())
            create(f"(FROM {by_name} UNION ALL BY NAME FROM {empty})")


def arrow(connection: Connection, query: str) -> "pa.Table":
    """A query's answer as an Arrow table."""
    return connection.sql(query).to_arrow_table()


def one(connection: Connection, query: str) -> tuple[Any, ...]:
    """The one row of a query's answer."""
    (row,) = connection.execute(query).fetchall()
    return tuple(row)


def quoted(text: str) -> str:
    """The text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"
