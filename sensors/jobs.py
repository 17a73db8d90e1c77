"""The jobs that sensors and schedules start. A run executes all steps in its own process, which saves imports."""

import dagster as dg

from assets.alarms import FIRES
from assets.health import CHECKS as HEALTH
from assets.health import key_of
from assets.redefinition import CHECK as STALE
from assets.reports import CHECK as EXPORTS
from assets.reports import REPORTS
from meterhouse.queries.report_files import Partition
from meterhouse.recompute import DEFINED, PERIODS
from sensors.active_runs import STEP

AGAIN_SOON = {"dagster/max_retries": "0"}
"""Run tags of a job that a sensor or a schedule starts again within a minute, so that Dagster does not retry a run
whose process has died."""

FIRST = {"dagster/priority": "1"}
"""Run tags of the jobs that process new and late points: they are the next to start, however many runs wait."""

BACKGROUND = {"meterhouse/background": "true"}
"""Run tags of the jobs that may wait: dagster.yaml lets one of them run at a time, so that they leave room."""


def _one_at_a_time(step: str) -> dict[str, str]:
    """Run tags with which dagster.yaml lets one run of a step start, and others wait in the queue."""
    return {STEP: step}


def _checks(*names: str) -> dg.AssetSelection:
    return dg.AssetSelection.checks(*(CHECK_KEYS[name] for name in names))


def _reports(partition: Partition) -> list[str]:
    return [name for name, report in REPORTS.items() if report.partition == partition and not report.fault]


def _nothing_stale(*assets: str) -> dg.AssetSelection:
    return dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey(asset), STALE) for asset in assets))


CHECK_KEYS = {
    **{name: dg.AssetCheckKey(dg.AssetKey("alarm_evaluations"), name) for name in FIRES.values()},
    **{name: key_of(name) for name in HEALTH},
    "collection_keeps_up": dg.AssetCheckKey(dg.AssetKey("notifications"), "collection_keeps_up"),
    **{f"exports of {name}": dg.AssetCheckKey(dg.AssetKey(name), EXPORTS) for name in REPORTS},
    "few_points_are_flagged": dg.AssetCheckKey(dg.AssetKey("sample_quality"), "few_points_are_flagged"),
}

# A check counts for the materialization that it follows, so each runs with its asset; and without, because a check is
# there to tell that nothing moves.
poll = dg.define_asset_job(
    "poll",
    tags=_one_at_a_time("poll") | AGAIN_SOON | FIRST,
    selection=dg.AssetSelection.assets("polled_samples").without_checks() | _checks("polling_keeps_up"),
    description="Poll what is due and no member polls.",
)
collect = dg.define_asset_job(
    "collect",
    tags=_one_at_a_time("collect") | AGAIN_SOON | FIRST,
    selection=dg.AssetSelection.assets("notifications", "samples", "events", "catalog").without_checks()
    | _checks("collection_keeps_up", "conversion_keeps_up", "definition_paths_find_values")
    | _nothing_stale("samples", "events"),
    description="Drain the stream; meanwhile, convert what is landed and add it to the catalog.",
)
recompute = dg.define_asset_job(
    "recompute",
    tags=_one_at_a_time("recompute") | AGAIN_SOON | FIRST,
    selection=dg.AssetSelection.assets("sample_quality", "rollups", "alarm_evaluations").without_checks()
    | _checks("few_points_are_flagged", "rollups_keep_up", "alarms_are_evaluated", *FIRES.values())
    | _nothing_stale("sample_quality", "rollups"),
    description="Judge and roll up dirty event hours, then evaluate the alarms.",
)
periods = dg.define_asset_job(
    "periods",
    tags=_one_at_a_time("periods") | AGAIN_SOON,
    selection=dg.AssetSelection.assets(PERIODS).without_checks()
    | _checks("periods_keep_up", "resources_are_confirmed")
    | _nothing_stale(PERIODS),
    description="Read the evidence of new notifications, and compute the periods of resources of the months that "
    "these and recomputed roll-ups are about.",
)
alarms = dg.define_asset_job(
    "alarms",
    tags=AGAIN_SOON,
    selection=dg.AssetSelection.assets("alarm_evaluations").without_checks()
    | _checks(
        "polling_keeps_up",
        "collection_keeps_up",
        "conversion_keeps_up",
        "rollups_keep_up",
        "alarms_are_evaluated",
        *FIRES.values(),
        "notifications_are_delivered",
    ),
    description="Evaluate all alarms, even if no points came, and check that every step keeps up.",
)
archive_day = dg.define_asset_job(
    "archive_day",
    tags=_one_at_a_time("archive_day") | BACKGROUND,
    selection=dg.AssetSelection.assets("archive").without_checks() | _checks("past_days_are_sealed", "disks_have_room"),
    description="Seal an arrival day.",
)
reconcile_day = dg.define_asset_job(
    "reconcile_day",
    tags=_one_at_a_time("reconcile_day") | BACKGROUND,
    selection=["reconciliation"],
    description="Compare what events, audits and polls say of a day.",
)
report_day = dg.define_asset_job(
    "report_day",
    tags=BACKGROUND,
    selection=dg.AssetSelection.assets(*_reports("day")).without_checks(),
    description="Export the reports of a day.",
)
report_month = dg.define_asset_job(
    "report_month",
    tags=BACKGROUND,
    selection=dg.AssetSelection.assets(*_reports("month")).without_checks(),
    description="Export the reports of a month.",
)
names = dg.define_asset_job(
    "names",
    tags=_one_at_a_time("names") | BACKGROUND,
    selection=["resource_names"],
    description="Read what projects, users and flavors are called.",
)
bill_month = dg.define_asset_job(
    "bill_month",
    tags=BACKGROUND,
    selection=["bills"],
    description="Make the bills of a month.",
)
quality_checks = dg.define_asset_job(
    "quality_checks",
    tags=BACKGROUND,
    selection=dg.AssetSelection.assets("good_points")
    | _checks("past_days_are_sealed", "disks_have_room", "periods_keep_up", "resources_are_confirmed")
    | _nothing_stale(*DEFINED)
    | _checks(*(f"exports of {name}" for name in REPORTS)),
    description="Check the latest good points with Great Expectations, that nothing is stale, and that there are seals "
    "and room on the disks.",
)

ALL = [
    poll,
    collect,
    recompute,
    periods,
    alarms,
    archive_day,
    reconcile_day,
    report_day,
    report_month,
    names,
    bill_month,
    quality_checks,
]
