"""Schedules, in UTC: alarms each minute, checks each hour, archive and report each day, upkeep each night."""

from datetime import timedelta

import dagster as dg

from meterhouse import times
from sensors import jobs

RUNNING = dg.DefaultScheduleStatus.RUNNING
RUNS_KEPT = timedelta(days=30)

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
    description="Export yesterday's usage.",
)
def report(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Export yesterday's usage."""
    return _yesterday(context)


@dg.op(required_resource_keys={"site"})
def prune_runs(context: dg.OpExecutionContext) -> None:
    """Delete the records of old runs, because they slow down Dagster's storage. Materializations stay."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    instance = context.instance
    old = instance.get_runs(dg.RunsFilter(statuses=ended, created_before=times.now() - RUNS_KEPT), limit=5000)
    for run in old:
        instance.delete_run(run.run_id)
    context.log.info(f"deleted the records of {len(old)} runs")


@dg.job(description="Delete the records of runs that are older than 30 days.")
def upkeep() -> None:
    prune_runs()


upkeep_each_night = dg.ScheduleDefinition(
    name="upkeep_each_night",
    job=upkeep,
    cron_schedule="45 1 * * *",
    default_status=RUNNING,
    description="Delete the records of old runs.",
)

ALL = [alarms, quality_checks, archive, report, upkeep_each_night]
