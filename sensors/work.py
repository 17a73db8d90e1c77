"""What sensors ask of the instance: whether a job is at work already."""

import dagster as dg

AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


STEP = "meterhouse/step"
"""Run tag by which dagster.yaml lets one run of a step be at work."""


def steps_at_work(context: dg.SensorEvaluationContext, job: str) -> list[str]:
    """Of each run of the job that waits or is at work, the step that it is tagged with; empty for none."""
    runs = context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=AT_WORK))
    return [run.tags.get(STEP, "") for run in runs]


def at_work(context: dg.SensorEvaluationContext, job: str) -> bool:
    """Whether a run of the job waits or runs."""
    return context.instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=AT_WORK)) > 0
