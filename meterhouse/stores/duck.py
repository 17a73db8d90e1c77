"""DuckDB in memory, in UTC: databases, their connections, and answers as Arrow or as one row."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from meterhouse import cancelling

if TYPE_CHECKING:
    import pyarrow as pa

Connection = duckdb.DuckDBPyConnection


class Database:
    """A database in memory, opened when it is first needed, and its connections.

    Opening one takes some 10 ms of CPU, a connection to it a fraction of one. Connections share its memory and threads;
    each has temporary views, temporary tables and registered objects of its own, so create nothing else.
    """

    def __init__(
        self,
        memory_limit: str | None = None,
        spill: str | None = None,
        threads: int | None = None,
        filesystem: Callable[[], Any] | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            memory_limit: of all connections together, as DuckDB writes it; default four fifths of the machine's.
            spill: the folder for what does not fit.
            threads: default the number of processors.
            filesystem: returns fsspec's file system for what is not in a folder.
        """
        self._settings = {"memory_limit": memory_limit, "temp_directory": spill, "threads": threads}
        self._filesystem = filesystem
        self._opening = threading.Lock()
        self._opened: tuple[int, Connection] | None = None

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection, which is closed at the end."""
        with self._cursor() as connection:
            # DuckDB takes a process that multiprocessing has spawned for a person's session, and draws on its stdout.
            connection.execute("SET enable_progress_bar = false")
            try:
                with interruptible(connection):
                    yield connection
            except (duckdb.FatalException, duckdb.InternalException):
                self._opened = None  # DuckDB refuses everything from now on
                raise

    def _cursor(self) -> Connection:
        with self._opening:
            if self._opened is None or self._opened[0] != os.getpid():  # a fork has none of its threads
                self._opened = os.getpid(), self.open()
            return self._opened[1].cursor()

    def open(self) -> Connection:
        """A database of its own with these settings."""
        database = duckdb.connect(":memory:")
        for name, value in {
            "TimeZone": "UTC",
            "preserve_insertion_order": False,
            "enable_external_file_cache": False,  # a restored file may have the name of another
            **self._settings,
        }.items():
            if value is not None:
                database.execute(f"SET GLOBAL {name} = ?", [value])
        database.execute("SET enable_progress_bar = false")
        if self._filesystem is not None:
            database.register_filesystem(self._filesystem())
        return database


@contextlib.contextmanager
def interruptible(connection: Connection) -> Iterator[None]:
    """Let a connection's statements be ended by the cancellation of this thread's work.

    Raises:
        Cancelled: the work was cancelled.
    """
    try:
        with cancelling.interruptible(connection.interrupt):
            yield
    except duckdb.InterruptException:
        cancelling.check()
        raise


SINGLE = Database(threads=1)
"""For small things that several threads do at the same time."""


def connect() -> Connection:
    """A database of its own."""
    return Database().open()


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
