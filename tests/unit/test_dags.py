"""The DAGs as Airflow reads them, in a separate process: Airflow warns and configures itself when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
IDS = [
    *("meterhouse_archive", "meterhouse_upkeep", "meterhouse_usage_report", "meterhouse_reconciliation"),
    "meterhouse_bills",
]
"""The daily DAGs."""

PROBE = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.sdk.timezone import coerce_datetime
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

folder = Path(sys.argv[1])
before = set(sys.modules)
bag = BundleDagBag(folder, bundle_path=folder, bundle_name="dags-folder")
found = {"import_errors": bag.import_errors, "imported": sorted(set(sys.modules) - before), "dags": {}}

def instant(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)

for name, dag in bag.dags.items():
    task, *_ = dag.tasks
    stored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    since = TimeRestriction(coerce_datetime(instant("2026-11-22")), None, catchup=True)
    scheduled = stored.timetable.next_dagrun_info_v2(last_dagrun_info=None, restriction=since)
    backfilled = stored.iter_dagrun_infos_between(instant("2026-11-01"), instant("2026-11-08"))
    found["dags"][name] = {
        "scheduled": [scheduled.run_after.isoformat(), scheduled.partition_key],
        "backfilled": [info.partition_key for info in backfilled],
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "tags": sorted(dag.tags),
        "documented": bool(dag.doc_md and dag.doc_md.strip()),
        "task": task.task_id,
        "owner": task.owner,
        "retries": task.retries,
        "retry_minutes": task.retry_delay.total_seconds() / 60,
        "at_once": task.max_active_tis_per_dag,
    }

import meterhouse_daily
from meterhouse import errors

def day(**run):
    run = {"partition_date": None, "logical_date": None, "run_after": instant("2026-11-22T09:00"), **run}
    meterhouse_daily.get_current_context = lambda: {"dag_run": SimpleNamespace(**run)}
    return str(meterhouse_daily.day_of_run())

found["days"] = {
    "partition": day(partition_date=instant("2026-11-03T01:35")),
    "logical": day(logical_date=instant("2026-11-05")),
    "neither": day(),
}

def raised(error):
    try:
        with meterhouse_daily.plain_errors():
            raise error
    except Exception as shown:
        return [type(shown).__name__, str(shown), shown.__suppress_context__]

found["errors"] = {
    "running": raised(errors.AlreadyRunning("the step is already running", hint="Try later")),
    "fault": raised(errors.MeterhouseError("messages wait")),
    "setting": raised(errors.SettingsError("is wrong", where="METERHOUSE_HOME")),
    "name": raised(errors.UnknownName("report", "usage", ["use"])),
    "usage": raised(errors.UsageError("the span is empty")),
    "defect": raised(ZeroDivisionError("x")),
}
try:
    meterhouse_daily.open_site()
except errors.SettingsError as error:
    found["no_home"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How Airflow reads the folder as deployed: the dags folder and the project are on the path, without settings."""
    home = tmp_path_factory.mktemp("airflow")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "METERHOUSE_"))}
    env |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROBE, str(ROOT / "dags")]
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_file_is_read_without_error(probe: dict[str, Any]) -> None:
    assert probe["import_errors"] == {}
    assert sorted(probe["dags"]) == sorted([*IDS, "meterhouse_compaction", "meterhouse_periods", "meterhouse_polling"])


@pytest.mark.parametrize(
    ("name", "task", "owner"),
    [
        ("meterhouse_compaction", "compact", "telemetry"),
        ("meterhouse_periods", "periods", "billing"),
        ("meterhouse_polling", "poll", "telemetry"),
    ],
)
def test_what_runs_all_day_is_no_partition_of_a_day(probe: dict[str, Any], name: str, task: str, owner: str) -> None:
    dag = probe["dags"][name]
    assert (dag["task"], dag["owner"], dag["documented"], dag["tags"]) == (task, owner, True, ["meterhouse"])
    assert (dag["catchup"], dag["max_active_runs"], dag["scheduled"][1]) == (False, 1, None)


def test_reading_the_files_imports_nothing_heavy(probe: dict[str, Any]) -> None:
    imported = {name.partition(".")[0] for name in probe["imported"]}
    assert "meterhouse_daily" in imported
    assert not imported & {"great_expectations", "pandas", "duckdb", "pyarrow", "deltalake", "dagster", "meterhouse"}


@pytest.mark.parametrize(
    ("name", "task", "owner"),
    [
        (IDS[0], "archive", "telemetry"),
        (IDS[1], "upkeep", "telemetry"),
        (IDS[2], "export_usage", "billing"),
        (IDS[3], "reconcile", "billing"),
        (IDS[4], "export_bills", "billing"),
    ],
)
def test_a_dag_says_what_it_does_and_is_retried(probe: dict[str, Any], name: str, task: str, owner: str) -> None:
    dag = probe["dags"][name]
    assert (dag["task"], dag["owner"], dag["documented"]) == (task, owner, True)
    assert dag["tags"] == ["daily", "meterhouse"]
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    assert (dag["retries"], dag["retry_minutes"]) == (6, 10)


@pytest.mark.parametrize(("name", "at"), list(zip(IDS, ("01:35", "02:05", "01:50", "02:20", "02:35"), strict=True)))
def test_a_scheduled_run_is_for_the_day_before(probe: dict[str, Any], name: str, at: str) -> None:
    assert probe["dags"][name]["scheduled"] == [f"2026-11-22T{at}:00+00:00", "2026-11-21"]


@pytest.mark.parametrize("name", IDS)
def test_a_backfill_includes_its_first_day_and_not_its_last(probe: dict[str, Any], name: str) -> None:
    assert probe["dags"][name]["backfilled"] == [f"2026-11-0{day}" for day in range(1, 8)]


def test_archive_runs_of_a_backfill_wait_for_each_other(probe: dict[str, Any]) -> None:
    assert probe["dags"]["meterhouse_archive"]["at_once"] == 1


def test_the_day_is_the_partition_or_the_logical_date_or_yesterday(probe: dict[str, Any]) -> None:
    assert probe["days"] == {"partition": "2026-11-03", "logical": "2026-11-05", "neither": "2026-11-21"}


def test_a_step_that_is_already_running_is_retried_and_reported_by_its_text(probe: dict[str, Any]) -> None:
    assert probe["errors"]["running"] == ["AirflowException", "the step is already running. Try later", True]
    assert probe["errors"]["fault"] == ["AirflowException", "messages wait", True]


def test_an_invalid_setting_or_name_fails_at_once(probe: dict[str, Any]) -> None:
    assert probe["errors"]["setting"] == ["AirflowFailException", "METERHOUSE_HOME: is wrong", True]
    assert probe["errors"]["name"][0] == "AirflowFailException"
    assert probe["errors"]["usage"] == ["AirflowFailException", "the span is empty", True]


def test_a_defect_keeps_its_type_and_traceback(probe: dict[str, Any]) -> None:
    assert probe["errors"]["defect"] == ["ZeroDivisionError", "x", False]


def test_a_worker_without_settings_gets_an_error_instead_of_an_empty_site(probe: dict[str, Any]) -> None:
    assert probe["no_home"].startswith("METERHOUSE_HOME: '.meterhouse' is relative to the worker's working directory.")
