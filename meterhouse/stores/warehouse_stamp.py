"""A stamp of the warehouse's state: it is another one after each change that anybody has committed.

SQLite: `PRAGMA data_version` of a connection that never writes, see https://sqlite.org/pragma.html#pragma_data_version.
PostgreSQL: the snapshot of a statement names the transactions that it does not see, so it differs after each commit;
see https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT. Both may differ without a change
that matters. A stamp is of one connection: after another was opened, all are others.
"""

import os
import sqlite3
import threading
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from meterhouse.stores.warehouse import Warehouse

Stamp = tuple[int, object]


class WarehouseStamp:
    """Tells the stamp of a warehouse; in any thread.

    Args:
        warehouse: the warehouse.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._lock = threading.Lock()
        self._path = make_url(warehouse.url).database or ""
        self._opened = 0
        self._file: tuple[int, int] | None = None
        self._connection: Any = None

    def now(self) -> Stamp:
        """The stamp of the state that a transaction sees which begins now, or of an earlier one.

        Raises:
            Unavailable: the database does not answer.
        """
        with self._lock:
            return self._of_sqlite() if self._warehouse.is_sqlite else self._of_postgresql()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _of_sqlite(self) -> Stamp:
        try:
            found = os.stat(self._path)
            if self._connection is None or self._file != (found.st_dev, found.st_ino):
                if self._connection is not None:  # another file has its name, and pooled connections are to the old one
                    self._drop()
                    self._warehouse.engine.dispose()
                self._connection = sqlite3.connect(self._path, timeout=60, check_same_thread=False)
                self._file, self._opened = (found.st_dev, found.st_ino), self._opened + 1
            return self._opened, self._connection.execute("PRAGMA data_version").fetchone()[0]
        except (OSError, sqlite3.Error) as error:
            self._drop()
            raise self._warehouse.unreachable(error) from error

    def _of_postgresql(self) -> Stamp:
        try:
            return self._snapshot()
        except DatabaseError:  # a connection that was not used for long may be gone
            self._drop()
        try:
            return self._snapshot()
        except DatabaseError as error:
            self._drop()
            raise self._warehouse.unreachable(error) from error

    def _snapshot(self) -> Stamp:
        if self._connection is None:
            self._connection = self._connected()
            self._opened += 1
        return self._opened, self._connection.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar()

    def _connected(self) -> Connection:
        """A connection besides those of the pool, whose statements are transactions of their own."""
        connection = self._warehouse.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
