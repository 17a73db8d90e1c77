"""Heartbeats: a lease for each run of an orchestrator, which shows whether the process of the run is still alive."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import delete

from meterhouse.errors import MeterhouseError
from meterhouse.stores.leases import Held, Lease, held, take, this_process
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import leases

PREFIX = "run/"
RETRY_SECONDS = 5.0
"""Pause after an attempt that the warehouse did not answer."""


@contextmanager
def beat(warehouse: Warehouse, run_id: str) -> Iterator[None]:
    """Hold the lease of a run while the block runs.

    A thread takes it, renews it and removes it. While the warehouse does not answer, it tries again, and the block
    continues: messages are landed without the warehouse.

    Args:
        warehouse: used by the thread alone, and closed at the end.
        run_id: the orchestrator's id of the run.
    """
    done = threading.Event()

    def keep() -> None:
        lease: Lease | None = None
        pause = 0.0
        while not done.wait(pause):
            pause = RETRY_SECONDS
            with suppress(MeterhouseError):
                if lease is None or not lease.renew():
                    taken = take(warehouse, PREFIX + run_id, this_process())
                    lease = taken if isinstance(taken, Lease) else None
                pause = warehouse.lease_seconds / 3 if lease else RETRY_SECONDS
        if lease is not None:
            with suppress(MeterhouseError):
                lease.remove()
        warehouse.engine.dispose()

    keeper = threading.Thread(target=keep, daemon=True, name=f"heartbeat-{run_id}")
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def heartbeats(warehouse: Warehouse) -> dict[str, Held]:
    """The lease of each run that has not ended properly, by the id of the run."""
    with warehouse.read() as connection:
        return held(connection, PREFIX)


def remove(warehouse: Warehouse, run_ids: list[str]) -> None:
    """Delete the leases of runs that have ended."""
    if run_ids:
        with warehouse.begin() as connection:
            connection.execute(delete(leases).where(leases.c.name.in_([PREFIX + run_id for run_id in run_ids])))
