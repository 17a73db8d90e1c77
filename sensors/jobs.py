"""The jobs that sensors and schedules start. A run executes all steps in its own process, which saves imports."""

import dagster as dg

from sensors.active_runs import STEP

AGAIN_SOON = {"dagster/max_retries": "0"}
"""Run tags of a job that a sensor or a schedule starts again within a minute, so that Dagster does not retry a run
whose process has died."""


def _one_at_a_time(step: str) -> dict[str, str]:
    """Run tags with which dagster.yaml lets one run of a step start, and others wait in the queue."""
    return {STEP: step}


collect = dg.define_asset_job(
    "collect",
    tags=_one_at_a_time("collect") | AGAIN_SOON,
    selection=dg.AssetSelection.assets("notifications", "samples", "events", "catalog").without_checks(),
    description="Drain the stream; meanwhile, convert what is landed and add it to the catalog.",
)
recompute = dg.define_asset_job(
    "recompute",
    tags=_one_at_a_time("recompute") | AGAIN_SOON,
    selection=dg.AssetSelection.assets("sample_quality", "rollups", "alarm_evaluations").without_checks(),
    description="Judge and roll up dirty event hours, then evaluate the alarms.",
)
alarms = dg.define_asset_job(
    "alarms",
    tags=AGAIN_SOON,
    selection=dg.AssetSelection.assets("alarm_evaluations")
    | dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("notifications"), "collection_keeps_up")),
    description="Evaluate all alarms, even if no points came, and check that collection keeps up.",
)
archive_day = dg.define_asset_job(
    "archive_day", tags=_one_at_a_time("archive_day"), selection=["archive"], description="Seal an arrival day."
)
report_day = dg.define_asset_job(
    "report_day",
    selection=["usage_by_project_and_day"],
    description="Export a day's usage report.",
)
quality_checks = dg.define_asset_job(
    "quality_checks",
    selection=dg.AssetSelection.checks_for_assets("sample_quality"),
    description="Check the latest good points against the quality rules with Great Expectations.",
)

ALL = [collect, recompute, alarms, archive_day, report_day, quality_checks]
