"""Which event hours a run processes."""

from datetime import datetime
from typing import Literal

import dagster as dg

from meterhouse import times
from meterhouse.catalog import hours_with_points, mark_for_recompute
from meterhouse.site import Site

DIRTY = "meterhouse/dirty"
"""Run tag of the dirty-hours sensor: process all that is dirty. Without it, a run recomputes its partitions."""

PARTITION_TAGS = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def hours_to_do(
    context: dg.AssetExecutionContext, site: Site, step: Literal["sample_quality", "rollups"]
) -> set[datetime] | None:
    """The hours with points of the run's days, which are marked for the step; None if it processes what is dirty.

    Raises:
        Failure: the run was put into the queue by a release whose partitions were hours.
    """
    if DIRTY in context.run.tags:
        return None
    for tag in PARTITION_TAGS:
        if len(key := context.run.tags.get(tag, "")) > len("2026-11-20"):
            raise dg.Failure(f"'{key}' is not a day: partitions are days now. Launch it again", allow_retries=False)
    days = sorted(map(times.parse_day, context.partition_keys))
    wanted = hours_with_points(site, times.day_start(days[0]), times.day_start(days[-1]) + times.DAY)
    mark_for_recompute(site, step, wanted, f"Dagster run {context.run.run_id}")
    return wanted
