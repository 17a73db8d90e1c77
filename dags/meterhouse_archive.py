"""The daily archive: seals yesterday's arrivals.

The archive and the report do not depend on each other: this DAG reads the lake's raw tables by arrival time; the report
reads the warehouse's roll-ups by event time. So they are two DAGs, each of which may fail, wait or be backfilled alone.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from meterhouse_daily import DEFAULTS, day_of_run, each_day_at, open_site, plain_errors

ABOUT = """
Seals an **arrival day** (UTC): for each table and hour of the lake, one verified, sorted, compressed file replaces the
many small ones, and the manifest lists it. A day that is already sealed stays as it is.

- **Scheduled**: each night, for the day before.
- **Past days**: `airflow backfill create --dag-id meterhouse_archive --from-date 2026-11-01 --to-date 2026-11-08`
  archives 1 to 7 November.
- **By hand**: with a partition key such as `2026-11-21`; without one, the day before.
- **Retried** while Dagster or another process is archiving, and while messages of the day wait for conversion.

The task returns the figures of the day's manifest.
"""


@dag(dag_id="meterhouse_archive", schedule=each_day_at(1, 35), doc_md=ABOUT, **DEFAULTS)
def meterhouse_archive() -> None:
    # Runs of a backfill wait here for each other, instead of failing on the archive's lease.
    @task(owner="telemetry", max_active_tis_per_dag=1)
    def archive() -> dict[str, Any]:
        """Seal the run's day."""
        with plain_errors():
            from meterhouse.archive.seal import archive as seal
            from meterhouse.archive.seal import manifest

            site, day = open_site(), day_of_run()
            done = seal(site, day)
            entries = manifest(site, day)
            return {
                "day": day.isoformat(),
                "rows": sum(entry["rows"] for entry in entries),
                "bytes": sum(entry["bytes"] for entry in entries),
                "sealed_now": [sealed.table_name for sealed in done.sealed],
                "deleted_files": done.deleted_files,
            }

    archive()


meterhouse_archive()
