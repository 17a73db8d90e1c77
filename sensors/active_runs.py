"""Looks up in Dagster's instance whether a job is already running."""

from collections.abc import Mapping

import dagster as dg

ACTIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


STEP = "meterhouse/step"
"""Run tag with which dagster.yaml allows one running run for each step."""


def running_steps(context: dg.SensorEvaluationContext, job: str) -> list[str]:
    """The step tag of each run of the job that is queued or running; empty text for a run without the tag."""
    runs = context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=ACTIVE))
    return [run.tags.get(STEP, "") for run in runs]


def is_running(context: dg.SensorEvaluationContext, job: str, tags: Mapping[str, str] | None = None) -> bool:
    """Whether a run of the job, with these tags, is queued or running."""
    return context.instance.get_runs_count(dg.RunsFilter(job_name=job, tags=tags, statuses=ACTIVE)) > 0


AFTER = " after "
"""Parts a run key: what runs, and the run before it."""


def next_key(context: dg.SensorEvaluationContext, job: str, tags: Mapping[str, str] | None = None) -> str:
    """The run key of the next run of a job with these tags: it names the run before.

    Two daemons that start a run for the same reason give it the same key, and one of them is started (see
    `coordinator`). Ask for it before you look whether a run is running.
    """
    last = context.instance.get_run_records(dg.RunsFilter(job_name=job, tags=tags), limit=1)
    told = " ".join([job, *(tags or {}).values()])
    return f"{told}{AFTER}{last[0].dagster_run.run_id if last else 'none'}"
