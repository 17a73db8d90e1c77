"""What statistics can compute, and what they can group by."""

import re
from collections.abc import Sequence
from typing import Final

from meterhouse.errors import UnknownKeyword, UsageError

AGGREGATES = ("count", "sum", "avg", "min", "max", "stddev", "first", "last", "increase", "rate", "cardinality")
"""All but the percentiles, which are `p` and a number from 0 to 100: `p95`, `p99.9`."""

USUAL = ("count", "sum", "avg", "min", "max")
"""Those that are computed if none is named, as Ceilometer's API does."""

GROUPS = ("resource_id", "project_id", "user_id", "source")
"""Columns to group by; besides, there is `metadata.KEY`."""

METADATA = "metadata."

CALENDAR = ("day", "week", "month", "quarter", "year")
"""Periods of the calendar. A week starts on Monday."""

MAX_PERIOD: Final = 10 * 366 * 86_400
"""Maximum length of a period in seconds."""

COUNTED = ("resource_id", "project_id", "user_id", "source")
"""What `cardinality` can count the distinct values of: `cardinality/project_id`. Default resource_id."""

_SHORT = {"resource": "resource_id", "project": "project_id", "user": "user_id"}
_PERCENTILE = re.compile(r"p(100|[0-9]{1,2})(\.[0-9]{1,6})?", re.ASCII)


def checked_aggregates(names: Sequence[str]) -> list[str]:
    """These aggregates, each once; USUAL if there are none.

    Raises:
        UnknownKeyword: there is no such aggregate.
    """
    for name in names:
        kind, slash, what = name.partition("/")
        known = name in AGGREGATES or percentile(name) is not None
        if slash:
            known = kind == "cardinality" and what in COUNTED
        if not known:
            listed = [*AGGREGATES, *(f"cardinality/{each}" for each in COUNTED), "p50", "p95", "p99"]
            raise UnknownKeyword("aggregate", name, listed)
    return list(dict.fromkeys(names)) or list(USUAL)


def checked_groups(names: Sequence[str]) -> list[str]:
    """These groups by their full names, each once.

    Raises:
        UnknownKeyword: there is no such group.
    """
    found = [_SHORT.get(name, name) for name in names]
    for name in found:
        if name not in GROUPS and not (name.startswith(METADATA) and len(name) > len(METADATA)):
            raise UnknownKeyword("group", name, [*GROUPS, *_SHORT, "metadata.KEY"])
    return list(dict.fromkeys(found))


def percentile(name: str) -> float | None:
    """The number of a percentile, from 0 to 100; None if the name is another aggregate's."""
    found = _PERCENTILE.fullmatch(name)
    number = float(name[1:]) if found else None
    return number if number is not None and number <= 100 else None


def counted_by(name: str) -> str | None:
    """The column whose distinct values an aggregate counts; None if it is none of cardinality."""
    kind, _, what = name.partition("/")
    return (what or "resource_id") if kind == "cardinality" else None


def checked_period(period: str) -> int | str:
    """A period as it was written: a number of seconds, or one of CALENDAR.

    Raises:
        UsageError: it is neither.
    """
    if period in CALENDAR:
        return period
    if period.isascii() and period.isdecimal() and int(period) <= MAX_PERIOD:
        return int(period)
    if period.lstrip("-").isdecimal():
        raise UsageError(f"the period is {period} seconds", hint=f"Give 0 to {MAX_PERIOD}")
    raise UnknownKeyword("period", period, ["a number of seconds", *CALENDAR])
