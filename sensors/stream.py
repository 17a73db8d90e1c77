"""The stream sensor: starts a collecting run when there is work and not enough runs are at it."""

import dagster as dg

from assets.resources import SiteResource
from meterhouse.catalog import commits_behind
from meterhouse.conversion.step import unconverted
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
    most = here.settings.collect_runs
    steps = steps_at_work(context, collect.name)
    if len(steps) >= most:
        return dg.SkipReason("a collecting run is at it" if most == 1 else f"{len(steps)} collecting runs are at it")
    backlog = here.stream.backlog(keep=True)
    commits = unconverted(here) + commits_behind(here)
    if not backlog and (steps or not commits):  # what is landed is converted by the run that is at it
        return dg.SkipReason("the stream is quiet")
    names = ["collect", *(f"collect {number}" for number in range(2, most + 1))]
    free = [name for name in names if name not in steps]
    tags = {STEP: free[0], "meterhouse/waiting": str(backlog.messages), "meterhouse/unconverted": str(commits)}
    return dg.RunRequest(tags=tags)
