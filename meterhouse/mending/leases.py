"""The leases that a mending run takes: it waits for the steps that run."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from meterhouse.site import Site

WAIT_SECONDS = 60.0
"""How long to wait for a process that is running a step."""


@contextmanager
def held(site: Site, names: Iterable[str]) -> Iterator[None]:
    """Hold leases while the block runs.

    Raises:
        AlreadyRunning: another process still holds one after WAIT_SECONDS.
    """
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(site.warehouse.lease(name, wait_seconds=WAIT_SECONDS))
        yield
