"""Where data files of an arrival hour are divided by event time.

Readers skip a file by the bounds of its times. One point of 2099, or of 1970, would make its whole file one that every
query has to read. So rows whose time is far from their arrival are in files of their own.
"""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times

EVENT_TIMES: Final = {"samples": "timestamp", "events": "generated"}
"""Table partitioned by arrival hour → its column of event time."""

BEFORE: Final = 24
"""How many hours before its arrival hour a row may be, to be in the same file as the others."""

AFTER: Final = 1
"""How many hours after its arrival hour a row may be."""

MAX_CUTS: Final = 30
"""Maximum number of files more, into which far rows are divided, at the widest gaps between them."""

MICROS: Final = 3_600_000_000
"""Microseconds of an hour."""

_NEAR: Final = 1

Hours = npt.NDArray[np.int64]


def cuts(arrival_hour: str, hours: Hours) -> list[int]:
    """The event hours at which a new file starts, in order.

    Args:
        arrival_hour: `YYYY-MM-DDTHH`, UTC.
        hours: the event hours of the rows, since 1970.
    """
    hours = np.unique(hours)
    zones, gaps = _zones(arrival_hour, hours), np.diff(hours)
    borders = np.diff(zones) > 0
    apart = np.flatnonzero((gaps > 1) & ~borders & (zones[1:] != _NEAR))
    widest = apart[np.argsort(-gaps[apart], kind="stable")][:MAX_CUTS]
    places = np.sort(np.concatenate([np.flatnonzero(borders), widest]))
    return [int(hour) for hour in hours[places + 1]]


def _zones(arrival_hour: str, hours: Hours) -> npt.NDArray[np.intp]:
    """0 for hours far before the arrival, 1 for near ones, 2 for hours far after it."""
    arrival = times.micros(datetime.fromisoformat(f"{arrival_hour}:00+00:00")) // MICROS
    return np.searchsorted([arrival - BEFORE, arrival + AFTER + 1], hours, side="right")


def divided(name: str, rows: pa.Table, arrival_hour: str) -> list[pa.Table]:
    """The rows of an arrival hour, divided into those of each file."""
    column = EVENT_TIMES.get(name)
    if column is None or not rows.num_rows:
        return [rows]
    bounds = pc.min_max(rows[column].cast(pa.int64()))
    ends = np.array([bounds["min"].as_py() or 0, bounds["max"].as_py() or 0], np.int64) // MICROS
    if all_near(arrival_hour, ends):
        return [rows]
    hours = pc.fill_null(rows[column].cast(pa.int64()), int(ends[0]) * MICROS).to_numpy() // MICROS
    place = np.searchsorted(cuts(arrival_hour, hours), hours, side="right")
    return [rows.filter(pa.array(place == number)) for number in np.unique(place)]


def all_near(arrival_hour: str, hours: Hours) -> bool:
    """Whether these event hours are all near the arrival hour, so that one file holds all rows."""
    return bool((_zones(arrival_hour, hours) == _NEAR).all())


def stretched(name: str, files: pa.Table) -> bool:
    """Whether a file has both near and far rows, by its bounds. So it is with files of earlier releases.

    Args:
        name: the table.
        files: rows of `Lake.actions`.
    """
    column = EVENT_TIMES.get(name)
    if column is None or f"min.{column}" not in files.column_names:
        return False
    wanted = ["partition.arrival_hour", f"min.{column}", f"max.{column}"]
    return any(_is_stretched(*row.values()) for row in files.select(wanted).to_pylist())


def _is_stretched(arrival_hour: str, low: Any, high: Any) -> bool:
    if low is None or high is None:
        return False
    first, last = _zones(arrival_hour, np.array([times.micros(low), times.micros(high)], np.int64) // MICROS)
    return bool(first != last)


def conditions(name: str, starts: list[int]) -> list[str]:
    """SQL conditions that divide rows at these event hours; exactly one is true for each row."""
    if not starts:
        return ["true"]
    column = EVENT_TIMES[name]
    moments = [f"TIMESTAMPTZ '{times.text(times.EPOCH + timedelta(hours=hour))}'" for hour in starts]
    first = f"({column} IS NULL OR {column} < {moments[0]})"
    between = [f"({column} >= {a} AND {column} < {b})" for a, b in pairwise(moments)]
    return [first, *between, f"{column} >= {moments[-1]}"]
