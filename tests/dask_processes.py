"""A Dask scheduler and its workers, as processes of a test."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from meterhouse.settings import PREFIX, Settings

LOST_SECONDS = 4
"""How soon the scheduler gives up a worker that says nothing."""


class Dask:
    """A scheduler on loopback, and workers of one thread each that run with the settings of a site."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._environment |= environment(settings)
        self._environment["DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"] = f"{LOST_SECONDS}s"
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        self.scheduler = self._start("scheduler", "--port", str(self.port))
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """What METERHOUSE_COMPUTE is set to."""
        return f"dask://127.0.0.1:{self.port}"

    def add_worker(self, **other: str) -> "subprocess.Popen[bytes]":
        """Start a worker; other settings are keywords."""
        address = f"tcp://127.0.0.1:{self.port}"
        started = self._start("worker", address, "--nthreads", "1", "--no-nanny", "--memory-limit", "0", **other)
        self.workers.append(started)
        return started

    def ready(self, number: int) -> None:
        """Wait until so many workers are there."""
        from distributed import Client

        with Client(f"tcp://127.0.0.1:{self.port}", timeout=30, set_as_default=False) as client:
            client.wait_for_workers(number, timeout=60)

    def end(self) -> None:
        """Kill all."""
        for process in (*self.workers, self.scheduler):
            process.kill()
        for process in (*self.workers, self.scheduler):
            process.wait()

    def tasks(self) -> int:
        """How many tasks have been done."""
        from distributed import Client

        with Client(f"tcp://127.0.0.1:{self.port}", timeout=30, set_as_default=False) as client:
            counts = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)
            return int(counts) // 4  # released, waiting, processing, memory

    def _start(self, kind: str, *arguments: str, **other: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dask", kind, *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        number = len(list(self._folder.iterdir()))
        with (self._folder / f"{kind}{number}.log").open("wb") as log:
            return subprocess.Popen(
                command, env={**self._environment, **other}, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT
            )


@contextmanager
def dask(folder: Path, settings: Settings, workers: int = 2) -> Iterator[Dask]:
    """A scheduler with workers, for a while."""
    started = Dask(folder, settings)
    try:
        for _ in range(workers):
            started.add_worker()
        if workers:
            started.ready(workers)
        yield started
    finally:
        started.end()


def environment(settings: Settings) -> dict[str, str]:
    """The variables of the stores of a site."""
    names = ("home", "warehouse_url", "lake_url", "s3_endpoint", "s3_access_key", "s3_secret_key", "s3_region")
    return {f"{PREFIX}{name.upper()}": str(value) for name in names if (value := getattr(settings, name))}


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that happens in another process."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process."""
    process.kill()


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Suspend a process."""
    process.send_signal(signal.SIGSTOP)
