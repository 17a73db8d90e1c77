"""Periods of time that statistics are computed for: of a fixed length, or of the calendar of a time zone."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from meterhouse import times
from meterhouse.errors import UnknownKeyword, UsageError
from meterhouse.queries.aggregates import CALENDAR
from meterhouse.sample_quality.series_table import Ints

MAX_CALENDAR = 200_000
"""Maximum number of periods of the calendar in one question."""


class Periods(Protocol):
    """Consecutive periods, each known by a number that grows with time."""

    def numbers(self, time: Ints) -> Ints:
        """The number of the period of each of these times, µs since 1970."""

    def bounds(self, number: int) -> tuple[datetime, datetime]:
        """The start of a period and its end, which is not within; UTC."""


@dataclass(frozen=True)
class Fixed:
    """Periods of one length, of which one starts at the anchor.

    Attributes:
        anchor: µs since 1970, UTC.
        micros: the length.
    """

    anchor: int
    micros: int

    def numbers(self, time: Ints) -> Ints:
        return (time - self.anchor) // self.micros

    def bounds(self, number: int) -> tuple[datetime, datetime]:
        start = times.EPOCH + timedelta(microseconds=self.anchor + number * self.micros)
        return start, start + timedelta(microseconds=self.micros)


@dataclass(frozen=True)
class Edged:
    """Periods between edges.

    Attributes:
        edges: µs since 1970, UTC, ascending; all times that are asked for lie between the first and the last.
    """

    edges: Ints

    def numbers(self, time: Ints) -> Ints:
        return np.searchsorted(self.edges, time, side="right") - 1

    def bounds(self, number: int) -> tuple[datetime, datetime]:
        start, end = (times.EPOCH + timedelta(microseconds=int(each)) for each in self.edges[number : number + 2])
        return start, end


def calendar(unit: str, zone: str, first: datetime, last: datetime) -> Edged:
    """The days, weeks, months, quarters or years of a time zone that a span touches.

    Args:
        unit: one of CALENDAR.
        zone: an IANA name, such as `Europe/Berlin`, or `UTC`.
        first, last: the half-open span.

    Raises:
        UnknownKeyword: there is no such unit.
        UsageError: there is no such zone, or the span has more than MAX_CALENDAR periods.
    """
    if unit not in CALENDAR:
        raise UnknownKeyword("period", unit, CALENDAR)
    where = zone_of(zone)
    edge = _start(unit, first.astimezone(where).replace(tzinfo=None))
    edges = [_instant(edge, where)]
    while edges[-1] < last:
        if len(edges) > MAX_CALENDAR:
            raise UsageError(f"the span has more than {MAX_CALENDAR:,} {unit}s", hint="Narrow it by --from and --to")
        edge = _next(unit, edge)
        edges.append(_instant(edge, where))
    return Edged(np.array([times.micros(each) for each in edges], np.int64))


def zone_of(name: str) -> tzinfo:
    """A time zone by its IANA name.

    Raises:
        UsageError: there is none.
    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"there is no time zone '{name}'", hint="Write an IANA name, such as Europe/Berlin") from None


def _start(unit: str, local: datetime) -> datetime:
    """The start of the period of a local time."""
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    match unit:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case _:
            return day.replace(month=1, day=1)


def _next(unit: str, start: datetime) -> datetime:
    """The start of the next period, both local."""
    if unit in ("day", "week"):
        return start + timedelta(days=1 if unit == "day" else 7)
    months = start.year * 12 + start.month - 1 + {"month": 1, "quarter": 3, "year": 12}[unit]
    return start.replace(year=months // 12, month=months % 12 + 1)


def _instant(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=zone).astimezone(UTC)
