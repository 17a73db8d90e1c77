"""Partitions: event days and months in UTC, from METERHOUSE_PARTITIONS_FROM or the first points to the present."""

from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from meterhouse import times
from meterhouse.settings import Settings, settings
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import dirty_hours

YEARS = 10
"""Points that are older do not decide where the partitions begin."""


def first_day(given: Settings, present: datetime) -> str:
    """The first day that Dagster shows as a partition: earlier ones would only be missing.

    Without METERHOUSE_PARTITIONS_FROM it is the first day with points of the last ten years. Times before are often
    those of a wrong clock. It is today if there are no points yet, or the warehouse does not answer. No database is
    created or upgraded, because a code location is also loaded to validate it.
    """
    if given.partitions_from:
        return given.partitions_from
    today = present.date()
    warehouse = Warehouse(given.warehouse)
    if warehouse.is_sqlite and not Path(make_url(given.warehouse).database or "").exists():
        return str(today)
    earliest = times.day_start(today - YEARS * timedelta(days=366))
    try:
        with warehouse.engine.connect().execution_options(read=True) as connection:
            query = select(func.min(dirty_hours.c.hour)).where(dirty_hours.c.hour >= earliest)
            first = connection.execute(query).scalar()
    except DatabaseError:
        return str(today)
    finally:
        warehouse.engine.dispose()
    return str(min(first.date(), today)) if first else str(today)


FIRST = first_day(settings(), times.now())

days = dg.DailyPartitionsDefinition(start_date=FIRST, timezone="UTC", end_offset=1)

months = dg.MonthlyPartitionsDefinition(start_date=FIRST[:7], fmt="%Y-%m", timezone="UTC", end_offset=1)


def has_partition(day: date) -> bool:
    """Whether Dagster shows the day as a partition. Data of other days is processed too."""
    return times.parse_day(FIRST) <= day <= times.now().date()


def has_month(first: date) -> bool:
    """Whether Dagster shows the month with this first day as a partition."""
    return times.parse_day(FIRST).replace(day=1) <= first <= times.now().date()
