"""Other engines read the lake's tables: a filter on any column finds the rows that are there."""

import math
import tarfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from conftest import OpenSite
from deltalake import DeltaTable, QueryBuilder

from meterhouse.archive.seal import archive
from meterhouse.catalog import catalog
from meterhouse.conversion import step as conversion
from meterhouse.dead_letters import Selection, purge
from meterhouse.site import Site
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake_tables import TABLES
from meterhouse.upkeep import upkeep

pytestmark = pytest.mark.slow

DAY = date(2026, 11, 20)
OLDER = Path(__file__).parents[1] / "data" / "older-sites" / "2026-11-before-rooms" / "sqlite.tar.gz"
TEXTS = [
    *["", "cpu", "é" * 40, "\U0001f600" * 33, "\U0010ffff" * 40, "a" * 31 + "\ud7ff" + "b", "x" * 32, "x" * 33],
    *["say \"'no'\"\\", "two\nlines", "z" * 31 + "\U0010ffff" + "z"],
]
NUMBERS = [0.0, -0.0, 1.5, -2.25, 0.1, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf]
GIVEN_ALWAYS = {"series_id", "timestamp", "recorded_at", "source", "meter", "type", "received_at", "generated"}
LANDED = ("notifications", "samples", "events", "dead_letters")
EQUAL, BELOW, ABOVE, AMONG, NULL, GIVEN = "=", "<", ">", "IN", "IS NULL", "IS NOT NULL"

Probe = tuple[str, str, Any]
"""A column, an operator and its operand."""
Count = Callable[[Probe], int]


