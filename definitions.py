"""The Dagster code location: collects assets, checks, sensors, schedules, jobs and resources."""

import dagster as dg

from assets.alarms import alarm_evaluations, alarms_that_fire, webhooks
from assets.archive import archive
from assets.billing import bills
from assets.event_days import event_days
from assets.executor import executor
from assets.health import health_checks
from assets.intake import intake
from assets.names import resource_names
from assets.polling import polled_samples
from assets.quality import few_points_are_flagged, good_points
from assets.reconciliation import reconciliation, witnesses_agree
from assets.redefinition import definitions_are_applied, redefinition
from assets.reports import exports_are_current, reports
from assets.resources import SiteResource
from assets.stream import collection_keeps_up
from assets.usage import resource_periods
from sensors import jobs, schedules
from sensors.compaction import compaction, compaction_sensor
from sensors.dead_runs import dead_runs_sensor
from sensors.dirty_hours import dirty_hours_sensor
from sensors.other_runs import other_runs_sensor
from sensors.periods import periods_sensor
from sensors.polling import poll_sensor
from sensors.stale_exports import stale_exports_sensor
from sensors.stream import stream_sensor
from sensors.upkeep import upkeep
from sensors.webhooks import webhook_sensor

defs = dg.Definitions(
    assets=[
        polled_samples,
        intake,
        redefinition,
        event_days,
        resource_periods,
        reconciliation,
        good_points,
        alarm_evaluations,
        webhooks,
        archive,
        resource_names,
        *reports,
        bills,
    ],
    asset_checks=[
        alarms_that_fire,
        collection_keeps_up,
        few_points_are_flagged,
        health_checks,
        definitions_are_applied,
        exports_are_current,
        witnesses_agree,
    ],
    jobs=[*jobs.ALL, compaction, upkeep],
    sensors=[
        poll_sensor,
        stream_sensor,
        dirty_hours_sensor,
        periods_sensor,
        webhook_sensor,
        dead_runs_sensor,
        other_runs_sensor,
        compaction_sensor,
        stale_exports_sensor,
    ],
    schedules=schedules.ALL,
    resources={"site": SiteResource()},
    executor=executor,
)
