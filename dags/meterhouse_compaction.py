"""The compaction: merges the small files of arrival hours, every ten minutes."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from meterhouse_daily import DEFAULTS, open_site, plain_errors

ABOUT = """
Merges the files of **arrival hours** that are over into one each, and the older files of the running hour. No row
changes, and no reader notices.

- **Scheduled**: every ten minutes. A run without work ends at once.
- **Retried** while another process compacts or seals. What a run leaves, the next one takes.

The task returns its figures.
"""


@dag(dag_id="meterhouse_compaction", schedule="*/10 * * * *", doc_md=ABOUT, **{**DEFAULTS, "tags": ["meterhouse"]})
def meterhouse_compaction() -> None:
    @task(owner="telemetry")
    def compact() -> dict[str, Any]:
        """Compact the hours that are over, and tidy the running one."""
        with plain_errors():
            from meterhouse.archive.compaction import compact as merge

            return dict(vars(merge(open_site())))

    compact()


meterhouse_compaction()
