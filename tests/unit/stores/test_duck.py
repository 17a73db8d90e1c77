"""DuckDB's databases: connections share memory and threads, and nothing else."""

import os

import duckdb
import pytest

from meterhouse.stores.duck import Connection, Database, one


def setting(connection: Connection, name: str) -> object:
    return one(connection, f"SELECT current_setting('{name}')")[0]


def test_views_tables_and_settings_are_of_one_connection() -> None:
    database = Database()
    with database.connect() as first, database.connect() as second:
        first.execute("CREATE TEMP VIEW points AS SELECT 1")
        first.execute("SET preserve_insertion_order = true")
        with pytest.raises(duckdb.CatalogException):
            second.execute("FROM points")
        second.execute("CREATE TEMP TABLE points AS SELECT 2")
        assert (one(first, "FROM points"), one(second, "FROM points")) == ((1,), (2,))
    with database.connect() as third, pytest.raises(duckdb.CatalogException):
        third.execute("FROM points")


def test_every_connection_is_in_utc_and_has_the_limits() -> None:
    database = Database("64MB", threads=1)
    with database.connect() as connection:
        found = [setting(connection, name) for name in ("TimeZone", "threads", "memory_limit")]
    assert found == ["UTC", 1, "61.0 MiB"]


@pytest.mark.parametrize("error", [duckdb.FatalException, duckdb.InternalException])
def test_a_database_that_failed_is_opened_anew(error: type[Exception]) -> None:
    database = Database()
    with database.connect() as connection:
        connection.execute("ATTACH ':memory:' AS mark")
    with pytest.raises(error), database.connect():
        raise error("invalidated")
    with database.connect() as connection:
        assert one(connection, "SELECT count(*) FROM duckdb_databases() WHERE database_name = 'mark'") == (0,)


def test_other_errors_leave_it_open() -> None:
    database = Database()
    with database.connect() as connection:
        connection.execute("ATTACH ':memory:' AS mark")
        with pytest.raises(duckdb.ParserException):
            connection.execute("SELEC")
    with pytest.raises(ValueError, match="the caller's"), database.connect():
        raise ValueError("the caller's")
    with database.connect() as connection:
        assert one(connection, "SELECT count(*) FROM duckdb_databases() WHERE database_name = 'mark'") == (1,)


def test_a_forked_process_opens_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database()
    with database.connect() as connection:
        connection.execute("ATTACH ':memory:' AS mark")
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with database.connect() as connection:
        assert one(connection, "SELECT count(*) FROM duckdb_databases() WHERE database_name = 'mark'") == (0,)
