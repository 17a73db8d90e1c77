"""The names of projects, users and flavors."""

import dagster as dg

from assets.resources import RETRIES, SiteResource
from meterhouse import plots
from meterhouse.usage.names import counts
from meterhouse.usage.names_sync import sync


@dg.asset(
    deps=["notifications"],
    group_name="usage",
    kinds={"sql", "duckdb"},
    owners=["team:billing"],
    retry_policy=RETRIES,
)
def resource_names(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """What projects, users and flavors were called by time: of `names.csv`, Keystone and messages."""
    done = sync(site.get())
    for fault in done.faults:
        context.log.error(fault)
    return dg.MaterializeResult(
        metadata={
            "names": dg.MetadataValue.md(plots.table(["kind", "witness", "ids"], counts(site.get()))),
            "changed": done.changed,
            "messages": done.messages,
            "faults": dg.MetadataValue.md("\n".join(f"- {fault}" for fault in done.faults) or "none"),
            "seconds": done.seconds,
        },
    )
