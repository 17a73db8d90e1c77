"""Schedules, in UTC: alarms each minute, checks and names each hour, archive, report and bills each day, upkeep each
night."""

from datetime import timedelta

import dagster as dg

from sensors import jobs
from sensors.leading import always, waits_unless_leading
from sensors.upkeep import upkeep

RUNNING = dg.DefaultScheduleStatus.RUNNING

alarms = dg.ScheduleDefinition(
    name="alarms_each_minute",
    job=jobs.alarms,
    cron_schedule="* * * * *",
    default_status=RUNNING,
    should_execute=always,
    description="Evaluate the alarms, even if no points come.",
)
quality_checks = dg.ScheduleDefinition(
    name="quality_checks_each_hour",
    job=jobs.quality_checks,
    cron_schedule="20 * * * *",
    default_status=RUNNING,
    should_execute=always,
    description="Check the latest good points against the quality rules with Great Expectations.",
)


names = dg.ScheduleDefinition(
    name="names_each_hour",
    job=jobs.names,
    cron_schedule="50 * * * *",
    default_status=RUNNING,
    should_execute=always,
    description="Read the names of new messages, of names.csv and of Keystone.",
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
@waits_unless_leading
def archive(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Seal yesterday."""
    return _yesterday(context)


@dg.schedule(
    name="reconcile_each_day",
    job=jobs.reconcile_day,
    cron_schedule="20 2 * * *",
    default_status=RUNNING,
    description="Compare what events, audits and polls say of yesterday.",
)
@waits_unless_leading
def reconcile(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Compare the witnesses of yesterday."""
    return _yesterday(context)


@dg.schedule(
    name="report_each_day",
    job=jobs.report_day,
    cron_schedule="30 1 * * *",
    default_status=RUNNING,
    description="Export yesterday's reports.",
)
@waits_unless_leading
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
@waits_unless_leading
def report_of_month(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Export last month's reports."""
    month = (context.scheduled_execution_time - timedelta(days=1)).strftime("%Y-%m")
    return dg.RunRequest(run_key=month, partition_key=month)


@dg.schedule(
    name="bill_each_day",
    job=jobs.bill_month,
    cron_schedule="10 2 * * *",
    default_status=RUNNING,
    description="Make the bills of yesterday's month, if there are prices.",
)
@waits_unless_leading
def bill(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Make the preliminary bills of the month, and on its first day those of the month before."""
    from meterhouse.definitions import prices
    from meterhouse.settings import settings

    if not prices.load(settings().config_dir).prices:
        return dg.SkipReason(f"{prices.FILE} has no prices")
    day = context.scheduled_execution_time - timedelta(days=1)
    return dg.RunRequest(run_key=f"{day:%Y-%m-%d}", partition_key=f"{day:%Y-%m}")


upkeep_each_night = dg.ScheduleDefinition(
    name="upkeep_each_night",
    job=upkeep,
    cron_schedule="45 1 * * *",
    default_status=RUNNING,
    should_execute=always,
    description="Delete what is older than it is kept for.",
)

ALL = [alarms, quality_checks, names, archive, reconcile, report, report_of_month, bill, upkeep_each_night]
