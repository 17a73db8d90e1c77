"""The record of polling on PostgreSQL: claims by several members at once, and what its age costs.

    python bench/poll_record.py [--old ROWS] [--tasks TASKS]

Each line claims and records the same number of due tasks, by one, two and four processes, first on an empty record and
then on one with five million old rows. Seconds are from the start of the first to the end of the last; `in claim` and
`in settle` are means of the processes, by the clock. CPU is that of the processes and of PostgreSQL's.
"""

import argparse
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from _parts import again_with
from rollup import SERVERS, database, machine
from sqlalchemy import text

from meterhouse.polling import record
from meterhouse.stores.leases import this_process
from meterhouse.stores.warehouse import Warehouse

SOURCES = 200
POLLSTERS = 50
AT_ONCE = 200
PROCESSES = (1, 2, 4)

_TASKS = """
INSERT INTO poll_tasks
    (source, pollster, host, slot_at, end_at, until, shard, state, due_at, message_id, ended_at, samples)
SELECT
    's' || number % :sources,
    'p' || number / :sources % :pollsters,
    '',
    start,
    start + interval '1 minute',
    start + interval '1 minute' + :kept * interval '1 second',
    '1/1',
    :state,
    start,
    'poll:' || number || start,
    CASE WHEN :state = 'done' THEN start END,
    10
FROM (
    SELECT
        number,
        date_trunc('minute', now()) - (:before + number / (:sources * :pollsters)) * interval '1 minute' AS start
    FROM generate_series(0, :tasks - 1) AS number
) AS numbers
"""
_SCHEDULES = """
INSERT INTO poll_schedules (
    source, pollster, host, namespaces, interval_seconds, shards, definition, active, next_slot_at, changed_at,
    changed_by
)
SELECT 's' || source, 'p' || pollster, '', 'central', 60, 1, '1', true, now() + interval '1 day', now(), 'bench'
FROM generate_series(0, :sources - 1) AS source, generate_series(0, :pollsters - 1) AS pollster
"""


@dataclass(frozen=True)
class Claimed:
    """What a process did: tasks, and seconds of each kind."""

    tasks: int
    began: float
    ended: float
    in_claim: float
    in_settle: float
    cpu: float


def claims(url: str, pipe: Connection) -> None:
    """Claim and record until nothing is due."""
    warehouse = Warehouse(url)
    member = record.Member(this_process(), frozenset(["central"]), 60, "1")
    record.join(warehouse, member)
    pipe.send("ready")
    pipe.recv()
    tasks, in_claim, in_settle = 0, 0.0, 0.0
    began, cpu = time.time(), time.process_time()
    while True:
        started = time.perf_counter()
        found = record.claim(warehouse, member, AT_ONCE, per_source=AT_ONCE // 2)
        claimed = time.perf_counter()
        in_claim += claimed - started
        if not found:
            break
        record.settle(warehouse, member, [record.Finished(claim, 10, 10, 0.1) for claim in found])
        in_settle += time.perf_counter() - claimed
        tasks += len(found)
    pipe.send(Claimed(tasks, began, time.time(), in_claim, in_settle, time.process_time() - cpu))


def measured(warehouse: Warehouse, processes: int, tasks: int, round_: int) -> None:
    """Let processes claim all due tasks, and print a line."""
    names = {"sources": SOURCES, "pollsters": POLLSTERS}
    with warehouse.begin() as connection:
        new = {**names, "state": "open", "tasks": tasks, "before": -60 * (round_ + 1), "kept": 86_400}
        connection.execute(text(_TASKS), new)
        connection.execute(text("UPDATE poll_tasks SET due_at = now() WHERE state = 'open'"))
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(processes)]
    started = [context.Process(target=claims, args=(warehouse.url, theirs)) for _, theirs in pairs]
    for process in started:
        process.start()
    for ours, _ in pairs:
        ours.recv()
    before = server_cpu(warehouse)
    for ours, _ in pairs:
        ours.send("begin")
    found: list[Claimed] = [ours.recv() for ours, _ in pairs]
    server = server_cpu(warehouse) - before
    for process in started:
        process.join()
    done = sum(each.tasks for each in found)
    if done != tasks:
        sys.exit(f"{done} of {tasks} tasks were claimed")
    wall = max(each.ended for each in found) - min(each.began for each in found)
    in_claim, in_settle = (sum(getattr(each, name) for each in found) / processes for name in ("in_claim", "in_settle"))
    rates = f"{tasks / in_claim:8,.0f} claims/s, {tasks / in_settle:8,.0f} recorded/s, {wall:6.2f} s in all"
    cpu = f"CPU {sum(each.cpu for each in found):5.2f} s + {server:5.2f} s of PostgreSQL"
    print(f"  {processes} claiming {AT_ONCE} at a time: {rates}, {cpu}", flush=True)


def server_cpu(warehouse: Warehouse) -> float:
    """CPU seconds of PostgreSQL's processes that serve this database, if they run on this machine."""
    with warehouse.read() as connection:
        pids = connection.execute(text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")).scalars()
        return sum(_cpu(pid) for pid in pids)


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--old", type=int, default=5_000_000, help="rows of the past")
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks of a line")
    given = parser.parse_args(arguments)
    again_with("postgres", __file__, arguments)
    print(machine())
    with database(os.environ[SERVERS["gnocchi"]]) as url:
        warehouse = Warehouse(url)
        warehouse.migrate()
        names = {"sources": SOURCES, "pollsters": POLLSTERS}
        with warehouse.begin() as connection:
            connection.execute(text(_SCHEDULES), names)
        for part, old in enumerate((0, given.old)):
            print(f"{old:,} old rows")
            if old:
                with warehouse.begin() as connection:
                    past = {**names, "state": "done", "tasks": old, "before": 10, "kept": 0}
                    connection.execute(text(_TASKS), past)
            with warehouse.statements() as connection:
                connection.execute(text("VACUUM ANALYZE poll_tasks"))
            for number, processes in enumerate(PROCESSES):
                measured(warehouse, processes, given.tasks, part * len(PROCESSES) + number)
        warehouse.engine.dispose()


if __name__ == "__main__":
    main(sys.argv[1:])
