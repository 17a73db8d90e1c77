"""Reports that are exported to the lake: ours and the site's own, by day or by month."""

from collections.abc import Iterator

import dagster as dg

from assets.event_days import ROLLUPS, SAMPLE_QUALITY
from assets.intake import CATALOG
from assets.names import resource_names
from assets.partitions import days, months
from assets.resources import RETRIES, SiteResource
from assets.usage import RESOURCE_PERIODS
from meterhouse import plots, times
from meterhouse.errors import DefinitionError
from meterhouse.queries import export_states, report_exports, report_files
from meterhouse.queries.report_files import TAKEN, Report
from meterhouse.settings import settings

READ = {
    "catalog": CATALOG,
    "lateness": CATALOG,
    "resources": CATALOG,
    "series": CATALOG,
    "quality_daily": SAMPLE_QUALITY,
    "rollup_1h": ROLLUPS,
    "rollup_1d": ROLLUPS,
    "resource_history": ROLLUPS,
    "resource_metadata": ROLLUPS,
    "metadata_changes": ROLLUPS,
    "dirty_hours": ROLLUPS,
    "open_hours": ROLLUPS,
    "resource_periods": RESOURCE_PERIODS,
    "counted_periods": RESOURCE_PERIODS,
    "resource_names": resource_names.key,
    "name_history": resource_names.key,
    "names_now": resource_names.key,
    "alarms": dg.AssetKey("alarm_evaluations"),
    "alarm_history": dg.AssetKey("alarm_evaluations"),
    "deliveries": dg.AssetKey("webhooks"),
    "archive_manifest": dg.AssetKey("archive"),
}
"""Table or view of the warehouse → the asset that fills it."""

CHECK = "exports_are_current"

SHOWN = 50
"""How many rows or stale exports the UI lists."""


def lineage(report: Report) -> list[dg.AssetKey]:
    """The assets that fill the tables which a report's query names."""
    return sorted({READ[table] for table in export_states.tables_of(report) if table in READ})


def _dependency(key: dg.AssetKey, report: Report) -> dg.AssetDep:
    if report.partition == "day" or key not in (ROLLUPS, SAMPLE_QUALITY, RESOURCE_PERIODS):
        return dg.AssetDep(key)
    mapping = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)  # of days before the first
    return dg.AssetDep(key, partition_mapping=mapping)


def asset_of(report: Report) -> dg.AssetsDefinition:
    """The asset of a report. One whose file cannot be run is shown, and its runs fail with file, line and reason."""
    fault = f" It cannot be run: {report.fault[1]}" if report.fault else ""

    @dg.asset(
        name=report.name,
        deps=[_dependency(key, report) for key in lineage(report)],
        partitions_def=days if report.partition == "day" else months,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        group_name="reports",
        kinds={"sql", "parquet"},
        owners=["team:billing"],
        retry_policy=RETRIES,
        description=" ".join([report.question, *report.description]) + fault,
        metadata={"file": report.file or f"sql/{report_files.FOLDER}/{report.name}.sql"},
    )
    def exported(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
        key = context.partition_key
        try:
            day = times.parse_day(key if len(key) > len("2026-11") else f"{key}-01")
            done = report_exports.export(site.get(), report.name, day)
        except DefinitionError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        rows = [list(row.values()) for row in done.rows.slice(0, SHOWN).to_pylist()]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": done.rows.num_rows,
                "rows": dg.MetadataValue.md(plots.table(done.rows.column_names, rows)),
                "holds_until": times.text(done.holds_until),
                "files": dg.MetadataValue.json(done.uris),
            }
        )

    return exported


REPORTS = {
    report.name: report
    for name, report in report_files.listed(settings().config_dir).items()
    if name == report.name and report_files.is_name(name) and name not in TAKEN
}
"""The reports that are assets, by name: all whose file is named as an asset can be."""

reports = [asset_of(report) for report in REPORTS.values()]


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            CHECK, asset=name, description="No export shows other figures than the report would, were it run now."
        )
        for name in REPORTS
    ],
    can_subset=True,
)
def exports_are_current(context: dg.AssetCheckExecutionContext, site: SiteResource) -> Iterator[dg.AssetCheckResult]:
    stale = [each for each, _ in export_states.noted(site.get())]  # `stale_exports_sensor` looks for them
    for key in context.selected_asset_check_keys:
        found = [each for each in stale if each.report == key.asset_key.to_user_string()]
        said = f"{len(found)} exports are stale: the sensor `stale_exports_sensor` exports them again"
        listed = [[each.partition, each.why] for each in found[:SHOWN]]
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description=said if found else "all exports show what the report would now",
            metadata={
                "stale_exports": len(found),
                "stale": dg.MetadataValue.md(plots.table(["partition", "why"], listed)),
            },
        )
