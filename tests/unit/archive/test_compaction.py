"""Compaction: an hour that is over becomes one file within minutes, and no reader, follower or step notices."""

import time
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from builders import NOON, at, count, land_points, point, roll_up, rows
from conftest import OpenSite

from meterhouse import times
from meterhouse.archive import compaction, hours
from meterhouse.archive.compaction import compact, due
from meterhouse.archive.seal import archive, manifest
from meterhouse.catalog import catalog
from meterhouse.errors import AlreadyRunning, Conflict
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES

HOUR = "2026-11-10T12"


def live(site: Site, table: str = "samples") -> list[str]:
    return sorted(path.rpartition("/")[2].partition("-")[0] for path in site.lake.live(table))


def land_each_minute(site: Site, minutes: range) -> None:
    for minute in minutes:
        land_points(site, [point(minute * 1.5, at(minute), resource=f"r{n}", meter=f"m{n}") for n in range(2)])


def now_is(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(times, "now", lambda: moment)
    monkeypatch.setattr(time, "time_ns", lambda: int(moment.timestamp()) * 10**9)


def test_an_hour_that_is_over_becomes_one_file_and_every_result_stays(site: Site) -> None:
    land_each_minute(site, range(6))
    land_points(
        site, [point(9.0, at(3), meter="m0", resource="r0", recorded_at=at(9)), point(2.0, at(1), type="delta")]
    )
    roll_up(site)

    def results() -> Any:
        return (
            statistics(site, EVERYTHING, "m0", period=600, groupby=["resource_id"]),
            rows(site, "rollups"),
            count(site, "samples"),
        )

    before = results()
    done = compact(site)
    assert (done.hours, done.files_before, done.files, done.rows, done.duplicates) == (1, 7, 1, 14, 0)
    assert live(site) == ["compacted"]
    assert catalog(site).samples == 0
    assert roll_up(site).hours == []
    assert results() == before
    assert [row["meter"] for row in rows(site, "samples", where="sample_id IS NOT NULL")] == ["m"]


def test_what_is_compacted_is_left_alone(site: Site) -> None:
    land_each_minute(site, range(3))
    compact(site)
    version = site.lake.version("samples")
    assert compact(site) == compaction.Compacted(seconds=pytest.approx(0, abs=60))
    assert site.lake.version("samples") == version


def test_what_arrives_in_a_compacted_hour_is_merged_in(site: Site) -> None:
    land_each_minute(site, range(3))
    compact(site)
    again = point(3.0, at(2), meter="m0", resource="r0", recorded_at=at(30))
    land_points(site, [again, point(7.0, at(40), meter="m0", resource="r0")])
    done = compact(site)
    assert (done.rows, done.duplicates, live(site)) == (7, 1, ["compacted"])
    assert {row["recorded_at"] for row in rows(site, "samples", where="volume = 3 AND meter = 'm0'")} == {at(2)}


def test_a_compacted_day_is_sealed_without_being_written_again(site: Site) -> None:
    land_each_minute(site, range(3))
    land_points(site, [point(1.0, at(70)), point(2.0, at(71))])
    compact(site)
    files = site.lake.live("samples")
    (sealed,) = archive(site, NOON.date()).sealed
    assert (set(sealed.files), sealed.rows, sealed.duplicates, sealed.volume_sum) == (files, 8, 0, 12.0)
    assert site.lake.live("samples") == files
    assert archive(site, NOON.date()).sealed == []
    (entry,) = manifest(site)
    assert entry["digest"] == sealed.digest


def test_hours_that_an_earlier_release_sealed_get_the_new_form_when_they_are_sealed_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_each_minute(site, range(3))
    before = rows(site, "samples", "* EXCLUDE (sample_id)")
    with monkeypatch.context() as older:
        identity = ("series_id", "timestamp", "sample_id")
        recipe = hours.Recipe(identity, "recorded_at", identity, row_group=1_000_000, total="volume")
        older.setitem(hours.RECIPES, "samples", recipe)
        older.setattr(hours, "write_hour", hours._write_sorted)
        older.setattr(hours, "_is_newest", lambda table, prefix: True)
        archive(site, NOON.date())
    assert live(site) == ["sealed"]
    assert compact(site).hours == 0
    assert len(archive(site, NOON.date()).sealed) == 1
    assert live(site) == ["compacted"]
    assert rows(site, "samples", "* EXCLUDE (sample_id)") == before


def test_hours_wait_for_the_steps_that_still_have_to_read_them(site: Site) -> None:
    site.lake.append("samples", pa.Table.from_pylist([point(1.0), point(2.0, at(1))], schema=SAMPLES))
    assert compact(site).left == 1
    assert live(site) == ["part"]
    catalog(site)
    assert compact(site).hours == 1


def test_an_hour_is_compacted_two_minutes_after_its_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land_each_minute(site, range(2))
    now_is(monkeypatch, at(61))
    assert due(site).tasks == []
    now_is(monkeypatch, at(62))
    assert [(task.hour, task.tidies) for task in due(site).tasks] == [(HOUR, False)]


def minutes_of_files(site: Site, monkeypatch: pytest.MonkeyPatch, minutes: range) -> None:
    """Files that were committed minute by minute."""
    with monkeypatch.context() as then:
        for minute in minutes:
            then.setattr(time, "time_ns", lambda minute=minute: int(at(minute).timestamp()) * 10**9)
            land_each_minute(site, range(minute, minute + 1))


def test_the_running_hour_is_tidied_but_for_its_last_quarter(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MANY", 4)
    minutes_of_files(site, monkeypatch, range(10))
    before = rows(site, "samples", "* EXCLUDE (sample_id)")
    now_is(monkeypatch, at(18.5))
    assert compact(site).tidied == 1
    assert live(site) == ["part"] * 6 + ["tidied"]
    assert rows(site, "samples", "* EXCLUDE (sample_id)") == before
    assert compact(site).tidied == 0
    now_is(monkeypatch, at(40))
    assert compact(site).tidied == 1  # as many points came again, so the first tidied file is merged too
    assert live(site) == ["tidied"]
    now_is(monkeypatch, at(63))
    assert compact(site).hours == 1
    assert live(site) == ["compacted"]
    assert rows(site, "samples", "* EXCLUDE (sample_id)") == before


def test_a_tidied_file_that_is_much_larger_than_what_came_is_not_written_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MANY", 2)
    minutes_of_files(site, monkeypatch, range(8))
    now_is(monkeypatch, at(25))
    compact(site)
    minutes_of_files(site, monkeypatch, range(8, 10))
    now_is(monkeypatch, at(30))
    assert compact(site).files_before == 2
    assert live(site) == ["tidied", "tidied"]


def test_far_points_stay_apart_and_hours_of_several_tables_are_compacted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_each_minute(site, range(3))
    land_points(site, [point(5.0, at(days=20000), recorded_at=at(4))])
    assert compact(site).files == 2
    assert len(site.lake.files("samples", overlapping=("timestamp", [(at(), at(1))]))) == 1
    assert compact(site).hours == 0


def test_a_failure_of_one_hour_keeps_no_other_from_being_compacted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land_each_minute(site, range(3))
    land_points(site, [point(1.0, at(60))])
    land_points(site, [point(1.0, at(61))])
    broken = next(path for path in site.lake.files("samples") if "T13" in path)
    with open(broken, "r+b") as file:
        file.truncate(40)
    with pytest.raises(Exception, match=r"1 arrival hours were not compacted, the first because .* cannot be read"):
        compact(site)
    assert live(site) == ["compacted", "part", "part"]


def test_what_another_process_replaced_meanwhile_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land_each_minute(site, range(3))
    real = type(site.lake).swap

    def conflict(*_: Any, **__: Any) -> int:
        raise Conflict("another process has changed samples in the meantime")

    monkeypatch.setattr(type(site.lake), "swap", conflict)
    assert compact(site).left == 1
    monkeypatch.setattr(type(site.lake), "swap", real)
    assert live(site) == ["part"] * 3
    written = site.lake.filesystem.glob(f"{site.lake.uri('samples')}/*/compacted-*")
    assert written == []


def test_followers_that_are_behind_miss_nothing_although_the_files_are_gone(open_site: OpenSite) -> None:
    site = open_site(vacuum_hours=0)
    land_each_minute(site, range(3))
    site.lake.append("samples", pa.Table.from_pylist([point(5, at(days=1))], schema=SAMPLES))
    compact(site)
    site.lake.vacuum("samples", 0)
    assert catalog(site).samples == 1
    assert count(site, "samples") == 7


def test_hours_are_compacted_on_any_lake(any_site: Site) -> None:
    land_each_minute(any_site, range(3))
    land_each_minute(any_site, range(60, 63))
    before = rows(any_site, "samples", "* EXCLUDE (sample_id)")
    done = compact(any_site)
    assert (done.hours, done.files_before, done.files) == (2, 6, 2)
    any_site.lake.vacuum("samples", 0)
    assert live(any_site) == ["compacted"] * 2
    assert rows(any_site, "samples", "* EXCLUDE (sample_id)") == before
    assert roll_up(any_site).hours != []


def test_compaction_and_sealing_exclude_each_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from meterhouse.archive import seal

    monkeypatch.setattr(seal, "COMPACTION_SECONDS", 0.0)
    land_each_minute(site, range(3))
    with site.warehouse.lease("compact"):
        with pytest.raises(AlreadyRunning):
            compact(site)
        with pytest.raises(AlreadyRunning):
            archive(site, NOON.date())
