"""The periods sensor: starts the computation of the periods of resources after new evidence and roll-ups."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from assets.resources import SiteResource
from assets.runs import DIRTY
from meterhouse import times
from meterhouse.stores import leases
from meterhouse.usage.keeping_up import behind
from meterhouse.usage.periods import STEP
from sensors.active_runs import is_running, next_key
from sensors.jobs import periods
from sensors.leading import skips_unless_leading

PAUSE = timedelta(minutes=1)
"""Shortest time from one run to the next: bills and reports need no fresher periods."""

SHARE = 10
"""A run computes a whole month, which takes longer on a larger site. After it, this many times its duration pass before
the next, so that the step takes at most a tenth of the time of one core."""


@dg.sensor(
    job=periods,
    minimum_interval_seconds=14,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts `periods` if notifications or roll-ups came since the last run, after a pause of ten times "
    "what that took, at least a minute.",
)
@skips_unless_leading
def periods_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | dg.RunRequest:
    here = site.get()
    key = next_key(context, periods.name)
    if is_running(context, periods.name):
        return dg.SkipReason("a run of periods is already running")
    left = _pause(context.instance, times.now())
    if left > timedelta(0):
        return dg.SkipReason(f"the last run has just ended: the next one may start in {left.total_seconds():.0f} s")
    if not behind(here).commits:
        return dg.SkipReason("nothing came since the last run")
    with here.warehouse.read() as connection:
        working = leases.holder(connection, STEP)
    if working:
        return dg.SkipReason(f"{working} is computing the periods")
    return dg.RunRequest(run_key=key, partition_key=str(times.now().date()), tags={DIRTY: "true"})


def _pause(instance: dg.DagsterInstance, present: datetime) -> timedelta:
    """How long the next run has to wait."""
    last = instance.get_run_records(dg.RunsFilter(job_name=periods.name, tags={DIRTY: "true"}), limit=1)
    if not last or last[0].start_time is None or last[0].end_time is None:
        return timedelta(0)
    started, ended = (datetime.fromtimestamp(moment, UTC) for moment in (last[0].start_time, last[0].end_time))
    return ended + max(PAUSE, SHARE * (ended - started)) - present
