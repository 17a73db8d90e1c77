"""Many rows at once out of the warehouse, in SQLite and in PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from sqlalchemy import insert, select

from meterhouse.site import Site
from meterhouse.stores import bulk_read as reading
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.bulk_read import bulk_read
from meterhouse.stores.warehouse_tables import series

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        *(("series_id", pa.int64()), ("unit", pa.string()), ("first_seen", TIME), ("first_point_at", TIME)),
        ("cadence_s", pa.float64()),
    ]
)
MOMENT = datetime(2026, 11, 1, 10, 0, 0, tzinfo=UTC)


def rows(count: int) -> list[dict[str, object]]:
    return [
        {
            "series_id": number,
            "source": "test",
            "meter": "cpu",
            "type": "gauge",
            "unit": None if number % 3 == 0 else "ns",
            "first_seen": None if number % 2 == 0 else MOMENT,
            "first_point_at": MOMENT + timedelta(microseconds=number),
            "last_point_at": MOMENT,
            "cadence_s": None if number % 3 == 1 else 0.5 * number,
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("at_once", [2, 50_000])
def test_rows_are_read_as_sqlalchemy_reads_them(
    any_warehouse: Site, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ROWS_AT_ONCE", at_once)
    many = rows(7)
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(insert(series), many[:4])
        written = pa.Table.from_pylist(many[4:])
        bulk_insert(connection, "series", written.cast(pa.schema([_field(each) for each in written.schema])))
    query = (
        select(*(series.c[name] for name in SCHEMA.names)).where(series.c.series_id > 0).order_by(series.c.series_id)
    )
    with any_warehouse.warehouse.read() as connection:
        found = bulk_read(connection, query, SCHEMA)
        known = [dict(row._mapping) for row in connection.execute(query)]
    assert found.to_pylist() == known
    assert found["first_point_at"][6 - 1].as_py() == MOMENT + timedelta(microseconds=6)


def _field(each: "pa.Field[pa.DataType]") -> "pa.Field[pa.DataType]":
    return pa.field(each.name, TIME) if pa.types.is_timestamp(each.type) else each


def test_no_rows_are_a_table_without_rows(any_warehouse: Site) -> None:
    with any_warehouse.warehouse.read() as connection:
        found = bulk_read(connection, select(*(series.c[name] for name in SCHEMA.names)), SCHEMA)
    assert found.schema == SCHEMA
    assert found.num_rows == 0
