"""Timestamps of notifications and samples: text to microseconds since 1970-01-01, UTC.

The grammar is that of the `iso8601` package, which Ceilometer uses: a date, optionally followed by a space or `T`, a
time, and `Z` or an offset. No offset means UTC. Minutes, seconds, month and day may be missing.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, cast

LATEST: Final = 9_223_372_036_854_775
"""The last microsecond that fits the nanoseconds of pandas and Parquet: in April of 2262."""

_MANY: Final = 48  # from this number of timestamps on, Arrow is faster
_EPOCH: Final = datetime(1970, 1, 1)
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN_ZONE: Final = re.compile(r"[^Z+]*[0-9](?:Z|\+00:00)\Z").match
_YEAR_1: Final = -62_135_596_800_000_000  # Arrow also accepts earlier years
_GRAMMAR: Final = re.compile(
    r"([0-9]{4})"
    r"(?:(?:-([0-9]{1,2})|([0-9]{2})(?!\n?\Z))"
    r"(?:(?:-([0-9]{1,2})|([0-9]{2}))"
    r"(?:[ T]([0-9]{2}):?(?:([0-9]{2}))?(?::?([0-9]{1,2})(?:[.,]([0-9]+))?)?"
    r"(Z|([-+])([0-9]{2}):?([0-9]{2})?)?"
    r")?)?)?\n?\Z"
)


def parse_datetime(text: object) -> datetime:
    """Parse a timestamp. It keeps its offset; without one it is in UTC.

    Raises:
        ValueError: the text does not match the grammar above, or the date does not exist.
    """
    if not isinstance(text, str):
        raise ValueError(f"Expecting a string {text!r}")
    found = _GRAMMAR.match(text)
    if not found:
        raise ValueError(f"Unable to parse date string {text!r}")
    year, month, month2, day, day2, hour, minute, second, fraction, _, sign, zone_hour, zone_minute = found.groups()
    offset: timezone = UTC
    if sign:
        distance = timedelta(hours=int(zone_hour), minutes=int(zone_minute or 0))
        offset = timezone(-distance if sign == "-" else distance)
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


def _parsed(text: object) -> datetime:
    """`parse_datetime`, but faster for the usual forms. A result without an offset is in UTC."""
    if type(text) is str and 19 <= len(text) <= 32 and text[4] == text[7] == "-" and text[10] in " T":
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            # fromisoformat accepts more forms than the grammar, but agrees with it on these.
            if text[16] == ":" and (moment.tzinfo is None or _PLAIN_ZONE(text)):
                return moment
    return parse_datetime(text)


def parse_utc(text: object) -> datetime:
    """Parse a timestamp to UTC, without an offset.

    Raises:
        ValueError: as `parse_datetime`, or the time is outside the years 1 to 9999 in UTC.
    """
    moment = _parsed(text)
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError(f"{text!r} is not a time of the years 1 to 9999 in UTC") from None


def to_microseconds(moment: datetime) -> int:
    """Microseconds since the epoch. A moment without an offset is in UTC."""
    offset = moment.utcoffset()
    since = moment - _EPOCH if offset is None else moment.replace(tzinfo=None) - _EPOCH - offset
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def parse_exact(text: object) -> int:
    """Microseconds since the epoch, UTC, of a timestamp that Ceilometer accepts.

    Raises:
        ValueError: as `parse_datetime`.
    """
    return to_microseconds(_parsed(text))


def parse_all(texts: Sequence[object]) -> list[int]:
    """`parse_exact` of many timestamps at once.

    Raises:
        ValueError: as `parse_datetime`, for one of them.
    """
    if len(texts) >= _MANY:
        import pyarrow as pa

        try:
            # Arrow accepts a subset of the grammar. If one text has an offset or another form, it accepts none.
            moments = pa.array(texts, pa.string()).cast(pa.timestamp("us"))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass
        else:
            found = moments.view(pa.int64()).to_numpy(zero_copy_only=False)
            if not moments.null_count and found.min() >= _YEAR_1:
                return cast(list[int], found.tolist())
    return list(map(_parse_usual, texts))


def _parse_usual(text: object) -> int:
    """`parse_exact`, faster for the usual forms: `YYYY-MM-DD HH:MM:SS.ffffff`, also with `T` or a final `+00:00`."""
    if type(text) is str and text[19:20] == "." and text[10] in " T" and text[4] == "-":
        try:
            if len(text) == 26:
                since = datetime.fromisoformat(text) - _EPOCH
            elif len(text) == 32 and text[26:] == "+00:00":
                since = datetime.fromisoformat(text) - _EPOCH_UTC
            else:
                return parse_exact(text)
        except (ValueError, TypeError):
            return parse_exact(text)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return parse_exact(text)


def parse(text: object) -> int:
    """Microseconds since the epoch, UTC, of a timestamp. Spaces around it, which some services send, are ignored.

    Raises:
        ValueError: as `parse_datetime`.
    """
    return parse_exact(text.strip() if isinstance(text, str) else text)
