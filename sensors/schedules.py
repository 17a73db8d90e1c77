"""Schedules, in UTC: alarms each minute, checks each hour, archive and report each day, upkeep each night."""

from datetime import timedelta

import dagster as dg

from sensors import jobs
from sensors.upkeep import upkeep

RUNNING = dg.DefaultScheduleStatus.RUNNING

alarms = dg.ScheduleDefinition(
    name="alarms_each_minute",
    job=jobs.alarms,
    cron_schedule="* * * * *",
    default_status=RUNNING,
    description="Evaluate the alarms, even if no points come.",
)
quality_checks = dg.ScheduleDefinition(
    name="quality_checks_each_hour",
    job=jobs.quality_checks,
    cron_schedule="20 * * * *",
    default_status=RUNNING,
    description="Check the latest good points against the quality rules with Great Expectations.",
)


def _yesterday(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    day = (context.scheduled_execution_time - timedelta(days=1)).strftime("%Y-%m-%d")
    return dg.RunRequest(run_key=day, partition_key=day)


@dg.schedule(
    name="archive_each_day",
    job=jobs.archive_day,
    cron_schedule="15 1 * * *",
    default_status=RUNNING,
    description="Seal yesterday's arrivals.",
)
def archive(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Seal yesterday."""
    return _yesterday(context)


@dg.schedule(
    name="report_each_day",
    job=jobs.report_day,
    cron_schedule="30 1 * * *",
    default_status=RUNNING,
    description="Export yesterday's reports.",
)
def report(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Export yesterday's reports."""
    return _yesterday(context)


@dg.schedule(
    name="report_each_month",
    job=jobs.report_month,
    cron_schedule="35 1 1 * *",
    default_status=RUNNING,
    description="Export last month's reports.",
)
def report_of_month(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Export last month's reports."""
    month = (context.scheduled_execution_time - timedelta(days=1)).strftime("%Y-%m-01")
    return dg.RunRequest(run_key=month, partition_key=month)


upkeep_each_night = dg.ScheduleDefinition(
    name="upkeep_each_night",
    job=upkeep,
    cron_schedule="45 1 * * *",
    default_status=RUNNING,
    description="Delete what is older than it is kept for.",
)

ALL = [alarms, quality_checks, archive, report, report_of_month, upkeep_each_night]
