"""What sensors ask of the instance: whether a job is at work already."""

import dagster as dg

AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def at_work(context: dg.SensorEvaluationContext, job: str) -> bool:
    """Whether a run of the job waits or runs."""
    return context.instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=AT_WORK)) > 0
