"""`meterhouse collect` in a separate process, which can be made to kill itself; see slow/test_stream_broken.py."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import amqp
import kombu
import orjson
from amqp import Channel
from brokers import Traffic, depth, publish, wait_for
from builders import count, rows, warehouse_rows
from kill_steps import after, before

from meterhouse import catalog, cli
from meterhouse.catalog import commits_behind
from meterhouse.collection import collect, following, intake, landed, landing, syncing
from meterhouse.conversion import step as conversion
from meterhouse.conversion.step import unconverted
from meterhouse.settings import as_environment
from meterhouse.site import Site
from meterhouse.stores import lake

PROCESSES = multiprocessing.get_context("forkserver")
# Modules that take long to import. The fork server only finds installed ones by name: Python 3.11 does not pass
# pytest's additions to the path on to it.
PROCESSES.set_forkserver_preload(
    [
        *(f"meterhouse.{name}" for name in ("archive", "cli", "convert", "intake", "rollups", "stream.consumer")),
        *("bcrypt", "cryptography.x509", "deltalake.transaction", "duckdb", "kombu.transport.pyamqp", "psycopg.types"),
        *("pyarrow.dataset", "pyarrow.parquet", "pytest", "sqlalchemy.dialects.postgresql.psycopg"),
    ]
)

END_SECONDS = 120.0
"""Time that a process has to end its work; on a busy machine, seconds become minutes."""

# --- in the separate process -------------------------------------------------------------------------


def run(
    environment: Mapping[str, str], fault: str, arguments: Sequence[str], entered: Sequence[str], said: Path
) -> None:
    """The command `meterhouse collect`. Its output goes to the files `said` with the suffixes `.out` and `.err`.

    `fault` is a statement that is executed before, with the names of this module; or empty. `entered` is a command
    that runs another one elsewhere; or empty.
    """
    os.environ.update(environment)
    for number, ending in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(f"{said}{ending}", os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    if entered:
        os.execvp(entered[0], [*entered, sys.executable, __file__, fault, *arguments])
    run_here(fault, arguments)


def run_here(fault: str, arguments: Sequence[str]) -> None:
    """The command, with the environment and the outputs of this process."""
    exec(fault, globals())
    sys.argv = ["meterhouse", "collect", *arguments]
    cli.main()


def die_at_first_trace(folder: Path, seconds: float) -> None:
    """Die a number of seconds after anything new is in a folder, which another process checks continuously."""
    there, victim = set(os.listdir(folder)), os.getpid()
    if os.fork():
        return
    end = time.monotonic() + END_SECONDS
    while set(os.listdir(folder)) <= there and time.monotonic() < end:
        pass
    time.sleep(seconds)
    os.kill(victim, signal.SIGKILL)
    os._exit(0)


def slow(owner: Any, name: str, seconds: float) -> None:
    """Make each call take this many seconds longer."""
    real = getattr(owner, name)

    def slowly(*args: Any, **more: Any) -> Any:
        time.sleep(seconds)
        return real(*args, **more)

    setattr(owner, name, slowly)


# --- in the test's process ---------------------------------------------------------------------------


def environment(site: Site) -> dict[str, str]:
    """The environment with which a separate process has the site's settings."""
    return as_environment(site.settings)


class Collector:
    """A process of `meterhouse collect --json`, started at once."""

    def __init__(self, site: Site, *arguments: str, fault: str = "", entered: Sequence[str] = ()) -> None:
        folder = site.settings.home_path / "said"
        folder.mkdir(exist_ok=True)
        self._said = folder / str(time.monotonic_ns())
        how = (environment(site), fault, ("--json", *arguments), entered, self._said)
        self._process = PROCESSES.Process(target=run, args=how)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return self._process.is_alive()

    @property
    def errors(self) -> str:
        """Its standard error so far."""
        path = Path(f"{self._said}.err")
        return path.read_text() if path.exists() else ""

    @property
    def figures(self) -> list[dict[str, Any]]:
        """Its standard output so far."""
        path = Path(f"{self._said}.out")
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def ended(self) -> int:
        """Wait until it ends; return its exit status, which is negative after a signal."""
        self._process.join(END_SECONDS)
        assert self._process.exitcode is not None, f"it goes on; it said: {self.errors}"
        return self._process.exitcode

    def signalled(self, number: int) -> int:
        """Send it a signal and wait until it ends; return its exit status."""
        os.kill(self.pid, number)
        return self.ended()

    def kill(self) -> None:
        """End it, and the process that converts for it, if they have not ended."""
        child = self.child()
        self._process.kill()
        self._process.join()
        if child is not None:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def child(self) -> int | None:
        """The process that converts for it, if there is one."""
        return next((pid for pid, parent in processes() if parent == self.pid), None)


