"""The dead-runs sensor: ends runs whose process has died, because Dagster would show them as running for ever.

Dagster's default launcher does not check the processes that it launched. A dead run would keep its place in the queue,
and the other sensors would wait for it.
"""

import json
import socket
from collections.abc import Mapping
from datetime import datetime, timedelta

import dagster as dg

from assets.resources import SiteResource
from meterhouse import times
from meterhouse.site import Site
from meterhouse.stores import heartbeats
from meterhouse.stores.leases import Held
from sensors.active_runs import ACTIVE
from sensors.leading import skips_unless_leading

STATUS = dg.DagsterRunStatus
WORKING = {STATUS.STARTED, STATUS.CANCELING}
PATIENCE = timedelta(seconds=30)
"""Shortest time without a sign of life that ends a run: several attempts of a process to take its lease."""
EVENT = timedelta(seconds=2)
"""What the writing of one event may take on a machine that is busy."""
GRPC_INFO = ".dagster/grpc_info"
"""Run tag in which Dagster's default launcher names the code server that starts the run's process."""


def reason(
    run: dg.DagsterRun, beats: Mapping[str, Held], *, default_launcher: bool, ours: bool
) -> tuple[str, bool] | None:
    """Why a run seems to be dead, and whether this is certain; None if nothing speaks for it.

    Args:
        run: a run that has not ended.
        beats: the heartbeats of all runs.
        default_launcher: whether runs are processes that the code server starts on this machine.
        ours: whether it is a run of this code location, which has a heartbeat.
    """
    beat = beats.get(run.run_id)
    if beat and beat.died:
        host, pid, *_ = beat.holder.split(":")
        return f"The process of the run, {pid} on {host}, has died.", True
    if run.status in WORKING and beat:
        return (f"The process of the run ({beat.holder}) no longer renews its lease.", False) if beat.silent else None
    if not ours:
        return None
    if run.status in WORKING:
        return "The run has no process that renews its lease.", False
    if run.status == STATUS.NOT_STARTED:
        return "The run was never put into the queue.", False
    if run.status == STATUS.STARTING and default_launcher and _server_has_ended(run):
        return "The code server that was to start the process of the run has ended.", False
    return None


def _server_has_ended(run: dg.DagsterRun) -> bool:
    info = json.loads(run.tags.get(GRPC_INFO, "{}"))
    family, address = (
        (socket.AF_UNIX, info["socket"])
        if info.get("socket")
        else (socket.AF_INET, (info.get("host") or "localhost", info.get("port") or 0))
    )
    with socket.socket(family) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False


def end_dead_runs(
    instance: dg.DagsterInstance,
    site: Site,
    doubted: Mapping[str, datetime],
    location: str | None,
    present: datetime,
) -> tuple[list[str], dict[str, datetime]]:
    """End the runs whose process has died, and those that showed no sign of life for half of a lease's time.

    Args:
        instance: Dagster's instance.
        site: its warehouse has the heartbeats.
        doubted: since when runs have shown no sign of life, by id, as the tick before returned it.
        location: the name of this code location. Other locations of the instance have no heartbeats.
        present: the present instant.

    Returns:
        What was ended and why, and the runs that are doubted now.

    Raises:
        MeterhouseError: the warehouse cannot be used; nothing was ended.
    """
    records = [
        record
        for record in instance.get_run_records(dg.RunsFilter(statuses=ACTIVE))
        if record.dagster_run.status != STATUS.QUEUED
    ]
    beats = heartbeats.heartbeats(site.warehouse)  # after the runs: whichever has started by now has a heartbeat soon
    patience = max(PATIENCE, timedelta(seconds=site.settings.lease_seconds / 2))
    default_launcher = isinstance(instance.run_launcher, dg.DefaultRunLauncher)
    ended: list[str] = []
    still: dict[str, datetime] = {}
    active = {record.dagster_run.run_id for record in records}
    for run in (record.dagster_run for record in records):
        ours = location is None or _location(run) == location
        found = reason(run, beats, default_launcher=default_launcher, ours=ours)
        if found is None:
            continue
        text, certain = found
        since = min(doubted.get(run.run_id, present), present)
        if not certain and present - since < patience + _writing(instance, run):
            still[run.run_id] = since
        elif _end(instance, run, text):
            ended.append(f"{run.job_name} {run.run_id[:8]}: {text}")
            active.remove(run.run_id)
    over = [run_id for run_id, beat in beats.items() if run_id not in active and (beat.died or beat.silent)]
    heartbeats.remove(site.warehouse, over)
    return ended, still


def _writing(instance: dg.DagsterInstance, run: dg.DagsterRun) -> timedelta:
    """How long the events may take that Dagster writes, several for each partition, before it queues a run."""
    if run.status != STATUS.NOT_STARTED:
        return timedelta(0)
    return len(instance.get_records_for_run(run.run_id).records) * EVENT


def _location(run: dg.DagsterRun) -> str | None:
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin else None


def _end(instance: dg.DagsterInstance, run: dg.DagsterRun, text: str) -> bool:
    """End a run whose status is still what it was."""
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.status != run.status:
        return False
    if run.status == STATUS.CANCELING:
        instance.report_run_canceled(run, text)
    else:
        instance.report_run_failed(run, text)
    return True


@dg.sensor(
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose process has died, so that their steps can run again.",
)
@skips_unless_leading
def dead_runs_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason:
    before = {run: times.parse(moment) for run, moment in json.loads(context.cursor or "{}").items()}
    origin = context.code_location_origin
    ended, doubted = end_dead_runs(
        context.instance, site.get(), before, origin.location_name if origin else None, times.now()
    )
    if doubted != before:
        context.update_cursor(json.dumps({run: times.text(moment) for run, moment in doubted.items()}))
    return dg.SkipReason("; ".join(ended) if ended else "no run is dead")
