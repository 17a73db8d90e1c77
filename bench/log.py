"""The log of a table: opening, committing, listing and following, on a new table, after many commits, on an old log.

Prints milliseconds of CPU and by the clock, in one run: on a new table; after so many small appends (default 100,000),
of which every 60 are merged into one file, as a compaction does; on a forged log of 30 days with a commit a minute and
many live files, as a release left it that kept its log, and after the upkeep of such a site.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from meterhouse import identity, times
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.lake import SEAL, Lake
from meterhouse.stores.lake_tables import SAMPLES
from meterhouse.upkeep import upkeep

COMMITS, FORGED, LIVE, TIDIED = 100_000, 43_200, 1_000, 60
TABLE = "samples"

SETTLED_S = 65.0
"""After this time, checkpoints forget files that were replaced at a benchmark's pace; a site replaces some a minute."""


def rows(number: int) -> pa.Table:
    """One sample, which arrives now."""
    now = times.now()
    row = {
        "arrival_hour": times.arrival_hour(now),
        "series_id": identity.series_id("openstack", "m", "gauge", "u", "r", "p", "u"),
        "timestamp": now,
        "volume": float(number),
        "sample_id": number,
        "recorded_at": now,
        "source": "openstack",
        "meter": "m",
        "type": "gauge",
    }
    return pa.Table.from_pylist([row], schema=SAMPLES)


def tidy(lake: Lake) -> None:
    """Merge the table's live files into one for each hour."""
    actions = lake.actions(TABLE)
    whole = pa.concat_tables(
        lake.rows_of(TABLE, action["path"], {"arrival_hour": action["partition.arrival_hour"]})
        for action in actions.to_pylist()
    )
    lake.swap(TABLE, actions, lake.write_files(TABLE, whole.slice(0, 60)), {SEAL: "bench"}, same_rows=True)


def commit_many(lake: Lake, count: int) -> None:
    """Append this many times."""
    for number in range(count):
        lake.append(TABLE, rows(number))
        if number % TIDIED == TIDIED - 1:
            tidy(lake)
        if number % 5_000 == 4_999:
            print(f"  … {number + 1} appends", file=sys.stderr, flush=True)


def forge(lake: Lake) -> None:
    """Write the log of 30 days: copies of a commit, each of which adds a file and removes one."""
    lake.append(TABLE, rows(0))
    log = Path(lake.uri(TABLE), "_delta_log")
    actions = [json.loads(line) for line in (log / f"{1:020}.json").read_text().splitlines()]
    info = next(action for action in actions if "commitInfo" in action)
    add = next(action["add"] for action in actions if "add" in action)
    now = time.time_ns() // 1_000_000
    for version in range(2, FORGED):
        made = [info, {"add": {**add, "path": f"{add['path']}-{version}"}}]
        if version > LIVE:
            gone = now - (FORGED - version) * 60_000
            old = {"path": f"{add['path']}-{version - LIVE + 1}", "dataChange": False, "deletionTimestamp": gone}
            made.append({"remove": old})
        (log / f"{version:020}.json").write_text("\n".join(json.dumps(action) for action in made) + "\n")
    lake.reopen(TABLE)
    lake.table(TABLE).create_checkpoint()


def measure(lake: Lake, what: str) -> None:
    """Print what the operations cost now. One opens after each of 10 commits, as it reads those since a checkpoint."""
    costs: dict[str, list[tuple[float, float]]] = {"open": [], "commit": [], "list": [], "follow": []}

    def timed(name: str, operation: Callable[[], object]) -> None:
        clock, cpu = time.perf_counter(), time.process_time()
        operation()
        costs[name].append((time.process_time() - cpu, time.perf_counter() - clock))

    lake.append(TABLE, rows(0))
    Lake(lake.url).table(TABLE)
    for _ in range(10):
        timed("commit", lambda: lake.append(TABLE, rows(1)))
        timed("open", lambda: Lake(lake.url).table(TABLE))
        timed("list", lambda: lake.actions(TABLE))
        timed("follow", lambda: lake.appended(TABLE, max(lake.version(TABLE) - 5, 0)))
    found = [
        f"{1e3 * sum(cpu) / len(cpu):7.1f} {1e3 * sum(clock) / len(clock):7.1f}"
        for cpu, clock in (zip(*each, strict=True) for each in costs.values())
    ]
    files = sum(1 for _ in Path(lake.uri(TABLE), "_delta_log").iterdir())
    print(f"{what:34}{'  '.join(found)}  {files:8}  {lake.actions(TABLE).num_rows:8}", flush=True)


def main() -> None:
    """Print a line for each table."""
    commits = int(sys.argv[1]) if len(sys.argv) > 1 else COMMITS
    print(f"{'ms: CPU, clock':34}{'open':>15}  {'commit':>15}  {'list':>15}  {'follow 5':>15}  log files  live files")
    with tempfile.TemporaryDirectory() as folder:
        measure(Lake(f"{folder}/new"), "new table")
        many = Lake(f"{folder}/many")
        clock, cpu = time.perf_counter(), time.process_time()
        commit_many(many, commits)
        spent = f"{time.perf_counter() - clock:.0f} s, {time.process_time() - cpu:.0f} s of CPU"
        time.sleep(SETTLED_S)
        measure(many, f"after {commits:,} appends")
        site = Site.open(read_settings(home=f"{folder}/forged"))
        forge(site.lake)
        clock = time.perf_counter()
        Lake(site.lake.url).table(TABLE)
        opened = time.perf_counter() - clock
        measure(site.lake, "forged log of 30 days, opened once")
        upkeep(site)
        measure(site.lake, "the same after the upkeep")
        measure(Lake(f"{folder}/new2"), "new table, again")
    print(f"opening the forged log for the first time took {opened:.1f} s")
    print(f"the {commits:,} appends took {spent}")


if __name__ == "__main__":
    main()
