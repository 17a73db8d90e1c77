"""DuckDB in memory, in UTC: the connection, and its answers as Arrow or as one row."""

from collections.abc import Mapping, Sequence
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
    # DuckDB takes a process that multiprocessing has spawned for a person's session, and draws bars on its stdout.
    connection.execute("SET enable_progress_bar = false")
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
    connection: Connection,
    view: str,
    schema: "pa.Schema",
    files: Mapping[tuple[str, ...] | None, Sequence[str]],
    options: str,
) -> None:
    """Create a view of Parquet files.

    Args:
        connection: where.
        view: its name.
        schema: its columns.
        files: columns that files lack, or have no value in → paths or URLs of these files, whose columns are null then.
            None: files of which that is not known. They are all opened at once, to see which columns they have.
        options: further arguments of `read_parquet`.
    """
    sources = []
    given = {lacking: paths for lacking, paths in files.items() if paths}
    for lacking, paths in given.items():
        read = f"read_parquet([{', '.join(quoted(path) for path in paths)}], {options}"
        if lacking is None:
            sources.append(f"FROM {read}, union_by_name = true)")
        else:
            sources.append(f"SELECT {', '.join(name for name in schema.names if name not in lacking)} FROM {read})")
    if given.keys() != {()}:  # otherwise the files have all columns
        connection.register(f"{view}_none", schema.empty_table())
        sources.append(f"FROM {view}_none")
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT {', '.join(schema.names)} "
        f"FROM ({' UNION ALL BY NAME '.join(sources)})"
    )


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
