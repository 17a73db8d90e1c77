"""The daily reconciliation: compares what events, audits and polls said of yesterday's resources."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from meterhouse_daily import DEFAULTS, day_of_run, each_day_at, open_site, plain_errors

ABOUT = """
Compares what events, audits and polled samples say of each resource on an **event day** (UTC), hour by hour, and keeps
the result in the warehouse's tables `reconciliation` and `reconciliation_daily`. A second run replaces it.

- **Scheduled**: each night, for the day before.
- **Past days**:
  `airflow backfill create --dag-id meterhouse_reconciliation --from-date 2026-11-01 --to-date 2026-11-08`.

The task returns the number of resources and hours, the share on which all agree, and how many resources differ.
"""


@dag(dag_id="meterhouse_reconciliation", schedule=each_day_at(2, 20), doc_md=ABOUT, **DEFAULTS)
def meterhouse_reconciliation() -> None:
    @task(owner="billing")
    def reconcile() -> dict[str, Any]:
        """Compare the run's day."""
        with plain_errors():
            from meterhouse.usage.reconciliation import reconcile_changed as compare

            done = compare(open_site(), day_of_run())
            figures = {"resources": done.resources, "hours": done.hours, "share_agreed": done.share}
            return {"day": done.day.isoformat(), **figures, "differing": done.differing.num_rows}

    reconcile()


meterhouse_reconciliation()
