"""The daily usage report: exports what each project used yesterday. `meterhouse_archive` says why it is a DAG alone.

It also exports again what is stale of all reports.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from meterhouse_daily import DEFAULTS, day_of_run, each_day_at, open_site, plain_errors

ABOUT = """
Exports what each project used on an **event day** (UTC), from the hourly roll-ups, as
`exports/usage_by_project_and_day/DAY.parquet` and `.csv` beside the lake's tables. A second run replaces the files.
Then exports again what late data has made stale, of all days and reports.

- **Scheduled**: each night, for the day before.
- **Past days**: `airflow backfill create --dag-id meterhouse_usage_report --from-date 2026-11-01 --to-date 2026-11-08`
  exports 1 to 7 November; with `--reprocess-behavior completed`, also the days that already have a run.
- **By hand**: with a partition key such as `2026-11-21`; without one, the day before.

The tasks return the number of rows and where the files are, and what was stale.
"""


@dag(dag_id="meterhouse_usage_report", schedule=each_day_at(1, 50), doc_md=ABOUT, **DEFAULTS)
def meterhouse_usage_report() -> None:
    @task(owner="billing")
    def export_usage() -> dict[str, Any]:
        """Export the run's day."""
        with plain_errors():
            from meterhouse.queries import report_exports

            day = day_of_run()
            done = report_exports.export(open_site(), "usage_by_project_and_day", day)
            return {"day": day.isoformat(), "rows": done.rows.num_rows, "uris": done.uris}

    @task(owner="billing")
    def export_stale() -> list[str]:
        """Export again what is stale."""
        with plain_errors():
            from meterhouse.queries import report_exports

            return [f"{each.report}/{each.partition}" for each in report_exports.export_stale(open_site())]

    export_usage() >> export_stale()


meterhouse_usage_report()
