"""A site that polls, for the benchmark of polling: its files, its members, and what the record says of them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from _peers import ROOT
from _processes import family, seconds
from sqlalchemy import create_engine, func, make_url, select, text

from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import poll_tasks as tasks

LISTS = ROOT / "deploy" / "services" / "json_lists.py"
POSTGRES = "METERHOUSE_TEST_POSTGRES_URL"
END_SECONDS = 20


@contextmanager
def lists() -> Iterator[str]:
    """A server of JSON lists of its own; yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(LISTS), str(port)])
    try:
        until(lambda: _answers(port), 30)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@contextmanager
def database() -> Iterator[str]:
    """The URL of an empty PostgreSQL database; where there is no server, of none: the warehouse is SQLite."""
    server = os.environ.get(POSTGRES)
    if not server:
        yield ""
        return
    name = f"bench_{uuid.uuid4().hex[:12]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


@dataclass(frozen=True)
class Slots:
    """What came of the slots that began in a span.

    Attributes:
        samples, resources: of the tasks that are done.
        tasks, missed: numbers of tasks.
        seconds: from the start of each slot until its last task was recorded.
    """

    samples: int
    resources: int
    tasks: int
    missed: int
    seconds: list[float]


@dataclass(frozen=True)
class Ran:
    """What members did: the slots that they polled, and their CPU seconds."""

    slots: Slots
    cpu: float
    wall: float


class PollSite:
    """A site on an empty database and an empty folder.

    Args:
        folder: for its files.
        warehouse_url: of PostgreSQL; empty: SQLite.
        sources: of polling.yaml.
        pollster: of pollsters.d.
        variables: further settings, such as METERHOUSE_POLL_CONCURRENCY.
    """

    def __init__(
        self,
        folder: Path,
        warehouse_url: str,
        sources: Sequence[dict[str, Any]],
        pollster: dict[str, Any],
        **variables: str,
    ) -> None:
        home, config = folder / "home", folder / "config"
        (config / "pollsters.d").mkdir(parents=True)
        (config / "polling.yaml").write_text(json.dumps({"sources": sources}))
        (config / "pollsters.d" / "bench.yaml").write_text(json.dumps([pollster]))
        self.site = Site.open(read_settings(home=home, config_dir=config, warehouse_url=warehouse_url))
        given = {"METERHOUSE_HOME": home, "METERHOUSE_CONFIG_DIR": config, "METERHOUSE_WAREHOUSE_URL": warehouse_url}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
        self._environment = inherited | {name: str(value) for name, value in given.items()} | variables
        self._folder = folder

    def ran(self, members: int, ready: Callable[["PollSite"], bool], spent: float) -> Ran:
        """What members do in this many seconds, from when the site is ready."""
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(self._member(number)) for number in range(members)]
            until(lambda: ready(self), 60)
            start, before, began = datetime.now().astimezone(), _cpu(processes), time.monotonic()
            time.sleep(spent)
            end, cpu, wall = datetime.now().astimezone(), _cpu(processes) - before, time.monotonic() - began
            time.sleep(1)  # what is polled is landed and recorded
        return Ran(self.slots(start, end), cpu, wall)

    def done(self) -> int:
        """The number of tasks that are done."""
        with self.site.warehouse.read() as connection:
            found = select(func.count()).where(tasks.c.state == "done")
            return int(connection.execute(found).scalar_one())

    def slots(self, start: datetime, end: datetime) -> Slots:
        """What came of the slots that began in a span."""
        c = tasks.c
        began = (c.slot_at >= start, c.slot_at < end)
        with self.site.warehouse.read() as connection:
            ended = select(c.slot_at, func.max(c.ended_at)).where(*began, c.state == "done").group_by(c.slot_at)
            lasted = [(last - slot).total_seconds() for slot, last in connection.execute(ended)]
            counts = [func.coalesce(func.sum(each), 0) for each in (c.samples, c.resources)]
            found = connection.execute(select(*counts, func.count()).where(*began, c.state == "done")).one()
            missed = connection.execute(select(func.count()).where(*began, c.state == "missed")).scalar_one()
        return Slots(int(found[0]), int(found[1]), int(found[2]), int(missed), lasted)

    @contextmanager
    def _member(self, number: int) -> Iterator[subprocess.Popen[bytes]]:
        log = self._folder / f"member-{number}.log"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "meterhouse", "poll", "--follow"]
            process = subprocess.Popen(command, env=self._environment, cwd=ROOT, stdout=output, stderr=output)
        try:
            yield process
            if process.poll() is not None:
                sys.exit(f"a member ended: {log.read_text('utf-8')[-2000:]}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(happens: Callable[[], bool], patience: float) -> None:
    """Wait until something happens.

    Raises:
        SystemExit: it does not in time.
    """
    end = time.monotonic() + patience
    while not happens():
        if time.monotonic() > end:
            sys.exit(f"nothing happened within {patience:.0f} s")
        time.sleep(0.1)


def _cpu(processes: Sequence[subprocess.Popen[bytes]]) -> float:
    return seconds(*(each for process in processes for each in family(process.pid)))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
