"""Transactions of the record: short ones, by the warehouse's clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

from meterhouse import times
from meterhouse.stores.warehouse import Warehouse

_PAUSE_SECONDS: Final = 3
"""For how long a process that is paused within a transaction keeps its rows from the other members."""


@contextmanager
def begin(warehouse: Warehouse) -> Iterator[tuple[Connection, datetime]]:
    """A writing transaction, and the present instant by the warehouse's clock (UTC).

    PostgreSQL ends it if this process pauses in it.

    Raises:
        Unavailable: the warehouse does not answer; nothing is written.
    """
    with warehouse.begin() as connection:
        if warehouse.is_sqlite:
            yield connection, times.now()
            return
        limit = "set_config('idle_in_transaction_session_timeout', :pause, true)"
        found = connection.execute(text(f"SELECT {limit}, clock_timestamp()"), {"pause": f"{_PAUSE_SECONDS}s"}).one()
        instant: datetime = found[1]
        yield connection, instant.astimezone(UTC)
