"""Runs whose process has died, with Dagster's real daemon: they end, and their steps run again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from builders import at, drop, polled, polling
from sqlalchemy import delete, update

from meterhouse import settings as settings_module
from meterhouse import times
from meterhouse.collection.intake import intake
from meterhouse.site import Site
from meterhouse.stores.heartbeats import beat, heartbeats
from meterhouse.stores.leases import Lease, take, this_process
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import leases
from sensors.dead_runs import GRPC_INFO, end_dead_runs, reason

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::dagster.BetaWarning")]

DAGSTER = Path(sys.executable).with_name("dagster")
ROOT = Path(__file__).parents[2]
JOBS = ("collect", "recompute", "archive_day")
STATUS = dg.DagsterRunStatus
HELD = """
import os, time
from pathlib import Path

import assets.archive, assets.event_days, assets.intake

def held(function):
    def waiting(*arguments, **options):
        while Path(os.environ["METERHOUSE_HOME"], "hold").exists():
            time.sleep(0.1)
        return function(*arguments, **options)
    return waiting

assets.archive.seal = held(assets.archive.seal)
assets.intake.run = held(assets.intake.run)
assets.event_days.roll_up = held(assets.event_days.roll_up)
from definitions import defs
"""
"""A code location whose steps wait while there is a file `hold`."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site, and a Dagster home and workspace for it."""
    for name, value in {
        "METERHOUSE_HOME": str(tmp_path),
        "METERHOUSE_CONFIG_DIR": str(tmp_path),
        "METERHOUSE_COLLECT_QUIET_SECONDS": "1",
        "METERHOUSE_PARTITIONS_FROM": str((times.now() - timedelta(days=2)).date()),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    (tmp_path / "held.py").write_text(HELD)
    location = f"{{relative_path: held.py, working_directory: {ROOT}, location_name: meterhouse}}"
    (tmp_path / "workspace.yaml").write_text(f"load_from:\n  - python_file: {location}\n")
    settings_module.settings.cache_clear()
    opened = Site.open()
    yield opened
    opened.warehouse.engine.dispose()
    settings_module.settings.cache_clear()


@contextmanager
def daemon(home: Path) -> Iterator[None]:
    """Dagster's daemon, with the code server and the runs that it starts, in one process group. SIGKILL ends it."""
    with (
        (home / "daemon.log").open("ab") as output,
        subprocess.Popen(
            [DAGSTER.with_name("dagster-daemon"), "run", "-w", home / "workspace.yaml"],
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as started,
    ):
        try:
            yield
        finally:
            os.killpg(started.pid, signal.SIGKILL)


def wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def test_runs_whose_processes_were_killed_end_as_failed_and_their_steps_run_again(here: Site, tmp_path: Path) -> None:
    drop(here.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at(5)), polled(2.0, at(6))])])
    intake(here)
    drop(here.settings.spool, "b.jsonl", [polling("b2", [polled(3.0, at(7))])])
    (tmp_path / "hold").touch()
    partition = json.dumps({"dagster/partition": str((times.now() - times.DAY).date())})
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:

        def runs(job: str, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
            return list(instance.get_runs(dg.RunsFilter(job_name=job, statuses=statuses)))

        launch = [DAGSTER, "job", "launch", "-w", tmp_path / "workspace.yaml", "-j", "archive_day", "--tags", partition]
        subprocess.run(launch, check=True, capture_output=True)
        with daemon(tmp_path):
            wait(lambda: all(runs(job, STATUS.STARTED) for job in JOBS), "the runs do not start")
            killed = [runs(job, STATUS.STARTED)[0].run_id for job in JOBS]
            wait(lambda: {*killed} <= heartbeats(here.warehouse).keys(), "the runs have no heartbeat")
        assert {run.status for run in instance.get_runs(dg.RunsFilter(run_ids=killed))} == {STATUS.STARTED}

        (tmp_path / "hold").unlink()
        with daemon(tmp_path):
            wait(lambda: all(runs(job, STATUS.SUCCESS) for job in JOBS), "the steps do not run again")
        for run_id in killed:
            (failure,) = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
            assert "has died" in failure.message


# What the sensor decides, on an instance in memory.

PRESENT = times.now()
LATER = PRESENT + timedelta(seconds=31)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@dg.op
def nothing() -> None:
    """A step of a run that never starts."""


@dg.job
def a_job() -> None:
    nothing()


def a_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> str:
    return instance.create_run_for_job(a_job, status=status).run_id


def take_lease(site: Site, run_id: str, holder: str) -> None:
    assert isinstance(take(site.warehouse, f"run/{run_id}", holder), Lease)


def statuses(instance: dg.DagsterInstance) -> set[str]:
    return {run.status.value for run in instance.get_runs()}


@pytest.mark.parametrize(
    ("status", "end"), [(STATUS.STARTED, "FAILURE"), (STATUS.STARTING, "FAILURE"), (STATUS.CANCELING, "CANCELED")]
)
def test_a_run_whose_process_died_on_this_machine_ends_at_once(
    here: Site, instance: dg.DagsterInstance, status: dg.DagsterRunStatus, end: str
) -> None:
    run_id = a_run(instance, status)
    take_lease(here, run_id, f"{socket.gethostname()}:{os.getpid()}:1:x")  # this pid, but an earlier process
    (said,), doubted = end_dead_runs(instance, here, {}, None, PRESENT)
    assert f"{os.getpid()} on {socket.gethostname()}, has died" in said
    assert not doubted
    assert statuses(instance) == {end}
    assert not heartbeats(here.warehouse)


def test_a_run_on_another_machine_ends_after_its_lease_was_silent_for_a_while(
    here: Site, instance: dg.DagsterInstance
) -> None:
    run_id = a_run(instance, STATUS.STARTED)
    take_lease(here, run_id, "elsewhere:1:1:x")
    assert end_dead_runs(instance, here, {}, None, PRESENT) == ([], {})
    for expires_at in (PRESENT - timedelta(seconds=1), PRESENT + timedelta(days=1)):  # or the clock was set back
        with here.warehouse.begin() as connection:
            connection.execute(update(leases).values(expires_at=expires_at))
        assert end_dead_runs(instance, here, {}, None, PRESENT) == ([], {run_id: PRESENT})
    with here.warehouse.begin() as connection:
        connection.execute(update(leases).values(expires_at=times.now() + timedelta(seconds=30)))
    assert end_dead_runs(instance, here, {run_id: PRESENT}, None, LATER) == ([], {})  # it was renewed
    with here.warehouse.begin() as connection:
        connection.execute(update(leases).values(expires_at=PRESENT - timedelta(seconds=1)))
    ended, _ = end_dead_runs(instance, here, {run_id: PRESENT}, None, LATER)
    assert "no longer renews its lease" in ended[0]
    assert statuses(instance) == {"FAILURE"}


@pytest.mark.parametrize("status", [STATUS.STARTED, STATUS.NOT_STARTED])
def test_a_run_that_never_shows_a_sign_of_life_ends_after_a_while(
    here: Site, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    run_id = a_run(instance, status)
    assert end_dead_runs(instance, here, {}, None, PRESENT) == ([], {run_id: PRESENT})
    assert end_dead_runs(instance, here, {run_id: LATER}, None, PRESENT) == ([], {run_id: PRESENT})  # clock set back
    assert end_dead_runs(instance, here, {run_id: PRESENT}, "another location", LATER) == ([], {})
    ended, _ = end_dead_runs(instance, here, {run_id: PRESENT}, None, LATER)
    assert len(ended) == 1
    assert statuses(instance) == {"FAILURE"}


def test_a_run_for_whose_many_partitions_events_are_still_written_is_alive(
    here: Site, instance: dg.DagsterInstance
) -> None:
    run_id = a_run(instance, STATUS.NOT_STARTED)
    (run,) = instance.get_runs()
    for number in range(60):
        instance.report_engine_event(f"partition {number}", run)
    doubted = {run_id: PRESENT}
    assert end_dead_runs(instance, here, doubted, None, PRESENT + timedelta(minutes=2)) == ([], doubted)
    ended, _ = end_dead_runs(instance, here, doubted, None, PRESENT + timedelta(minutes=3))
    assert len(ended) == 1


def test_a_run_that_is_to_start_ends_if_its_code_server_has_ended(
    here: Site, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    path = str(tmp_path / "server")
    run_id = a_run(instance, STATUS.STARTING)
    instance.add_run_tags(run_id, {GRPC_INFO: json.dumps({"host": "localhost", "socket": path})})
    (run,) = instance.get_runs()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert reason(run, {}, default_launcher=True, ours=True) is None
    found = reason(run, {}, default_launcher=True, ours=True)
    assert found is not None
    assert "code server" in found[0]
    assert reason(run, {}, default_launcher=False, ours=True) is None


def test_a_running_run_stays(here: Site, instance: dg.DagsterInstance) -> None:
    run_id = a_run(instance, STATUS.STARTED)
    with beat(Warehouse(here.settings.warehouse), run_id):
        wait(lambda: run_id in heartbeats(here.warehouse), "no heartbeat")
        with here.warehouse.begin() as connection:
            connection.execute(delete(leases))  # such as after the warehouse was restored
        assert end_dead_runs(instance, here, {}, None, PRESENT) == ([], {run_id: PRESENT})
        take_lease(here, run_id, this_process())
        assert end_dead_runs(instance, here, {run_id: PRESENT}, None, LATER) == ([], {})
    assert statuses(instance) == {"STARTED"}


def test_a_heartbeat_is_taken_again_after_the_warehouse_lost_it_and_removed_at_the_end(here: Site) -> None:
    with beat(Warehouse(here.settings.warehouse, lease_seconds=0.3), "r1"):
        for _ in range(2):
            wait(lambda: "r1" in heartbeats(here.warehouse), "no heartbeat")
            with here.warehouse.begin() as connection:
                connection.execute(delete(leases))
        wait(lambda: "r1" in heartbeats(here.warehouse), "no heartbeat")
    assert not heartbeats(here.warehouse)
