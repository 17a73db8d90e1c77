"""The stream sensor: starts a run of `collect` if there is work and not enough runs are running."""

import dagster as dg

from assets.resources import SiteResource
from meterhouse.catalog import commits_behind
from meterhouse.conversion.step import unconverted
from sensors.active_runs import STEP, next_key, running_steps
from sensors.jobs import collect
from sensors.leading import skips_unless_leading


@dg.sensor(
    job=collect,
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts `collect` if messages wait in the stream, or landed messages wait for conversion.",
)
@skips_unless_leading
def stream_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | dg.RunRequest:
    here = site.get()
    limit = here.settings.collect_runs
    names = ["collect", *(f"collect {number}" for number in range(2, limit + 1))]
    keys = {name: next_key(context, collect.name, {STEP: name}) for name in names}
    steps = running_steps(context, collect.name)
    if len(steps) >= limit:
        running = "a run of collect is" if limit == 1 else f"{len(steps)} runs of collect are"
        return dg.SkipReason(f"{running} already running")
    backlog = here.stream.backlog(keep=True)
    commits = unconverted(here) + commits_behind(here)
    if not backlog and (steps or not commits):  # a run that is running also converts what is landed
        return dg.SkipReason("the stream is quiet")
    free = [name for name in names if name not in steps]
    tags = {STEP: free[0], "meterhouse/waiting": str(backlog.messages), "meterhouse/unconverted": str(commits)}
    return dg.RunRequest(run_key=keys[free[0]], tags=tags)
