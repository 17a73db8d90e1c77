"""By which definitions the rows of each arrival hour of `samples` and `events` were made, in the warehouse.

The conversion records this before it appends rows, so an hour never has rows of definitions that are not recorded. An
hour has several records if the definitions changed during it. A record also has the version of `notifications` up to
which its definitions have converted the hour: whoever replaces what was converted up to a version removes the records
of other definitions up to that version, and leaves those of a conversion that is running.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, delete, select, text

from meterhouse import meanings
from meterhouse.definitions.meanings import Meaning, of_parts
from meterhouse.settings import Settings, variable
from meterhouse.stores.warehouse_tables import conversions

if TYPE_CHECKING:
    from meterhouse.definitions.loading import Definitions

SETTINGS = {
    "samples": ("sample_source", "nova_versioned"),
    "events": ("store_raw", "drop_unmatched_notifications", "nova_versioned"),
}
"""Table → the settings that decide on its rows, beside the definitions. A signature is verified once, when it comes."""

UNKNOWN = "unknown"
"""The fingerprint of hours of which it is not known any more by what they were converted."""

_RECORD = text(
    "INSERT INTO conversions (table_name, arrival_hour, fingerprint, version) "
    "VALUES (:table_name, :arrival_hour, :fingerprint, :version) "
    "ON CONFLICT (table_name, fingerprint, arrival_hour) DO UPDATE SET version = excluded.version"
)


def meaning_of(table: str, definitions: "Definitions", given: Settings) -> Meaning:
    """All that decides on the rows of `samples` or `events`, beside the notifications."""
    chosen = tuple(getattr(given, name) for name in SETTINGS[table])
    known = _latest.get(table)
    if known is not None and known[0] is definitions and known[1] == chosen:
        return known[2]
    parts = _of_meters(definitions) if table == "samples" else _of_events(definitions)
    names = [variable(name) for name in SETTINGS[table]]
    settings = ((name, f"setting {name}", value) for name, value in zip(names, chosen, strict=True))
    found = of_parts([*parts, *settings])
    _latest[table] = definitions, chosen, found
    return found


_latest: dict[str, tuple["Definitions", tuple[object, ...], Meaning]] = {}
"""Table → what its meaning was last made of, and the meaning: a busy site asks for it several times a second."""


def _of_meters(definitions: "Definitions") -> Iterator[tuple[str, str, Any]]:
    for meter in sorted(definitions.meters.meters, key=lambda meter: meter.name):
        yield _file(meter.where), f"meter {meter.name}", meter.content


def _of_events(definitions: "Definitions") -> Iterator[tuple[str, str, Any]]:
    for each in definitions.events.definitions:
        globs = ", ".join(each.globs)
        yield _file(each.where), f"event definition {globs}", [each.globs, each.content]


def _file(where: str) -> str:
    path = Path(where.rpartition(":")[0])
    return f"{path.parent.name}/{path.name}" if path.parent.name == "meters.d" else path.name


def record(connection: Connection, table: str, hours: Iterable[str], meaning: Meaning, version: int) -> None:
    """Record that rows of arrival hours are made by a meaning, of notifications up to a version."""
    fingerprint = meanings.record(connection, meaning)
    rows = [
        {"table_name": table, "arrival_hour": hour, "fingerprint": fingerprint, "version": version} for hour in hours
    ]
    if rows:
        connection.execute(_RECORD, rows)


def replaced(connection: Connection, table: str, hour: str, meaning: Meaning, version: int) -> None:
    """Record that all rows of an hour's notifications up to a version were replaced by those of a meaning."""
    others = (
        conversions.c.table_name == table,
        conversions.c.arrival_hour == hour,
        conversions.c.fingerprint != meaning.fingerprint,
    )
    connection.execute(delete(conversions).where(*others, conversions.c.version <= version))
    record(connection, table, [hour], meaning, version)


def forget(connection: Connection, table: str, hours: Collection[str] | None = None) -> None:
    """Note that it is not known any more by what arrival hours were converted; default all that are recorded."""
    of_table = conversions.c.table_name == table
    if hours is None:
        hours = sorted(set(connection.execute(select(conversions.c.arrival_hour).where(of_table)).scalars()))
    rows = [{"table_name": table, "arrival_hour": hour, "fingerprint": UNKNOWN, "version": 0} for hour in hours]
    if rows:
        of_hour = conversions.c.arrival_hour == bindparam("arrival_hour")
        connection.execute(delete(conversions).where(of_table, of_hour), [{"arrival_hour": hour} for hour in hours])
        connection.execute(_RECORD, rows)
