"""The dirty-hours sensor: starts the recomputation of event hours that got points."""

from datetime import datetime, timedelta

import dagster as dg

from assets.partitions import has_partition, hour_key
from assets.resources import SiteResource
from assets.runs import DIRTY
from meterhouse import times
from meterhouse.catalog import snapshot
from sensors.active_runs import is_running
from sensors.jobs import recompute

MAX_RUNS = 4
"""Maximum number of runs that one tick starts. If there are more ranges of hours, the closest are joined."""

NEAR = timedelta(hours=12)
"""Ranges that are no further apart are joined: the hours in between are not dirty, and cost less than another run."""


def ranges(hours: list[datetime], limit: int = MAX_RUNS) -> list[tuple[datetime, datetime]]:
    """At most `limit` inclusive ranges that cover these hours; the smallest gaps are closed first."""
    found = [(start, end - times.HOUR) for start, end in times.spans(hours)]
    while len(found) > 1:
        gaps = [found[n + 1][0] - found[n][1] for n in range(len(found) - 1)]
        if len(found) <= limit and min(gaps) > NEAR:
            break
        nearest = gaps.index(min(gaps))
        found[nearest : nearest + 2] = [(found[nearest][0], found[nearest + 1][1])]
    return found


@dg.sensor(
    job=recompute,
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts `recompute` for the event hours that got points, also late ones, since they were rolled up.",
)
def dirty_hours_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | list[dg.RunRequest]:
    dirty = list(snapshot(site.get()).hours)
    if not dirty:
        return dg.SkipReason("no event hour is dirty")
    if is_running(context, recompute.name):
        return dg.SkipReason("a run of recompute is already running")
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
