"""What the daily DAGs share: timetable and defaults, the day of a run, the worker's site, and one-line errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import CronPartitionTimetable, get_current_context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from meterhouse.site import Site

DEFAULTS: dict[str, Any] = {
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["meterhouse", "daily"],
    "default_args": {"retries": 6, "retry_delay": timedelta(minutes=10)},
}


def each_day_at(hour: int, minute: int) -> CronPartitionTimetable:
    """One run a day, UTC, for the day before. Its partition key is that day, as in Dagster: `2026-11-21`."""
    return CronPartitionTimetable(f"{minute} {hour} * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d")


def day_of_run() -> date:
    """The day that the current run is for.

    This is the run's partition (scheduled runs, backfills), or the day of its logical date (`airflow dags test`,
    `airflow dags trigger --logical-date`), or the day before it was started.
    """
    run = get_current_context()["dag_run"]
    instant = run.partition_date or run.logical_date or run.run_after - timedelta(days=1)
    return instant.astimezone(UTC).date()


def open_site() -> Site:
    """The site that the worker's `METERHOUSE_*` variables name.

    Raises:
        SettingsError: it would be in the working directory of the worker, which is rarely where the data is.
    """
    from meterhouse.errors import SettingsError
    from meterhouse.settings import settings
    from meterhouse.site import Site

    values = settings()
    if not (values.home.expanduser().is_absolute() or (values.warehouse_url and values.lake_url)):
        raise SettingsError(
            f"'{values.home}' is relative to the worker's working directory",
            where="METERHOUSE_HOME",
            hint="Set an absolute path, or METERHOUSE_WAREHOUSE_URL and METERHOUSE_LAKE_URL, for the worker",
        )
    return Site.open(values)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Report Meterhouse's errors without a traceback, and retry only those that may be temporary.

    If a step is already running, messages are not converted yet, or a store cannot be written, the task is retried. If
    a setting, definition or name is invalid, the task fails at once.
    """
    from meterhouse.errors import DefinitionError, MeterhouseError, SettingsError, UnknownName, UsageError

    try:
        yield
    except (SettingsError, DefinitionError, UnknownName, UsageError) as error:
        raise AirflowFailException(str(error)) from None
    except MeterhouseError as error:
        raise AirflowException(str(error)) from None
