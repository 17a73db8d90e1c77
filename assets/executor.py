"""The executor of the code location: a run executes all steps in its own process, and has a heartbeat."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from meterhouse.settings import settings
from meterhouse.stores.heartbeats import beat
from meterhouse.stores.warehouse import Warehouse

IN_PROCESS = dg.in_process_executor


class BeatingExecutor(dg.Executor):
    """Executes as another executor does, while the run holds its lease in the warehouse.

    Dagster itself does not notice that the process of a run has died.
    """

    def __init__(self, executor: dg.Executor) -> None:
        self._executor = executor

    @property
    def retries(self) -> Any:
        """Whether steps are retried."""
        return self._executor.retries

    @property
    def step_dependency_config(self) -> Any:
        """What a step waits for."""
        return self._executor.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Execute the steps of a run."""
        values = settings()
        with beat(Warehouse(values.warehouse, values.lease_seconds), plan_context.run_id):
            yield from self._executor.execute(plan_context, execution_plan)


@dg.executor(name=IN_PROCESS.name, config_schema=IN_PROCESS.config_schema.as_field())
def executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Execute all steps in the process of the run."""
    create = IN_PROCESS.executor_creation_fn
    assert create is not None
    return BeatingExecutor(create(context))
