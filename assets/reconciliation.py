"""Reconciliation: what events, audits and polls say of a day, compared by resource and hour."""

from collections.abc import Iterator

import dagster as dg

from assets.event_days import ROLLUPS
from assets.partitions import days
from assets.resources import RETRIES, SiteResource
from assets.usage import RESOURCE_PERIODS
from meterhouse import plots, times
from meterhouse.recompute import RECONCILIATION
from meterhouse.usage.reconciliation import reconcile_changed

CHECK = "witnesses_agree"

LEAST = 0.99
"""If witnesses agree on a smaller share of the hours of a day, the check warns."""


@dg.asset(
    key=dg.AssetKey(RECONCILIATION),
    deps=[RESOURCE_PERIODS, ROLLUPS],
    partitions_def=days,
    backfill_policy=dg.BackfillPolicy.multi_run(1),
    description="What events, audits and polls say of each resource on a day, compared hour by hour with its periods: "
    "the resources on which they do not agree, and why.",
    check_specs=[
        dg.AssetCheckSpec(
            CHECK,
            asset=dg.AssetKey(RECONCILIATION),
            description="Events, audits and polls agree on at least 99 % of the hours of the day.",
        )
    ],
    group_name="usage",
    kinds={"sql", "duckdb"},
    owners=["team:billing"],
    retry_policy=RETRIES,
)
def reconciliation(
    context: dg.AssetExecutionContext, site: SiteResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    done = reconcile_changed(site.get(), times.parse_day(context.partition_key))
    columns = ["resource_type", "resource_id", "project_id", "hours", "event_hours", "audit_hours", "poll_hours"]
    shown = [*columns, "finding"]
    rows = [list(row.values()) for row in done.differing.select(shown).to_pylist()]
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.differing.num_rows,
            "resources": done.resources,
            "hours": done.hours,
            "share_agreed": done.share,
            "differing": dg.MetadataValue.md(plots.table(shown, rows)),
        }
    )
    yield dg.AssetCheckResult(
        check_name=CHECK,
        passed=done.share >= LEAST,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{done.share:.2%} of {done.hours:,} hours of {done.resources:,} resources",
        metadata={"share_agreed": done.share, "differing_resources": done.differing.num_rows},
    )
