"""The run coordinator of dagster.yaml: puts each run of a sensor or a schedule into the queue once.

Dagster looks whether there is a run with a run key, and then creates one. Two daemons that do so at the same time, one
of which may have been paused in between, create two. So each succession of runs has its last one in the warehouse (see
`successions`), and a run comes into the queue only if it follows on that.
"""

from datetime import datetime
from functools import cached_property

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.tags import (
    PARENT_RUN_ID_TAG,
    RUN_KEY_TAG,
    SCHEDULE_NAME_TAG,
    SCHEDULED_EXECUTION_TIME_TAG,
    SENSOR_NAME_TAG,
)

from meterhouse.settings import settings
from meterhouse.stores import successions
from meterhouse.stores.warehouse import Warehouse
from sensors.active_runs import AFTER


class OnceCoordinator(QueuedRunCoordinator):
    """Dagster's queue, which takes one run of those that several daemons create for the same reason."""

    @cached_property
    def _warehouse(self) -> Warehouse:
        return Warehouse(settings().warehouse)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Put a run into the queue, or end it if another one was put there for the same reason.

        Raises:
            MeterhouseError: the warehouse does not answer.
        """
        run = context.dagster_run
        last = None if PARENT_RUN_ID_TAG in run.tags else self._last(run)  # a retry has the tags of the run before
        if last is None:
            return super().submit_run(context)
        if last != run.run_id:
            self._instance.report_run_canceled(run, f"Another daemon has started a run instead: {last}")
        now = self._instance.get_run_by_id(run.run_id) or run
        if now.status == dg.DagsterRunStatus.NOT_STARTED:  # a daemon died before it had put this run into the queue
            return super().submit_run(SubmitRunContext(now, context.workspace))
        return now

    def _last(self, run: dg.DagsterRun) -> str | None:
        """The run that was chosen for the same reason before, which may be this one; None if this run was now."""
        tags = run.tags
        before, mark, after = tags.get(RUN_KEY_TAG, "").partition(AFTER)
        if mark and SENSOR_NAME_TAG in tags:
            return self._follow(f"{tags[SENSOR_NAME_TAG]}/{before}", after, run.run_id)
        if SCHEDULE_NAME_TAG in tags and SCHEDULED_EXECUTION_TIME_TAG in tags:
            moment = tags[SCHEDULED_EXECUTION_TIME_TAG]
            return self._later(f"{tags[SCHEDULE_NAME_TAG]}/{run.job_name}", moment, run.run_id)
        return None

    def _follow(self, succession: str, after: str, run_id: str) -> str | None:
        """The last run of a sensor's succession, if it was created after the one that this run is to follow."""
        while True:
            last = successions.last(self._warehouse, succession)
            if last is not None and last != after and self._created(last) > self._created(after):
                return last
            if successions.succeed(self._warehouse, succession, last, run_id):
                return None

    def _created(self, run_id: str) -> int:
        """The place of a run in the order of creation; 0 for one that was deleted."""
        record = self._instance.get_run_record_by_id(run_id)
        return record.storage_id if record else 0

    def _later(self, succession: str, moment: str, run_id: str) -> str | None:
        """The last run of a schedule's succession, if it is not for a time before this run's."""
        while True:
            last = successions.last(self._warehouse, succession)
            if last is not None:
                of_last, _, chosen = last.partition(" ")
                if datetime.fromisoformat(of_last) >= datetime.fromisoformat(moment):
                    return chosen
            if successions.succeed(self._warehouse, succession, last, f"{moment} {run_id}"):
                return None
