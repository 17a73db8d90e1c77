"""The periods of resources: what existed when, every ten minutes."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from meterhouse_daily import DEFAULTS, open_site, plain_errors

ABOUT = """
Reads what landed notifications and roll-ups say of billable resources, and computes **what existed when** for the
months that it is about: the warehouse's table `resource_periods`.

- **Scheduled**: every ten minutes. A run to which nothing is new ends at once.
- **Retried** while Dagster or another process is running the step.

The task returns its figures.
"""


@dag(dag_id="meterhouse_periods", schedule="*/10 * * * *", doc_md=ABOUT, **{**DEFAULTS, "tags": ["meterhouse"]})
def meterhouse_periods() -> None:
    @task(owner="billing")
    def periods() -> dict[str, Any]:
        """Compute the periods of what is new."""
        with plain_errors():
            from meterhouse.usage.periods import compute

            return dict(vars(compute(open_site())))

    periods()


meterhouse_periods()
