"""Usage: the periods of resources. A run computes whole months, and writes one event for each day that it is about."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import dagster as dg

from assets.event_days import ROLLUPS
from assets.intake import NOTIFICATIONS
from assets.partitions import days, has_partition
from assets.resources import RETRIES, SiteResource
from assets.runs import DIRTY
from meterhouse import times
from meterhouse.recompute import PERIODS, backfill
from meterhouse.site import Site
from meterhouse.usage.keeping_up import unconfirmed
from meterhouse.usage.periods import compute

RESOURCE_PERIODS = dg.AssetKey(PERIODS)


@dg.asset(
    key=RESOURCE_PERIODS,
    deps=[NOTIFICATIONS, ROLLUPS],
    partitions_def=days,
    backfill_policy=dg.BackfillPolicy.single_run(),
    description="What existed when: the periods of resources in the warehouse, by event day. The months of the days "
    "are computed as a whole, and so are all later ones.",
    group_name="usage",
    kinds={"sql", "delta", "duckdb"},
    owners=["team:billing"],
    retry_policy=RETRIES,
)
def resource_periods(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    here, own = site.get(), sorted(context.partition_keys)
    if DIRTY in context.run.tags:
        done = vars(compute(here))
    else:
        first, last = times.parse_day(own[0]), times.parse_day(own[-1])
        done = {"days": [], **backfill(here, PERIODS, times.day_start(first), times.day_start(last) + times.DAY)}
        if done["kept"]:
            context.log.warning(f"{done['kept']} rows of evidence stay: their notifications are no longer landed")
    for fault in done["faults"]:
        context.log.error(fault)
    metadata = _of_run(here, done)
    computed = {day for day, _ in of_days(here, done)}
    for day in sorted(computed - set(own)):
        context.log_event(dg.AssetMaterialization(RESOURCE_PERIODS, partition=day, metadata=metadata))
    return dg.MaterializeResult(metadata=metadata)


def of_days(site: Site, done: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The metadata of each day that a run was about and that Dagster shows: partition key, figures of the run.

    Args:
        site: the site.
        done: the run's figures, as its step returned them or as the warehouse's `runs` keeps them.
    """
    shared = _of_run(site, done)
    for day in done["days"]:
        if has_partition(date.fromisoformat(day)):
            yield day, shared


def _of_run(site: Site, done: Mapping[str, Any]) -> dict[str, Any]:
    names = ("notifications", "evidence", "unreadable", "months", "resources", "periods", "changed")
    return {
        **{f"{name}_of_run": done[name] for name in names},
        "faults": dg.MetadataValue.md("\n".join(f"- {fault}" for fault in done["faults"]) or "none"),
        "seconds_of_run": round(done["seconds"], 3),
        "unconfirmed": unconfirmed(site),
    }
