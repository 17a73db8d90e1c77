"""Replaces what the warehouse has of a user: series, resources, metadata, roll-ups, and texts of every other table."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, Text, and_, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from meterhouse.catalog import lock_catalog
from meterhouse.erasure.renamed import Renamed, contains
from meterhouse.personal_data import Person
from meterhouse.stores.warehouse_tables import (
    daily,
    hourly,
    metadata,
    metadata_changes,
    resource_metadata,
    resource_names,
    series,
)

BY_ID: Final = ("series", "resource_metadata")
"""Tables whose rows get other ids; see `renamed`."""

OTHERS: Final = ("leases", "followed")
"""Tables without personal data that other processes write all the time."""

SERIES_OF: Final = (hourly, daily, metadata_changes)
"""Tables with ids of series, which are part of their primary keys."""

SNAPSHOTS_OF: Final = ("rollup_1d_rows", "metadata_changes", "resources")
"""Tables with ids of metadata."""

UNKNOWN: Final = {"resource_periods": {"digest": 0}}
"""What is made of a row's texts: the step that writes the table makes it again."""

AT_ONCE: Final = 500
"""How many ids a statement has as parameters."""


def counted(connection: Connection, person: Person, renamed: Renamed) -> Counter[str]:
    """By table, how many rows have personal data, or ids that are made from it."""
    found = Counter({"series": len(renamed.series), "resource_metadata": len(renamed.metadata)})
    for table in _tables_of_texts():
        found[table.name] += sum(1 for _ in _changed(connection, table, person))
    for table in SERIES_OF:
        for ids in _some(renamed.series):
            query = select(func.count()).select_from(table).where(table.c.series_id.in_(ids))
            found[table.name] += connection.execute(query).scalar() or 0
    return +found


def names_of(connection: Connection, person: Person) -> Counter[tuple[str, str]]:
    """The names of the user, as `name` and value, and how many witnesses and times have each."""
    columns = resource_names.c
    texts = select(columns.name).where(columns.kind == "user", columns.id == person.user_id)
    return Counter(("name", each) for each in connection.execute(texts).scalars() if not person.names(each))


def add_renamed(connection: Connection, renamed: Renamed) -> None:
    """Add the series and snapshots that come in the place of others, beside these: the lake may now refer to them."""
    lock_catalog(connection)
    rows = {row["series_id"]: row for row in renamed.series.values()}
    for ids in _some(rows):
        known = {row.series_id: row for row in connection.execute(select(series).where(series.c.series_id.in_(ids)))}
        if new := [rows[each] for each in ids if each not in known]:
            connection.execute(insert(series), new)
        for number, row in known.items():
            span = {
                "first_point_at": min(row.first_point_at, rows[number]["first_point_at"]),
                "last_point_at": max(row.last_point_at, rows[number]["last_point_at"]),
            }
            connection.execute(update(series).where(series.c.series_id == number).values(**span))
    snapshots = dict(renamed.metadata.values())
    column = resource_metadata.c.metadata_id
    for ids in _some(snapshots):
        there = set(connection.execute(select(column).where(column.in_(ids))).scalars())
        added = [{"metadata_id": each, "metadata": snapshots[each]} for each in ids if each not in there]
        if added:
            connection.execute(insert(resource_metadata), added)


