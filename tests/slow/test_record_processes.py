"""Processes that share the record are killed and paused at any step: each slot is done or missed, and landed once."""

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import OpenSite
from polling_record import rows, scheduled

from meterhouse.polling import record

pytestmark = pytest.mark.slow

SECONDS = 6
PROCESSES = 3
FILES = [scheduled(f"s{number}", interval=2, shards=2) for number in range(6)]

MEMBER = """
import sys, time
from pathlib import Path
from meterhouse.errors import MeterhouseError
from meterhouse.polling import record
from meterhouse.stores.leases import this_process
from meterhouse.stores.warehouse import Warehouse
from test_record_processes import FILES, lands

warehouse, lake = Warehouse(sys.argv[1]), Path(sys.argv[2])
member = record.Member(this_process(), frozenset(["central"]), 1.0, "1")
record.join(warehouse, member)
record.sync(warehouse, FILES, member)
while True:
    try:
        record.make_due(warehouse)
        claims = record.claim(warehouse, member, 4)
        time.sleep(0.02)
        ours = record.renew(warehouse, member, claims)
        outcomes = [record.Finished(each, 1, 1, 0.0) if lands(lake, each, "samples") == "samples"
            else record.Missed(each, "lost") for each in claims if each.task_id in ours]
        for each in record.overdue(warehouse, member):
            landed = lands(lake, each, "")
            outcomes.append(record.Finished(each, 1, 1, 0.0) if landed else record.Missed(each, each.error or "lost"))
        record.settle(warehouse, member, outcomes)
        record.beat(warehouse, member, [])
    except MeterhouseError as error:
        print(error, flush=True)
    time.sleep(0.02)
"""


def lands(lake: Path, claim: record.Claimed, batch: str) -> str:
    """Land a batch; return the one that is landed: the first with this message_id."""
    place = lake / claim.message_id.replace("/", "_")
    written = lake / f".{os.getpid()}-{time.monotonic_ns()}"
    written.write_text(batch)
    try:
        os.link(written, place)
    except FileExistsError:
        return place.read_text()
    return batch


@pytest.mark.parametrize("server", ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def test_processes_are_killed_and_paused_at_any_step(
    server: str, open_site: OpenSite, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = {} if server == "sqlite" else {"warehouse_url": request.getfixturevalue("postgres_warehouse")}
    warehouse = open_site(**url).warehouse
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", MEMBER, warehouse.url, str(tmp_path)], env={**os.environ, "PYTHONPATH": path}
        )

    processes = [start() for _ in range(PROCESSES)]
    chance = random.Random(16)
    kills = 0
    try:
        began = time.monotonic()
        while not rows(warehouse, "state") and time.monotonic() < began + 60:
            time.sleep(0.1)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.05, 0.6))
            which = chance.randrange(PROCESSES)
            if chance.random() < 0.5:
                processes[which].kill()
                processes[which].wait()
                processes[which] = start()
                kills += 1
            else:
                processes[which].send_signal(signal.SIGSTOP)
                time.sleep(chance.choice([0.1, 1.5]))  # longer than the lease
                processes[which].send_signal(signal.SIGCONT)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert kills
    last = record.Member("last:1:1:1", frozenset(["central"]), 10.0, "1", 0.0, "last")
    record.join(warehouse, last)
    time.sleep(3)  # the lease, and the last slot
    record.make_due(warehouse)
    closing = record.overdue(warehouse, last, 1_000)
    outcomes = [
        record.Finished(each, 1, 1, 0.0) if lands(tmp_path, each, "") else record.Missed(each, "lost")
        for each in closing
    ]
    record.settle(warehouse, last, outcomes)

    names = ("message_id", "state", "source", "slot_at", "end_at", "slots", "error", "uncertain")
    found = rows(warehouse, *names)
    landed = {place.name: place.read_text() for place in tmp_path.iterdir() if place.name.startswith("poll:")}
    assert sum(state == "done" for _, state, *_ in found) > len(FILES)
    for message_id, state, _, _, end, _, error, uncertain in found:
        batch = landed.get(message_id.replace("/", "_"))
        if state == "done":
            assert batch == "samples"
        elif state == "missed":
            assert error
            assert not batch
            assert batch is not None or not uncertain
        else:
            assert end > max(row[3] for row in found), "only the present slot is open"
    for each in FILES:
        spans = sorted({(start, end) for _, _, source, start, end, *_ in found if source == each.source.name})
        assert all(before[1] == after[0] for before, after in pairwise(spans)), "no slot is missing"
