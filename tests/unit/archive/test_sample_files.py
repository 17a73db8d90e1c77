"""Compacted files hold every point of the files that they replace, once, in order."""

import math
import random
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import at, point
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterhouse.archive import sample_files
from meterhouse.archive.sample_files import rewrite
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES

HOUR = "2026-11-10T12"

POINTS = st.lists(
    st.builds(
        lambda volume, minute, arrival, kind, meter, resource, project, sample, metadata, origin: {
            **point(volume, at(minute), type=kind, meter=meter, resource=resource, project=project, sample_id=sample),
            "recorded_at": at(arrival),
            "arrival_hour": HOUR,
            "metadata_id": metadata,
            "origin": origin,
        },
        st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, 1.7e308]),
        st.sampled_from([0, 0, 0, 1, 30, -60 * 24 * 400, 60 * 24 * 27000]),
        st.sampled_from([0, 1, 2]),
        st.sampled_from(["gauge", "cumulative", "delta"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["r1", "é"]),
        st.sampled_from([None, "", "p"]),
        st.sampled_from([1, 2, -(2**63)]),
        st.sampled_from([None, 7, 8]),
        st.sampled_from([None, "notification", "loaded"]),
    ),
    min_size=1,
    max_size=14,
)


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    volume = "nan" if math.isnan(row["volume"]) else row["volume"]
    return row["meter"], row["series_id"], row["timestamp"], row["sample_id"] if row["type"] == "delta" else volume


def last_if_null(value: Any) -> tuple[bool, Any]:
    return value is None, value


def counting(copies: list[dict[str, Any]]) -> dict[str, Any]:
    """Of copies of a point, the one that counts, as `meterhouse.equal_points` describes it."""

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        early = row["recorded_at"] < row["timestamp"]
        arrival = row["recorded_at"].timestamp()
        volume = last_if_null(None if math.isnan(row["volume"]) else row["volume"])
        ids = last_if_null(row["sample_id"]), last_if_null(row["metadata_id"])
        return early, -arrival if early else arrival, *ids, volume

    return min(copies, key=rank)


def expected(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ordered = sorted(points, key=lambda row: repr(identity(row)).replace("-0.0", "0.0"))
    kept = []
    for _, copies in groupby(ordered, key=lambda row: repr(identity(row)).replace("-0.0", "0.0")):
        row = counting(list(copies))
        kept.append({**row, "sample_id": row["sample_id"] if row["type"] == "delta" else None})
    return kept


def land(site: Site, *batches: list[dict[str, Any]]) -> list[str]:
    files = [site.lake.write_files("samples", pa.Table.from_pylist(batch, schema=SAMPLES)) for batch in batches]
    return [file.path for batch in files for file in batch]


def read(site: Site, path: str) -> list[dict[str, Any]]:
    return list(pq.ParquetFile(f"{site.lake.uri('samples')}/{path}").read().to_pylist())


def comparable(rows: list[dict[str, Any]]) -> list[str]:
    """Rows as texts, without what equal copies may differ in, and without the partition."""
    wanted = [name for name in SAMPLES.names if name not in ("arrival_hour", "origin")]
    return sorted(repr([str(row[name]).replace("-0.0", "0.0") for name in wanted]) for row in rows)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(POINTS, st.integers(1, 13))
def test_each_point_is_there_once_and_no_other_value_changes(
    site: Site, points: list[dict[str, Any]], where: int
) -> None:
    paths = land(site, *[batch for batch in (points[:where], points[where:]) if batch])
    made = rewrite(site.lake, HOUR, paths, "compacted-x")
    found = [row for file in made.files for row in read(site, file.path)]
    assert comparable(found) == comparable(expected(points))
    assert (made.rows, made.duplicates) == (len(found), len(points) - len(found))
    for file in made.files:
        keys = [(row["meter"], row["series_id"], row["timestamp"]) for row in read(site, file.path)]
        assert keys == sorted(keys)
    # Compacting what is compacted changes nothing: copies are merged at once or in parts.
    again = rewrite(site.lake, HOUR, [file.path for file in made.files], "compacted-y")
    assert comparable([row for file in again.files for row in read(site, file.path)]) == comparable(found)
    assert again.duplicates == 0


def test_the_origin_of_the_copy_that_counts_stays(site: Site) -> None:
    first, second = ({**point(1.0, recorded_at=at(n)), "origin": origin} for n, origin in ((1, "loaded"), (2, None)))
    made = rewrite(site.lake, HOUR, land(site, [second], [first]), "compacted-x")
    assert [row["origin"] for file in made.files for row in read(site, file.path)] == ["loaded"]


def test_each_meter_has_its_row_groups_and_the_encodings_that_suit_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_files, "FEW", 100)
    monkeypatch.setattr(sample_files, "MAX_IN_GROUP", 300)

    def points(meter: str, count: int, volume: Any) -> list[dict[str, Any]]:
        return [point(volume(n), at(n / 60), meter=meter, recorded_at=at(59)) for n in range(count)]

    batches = [
        points("counter", 400, lambda n: 1e15 + n * 7e9),
        points("gauge", 200, lambda n: random.Random(n).randrange(8) / 10),
        points("few", 20, float),
        points("few.too", 20, float),
    ]
    (file,) = rewrite(site.lake, HOUR, land(site, *batches), "compacted-x").files
    found = pq.ParquetFile(f"{site.lake.uri('samples')}/{file.path}")
    volume, meter = (found.schema_arrow.names.index(name) for name in ("volume", "meter"))
    groups = [found.metadata.row_group(number) for number in range(found.num_row_groups)]
    listed = [
        (
            group.num_rows,
            group.column(meter).statistics.min,
            group.column(meter).statistics.max,
            "BYTE_STREAM_SPLIT" in group.column(volume).encodings,
        )
        for group in groups
    ]
    assert listed[:2] == [(200, "counter", "counter", True), (200, "counter", "counter", True)]
    assert [each[:3] for each in listed[2:]] == [(40, "few", "few.too"), (200, "gauge", "gauge")]
    assert not listed[3][3]
    assert found.schema_arrow.names == [name for name in SAMPLES.names if name != "arrival_hour"]
    with site.lake.connect() as duck:  # a second implementation reads the same
        query = f"SELECT volume, sample_id FROM read_parquet('{found_path(site, file.path)}')"
        read_by_duck = duck.execute(query).fetchall()
    assert sorted(row[0] for row in read_by_duck) == sorted(row["volume"] for batch in batches for row in batch)
    assert {row[1] for row in read_by_duck} == {None}


