"""Hours, days and months of a named time zone, as spans of UTC: days of 23 and 25 hours are as long as they are."""

from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from meterhouse.errors import UsageError

Bucket = Literal["hour", "day", "month"]


def zone_named(name: str) -> ZoneInfo:
    """The time zone of this name, such as Europe/Berlin.

    Raises:
        UsageError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"there is no time zone '{name}'", hint="Use a name of the IANA database, such as UTC or Europe/Berlin"
        ) from None


def month_span(month: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """A calendar month of a zone, `YYYY-MM`, as a half-open span of UTC.

    Raises:
        UsageError: it is not a month.
    """
    try:
        first = datetime.strptime(month, "%Y-%m")
    except ValueError:
        raise UsageError(f"'{month}' is not a month", where="--month", hint="Write YYYY-MM, such as 2026-11") from None
    return _utc(first, zone), _utc(_next_month(first), zone)


def _utc(local: datetime, zone: ZoneInfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)


def edges(
    start: datetime, end: datetime, bucket: Bucket | None, zone: ZoneInfo
) -> tuple[list[datetime], list[datetime]]:
    """The buckets that cover [start, end): their starts and their ends, UTC; the first and last may reach beyond it."""
    if bucket is None:
        return [start.astimezone(UTC)], [end.astimezone(UTC)]
    if bucket == "hour":
        step = timedelta(hours=1)
        offset = start.astimezone(zone).utcoffset() or timedelta(0)
        first = start.astimezone(UTC) + offset
        first = first.replace(minute=0, second=0, microsecond=0) - offset
        starts = []
        while first < end:
            starts.append(first)
            first += step
        return starts, [each + step for each in starts]
    local = start.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    following = _next_month if bucket == "month" else _next_day
    days = [local.replace(day=1) if bucket == "month" else local]
    while _utc(days[-1], zone) < end:
        days.append(following(days[-1]))
    moments = [_utc(day, zone) for day in days]
    return moments[:-1], moments[1:]


def _next_day(day: datetime) -> datetime:
    return day + timedelta(days=1)


def _next_month(day: datetime) -> datetime:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
