"""Reconciliation: what events, audits and polls say of a day, compared by resource and hour."""

import dagster as dg

from assets.event_days import ROLLUPS
from assets.partitions import days
from assets.resources import RETRIES, SiteResource
from assets.usage import RESOURCE_PERIODS
from meterhouse import plots, times
from meterhouse.recompute import RECONCILIATION
from meterhouse.usage.reconciliation import agreement, reconcile_changed

CHECK = "witnesses_agree"

DAYS = 31
"""How many days the check lists, the newest ones."""

LEAST = 0.99
"""If witnesses agree on a smaller share of the hours of a day, the check warns."""


@dg.asset(
    key=dg.AssetKey(RECONCILIATION),
    deps=[RESOURCE_PERIODS, ROLLUPS],
    partitions_def=days,
    backfill_policy=dg.BackfillPolicy.multi_run(1),
    description="What events, audits and polls say of each resource on a day, compared hour by hour with its periods: "
    "the resources on which they do not agree, and why.",
    group_name="usage",
    kinds={"sql", "duckdb"},
    owners=["team:billing"],
    retry_policy=RETRIES,
)
def reconciliation(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    done = reconcile_changed(site.get(), times.parse_day(context.partition_key))
    columns = ["resource_type", "resource_id", "project_id", "hours", "event_hours", "audit_hours", "poll_hours"]
    shown = [*columns, "finding"]
    rows = [list(row.values()) for row in done.differing.select(shown).to_pylist()]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.differing.num_rows,
            "resources": done.resources,
            "hours": done.hours,
            "share_agreed": done.share,
            "differing": dg.MetadataValue.md(plots.table(shown, rows)),
        }
    )


@dg.asset_check(
    asset=dg.AssetKey(RECONCILIATION),
    name=CHECK,
    description="Events, audits and polls agree on at least 99 % of the hours of the day that was compared last.",
)
def witnesses_agree(site: SiteResource) -> dg.AssetCheckResult:
    days_compared = agreement(site.get(), DAYS)
    if not days_compared:
        return dg.AssetCheckResult(passed=True, description="no day is compared yet")
    newest = days_compared[0]
    rows = [[str(each.day), each.resources, each.hours, f"{each.share:.2%}", each.differing] for each in days_compared]
    columns = ["day", "resources", "hours", "agreed", "differing resources"]
    return dg.AssetCheckResult(
        passed=newest.share >= LEAST,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{newest.day}: {newest.share:.2%} of {newest.hours:,} hours of {newest.resources:,} resources",
        metadata={
            "share_agreed": newest.share,
            "differing_resources": newest.differing,
            "days": dg.MetadataValue.md(plots.table(columns, rows)),
        },
    )
