"""Redefinition: the samples and events of arrival days are converted again by the definitions of now."""

from collections.abc import Iterator

import dagster as dg

from assets.intake import EVENTS, NOTIFICATIONS, OWNERS, SAMPLES
from assets.partitions import days
from assets.resources import RETRIES, SiteResource
from meterhouse import plots, times
from meterhouse.recompute import DEFINED, backfill
from meterhouse.stale import stale

REDEFINED = {dg.AssetKey(f"redefined_{table.to_user_string()}"): table for table in (SAMPLES, EVENTS)}
"""Asset → the lake table whose arrival days it replaces."""

CHECK = "definitions_are_applied"

SHOWN = 3
"""How many changes a description lists."""


@dg.multi_asset(
    can_subset=True,
    partitions_def=days,
    backfill_policy=dg.BackfillPolicy.single_run(),
    specs=[
        dg.AssetSpec(
            key,
            deps=[NOTIFICATIONS],
            description=f"The {table.to_user_string()} of an arrival day by the definitions of now. Materialize days "
            f"after you have changed definitions: what their notifications yielded is replaced in "
            f"`{table.to_user_string()}`.",
            group_name="conversion",
            kinds={"delta", "python"},
            owners=OWNERS,
        )
        for key, table in REDEFINED.items()
    ],
    retry_policy=RETRIES,
)
def redefinition(context: dg.AssetExecutionContext, site: SiteResource) -> Iterator[dg.MaterializeResult[None]]:
    wanted = sorted(map(times.parse_day, context.partition_keys))
    start, end = times.day_start(wanted[0]), times.day_start(wanted[-1]) + times.DAY
    for key, table in REDEFINED.items():
        if key in context.selected_asset_keys:
            done = backfill(site.get(), table.to_user_string(), start, end)
            figures = {f"{name}_of_run": count for name, count in done.items()}
            yield dg.MaterializeResult(asset_key=key, metadata=figures)


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            CHECK, asset=asset, description="No hour was made by definitions, rules or policies of the past."
        )
        for asset in DEFINED
    ],
    can_subset=True,
)
def definitions_are_applied(
    context: dg.AssetCheckExecutionContext, site: SiteResource
) -> Iterator[dg.AssetCheckResult]:
    for key in context.selected_asset_check_keys:
        found = stale(site.get(), key.asset_key.to_user_string())
        changed = list(dict.fromkeys(change for each in found for change in each.changed))
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        hours = sum(each.hours for each in found)
        said = f"{hours} hours are stale: {', '.join(changed[:SHOWN])}{more}; run `meterhouse backfill --stale`"
        listed = [
            [times.text(each.start), times.text(each.end), each.hours, ", ".join(each.changed), ", ".join(each.files)]
            for each in found
        ]
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description=said if found else "everything was made by the definitions of now",
            metadata={
                "stale_hours": hours,
                "stale": dg.MetadataValue.md(plots.table(["from", "to", "hours", "changed", "files"], listed)),
            },
        )
