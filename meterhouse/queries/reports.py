"""Reports: SQL files on the warehouse, each named for the question it answers, exported as Parquet and CSV."""

import io
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from sqlalchemy import bindparam, text

from meterhouse import shipped, times
from meterhouse.errors import UnknownName
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import UtcTime

FOLDER = "warehouse/reports"


@dataclass(frozen=True)
class Export:
    """Where a day's report was put, and what it holds."""

    uris: list[str]
    rows: pa.Table


def names() -> list[str]:
    """The reports there are."""
    return shipped.sql_names(FOLDER)


def question(name: str) -> str:
    """The question that a report answers: the first line of its file."""
    return shipped.sql(f"{FOLDER}/{name}.sql").partition("\n")[0].removeprefix("--").strip()


def run(site: Site, name: str, start: datetime, end: datetime) -> pa.Table:
    """A report over a half-open span of event time, UTC.

    Raises:
        UnknownName: there is no such report; names the near ones.
    """
    if name not in names():
        raise UnknownName("report", name, names())
    query = text(shipped.sql(f"{FOLDER}/{name}.sql")).bindparams(
        bindparam("start", type_=UtcTime), bindparam("end", type_=UtcTime)
    )
    with site.warehouse.read() as connection:
        found = connection.execute(query, {"start": start, "end": end})
        columns = list(found.keys())
        rows = found.all()
    made = {name: _column(name, [row[place] for row in rows]) for place, name in enumerate(columns)}
    return pa.table(made)


def export(site: Site, name: str, day: date) -> Export:
    """Put a day's report beside the lake's tables, as `exports/NAME/DAY.parquet` and `.csv`; a second run replaces it.

    Raises:
        UnknownName: there is no such report.
    """
    rows = run(site, name, times.day_start(day), times.day_start(day) + times.DAY)
    as_parquet, as_csv = io.BytesIO(), io.BytesIO()
    parquet.write_table(rows, as_parquet, compression="zstd")
    arrow_csv.write_csv(rows, as_csv)
    uris = [
        site.lake.put(f"exports/{name}/{day}.{ending}", content.getvalue())
        for ending, content in (("parquet", as_parquet), ("csv", as_csv))
    ]
    return Export(uris, rows)


def _column(name: str, values: list[Any]) -> pa.Array:
    """A column in one type whichever database it comes from: SQLite gives days as text, PostgreSQL sums as Decimal."""
    if name == "day":
        return pa.array([date.fromisoformat(day) if isinstance(day, str) else day for day in values], pa.date32())
    plain = [_number(value) if isinstance(value, Decimal) else value for value in values]
    if any(isinstance(value, float) for value in plain):
        plain = [value if value is None else float(value) for value in plain]
    return pa.array(plain)


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