def test_a_file_of_an_earlier_release_may_lack_columns(site: Site) -> None:
    new, old = land(site, [point(1.0, recorded_at=at(1))], [point(2.0, at(1), recorded_at=at(1))])
    kept = pq.ParquetFile(found_path(site, old)).read().drop_columns(["origin", "user_id"])
    pq.write_table(kept, found_path(site, old), store_schema=False)
    (file,) = rewrite(site.lake, HOUR, [new, old], "compacted-x").files
    found = [(row["volume"], row["meter"], row["user_id"]) for row in read(site, file.path)]
    assert found == [(1.0, "m", "u1"), (2.0, "m", None)]


@pytest.mark.parametrize("changed", ["resource", "project", "meter", "metadata_id", "type"])
def test_files_of_the_same_series_may_differ_in_any_column(site: Site, changed: str) -> None:
    def points(minute: int, value: dict[str, Any]) -> list[dict[str, Any]]:
        some = [
            point(float(minute + n), at(minute), resource=f"r{n}", project=f"p{n % 3}", recorded_at=at(59))
            | {"meter": f"m{n % 2}", "type": ["gauge", "delta"][n % 2], "metadata_id": n % 3}
            for n in range(40)
        ]
        return [row | value if n == 7 else row for n, row in enumerate(some)]

    column = f"{changed}_id" if changed in ("resource", "project") else changed
    value: dict[str, Any] = {column: {"metadata_id": 9, "type": "gauge"}.get(changed, "other")}
    batches = [points(minute, value if minute == 2 else {}) for minute in range(4)]
    (file,) = rewrite(site.lake, HOUR, land(site, *batches), "compacted-x").files
    assert comparable(read(site, file.path)) == comparable(
        [{**row, "sample_id": row["sample_id"] if row["type"] == "delta" else None} for b in batches for row in b]
    )


def found_path(site: Site, path: str) -> str:
    return f"{site.lake.uri('samples')}/{path}"


@pytest.mark.parametrize("damage", ["another value", "a lost row group"])
def test_what_is_not_as_it_was_written_is_found_and_deleted(
    site: Site, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    paths = land(site, [point(float(n), at(n), recorded_at=at(59)) for n in range(30)])
    compare = sample_files._compare

    def damaged(lake: Any, path: str, prints: Any) -> None:
        target = found_path(site, path)
        rows = pq.ParquetFile(target).read()
        if damage == "another value":
            changed = [volume + (volume == 3) * 1e-15 for volume in rows["volume"].to_pylist()]
            rows = rows.set_column(rows.column_names.index("volume"), "volume", pa.array(changed))
        else:
            rows = rows.slice(0, 0)
        pq.write_table(rows, target)
        compare(lake, path, prints)

    monkeypatch.setattr(sample_files, "_compare", damaged)
    with pytest.raises(MeterhouseError, match="differs from the rows that were to be written; nothing was replaced"):
        rewrite(site.lake, HOUR, paths, "compacted-x")
    assert [path.name.partition("-")[0] for path in Path(site.lake.uri("samples")).rglob("*.parquet")] == ["part"]


def test_statistics_cover_all_rows_of_the_file(site: Site) -> None:
    import json

    points = [point(float(n), at(n), meter=f"m{n % 2}", project=None, recorded_at=at(59)) for n in range(10)]
    (file,) = rewrite(site.lake, HOUR, land(site, points), "compacted-x").files
    known = json.loads(file.statistics)
    assert known["numRecords"] == 10
    assert (known["minValues"]["meter"], known["maxValues"]["meter"]) == ("m0", "m1")
    assert (known["minValues"]["volume"], known["maxValues"]["volume"]) == (0.0, 9.0)
    assert known["nullCount"]["project_id"] == known["nullCount"]["sample_id"] == 10
    assert "project_id" not in known["minValues"]
