"""Reports that are exported to the lake."""

import dagster as dg

from assets.event_days import ROLLUPS
from assets.partitions import days
from assets.resources import RETRIES, SiteResource
from meterhouse import plots, times
from meterhouse.queries import report_exports


@dg.asset(
    deps=[ROLLUPS],
    partitions_def=days,
    backfill_policy=dg.BackfillPolicy.multi_run(1),
    group_name="reports",
    kinds={"sql", "parquet"},
    owners=["team:billing"],
    retry_policy=RETRIES,
)
def usage_by_project_and_day(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """The usage of each project on a day, from the hourly roll-ups, as Parquet and CSV beside the lake's tables."""
    done = report_exports.export(site.get(), "usage_by_project_and_day", times.parse_day(context.partition_key))
    rows = [list(row.values()) for row in done.rows.to_pylist()]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.rows.num_rows,
            "usage": dg.MetadataValue.md(plots.table(done.rows.column_names, rows)),
            "holds_until": times.text(done.holds_until),
            "files": dg.MetadataValue.json(done.uris),
        }
    )
