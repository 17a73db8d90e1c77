"""The warehouse: its schema, bulk inserts and locks, in SQLite and in PostgreSQL."""

import math
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError

from meterhouse import shipped, times
from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert, upsert
from meterhouse.stores.warehouse import HEAD_REVISION, Warehouse
from meterhouse.stores.warehouse_partitions import make_room
from meterhouse.stores.warehouse_tables import daily, metadata, quality_daily, resources, series

TIME = pa.timestamp("us", tz="UTC")


def test_the_revision_is_that_of_the_newest_migration(any_warehouse: Site) -> None:
    scripts = ScriptDirectory(str(shipped.MIGRATIONS))
    assert scripts.get_heads() == [HEAD_REVISION]
    assert any_warehouse.warehouse.revision() == HEAD_REVISION


def test_the_migrated_schema_is_that_of_the_metadata(any_warehouse: Site) -> None:
    with any_warehouse.warehouse.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_a_shared_warehouse_of_another_revision_is_refused_and_says_what_to_do(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse
    with warehouse.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    if warehouse.is_sqlite:
        with pytest.raises(Exception, match="0000"):  # an embedded one is upgraded, but this revision is unknown
            warehouse.check_schema()
    else:
        with pytest.raises(MeterhouseError, match=f"revision 0000, this version needs {HEAD_REVISION}.*migrate"):
            warehouse.check_schema()


def test_processes_that_open_an_empty_warehouse_together_create_it_once(tmp_path: Path) -> None:
    faults: list[BaseException] = []

    def open_it() -> None:
        warehouse = Warehouse(f"sqlite:///{tmp_path}/w.db")
        try:
            warehouse.check_schema()
        except BaseException as error:
            faults.append(error)
        finally:
            warehouse.engine.dispose()

    threads = [threading.Thread(target=open_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


ODD = [
    'quote " and , comma',
    "line\nbreak\r\n",
    "",
    None,
    "\\.",
    "\\N",
    "null",
    "ünïcödé 🙂",
    "tab\t",
    "'; DROP TABLE series",
]


def odd_series() -> pa.Table:
    count = len(ODD)
    return pa.table(
        {
            "series_id": pa.array([-(2**63), 2**63 - 1, *range(count - 2)], pa.int64()),
            "source": ["s"] * count,
            "meter": [text or "m" for text in ODD],
            "type": ["gauge"] * count,
            "unit": pa.array(ODD, pa.string()),
            "resource_id": pa.array(ODD, pa.string()),
            "first_point_at": pa.array([datetime(1970, 1, 1, tzinfo=UTC)] * count, TIME),
            "last_point_at": pa.array([datetime(2262, 4, 11, 23, 47, 16, 854775, tzinfo=UTC)] * count, TIME),
        }
    )


def test_texts_and_times_come_back_as_they_were_inserted(any_warehouse: Site) -> None:
    given = odd_series()
    with any_warehouse.warehouse.begin() as connection:
        bulk_insert(connection, "series", pa.concat_tables([given.schema.empty_table(), given]))
    with any_warehouse.warehouse.read() as connection:
        found = {row.series_id: row for row in connection.execute(select(series))}
    for row in given.to_pylist():
        kept = found[row["series_id"]]._mapping
        assert {name: kept[name] for name in row} == row
        assert kept["project_id"] is None
        assert kept["last_point_at"].tzinfo is UTC or kept["last_point_at"].utcoffset() == timedelta(0)


def test_a_text_with_a_nul_does_not_block_the_rest(any_warehouse: Site) -> None:
    land_points(any_warehouse, [point(1, resource="a\x00b"), point(2, resource="c")])
    found = sorted(row[0] for row in warehouse_rows(any_warehouse, "SELECT resource_id FROM series"))
    assert len(found) == 2
    assert found[1] == "c"


def test_numbers_and_days_come_back_as_they_were_inserted(any_warehouse: Site) -> None:
    numbers = [0.1, -0.0, 1e308, 5e-324, math.inf, -math.inf, None, math.nan]
    with any_warehouse.warehouse.begin() as connection:
        make_room(connection, daily, [at()])
        bulk_insert(
            connection,
            "rollup_1d_rows",
            pa.table(
                {
                    "series_id": pa.array(range(len(numbers)), pa.int64()),
                    "bucket": pa.array([at()] * len(numbers), TIME),
                    "count": pa.array([1] * len(numbers), pa.int64()),
                    "sum": pa.array(numbers, pa.float64()),
                    "first_at": pa.array([None] * len(numbers), TIME),
                    "excluded": pa.array([0] * len(numbers), pa.int64()),
                }
            ),
        )
        flagged = pa.table(
            {
                "day": pa.array([date(2026, 2, 28), date(1970, 1, 1)], pa.date32()),
                "hour": pa.array([at(), at(0.001)], TIME),
                "meter": ["m", "n"],
                "rule": ["r", "r"],
                "severity": ["warning", "critical"],
                "flagged": pa.array([1, 2**62], pa.int64()),
            }
        )
        # pyarrow's CSV of a chunk without rows would be garbage.
        bulk_insert(connection, "quality_daily", pa.concat_tables([flagged.schema.empty_table(), flagged]))
    with any_warehouse.warehouse.read() as connection:
        found = connection.execute(select(daily.c.sum).order_by(daily.c.series_id)).scalars().all()
        days = connection.execute(select(quality_daily).order_by(quality_daily.c.meter)).all()
    assert found[:7] == numbers[:7]
    # SQLite has no NaN: it stores a null.
    assert found[7] is None if any_warehouse.warehouse.is_sqlite else math.isnan(found[7])
    assert [tuple(day) for day in days] == [
        (date(2026, 2, 28), at(), "m", "r", "warning", 1),
        (date(1970, 1, 1), at(0.001), "n", "r", "critical", 2**62),
    ]


def test_an_upsert_inserts_what_is_new_and_updates_the_rest(any_warehouse: Site) -> None:
    def resource(name: str, project: str | None, metadata_id: int | None) -> dict[str, Any]:
        return {"source": "s", "resource_id": name, "project_id": project, "metadata_id": metadata_id}

    def put(rows: list[dict[str, Any]], updates: list[str]) -> None:
        table = pa.Table.from_pylist(
            [{**row, "first_sample_at": at(), "last_sample_at": at()} for row in rows],
            schema=pa.schema(
                [
                    *((name, pa.string()) for name in ("source", "resource_id", "project_id")),
                    ("metadata_id", pa.int64()),
                    ("first_sample_at", TIME),
                    ("last_sample_at", TIME),
                ]
            ),
        )
        with any_warehouse.warehouse.begin() as connection:
            upsert(connection, resources, table, updates)

    put([resource("a", "p", 1), resource("b", None, None)], [])
    put([resource("a", "q", 2)], [])
    put([resource("b", "q", 2), resource("c", "", 3)], ["metadata_id = excluded.metadata_id"])
    put([], [])
    found = warehouse_rows(any_warehouse, "SELECT resource_id, project_id, metadata_id FROM resources ORDER BY 1")
    assert found == [("a", "p", 1), ("b", None, 2), ("c", "", 3)]


def test_a_failed_transaction_leaves_nothing(any_warehouse: Site) -> None:
    def fail() -> None:
        with any_warehouse.warehouse.begin() as connection:
            bulk_insert(connection, "series", odd_series())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert warehouse_rows(any_warehouse, "SELECT count(*) FROM series") == [(0,)]


def test_a_reader_sees_one_state_and_waits_for_no_writer(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse
    with warehouse.read() as reading:
        assert reading.execute(text("SELECT count(*) FROM series")).scalar() == 0
        with warehouse.begin() as connection:
            bulk_insert(connection, "series", odd_series())
        assert reading.execute(text("SELECT count(*) FROM series")).scalar() == 0
    assert warehouse_rows(any_warehouse, "SELECT count(*) FROM series") == [(len(ODD),)]


def test_a_lock_is_held_by_one_at_a_time(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse
    inside, most = [], []

    def run() -> None:
        for _ in range(5):
            with warehouse.lock("lake/samples"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.002)
                inside.pop()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (20, 1)


def test_a_database_that_does_not_answer_is_named_without_its_password(open_site: OpenSite) -> None:
    site = open_site(warehouse_url="postgresql+psycopg://u:hunter2@127.0.0.1:1/d")  # landing does not need it
    with pytest.raises(Unavailable, match="warehouse cannot be used") as caught, site.warehouse.read():
        pass
    assert "postgresql+psycopg://u:***@127.0.0.1:1/d" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_runs_keep_their_figures(any_warehouse: Site) -> None:
    started = times.now()
    any_warehouse.warehouse.record_run("step", started, {"rows": 3, "when": started})
    ((step, figures),) = warehouse_rows(any_warehouse, "SELECT step, figures FROM runs")
    assert step == "step"
    assert '"rows": 3' in figures


def test_a_reading_transaction_cannot_write_and_leaves_no_trace(any_warehouse: Site) -> None:
    change = text("INSERT INTO stream_queues (place) VALUES ('q')")
    with pytest.raises((MeterhouseError, DatabaseError)), any_warehouse.warehouse.read() as connection:
        connection.execute(change)
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(change)
    with any_warehouse.warehouse.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM stream_queues")).scalar() == 1


def test_runs_are_in_the_order_in_which_they_ended_whatever_the_clock_says(
    any_warehouse: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = times.now()
    for number in range(3):
        monkeypatch.setattr(times, "now", lambda number=number: present - timedelta(days=number))
        any_warehouse.warehouse.record_run(f"step{number}", times.now(), {})
    assert warehouse_rows(any_warehouse, "SELECT step FROM runs ORDER BY sequence") == [
        ("step0",),
        ("step1",),
        ("step2",),
    ]