def processes() -> Iterator[tuple[int, int]]:
    """Process and parent of all running processes."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, parent = path.read_text().rpartition(") ")[2].split()[:2]
            if state != "Z":
                yield int(path.parent.name), int(parent)


class Publisher:
    """A process that publishes bodies to a queue at a rate, and repeats each until the broker has confirmed it."""

    CHUNK = 100

    def __init__(self, url: str, queue: str, bodies: Sequence[bytes], per_second: float) -> None:
        self._again = PROCESSES.Value("i", 0)
        how = (url, queue, bodies, self.CHUNK, self.CHUNK / per_second, self._again)
        self._process = PROCESSES.Process(target=publish_surely, args=how, daemon=True)

    @property
    def again(self) -> int:
        """How many were published again, because it was not clear whether the broker has them."""
        return self._again.value

    @property
    def is_running(self) -> bool:
        """Whether there is more to publish."""
        return self._process.is_alive()

    def start(self) -> None:
        """Start to publish."""
        self._process.start()

    def join(self) -> None:
        """Wait until all is published."""
        self._process.join(END_SECONDS)
        assert self._process.exitcode == 0


def publish_surely(
    url: str, queue: str, bodies: Sequence[bytes], chunk: int, pause: float, again: "Synchronized[int]"
) -> None:
    """Publish bodies in chunks, at intervals; repeat a chunk until it is confirmed."""
    given_up = time.monotonic() + END_SECONDS
    for start in range(0, len(bodies), chunk):
        due = time.monotonic() + pause
        while True:
            try:
                # A quorum queue may never confirm what comes before it has a leader again.
                publish(url, "", queue, bodies[start : start + chunk], patience=5)
                break
            except (OSError, amqp.AMQPError, kombu.exceptions.KombuError, AssertionError):  # unavailable, or refused
                if time.monotonic() > given_up:
                    raise
                again.value += chunk
                time.sleep(0.3)
        time.sleep(max(0.0, due - time.monotonic()))


# --- what must be there afterwards -------------------------------------------------------------------


def assert_exact(site: Site, wanted: Iterable[Traffic], dead_letters: int = 0) -> None:
    """Assert that all messages are landed, converted and catalogued once, and nothing waits."""
    wanted = list(wanted)
    queue = site.settings.stream_queues
    wait_for(lambda: depth(site.settings.stream_url.partition("?")[0], queue) == 0, f"the end of {queue}")
    found = [row["message_id"] for row in rows(site, "notifications", "message_id")]
    assert len(found) == len(set(found)), "a message is landed twice"
    assert set(found) == {message_id for each in wanted for message_id in each.message_ids}
    assert rows(
        site, "samples", "count(*) AS n, count(DISTINCT sample_id) AS ids, coalesce(sum(volume), 0) AS volume"
    ) == [
        {
            "n": sum(each.samples for each in wanted),
            "ids": sum(each.samples for each in wanted),
            "volume": sum(each.volume for each in wanted),
        }
    ]
    assert rows(site, "events", "count(*) AS n, count(DISTINCT message_id) AS ids") == [
        {"n": sum(each.events for each in wanted), "ids": sum(each.events for each in wanted)}
    ]
    assert count(site, "dead_letters") == dead_letters
    assert (unconverted(site), commits_behind(site)) == (0, 0)
    for table, column in (("series", "series_id"), ("resources", "resource_id"), ("dirty_hours", "hour")):
        of = "date_trunc('hour', timestamp)" if column == "hour" else column
        (there,) = rows(site, "samples", f"count(DISTINCT {of}) AS n")
        assert warehouse_rows(site, f"SELECT count(*), count(DISTINCT {column}) FROM {table}") == [
            (there["n"], there["n"])
        ], table


def left_behind(site: Site) -> set[str]:
    """Files in the folders of the lake's tables that belong to no table: data files, and what a commit left behind."""
    found = set()
    for name in ("notifications", "samples", "events", "dead_letters"):
        folder = Path(site.lake.uri(name))
        live = set(site.lake.actions(name)["path"].to_pylist())
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        commits = {f"_delta_log/{version:020d}.json" for version in range(site.lake.version(name) + 1)}
        found |= {f"{name}/{path}" for path in there - live - commits}
    return found


__all__ = [
    "Channel",
    "after",
    "before",
    "catalog",
    "collect",
    "conversion",
    "following",
    "intake",
    "lake",
    "landed",
    "landing",
    "syncing",
]

if __name__ == "__main__":
    run_here(sys.argv[1], sys.argv[2:])
