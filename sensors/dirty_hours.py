"""The dirty-hours sensor: starts the recomputation of event hours that got points."""

from datetime import datetime, timedelta

import dagster as dg

from assets.partitions import has_partition, hour_key
from assets.resources import SiteResource
from assets.runs import DIRTY
from meterhouse import times
from meterhouse.catalog import snapshot
from sensors.jobs import recompute
from sensors.work import at_work

MOST_RUNS = 4
"""Runs that one tick starts; hours that lie apart are joined until there are no more than these."""

NEAR = timedelta(hours=12)
"""Hours no further apart are joined: a run costs more than the hours between, which are not dirty and so not done."""


def ranges(hours: list[datetime], most: int = MOST_RUNS) -> list[tuple[datetime, datetime]]:
    """Few inclusive ranges of hours that cover these; the smallest gaps are closed first."""
    found = [(start, end - times.HOUR) for start, end in times.spans(hours)]
    while len(found) > 1:
        gaps = [found[n + 1][0] - found[n][1] for n in range(len(found) - 1)]
        if len(found) <= most and min(gaps) > NEAR:
            break
        nearest = gaps.index(min(gaps))
        found[nearest : nearest + 2] = [(found[nearest][0], found[nearest + 1][1])]
    return found


@dg.sensor(
    job=recompute,
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts `recompute` for the event hours that got points since they were rolled up, late ones included.",
)
def dirty_hours_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | list[dg.RunRequest]:
    dirty = list(snapshot(site.get()).hours)
    if not dirty:
        return dg.SkipReason("no event hour is dirty")
    if at_work(context, recompute.name):
        return dg.SkipReason("a recomputing run is at it")
    shown = [hour for hour in dirty if has_partition(hour)] or [times.hour_of(times.now())]
    return [
        dg.RunRequest(
            tags={
                DIRTY: "true",
                "dagster/asset_partition_range_start": hour_key(first),
                "dagster/asset_partition_range_end": hour_key(last),
            }
        )
        for first, last in ranges(shown)
    ]
