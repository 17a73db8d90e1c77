"""Passes on the workers of a Dask cluster.

The scheduler and the workers are Dask's own programs, with Meterhouse installed and with the settings of this process
in their environment: a worker opens the lake and the warehouse by its own settings, and no secret is sent. What is sent
is pickled, and Arrow tables in it as Arrow's IPC stream.

If a worker is lost, Dask gives its passes to others. What the lost one has written is in no table; upkeep deletes it.
"""

import io
import os
import pickle
import platform
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from sqlalchemy import make_url

from meterhouse import __version__
from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.extras import require
from meterhouse.settings import settings, variable
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.warehouse import Warehouse
from meterhouse.workers.here import Here, PassFunction, Workers, worker_threads

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

SAME = ("numpy", "pyarrow", "deltalake")
"""Further packages that must be of the same version on each worker."""

_POLL_SECONDS = 5.0

_TABLE = "samples"
"""The table by whose id workers know that their lake is the same one."""


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


# -- on a worker ----------------------------------------------------------------------------------------------


def run(sent: tuple[str, dict[str, str], str, bytes], part: bytes) -> bytes:
    """Do a pass; called on a worker.

    Args:
        sent: a token, the versions and the lake of the process that has sent it, and the packed function.
        part: packed.

    Returns:
        Packed: the result and None, or None and what has been raised.
    """
    token, wanted, lake, function = sent
    try:
        _check_versions(wanted)
        site = own_site()
        _check_lake(site, lake)
        with worker_threads(1) as threads:
            return packed((_function(token, function)(site, threads, unpacked(part)), None))
    except MeterhouseError as error:
        return packed((None, error))


@cache
def versions() -> dict[str, str]:
    """What must be the same on all workers, so that they give the same bits: package → version."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Meterhouse": __version__, "Python": python, **{name: metadata.version(name) for name in SAME}}


def identity(lake: Lake) -> str:
    """The id that Delta gave the lake's table `samples` when it was created; empty if the lake is not there.

    Raises:
        Unavailable: the object store cannot be reached.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return str(DeltaTable(lake.uri(_TABLE), storage_options=lake.storage_options).metadata().id)
    except TableNotFoundError:
        return ""
    except (OSError, DeltaError) as error:
        raise lake.unreachable(_TABLE, error) from error


def _check_versions(wanted: dict[str, str]) -> None:
    mine = versions()
    if differ := [f"{name} {mine[name]} and not {wanted[name]}" for name in wanted if mine[name] != wanted[name]]:
        raise MeterhouseError(
            f"a Dask worker has {', '.join(differ)}",
            where=_name(),
            hint="Install the same versions on all workers as where the steps run",
        )


def _check_lake(site: Site, wanted: str) -> None:
    if getattr(_mine, "lake", None) == wanted:
        return
    found = identity(site.lake)
    if found != wanted:
        has = "another lake" if found else "no lake"
        raise MeterhouseError(
            f"a Dask worker finds {has} at {site.lake.url}",
            where=_name(),
            hint="Set METERHOUSE_LAKE_URL for the workers as where the steps run, and share its folder",
        )
    _mine.lake = wanted


_mine = threading.local()
"""Each thread of a worker has a site of its own: an open table of the lake is of one thread."""

_functions: dict[str, Any] = {}
"""The function that the worker has unpacked last, by its token."""

_unpacking = threading.Lock()


def own_site() -> Site:
    """The worker's site. Metadata that derived meters read is in its warehouse, which must not be a new one."""
    if not hasattr(_mine, "site"):
        given = settings()
        warehouse = Warehouse(given.warehouse, given.lease_seconds)
        if warehouse.is_sqlite and not Path(make_url(warehouse.url).database or "").exists():
            raise MeterhouseError(
                f"a Dask worker finds no warehouse at {warehouse.url}",
                where=_name(),
                hint="Set METERHOUSE_WAREHOUSE_URL for the workers as where the steps run; across machines, use "
                "PostgreSQL",
            )
        _mine.site = Site(given, warehouse)
    found: Site = _mine.site
    return found


def _function(token: str, function: bytes) -> Any:
    with _unpacking:
        if token not in _functions:
            _functions.clear()
            _functions[token] = unpacked(function)
        return _functions[token]


def _name() -> str:
    return f"Dask worker on {platform.node()}, process {os.getpid()}"


# -- what is sent ---------------------------------------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Pickle ships the whole buffers of a slice of a table; Arrow's own format ships the slice."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, pa.Table):
            return NotImplemented
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        return _table, (sink.getvalue().to_pybytes(),)


def _table(stream: bytes) -> pa.Table:
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()


def packed(value: Any) -> bytes:
    """A value as bytes."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def unpacked(value: bytes) -> Any:
    """The value of bytes from `packed`."""
    return pickle.loads(value)
