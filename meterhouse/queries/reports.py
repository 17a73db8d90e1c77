"""Reports: SQL files on the warehouse, each named for the question it answers.

Listing them needs no database, so SQLAlchemy is imported with the first one that is run.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterhouse import shipped
from meterhouse.errors import UnknownKeyword

if TYPE_CHECKING:
    from meterhouse.site import Site

FOLDER = "warehouse/reports"


def names() -> list[str]:
    """The reports there are."""
    return shipped.sql_names(FOLDER)


def question(name: str) -> str:
    """The question that a report answers: the first line of its file."""
    return shipped.sql(f"{FOLDER}/{name}.sql").partition("\n")[0].removeprefix("--").strip()


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
    query = text(shipped.sql(f"{FOLDER}/{name}.sql")).bindparams(
        bindparam("start", type_=UtcTime), bindparam("end", type_=UtcTime)
    )
    with site.warehouse.read() as connection:
        found = connection.execute(query, {"start": start, "end": end})
        rows = found.all()
        return {key: _column(key, [row[place] for row in rows]) for place, key in enumerate(found.keys())}


def _column(name: str, values: list[Any]) -> list[Any]:
    """A column in one type: SQLite gives days as text, PostgreSQL sums as Decimal."""
    if name == "day":
        return [date.fromisoformat(day) if isinstance(day, str) else day for day in values]
    plain = [_number(value) if isinstance(value, Decimal) else value for value in values]
    if any(isinstance(value, float) for value in plain):
        plain = [value if value is None else float(value) for value in plain]
    return plain


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
