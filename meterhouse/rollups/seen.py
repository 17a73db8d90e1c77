"""What series and resources are by their good points: when they were seen, and a resource's project, user and metadata.

An excluded point decides none of this. The daily roll-ups know the good points of every series and day, and the
metadata of the last, so all of it is written with them, in one transaction. If the newest or oldest good point is
excluded later, the roll-ups of other days say which one takes its place: a look-up by key, however old the site is.
"""

from datetime import date, timedelta

import pyarrow as pa
from sqlalchemy import Connection, TextClause, bindparam, text

from meterhouse import sql_files, times
from meterhouse.catalog import lock_catalog
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.warehouse_tables import UtcTime


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


def record_seen(connection: Connection, seen: pa.Table, days: list[date]) -> None:
    """Write what the good points of these days say about series and resources, after the days' roll-ups are written.

    `note_series` has to be called in the same transaction, before they are replaced.

    Args:
        connection: the warehouse, in a transaction.
        seen: series_id, first_at, last_at, metadata_id and cadence_s of the series that have points in these days.
        days: the days.
    """
    lock_catalog(connection)
    for name in ("seen", "seen_resources"):
        connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    connection.execute(
        text(
            "CREATE TEMP TABLE seen AS SELECT series_id, first_seen AS first_at, last_seen AS last_at, "
            "series_id AS metadata_id, cadence_s FROM series WHERE 1 = 0"
        )
    )
    bulk_insert(connection, "seen", seen)
    connection.execute(
        text("INSERT INTO seen (series_id) SELECT series_id FROM seen_before EXCEPT SELECT series_id FROM seen")
    )
    span = {"start": times.day_start(min(days)), "end": times.day_start(max(days)) + timedelta(days=1)}
    for name in ("1_series", "2_newest", "3_newer", "4_older", "5_first"):
        statement = _statement(name)
        connection.execute(statement, {each: span[each] for each in statement.compile().params})
    for name in ("seen", "seen_before", "seen_resources"):
        connection.execute(text(f"DROP TABLE {name}"))


def _statement(name: str) -> TextClause:
    statement = text(sql_files.read(f"warehouse/seen/{name}.sql"))
    used = [each for each in ("start", "end") if f":{each}" in statement.text]
    return statement.bindparams(*(bindparam(each, type_=UtcTime) for each in used))