def rows(table: str, first: int, *, nulls: bool = True, hours: int = 2) -> pa.Table:
    """Twelve rows of a table, told apart by their identity, with the values at which statistics may go wrong."""
    schema, _ = TABLES[table]
    day = DAY + timedelta(days=first // 100)
    moment = datetime(day.year, day.month, day.day, 10, tzinfo=UTC)

    def value(field: pa.Field, place: int) -> Any:
        kind = field.type
        if field.name == "arrival_hour":
            return f"{day}T{10 + place % hours}"
        if field.name in ("message_id", "letter_id", "sample_id"):
            return f"{TEXTS[place % 7]}-{first + place}" if pa.types.is_string(kind) else first + place - 6
        if field.name == "event_day":
            return day
        if field.name == "granularity_s":
            return 3600
        if nulls and place % 5 == 3 and field.name not in GIVEN_ALWAYS:
            return None
        if pa.types.is_string(kind):
            return TEXTS[(place + first) % len(TEXTS)]
        if pa.types.is_floating(kind):
            numbers = NUMBERS if first % 2 else NUMBERS[:8]
            return numbers[(place + first) % len(numbers)]
        if pa.types.is_boolean(kind):
            return place % 2 == 0
        if pa.types.is_timestamp(kind):
            return moment + timedelta(seconds=place, microseconds=place * 77_777 + 999)
        if pa.types.is_binary(kind):
            return b"\xff\x00" * place
        if pa.types.is_integer(kind):
            return place - 5
        return [] if pa.types.is_list(kind) and place % 2 else None

    made = [{field.name: value(field, place) for field in schema} for place in range(12)]
    return pa.Table.from_pylist(made, schema=schema)


def written(site: Site) -> None:
    """Fill every table: files of one row and of many, columns with and without nulls, a sealed day, purged letters."""
    lake = site.lake
    for table in TABLES:
        for first, nulls in ((0, True), (101, False), (200, True)):
            lake.append(table, rows(table, first, nulls=nulls))
        lake.append(table, rows(table, 300).slice(3, 1))
    for table in ("samples", "events"):
        version = lake.version("notifications")
        lake.commit(table, [], 0, transactions={conversion.APP: version})
    catalog(site)
    assert len(archive(site, DAY).sealed) == 4
    assert purge(site, Selection(queue="cpu")).letters > 0


def truth(site: Site, table: str) -> pa.Table:
    """All rows of a table, read file by file, without statistics."""
    lake = site.lake
    with lake.connect() as duck:
        lake.view(duck, table, lake.files(table))
        return arrow(duck, f"FROM {table}").cast(TABLES[table][0])


def probes(found: pa.Table) -> Iterator[Probe]:
    """Conditions on each column that separate its rows."""
    for field in found.schema:
        yield field.name, NULL, None
        yield field.name, GIVEN, None
        if pa.types.is_nested(field.type):
            continue
        values = sorted({each for each in found[field.name].to_pylist() if each is not None and each == each})
        if not values:
            continue
        yield from ((field.name, EQUAL, each) for each in dict.fromkeys((values[0], values[-1])))
        yield field.name, AMONG, (values[len(values) // 2], values[0])
        if not pa.types.is_boolean(field.type) and len(values) > 1:
            yield field.name, BELOW, values[1]
            yield field.name, ABOVE, values[-2]


def arrow_condition(probe: Probe, schema: pa.Schema) -> ds.Expression:
    column, operator, value = probe
    field, kind = ds.field(column), schema.field(column).type
    if operator in (NULL, GIVEN):
        return field.is_null() if operator == NULL else field.is_valid()
    if operator == AMONG:
        return field.isin(pa.array(list(value), kind))
    bound = pa.scalar(value, kind)
    return field == bound if operator == EQUAL else field < bound if operator == BELOW else field > bound


def arrow_count(data: ds.Dataset, schema: pa.Schema) -> Count:
    return lambda probe: int(data.count_rows(filter=arrow_condition(probe, schema)))


def pandas_count(table: DeltaTable, schema: pa.Schema) -> Count:
    return lambda probe: len(table.to_pandas(columns=[probe[0]], filters=arrow_condition(probe, schema)))


def sql_count(connection: duckdb.DuckDBPyConnection, view: str) -> Count:
    def count(probe: Probe) -> int:
        column, operator, value = probe
        operands = [] if value is None else list(value) if operator == AMONG else [value]
        marks = f"({', '.join('?' * len(operands))})" if operator == AMONG else "?" * len(operands)
        found = connection.execute(f'SELECT count(*) FROM {view} WHERE "{column}" {operator} {marks}', operands)
        return int(found.fetchall()[0][0])

    return count


def polars_count(frame: pl.LazyFrame) -> Count:
    def count(probe: Probe) -> int:
        column, operator, value = probe
        field = pl.col(column)
        found = {
            EQUAL: lambda: field == value,
            BELOW: lambda: field < value,
            ABOVE: lambda: field > value,
            AMONG: lambda: field.is_in(list(value)),
            NULL: field.is_null,
            GIVEN: field.is_not_null,
        }[operator]()
        return int(frame.filter(found).select(pl.len()).collect().item())

    return count


def delta_count(table: DeltaTable, schema: pa.Schema) -> Count:
    def literal(value: Any) -> str:
        if isinstance(value, str):
            return "'" + value.replace("'", "''") + "'"
        if isinstance(value, bytes):
            return f"X'{value.hex()}'"
        if isinstance(value, datetime):
            return f"arrow_cast('{value.isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
        if isinstance(value, float):
            return f"CAST('{value!r}' AS DOUBLE)"
        return f"DATE '{value}'" if isinstance(value, date) else str(value)

    query = QueryBuilder().register("t", table)

    def count(probe: Probe) -> int:
        column, operator, value = probe
        operand = "" if value is None else literal(value)
        if operator == AMONG:
            operand = f"({', '.join(literal(each) for each in value)})"
        found = query.execute(f'SELECT count(*) AS n FROM t WHERE "{column}" {operator} {operand}').read_all()
        return int(pa.table(found)["n"][0].as_py())

    return count


def differing(site: Site, tables: Iterable[str] = TABLES) -> list[str]:
    """Where a reader does not find the rows that are there."""
    found = []
    for table in tables:
        schema, _ = TABLES[table]
        there = truth(site, table)
        assert there.num_rows, table
        delta = DeltaTable(site.lake.uri(table))
        data = delta.to_pyarrow_dataset()
        memory = duckdb.connect()
        memory.execute("SET TimeZone = 'UTC'")
        memory.register("dataset", data)
        memory.register("there", there)
        with site.lake.connect() as own:
            site.lake.view(own, table, site.lake.files(table))
            in_arrow = cache(arrow_count(ds.dataset(there), schema))
            in_duckdb = cache(sql_count(memory, "there"))
            readers: dict[str, tuple[Count, Count]] = {
                "pyarrow": (arrow_count(data, schema), in_arrow),
                "DuckDB": (sql_count(memory, "dataset"), in_duckdb),
                "meterhouse sql": (sql_count(own, table), in_duckdb),
                "Polars": (
                    polars_count(pl.scan_delta(site.lake.uri(table))),
                    polars_count(pl.from_arrow(there).lazy()),  # type: ignore[union-attr]  # a table, not a column
                ),
                "QueryBuilder": (delta_count(delta, schema), in_duckdb),
                "pandas": (pandas_count(delta, schema), in_arrow),
            }
            for probe in probes(there):
                for name, (read, expected) in readers.items():
                    if name == "pandas" and probe[1] != EQUAL:
                        continue
                    if (answer := read(probe)) != (right := expected(probe)):
                        found.append(f"{name}: {table} where {probe}: {answer} of {right}")
            memory.close()
    return found


def test_every_reader_finds_the_rows_of_every_column(site: Site) -> None:
    written(site)
    assert differing(site) == []


def test_after_upkeep_every_reader_finds_the_rows_of_an_older_site(open_site: OpenSite, tmp_path: Path) -> None:
    with tarfile.open(OLDER) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later have it
        packed.extractall(tmp_path)
    site = open_site(home=tmp_path / "home")
    versions = {table: site.lake.version(table) for table in LANDED}
    data = DeltaTable(site.lake.uri("samples")).to_pyarrow_dataset()
    assert (data.count_rows(), data.count_rows(filter=ds.field("meter") == "cpu_util")) == (281, 0)
    letters = site.lake.table("dead_letters")  # an earlier release purged so
    assert letters.delete("queue = 'no such queue' OR reason LIKE 'not JSON%'")["num_deleted_rows"] > 0
    done = upkeep(site)
    assert (done.failed, done.left) == ({}, 0)
    # 10 of these tables, and the files of other tables: they lack columns that came later.
    assert done.deleted["statistics"] == 39
    assert differing(site, LANDED) == []
    for table in LANDED:  # followers pass over it
        passed = site.lake.appended(table, versions[table])
        assert passed is not None
        assert passed.rows.num_rows == 0
    assert upkeep(site).deleted["statistics"] == 0
