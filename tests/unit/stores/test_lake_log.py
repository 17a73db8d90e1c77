"""The log of a table stays short, and whoever is behind loses nothing and takes nothing twice."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import at, count, drop, land_points, point, polled, polling, rows
from conftest import OpenSite, bucket_settings

from meterhouse import times, upkeep
from meterhouse.catalog import catalog, snapshot
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.site import Site
from meterhouse.stores import lake_log
from meterhouse.stores.lake import PROPERTIES, Lake
from meterhouse.stores.lake_tables import SAMPLES


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints come soon, and a log is shortened soon."""
    monkeypatch.setitem(PROPERTIES, "delta.checkpointInterval", "5")
    for name in ("EVERY", "IN_LOG"):
        monkeypatch.setattr(lake_log, name, 5)
    monkeypatch.setattr(lake_log.shorten, "__defaults__", (5,))


def append(lake: Lake, number: int, first: int = 0) -> None:
    for n in range(first, first + number):
        lake.append("samples", pa.Table.from_pylist([point(n, at(n), sample_id=n)], schema=SAMPLES))


def log_of(lake: Lake, table: str = "samples") -> list[Path]:
    return sorted(Path(lake.uri(table), "_delta_log").glob("*.json"))


@pytest.mark.usefixtures("short")
def test_a_log_stays_short_and_every_version_can_be_read(tmp_path: Path) -> None:
    lake, other = Lake(str(tmp_path)), Lake(str(tmp_path))
    append(lake, 1)
    assert other.version("samples") == 1  # a process that is idle from now on
    append(lake, 26, 1)
    assert len(log_of(lake)) <= 10
    for reader in (lake, other, Lake(str(tmp_path))):
        assert reader.version("samples") == 27
        assert [reader.actions("samples", version).num_rows for version in range(28)] == list(range(28))
        found = reader.appended("samples", 3)
        assert found is not None
        assert sorted(found.rows["volume"].to_pylist()) == list(range(3, 27))
    append(other, 1, 27)
    assert lake.version("samples") == 28


def test_of_many_checkpoints_a_few_are_kept_and_every_version_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROPERTIES, "delta.checkpointInterval", "2")
    for name, number in (("EVERY", 10), ("IN_LOG", 5)):
        monkeypatch.setattr(lake_log, name, number)
    monkeypatch.setattr(lake_log.shorten, "__defaults__", (5,))
    lake = Lake(str(tmp_path))
    append(lake, 45)
    older = [path.name for path in (tmp_path / "older" / "samples" / "_delta_log").glob("*.checkpoint.parquet")]
    assert len(older) <= 2 * 4  # of 20
    assert len(list(Path(lake.uri("samples"), "_delta_log").glob("*.checkpoint.parquet"))) <= 8
    lake.clean_log("samples", at(), [])  # which deletes no commit: none is so old
    reader = Lake(str(tmp_path))
    assert [reader.actions("samples", version).num_rows for version in range(46)] == list(range(46))


@pytest.mark.usefixtures("short")
def test_a_kill_while_a_log_is_shortened_leaves_all_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path))
    monkeypatch.setattr(lake_log, "EVERY", 10_000)
    append(lake, 23)
    moved, replace = iter(range(4)), Path.replace

    def dies(path: Path, target: Any) -> Path:
        if next(moved, None) is None:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        lake.clean_log("samples", at(), [])
    monkeypatch.undo()
    for _ in range(2):
        reader = Lake(str(tmp_path))
        assert [reader.actions("samples", version).num_rows for version in range(24)] == list(range(24))
        assert len(list(reader.commits("samples", 0, 23))) == 23
        lake_log.shorten(lake.filesystem, *lake._log_folders("samples"), in_log=5)


@pytest.mark.usefixtures("short")
def test_a_long_log_of_an_earlier_release_is_shortened_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(lake_log, "EVERY", 10_000)
        append(Lake(str(tmp_path)), 23)
    monkeypatch.setattr(lake_log, "LONG", 20)
    assert Lake(str(tmp_path)).version("samples") == 23
    assert len(log_of(Lake(str(tmp_path)))) <= 5


@pytest.mark.usefixtures("short")
def test_a_commit_that_a_paused_process_writes_in_the_place_of_a_moved_one_is_no_success(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    append(lake, 22)
    (stray,) = lake.write_files("samples", pa.Table.from_pylist([point(9)], schema=SAMPLES))
    wrong = Path(lake.uri("samples"), "_delta_log", f"{3:020}.json")
    wrong.write_text(f'{{"add": {{"path": "{stray.path}"}}}}\n')
    assert not lake._is_committed("samples", 2, [stray])
    assert not wrong.exists()
    assert lake._is_committed("samples", 21, [stray])  # what it stands on is still in the log


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets some days pass for the upkeep."""

    def pass_days(days: float) -> None:
        moment = times.now() + timedelta(days=days)
        monkeypatch.setattr(times, "now", lambda: moment)

    return pass_days


def behind(site: Site, later: Any) -> None:
    """Lets the catalog and the conversion fall behind for longer than the log is kept."""
    land_points(site, [point(n, at(n), sample_id=n) for n in range(3)])
    drop(site.settings.spool, "a.jsonl", [polling("a", [polled(1, at(1), message_id="s1")])])
    collect(site)
    convert(site)
    catalog(site)
    append(site.lake, 14, 3)
    for n in range(14):
        drop(site.settings.spool, f"{n}.jsonl", [polling(f"b{n}", [polled(n, at(hours=n), message_id=f"t{n}")])])
        collect(site)
    later(4)
    done = upkeep.upkeep(site)
    assert done.failed == {}
    assert done.deleted["commits"] > 10


def caught_up(site: Site) -> None:
    assert catalog(site).samples == 14
    assert convert(site).samples == 14
    assert catalog(site).samples == 14
    assert count(site, "samples") == 3 + 1 + 14 + 14
    assert len({row["sample_id"] for row in rows(site, "samples", "sample_id")}) == 3 + 1 + 14 + 14
    assert len(snapshot(site).hours) == 14
    assert (convert(site).samples, catalog(site).samples) == (0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_followers_that_are_further_behind_than_the_log_take_the_new_files_once(
    open_site: OpenSite, later: Any
) -> None:
    site = open_site()
    behind(site, later)
    for table in ("samples", "notifications"):
        assert any(site.lake.read_commit(table, version) is None for version in range(site.lake.version(table)))
    again = open_site(home=site.settings.home_path)
    caught_up(again)
    later(4)
    assert upkeep.upkeep(again).failed == {}
    assert count(again, "samples") == 32


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_clock_that_was_ahead_and_is_set_back_loses_nothing(open_site: OpenSite, later: Any) -> None:
    site = open_site()
    later(400)
    land_points(site, [point(0, at(), sample_id=0)])
    append(site.lake, 12, 1)
    assert upkeep.upkeep(site).failed == {}
    later(-400)
    append(site.lake, 12, 13)
    assert upkeep.upkeep(site).failed == {}
    assert catalog(site).samples == 24
    assert count(open_site(home=site.settings.home_path), "samples") == 25


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.usefixtures("short")
def test_the_log_in_an_object_store_is_cleaned_and_followers_lose_nothing(
    open_site: OpenSite, s3: dict[str, str], later: Any
) -> None:
    site = open_site(**bucket_settings(s3))
    behind(site, later)
    caught_up(open_site(home=site.settings.home_path, **bucket_settings(s3)))
