"""The lease of the leader: which machine's Dagster daemon starts runs.

The lease alone does not stop a leader that was paused and continues. So whatever its daemon starts can see, in its
environment, which taking of the lease it belongs to, and asks the warehouse whether that is still the latest.
"""

import os
from typing import Final

from sqlalchemy import select

from meterhouse.settings import Settings
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import leases

LEASE: Final = "daemon"
"""The name of the lease."""

VARIABLE: Final = "_METERHOUSE_LEADER"
"""The environment variable that tells a leader's child processes of its lease: generation and holder. It is no setting:
the leader sets it."""


def warehouse_of(settings: Settings) -> Warehouse:
    """The warehouse, with the leader's time for its lease."""
    return Warehouse(settings.warehouse, settings.daemon_lease_seconds)


def environment(lease: Lease) -> dict[str, str]:
    """What the environment of a leader's child processes has besides its own."""
    return {**os.environ, VARIABLE: f"{lease.generation} {lease.holder}"}


def deposed(warehouse: Warehouse) -> bool:
    """Whether this process was started by a leader that another one has replaced since.

    A process that no leader has started, such as one of `dagster-daemon` itself, is not deposed.

    Raises:
        MeterhouseError: the warehouse does not answer.
    """
    told = os.environ.get(VARIABLE)
    if told is None:
        return False
    with warehouse.read() as connection:
        query = select(leases.c.generation, leases.c.holder).where(leases.c.name == LEASE)
        row = connection.execute(query).first()
    return row is None or f"{row.generation} {row.holder}" != told
