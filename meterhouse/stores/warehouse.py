"""The warehouse: a SQL database (SQLite or PostgreSQL) for dimensions, roll-ups, alarms and bookkeeping."""

import fcntl
import json
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Text, create_engine, event, func, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, ProgrammingError

from meterhouse import cancelling, shipped, times
from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.private_files import FILE_MODE, make_file, make_folder
from meterhouse.settings import Settings, without_password
from meterhouse.stores.leases import Lease, hold
from meterhouse.stores.sqlite_functions import add_functions
from meterhouse.stores.warehouse_tables import metadata, runs

log = logging.getLogger(__name__)

HEAD_REVISION = "0026"
"""The newest migration in `sql/migrations/versions`; a test holds the two equal."""

_MORE_CONNECTIONS = 40
"""How many connections threads may have at once, besides those that are kept open: each of the API's has one or two."""

_INTERRUPT_SECONDS = 5.0
"""How long PostgreSQL may take to hear that a statement is to end."""

_CHECKPOINTS = 30
"""How often SQLite's log is emptied, a second apart, while other processes read."""


@dataclass
class Warehouse:
    """One SQL database.

    Args:
        url: SQLAlchemy URL.
        lease_seconds: how long the lease of a process that died is still valid.
        dagster_run: the run of Dagster that this process executes, if any.
    """

    url: str
    lease_seconds: float = 60
    dagster_run: str | None = None
    _checked: bool = field(default=False, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Warehouse":
        """The warehouse that the settings name, with its schema created or checked.

        If it does not answer, this happens with its first use: messages are landed without it.
        """
        warehouse = cls(settings.warehouse, settings.lease_seconds)
        try:
            warehouse.check_schema()
        except Unavailable as error:
            if warehouse.is_sqlite:  # a file does not come back
                raise
            log.warning("%s", error)
        return warehouse

    @cached_property
    def engine(self) -> Engine:
        """SQLAlchemy's engine: in UTC; SQLite in WAL mode with real transactions."""
        if self.is_sqlite:
            database = Path(make_url(self.url).database or "")
            try:
                make_folder(database.parent)
                make_file(database)  # SQLite gives the mode of this file to those beside it
            except OSError as error:
                raise Unavailable(
                    f"the warehouse cannot be used: {error.strerror}",
                    where=str(database),
                    hint="Check METERHOUSE_HOME, METERHOUSE_WAREHOUSE_URL and the folder's owner",
                ) from error
            engine = create_engine(self.url, connect_args={"timeout": 60}, max_overflow=_MORE_CONNECTIONS)

            @event.listens_for(engine, "connect")
            def _set_up(connection: Any, record: Any) -> None:
                connection.isolation_level = None  # SQLAlchemy's own BEGIN below, not sqlite3's late one
                cursor = connection.cursor()
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.execute("PRAGMA synchronous = NORMAL")
                cursor.execute("PRAGMA busy_timeout = 60000")
                cursor.close()
                add_functions(connection)

            @event.listens_for(engine, "begin")
            def _begin(connection: Connection) -> None:
                reads = connection.get_execution_options().get("read", False)
                connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if reads else 'OFF'}")
                connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

            return engine
        how = {"options": "-c timezone=UTC", "connect_timeout": 10, "tcp_user_timeout": 30_000}  # s, ms
        return create_engine(self.url, connect_args=how, pool_pre_ping=True, max_overflow=_MORE_CONNECTIONS)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite (else PostgreSQL)."""
        return self.url.startswith("sqlite")

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A writing transaction.

        Raises:
            MeterhouseError: the database cannot be reached, or its schema is not this version's.
        """
        if not self._checked:
            self.check_schema()
        try:
            with self.engine.begin() as connection:
                yield connection
        except DatabaseError as error:
            if isinstance(error, IntegrityError | ProgrammingError | DataError):
                raise
            raise self.unreachable(error) from error

    @contextmanager
    def statements(self) -> Iterator[Connection]:
        """A connection to PostgreSQL whose statements are each a transaction of its own.

        Raises:
            MeterhouseError: the database cannot be reached, or its schema is not this version's.
        """
        if not self._checked:
            self.check_schema()
        try:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                yield connection
        except DatabaseError as error:
            if isinstance(error, IntegrityError | ProgrammingError | DataError):
                raise
            raise self.unreachable(error) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that can only read: it waits for no writer and sees one state of the database throughout.

        Raises:
            Cancelled: this thread's work was cancelled; see `cancelling`.
            MeterhouseError: the database cannot be reached, or its schema is not this version's.
        """
        if not self._checked:
            self.check_schema()
        how = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        try:
            with (
                self.engine.connect().execution_options(read=True, **how) as connection,
                self._interruptible(connection),
            ):
                yield connection
        except DatabaseError as error:
            cancelling.check()
            if isinstance(error, IntegrityError | ProgrammingError | DataError):
                raise
            raise self.unreachable(error) from error

    @contextmanager
    def _interruptible(self, connection: Connection) -> Iterator[None]:
        """Let a connection's statements be ended by the cancellation of this thread's work."""
        mine, driver = cancelling.current(), connection.connection.driver_connection
        assert driver is not None  # it was opened right now
        interrupt = driver.interrupt if self.is_sqlite else partial(driver.cancel_safe, timeout=_INTERRUPT_SECONDS)
        try:
            with cancelling.interruptible(interrupt):
                yield
        finally:
            if mine.cancelled and not self.is_sqlite:  # the server may hear of it late, in the next transaction
                connection.invalidate()

    def unreachable(self, error: Exception) -> Unavailable:
        """The error for a database that cannot be used, by that of SQLAlchemy or of its driver."""
        said = str(getattr(error, "orig", error)).splitlines() or [type(error).__name__]
        return Unavailable(
            f"the warehouse cannot be used: {said[0]}",
            where=without_password("warehouse_url", self.url),
            hint="Check METERHOUSE_WAREHOUSE_URL and that the database runs",
        )

    # -- schema ---------------------------------------------------------------------------------------------

    def revision(self) -> str | None:
        """The revision of the schema; None in an empty database."""
        try:
            with self.engine.connect().execution_options(read=True) as connection:
                if not connection.dialect.has_table(connection, "alembic_version"):
                    return None
                return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())
        except DatabaseError as error:
            if isinstance(error, IntegrityError | ProgrammingError | DataError):
                raise
            raise self.unreachable(error) from error

    def check_schema(self) -> None:
        """Create the schema in an empty database; upgrade an embedded one.

        Raises:
            MeterhouseError: a shared database has another revision; it names the command that fixes it.
        """
        found = self.revision()
        if found != HEAD_REVISION and (found is None or self.is_sqlite):
            self.migrate()
            found = HEAD_REVISION
        if found == HEAD_REVISION:
            self._checked = True
            return
        raise MeterhouseError(
            f"the warehouse's schema has revision {found}, this version needs {HEAD_REVISION}",
            hint="Run `meterhouse migrate`",
        )

    def migrate(self) -> None:
        """Upgrade the schema to this version's, one process at a time."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(shipped.MIGRATIONS))
        with self._migration_lock(), self.engine.connect() as connection:
            config.attributes["connection"] = connection
            config.attributes["metadata"] = metadata
            command.upgrade(config, "head")
            connection.commit()
        if self.is_sqlite:
            self._make_private()

    def _make_private(self) -> None:
        """Let only the owner read the files of SQLite, which earlier releases left to the umask."""
        for ending in ("", "-wal", "-shm"):
            with suppress(OSError):  # there is no such file, or it is somebody else's
                Path(f"{make_url(self.url).database}{ending}").chmod(FILE_MODE)

    @contextmanager
    def _migration_lock(self) -> Iterator[None]:
        if self.is_sqlite:
            beside = Path(make_url(self.url).database or "").with_suffix(".lock")
            make_folder(beside.parent)
            with beside.open("w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
        else:
            with self.lock("migrate"):
                yield

    def forget_deleted(self) -> None:
        """Take what was deleted or replaced out of the database's files. It takes as much free space as the database.

        PostgreSQL's log of changes, which it keeps for replicas and backups, is not among them.

        Raises:
            MeterhouseError: the database is in use, or cannot be reached.
        """
        if self.is_sqlite:
            self.engine.dispose()  # pooled connections may hold a state of the database
            with self._raw() as connection:
                connection.exec_driver_sql("VACUUM")
                for attempt in range(1, _CHECKPOINTS + 1):
                    busy, _, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
                    if not busy:
                        return
                    if attempt < _CHECKPOINTS:
                        time.sleep(1)
            raise Unavailable("the warehouse is in use, so its log keeps what was deleted", hint="Run it again")
        texts = [
            table.name
            for table in metadata.sorted_tables
            if table.name != "leases" and any(isinstance(column.type, Text) for column in table.columns)
        ]
        with self._raw() as connection:
            connection.exec_driver_sql(f"VACUUM (FULL) {', '.join(texts)}")

    @contextmanager
    def _raw(self) -> Iterator[Connection]:
        """A connection whose statements are no transaction."""
        try:
            if self.is_sqlite:
                with self.engine.connect() as connection:
                    connection.exec_driver_sql("COMMIT")  # of the transaction that `_begin` began
                    yield connection
            else:
                with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    yield connection
        except DatabaseError as error:
            raise self.unreachable(error) from error

    # -- locks and leases -----------------------------------------------------------------------------------

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """A lock held while the block runs; others wait. PostgreSQL: an advisory lock. SQLite: a file beside it.

        Raises:
            Unavailable: the database does not answer.
        """
        if self.is_sqlite:
            database = Path(make_url(self.url).database or "")
            folder = database.parent / "locks"
            make_folder(folder)
            with (folder / name.replace("/", "_")).open("w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            return
        with ExitStack() as held:
            try:
                connection = held.enter_context(self.engine.connect())
                connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), {"name": name})
                connection.commit()
            except DatabaseError as error:
                raise self.unreachable(error) from error
            try:
                yield
            finally:
                with suppress(DatabaseError):  # the lock is gone with the connection
                    connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})
                    connection.commit()

    def lease(self, name: str, *, wait_seconds: float = 0.0) -> AbstractContextManager[Lease]:
        """Hold a step's lease while the block runs. Every write that rests on it checks it: `Lease.begin`.

        Raises:
            AlreadyRunning: another live process still holds it after `wait_seconds`.
        """
        return hold(self, name, wait_seconds)

    # -- bookkeeping ----------------------------------------------------------------------------------------

    def record_run(self, step: str, started_at: datetime, figures: dict[str, Any]) -> None:
        """Store a step's figures: what it did, from when to when."""
        following = select(func.coalesce(func.max(runs.c.sequence), 0) + 1).scalar_subquery()
        with self.begin() as connection:
            connection.execute(
                insert(runs).values(
                    run_id=uuid.uuid4().hex,
                    step=step,
                    started_at=started_at,
                    ended_at=times.now(),
                    figures=json.dumps(figures, default=str),
                    sequence=following,
                    dagster_run=self.dagster_run,
                )
            )
