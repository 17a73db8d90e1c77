"""How long commands take to start: the CPU seconds of each, against the bare import of the packages that it needs.

The floor is a Python process that imports these packages and does nothing; both run in turn, and the ratio is that of
the medians. `python bench/start.py [--runs N]`.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CLICK = "click"
SQL = "click, sqlalchemy, sqlalchemy.dialects.sqlite, sqlite3"
LAKE = f"{SQL}, duckdb, pyarrow, pyarrow.parquet, pyarrow.compute, deltalake"
COMMANDS = [
    (CLICK, ["--help"]),
    (CLICK, ["report"]),
    (SQL, ["meters"]),
    (SQL, ["resources"]),
    (SQL, ["report", "usage_by_project_and_day", "--day", "2026-11-20"]),
    (SQL, ["alarms", "list"]),
    (LAKE, ["statistics", "cpu_util"]),
    (LAKE, ["samples", "cpu_util"]),
    (LAKE, ["events"]),
    (LAKE, ["sql", "SELECT count(*) AS samples FROM samples"]),
]
ROWS = "timestamp,meter,resource_id,volume\n" + "".join(
    f"2026-11-20T{hour:02}:00:00Z,cpu_util,web-01,{hour}\n" for hour in range(24)
)


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.decode()}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    program = str(Path(sys.executable).with_name("meterhouse"))
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
        environment["METERHOUSE_HOME"] = folder
        (Path(folder) / "samples.csv").write_text(ROWS)
        for step in (["load", f"{folder}/samples.csv"], ["rollup"]):
            cpu_seconds([program, *step], environment)
        print(f"{'CPU seconds to start, medians of ' + str(runs):52}{'command':>9}{'floor':>8}{'ratio':>8}")
        for packages, arguments in COMMANDS:
            mine, floor = [], []
            for _ in range(runs):
                mine.append(cpu_seconds([program, *arguments], environment))
                floor.append(cpu_seconds([sys.executable, "-c", f"import {packages}"], environment))
            one, other = statistics.median(mine), statistics.median(floor)
            print(f"{'meterhouse ' + ' '.join(arguments)[:40]:52}{one:9.2f}{other:8.2f}{one / other:7.2f}×")


if __name__ == "__main__":
    main()
