"""Partitions: event hours and days in UTC, from METERHOUSE_PARTITIONS_FROM to the present."""

from datetime import datetime

import dagster as dg

from meterhouse import times
from meterhouse.settings import settings

FIRST = settings().partitions_from
HOUR_FORMAT = "%Y-%m-%d-%H:%M"

hours = dg.HourlyPartitionsDefinition(start_date=f"{FIRST}-00:00", timezone="UTC", end_offset=1)
days = dg.DailyPartitionsDefinition(start_date=FIRST, timezone="UTC", end_offset=1)


def hour_key(hour: datetime) -> str:
    """The partition key of an event hour."""
    return hour.strftime(HOUR_FORMAT)


def hour_of(key: str) -> datetime:
    """The event hour of a partition key."""
    return times.parse(datetime.strptime(key, HOUR_FORMAT).isoformat())


def has_partition(hour: datetime) -> bool:
    """Whether Dagster shows the hour as a partition. Data of other hours is processed too."""
    return times.day_start(times.parse_day(FIRST)) <= hour <= times.hour_of(times.now())
