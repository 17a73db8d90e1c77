"""What the daily DAGs share: their timetable and defaults, the day of a run, the worker's site, and plain errors."""

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
    """A run a day, UTC, for the day before; its partition key is that day, as in Dagster: `2026-11-21`."""
    return CronPartitionTimetable(f"{minute} {hour} * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d")


def day_of_run() -> date:
    """The day that the present run is for.

    Its partition (scheduled runs, backfills), else the day of its logical date (`airflow dags test`,
    `airflow dags trigger --logical-date`), else the day before it was started.
    """
    run = get_current_context()["dag_run"]
    instant = run.partition_date or run.logical_date or run.run_after - timedelta(days=1)
    return instant.astimezone(UTC).date()


def open_site() -> Site:
    """The site that the worker's `METERHOUSE_*` variables name.

    Raises:
        SettingsError: it would lie in the working directory of the worker, which is seldom where the data is.
    """
    from meterhouse.errors import SettingsError
    from meterhouse.settings import settings
    from meterhouse.site import Site

    given = settings()
    if not (given.home.expanduser().is_absolute() or (given.warehouse_url and given.lake_url)):
        raise SettingsError(
            f"'{given.home}' is relative to the worker's working directory",
            where="METERHOUSE_HOME",
            hint="Give the worker an absolute path, or METERHOUSE_WAREHOUSE_URL and METERHOUSE_LAKE_URL",
        )
    return Site.open(given)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Tell Meterhouse's errors by their text alone, and retry only what time may mend.

    A step at work elsewhere, messages not converted yet or a store that cannot be written: the task is retried. A
    setting, definition or name that cannot work: it fails at once.
    """
    from meterhouse.errors import DefinitionError, MeterhouseError, SettingsError, UnknownName, UsageError

    try:
        yield
    except (SettingsError, DefinitionError, UnknownName, UsageError) as error:
        raise AirflowFailException(str(error)) from None
    except MeterhouseError as error:
        raise AirflowException(str(error)) from None
