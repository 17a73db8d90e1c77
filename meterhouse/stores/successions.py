"""Successions: of runs that follow each other, which one was put into the queue last.

A row of the warehouse's `leases` has the last one of each succession. Only a process that has seen it replaces it.
So of two processes that put a successor into the queue at the same time, one succeeds.
"""

from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from meterhouse.stores import clock
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import leases

PREFIX = "submitted/"
KEPT = timedelta(days=30)
"""After which time without a successor a row may be deleted."""


def last(warehouse: Warehouse, succession: str) -> str | None:
    """The last one of a succession; None before the first."""
    with warehouse.read() as connection:
        return connection.execute(select(leases.c.holder).where(leases.c.name == PREFIX + succession)).scalar()


def succeed(warehouse: Warehouse, succession: str, before: str | None, after: str) -> bool:
    """Make `after` the last one of a succession, if `before` still is; return whether it was."""
    name = PREFIX + succession
    with warehouse.begin() as connection:
        values = {"holder": after, "expires_at": clock.present(connection) + KEPT}
        if before is not None:
            replaced = update(leases).where(leases.c.name == name, leases.c.holder == before).values(values)
            return connection.execute(replaced).rowcount == 1
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        added = dialect.insert(leases).values(name=name, **values).on_conflict_do_nothing()
        return connection.execute(added.returning(leases.c.name)).first() is not None
