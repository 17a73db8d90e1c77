"""Lakes and warehouses of earlier versions: they open, answer the same, and go on while a collector runs."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.service]

SITES = Path(__file__).parents[1] / "data" / "older-sites"
MONTH = ("--from", "2026-11-01", "--to", "2026-12-01")
STATISTICS = [part for name in ("count", "avg", "min", "max", "sum", "stddev") for part in ("--aggregate", name)]
QUESTIONS: dict[str, list[str]] = {
    "meters": ["meters"],
    "resources": ["resources", "--limit", "1000"],
    "statistics-cpu_util": ["statistics", "cpu_util", "--period", "3600", "--groupby", "resource_id", *STATISTICS],
    "statistics-all": ["statistics", "cpu_util", "--include-excluded"],
    "statistics-cpu": ["statistics", "cpu", "--period", "1800"],
    "samples": ["samples", "cpu_util", "--limit", "1000"],
    "samples-query": ["samples", "cpu_util", "-q", "resource_id", "eq", "db-01"],
    "events": ["events", "--limit", "1000"],
    "report-quality": ["report", "quality_by_day_and_rule", *MONTH],
    "alarms": ["alarms", "list"],
    "alarm-history": ["alarms", "history", "web-busy"],
    "dead-letters": ["dead-letters"],
    "quarantine": ["sql", "SELECT series_id, timestamp, volume, reason_names, excluded FROM quarantine"],
    "rollups": [
        "sql",
        "SELECT granularity_s, series_id, bucket, count, sum, min, max, increase, resets, excluded FROM rollups",
    ],
    "counts": [
        "sql",
        "SELECT (SELECT count(*) FROM notifications) AS notifications, (SELECT count(*) FROM samples) AS samples, "
        "(SELECT count(*) FROM events) AS events",
    ],
    "deliveries": ["sql", "--on", "warehouse", "SELECT url, state, attempts FROM deliveries"],
    "manifest": [
        "sql",
        "--on",
        "warehouse",
        "SELECT day, table_name, rows, duplicates, volume_sum FROM archive_manifest",
    ],
}
ASK = """
import json, sys
from click.testing import CliRunner
from meterhouse.cli import cli
answers = [CliRunner().invoke(cli, [*question, "--json"]) for question in json.loads(sys.argv[1])]
print(json.dumps([each.stdout for each in answers]), end="")
sys.exit(next((each.output for each in answers if each.exit_code), 0))
"""
RENAMED = {"id"}
"""Samples of gauges and counters were named by a hash; now they are by series and time."""

POLICIES = """
default: as-ever
policies:
  - name: as-ever
    tiers: [{granularity: 5 minutes, keep: 90 days}]
    min_points: 1
"""
"""Earlier versions made roll-ups of 5 minutes of every series."""

OF_ARRIVAL = {"recorded_at"}
"""What tells when a sample came: for those that came in this test it is another time."""


class Site:
    """A site of an earlier version, unpacked; commands on it run as a user runs them."""

    def __init__(self, folder: Path, archive: Path, warehouse_url: str = "") -> None:
        with tarfile.open(archive) as packed:
            packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later have it
            packed.extractall(folder)
        # A later version may exclude other points, or make other roll-ups. What its own rules do is not tested here.
        shutil.copy(archive.with_name("quality.yaml"), folder / "home" / "config")
        (folder / "home" / "config" / "archive_policies.yaml").write_text(POLICIES)
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")},
            "METERHOUSE_HOME": str(folder / "home"),
            "METERHOUSE_CONFIG_DIR": str(folder / "home" / "config"),
            "METERHOUSE_WAREHOUSE_URL": warehouse_url,
        }
        if warehouse_url:
            with psycopg.connect(warehouse_url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as server:
                server.execute((folder / "warehouse.sql").read_text().encode())

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "meterhouse", *arguments]

    def run(self, *arguments: str) -> str:
        command = self.command(*arguments)
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *questions: list[str]) -> list[str]:
        """The answers of commands, all from one process: there are many."""
        command = [sys.executable, "-c", ASK, json.dumps(questions)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout))

    def differing(self, moment: str, without: set[str]) -> list[str]:
        """The questions that are answered otherwise than the earlier version answered them, rows in any order.

        Columns that the earlier version did not have do not count.
        """

        def rows(text: str, columns: set[str]) -> "Counter[str]":
            # A sum's last digits depend on the order in which DuckDB's threads add.
            found = (json.loads(line, parse_float=lambda digits: f"{float(digits):.12g}") for line in text.splitlines())
            kept = ({key: value for key, value in row.items() if key in columns - without} for row in found)
            return Counter(json.dumps(row, sort_keys=True) for row in kept)

        found = []
        for name, answer in zip(QUESTIONS, self.ask(*QUESTIONS.values()), strict=True):
            then = (self.folder / "answers" / moment / f"{name}.jsonl").read_text()
            assert then, f"nothing is recorded of {name}"
            columns = {key for line in then.splitlines() for key in json.loads(line)}
            if rows(answer, columns) != rows(then, columns):
                found.append(name)
        return found


@pytest.fixture(params=sorted(path.name for path in SITES.iterdir() if path.is_dir()))
def folder(request: pytest.FixtureRequest) -> Path:
    return SITES / str(request.param)


def test_an_older_site_on_sqlite_answers_the_same(folder: Path, tmp_path: Path) -> None:
    _answers_the_same(Site(tmp_path, folder / "sqlite.tar.gz"))


def test_an_older_site_on_postgresql_answers_the_same(folder: Path, tmp_path: Path, postgres_url: str) -> None:
    _answers_the_same(Site(tmp_path, folder / "postgres.tar.gz", postgres_url))


def _answers_the_same(site: Site) -> None:
    clock = time.monotonic()
    site.run("migrate")
    print(f"upgrading took {time.monotonic() - clock:.1f} s")
    (left,) = (site.folder / "home" / "spool").glob("*.jsonl")
    kept = left.rename(site.folder / left.name)
    assert site.differing("as-found", RENAMED) == []

    follower = subprocess.Popen(
        site.command("collect", "--follow", "--json"), env=site.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        clock = time.monotonic()
        site.run("migrate")
        print(f"upgrading while a collector runs took {time.monotonic() - clock:.1f} s")
        kept.rename(left)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and _samples(site) < 305:
            assert follower.poll() is None
            time.sleep(0.5)
    finally:
        follower.terminate()
        follower.communicate(timeout=60)
    assert follower.returncode == 0
    site.run("rollup")
    assert site.differing("after", RENAMED | OF_ARRIVAL) == []
    # The earlier version counted hours with points, this one counts what existed: other figures, and of more projects.
    then = (site.folder / "answers" / "after" / "report-usage.jsonl").read_text().splitlines()
    now = site.run("report", "usage_by_project_and_day", *MONTH, "--json").splitlines()
    assert {json.loads(line)["project_id"] for line in then} <= {json.loads(line)["project_id"] for line in now}


def _samples(site: Site) -> int:
    (answer,) = site.ask(QUESTIONS["counts"])
    return int(json.loads(answer)["samples"])
