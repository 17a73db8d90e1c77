"""PostgreSQL's partitions of the tables of roll-ups: by month or by year of the bucket, made when rows come.

A table is made apart and then attached, so that no reader waits: `CREATE TABLE … PARTITION OF` would lock the parent.
"""

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, Table, text

from meterhouse import times
from meterhouse.stores.warehouse_tables import hourly

Place = tuple[int, int | None]
"""A year, and a month of it or None for all of it."""

AHEAD = timedelta(days=32)


def make_room(connection: Connection, table: Table, buckets: Iterable[datetime]) -> None:
    """Make the partitions that rows of these buckets go to, if they do not exist. SQLite has none.

    Hours go by months. Hours of years long past, or to come, go by years: clocks that are wrong would otherwise leave
    thousands of partitions, which every query has to consider. Days go by years.
    """
    if connection.dialect.name != "postgresql":
        return
    there: set[Place] | None = None
    for year, month in sorted({(bucket.year, bucket.month) for bucket in buckets}):
        there = _present(connection, table) if there is None else there
        if {(year, None), (year, month)} & there:
            continue
        of_months = table is hourly and (_is_recent(year, month) or any(place[0] == year for place in there))
        place = (year, month if of_months else None)
        _attach(connection, table, place)
        there.add(place)


def _is_recent(year: int, month: int) -> bool:
    present = times.now()
    return year >= present.year - 1 and datetime(year, month, 1, tzinfo=present.tzinfo) <= present + AHEAD


def _present(connection: Connection, table: Table) -> set[Place]:
    children = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:parent)")
    found = set[Place]()
    for name in connection.execute(children, {"parent": table.name}).scalars():
        if part := re.search(r"_(\d{4})(?:_(\d\d))?\"?\Z", name):
            found.add((int(part[1]), int(part[2]) if part[2] else None))
    return found


def _attach(connection: Connection, table: Table, place: Place) -> None:
    year, month = place
    name = f"{table.name}_{year:04}" + ("" if month is None else f"_{month:02}")
    start = date(year, month or 1, 1)
    end = date(year + 1, 1, 1) if month in (None, 12) else date(year, (month or 0) + 1, 1)
    connection.execute(text(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL)"))
    span = f"FROM ('{start} 00:00+00') TO ('{end} 00:00+00')"
    connection.execute(text(f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES {span}"))
