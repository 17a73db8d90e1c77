"""Transactions that define alarms or set their states, beside an evaluation that may be running.

They do not take the evaluations' lease, which an evaluation may hold for seconds. They lock its row, so that they come
one after the other, and between the transactions that rest on the lease. An evaluation that has read the definitions
before leaves what has changed since as it is: see `cycles.defined_since`.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, func, select, true
from sqlalchemy.dialects.postgresql import insert

from meterhouse.alarms.keeping.apply import LEASE
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.leases import FREE
from meterhouse.stores.warehouse_tables import leases

_ONE_AT_A_TIME: Final[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)
"""By warehouse: threads wait here, and not in the database, where each would have a connection or sleep."""


@contextmanager
def defining(site: Site) -> Iterator[Connection]:
    """A writing transaction in which alarms may be defined, their states be set, and their history be numbered.

    Raises:
        Unavailable: the warehouse does not answer.
    """
    with _ONE_AT_A_TIME[site.warehouse.url], site.warehouse.begin() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's writing transactions lock the whole file
            _lock(connection, int(site.warehouse.lease_seconds * 1000))
        yield connection


def _lock(connection: Connection, pause: int) -> None:
    """Lock the row of the lease; a process that is paused for so many ms meanwhile loses it with its transaction."""
    timeout = func.set_config("idle_in_transaction_session_timeout", str(pause), true())
    row = select(leases.c.name, timeout).where(leases.c.name == LEASE).with_for_update()
    if connection.execute(row).first() is None:
        free = {"holder": FREE, "generation": 0, "expires_at": clock.present(connection), "seconds": 0.0}
        connection.execute(insert(leases).values(name=LEASE, **free).on_conflict_do_nothing())
        connection.execute(row)
