"""SQL of users: it reads the site's tables, and reaches nothing else."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from builders import at, count, drop, polled, polling
from sqlalchemy import insert, text

from meterhouse import times
from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.callers import OPERATOR
from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.errors import MeterhouseError
from meterhouse.queries.sql import distinct, sql_on_lake, sql_on_warehouse
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.warehouse_tables import metadata, webhook_credentials

SECRET = "not for everybody"


@pytest.fixture
def filled(any_site: Site) -> Site:
    """A site of each kind with two samples."""
    drop(any_site.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at(1)), polled(2.0, at(2))])])
    collect(any_site)
    convert(any_site)
    catalog(any_site)
    return any_site


def test_every_table_can_be_read(filled: Site) -> None:
    assert sql_on_lake(filled, "SELECT sum(volume) AS s FROM samples").to_pylist() == [{"s": 3.0}]
    for name in TABLES:
        assert sql_on_lake(filled, f"/* all */ FROM {name} -- of them\n;").num_rows >= 0
    for name in metadata.tables:
        sql_on_warehouse(filled, f"SELECT * FROM {name}")
    assert sql_on_warehouse(filled, "SELECT ':x', '%s', 5 % 2, meter FROM series")[1] == [(":x", "%s", 1, "cpu_util")]


def test_users_and_passwords_of_webhooks_are_not_shown(any_site: Site) -> None:
    urls = ["https://user:hush@h.example.org/a?b=c@d", 'trust+https://hush"hush:delete@h/', "https://h/plain"]
    rule = {"meter_name": "m", "threshold": 1}
    made = managed.create(any_site, {"name": "a", "threshold_rule": rule, "alarm_actions": urls}, OPERATOR)
    with any_site.warehouse.begin() as connection:
        kept = {"alarm_id": made["alarm_id"], "url": "https://h/", "userinfo": "user:hush", "kept_at": times.now()}
        connection.execute(insert(webhook_credentials).values(**kept))
    ((name, definition),) = sql_on_warehouse(any_site, "SELECT a.name, a.definition FROM alarms AS a")[1]
    assert (name, json.loads(definition)["alarm_actions"]) == (
        "a",
        ["https://h.example.org/a?b=c@d", "trust+https://h/", "https://h/plain"],
    )
    for query in ("alarms", "webhook_credentials", "(SELECT upper(definition) FROM alarms) AS x"):
        assert "hush" not in str(sql_on_warehouse(any_site, f"SELECT * FROM {query}")[1]).lower()
    if any_site.warehouse.is_sqlite:  # nor by the table's full name
        assert sql_on_warehouse(any_site, "SELECT definition FROM main.alarms")[1] == [(None,)]
        assert sql_on_warehouse(any_site, "SELECT userinfo FROM main.webhook_credentials")[1] == [(None,)]


def test_a_query_is_explained_and_equal_names_of_columns_are_kept(filled: Site) -> None:
    for how in ("EXPLAIN", "-- why\nexplain analyze", "EXPLAIN (FORMAT json)"):
        plan = sql_on_lake(filled, f"{how} SELECT count(*) FROM samples")["plan"].to_pylist()
        assert len(plan) > 1
        assert not any("\n" in line for line in plan)
    assert sql_on_warehouse(filled, "EXPLAIN SELECT * FROM series")[1]
    twice = "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a"
    assert sql_on_lake(filled, twice).to_pylist() == [{"a": 1, "a_3": 2, "a_2": 3, "a_4": 4}]
    assert sql_on_warehouse(filled, twice) == (["a", "a_3", "a_2", "a_4"], [(1, 2, 3, 4)])
    assert distinct(["x", "x", "x"]) == ["x", "x_2", "x_3"]


def test_what_lies_beside_the_tables_cannot_be_read_wherever_the_lake_is(filled: Site) -> None:
    uri = filled.lake.put("exports/secret.csv", SECRET.encode())
    for place in (uri, f"{filled.lake.url}/tables/../exports/secret.csv", f"{filled.lake.url}/*/*"):
        for function in ("read_text", "read_blob", "read_csv", "glob"):
            # An object store has no folders, so that `..` is part of a name there, which no object has.
            with suppress(MeterhouseError):
                assert sql_on_lake(filled, f"FROM {function}('{place}')").num_rows == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ATTACKS = [
    "COPY (SELECT 1) TO '{lake}/tables/samples/b.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{lake}/tables/samples/b.csv'",
    "/**/ explain (analyze) copy (SELECT 1) TO '{lake}/tables/samples/b.csv'",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{lake}/tables/samples/b.csv'",
    "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1) TO '{lake}/tables/samples/b.csv'",
    "SELECT 1; COPY (SELECT 1) TO '{lake}/tables/samples/b.csv'",
    "PREPARE p AS COPY (SELECT 1) TO '{lake}/tables/samples/b.csv'",
    "EXPORT DATABASE '{lake}/tables/x'",
    "ATTACH '{lake}/tables/x.db'",
    "ATTACH '{secret}' AS x (TYPE sqlite)",
    "CREATE TABLE x AS FROM '{secret}'",
    "INSERT INTO samples VALUES (1)",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "INSTALL httpfs",
    "LOAD httpfs",
    "USE memory",
    "CHECKPOINT",
    "BEGIN",
    "FROM '{secret}'",
    "FROM read_csv('{secret}')",
    "FROM read_text('{secret}')",
    "FROM read_blob('{secret}')",
    "FROM read_json('{secret}')",
    "FROM parquet_metadata('{secret}')",
    "FROM sniff_csv('{secret}')",
    "FROM glob('{folder}/*')",
    "FROM read_text('{lake}/tables/../../secret.csv')",
    "FROM glob('{lake}/tables/../../*')",
    "FROM 'http://127.0.0.1:1/x.csv'",
    "FROM 's3://bucket/x.parquet'",
    "SELECT getenv('HOME')",
    "FROM query('COPY (SELECT 1) TO ''{lake}/tables/samples/b.csv''')",
    "SELECT * FROM site",
    "FROM TABLES",
    "",
    ";",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_sql_on_the_lake_reaches_nothing_but_its_tables(site: Site, attack: str) -> None:
    home = site.settings.home_path
    secret = home / "secret.csv"
    secret.write_text(SECRET)
    for name in TABLES:
        site.lake.table(name)
    before = contents(home)
    with pytest.raises(MeterhouseError) as caught:
        sql_on_lake(site, attack.format(lake=site.lake.url, secret=secret, folder=home))
    assert SECRET not in str(caught.value)
    assert contents(home) == before


@pytest.mark.parametrize(
    "attack",
    [
        "ATTACH '{folder}/x.db' AS x",
        "VACUUM INTO '{folder}/x.db'",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = OFF",
        "SELECT load_extension('x')",
        "DELETE FROM leases",
        "WITH a AS (SELECT 1) DELETE FROM leases",
        "EXPLAIN DELETE FROM leases",
        "SELECT 1; DELETE FROM leases",
        "CREATE TEMP TABLE x (a)",
        "SELECT writefile('{folder}/x', 'y')",
        "BEGIN",
        "",
    ],
)
def test_sql_on_sqlite_reads_one_file_and_changes_nothing(site: Site, attack: str) -> None:
    with site.warehouse.begin() as connection:
        connection.execute(text("INSERT INTO stream_queues (place) VALUES ('q')"))
    with pytest.raises(MeterhouseError, match="SQL on the warehouse"):
        sql_on_warehouse(site, attack.format(folder=site.settings.home_path))
    assert not (site.settings.home_path / "x.db").exists()
    assert sql_on_warehouse(site, "SELECT count(*) FROM stream_queues")[1] == [(1,)]


@pytest.mark.service
@pytest.mark.parametrize(
    "attack",
    [
        "DELETE FROM runs",
        "WITH gone AS (DELETE FROM runs RETURNING *) SELECT * FROM gone",
        "EXPLAIN ANALYZE DELETE FROM runs",
        "SELECT 1; COMMIT; DELETE FROM runs",
        "SELECT 1; SET TRANSACTION READ WRITE; DELETE FROM runs",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "DO $$ BEGIN DELETE FROM runs; END $$",
        "COPY runs TO PROGRAM 'cat'",
        "SET default_transaction_read_only = off",
        "CREATE TEMP TABLE x (a int)",
    ],
)
def test_sql_on_postgres_changes_nothing(postgres_warehouse: str, open_site, attack: str) -> None:
    site = open_site(warehouse_url=postgres_warehouse)
    site.warehouse.record_run("collect", at(), {"a": 1})
    with pytest.raises(MeterhouseError, match="SQL on the warehouse"):
        sql_on_warehouse(site, attack)
    assert sql_on_warehouse(site, "SELECT count(*) AS n FROM runs") == (["n"], [(1,)])
    site.warehouse.record_run("collect", at(), {"a": 1})  # the pool's connections write as before
    assert sql_on_warehouse(site, "SELECT count(*) FROM runs")[1] == [(2,)]


def test_equal_names_come_out_of_every_format(run, site: Site) -> None:
    assert count(site, "samples") == 0
    done = run("sql", "SELECT 1 AS a, 2 AS a", "--json")
    assert json.loads(done.stdout) == {"a": 1, "a_2": 2}
