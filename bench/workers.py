"""Scale-out: the same points judged and rolled up by this process, by one Dask worker and by two, of one thread each.

    python bench/workers.py [--series N] [--rounds N] [--on folder|s3|both] [--quick]

A day of points, compacted, as a backfill finds them. The workers are processes of this machine that have done their
imports and reached the stores, as those of a cluster that runs. Each line is a run on a copy of the same site. Printed:

- wall: seconds by the clock, which say little if other programs use the processors;
- leader, workers, scheduler: CPU seconds of the process with the leases, of all workers, and of Dask's scheduler;
- path: CPU seconds of the leader and of the busiest worker. So long it takes at best, on enough processors;
- × one: how many times as fast as one worker, by the clock and by the path; and the CPU of all, as a share of one's.

The name is not `dask.py`, which would be imported in place of Dask. For S3, METERHOUSE_TEST_S3_ENDPOINT and its keys
must be set: `python deploy/services run --only s3 -- python bench/workers.py`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import _processes
from _measured import copied
from _points import DAY_MINUTES, Fleet
from rollup import DAY, compacted, filled, machine, measured

from meterhouse.pandas_free import keep_pandas_out
from meterhouse.rollups.step import roll_up
from meterhouse.settings import PREFIX, read_settings
from meterhouse.site import Site

PORT = 18_786
ADDRESS = f"tcp://127.0.0.1:{PORT}"


def given(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--series", type=int, default=10_000, help="a point a minute each, for a day")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind, in turn; the least is shown")
    parser.add_argument("--on", choices=("folder", "s3", "both"), default="both")
    parser.add_argument("--quick", action="store_true", help="as little as the tests measure")
    return parser.parse_args(arguments)


# -- the cluster ---------------------------------------------------------------------------------------------------


@contextmanager
def cluster(environment: dict[str, str], workers: int, folder: Path) -> Iterator[list[int]]:
    """A scheduler and workers of one thread each; yields their process ids."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> None:
        command = [sys.executable, "-m", "dask", *words, "--host", "127.0.0.1", "--no-dashboard"]
        with (folder / "dask.log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    command, env={**os.environ, **environment}, cwd=folder, stdout=log, stderr=subprocess.STDOUT
                )
            )

    try:
        start("scheduler", "--port", str(PORT))
        for _ in range(workers):
            start("worker", ADDRESS, "--nthreads", "1", "--no-nanny", "--memory-limit", "0")
        from distributed import Client

        with Client(ADDRESS, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
            client.run(_import_all)
            client.run_on_scheduler(import_module, "meterhouse.workers.task")
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
        for each in started:
            each.wait()


def _import_all() -> None:
    from meterhouse.workers.on_worker import own_site

    import_module("meterhouse.rollups.step")
    lake = own_site().lake
    lake.table("samples")
    lake.filesystem.exists(lake.uri("samples"))


# -- what is measured ----------------------------------------------------------------------------------------------


class Run:
    """The seconds of one run."""

    def __init__(self, home: Path, stores: dict[str, str], workers: int) -> None:
        environment = {f"{PREFIX}{name.upper()}": value for name, value in {"home": str(home), **stores}.items()}
        compute = f"dask://127.0.0.1:{PORT}" if workers else "local"
        site = Site.open(read_settings(home=home, compute=compute, **stores))
        for table in ("samples", "rollups", "quarantine"):
            site.lake.table(table)
        if workers:
            import_module("distributed")  # as of a process that has computed before

            with cluster(environment, workers, home) as processes:
                self._measure(site, processes)
        else:
            self._measure(site, [])
        site.warehouse.engine.dispose()

    def _measure(self, site: Site, processes: list[int]) -> None:
        before = [_processes.seconds(each) for each in processes]
        wall, leader = time.perf_counter(), time.process_time()
        self.points = roll_up(site).points
        self.wall, self.leader = time.perf_counter() - wall, time.process_time() - leader
        spent = [_processes.seconds(each) - b for each, b in zip(processes, before, strict=True)]
        self.scheduler, self.workers = (spent[0], spent[1:]) if spent else (0.0, [])
        self.path = self.leader + max(self.workers, default=0.0)
        self.cpu = self.leader + sum(self.workers)


def show(name: str, run: Run, one: Run | None) -> None:
    ratios = f"{one.wall / run.wall:9.2f}{one.path / run.path:9.2f}{run.cpu / one.cpu:9.2f}" if one else ""
    print(
        f"{name:24}{run.points / 1e6:9.2f}{run.wall:8.2f}{run.leader:8.2f}{sum(run.workers):9.2f}"
        f"{run.scheduler:11.2f}{run.path:7.2f}{ratios}",
        flush=True,
    )


def table(title: str, runs: dict[int, list[Run]]) -> None:
    """Print the least of each kind of run, by its path."""
    print(f"\n{title}")
    print(
        f"{'':24}{'M points':>9}{'wall s':>8}{'leader':>8}{'workers':>9}{'scheduler':>11}{'path':>7}"
        f"{'× wall':>9}{'× path':>9}{'CPU':>9}"
    )
    best = {workers: min(some, key=lambda run: run.path) for workers, some in runs.items()}
    for workers, name in ((0, "this process"), (1, "one worker"), (2, "two workers")):
        show(name, best[workers], best[1] if workers else None)


def on_folder(landed: Path, place: Path, rounds: int) -> None:
    runs: dict[int, list[Run]] = {0: [], 1: [], 2: []}
    for _ in range(rounds):
        for workers, some in runs.items():
            some.append(Run(copied(landed, place / "spare"), {}, workers))
    table("A lake in a folder", runs)


def on_s3(landed: Path, place: Path, rounds: int) -> None:
    from s3fs import S3FileSystem

    endpoint, key, secret = (
        os.environ[f"METERHOUSE_TEST_S3_{name}"] for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")
    )
    files = S3FileSystem(key=key, secret=secret, endpoint_url=endpoint)
    bucket = f"meterhouse-bench-{os.getpid()}"
    files.mkdir(bucket)
    runs: dict[int, list[Run]] = {0: [], 1: [], 2: []}
    try:
        for number in range(rounds):
            for workers, some in runs.items():
                lake = f"{bucket}/{number}-{workers}"
                files.put(str(landed / "lake"), lake, recursive=True)
                stores = {"lake_url": f"s3://{lake}", "s3_endpoint": endpoint}
                stores |= {"s3_access_key": key, "s3_secret_key": secret}
                some.append(Run(copied(landed, place / "spare"), stores, workers))
                files.rm(lake, recursive=True)
    finally:
        files.rm(bucket, recursive=True)
    table("A lake in S3", runs)


def main(arguments: list[str]) -> None:
    chosen = given(arguments)
    series, rounds, minutes = chosen.series, chosen.rounds, DAY_MINUTES
    if chosen.quick:
        from meterhouse.workers import cluster as of_dask

        of_dask.FEW_POINTS = 0
        series, rounds, minutes = 100, 1, 240
    keep_pandas_out()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as name:
        place = Path(name)
        landed = place / "landed"
        filled(landed, Fleet(series), DAY, list(range(minutes)), 60)
        measured(compacted, landed)
        if chosen.on != "s3":
            on_folder(landed, place, rounds)
        if chosen.on != "folder":
            if "METERHOUSE_TEST_S3_ENDPOINT" in os.environ:
                on_s3(landed, place, rounds)
            else:
                print("\nA lake in S3: not measured, because METERHOUSE_TEST_S3_ENDPOINT is not set")


if __name__ == "__main__":
    main(sys.argv[1:])
