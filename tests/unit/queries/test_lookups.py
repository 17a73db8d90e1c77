"""Looking up some samples reads little, and finds exactly what reading everything would find."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.archive import sample_files
from meterhouse.archive.compaction import compact
from meterhouse.filters import SAMPLES, Filter, all_of, on_lake
from meterhouse.queries import raw_points, sample_search
from meterhouse.queries.meters import meter_span
from meterhouse.queries.raw_points import POINT, RawPoints
from meterhouse.queries.samples import samples
from meterhouse.sample_quality.judge import judge, reason_names
from meterhouse.sample_quality.points import view_all_points, view_carried
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_tables import SAMPLES as SAMPLES_TABLE
from meterhouse.stores.page_reading import PageReader
from meterhouse.stores.series_pages import SeriesPages

SERIES = [
    ("m", "gauge", "a"),
    ("m", "cumulative", "b"),
    ("m", "delta", "c"),
    ("m", "cumulative", "d"),
    ("k", "gauge", "a"),
]
"""Meter, type and resource."""


def everything(
    site: Site, meter: str, query: list[Filter], start: datetime | None, end: datetime | None, limit: int
) -> pa.Table:
    """All points of the span, judged together; the newest that fulfil the query."""
    first, last = meter_span(site, EVERYTHING, meter)
    span = (start or first, end or last + timedelta(microseconds=1))
    condition, values = on_lake(all_of(query))
    identity = "coalesce(printf('%016x', v.sample_id), v.series_id || '-' || epoch_us(v.timestamp))"
    with site.lake.connect() as duck:
        view_all_points(duck, site, site.lake.version("samples"), [span], f"meter = '{meter}'")
        view_carried(duck, site.lake, [span], site.settings.carry_hours)
        judge(duck, site.rules, site.settings.carry_hours)
        return duck.sql(
            f"SELECT * EXCLUDE (series_id) FROM (SELECT v.series_id, {identity} AS id, meter, p.type, unit, volume, "
            "user_id, project_id, resource_id, source, timestamp, recorded_at, "
            f"{reason_names(site.rules, 'bits')} AS reasons FROM verdicts AS v JOIN (SELECT DISTINCT series_id, meter, "
            "type, unit, user_id, project_id, resource_id, source FROM points) AS p USING (series_id)) "
            f"WHERE {condition} ORDER BY timestamp DESC, id, recorded_at DESC, volume DESC, series_id LIMIT {limit}",
            params=values,
        ).to_arrow_table()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups, pages and what is read or judged together are small."""
    monkeypatch.setattr(sample_files, "FEW", 2)
    monkeypatch.setattr(sample_files, "SMALL_PAGE", 4)
    monkeypatch.setattr(sample_files, "LARGE_PAGE", 16)
    monkeypatch.setattr(raw_points, "AT_ONCE", 2)
    monkeypatch.setattr(raw_points, "POINTS_AT_ONCE", 60)
    monkeypatch.setattr(raw_points, "POINTS_A_FILE", 10)
    monkeypatch.setattr(raw_points, "MANY", 1)
    monkeypatch.setattr(sample_search, "AT_ONCE", 12)


