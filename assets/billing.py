"""Bills: one partition a month."""

import dagster as dg

from assets.event_days import ROLLUPS
from assets.partitions import months
from assets.resources import RETRIES, SiteResource
from assets.usage import RESOURCE_PERIODS
from meterhouse import plots, times
from meterhouse.billing import exports, figures
from meterhouse.untrusted import printable

SHOWN = 50
"""How many projects the metadata list, those with the highest totals."""


@dg.asset(
    deps=[
        dg.AssetDep(each, partition_mapping=dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True))
        for each in (RESOURCE_PERIODS, ROLLUPS)
    ],
    description="All bills of a month, as HTML, CSV, JSON, Parquet and FOCUS beside the lake's tables. "
    "Those of an open month are preliminary. A month is one of the time zone of prices.yaml.",
    partitions_def=months,
    backfill_policy=dg.BackfillPolicy.multi_run(1),
    group_name="billing",
    kinds={"sql", "parquet"},
    owners=["team:billing"],
    retry_policy=RETRIES,
)
def bills(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """Make the bills of a month."""
    done = exports.export(site.get(), context.partition_key)
    made = done.bill
    totals = sorted(made.totals("project_id"), key=lambda each: -each.gross)
    rows = [
        [
            printable(made.name(each.of)).replace("|", "\\|"),
            *(figures.money(amount) for amount in (each.net, each.tax, each.gross)),
            each.currency,
        ]
        for each in totals
    ]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": made.lines.num_rows,
            "totals": dg.MetadataValue.md(plots.table(["project", "net", "tax", "total", "currency"], rows, SHOWN)),
            "closed": made.closing is not None,
            "holds_until": times.text(made.holds_until),
            "remarks": dg.MetadataValue.json(list(made.remarks)),
            "files": dg.MetadataValue.json(done.uris),
        }
    )