def replace(connection: Connection, person: Person, renamed: Renamed) -> tuple[Counter[str], list[datetime]]:
    """Replace everything; return how many rows of each table were changed, and hours that have to be recomputed.

    These are hours of two series that have become one: the user was erased before, and has come back from a backup.
    """
    lock_catalog(connection)
    done, hours = Counter[str](), list[datetime]()
    _map(connection, "renamed_series", renamed.series_ids)
    _map(connection, "renamed_metadata", renamed.metadata_ids)
    for table in SERIES_OF:
        merged = _merge(connection, table, "valid_from" if table is metadata_changes else "bucket")
        if table is hourly:
            hours += merged
        renaming = text(_RENAME.format(table=table.name, column="series_id", map="series"))
        done[table.name] += connection.execute(renaming).rowcount
    for name in SNAPSHOTS_OF:
        connection.execute(text(_RENAME.format(table=name, column="metadata_id", map="metadata")))
    for table in _tables_of_texts():
        done[table.name] += _replace_texts(connection, table, person)
    for ids in _some(renamed.series):
        done["series"] += connection.execute(delete(series).where(series.c.series_id.in_(ids))).rowcount
    for ids in _some(renamed.metadata):
        gone = delete(resource_metadata).where(resource_metadata.c.metadata_id.in_(ids))
        done["resource_metadata"] += connection.execute(gone).rowcount
    for name in ("renamed_series", "renamed_metadata"):
        connection.execute(text(f"DROP TABLE {name}"))
    return +done, hours


_RENAME: Final = """
UPDATE {table} SET {column} = (SELECT new_id FROM renamed_{map} WHERE old_id = {table}.{column})
WHERE {column} IN (SELECT old_id FROM renamed_{map})
"""

_SAME: Final = """
FROM {table} WHERE series_id IN (SELECT old_id FROM renamed_series) AND EXISTS (
    SELECT 1 FROM {table} AS other JOIN renamed_series ON other.series_id = new_id
    WHERE old_id = {table}.series_id AND other.{key} = {table}.{key}
)
"""


def _merge(connection: Connection, table: Table, key: str) -> list[datetime]:
    """Delete the rows whose new key is there already; return the times of their keys."""
    same = _SAME.format(table=table.name, key=key)
    query = text(f"SELECT DISTINCT {table.name}.{key} AS moment {same}").columns(moment=table.c[key].type)
    found = sorted(connection.execute(query).scalars())
    if found:
        connection.execute(text(f"DELETE {same}"))
    return found


def _map(connection: Connection, name: str, ids: Mapping[int, int]) -> None:
    connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    connection.execute(text(f"CREATE TEMP TABLE {name} (old_id BIGINT PRIMARY KEY, new_id BIGINT NOT NULL)"))
    if ids:
        rows = [{"old": old, "new": new} for old, new in ids.items()]
        connection.execute(text(f"INSERT INTO {name} (old_id, new_id) VALUES (:old, :new)"), rows)


def _tables_of_texts() -> list[Table]:
    return [
        table
        for table in metadata.sorted_tables
        if table.name not in (*BY_ID, *OTHERS) and any(isinstance(column.type, Text) for column in table.columns)
    ]


def _changed(connection: Connection, table: Table, person: Person) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """The keys of the rows of a table that have personal data, and their columns without it."""
    texts = [column for column in table.columns if isinstance(column.type, Text)]
    keys = list(table.primary_key.columns)
    wanted = list(dict.fromkeys([*keys, *texts]))
    for row in connection.execute(select(*wanted).where(contains(texts, person, connection.dialect.name))).all():
        values = row._mapping
        changed = {
            column.name: without
            for column in texts
            if (before := values[column]) is not None and (without := person.body(before)) != before
        }
        if table is resource_names and values[table.c.kind] == "user" and person.names(values[table.c.id]):
            changed["name"] = person.pseudonym
        if changed:
            yield {column.name: values[column] for column in keys}, changed


def _replace_texts(connection: Connection, table: Table, person: Person) -> int:
    count = 0
    for key, changed in list(_changed(connection, table, person)):
        row = and_(*(table.c[name] == value for name, value in key.items()))
        try:
            with connection.begin_nested():
                connection.execute(update(table).where(row).values(**changed, **UNKNOWN.get(table.name, {})))
        except IntegrityError:  # a row without the data has this key: the user was erased before
            connection.execute(delete(table).where(row))
        count += 1
    return count


def _some(ids: Iterable[int]) -> Iterator[Sequence[int]]:
    listed = list(ids)
    for start in range(0, len(listed), AT_ONCE):
        yield listed[start : start + AT_ONCE]
