"""What each command loads: a command imports what it uses, and nothing else. Noise cannot make these tests fail."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from builders import at, drop, notification, polled, polling, process

from meterhouse.site import Site

pytestmark = pytest.mark.slow

PROBE = """
import sys
at_start = set(sys.modules)
from meterhouse.cli import main
sys.argv = ["meterhouse", *sys.argv[1:]]
try:
    main()
finally:
    loaded = {name.partition(".")[0] for name in set(sys.modules) - at_start}
    print("LOADED", *loaded - set(sys.stdlib_module_names), file=sys.stderr)
"""

SMALL = {"click", "meterhouse"}
SQL = SMALL | {"msgspec", "sqlalchemy", "typing-extensions"}
DUCKDB = SQL | {"duckdb", "pytz", "pyyaml"}  # DuckDB loads pytz if it is installed
LAKE = DUCKDB | {"arro3-core", "deltalake", "fsspec", "numpy", "orjson", "pyarrow", "xxhash"}
LAKE |= {"cloudpickle"}  # PyArrow loads it if it is installed, as it is with Dask
"""Distributions, as PyPI names them."""

MAY_LOAD = [
    (SMALL, ["--help"]),
    (SMALL, ["--version"]),
    (SMALL, ["statistics", "--help"]),
    (SMALL, ["report"]),
    (SMALL, ["report", "--format", "csv"]),
    (SQL, ["meters"]),
    (SQL, ["resources"]),
    (SQL, ["resources", "-q", "project_id", "eq", "p1"]),
    (SQL, ["resources", "show", "r1"]),
    (SQL, ["report", "usage_by_project_and_day", "--day", "2026-11-10"]),
    (SQL, ["alarms", "list"]),
    (SQL, ["alarms", "show", "busy"]),
    (SQL, ["correct", "list"]),
    (SQL, ["erase", "list"]),
    (SQL, ["settings"]),
    (SQL, ["sql", "--on", "warehouse", "SELECT 1 AS one"]),
    (DUCKDB, ["statistics", "no_such_meter"]),
    (DUCKDB, ["samples", "no_such_meter"]),
    (LAKE, ["statistics", "cpu_util"]),
    (LAKE, ["samples", "cpu_util"]),
    (LAKE, ["events"]),
    (LAKE, ["sql", "SELECT count(*) AS samples FROM samples"]),
]
"""What may be loaded besides the standard library, and by which command."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with samples, events and an alarm."""
    from meterhouse.alarms.keeping.apply import apply
    from meterhouse.settings import read_settings

    folder = tmp_path_factory.mktemp("start")
    (folder / "alarms.yaml").write_text(
        "alarms: [{name: busy, threshold_rule: {meter_name: cpu_util, threshold: 9}}]\n"
    )
    site = Site.open(read_settings(home=folder, config_dir=folder))
    drop(site.settings.spool, "a.jsonl", [notification("m1"), polling("b1", [polled(1.0, at(1))])])
    process(site)
    apply(site)
    site.warehouse.engine.dispose()
    return folder


def run(home: Path, arguments: list[str], **more: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
    environment = {**kept, "METERHOUSE_HOME": str(home), **more}
    command = [sys.executable, "-c", PROBE, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


DISTRIBUTIONS = packages_distributions()


def loaded(done: "subprocess.CompletedProcess[str]") -> set[str]:
    """The distributions whose modules a command has loaded."""
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("LOADED"))
    names = {name for module in line.split()[1:] for name in DISTRIBUTIONS.get(module, [])}
    return {name.lower().replace("_", "-") for name in names}


@pytest.mark.parametrize(("allowed", "arguments"), MAY_LOAD, ids=[" ".join(words)[:40] for _, words in MAY_LOAD])
def test_a_command_loads_only_what_it_uses(home: Path, allowed: set[str], arguments: list[str]) -> None:
    done = run(home, arguments)
    assert loaded(done) <= allowed
    assert "unknown meter" in done.stderr or done.returncode == 0, done.stderr


def test_what_reads_the_lake_loads_what_reads_it(home: Path) -> None:
    """The probe sees what is loaded."""
    assert {"duckdb", "deltalake", "pyarrow"} <= loaded(run(home, ["samples", "cpu_util"]))


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("meterhouse rep", "plain,report"),
        ("meterhouse report usage_by_project_and_d", "plain,usage_by_project_and_day"),
    ],
)
def test_completion_loads_click_alone(tmp_path: Path, words: str, completed: str) -> None:
    variables = {"_METERHOUSE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = run(tmp_path / "home", [], **variables)
    assert done.stdout.strip() == completed
    assert loaded(done) <= SMALL
    assert not (tmp_path / "home").exists()
