"""A store that was restored or deleted: the other notices it, and the figures become right again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from builders import at, count, drop, land_points, notification, point, polled, polling, roll_up, rows, warehouse_rows
from conftest import OpenSite, bucket_settings
from restores import copy_lake, copy_warehouse, expected, put_lake, put_warehouse, rolled_up

from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.windows import windows
from meterhouse.archive.seal import archive
from meterhouse.catalog import catalog, commits_behind, snapshot
from meterhouse.collection.collect import collect
from meterhouse.collection.intake import intake
from meterhouse.conversion.step import convert
from meterhouse.doctor import findings_of
from meterhouse.errors import Damaged, WentBack
from meterhouse.mending.mend import mend
from meterhouse.queries.sql import sql_on_lake
from meterhouse.queries.statistics import statistics
from meterhouse.recompute import backfill
from meterhouse.sample_quality.step import judge_hours
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES

DAY = at().date()
TABLES = ("notifications", "samples", "events", "rollups", "quarantine", "derived", "dead_letters")


def some(start: int, many: int = 12) -> list[dict[str, Any]]:
    """Points of two series, five minutes apart."""
    return [point(n * 1.5, at(5 * n), resource=f"r{n % 2}", sample_id=n) for n in range(start, start + many)]


def seal_and_vacuum(site: Site, day: Any = DAY) -> None:
    archive(replace(site, settings=replace(site.settings, vacuum_hours=0)), day)


def figures_of(site: Site) -> tuple[float, float]:
    (row,) = statistics(site, EVERYTHING, "m")
    return row["count"], row["sum"]


# -- the warehouse is older than the lake, or new -------------------------------------------------------------


@pytest.mark.parametrize("restored", [True, False], ids=["restored", "deleted"])
def test_a_warehouse_that_is_older_than_a_seal_catches_up_by_itself(any_warehouse: Site, restored: bool) -> None:
    land_points(any_warehouse, some(0))
    roll_up(any_warehouse)
    before = copy_warehouse(any_warehouse)
    land_points(any_warehouse, some(12))
    roll_up(any_warehouse)
    seal_and_vacuum(any_warehouse)
    site = put_warehouse(any_warehouse, before if restored else {})
    land_points(site, some(24))
    roll_up(site)
    assert rolled_up(site) == expected([*some(0), *some(12), *some(24)])
    assert figures_of(site) == (36, sum(n * 1.5 for n in range(36)))
    assert commits_behind(site) == 0
    assert len(warehouse_rows(site, "SELECT * FROM series")) == 2


def test_files_that_hold_nothing_new_are_not_taken_again(site: Site) -> None:
    land_points(site, some(0))
    seal_and_vacuum(site)
    roll_up(site)
    before = copy_warehouse(site)
    site.lake.append("samples", pa.Table.from_pylist([point(1, at(days=1))], schema=SAMPLES))
    catalog(site)
    seal_and_vacuum(site, at(days=1).date())
    site = put_warehouse(site, before)
    assert catalog(site).samples == 1
    assert [hour.date() for hour in snapshot(site).hours] == [at(days=1).date()]


def test_commits_that_the_log_no_longer_has_are_followed_by_their_files(site: Site) -> None:
    land_points(site, some(0))
    before = copy_warehouse(site)
    land_points(site, some(12))
    for version in (1, 2):
        site.lake.table("samples").create_checkpoint()
        site.lake.filesystem.rm_file(f"{site.lake.uri('samples')}/_delta_log/{version:020}.json")
    site = put_warehouse(site, before)
    roll_up_all(site)
    assert rolled_up(site) == expected([*some(0), *some(12)])


def roll_up_all(site: Site) -> None:
    catalog(site)
    roll_up(site)


def test_roll_ups_that_are_newer_than_the_warehouse_are_computed_again(any_warehouse: Site) -> None:
    counter = [point(n * 10, at(30 * n), type="cumulative", sample_id=n) for n in range(6)]
    land_points(any_warehouse, counter)
    roll_up(any_warehouse)
    before = copy_warehouse(any_warehouse)
    land_points(any_warehouse, [point(15, at(59), type="cumulative", sample_id=99)])
    roll_up(any_warehouse)
    after = warehouse_rows(any_warehouse, "SELECT bucket, increase FROM rollup_1h ORDER BY bucket")
    site = put_warehouse(any_warehouse, before)
    roll_up_all(site)
    assert warehouse_rows(site, "SELECT bucket, increase FROM rollup_1h ORDER BY bucket") == after
    rolled_up(site)


@pytest.mark.parametrize("table", ["rollups", "quarantine"])
@pytest.mark.parametrize("restored", [True, False], ids=["restored", "deleted"])
def test_computed_tables_that_are_older_than_the_warehouse_are_computed_again(
    site: Site, table: str, restored: bool
) -> None:
    land_points(site, [*some(0), point(float("nan"), at(1), sample_id=-1)])
    roll_up(site)
    before = copy_lake(site, f"tables/{table}")
    land_points(site, [*some(12), point(float("nan"), at(61), sample_id=-2)])
    roll_up(site)
    quarantined = rows(site, "quarantine", "sample_id")
    site = put_lake(site, before if restored else {}, f"tables/{table}")
    roll_up_all(site)
    assert rolled_up(site) == expected([*some(0), *some(12)])
    assert rows(site, "quarantine", "sample_id") == quarantined


# -- the lake is older than the warehouse ---------------------------------------------------------------------


def lose_the_end(site: Site, before: dict[str, bytes], how: str) -> Site:
    site = put_lake(site, {} if how == "deleted" else before)
    if how == "restored, then written":
        for batch in (some(48), some(60), some(72)):
            site.lake.append("samples", pa.Table.from_pylist(batch, schema=SAMPLES))
    return site


@pytest.mark.parametrize("how", ["restored", "restored, then written", "deleted"])
def test_a_lake_that_went_back_is_told_of_and_one_command_recovers(any_warehouse: Site, how: str) -> None:
    land_points(any_warehouse, some(0))
    roll_up(any_warehouse)
    before = copy_lake(any_warehouse)
    land_points(any_warehouse, some(12))
    land_points(any_warehouse, [point(7, at(days=2), resource="gone")])
    roll_up(any_warehouse)
    site = lose_the_end(any_warehouse, before, how)
    with pytest.raises(WentBack, match=r"samples went back.*commit.*2\d\d\d-.*meterhouse doctor --mend"):
        catalog(site)
    with pytest.raises(WentBack):
        roll_up(site)
    with pytest.raises(WentBack):
        archive(site, DAY)
    assert [(each.state, "doctor --mend" in str(each)) for each in findings_of(site, "history")] == [("failed", True)]
    site.lake.append("samples", pa.Table.from_pylist(some(24), schema=SAMPLES))
    mend(site)
    assert [each.state for each in findings_of(site, "history")] == ["ok"]
    kept = [] if how == "deleted" else some(0)
    written = [*some(48), *some(60), *some(72)] if how == "restored, then written" else []
    assert rolled_up(site) == expected([*kept, *written, *some(24)])
    assert {row[0] for row in warehouse_rows(site, "SELECT resource_id FROM resources")} == {"r0", "r1"}
    assert len(warehouse_rows(site, "SELECT * FROM series")) == 2
    land_points(site, some(36))
    roll_up(site)
    assert rolled_up(site) == expected([*kept, *written, *some(24), *some(36)])
    assert not [row for row in mend(site) if row["state"] != "ok"]


def test_intake_lands_and_converts_while_the_lake_has_gone_back(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [polling("a", [polled(1, at(1)), polled(2, at(2))])])
    intake(site)
    before = copy_lake(site)
    drop(site.settings.spool, "b.jsonl", [polling("b", [polled(3, at(3))])])
    intake(site)
    site = put_lake(site, before)
    drop(site.settings.spool, "c.jsonl", [polling("c", [polled(4, at(4))])])
    with pytest.raises(WentBack, match="doctor --mend"):
        intake(site)
    assert count(site, "notifications") == 2
    assert sorted(row["volume"] for row in rows(site, "samples")) == [1, 2, 4]
    mend(site)
    drop(site.settings.spool, "d.jsonl", [polling("d", [polled(5, at(5))])])
    intake(site)
    roll_up(site)
    assert sum(count for count, _ in rolled_up(site).values()) == 4


# -- one table of the lake is older than another --------------------------------------------------------------


def volume(name: str) -> int:
    return ord(name) - ord("a") + 1


def drop_batches(site: Site, names: str) -> None:
    for name in names:
        number = volume(name)
        drop(
            site.settings.spool,
            f"{name}.jsonl",
            [polling(f"batch-{name}", [polled(number, at(number), message_id=f"s-{name}")]), notification(name)],
        )
        collect(site)


@pytest.mark.parametrize(
    ("table", "restored", "sealed"),
    [
        ("samples", True, True),
        ("events", False, True),
        ("notifications", True, False),
        ("notifications", False, True),
    ],
)
def test_a_single_table_of_another_time_converts_each_notification_once(
    site: Site, today: Any, table: str, sealed: bool, restored: bool
) -> None:
    drop_batches(site, "a")
    convert(site)
    roll_up_all(site)
    before = copy_lake(site, f"tables/{table}")
    drop_batches(site, "b")
    convert(site)
    roll_up_all(site)
    if sealed:
        seal_and_vacuum(site, today)
    site = put_lake(site, before if restored else {}, f"tables/{table}")
    drop_batches(site, "c")
    if table == "notifications":
        with pytest.raises(WentBack, match="notifications went back"):
            convert(site)
    else:
        convert(site)
    mend(site)
    convert(site)
    roll_up_all(site)
    assert sorted(row["volume"] for row in rows(site, "samples")) == [volume(name) for name in "abc"]
    assert sorted(row["message_id"] for row in rows(site, "events")) == [*"abc"]
    assert sum(count for count, _ in rolled_up(site).values()) == 3


def test_both_stores_may_be_deleted_in_turn(site: Site, today: Any) -> None:
    drop_batches(site, "a")
    convert(site)
    roll_up_all(site)
    seal_and_vacuum(site, today)
    site = put_warehouse(site, {})
    drop_batches(site, "b")
    convert(site)
    roll_up_all(site)
    assert sum(count for count, _ in rolled_up(site).values()) == 2
    site = put_lake(site, {})
    drop_batches(site, "c")
    convert(site)
    with pytest.raises(WentBack):
        roll_up_all(site)
    mend(site)
    drop_batches(site, "d")
    convert(site)
    roll_up_all(site)
    assert sum(total for _, total in rolled_up(site).values()) == sum(volume(name) for name in "cd")
    site = put_warehouse(site, {})
    roll_up_all(site)
    assert sum(total for _, total in rolled_up(site).values()) == sum(volume(name) for name in "cd")


# -- after a seal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asset", ["sample_quality", "rollups", "usage_by_project_and_day", "archive"])
def test_a_backfill_after_a_seal_gives_the_same_figures(any_warehouse: Site, asset: str) -> None:
    land_points(any_warehouse, some(0))
    roll_up(any_warehouse)
    seal_and_vacuum(any_warehouse)
    before = rolled_up(any_warehouse), figures_of(any_warehouse)
    backfill(any_warehouse, asset, at(hours=-1), at(hours=5))
    assert (rolled_up(any_warehouse), figures_of(any_warehouse)) == before


@contextmanager
def replaced_while_reading(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Seal and vacuum after the files of a query are known, and before they are read."""
    lake, listed, opened, done = site.lake, site.lake.files, site.lake.parquet, []

    def replace_once(name: str) -> None:
        if name == "samples" and not done:
            done.append(True)
            seal_and_vacuum(replace(site))

    def files(name: str, **how: Any) -> list[str]:
        found = listed(name, **how)
        replace_once(name)
        return found

    def parquet(name: str, *how: Any, **more: Any) -> Any:
        replace_once(name)
        return opened(name, *how, **more)

    monkeypatch.setattr(lake, "files", files)  # DuckDB reads these
    monkeypatch.setattr(lake, "parquet", parquet)
    yield
    assert done


