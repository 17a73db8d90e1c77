"""Ad-hoc SQL on the lake or the warehouse: one statement that reads, and nothing but the site's tables.

Whoever writes the statement need not be trusted with the machine: no file, server or setting can be reached from it.
What is in the tables can be read, also the URLs of alarms, but without the users and passwords in them: in place of the
tables that have these, a statement sees views of the same names and columns.
"""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from meterhouse.errors import MeterhouseError
from meterhouse.queries.sql_tokens import for_psycopg
from meterhouse.site import Site
from meterhouse.stores.lake_faults import file_of, retried
from meterhouse.stores.sqlite_functions import add_functions
from meterhouse.stores.warehouse_tables import metadata

if TYPE_CHECKING:
    import pyarrow as pa

    from meterhouse.stores.duck import Connection

_EXPLAIN: Final = re.compile(
    r"(?P<how>EXPLAIN(\s+ANALYZE|\s*\(\s*(ANALYZE|FORMAT\s+\w+)(\s*,\s*(ANALYZE|FORMAT\s+\w+))*\s*\))?)(?!\w)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_COMMENT: Final = re.compile(r"\s*(--[^\n]*(\n|\Z)|/\*.*?\*/)", re.DOTALL)
_READING: Final = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN"})
_USERINFO: Final = r"""(://)(?:[^/?#\s"\\]|\\.)*@"""
"""User and password of a URL in JSON, for PostgreSQL and Python."""

_SECRET: Final = {"alarms": "definition", "webhook_credentials": "userinfo"}
"""Table → the column in which there are users and passwords of webhooks."""

_PRAGMAS: Final = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"})
"""What a statement on SQLite may look up; these change nothing."""


@retried
def sql_on_lake(site: Site, query: str) -> "pa.Table":
    """One SELECT or EXPLAIN of DuckDB on the lake; its tables are views of their names.

    Equal names of columns are numbered. An explanation is one column `plan`, a row for each line.

    Raises:
        MeterhouseError: the statement does something else, or DuckDB does not take it.
    """
    import duckdb
    import pyarrow as pa

    from meterhouse.stores.lake_tables import TABLES

    def views(duck: "Connection") -> None:
        for name in TABLES:
            site.lake.view(duck, name, site.lake.files(name))

    with site.lake.connect_locked(views) as duck:
        try:
            how, statement = _reading(duck, query)
            found = duck.sql(how + statement).to_arrow_table()
        except duckdb.Error as error:
            if file_of(error) is not None:  # not the query's fault
                raise
            raise _refused(str(error), "lake") from None
    if how:
        return pa.table({"plan": [line for plan in found["explain_value"].to_pylist() for line in plan.splitlines()]})
    return found.rename_columns(distinct(found.column_names))


def _reading(duck: "Connection", query: str) -> tuple[str, str]:
    """What to run: EXPLAIN with its options or nothing, and a statement that DuckDB's parser calls a SELECT.

    EXPLAIN ANALYZE runs what it explains, so that is parsed by itself, and exactly that is run.

    Raises:
        MeterhouseError: it is something else.
        duckdb.Error: it cannot be parsed.
    """
    import duckdb

    explain = _EXPLAIN.match(_without_comments(query))
    how, rest = (f"{explain['how']} ", explain["rest"]) if explain else ("", query)
    statements = duck.extract_statements(rest)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise _refused("only one SELECT, or EXPLAIN of one, is allowed", "lake")
    return how, statements[0].query


def _without_comments(query: str) -> str:
    while found := _COMMENT.match(query):
        query = query[found.end() :]
    return query.strip()


def sql_on_warehouse(
    site: Site, query: str, parameters: Mapping[str, datetime] | None = None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """One reading statement on the warehouse: names of columns, equal ones numbered, and rows.

    Args:
        site: the site.
        query: the statement; with parameters, `:NAME` stands for one.
        parameters: aware times by name; None if a colon in the statement has no meaning.

    Raises:
        MeterhouseError: the statement does not only read, or the database does not take it.
    """
    first = re.match(r"\(*\s*(\w*)", _without_comments(query))
    if first is None or first[1].upper() not in _READING | ({"PRAGMA"} if site.warehouse.is_sqlite else set()):
        raise _refused("only one SELECT, or EXPLAIN of one, is allowed", "warehouse")
    names, rows = (_on_sqlite if site.warehouse.is_sqlite else _on_postgres)(site, query, parameters)
    return distinct(names), rows


def _on_sqlite(
    site: Site, query: str, parameters: Mapping[str, datetime] | None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a statement on a connection of its own, which can only read this one file."""
    from sqlalchemy.engine import make_url

    with site.warehouse.read():  # creates or checks the schema
        path = Path(make_url(site.warehouse.url).database or "").absolute()
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=60)
        try:
            add_functions(connection)
            connection.create_function("without_userinfo", 1, _without_userinfo, deterministic=True)
            for view in _views("main", "without_userinfo({})"):
                connection.execute(view)
            connection.set_authorizer(_allow)
            cursor = connection.execute(query, sqlite_times(parameters))
            return [column[0] for column in cursor.description or ()], cursor.fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _refused(str(error), "warehouse") from None


def sqlite_times(parameters: Mapping[str, datetime] | None) -> dict[str, str]:
    """Times by name, each as the warehouse keeps it in SQLite."""
    return {
        name: moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        for name, moment in (parameters or {}).items()
    }


def _views(schema: str, shown: str) -> list[str]:
    """What makes the views that stand for the tables with secrets; `shown` is how a definition is shown."""
    made = []
    for name, secret in _SECRET.items():
        how = shown.format(secret) if name == "alarms" else "CAST(NULL AS TEXT)"
        columns = (f"{how} AS {secret}" if each.name == secret else each.name for each in metadata.tables[name].columns)
        made.append(f'CREATE TEMP VIEW {name} AS SELECT {", ".join(columns)} FROM "{schema}".{name}')
    return made


def _without_userinfo(text: str | None) -> str | None:
    return re.sub(_USERINFO, r"\1", text) if isinstance(text, str) else text


def _allow(action: int, name: str | None, value: str | None, database: str | None, trigger: str | None) -> int:
    """Whether SQLite may do this for a statement: read, and call functions that do not reach out of the database."""
    if action == sqlite3.SQLITE_READ and name is not None and _SECRET.get(name) == value and database == "main":
        return sqlite3.SQLITE_OK if trigger == name else sqlite3.SQLITE_IGNORE  # by its view, or else null
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and value != "load_extension":
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and name in _PRAGMAS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _on_postgres(
    site: Site, query: str, parameters: Mapping[str, datetime] | None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Run a statement in a read-only transaction that it cannot leave."""
    import psycopg

    if parameters is not None:
        query = for_psycopg(query)
    with site.warehouse.read() as connection:
        raw = connection.connection.driver_connection
        if not isinstance(raw, psycopg.Connection):
            raise TypeError(f"the driver of PostgreSQL is {type(raw).__name__}")
        try:
            with raw.cursor(binary=True) as cursor:  # binary: by a protocol that takes only one statement
                if any(name in query.lower() for name in _SECRET):
                    cursor.execute("SET TRANSACTION READ WRITE")
                    (schema,) = cursor.execute("SELECT current_schema()").fetchone() or ("public",)
                    pattern = _USERINFO.replace("'", "''")
                    for view in _views(str(schema), f"regexp_replace({{}}, '{pattern}', '\\1', 'g')"):
                        cursor.execute(view.encode())
                cursor.execute("SET TRANSACTION READ ONLY")
                if parameters is not None:  # a report, which takes longer to compile than to run
                    cursor.execute("SET LOCAL jit = off")
                cursor.execute("SELECT 1")  # after a first query, no function can make the transaction writing again
                cursor.execute(query.encode(), parameters)
                names = [column.name for column in cursor.description or ()]
                return names, cursor.fetchall()
        except psycopg.Error as error:
            raise _refused(str(error), "warehouse") from None
        finally:
            connection.invalidate()  # the connection may hold locks and settings that a function took


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind each that was there before: `a`, `a_2`."""
    taken, made = set(names), list[str]()
    for name in names:
        unique, number = name, 1
        while unique in made or (number > 1 and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        made.append(unique)
    return made


def _refused(said: str, store: str) -> MeterhouseError:
    line = next((line for line in said.splitlines() if line.strip()), "the statement cannot be run")
    return MeterhouseError(
        line.strip().rstrip("."), where=f"SQL on the {store}", hint="`meterhouse sql --help` lists the tables"
    )
