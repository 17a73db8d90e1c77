"""Upkeep of Dagster's storage: what deleted runs leave nowhere, and what stays."""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from meterhouse import times
from sensors.upkeep import prune

pytestmark = pytest.mark.slow

DAYS = dg.DailyPartitionsDefinition("2026-11-01")


@dg.asset(partitions_def=DAYS)
def of_a_day(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    print("to the log of the run")
    return dg.MaterializeResult(metadata={"rows": 1}, tags={"a": "b"})


@dg.asset_check(asset=of_a_day)
def is_fine() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}}) as found:
        yield found


def left(instance: dg.DagsterInstance, folder: Path) -> dict[str, int]:
    """The number of rows of each table of Dagster's databases, and of files in its folders."""
    found = {"files": sum(path.is_file() and not path.name.endswith(("-wal", "-shm")) for path in folder.rglob("*"))}
    for database in ("runs", "runs/index", "runs/"):  # the last has events without a run
        with sqlite3.connect(folder / "history" / f"{database}.db") as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found |= {
                f"{name} {database}": connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                for name in tables
            }
    return found


def run_once(instance: dg.DagsterInstance) -> None:
    done = dg.materialize([of_a_day, is_fine], instance=instance, partition_key="2026-11-20", tags={"team": "x"})
    assert done.success
    instance.report_runless_asset_event(dg.AssetMaterialization("webhooks", metadata={"delivered": 1}))


def test_ended_runs_leave_nothing_but_the_newest_materialization_of_a_partition(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    instance.add_run(dg.DagsterRun(job_name="still running", status=dg.DagsterRunStatus.STARTED))
    run_once(instance)
    (tmp_path / "history" / "runs" / "0b5f0cf3-4d5f-4d0e-8a3e-1d2c3b4a5968.db").touch()  # an older release left it
    assert prune(instance, times.now() - timedelta(days=1)) == 0
    assert prune(instance, times.now() + timedelta(days=1)) == 1
    once = left(instance, tmp_path)
    assert [path.name for path in (tmp_path / "history" / "runs").glob("*-*.db")] == []
    run_once(instance)
    run_once(instance)
    assert left(instance, tmp_path)["event_logs runs/index"] > once["event_logs runs/index"]
    assert prune(instance, times.now() + timedelta(days=1)) == 2
    assert left(instance, tmp_path) == once
    assert (once["runs runs"], once["run_tags runs"], once["asset_check_executions runs/index"]) == (1, 0, 0)
    assert (once["event_logs runs/index"], once["event_logs runs/"]) == (1, 0)
    assert instance.get_materialized_partitions(of_a_day.key) == {"2026-11-20"}