FAR = 24 * 366 * 50
VOLUMES = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, 5.0, 9.0, -1.0, float("nan"), float("inf"), 1e300])
POINTS = st.lists(
    st.tuples(
        st.integers(0, len(SERIES) - 1),
        st.sampled_from([*range(12)] * 4 + [30, 70, FAR, -FAR // 2]),  # hours
        st.sampled_from([0, 0, 10, 20, 30, 59]),  # minutes
        VOLUMES,
        st.sampled_from([0, 0, 0, 1, 5, 30]),  # hours of delay
        st.integers(0, 3),  # sample
    ),
    max_size=40,
)
ASKED = st.tuples(
    st.sampled_from(["m", "m", "k"]),
    st.sampled_from([0, 1, 2, 3, 7, 1_000]),
    st.sampled_from([None, None, -5, 0, 3, 6, 12]),
    st.sampled_from([None, None, 4, 8, 12, 100, FAR + 1]),
    st.sampled_from(
        [[], [], [("resource", "eq", "b")], [("type", "eq", "delta")], [("resource", "eq", "nobody")],
         [("volume", "gt", "1")], [("resource", "eq", "d"), ("volume", "lt", "5")], [("resource", "gt", "a")]]
    ),
)  # fmt: skip


def as_points(drawn: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    made = []
    for which, hours, minutes, volume, delay, sample in drawn:
        meter, kind, resource = SERIES[which]
        when = at(minutes, hours=hours)
        received = min(when, at(hours=80)) + delay * times.HOUR if hours > -1 else at(delay)
        made.append(
            point(volume, when, meter=meter, type=kind, resource=resource, sample_id=sample, recorded_at=received)
        )
    return made


@pytest.mark.usefixtures("small")
@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(POINTS, min_size=1, max_size=4), st.lists(ASKED, min_size=2, max_size=3), st.booleans(), st.booleans())
def test_looking_up_samples_finds_what_reading_everything_finds(
    open_site: OpenSite, batches: list[Any], asked: list[Any], rolled: bool, compacted: bool
) -> None:
    site = open_site()
    whole = [(which, hour, 0, float(hour), 0, 0) for which in range(len(SERIES)) for hour in range(10)]
    land_points(site, as_points(whole))
    for batch in batches[:-1]:
        if batch:
            land_points(site, as_points(batch))
    if rolled:
        roll_up(site)
    if compacted:
        compact(site)
    if batches[-1]:
        land_points(site, as_points(batches[-1]))
    for meter, limit, start, end, conditions in asked:
        query = [Filter(*each, SAMPLES) for each in conditions]
        span = tuple(None if hours is None else at(hours=hours) for hours in (start, end))
        expected = everything(site, meter, query, *span, limit)
        found = samples(site, EVERYTHING, meter, query=query, start=span[0], end=span[1], limit=limit)
        assert found.schema.names == expected.schema.names
        assert repr(found.to_pylist()) == repr(expected.to_pylist())


def wide(site: Site, series: int, minutes: int) -> list[dict[str, Any]]:
    """A compacted hour with so many gauges of a meter, counters of another one, and some deltas."""
    kinds = [("m", "gauge"), ("n", "cumulative"), ("n", "delta")]
    made = [
        point(float(n * minute), at(minute), meter=meter, type=kind, resource=f"r{n}", sample_id=n)
        for meter, kind in kinds
        for n in range(series if kind != "delta" else 2)
        for minute in range(minutes)
    ]
    land_points(site, made)
    compact(site)
    return made


def pages_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each reading of pages."""
    rows: list[int] = []
    read = PageReader.read

    def counting(reader: PageReader, parts: Any) -> pa.Table:
        rows.append(sum(part.rows for part in parts))
        return read(reader, parts)

    monkeypatch.setattr(PageReader, "read", counting)
    return rows


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("metadata", [False, True])
def test_of_a_compacted_file_only_the_pages_of_a_series_are_read(
    site: Site, monkeypatch: pytest.MonkeyPatch, metadata: bool
) -> None:
    monkeypatch.setattr(sample_files, "TOO_MUCH", 100.0)
    made = wide(site, 30, 10)
    rows = pages_read(monkeypatch)
    for meter in ("m", "n"):
        raw = RawPoints(site.lake, meter, (at(), at(5)))
        for wanted in ({f"r{n}" for n in chosen} for chosen in ([7], [0], [29], [3, 4, 20], [])):
            expected = [row for row in made if row["meter"] == meter and row["resource_id"] in wanted]
            ids = np.array(sorted({row["series_id"] for row in expected}), np.int64)
            rows.clear()
            found = raw.read(ids=ids, metadata=metadata)
            assert found.schema.equals(POINT)
            keys = [
                (times.micros(row["timestamp"]), row["volume"], row["sample_id"] if row["type"] == "delta" else None)
                for row in expected
                if row["timestamp"] < at(5)
            ]
            columns = (found["timestamp"].cast(pa.int64()), found["volume"], found["sample_id"])
            assert sorted(map(repr, zip(*(each.to_pylist() for each in columns), strict=True))) == sorted(
                map(repr, keys)
            )
            # Pages have 4 rows, and a series 10: it is in at most 4 pages.
            assert sum(rows) <= 16 * len(ids)
            assert raw.series(ids)["resource_id"].to_pylist() == [
                next(row["resource_id"] for row in made if row["series_id"] == each) for each in ids.tolist()
            ]


@pytest.mark.parametrize("jitter", [0, 1_234_567])
def test_of_a_page_only_the_values_of_a_series_are_decoded(
    site: Site, monkeypatch: pytest.MonkeyPatch, jitter: int
) -> None:
    monkeypatch.setattr(sample_files, "FEW", 100)
    monkeypatch.setattr(sample_files, "SMALL_PAGE", 256)
    monkeypatch.setattr(sample_files, "TOO_MUCH", 100.0)
    kinds = [("m", "gauge", 25), ("n", "cumulative", 20), ("o", "delta", 20)]
    made = [
        point(
            *(float((n * minute) % 7), at(minute) + timedelta(microseconds=n * jitter % 50_000_017)),
            meter=meter,
            type=kind,
            resource=f"r{n}",
            sample_id=60 * n + minute,
        )
        for meter, kind, points in kinds
        for n in range(60)
        for minute in range(points)
    ]
    land_points(site, made)
    compact(site)
    added: list[bool] = []
    add = SeriesPages.add

    def counting(pages: SeriesPages, handle: int, run: Any) -> bool:
        added.append(add(pages, handle, run))
        return added[-1]

    monkeypatch.setattr(SeriesPages, "add", counting)
    for meter, _, _ in kinds:
        raw = RawPoints(site.lake, meter, (at(3), at(19)))
        whole = raw.read()
        for series_id in np.unique(whole["series_id"].to_numpy()).tolist():
            found = raw.read(ids=np.array([series_id]))
            expected = whole.filter(pa.array(whole["series_id"].to_numpy() == series_id))
            assert found.sort_by("timestamp").equals(expected.sort_by("timestamp"))
    assert sum(added) > 120  # of 180, but for those that begin in one page and end in the next
    assert not RawPoints(site.lake, "m", (at(), at(60))).read(ids=np.array([17]))


@pytest.mark.usefixtures("small")
def test_every_reader_of_parquet_reads_files_with_small_pages(site: Site) -> None:
    made = wide(site, 20, 7)
    (file,) = site.lake.files("samples")
    assert pq.ParquetFile(file).read(["volume"]).num_rows == len(made)
    with site.lake.connect() as duck:
        rows = duck.execute(f"SELECT series_id, epoch_us(timestamp), volume FROM '{file}' ORDER BY ALL").fetchall()
    assert rows == sorted((row["series_id"], times.micros(row["timestamp"]), row["volume"]) for row in made)


def test_the_newest_samples_are_found_without_a_look_at_older_files(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour in range(12):
        land_points(site, [point(float(n), at(n, hours=hour), type="cumulative") for n in range(60)])
    opened: list[str] = []
    parquet = Lake.parquet

    def counting(lake: Lake, name: str, path: str, **more: Any) -> Any:
        opened.append(path)
        return parquet(lake, name, path, **more)

    monkeypatch.setattr(Lake, "parquet", counting)
    assert len(samples(site, EVERYTHING, "m", limit=10)) == 10
    assert len(set(opened)) <= 2  # the newest one, and the point before its first one
    opened.clear()
    land_points(site, [point(1.0, at(hours=3.5), recorded_at=at(hours=12))])  # late
    assert samples(site, EVERYTHING, "m", limit=10)["timestamp"].to_pylist()[0] == at(59, hours=11)
    assert len(set(opened)) <= 3


def test_series_that_are_not_in_the_catalog_yet_are_found(site: Site) -> None:
    land_points(site, [point(1.0, at(), resource="a"), point(1.0, at(9), resource="z")])
    new = [point(2.0, at(1), resource="b"), point(3.0, at(2), resource="a")]
    site.lake.append("samples", pa.Table.from_pylist(new, schema=SAMPLES_TABLE))
    for resource, volumes in (("a", [3.0, 1.0]), ("b", [2.0])):
        found = samples(site, EVERYTHING, "m", query=[Filter("resource", "eq", resource, SAMPLES)])
        assert found["volume"].to_pylist() == volumes
