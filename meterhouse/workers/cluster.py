"""Passes on the workers of a Dask cluster.

The scheduler and the workers are Dask's own programs, with Meterhouse installed and with the settings of this process
in their environment: a worker opens the lake and the warehouse by its own settings, and no secret is sent. What is sent
is pickled, and Arrow tables in it as Arrow's IPC stream.

If a worker is lost, Dask gives its passes to others. What the lost one has written is in no table; upkeep deletes it.
"""

import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.extras import require
from meterhouse.settings import variable
from meterhouse.workers.here import Here, PassFunction, Workers
from meterhouse.workers.packing import packed, unpacked
from meterhouse.workers.same import identity, versions
from meterhouse.workers.task import run

if TYPE_CHECKING:
    from distributed import Client, Future

P = TypeVar("P")
R = TypeVar("R")

FEW_POINTS = 1_000_000
"""So many points are judged and rolled up in less than a second: fewer are not worth sending."""

PASSES_A_THREAD = 2
"""How many passes are with the cluster for each thread of its workers: one runs, and one waits."""

CONNECT_SECONDS = 5
"""How long the scheduler may take to answer."""

WORKERS_SECONDS = 60.0
"""How long to wait for workers, if there is none."""

ATTEMPTS = 3
"""How often a pass is sent whose data the cluster has lost."""

LARGE = 1 << 30
"""Bytes of a task from which Dask warns that it is large. Ours are some megabytes, and few."""

_POLL_SECONDS = 5.0


class Cluster:
    """The workers of a Dask cluster. It is reached when it is first needed.

    Args:
        here: this process, which computes what is not worth sending.
        url: `dask://host:port` of the scheduler.

    Raises:
        NotInstalled: Dask is not installed.
    """

    def __init__(self, here: Here, url: str) -> None:
        require("distributed")
        self._here, self._url = here, url
        self._connected: Client | None = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *error: object) -> None:
        if self._connected is not None:
            with suppress(OSError, TimeoutError):
                self._connected.close()

    @property
    def number(self) -> int:
        """See `Workers`: the threads of all workers.

        Raises:
            Unavailable: there is no scheduler, or for a minute no worker.
        """
        return self._wait_for_workers()

    def _wait_for_workers(self) -> int:
        """Return the threads of all workers as soon as there are some."""
        until = time.monotonic() + WORKERS_SECONDS
        while not (found := self._threads()):
            if time.monotonic() > until:
                raise self._no_workers()
            time.sleep(0.1)
        return found

    def chosen(self, points: int) -> Workers:
        """See `Workers`."""
        return self._here if points < FEW_POINTS else self

    def each(self, function: PassFunction[P, R], parts: Iterable[P], threads: ThreadPoolExecutor) -> Iterator[R]:
        """See `Workers`."""
        import dask

        client = self._client()
        site = self._here.site
        sent = (uuid.uuid4().hex, versions(), identity(site.lake), packed(function))
        passes = iter(parts)
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": LARGE}):
            (shared,) = client.scatter([sent], broadcast=True, hash=False)
            running: deque[tuple[bytes, Future[bytes]]] = deque()

            def submit(part: bytes) -> "Future[bytes]":
                return client.submit(run, shared, part, key=f"meterhouse-{uuid.uuid4().hex}", pure=False)

            try:
                while True:
                    for part in passes:
                        running.append((blob := packed(part), submit(blob)))
                        if len(running) >= PASSES_A_THREAD * self.number:
                            break
                    if not running:
                        return
                    part_sent, future = running.popleft()
                    for attempt in range(1, ATTEMPTS + 1):
                        try:
                            answer = self._result(future)
                            break
                        except CancelledError as error:
                            if attempt == ATTEMPTS:
                                raise Unavailable("the Dask cluster keeps losing its data", where=self._url) from error
                            self._wait_for_workers()
                            if shared.status != "finished":
                                (shared,) = client.scatter([sent], broadcast=True, hash=False)
                            future = submit(part_sent)
                    del future
                    result, fault = unpacked(answer)
                    if fault is not None:
                        raise fault
                    yield result
            finally:
                with suppress(OSError, TimeoutError, CancelledError):
                    client.cancel([future for _, future in running], force=True)

    def _result(self, future: "Future[bytes]") -> bytes:
        from distributed.scheduler import KilledWorker

        alone = time.monotonic()
        while True:
            try:
                return future.result(timeout=_POLL_SECONDS)
            except TimeoutError:
                if future.status == "error":
                    raise
            except KilledWorker as error:
                raise MeterhouseError(
                    f"{error.allowed_failures + 1} Dask workers died while they judged and rolled up the same points",
                    where=self._url,
                    hint="Read their logs, and give each thread of a worker 2 GB or more",
                ) from error
            except ImportError as error:
                raise MeterhouseError(
                    f"a Dask worker cannot import {error.name or 'a package'}",
                    where=self._url,
                    hint="Install Meterhouse on the workers as here",
                ) from error
            if self._threads():
                alone = time.monotonic()
            elif time.monotonic() > alone + WORKERS_SECONDS:
                raise self._no_workers()

    def _threads(self) -> int:
        try:
            return sum(self._client().nthreads().values())
        except (OSError, TimeoutError) as error:
            raise self._away() from error

    def _client(self) -> "Client":
        if self._connected is None:
            from distributed import Client
            from distributed.security import Security

            security = Security()
            scheme = "tls" if security.require_encryption else "tcp"
            address = f"{scheme}://{self._url.removeprefix('dask://')}"
            try:
                self._connected = Client(address, timeout=CONNECT_SECONDS, set_as_default=False, security=security)
            except (OSError, TimeoutError) as error:
                raise self._away() from error
        return self._connected

    def _away(self) -> Unavailable:
        return Unavailable(
            "the Dask scheduler does not answer",
            where=f"{variable('compute')}={self._url}",
            hint="Start it with `dask scheduler`, or set METERHOUSE_COMPUTE=local",
        )

    def _no_workers(self) -> Unavailable:
        return Unavailable(
            f"the Dask scheduler has had no worker for {WORKERS_SECONDS:.0f} seconds",
            where=f"{variable('compute')}={self._url}",
            hint="Start some with `dask worker`, or set METERHOUSE_COMPUTE=local",
        )
