"""The daily upkeep: deletes what is older than it is kept for."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from meterhouse_daily import DEFAULTS, each_day_at, open_site, plain_errors

ABOUT = """
Deletes what is older than it is kept for: figures of runs, alarm history, dead letters, replaced files and commits of
the lake, exports. The settings `METERHOUSE_KEEP_*` say for how long. Raw data and roll-ups are not deleted by age.

- **Scheduled**: each night.
- **Retried** while another process runs the upkeep. If a part fails, the others do their work, and the task fails.

The task returns how much each part deleted.
"""


@dag(dag_id="meterhouse_upkeep", schedule=each_day_at(2, 5), doc_md=ABOUT, **DEFAULTS)
def meterhouse_upkeep() -> None:
    @task(owner="telemetry")
    def upkeep() -> dict[str, Any]:
        """Delete what is older than it is kept for."""
        with plain_errors():
            from meterhouse.upkeep import upkeep as keep_up

            done = keep_up(open_site())
            done.check()
            return dict(done.deleted)

    upkeep()


meterhouse_upkeep()
