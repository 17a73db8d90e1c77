"""The DAGs under a real Airflow: `airflow dags test` on a small site."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from builders import roll_up

from meterhouse.archive.seal import manifest
from meterhouse.catalog import catalog
from meterhouse.collection.load import load
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.usage import periods

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 10)
SAMPLES = [
    ("00:10", "vcpus", "gauge", "vcpu", 4),
    ("00:50", "vcpus", "gauge", "vcpu", 4),
    ("01:10", "vcpus", "gauge", "vcpu", 2),
    ("00:10", "memory", "gauge", "MB", 2048),
    ("01:10", "memory", "gauge", "MB", 1024),
    ("00:10", "cpu", "cumulative", "ns", 1_000_000_000_000),
    ("00:50", "cpu", "cumulative", "ns", 1_900_000_000_000),
    ("01:10", "cpu", "cumulative", "ns", 2_800_000_000_000),
]

Airflow = Callable[..., None]

COMMANDS = """
import json, sys
from airflow.__main__ import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["airflow", *command]
    main()
"""
"""Runs commands of `airflow` one after another, because to start it takes much longer than what they do."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with one instance's samples of a day, loaded and rolled up."""
    file = tmp_path / "samples.csv"
    rows = [f"{DAY}T{at}:00Z,{meter},i-1,{volume},{kind},{unit},p-1,u-1" for at, meter, kind, unit, volume in SAMPLES]
    header = "timestamp,meter,resource_id,volume,type,unit,project_id,user_id"
    file.write_text("\n".join([header, *rows]) + "\n")
    site = Site.open(read_settings(home=tmp_path / "site"))
    assert load(site, [file]).samples == len(SAMPLES)
    catalog(site)
    roll_up(site)
    periods.compute(site)
    return site


@pytest.fixture
def airflow(tmp_path: Path, site: Site) -> Airflow:
    """Runs commands of a separate installation of Airflow, which has the site in its environment."""
    home = tmp_path / "airflow"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "METERHOUSE_"))}
    env |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "METERHOUSE_HOME": str(site.settings.home),
        "PYTHONPATH": str(ROOT),
    }

    def run(*commands: list[str]) -> None:
        command = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
        done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """The content of a folder's files, by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_dag_processes_its_day_and_a_second_run_changes_nothing(site: Site, airflow: Airflow) -> None:
    (arrived,) = {hour[:10] for hour in site.lake.actions("samples")["partition.arrival_hour"].to_pylist()}

    runs = [["dags", "test", "meterhouse_usage_report", str(DAY)], ["dags", "test", "meterhouse_archive", arrived]]
    airflow(["db", "migrate"], *runs)
    entries, lake = manifest(site), contents(Path(site.settings.lake))

    (usage,) = parquet.read_table(
        Path(site.settings.lake) / "exports" / "usage_by_project_and_day" / f"{DAY}.parquet"
    ).to_pylist()
    assert usage["project_id"] == "p-1"
    assert usage["day"] == DAY
    assert usage["instances"] == 1
    # The first size counts from its first sample to that of the next one, which counts to the end of its hour.
    assert usage["vcpu_hours"] == pytest.approx(4 * 1 + 2 * 50 / 60)
    assert usage["memory_gib_hours"] == pytest.approx(2 * 1 + 1 * 50 / 60)
    assert usage["cpu_hours"] == 0.5
    assert f"exports/usage_by_project_and_day/{DAY}.csv" in lake

    (entry,) = entries
    assert (entry["table_name"], str(entry["day"])) == ("samples", arrived)
    assert (entry["rows"], entry["duplicates"]) == (len(SAMPLES), 0)
    assert all(f"tables/samples/{path}" in lake for path in entry["files"])

    airflow(*runs)
    assert (manifest(site), contents(Path(site.settings.lake))) == (entries, lake)
