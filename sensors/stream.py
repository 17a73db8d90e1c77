"""The stream sensor: starts a collecting run when there is work and not enough runs are at it."""

import dagster as dg

from assets.resources import SiteResource
from meterhouse.catalog import behind
from meterhouse.conversion import unconverted
from sensors.jobs import collect
from sensors.work import STEP, steps_at_work


@dg.sensor(
    job=collect,
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks at the stream's depth, and at what is landed but not converted; starts `collect` on either.",
)
def stream_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | dg.RunRequest:
    here = site.get()
    runs = here.settings.collect_runs
    steps = ["collect", *(f"collect {number}" for number in range(2, runs + 1))]
    free = sorted(set(steps) - steps_at_work(context, collect.name))
    if not free:
        return dg.SkipReason("a collecting run is at it" if runs == 1 else f"{runs} collecting runs are at it")
    backlog = here.stream.backlog()
    commits = unconverted(here) + behind(here)
    if not backlog and (not commits or len(free) < runs):
        return dg.SkipReason("the stream is quiet")
    tags = {STEP: free[0], "meterhouse/waiting": str(backlog.messages), "meterhouse/unconverted": str(commits)}
    return dg.RunRequest(tags=tags)
