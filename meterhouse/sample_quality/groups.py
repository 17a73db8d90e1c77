"""Divides event hours into groups that are computed together, each of bounded size."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TIME

POINTS_AT_ONCE = 20_000_000
"""Hours are processed together up to about this many points, which limits the memory of one pass."""

DAYS_AT_ONCE = 100
"""Maximum number of days of a group, which limits the files of one commit and how long today's hours wait."""


_DAY: Final = 86_400_000_000


def group_hours(site: Site, version: int, hours: Iterable[datetime]) -> list[list[datetime]]:
    """The hours in groups of about POINTS_AT_ONCE points and at most DAYS_AT_ONCE days.

    Those of today come first, and in groups of their own, so that they do not wait for a backlog. The others are in
    order. The hours of a day are in one group.

    Args:
        site: the site.
        version: of `samples`.
        hours: event hours.
    """
    days: dict[date, list[datetime]] = {}
    for hour in sorted(hours):
        days.setdefault(hour.date(), []).append(hour)
    if not days:
        return []
    points = points_by_day(site, version, list(days))
    present = {hour.date() for hour in present_hours(hour for members in days.values() for hour in members)}
    groups: list[list[datetime]] = []
    for some in (sorted(present), sorted(days.keys() - present)):
        rows = size = 0
        for day in some:
            if not size or size == DAYS_AT_ONCE or rows + points.get(day, 0) > POINTS_AT_ONCE:
                groups.append([])
                rows = size = 0
            groups[-1] += days[day]
            rows += points.get(day, 0)
            size += 1
    return groups


def present_hours(hours: Iterable[datetime]) -> list[datetime]:
    """The hours of today and yesterday, UTC, and those that a clock which is a little fast gives."""
    first = times.day_start((times.now() - times.DAY).date())
    last = times.now() + times.HOUR
    return [hour for hour in hours if first <= hour <= last]


def points_by_day(site: Site, version: int, days: list[date]) -> dict[date, int]:
    """About how many points each day has, by the bounds of the files: their rows count as evenly spread.

    Args:
        site: the site.
        version: of `samples`.
        days: in order.
    """
    spans = times.spans(hour for day in days for hour in times.hours_of(day))
    files = site.lake.matching("samples", version=version, overlapping=("timestamp", spans))
    if not files.num_rows or "min.timestamp" not in files.column_names:
        return dict.fromkeys(days, 0)
    low, high = (
        pc.fill_null(files[f"{bound}.timestamp"].cast(TIME).cast(pa.int64()), 0).to_numpy() for bound in ("min", "max")
    )
    high = np.maximum(high, low) + 1_000  # Delta truncates it to milliseconds
    dense = files["num_records"].to_numpy() / (high - low)
    found = {}
    for day in days:
        start = times.micros(times.day_start(day))
        inside = np.minimum(high, start + _DAY) - np.maximum(low, start)
        found[day] = round(float((np.maximum(inside, 0) * dense).sum()))
    return found
