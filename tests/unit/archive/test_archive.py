"""The archive: a day is only sealed if the sealed files equal what they replace, and no result changes."""

import hashlib
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import (
    at,
    count,
    drop,
    land_points,
    notification,
    point,
    polled,
    polling,
    process,
    roll_up,
    rows,
    warehouse_rows,
)
from conftest import OpenSite

from meterhouse.archive import hours as hours_module
from meterhouse.archive.hours import RECIPES
from meterhouse.archive.seal import archive, manifest, manifest_files
from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.errors import AlreadyRunning, MeterhouseError
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES

DAY = at().date()


def fill(site: Site, hours: int = 3, batches: int = 3) -> list[dict[str, Any]]:
    """Points that arrived in some hours of DAY, in several files each."""
    points = [point(n * 1.5, at(5 * n), resource=f"r{n % 2}", sample_id=n) for n in range(12 * hours)]
    for number in range(batches):
        land_points(site, points[number::batches])
    return points


def of(site: Site, table: str = "samples", day: date = DAY) -> dict[str, Any]:
    (entry,) = (entry for entry in manifest(site, day) if entry["table_name"] == table)
    return entry


def values(site: Site, table: str = "samples") -> list[dict[str, Any]]:
    """Rows without the ids of samples, which gauges and counters lose."""
    return rows(site, table, "* EXCLUDE (sample_id)" if table == "samples" else "*")


def live(site: Site, table: str = "samples") -> set[str]:
    return set(site.lake.actions(table)["path"].to_pylist())


def test_a_day_is_sealed_into_one_file_an_hour_and_no_row_changes(any_site: Site) -> None:
    fill(any_site)
    before = values(any_site)
    files = len(live(any_site))
    done = archive(any_site, DAY)
    (sealed,) = done.sealed
    assert sorted(done.unchanged) == sorted(set(RECIPES) - {"samples"})
    assert values(any_site) == before
    assert live(any_site) == set(sealed.files)
    assert [path.partition("/")[0] for path in sealed.files] == [f"arrival_hour=2026-11-10T{h}" for h in (12, 13, 14)]
    assert (sealed.rows, sealed.duplicates, sealed.files_before) == (36, 0, files)
    assert sealed.volume_sum == sum(row["volume"] for row in before)
    assert sealed.day_over
    assert sealed.bytes == sum(any_site.lake.actions("samples")["size_bytes"].to_pylist())


def test_the_manifest_is_in_the_warehouse_and_beside_the_tables(any_warehouse: Site) -> None:
    fill(any_warehouse)
    (sealed,) = archive(any_warehouse, DAY).sealed
    entry = of(any_warehouse)
    assert {name: entry[name] for name in ("rows", "duplicates", "digest", "files", "bytes", "version")} == {
        name: getattr(sealed, name) for name in ("rows", "duplicates", "digest", "files", "bytes", "version")
    }
    beside = json.loads(any_warehouse.lake.get(f"archive/{DAY}.json"))
    assert beside["day"] == "2026-11-10"
    assert [table["digest"] for table in beside["tables"]] == [entry["digest"]]
    assert manifest_files(any_warehouse, DAY, "samples") == live(any_warehouse)
    assert manifest(any_warehouse) == manifest(any_warehouse, DAY)


def test_the_digest_is_the_xor_of_the_md5s_of_the_rows(site: Site) -> None:
    fill(site, hours=2)
    archive(site, DAY)
    columns = ", ".join(f"coalesce({name}::VARCHAR, chr(1))" for name in SAMPLES.names if name != "arrival_hour")
    digest = 0
    for row in rows(site, "samples", f"concat_ws('|', {columns}) AS text"):
        digest ^= int.from_bytes(hashlib.md5(row["text"].encode()).digest(), "little")
    swapped = int.from_bytes(digest.to_bytes(16, "little"), "big")
    assert of(site)["digest"] in {f"{digest:032x}", f"{swapped:032x}"}


