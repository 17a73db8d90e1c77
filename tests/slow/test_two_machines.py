"""Two machines with one warehouse, one lake and Dagster's storage in PostgreSQL: one leads, the other takes over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import dagster as dg
import pytest
from builders import at, drop, polled, polling
from dagster._core.errors import DagsterUserCodeExecutionError
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from machines import Machine, words
from sqlalchemy import select

from assets.resources import SiteResource
from meterhouse import times
from meterhouse.daemon.leader import LEASE, VARIABLE, environment
from meterhouse.settings import read_settings, settings
from meterhouse.site import Site
from meterhouse.stores.leases import Lease, take
from meterhouse.stores.warehouse_tables import leases
from sensors import leading
from sensors.active_runs import AFTER

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.filterwarnings("ignore::dagster.BetaWarning")]

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
SMALL = """
import dagster as dg

import definitions as all
from sensors import jobs, schedules
from sensors.stream import stream_sensor

defs = dg.Definitions(
    assets=all.defs.assets,
    asset_checks=all.defs.asset_checks,
    jobs=[jobs.collect, jobs.alarms],
    sensors=[stream_sensor],
    schedules=[schedules.alarms],
    resources=all.defs.resources,
    executor=all.defs.executor,
)
"""
"""The code location with one sensor and one schedule, to leave the processor to these."""
STORAGE = "storage:\n  postgres:\n    postgres_url: {env: DAGSTER_POSTGRES_URL}\n"


class Pair:
    """A site on two machines, and what it shows."""

    def __init__(self, folder: Path, warehouse_url: str, dagster_url: str) -> None:
        self.shared = {
            "METERHOUSE_WAREHOUSE_URL": warehouse_url,
            "METERHOUSE_LAKE_URL": str(folder / "lake"),
            "METERHOUSE_STREAM_URL": f"file://{folder}/spool",
            "METERHOUSE_COLLECT_QUIET_SECONDS": "1",
            "DAGSTER_POSTGRES_URL": dagster_url.replace("postgresql+psycopg:", "postgresql+psycopg2:"),
        }
        self.folder = folder
        (folder / "small.py").write_text(SMALL)
        location = f"{{relative_path: small.py, working_directory: {ROOT}, location_name: meterhouse}}"
        (folder / "workspace.yaml").write_text(f"load_from:\n  - python_file: {location}\n")
        names = ("warehouse_url", "lake_url", "stream_url")
        self.site = Site.open(
            read_settings(home=folder / "here", **{name: self.shared[f"METERHOUSE_{name.upper()}"] for name in names})
        )

    def environment(self, name: str) -> dict[str, str]:
        """That of a machine's processes."""
        home = self.folder / name
        if not home.exists():
            (home / "dagster").mkdir(parents=True)
            (home / "dagster" / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + STORAGE)
        own = {"METERHOUSE_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
        return {**os.environ, **self.shared, **own}

    def machine(self, name: str) -> Machine:
        command = [str(PROGRAMS / "meterhouse"), "daemon", "-w", str(self.folder / "workspace.yaml")]
        return Machine(name, command, self.environment(name), self.folder / f"{name}.log")

    def led_by(self) -> tuple[str, int]:
        """The machine that leads, and the generation."""
        with self.site.warehouse.read() as connection:
            row = connection.execute(select(leases).where(leases.c.name == LEASE)).first()
        return (row.holder.partition(":")[0], row.generation) if row else ("", 0)

    def drop(self, number: int) -> None:
        """Let a message wait in the spool."""
        samples = [polled(float(number), at(number), message_id=f"sample-{number}")]
        drop(self.folder / "spool", f"{number}.jsonl", [polling(f"m{number}", samples)])

    def samples(self) -> list[float]:
        found = self.site.lake.table("samples").to_pyarrow_table()
        return sorted(found["volume"].to_pylist())


@pytest.fixture
def pair(tmp_path: Path, postgres_warehouse: str, postgres_url: str) -> Iterator[Pair]:
    made = Pair(tmp_path, postgres_warehouse, postgres_url)
    yield made
    made.site.warehouse.engine.dispose()


def wait(condition: Callable[[], bool], what: str) -> float:
    """Wait until a condition holds; return after how many seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + 240, what
        time.sleep(0.1)
    return time.monotonic() - began


def test_another_machine_takes_over_from_a_leader_that_is_killed_or_paused_and_no_run_is_started_twice(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in pair.environment("here").items():
        monkeypatch.setenv(name, value)
    subprocess.run([PROGRAMS / "dagster", "instance", "info"], check=True, capture_output=True)  # makes the tables
    with ExitStack() as stack:
        one = stack.enter_context(pair.machine("one"))
        wait(lambda: pair.led_by() == ("one", 1) and bool(one.processes("dagster-daemon")), "nobody leads")
        two = stack.enter_context(pair.machine("two"))
        wait(lambda: "standing by" in two.log.read_text(), "the second one does not stand by")
        assert not two.processes("dagster-daemon")

        # The leader is killed. Its daemon dies with it.
        orphaned = one.processes("dagster-daemon")
        one.signal(signal.SIGKILL, "meterhouse")
        wait(lambda: not any(map(words, orphaned)), "the daemon outlives its leader")
        took = wait(lambda: pair.led_by() == ("two", 2), "nobody takes over")
        assert took < 2 * pair.site.settings.daemon_lease_seconds, took
        pair.drop(1)
        wait(lambda: pair.samples() == [1], "the second leader starts nothing")

        # The leader is paused, with its daemon, in the middle of its work, and continues.
        one.die()
        again = stack.enter_context(pair.machine("one"))
        wait(lambda: again.log.read_text().count("standing by") == 1, "the first one does not stand by")
        pair.drop(2)
        two.signal(signal.SIGSTOP, "meterhouse", "dagster-daemon")
        paused = two.processes("dagster-daemon")
        assert paused
        wait(lambda: pair.led_by() == ("one", 3), "nobody takes over from a paused leader")
        wait(lambda: pair.samples() == [1, 2], "the first one starts nothing")
        pair.drop(3)
        two.signal(signal.SIGCONT, "meterhouse", "dagster-daemon")
        wait(lambda: not any(map(words, paused)), "a paused daemon continues")
        assert "the lease was lost" in two.log.read_text()
        wait(lambda: pair.samples() == [1, 2, 3], "the first one starts nothing more")
        assert pair.led_by() == ("one", 3)

        # One that is asked to end lets others lead at once.
        two.signal(signal.SIGTERM, "meterhouse")
        again.signal(signal.SIGTERM, "meterhouse")
        wait(lambda: not again.processes("meterhouse") and not two.processes("meterhouse"), "they do not end")
        assert pair.led_by() == ("", 3)

    with dg.DagsterInstance.from_config(str(pair.folder / "here" / "dagster")) as instance:
        runs = instance.get_runs()
    keys = [run.tags["dagster/run_key"] for run in runs if "dagster/sensor_name" in run.tags]
    assert len(keys) == len(set(keys)) >= 2
    moments = [run.tags[".dagster/scheduled_execution_time"] for run in runs if "dagster/schedule_name" in run.tags]
    assert len(moments) == len(set(moments))


@dg.op
def nothing() -> None:
    """A step of a run that never starts."""


@dg.job
def a_job() -> None:
    nothing()


ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__"), "a_job")


def test_of_runs_that_daemons_create_for_one_reason_one_comes_into_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERHOUSE_HOME", str(tmp_path))
    settings.cache_clear()
    once = {"run_coordinator": {"module": "sensors.coordinator", "class": "OnceCoordinator"}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=once) as instance:

        def made(**tags: str) -> dg.DagsterRun:
            named = {f"dagster/{name}".replace("dagster/scheduled", ".dagster/scheduled"): tags[name] for name in tags}
            status = dg.DagsterRunStatus.NOT_STARTED
            return instance.create_run_for_job(a_job, tags=named, status=status, remote_job_origin=ORIGIN)

        def submitted(*runs: dg.DagsterRun) -> list[str]:
            workspace: Any = None  # Dagster's queue does not look at it
            for run in runs:
                instance.run_coordinator.submit_run(SubmitRunContext(run, workspace))
            found = [instance.get_run_by_id(run.run_id) for run in runs]
            return [run.status.value for run in found if run]

        def after(run: dg.DagsterRun | None) -> dg.DagsterRun:
            return made(sensor_name="s", run_key=f"collect{AFTER}{run.run_id if run else 'none'}")

        # Two daemons have seen the same run as the last one, and created a successor each.
        first, other = after(None), after(None)
        assert submitted(first, other) == ["QUEUED", "CANCELED"]
        second, other = after(first), after(first)
        assert submitted(other, second) == ["QUEUED", "CANCELED"]
        assert submitted(after(first)) == ["CANCELED"]  # one was paused for longer
        # One created a run, and both put it into the queue.
        last = after(other)
        assert submitted(last, last) == ["QUEUED", "QUEUED"]
        assert len(instance.all_logs(last.run_id, of_type=dg.DagsterEventType.PIPELINE_ENQUEUED)) == 1
        # The last one was started by hand, or deleted.
        assert submitted(after(made())) == ["QUEUED"]
        for run in instance.get_runs():
            instance.delete_run(run.run_id)
        assert submitted(after(None)) == ["QUEUED"]
        # A retry has the tags of the run before; others have no key.
        assert submitted(made(sensor_name="s", run_key=f"collect{AFTER}none", parent_run_id="p")) == ["QUEUED"]
        assert submitted(made(), made()) == ["QUEUED", "QUEUED"]

        def scheduled(moment: str) -> dg.DagsterRun:
            return made(schedule_name="s", scheduled_execution_time=f"2026-12-01T{moment}:00+00:00")

        assert submitted(scheduled("12:00"), scheduled("12:00")) == ["QUEUED", "CANCELED"]
        assert submitted(scheduled("12:01"), scheduled("12:00")) == ["QUEUED", "CANCELED"]
        # A daemon died after it had chosen a run, before the queue had it; the next one submits the same run.
        for chosen in (after(instance.get_runs()[0]), scheduled("12:02")):
            with monkeypatch.context() as killed:
                killed.setattr(QueuedRunCoordinator, "submit_run", Mock(side_effect=KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    submitted(chosen)
            assert submitted(chosen) == ["QUEUED"]
    settings.cache_clear()


def test_ticks_of_a_daemon_that_no_longer_leads_start_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import definitions

    monkeypatch.setattr(leading, "open_site", lambda: site)
    monkeypatch.setattr(leading, "END_SECONDS", 0.0)
    old = take(site.warehouse, LEASE, "paused:1:1:x")
    assert isinstance(old, Lease)
    monkeypatch.setenv(VARIABLE, environment(old)[VARIABLE])
    assert leading.leads()
    old.release()
    assert isinstance(take(site.warehouse, LEASE, "new:1:1:x"), Lease)
    for sensor in definitions.defs.sensors or []:
        assert isinstance(sensor, dg.SensorDefinition)
        with dg.build_sensor_context(sensor_name=sensor.name, resources={"site": SiteResource()}) as context:
            told = sensor.evaluate_tick(context)
        assert (told.skip_message, list(told.run_requests or [])) == (leading.DEPOSED, []), sensor.name
    for schedule in definitions.defs.schedules or []:
        assert isinstance(schedule, dg.ScheduleDefinition)
        with pytest.raises(DagsterUserCodeExecutionError) as raised:
            schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=times.now()))
        assert str(raised.value.__cause__) == leading.DEPOSED
