"""The stream sensor: starts a collecting run when there is work and none is at it."""

import dagster as dg

from assets.resources import SiteResource
from meterhouse.catalog import behind
from meterhouse.conversion import unconverted
from sensors.jobs import collect
from sensors.work import at_work


@dg.sensor(
    job=collect,
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Looks at the stream's backlog, and at what is landed but not converted; starts `collect` on either.",
)
def stream_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | dg.RunRequest:
    here = site.get()
    backlog = here.stream.backlog()
    commits = unconverted(here) + behind(here)
    if not backlog and not commits:
        return dg.SkipReason("the stream is quiet")
    if at_work(context, collect.name):
        return dg.SkipReason("a collecting run is at it")
    return dg.RunRequest(tags={"meterhouse/files": str(backlog.files), "meterhouse/unconverted": str(commits)})
