"""The bills of a month: exports those of yesterday's month, each night."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from meterhouse_daily import DEFAULTS, day_of_run, each_day_at, open_site, plain_errors

ABOUT = """
Exports the bills of the month of an event day (UTC) as HTML, CSV, JSON, Parquet and FOCUS, `exports/bills/MONTH.…`
beside the lake's tables. Those of an open month are preliminary, and a second run replaces them. Those of a closed
month are as they were closed.

- **Scheduled**: each night, for the month of the day before; so on the first of a month for the month that is over.
- **Past months**: with a partition key such as `2026-10-31`.

The task returns the month, whether it is closed, the number of lines, and where the files are.
"""


@dag(dag_id="meterhouse_bills", schedule=each_day_at(2, 35), doc_md=ABOUT, **DEFAULTS)
def meterhouse_bills() -> None:
    @task(owner="billing")
    def export_bills() -> dict[str, Any]:
        """Export the bills of the month of the run's day."""
        with plain_errors():
            from meterhouse.billing import exports, months

            done = exports.export(open_site(), months.of(day_of_run()))
            figures = {"lines": done.bill.lines.num_rows, "closed": done.bill.closing is not None}
            return {"month": done.bill.month, **figures, "uris": done.uris}

    export_bills()


meterhouse_bills()
