"""A site brings its history along: files of Parquet, of Gnocchi's measures, and of Prometheus's answers."""

import gzip
import json
import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import at, count, rows

from meterhouse.collection import json_text, parquet_files
from meterhouse.collection.gnocchi_files import Listings
from meterhouse.collection.load import Names, load
from meterhouse.site import Site

DIMENSIONS = "meter, type, unit, resource_id, project_id, user_id"


def write(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path


def test_parquet_has_the_columns_of_a_csv_in_any_fitting_type(site: Site, tmp_path: Path) -> None:
    moments = [datetime(2026, 11, 10, 12, 0, second, 500) for second in range(3)]
    table = {
        "Timestamp": pa.array(moments, pa.timestamp("ns")),
        "value": pa.array([1, None, 3], pa.int32()),
        "meter": pa.array(["m", "m", " "]).dictionary_encode(),
        "resource": pa.array(["r", "r", "r"], pa.large_string()),
        "type": ["Delta", None, None],
        "metadata": pa.array([{"a": 1}] * 3),
    }
    other = {"timestamp": ["2026-11-10T13:00+01:00", "soon"], "volume": ["2.5", "1"]}
    days = {"timestamp": pa.array([date(2026, 11, 9), None]), "volume": pa.array([Decimal("1.50"), Decimal("2.00")])}
    files = []
    for name, columns in (("a.parquet", table), ("b.dat", other), ("c.parquet", days)):
        pq.write_table(pa.table(columns), tmp_path / name)
        files.append(tmp_path / name)
    done = load(site, files)
    assert (done.refused, done.samples, done.collected.dead_letters) == ([], 3, 4)
    found = rows(site, "samples", f"timestamp, volume, {DIMENSIONS}", order="volume")
    assert [tuple(row.values()) for row in found] == [
        (datetime(2026, 11, 10, 12, 0, 0, 500, UTC), 1.0, "m", "delta", None, "r", None, None),
        (datetime(2026, 11, 9, tzinfo=UTC), 1.5, "c", "gauge", None, "c", None, None),
        (at(), 2.5, "b", "gauge", None, "b", None, None),
    ]
    letters = rows(site, "dead_letters", "queue, reason, decode(body) AS body", order="queue")
    assert [(row["queue"], row["reason"]) for row in letters] == [
        ("load:a.parquet:2", "the volume is missing"),
        ("load:a.parquet:3", "the meter is missing"),
        ("load:b.dat:2", "the timestamp is not ISO 8601"),
        ("load:c.parquet:2", "the timestamp is missing"),
    ]
    assert json.loads(letters[2]["body"]) == {"timestamp": "soon", "volume": "1"}
    assert load(site, files).samples == 0


def test_a_large_row_group_is_read_in_parts(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "BATCH_ROWS", 40)
    moments = pa.array([*range(200), 1 << 62], pa.timestamp("ms"))
    pq.write_table(pa.table({"timestamp": moments, "volume": [float(n) for n in range(201)]}), tmp_path / "a.parquet")
    done = load(site, [tmp_path / "a.parquet"])
    assert (done.samples, done.collected.dead_letters) == (200, 1)
    (letter,) = rows(site, "dead_letters")
    assert (letter["queue"], letter["reason"]) == ("load:a.parquet:201", "the timestamp is outside 1970 to 2261")


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("a.parquet", {"timestamp": [1], "volume": [1.0]}, "has a column timestamp of int64, not of timestamps"),
        ("a.parquet", {"timestamp": ["x"], "volume": [True]}, "has a column volume of bool, not of numbers"),
        ("a.parquet", {"timestamp": ["x"], "volume": [1], "unit": [1]}, "has a column unit of int64, not of texts"),
        ("a.parquet", {"timestamp": ["x"], "vlaue": [1]}, "unknown column 'vlaue'. Did you mean value"),
        ("a.parquet", {"timestamp": ["x"]}, "has no column volume"),
        ("a.parquet", "PAR1 and then nothing", "cannot be read as Parquet"),
        ("a.parquet", "text", "is not a Parquet file"),
        ("a.json", {"status": "success", "data": {"resultType": "vector", "result": []}}, "Query a span of time"),
        (
            "a.json",
            '{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[',
            "end",
        ),
        ("a.json", '{"status": "success", "data": {"resultType": "matrix", "result": 5}}', r"there is no \["),
        (
            "a.json",
            {"status": "error", "errorType": "bad_data", "error": "no step"},
            "of Prometheus that says: no step",
        ),
        ("a.json", '[["2026-11-10T12:00:00+00:00", 300.0, 1.5], ["2026-11-10T1', "an array does not end"),
        ("a.json", '[["2026-11-10T12:00:00+00:00", 300.0, 1.5 2]]', "cannot be read as JSON"),
        ("a.json", {"ffff": [["2026-11-10T12:00:00+00:00", 300.0, 1.5]]}, "metric ffff, which is not listed"),
        ("a.json.gz", b"no gzip", "has an unknown ending|cannot be read|damaged|not a JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    site: Site, tmp_path: Path, name: str, columns: Any, said: str
) -> None:
    path = tmp_path / name
    if isinstance(columns, dict) and name.endswith(".parquet"):
        pq.write_table(pa.table(columns), path)
    elif isinstance(columns, bytes):
        path.write_bytes(columns)
    else:
        write(path, columns)
    done = load(site, [path])
    if not isinstance(columns, bytes):
        (refused,) = done.refused
        assert re.search(said, str(refused)), str(refused)
    assert count(site, "samples") == 0


RESOURCE, METRIC = "1c6b0d2e-0000-4000-8000-000000000001", "9f0d0a1b-0000-4000-8000-00000000000a"
OTHER = "9f0d0a1b-0000-4000-8000-00000000000b"
MEASURES = [["2026-11-10T12:00:00+00:00", 300.0, 1.5], ["2026-11-10T12:05:00+00:00", 300.0, 2]]
SHOWN = [dict(zip(("timestamp", "granularity", "value"), each, strict=True)) for each in MEASURES]


@pytest.fixture
def names(tmp_path: Path) -> Names:
    listings = Listings()
    metrics = [
        {"id": METRIC, "archive_policy/name": "low", "name": "cpu", "unit": None, "resource_id": RESOURCE},
        {"id": OTHER, "archive_policy/name": "low", "name": "size", "unit": "GiB", "resource_id": RESOURCE},
    ]
    resources = [{"id": RESOURCE, "project_id": "p", "user_id": "u", "original_resource_id": "host/vm", "type": "x"}]
    listings.read(write(tmp_path / "metrics.json", metrics))
    listings.read(write(tmp_path / "resources.json", resources))
    return Names(listings)


@pytest.mark.parametrize(
    "content",
    [
        MEASURES,
        SHOWN,
        json.dumps(SHOWN, indent=2),
        json.dumps(MEASURES, separators=(",", ":")),
        json.dumps(SHOWN).replace("2026-11-10T12:00", "\\u0032026-11-10T12:00"),
        {METRIC: MEASURES},
        {METRIC: SHOWN},
        {RESOURCE: {"cpu": MEASURES}},
        {RESOURCE: {"cpu": {"archive_policy_name": "low", "measures": SHOWN}}},
        {"measures": {METRIC: {"mean": MEASURES}}},
        {"references": [{"id": RESOURCE}], "measures": {RESOURCE: {"cpu": {"mean": MEASURES}}}},
    ],
)
@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_measures_of_gnocchi_in_any_of_its_forms_are_those_of_the_listed_metric(
    site: Site, tmp_path: Path, names: Names, content: Any, ending: str
) -> None:
    done = load(site, [write(tmp_path / f"{METRIC}{ending}", content)], names=names)
    assert (done.refused, done.samples, done.collected.dead_letters) == ([], 2, 0)
    found = rows(site, "samples", f"timestamp, volume, {DIMENSIONS}", order="volume")
    assert [tuple(row.values()) for row in found] == [
        (at(), 1.5, "cpu", "cumulative", "ns", "host/vm", "p", "u"),
        (at(5), 2.0, "cpu", "cumulative", "ns", "host/vm", "p", "u"),
    ]


def test_a_csv_of_a_listed_metric_is_of_it_too(site: Site, tmp_path: Path, names: Names) -> None:
    text = '"timestamp","granularity","value"\n"2026-11-10T12:00:00+00:00",300.0,1.5\n'
    load(site, [write(tmp_path / f"{OTHER}.csv", text)], names=names)
    (found,) = rows(site, "samples", DIMENSIONS)
    assert tuple(found.values()) == ("size", "gauge", "GiB", "host/vm", "p", "u")


def test_a_measure_that_is_none_is_a_dead_letter(site: Site, tmp_path: Path, names: Names) -> None:
    measures = [*MEASURES, ["soon", 300.0, 1], ["2026-11-10T13:00:00+00:00", 300.0, None], ["2026-11-10"]]
    done = load(site, [write(tmp_path / "a.json", {METRIC: measures, OTHER: []})], names=names)
    assert (done.samples, done.collected.dead_letters) == (2, 3)
    found = {row["queue"]: row["reason"] for row in rows(site, "dead_letters")}
    assert found["load:a.json:3"] == "the timestamp is not ISO 8601"
    assert found["load:a.json:4"] == "the volume is missing"


def test_a_point_that_is_none_is_kept_as_json(site: Site, tmp_path: Path) -> None:
    content = answer(({"__name__": "up", "instance": "h"}, [[SECONDS, "1"], [1e30, "2"]]))
    done = load(site, [write(tmp_path / "a.json", content)])
    assert (done.samples, done.collected.dead_letters) == (1, 1)
    (letter,) = rows(site, "dead_letters", "reason, decode(body) AS body")
    assert letter == {"reason": "the timestamp is outside 1970 to 2261", "body": '[1e+30,"2"]'}


def test_measures_of_several_granularities_and_aggregates_are_refused(site: Site, tmp_path: Path, names: Names) -> None:
    files = [
        write(tmp_path / "a.json", {METRIC: [MEASURES[0], ["2026-11-10T12:00:00+00:00", 3600.0, 7]]}),
        write(tmp_path / "b.json", {"measures": {METRIC: {"mean": MEASURES, "max": MEASURES}}}),
    ]
    granularities, aggregates = map(str, load(site, files, names=names).refused)
    assert "2 granularities: 300.0, 3600.0" in granularities
    assert "several aggregates" in aggregates
    assert count(site, "samples") == 0


def answer(*series: tuple[dict[str, str], list[Any]]) -> dict[str, Any]:
    result = [{"metric": labels, "values": values} for labels, values in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


SECONDS = int(at().timestamp())


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("points_bytes", [4 << 20, 100])
def test_an_answer_of_prometheus_is_samples_named_by_its_labels(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, points_bytes: int
) -> None:
    monkeypatch.setattr(json_text, "POINTS_BYTES", points_bytes)
    content = answer(
        ({"__name__": "up", "instance": 'h:"]]1', "job": "node"}, [[SECONDS, "1"], [SECONDS + 0.25, "NaN"]]),
        ({"__name__": "http_requests_total", "instance": "h:1"}, [[SECONDS + n, str(n)] for n in range(20)]),
        ({"__name__": "ceilometer_cpu", "resource_id": "vm", "project_id": "p", "type": "delta"}, [[SECONDS, "+Inf"]]),
        ({"instance": "h:1"}, [[SECONDS, "-2.5e-3"]]),
        ({"__name__": "none", "instance": "h:1"}, []),
    )
    done = load(site, [write(tmp_path / "a.json", json.dumps(content, indent=indent))])
    assert (done.refused, done.samples, done.collected.dead_letters) == ([], 24, 0)
    found = rows(
        site, "samples", f"{DIMENSIONS}, min(timestamp) AS at, count(*) AS n, max(volume) AS v", "true GROUP BY ALL"
    )
    by_meter = {row["meter"]: tuple(row.values())[1:] for row in found}
    assert by_meter["http_requests_total"] == ("cumulative", None, "h:1", None, None, at(), 20, 19.0)
    assert by_meter["ceilometer_cpu"] == ("delta", None, "vm", "p", None, at(), 1, math.inf)
    assert by_meter["a"] == ("gauge", None, "h:1", None, None, at(), 1, -0.0025)
    assert by_meter["up"][:7] == ("gauge", None, 'h:"]]1', None, None, at(), 2)


def test_series_that_differ_only_in_unused_labels_need_a_label_for_their_resource(site: Site, tmp_path: Path) -> None:
    content = answer(
        ({"__name__": "disk", "instance": "h", "device": "sda"}, [[SECONDS, "1"]]),
        ({"__name__": "disk", "instance": "h", "device": "sdb"}, [[SECONDS, "2"], [SECONDS, "much"], ["x", "1"]]),
    )
    path = write(tmp_path / "a.json", content)
    (refused,) = load(site, [path]).refused
    assert "series of disk that differ only in device" in str(refused)
    assert "--label resource_id=instance,device" in str(refused)
    done = load(site, [path], names=Names(labels={"resource_id": ["instance", "device"]}))
    assert {row["queue"] for row in rows(site, "dead_letters", "queue")} == {"load:a.json:3", "load:a.json:4"}
    assert (done.samples, done.collected.dead_letters) == (2, 2)
    assert [row["resource_id"] for row in rows(site, "samples", "resource_id", order="volume")] == ["h/sda", "h/sdb"]


def test_a_parquet_file_without_rows_has_no_samples(site: Site, tmp_path: Path) -> None:
    columns = {"timestamp": pa.array([], pa.timestamp("us", "UTC")), "volume": pa.array([], pa.float64())}
    pq.write_table(pa.table(columns), tmp_path / "cpu.parquet")
    done = load(site, [tmp_path / "cpu.parquet"])
    assert (done.files, done.samples, done.refused) == (1, 0, [])