@pytest.mark.parametrize("reading", ["statistics", "sql", "alarms", "rollup", "quality"])
def test_a_reader_whose_files_are_sealed_and_vacuumed_meanwhile_reads_those_in_their_place(
    site: Site, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    land_points(site, some(0))
    with replaced_while_reading(site, monkeypatch):
        if reading == "statistics":
            assert figures_of(site)[0] == 12
        elif reading == "sql":
            assert sql_on_lake(site, "SELECT count(*) AS n FROM samples").to_pylist() == [{"n": 12}]
        elif reading == "alarms":
            rule = ThresholdRule("m", threshold=0, statistic="count", period=1800)
            assert windows(site, requests_of(rule.wanted()), at(54)).of(0).values == (6,)
        elif reading == "rollup":
            roll_up(site)
        elif reading == "quality":
            judge_hours(site)
    roll_up(site)
    assert rolled_up(site) == expected(some(0))


def test_a_file_that_cannot_be_read_is_named_with_what_to_do(site: Site) -> None:
    land_points(site, some(0))
    (path,) = site.lake.files("samples")
    for content, said in ((b"", "too small"), (b"PAR1" * 50, "cannot be read"), (None, "is missing")):
        if content is None:
            site.lake.filesystem.rm_file(path)
        else:
            site.lake.filesystem.pipe_file(path, content)
        for reading in (
            lambda: statistics(site, EVERYTHING, "m"),
            lambda: roll_up(site),
            lambda: sql_on_lake(site, "SELECT sum(volume) FROM samples"),
            lambda: site.lake.appended("samples", 0),
            lambda: archive(site, DAY),
        ):
            with pytest.raises(Damaged, match=r"part-.*parquet.*doctor --mend") as caught:
                reading()
            if content is None:
                assert said in str(caught.value)


# -- object storage -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("what", ["the warehouse is older", "the lake is older", "a backfill after a seal"])
def test_the_same_holds_for_a_lake_in_a_bucket(open_site: OpenSite, moto_s3: dict[str, str], what: str) -> None:
    site = open_site(**bucket_settings(moto_s3))
    if what == "the warehouse is older":
        test_a_warehouse_that_is_older_than_a_seal_catches_up_by_itself(site, restored=True)
    elif what == "the lake is older":
        test_a_lake_that_went_back_is_told_of_and_one_command_recovers(site, "restored")
    else:
        test_a_backfill_after_a_seal_gives_the_same_figures(site, "rollups")
