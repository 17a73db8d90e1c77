"""The archive: sealed arrival days."""

import dagster as dg

from assets.intake import CATALOG
from assets.partitions import days
from assets.resources import RETRIES, SiteResource
from meterhouse import plots, times
from meterhouse.archive.seal import archive as seal
from meterhouse.archive.seal import manifest


@dg.asset(
    deps=[CATALOG, "notifications", "samples", "events"],
    partitions_def=days,
    backfill_policy=dg.BackfillPolicy.multi_run(1),
    group_name="archive",
    kinds={"delta", "parquet"},
    owners=["team:telemetry"],
    retry_policy=RETRIES,
)
def archive(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """A sealed arrival day: one verified, sorted file for each table and hour replaces many; the manifest lists it."""
    here = site.get()
    day = times.parse_day(context.partition_key)
    done = seal(here, day)
    entries = manifest(here, day)
    columns = ["table_name", "rows", "duplicates", "files_before", "bytes_before", "bytes"]
    listed = plots.table(columns, [[entry[name] for name in columns] for entry in entries])
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(entry["rows"] for entry in entries),
            "bytes": sum(entry["bytes"] for entry in entries),
            "sealed_now": len(done.sealed),
            "deleted_files": done.deleted_files,
            "manifest": dg.MetadataValue.md(listed),
        }
    )
