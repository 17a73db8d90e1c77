"""Which event hours a run processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import dagster as dg

from meterhouse import times
from meterhouse.recompute import Computed, marked
from meterhouse.site import Site

DIRTY = "meterhouse/dirty"
"""Run tag of the dirty-hours sensor: process all that is dirty. Without it, a run recomputes its partitions."""

PARTITION_TAGS = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@contextmanager
def hours_to_do(context: dg.AssetExecutionContext, site: Site, step: Computed) -> Iterator[set[datetime] | None]:
    """The hours with points of the run's days, which are marked for the step; None if it processes what is dirty.

    If the block is killed or fails, the next run of these days marks none of them again.

    Raises:
        Failure: the run was put into the queue by a release whose partitions were hours.
    """
    if DIRTY in context.run.tags:
        yield None
        return
    for tag in PARTITION_TAGS:
        if len(key := context.run.tags.get(tag, "")) > len("2026-11-20"):
            raise dg.Failure(f"'{key}' is not a day: partitions are days now. Launch it again", allow_retries=False)
    days = sorted(map(times.parse_day, context.partition_keys))
    span = times.day_start(days[0]), times.day_start(days[-1]) + times.DAY
    with marked(site, step, *span, f"Dagster run {context.run.run_id}") as hours:
        yield hours
