"""Reports: SQL files on the warehouse, each named for the question it answers; see `report_files`.

Listing them needs no database, so SQLAlchemy is imported with the first one that is run.
"""

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from meterhouse import times
from meterhouse.errors import MeterhouseError, UnknownKeyword
from meterhouse.queries import report_files
from meterhouse.queries.report_files import Report

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from meterhouse.site import Site


PERIODS: Final = frozenset({"resource_periods", "counted_periods"})
"""The table and the view whose rows continue without an end."""


def names(config_dir: "Path | str | None" = None) -> list[str]:
    """The reports there are: ours, and with a configuration folder the site's own too."""
    return list(report_files.listed(config_dir))


def question(name: str) -> str:
    """The question that one of our reports answers: the first line of its file."""
    return report_files.ours()[name].question


def report(site: "Site", name: str) -> Report:
    """A report of ours or of the site.

    Raises:
        UnknownKeyword: there is no such report; names near misses.
        DefinitionError: its file cannot be run.
    """
    known = report_files.listed(site.settings.config_dir)
    if name not in known:
        raise UnknownKeyword("report", name, list(known))
    return known[name].checked()


def run(site: "Site", name: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """A report over a half-open span of event time, UTC, row by row; see `columns`."""
    found = columns(site, name, start, end)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def columns(site: "Site", name: str, start: datetime, end: datetime) -> dict[str, list[Any]]:
    """A report over a half-open span of event time, UTC: column name → its values, one a row.

    Periods are not counted beyond now: if a query reads them, the span ends now at the latest. A column has one type,
    whichever database it comes from: `day` has dates, columns whose name ends in `_at` aware times, and a column of
    numbers whole or decimal ones.

    Raises:
        UnknownKeyword: there is no such report; names near misses.
        DefinitionError: the file of a report cannot be run, or the database does not take it.
    """
    found = report(site, name)
    of_periods, now = not PERIODS.isdisjoint(found.words), times.now()
    given = parameters(start, min(end, max(start, now)) if of_periods else end)
    if found.is_own:
        from meterhouse.queries.sql import sql_on_warehouse

        try:
            keys, rows = sql_on_warehouse(site, found.query, given)
        except MeterhouseError as error:
            if type(error) is not MeterhouseError:
                raise
            raise found.error(error.what) from None
    else:
        keys, rows = _trusted(site, found.query, given)
    if of_periods and start >= now:
        rows = []
    return {key: _column(key, [row[place] for row in rows]) for place, key in enumerate(keys)}


def parameters(start: datetime, end: datetime) -> dict[str, datetime]:
    """What a query over [start, end) refers to; see `report_files.PARAMETERS`."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    first, last = times.day_start(start.date()), times.day_start(end.date())
    first += times.DAY if first < start else 0 * times.DAY
    if first >= last:
        first = last = end
    whole = {"days_from": first, "days_to": last}
    return {"start": start, "end": end, **whole, "before": report_files.before(start, end)}


def _trusted(site: "Site", query: str, given: dict[str, datetime]) -> tuple[list[str], list[tuple[Any, ...]]]:
    from meterhouse.queries.sql import sqlite_times
    from meterhouse.queries.sql_tokens import for_psycopg

    with site.warehouse.read() as connection:
        if site.warehouse.is_sqlite:
            found = connection.exec_driver_sql(query, sqlite_times(given))
        else:
            connection.exec_driver_sql("SET LOCAL jit = off")  # to compile takes longer than to run
            found = connection.exec_driver_sql(for_psycopg(query), given)
        return list(found.keys()), [tuple(row) for row in found]


def holds_until(site: "Site", start: datetime, end: datetime) -> datetime:
    """The moment up to which a report over [start, end) shows everything that came: at best, its end.

    That is the start of the first event hour of the span that is dirty, or rolled up and not in the warehouse yet. It
    is never after the newest samples came that the warehouse knows of.
    """
    from sqlalchemy import func, select

    from meterhouse.stores.warehouse_tables import open_hours, warehouse_holds

    within = open_hours.c.hour >= times.hour_of(start), open_hours.c.hour < end
    with site.warehouse.read() as connection:
        opened = connection.execute(select(func.min(open_hours.c.hour)).where(*within)).scalar()
        came = connection.execute(select(warehouse_holds.c.came_until)).scalar()
    return max(start, min(moment for moment in (end, opened, came) if moment is not None))


def _column(name: str, values: list[Any]) -> list[Any]:
    """A column in one type: SQLite gives days and times as text, PostgreSQL sums as Decimal."""
    if name == "day":
        return [date.fromisoformat(day) if isinstance(day, str) else day for day in values]
    if name.endswith("_at"):
        return list(map(_moment, values))
    from decimal import Decimal

    plain = [_number(value) if isinstance(value, Decimal) else value for value in values]
    if any(isinstance(value, float) for value in plain):
        plain = [float(value) if isinstance(value, int) else value for value in plain]
    return plain


def _moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _number(value: "Decimal") -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