def test_rows_that_are_the_same_are_kept_once(site: Site) -> None:
    points = fill(site)
    again = [{**one, "recorded_at": one["recorded_at"] + timedelta(minutes=1)} for one in points[:5]]
    land_points(site, again)
    (sealed,) = archive(site, DAY).sealed
    assert (sealed.rows, sealed.duplicates) == (36, 5)
    assert {
        row["recorded_at"] for row in rows(site, "samples", where="volume = 0 AND timestamp < '2026-11-10 12:01Z'")
    } == {at()}


def test_a_second_run_changes_nothing(site: Site) -> None:
    fill(site)
    archive(site, DAY)
    before = live(site), site.lake.version("samples"), manifest(site)
    done = archive(site, DAY)
    assert done.sealed == []
    assert (live(site), site.lake.version("samples"), manifest(site)) == before


def test_late_arrivals_are_sealed_with_the_rest(site: Site) -> None:
    fill(site)
    archive(site, DAY)
    land_points(site, [point(100, at(59), sample_id=1000)])
    (sealed,) = archive(site, DAY).sealed
    assert (sealed.rows, sealed.duplicates, sealed.files_before) == (37, 0, 4)
    assert len(live(site)) == 3
    assert count(site, "samples") == 37


def test_sealed_rows_are_sorted_by_series_and_time_and_found_by_their_bounds(site: Site) -> None:
    fill(site)
    archive(site, DAY)
    for path in site.lake.files("samples"):
        import pyarrow.parquet as parquet

        table = parquet.ParquetFile(path).read()
        keys = list(zip(*(table[name].to_pylist() for name in ("meter", "series_id", "timestamp")), strict=True))
        assert keys == sorted(keys)
    assert len(site.lake.files("samples", overlapping=("timestamp", [(at(), at(1))]))) == 1
    assert len(site.lake.files("samples", overlapping=("timestamp", [(at(50), at(61))]))) == 2
    assert len(site.lake.files("samples", overlapping=("timestamp", [(at(days=1), at(days=2))]))) == 0


def test_other_days_stay_as_they_are(site: Site) -> None:
    fill(site)
    land_points(site, [point(1, at(days=1)), point(2, at(days=-1))])
    others = {path for path in live(site) if "2026-11-10" not in path}
    archive(site, DAY)
    assert others < live(site)
    assert archive(site, date(2020, 1, 1)).sealed == []
    assert manifest(site, date(2020, 1, 1)) == []


def test_statistics_and_rollups_are_the_same_before_and_after(site: Site) -> None:
    fill(site)
    roll_up(site)
    before = statistics(site, EVERYTHING, "m", period=600, groupby=["resource_id"]), rows(site, "rollups")
    archive(site, DAY)
    assert (statistics(site, EVERYTHING, "m", period=600, groupby=["resource_id"]), rows(site, "rollups")) == before
    assert catalog(site).samples == 0
    assert roll_up(site).hours == []


def test_every_table_of_a_day_is_sealed(site: Site, today: date) -> None:
    for n in range(3):
        drop(
            site.settings.spool,
            f"{n}.jsonl",
            [polling(f"p{n}", [polled(1.0, at(n))]), notification(f"e{n}"), b"bad %d" % n],
        )
        collect(site)
        convert(site)
    catalog(site)
    before = {table: values(site, table) for table in RECIPES}
    done = archive(site, today)
    assert {sealed.table_name for sealed in done.sealed} == set(RECIPES)
    assert all(not sealed.day_over for sealed in done.sealed)
    assert {table: values(site, table) for table in RECIPES} == before
    assert {sealed.table_name: sealed.rows for sealed in done.sealed} == {
        "notifications": 6,
        "samples": 3,
        "events": 3,
        "dead_letters": 3,
    }
    process(site)
    assert {table: values(site, table) for table in RECIPES} == before


def test_a_day_with_unconverted_messages_is_not_sealed(site: Site, today: date) -> None:
    drop(site.settings.spool, "a.jsonl", [polling("p", [polled(1.0)])])
    collect(site)
    with pytest.raises(MeterhouseError, match=f"messages that arrived on {today} wait for conversion"):
        archive(site, today)
    convert(site)
    with pytest.raises(MeterhouseError, match=f"samples that arrived on {today} are not in the catalog yet"):
        archive(site, today)
    assert manifest(site) == []
    catalog(site)
    assert len(archive(site, today).sealed) == 2
    assert archive(site, today - timedelta(days=1)).sealed == []


