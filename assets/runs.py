"""Which event hours a run processes."""

from datetime import datetime
from typing import Literal

import dagster as dg

from assets.partitions import has_partition, hour_of
from meterhouse.catalog import mark_for_recompute, snapshot
from meterhouse.site import Site

DIRTY = "meterhouse/dirty"
"""Run tag of the dirty-hours sensor: process what is dirty. Without it, a run recomputes all of its partitions."""


def hours_to_do(
    context: dg.AssetExecutionContext, site: Site, step: Literal["sample_quality", "rollups"]
) -> set[datetime]:
    """The run's hours. A run of the sensor also processes dirty hours for which Dagster shows no partition."""
    wanted = {hour_of(key) for key in context.partition_keys}
    if DIRTY in context.run.tags:
        return wanted | {hour for hour in snapshot(site).hours if not has_partition(hour)}
    mark_for_recompute(site, step, wanted, f"Dagster run {context.run.run_id}")
    return wanted
