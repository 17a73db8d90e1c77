"""What series and resources are by their good points: when they were seen, and a resource's project, user and metadata.

An excluded point decides none of this. The daily roll-ups know the good points of every series and day, so the times
are written with them, in one transaction. If the newest or oldest good point is excluded later, the roll-ups of other
days say which one takes its place: a look-up by key, however old the site is. They do not know a resource's metadata.
So the hour of that point is marked, and the next roll-up reads the metadata from the lake.
"""

from datetime import date, datetime, timedelta

import pyarrow as pa
from sqlalchemy import Connection, TextClause, bindparam, text, update

from meterhouse import sql_files, times
from meterhouse.catalog import lock_catalog
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.warehouse_tables import UtcTime, dirty_hours


def note_series(connection: Connection, days: list[date]) -> None:
    """Note which series have roll-ups of these days, before they are replaced: some may have no points any more."""
    connection.execute(text("DROP TABLE IF EXISTS seen_before"))
    connection.execute(text("CREATE TEMP TABLE seen_before AS SELECT series_id FROM rollup_1d WHERE 1 = 0"))
    connection.execute(
        text("INSERT INTO seen_before SELECT series_id FROM rollup_1d WHERE bucket = :day").bindparams(
            bindparam("day", type_=UtcTime)
        ),
        [{"day": times.day_start(day)} for day in days],
    )


def record_seen(connection: Connection, seen: pa.Table, days: list[date]) -> list[datetime]:
    """Write what the good points of these days say about series and resources, after the days' roll-ups are written.

    `note_series` has to be called in the same transaction, before they are replaced.

    Args:
        connection: the warehouse, in a transaction.
        seen: series_id, first_at, last_at, metadata_id; times are null if a series has excluded points only.
        days: the days that were rolled up.

    Returns:
        Hours of other days that have to be rolled up again, because they have the newest good point of a resource now.
    """
    lock_catalog(connection)
    for name in ("seen", "seen_resources"):
        connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    connection.execute(
        text(
            "CREATE TEMP TABLE seen AS SELECT series_id, first_seen AS first_at, last_seen AS last_at, "
            "series_id AS metadata_id FROM series WHERE 1 = 0"
        )
    )
    bulk_insert(connection, "seen", seen)
    connection.execute(
        text("INSERT INTO seen (series_id) SELECT series_id FROM seen_before EXCEPT SELECT series_id FROM seen")
    )
    span = {"start": times.day_start(min(days)), "end": times.day_start(max(days)) + timedelta(days=1)}
    connection.execute(_statement("1_series"), span)
    connection.execute(_statement("2_newest"))
    connection.execute(_statement("3_newer"))
    older = connection.execute(_statement("4_older").columns(last_sample_at=UtcTime), span).scalars().all()
    if older:  # by a point of the same days, perhaps: then its metadata is known
        connection.execute(_statement("3_newer"))
    connection.execute(_statement("5_first"), span)
    for name in ("seen", "seen_before", "seen_resources"):
        connection.execute(text(f"DROP TABLE {name}"))
    hours = sorted({times.hour_of(moment) for moment in older if moment is not None and moment.date() not in days})
    if hours:
        connection.execute(
            update(dirty_hours)
            .where(dirty_hours.c.hour == bindparam("of_point"))
            .values(rolled_marks=0, why="it has the newest good point of a resource now"),
            [{"of_point": hour} for hour in hours],
        )
    return hours


def _statement(name: str) -> TextClause:
    statement = text(sql_files.read(f"warehouse/seen/{name}.sql"))
    used = [each for each in ("start", "end") if f":{each}" in statement.text]
    return statement.bindparams(*(bindparam(each, type_=UtcTime) for each in used))