def test_a_day_is_sealed_although_messages_of_another_day_wait(site: Site) -> None:
    fill(site)
    drop(site.settings.spool, "a.jsonl", [notification("m1")])
    collect(site)
    assert len(archive(site, DAY).sealed) == 1


def test_followers_that_are_behind_find_their_rows_although_everything_was_sealed_and_vacuumed(
    open_site: OpenSite,
) -> None:
    site = open_site(vacuum_hours=0)
    fill(site)
    site.lake.append("samples", pa.Table.from_pylist([point(5, at(days=1))], schema=SAMPLES))
    done = archive(site, DAY)
    assert done.deleted_files == 9
    assert catalog(site).samples == 1
    assert count(site, "samples") == 37


def test_replaced_files_stay_for_readers_that_still_use_them(site: Site) -> None:
    fill(site)
    old = site.lake.files("samples")
    assert archive(site, DAY).deleted_files == 0
    assert all(Path(path).exists() for path in old)


@pytest.mark.parametrize(
    "damage", ["another value", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lost rows", "doubled rows"))]
)
def test_a_corrupted_write_is_found_and_nothing_is_replaced(
    site: Site, monkeypatch: pytest.MonkeyPatch, today: date, damage: str
) -> None:
    for n in range(3):
        drop(site.settings.spool, f"{n}.jsonl", [b"bad %d" % n])
        collect(site)
    before = live(site, "dead_letters"), rows(site, "dead_letters")
    change = {
        "lost rows": "SELECT * FROM written LIMIT (SELECT count(*) - 1 FROM written)",
        "another value": "SELECT * REPLACE (reason || ' ' AS reason) FROM written",
        "doubled rows": "SELECT * FROM written UNION ALL SELECT * FROM written UNION ALL SELECT * FROM written",
    }[damage]
    fingerprint = hours_module._fingerprint

    def damaged(duck: Any, view: str, *rest: Any) -> Any:
        if view == "sealed":
            (target,) = site.lake.filesystem.glob(f"{site.lake.uri('dead_letters')}/arrival_hour=*/sealed-*")
            duck.execute(f"CREATE TABLE written AS SELECT * FROM read_parquet('{target}', hive_partitioning = false)")
            duck.execute(f"COPY ({change}) TO '{target}' (FORMAT parquet)")
        return fingerprint(duck, view, *rest)

    with monkeypatch.context() as broken:
        broken.setattr(hours_module, "_fingerprint", damaged)
        with pytest.raises(
            MeterhouseError, match=r"differs from the files that it should replace.*nothing was replaced"
        ):
            archive(site, today)
    assert (live(site, "dead_letters"), rows(site, "dead_letters")) == before
    assert manifest(site) == []
    assert len(archive(site, today).sealed) == 1
    assert rows(site, "dead_letters") == before[1]


def test_volumes_that_have_no_exact_sum_are_sealed_too(site: Site) -> None:
    volumes = [1e308, 1e308, -1e308, 1e17, 1.0, -1e17, float("nan"), float("inf"), -0.0, 5e-324]
    land_points(site, [point(volume, at(n)) for n, volume in enumerate(volumes * 20)])
    before = [repr(row) for row in values(site)]
    assert len(archive(site, DAY).sealed) == 1
    assert [repr(row) for row in values(site)] == before


def test_two_rows_of_one_sample_that_came_together_are_sealed_the_same_each_time(site: Site) -> None:
    land_points(site, [point(float(n), at(), type="delta", sample_id=1) for n in range(50)])
    (sealed,) = archive(site, DAY).sealed
    assert (sealed.rows, sealed.duplicates) == (1, 49)
    assert [row["volume"] for row in rows(site, "samples")] == [0.0]


def test_two_processes_do_not_archive_at_the_same_time(site: Site) -> None:
    fill(site, hours=1)
    with site.warehouse.lease("archive"), pytest.raises(AlreadyRunning):
        archive(site, DAY)
    assert warehouse_rows(site, "SELECT * FROM archive_manifest") == []
