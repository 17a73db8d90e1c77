"""Timestamps of notifications and samples: text to microseconds since 1970-01-01, UTC.

The grammar is that of the `iso8601` package, by which Ceilometer reads them: a date, optionally followed by a space
or `T`, a time, and `Z` or an offset; no offset means UTC. Minutes, seconds, month and day may be missing.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

LATEST: Final = 9_223_372_036_854_775
"""The last microsecond that fits the nanoseconds of pandas and Parquet: in April of 2262."""

_EPOCH: Final = datetime(1970, 1, 1)
_GRAMMAR: Final = re.compile(
    r"([0-9]{4})"
    r"(?:(?:-([0-9]{1,2})|([0-9]{2})(?!\Z))"
    r"(?:(?:-([0-9]{1,2})|([0-9]{2}))"
    r"(?:[ T]([0-9]{2}):?(?:([0-9]{2}))?(?::?([0-9]{1,2})(?:[.,]([0-9]+))?)?"
    r"(Z|([-+])([0-9]{2}):?([0-9]{2})?)?"
    r")?)?)?\Z"
)


def parse_datetime(text: object) -> datetime:
    """The moment that a text names, with its own offset, UTC where it has none.

    Raises:
        ValueError: it is not a text of the grammar above, or no such date exists.
    """
    if not isinstance(text, str):
        raise ValueError(f"Expecting a string {text!r}")
    found = _GRAMMAR.match(text)
    if not found:
        raise ValueError(f"Unable to parse date string {text!r}")
    year, month, month2, day, day2, hour, minute, second, fraction, _, sign, zone_hour, zone_minute = found.groups()
    offset: timezone = UTC
    if sign:
        away = timedelta(hours=int(zone_hour), minutes=int(zone_minute or 0))
        offset = timezone(-away if sign == "-" else away)
    return datetime(
        int(year),
        int(month or month2 or 1),
        int(day or day2 or 1),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        int((fraction or "")[:6].ljust(6, "0")),
        offset,
    )


def parse_utc(text: object) -> datetime:
    """The moment that a text names, in UTC and without an offset.

    Raises:
        ValueError: as `parse_datetime`.
    """
    if type(text) is str and 19 <= len(text) <= 32 and text[16] == ":" and text[10] in " T" and text[4] == "-":
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = parse_datetime(text)
    else:
        moment = parse_datetime(text)
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError(f"{text!r} is no moment of the years 1 to 9999 in UTC") from None


def to_microseconds(moment: datetime) -> int:
    """Microseconds since the epoch of a moment in UTC without an offset."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def parse_exact(text: object) -> int:
    """Microseconds since the epoch, UTC, of a timestamp as Ceilometer accepts it.

    Raises:
        ValueError: as `parse_datetime`.
    """
    return to_microseconds(parse_utc(text))


def parse(text: object) -> int:
    """Microseconds since the epoch, UTC, of a timestamp; spaces around it, which some services send, are dropped.

    Raises:
        ValueError: as `parse_datetime`.
    """
    return parse_exact(text.strip() if isinstance(text, str) else text)
