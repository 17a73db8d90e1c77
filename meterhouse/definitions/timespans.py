"""Spans of time as texts: `300`, `5 minutes`, `1h 30m`, `30 days, 0:00:00`.

Gnocchi takes and writes these: https://gnocchi.osci.io/rest.html, "Archive Policy". So does Python's `timedelta`.
"""

import math
import re
from typing import Any, Final

from meterhouse.errors import shown

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "y": 365 * 86400.0}
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), "y"),
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]+)")
_CLOCK: Final = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")

MAX_SECONDS: Final = 1000 * 366 * 86400.0
MAX_TEXT: Final = 100


def seconds(value: Any) -> float:
    """A span in seconds.

    Args:
        value: a number of seconds, or a text of numbers with units (a year has 365 days), of a clock time, or of both.

    Raises:
        ValueError: it is none of these, is not positive, or is longer than 1000 years.
    """
    found = _number(value)
    if found is None and isinstance(value, str) and len(value) <= MAX_TEXT:
        found = _of_text(value.strip().lower())
    if found is None or not 0 < found <= MAX_SECONDS:
        raise ValueError(f"{shown(value)} is not a span of time, such as 300, 5 minutes or 30 days")
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _of_text(text: str) -> float | None:
    total, rest = 0.0, text
    while rest:
        if clock := _CLOCK.match(rest):
            hours, minutes, secs = clock.groups()
            total += int(hours) * 3600 + int(minutes) * 60 + float(secs)
            rest = rest[clock.end() :]
        elif (part := _PART.match(rest)) and part[2] in _UNITS:
            total += float(part[1]) * _SECONDS[_UNITS[part[2]]]
            rest = rest[part.end() :]
        else:
            return None
        rest = rest.lstrip(" ,")
    return total


def text(span: float) -> str:
    """The span in the largest unit of which it is a whole number: `5 minutes`, `1 hour`, `365 days`."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if span % size == 0:
            return _counted(round(span / size), unit)
    return _counted(round(span) if span % 1 == 0 else span, "second")


def _counted(number: float, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
