"""The lake: appended rows are found once, and files are only skipped if they have no wanted rows."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from builders import at, count, point, rows
from conftest import OpenSite
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.lake import REPLACE, SEAL, Lake
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_replace import replace_spans
from meterhouse.stores.lake_tables import QUARANTINE, ROLLUPS, SAMPLES, TABLES


def samples(*volumes: float, when: datetime | None = None) -> pa.Table:
    return pa.Table.from_pylist([point(volume, when or at(n)) for n, volume in enumerate(volumes)], schema=SAMPLES)


def volumes(rows_of: pa.Table) -> list[float]:
    return sorted(rows_of["volume"].to_pylist())


def test_a_table_that_does_not_exist_is_created_empty(site: Site) -> None:
    for name, (schema, partitions) in TABLES.items():
        table = site.lake.table(name)
        assert table.version() == 0
        assert table.metadata().partition_columns == partitions
        assert count(site, name) == 0
        assert rows(site, name) == []
        assert pa.schema(table.schema().to_arrow()).names == schema.names


def test_an_append_is_one_commit_that_may_record_a_transaction(any_site: Site) -> None:
    lake = any_site.lake
    assert lake.transaction("samples", "app") is None
    assert lake.append("samples", samples(1, 2)) == 1
    assert lake.append("samples", samples(3), transaction=("app", 7)) == 2
    assert lake.transaction("samples", "app") == 7
    assert Lake(lake.url, lake.storage_options).transaction("samples", "app") == 7
    assert [row["volume"] for row in rows(any_site, "samples", "volume")] == [1, 2, 3]


def test_followers_take_each_append_once_and_see_where_they_are(site: Site) -> None:
    lake = site.lake
    assert lake.appended("samples", 0) is None
    lake.append("samples", samples(1))
    lake.append("samples", samples(2, 3))
    taken = lake.appended("samples", 0)
    assert taken is not None
    assert (volumes(taken.rows), taken.version) == ([1, 2, 3], 2)
    assert lake.appended("samples", 2) is None
    lake.append("samples", samples(4))
    taken = lake.appended("samples", 2)
    assert taken is not None
    assert (volumes(taken.rows), taken.version) == ([4], 3)
    assert taken.rows.schema == SAMPLES


def test_a_backlog_is_taken_in_bounded_pieces(site: Site) -> None:
    for n in range(6):
        site.lake.append("samples", samples(*range(n * 10, n * 10 + 3)))
    after, pieces = 0, []
    while (taken := site.lake.appended("samples", after, max_rows=7)) is not None:
        pieces.append(taken.rows.num_rows)
        after = taken.version
    assert pieces == [6, 6, 6]
    taken = site.lake.appended("samples", 0, max_rows=1)
    assert taken is not None
    assert taken.rows.num_rows == 3  # a commit is never divided
    taken = site.lake.appended("samples", 1, until=3)
    assert taken is not None
    assert (taken.rows.num_rows, taken.version) == (6, 3)


def seal(site: Site, version: int | None = None) -> None:
    """Replace all files with one."""
    lake = site.lake
    gone = lake.actions("samples", version)
    hour = gone["partition.arrival_hour"][0].as_py()
    path = f"arrival_hour={hour}/sealed-{lake.version('samples')}.parquet"
    with lake.connect() as duck:
        lake.view(duck, "samples", [f"{lake.uri('samples')}/{old}" for old in gone["path"].to_pylist()])
        duck.execute(f"COPY (SELECT * EXCLUDE (arrival_hour) FROM samples) TO '{lake.uri('samples')}/{path}'")
    size = int(lake.filesystem.size(f"{lake.uri('samples')}/{path}"))
    statistics = f'{{"numRecords": {pc.sum(gone["num_records"]).as_py()}}}'
    file = DataFile(path, size, {"arrival_hour": hour}, statistics)
    lake.swap("samples", gone, [file], {SEAL: "a test"}, same_rows=True)


def replace(site: Site, gone: pa.Table, rows_of: pa.Table) -> None:
    """Replace files with one that has these rows."""
    added = site.lake.write_files("samples", rows_of)
    site.lake.swap("samples", gone, added, {REPLACE: "a test"}, same_rows=False)


def test_followers_skip_seals_and_replaces(site: Site) -> None:
    lake = site.lake
    lake.append("samples", samples(1))
    lake.append("samples", samples(2))
    seal(site)
    taken = lake.appended("samples", 0)
    assert taken is not None
    assert (volumes(taken.rows), taken.version) == ([1, 2], 3)
    assert lake.appended("samples", 3) is None
    before = lake.actions("samples")["path"].to_pylist()
    lake.append("samples", samples(3))
    gone = lake.actions("samples")
    replace(site, gone.filter(pc.invert(pc.is_in(gone["path"], pa.array(before)))), samples(30))
    lake.append("samples", samples(4))
    seal(site)
    taken = lake.appended("samples", 2)
    assert taken is not None
    assert (volumes(taken.rows), taken.version) == ([3, 4], 7)
    assert [row["volume"] for row in rows(site, "samples", "volume")] == [1, 2, 4, 30]
    assert lake.actions("samples").num_rows == 1


def test_a_transaction_that_another_process_has_recorded_is_not_written_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = site.lake
    stale = DeltaTable(lake.table("samples").table_uri)
    lake.append("samples", samples(1), transaction=("app", 7))
    for version in (6, 7):
        with pytest.raises(Conflict, match="another process has already written this to samples"):
            lake.append("samples", samples(1), transaction=("app", version))
    monkeypatch.setattr(lake, "table", lambda name: stale)  # as in a process that was paused meanwhile
    with pytest.raises(Conflict):
        lake.append("samples", samples(1), transaction=("app", 7))
    monkeypatch.undo()
    assert count(site, "samples") == 1
    lake.append("samples", samples(2), transaction=("app", 8))
    assert count(site, "samples") == 2


def test_an_append_after_another_version_than_the_recorded_one_is_refused(site: Site) -> None:
    lake = site.lake
    lake.append("samples", samples(1), transaction=("app", 7), after=0)
    with pytest.raises(Conflict):  # two processes started from the same version, and the other one was faster
        lake.append("samples", samples(1, 2), transaction=("app", 9), after=0)
    assert count(site, "samples") == 1
    assert len(list(Path(lake.uri("samples")).rglob("part-*"))) == 1
    lake.append("samples", samples(2), transaction=("app", 9), after=7)
    assert count(site, "samples") == 2


def test_a_commit_that_fails_for_another_reason_than_another_process_is_an_error(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise CommitFailedError("Unsupported table features required: [RowTracking]")

    site.lake.append("samples", samples(1))
    monkeypatch.setattr(DeltaTable, "create_write_transaction", fails)
    with pytest.raises(MeterhouseError, match="Unsupported table features") as caught:
        site.lake.append("samples", samples(2), transaction=("app", 1))
    assert not isinstance(caught.value, Conflict)
    assert len(list(Path(site.lake.uri("samples")).rglob("part-*"))) == 1


def test_a_follower_that_is_behind_the_start_of_the_log_gets_an_error(site: Site) -> None:
    for n in range(3):
        site.lake.append("samples", samples(n))
    (Path(site.lake.uri("samples")) / "_delta_log" / f"{1:020}.json").unlink()
    with pytest.raises(MeterhouseError, match=r"commit 1 of samples is no longer in its log.*METERHOUSE_LOG_HOURS"):
        site.lake.appended("samples", 0)


def test_a_sealed_file_without_bounds_is_never_skipped(site: Site) -> None:
    site.lake.append("samples", samples(1, 2))
    seal(site)
    assert len(site.lake.files("samples", overlapping=("timestamp", [(at(days=99), at(days=100))]))) == 1


def quarantined(*when: datetime) -> pa.Table:
    return pa.Table.from_pylist(
        [{"event_day": w.date(), "timestamp": w, "reasons": 1, "reason_names": ["x"], "excluded": True} for w in when],
        schema=QUARANTINE,
    )


def test_only_the_spans_are_replaced_and_nothing_is_committed_without_rows(any_site: Site) -> None:
    lake = any_site.lake
    hour = timedelta(hours=1)
    replace_spans(lake, "quarantine", QUARANTINE.empty_table(), "timestamp", [(at(), at() + hour)])
    assert lake.version("quarantine") == 0
    times = [at(hours=n) for n in range(0, 30, 3)]
    spans = [(moment, moment + hour) for moment in times]
    replace_spans(lake, "quarantine", quarantined(*times), "timestamp", spans)
    replace_spans(lake, "quarantine", quarantined(times[1] + hour / 2), "timestamp", [spans[1], spans[8]])
    found = [row["timestamp"] for row in rows(any_site, "quarantine", "timestamp")]
    assert found == sorted([times[0], times[1] + hour / 2, *times[2:8], times[9]])


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    offsets=st.lists(st.integers(-(10**15), 4 * 10**15), min_size=1, max_size=5),
    edges=st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 1)), min_size=2, max_size=2),
)
def test_no_wanted_row_is_skipped_with_a_file(site: Site, offsets: list[int], edges: list[tuple[int, int]]) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)

    def moment(micros: int) -> datetime:
        return epoch + timedelta(microseconds=micros)

    points = pa.Table.from_pylist([point(0, moment(o)) for o in offsets], schema=SAMPLES)
    replace(site, site.lake.actions("samples"), points)
    low, high = sorted(moment(offsets[n % len(offsets)] + by) for n, by in edges)
    wanted = sum(low <= moment(o) < high for o in offsets)
    with site.lake.connect() as duck:
        site.lake.view(duck, "samples", site.lake.files("samples", overlapping=("timestamp", [(low, high)])))
        (found,) = duck.execute(
            "SELECT count(*) FROM samples WHERE timestamp >= ? AND timestamp < ?", [low, high]
        ).fetchall()[0]
    assert found == wanted


def test_files_are_skipped_by_partition(site: Site) -> None:
    days = [date(2026, 11, n) for n in (1, 2, 3)]
    site.lake.append("quarantine", quarantined(*(datetime(d.year, d.month, d.day, 5, tzinfo=UTC) for d in days)))
    assert len(site.lake.files("quarantine")) == 3
    assert len(site.lake.files("quarantine", partitions={"event_day": days[:2]})) == 2
    assert len(site.lake.files("quarantine", partitions={"event_day": []})) == 0
    assert len(site.lake.files("quarantine", at_least={"event_day": days[1]})) == 2


def test_an_older_version_is_as_it_was(site: Site) -> None:
    site.lake.append("samples", samples(1))
    site.lake.append("samples", samples(2))
    assert len(site.lake.files("samples", version=1)) == 1
    assert len(site.lake.files("samples")) == 2


def test_a_home_with_unusual_characters_in_its_name_works(open_site: OpenSite, tmp_path: Any) -> None:
    site = open_site(home=tmp_path / "it's a *?# ü home")
    site.lake.append("samples", samples(1, 2))
    assert [row["volume"] for row in rows(site, "samples", "volume")] == [1, 2]


def test_a_written_file_is_read_back_completely(any_site: Site) -> None:
    content = bytes(range(256)) * 1000
    uri = any_site.lake.put("exports/a/b.bin", content)
    assert uri == f"{any_site.lake.url}/exports/a/b.bin"
    assert any_site.lake.get("exports/a/b.bin") == content
    any_site.lake.put("exports/a/b.bin", b"new")
    assert any_site.lake.get("exports/a/b.bin") == b"new"


def test_a_lake_that_cannot_be_reached_is_named(open_site: OpenSite, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("")
    site = open_site(lake_url=str(tmp_path / "file"))
    with pytest.raises(MeterhouseError, match=r"samples cannot be read or written.*METERHOUSE_LAKE_URL"):
        site.lake.version("samples")


def test_rollups_of_an_earlier_release_are_read_beside_those_with_a_nested_column(site: Site) -> None:
    names = ("metadata_id", "percentiles", "cadence_s")
    older = pa.schema([field for field in ROLLUPS if field.name not in names])
    row = dict.fromkeys(ROLLUPS.names) | {"granularity_s": 3600, "event_day": at().date(), "bucket": at(), "count": 1}
    table = DeltaTable.create(site.lake.uri("rollups"), older, partition_by=["granularity_s", "event_day"])
    write_deltalake(table, pa.Table.from_pylist([row | {"series_id": 1}], schema=older), mode="append")
    new = [row | {"series_id": 2}, row | {"series_id": 3, "percentiles": [("p90", 1.5)]}]
    site.lake.append("rollups", pa.Table.from_pylist(new[:1], schema=ROLLUPS))
    site.lake.append("rollups", pa.Table.from_pylist(new[1:], schema=ROLLUPS))
    found = rows(site, "rollups", "series_id, percentiles", order="series_id")
    assert [(each["series_id"], each["percentiles"]) for each in found] == [(1, None), (2, None), (3, {"p90": 1.5})]
