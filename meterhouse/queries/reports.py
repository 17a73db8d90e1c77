"""Reports: SQL files on the warehouse, each named for the question it answers.

Listing them needs no database, so SQLAlchemy is imported with the first one that is run.
"""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from meterhouse import sql_files
from meterhouse.errors import UnknownKeyword

if TYPE_CHECKING:
    from decimal import Decimal

    from meterhouse.site import Site

FOLDER = "warehouse/reports"


def names() -> list[str]:
    """The reports there are."""
    return sql_files.names(FOLDER)


def question(name: str) -> str:
    """The question that a report answers: the first line of its file."""
    return sql_files.read(f"{FOLDER}/{name}.sql").partition("\n")[0].removeprefix("--").strip()


def run(site: "Site", name: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """A report over a half-open span of event time, UTC, row by row; see `columns`."""
    found = columns(site, name, start, end)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def columns(site: "Site", name: str, start: datetime, end: datetime) -> dict[str, list[Any]]:
    """A report over a half-open span of event time, UTC: column name → its values, one a row.

    A column has one type, whichever database it comes from: `day` has dates, a column of numbers whole or decimal ones.

    Raises:
        UnknownKeyword: there is no such report; names near misses.
    """
    from sqlalchemy import bindparam, text

    from meterhouse.stores.warehouse_tables import UtcTime

    if name not in names():
        raise UnknownKeyword("report", name, names())
    query = text(sql_files.read(f"{FOLDER}/{name}.sql")).bindparams(
        bindparam("start", type_=UtcTime), bindparam("end", type_=UtcTime)
    )
    with site.warehouse.read() as connection:
        found = connection.execute(query, {"start": start, "end": end})
        rows = found.all()
        return {key: _column(key, [row[place] for row in rows]) for place, key in enumerate(found.keys())}


def holds_until(site: "Site", start: datetime, end: datetime) -> datetime:
    """The moment up to which a report over [start, end) shows everything that came: at best, its end.

    That is the start of the first event hour of the span that is dirty, or rolled up and not in the warehouse yet. It
    is never after the newest samples came that the warehouse knows of.
    """
    from sqlalchemy import func, select

    from meterhouse import times
    from meterhouse.stores.warehouse_tables import open_hours, warehouse_holds

    within = open_hours.c.hour >= times.hour_of(start), open_hours.c.hour < end
    with site.warehouse.read() as connection:
        opened = connection.execute(select(func.min(open_hours.c.hour)).where(*within)).scalar()
        came = connection.execute(select(warehouse_holds.c.came_until)).scalar()
    return max(start, min(moment for moment in (end, opened, came) if moment is not None))


def _column(name: str, values: list[Any]) -> list[Any]:
    """A column in one type: SQLite gives days as text, PostgreSQL sums as Decimal."""
    if name == "day":
        return [date.fromisoformat(day) if isinstance(day, str) else day for day in values]
    from decimal import Decimal

    plain = [_number(value) if isinstance(value, Decimal) else value for value in values]
    if any(isinstance(value, float) for value in plain):
        plain = [value if value is None else float(value) for value in plain]
    return plain


def _number(value: "Decimal") -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
