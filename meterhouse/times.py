"""Instants, hours and days: ISO 8601, always UTC."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from meterhouse.errors import UsageError

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Span = tuple[datetime, datetime]
"""A half-open span of event time, UTC."""

DAYS_AGO = {"today": 0, "yesterday": 1}
"""Word for a day → how many days it was before today."""

_AGO = re.compile(r"-(\d{1,9})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def now() -> datetime:
    """The present instant, UTC."""
    return datetime.now(UTC)


def parse(text: str, present: datetime | None = None) -> datetime:
    """An instant from ISO 8601 text (without an offset: UTC), `now`, `today`, `yesterday` or `-90m` (s, m, h, d, w).

    Args:
        text: what a person gave.
        present: what `now` is; default the present instant.

    Raises:
        UsageError: the text is none of these.
    """
    present = present or now()
    word = text.strip().lower()
    if word == "now":
        return present
    if word in DAYS_AGO:
        return day_start(present.date() - DAYS_AGO[word] * DAY)
    try:
        if ago := _AGO.fullmatch(text.strip()):
            instant = present - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            instant = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"'{text}' is not a time",
            hint="Write ISO 8601, such as 2026-11-22 or 2026-11-22T14:00:00Z, now, today, yesterday, -90m, -12h, -2d",
        ) from None
    except OverflowError:
        raise _out_of_reach(text) from None
    try:
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except OverflowError:
        raise _out_of_reach(text) from None
    if not _within_reach(instant):
        raise _out_of_reach(text)
    return instant


def parse_day(text: str) -> date:
    """A date from `YYYY-MM-DD`, `today` or `yesterday`.

    Raises:
        UsageError: the text is none of these.
    """
    word = text.strip().lower()
    if word in DAYS_AGO:
        return now().date() - DAYS_AGO[word] * DAY
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"'{text}' is not a day", hint="Write YYYY-MM-DD, today or yesterday") from None
    if not _within_reach(day):
        raise _out_of_reach(text)
    return day


def _within_reach(day: date) -> bool:
    return 1970 <= day.year <= 2261


def _out_of_reach(text: str) -> UsageError:
    return UsageError(f"'{text}' is out of reach", hint="Meterhouse keeps samples of the years 1970 to 2261")


def text(instant: datetime) -> str:
    """ISO 8601 with `Z`, without needless zeros: `2026-11-22T14:00:00Z`."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def hour_of(instant: datetime) -> datetime:
    """The start of the instant's UTC hour."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def arrival_hour(instant: datetime) -> str:
    """The partition text `YYYY-MM-DDTHH` of an arrival."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H")


def day_start(day: date) -> datetime:
    """Midnight UTC at which the day starts."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def hours_between(start: datetime, end: datetime) -> list[datetime]:
    """The UTC hours that the half-open span [start, end) touches."""
    first = hour_of(start)
    return [first + n * HOUR for n in range(max(0, -((first - end) // HOUR)))]


def hours_of(day: date) -> list[datetime]:
    """The UTC hours of a day."""
    return hours_between(day_start(day), day_start(day) + DAY)


def micros(instant: datetime) -> int:
    """Microseconds since 1970-01-01, UTC."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def of_hour(number: int) -> datetime:
    """The start of the hour with this number since 1970, UTC."""
    return EPOCH + number * HOUR


def spans(hours: Iterable[datetime]) -> list[Span]:
    """Contiguous half-open spans [start, end) that cover exactly these hours, in order."""
    joined: list[Span] = []
    for hour in sorted(set(hours)):
        if joined and joined[-1][1] == hour:
            joined[-1] = (joined[-1][0], hour + HOUR)
        else:
            joined.append((hour, hour + HOUR))
    return joined
