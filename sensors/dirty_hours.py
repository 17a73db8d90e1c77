"""The dirty-hours sensor: starts the recomputation of event hours that got points."""

import dagster as dg

from assets.partitions import has_partition
from assets.resources import SiteResource
from assets.runs import DIRTY
from meterhouse import times
from meterhouse.catalog import snapshot
from meterhouse.rollups.policy_changes import outdated
from meterhouse.stores import leases
from sensors.active_runs import is_running, next_key
from sensors.jobs import recompute
from sensors.leading import skips_unless_leading


@dg.sensor(
    job=recompute,
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts `recompute` for the event hours that got points, also late ones, since they were rolled up.",
)
@skips_unless_leading
def dirty_hours_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | dg.RunRequest:
    here = site.get()
    dirty = snapshot(here).hours
    if not dirty and not outdated(here):
        return dg.SkipReason("no event hour is dirty")
    key = next_key(context, recompute.name, {DIRTY: "true"})
    if is_running(context, recompute.name, {DIRTY: "true"}):
        return dg.SkipReason("a run of recompute is already running")
    with here.warehouse.read() as connection:
        working = leases.holder(connection, "rollups", "sample_quality")
    if working:
        return dg.SkipReason(f"{working} is recomputing, and takes what becomes dirty meanwhile")
    days = [day for day in {hour.date() for hour in dirty} if has_partition(day)]
    return dg.RunRequest(run_key=key, partition_key=str(max(days, default=times.now().date())), tags={DIRTY: "true"})
