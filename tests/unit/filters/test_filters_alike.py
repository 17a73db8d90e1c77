"""Any condition finds the same rows in DuckDB, SQLite and PostgreSQL, and those that plain Python finds."""

from typing import Any

import pyarrow as pa
from conditions import CONDITIONS, FIELDS, KEYS, ROWS, TEXTS, as_json, as_text, canonical, holds
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, delete, insert, select

from meterhouse.filters import (
    Condition,
    Field,
    Fields,
    Filter,
    Match,
    Not,
    compares_texts,
    from_json,
    on_lake,
    on_texts,
    on_warehouse,
    parse,
)
from meterhouse.filters.warehouse import metadata_value
from meterhouse.site import Site
from meterhouse.stores import duck
from meterhouse.stores.lake_tables import TIME, TRAIT
from meterhouse.stores.warehouse_tables import UtcTime

Rows = list[dict[str, Any]]

MANY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
FEWER = settings(MANY, max_examples=100)
NOTHING: Rows = [{"resource_id": None, "project_id": None, "seen": None, "metadata": None}]

TRAITS: Fields = {**FIELDS, "traits.": Field("traits", "loose")}

NAMES = ("resource_id", "project_id")

LANGUAGE = Text().with_variant(Text(collation="en-x-icu"), "postgresql")
"""Texts in the order of a language, as many databases have them: a before B."""

ALIKE = Table(
    "alike",
    MetaData(),
    Column("row", BigInteger),
    Column("resource_id", LANGUAGE),
    Column("project_id", LANGUAGE),
    Column("seen", UtcTime),
    Column("metadata", LANGUAGE),
)


def stored(rows: Rows) -> Rows:
    return [
        {**row, "row": n, "metadata": None if row["metadata"] is None else canonical(row["metadata"])}
        for n, row in enumerate(rows)
    ]


def expected(condition: Condition, rows: Rows) -> list[int]:
    return [n for n, row in enumerate(rows) if holds(condition, row)]


def test_in_the_lake() -> None:
    connection = duck.connect()

    @MANY
    @given(CONDITIONS, st.lists(ROWS, min_size=1, max_size=10))
    @example(Not(Filter("metadata.a", "eq", "1", FIELDS)), NOTHING)
    @example(Match("resource", "a$", True, FIELDS), [{**NOTHING[0], "resource_id": "a\n"}])
    @example(Filter("resource", "lt", "a", FIELDS), [{**NOTHING[0], "resource_id": "B"}])
    @example(Filter("metadata.a", "lt", "a", FIELDS), [{**NOTHING[0], "metadata": {"a": "B"}}])
    def check(condition: Condition, rows: Rows) -> None:
        text = pa.string()
        schema = pa.schema(
            [("row", pa.int64()), *((name, text) for name in ("resource_id", "project_id", "metadata")), ("seen", TIME)]
        )
        connection.register("alike", pa.Table.from_pylist(stored(rows), schema=schema))
        sql, values = on_lake(condition)
        found = connection.execute(f"SELECT row FROM alike WHERE {sql} ORDER BY row", values).fetchall()
        assert [row for (row,) in found] == expected(condition, rows)

    check()


def test_of_texts_on_arrow_tables() -> None:
    @MANY
    @given(CONDITIONS, st.lists(ROWS, min_size=1, max_size=10))
    @example(Not(Filter("project", "ne", "a", FIELDS)), NOTHING)
    @example(Filter("resource", "lt", "a", FIELDS), [{**NOTHING[0], "resource_id": "B"}])
    def check(condition: Condition, rows: Rows) -> None:
        if compares_texts(condition):
            table = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in NAMES})
            assert on_texts(condition, table).nonzero()[0].tolist() == expected(condition, rows)

    check()


def test_traits_compare_as_metadata_does() -> None:
    connection = duck.connect()
    traits_of_rows = st.lists(st.dictionaries(st.sampled_from(KEYS), TEXTS, max_size=4), min_size=1, max_size=10)

    @FEWER
    @given(CONDITIONS, traits_of_rows)
    def check(condition: Condition, given: list[dict[str, str]]) -> None:
        rows: Rows = [{**NOTHING[0], "metadata": traits} for traits in given]
        lists = [[{"name": k, "dtype": "text", "value": v} for k, v in traits.items()] for traits in given]
        schema = pa.schema([*((name, pa.string()) for name in ("resource_id", "project_id")), ("seen", TIME)])
        columns = [pa.nulls(len(rows), field.type) for field in schema]
        table = pa.Table.from_arrays(columns, schema=schema).append_column("row", pa.array(range(len(rows))))
        connection.register("alike", table.append_column("traits", pa.array(lists, pa.list_(TRAIT))))
        sql, values = on_lake(parse(as_text(condition).replace("metadata.", "traits."), TRAITS))
        found = connection.execute(f"SELECT row FROM alike WHERE {sql} ORDER BY row", values).fetchall()
        assert [row for (row,) in found] == expected(condition, rows)

    check()


def test_in_the_warehouse(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse
    with warehouse.begin() as connection:
        ALIKE.create(connection)

    def column(field: Any) -> Any:
        if field.key:
            return metadata_value(ALIKE.c.metadata, field.key, warehouse.is_sqlite)
        return ALIKE.c[field.column]

    @FEWER
    @given(CONDITIONS, st.lists(ROWS, min_size=1, max_size=10))
    @example(Not(Filter("metadata.a", "eq", "1", FIELDS)), NOTHING)
    @example(Match("resource", "a$", True, FIELDS), [{**NOTHING[0], "resource_id": "a\n"}])
    @example(Filter("resource", "lt", "a", FIELDS), [{**NOTHING[0], "resource_id": "B"}])
    @example(Filter("metadata.a", "lt", "a", FIELDS), [{**NOTHING[0], "metadata": {"a": "B"}}])
    def check(condition: Condition, rows: Rows) -> None:
        query = select(ALIKE.c.row).where(on_warehouse(condition, column)).order_by(ALIKE.c.row)
        with warehouse.begin() as connection:
            connection.execute(delete(ALIKE))
            connection.execute(insert(ALIKE), stored(rows))
            found = list(connection.execute(query).scalars())
        assert found == expected(condition, rows)

    check()


@MANY
@given(CONDITIONS)
def test_a_condition_is_the_same_as_text_and_as_json(condition: Condition) -> None:
    assert parse(as_text(condition), FIELDS) == condition
    assert from_json(as_json(condition), FIELDS) == condition
