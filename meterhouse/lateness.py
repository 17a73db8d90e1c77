"""Lateness: how long after their own time points arrived, by event hour and meter, in the warehouse's `lateness`.

The catalog sees each new sample once, and counts it in its octave of seconds. Counts can be added up, whatever comes
later. The report `lateness` makes median and 95th percentile of them.
"""

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from sqlalchemy import Connection, func, select

from meterhouse import times
from meterhouse.stores.bulk import upsert
from meterhouse.stores.warehouse_tables import lateness

if TYPE_CHECKING:
    from meterhouse.site import Site


def add(connection: Connection, rows: pa.Table) -> None:
    """Add rows of `sql/lake/catalog_lateness.sql` to the table."""
    now = pa.array([times.now()] * rows.num_rows, pa.timestamp("us", tz="UTC"))
    upsert(
        connection,
        lateness,
        rows.append_column("counted_at", now),
        [
            "points = lateness.points + excluded.points",
            "late = lateness.late + excluded.late",
            "seconds = lateness.seconds + excluded.seconds",
            "max_seconds = CASE WHEN excluded.max_seconds > lateness.max_seconds"
            " THEN excluded.max_seconds ELSE lateness.max_seconds END",
            "counted_at = excluded.counted_at",
        ],
    )


class Came(NamedTuple):
    """How the points of an event hour came: how many, how many of them late, and after at most how many seconds."""

    points: int
    late: int
    max_seconds: float


def by_hour(site: "Site", start: datetime, end: datetime) -> dict[datetime, Came]:
    """How the points of each event hour of a half-open span came, oldest first; hours without points are left out."""
    columns = (func.sum(lateness.c.points), func.sum(lateness.c.late), func.max(lateness.c.max_seconds))
    query = (
        select(lateness.c.hour, *columns)
        .where(lateness.c.hour >= start, lateness.c.hour < end)
        .group_by(lateness.c.hour)
        .order_by(lateness.c.hour)
    )
    with site.warehouse.read() as connection:
        return {row[0]: Came(int(row[1]), int(row[2]), row[3]) for row in connection.execute(query)}
