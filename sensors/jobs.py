"""The jobs that sensors and schedules start. All run in the process of their run: a step costs no further import."""

import dagster as dg

from assets.partitions import days, hours

collect = dg.define_asset_job(
    "collect",
    selection=["notifications", "samples", "events", "catalog"],
    description="Drain the stream, convert what was landed, and follow it in the catalog.",
)
recompute = dg.define_asset_job(
    "recompute",
    selection=dg.AssetSelection.assets("sample_quality", "rollups", "alarm_evaluations").without_checks(),
    partitions_def=hours,
    description="Judge and roll up dirty event hours, then evaluate the alarms.",
)
alarms = dg.define_asset_job(
    "alarms", selection=["alarm_evaluations"], description="Evaluate all alarms, whether points came or not."
)
archive_day = dg.define_asset_job(
    "archive_day", selection=["archive"], partitions_def=days, description="Seal an arrival day."
)
report_day = dg.define_asset_job(
    "report_day",
    selection=["usage_by_project_and_day"],
    partitions_def=days,
    description="Export a day's usage report.",
)
quality_checks = dg.define_asset_job(
    "quality_checks",
    selection=dg.AssetSelection.checks_for_assets("sample_quality"),
    description="Hold the latest good points to the rules by Great Expectations.",
)

ALL = [collect, recompute, alarms, archive_day, report_day, quality_checks]
