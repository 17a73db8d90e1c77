"""Every query takes conditions that are joined, in Python and on the command line."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import at, land_points, point, roll_up
from command_line import Run
from sqlalchemy import insert

from meterhouse.errors import UsageError
from meterhouse.filters import EVENTS, RESOURCES, SAMPLES, SERIES, Condition, parse
from meterhouse.queries.events import events
from meterhouse.queries.resources import resource_list
from meterhouse.queries.samples import samples
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import ALL_EVENTS, EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.lake_tables import EVENTS as EVENT_COLUMNS
from meterhouse.stores.warehouse_tables import resource_metadata

SNAPSHOTS: dict[int, dict[str, Any]] = {
    1: {"flavor": {"name": "m1.small"}, "memory_mb": "512", "tags": ["a", "b"]},
    2: {"flavor": {"name": "m1.large"}, "memory_mb": 4096, "host": "h2"},
    3: {"flavor.name": "m2.tiny", "on": True, "note": "it's ☃"},
}


@pytest.fixture
def described(any_warehouse: Site) -> Site:
    """A site with samples whose metadata changes, and some that have none."""
    ids = [1, 1, 2, 3, None]
    land_points(any_warehouse, [{**point(n, at(n)), "metadata_id": each} for n, each in enumerate(ids)])
    with any_warehouse.warehouse.begin() as connection:
        rows = [{"metadata_id": n, "metadata": json.dumps(each)} for n, each in SNAPSHOTS.items()]
        connection.execute(insert(resource_metadata), rows)
    return any_warehouse


def volumes(site: Site, text: str, meter: str = "m") -> list[float]:
    return sorted(samples(site, EVERYTHING, meter, query=[parse(text, SAMPLES)])["volume"].to_pylist())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("metadata.flavor.name = m1.small", [0, 1]),
        (r'metadata.flavor.name =~ "^m1\."', [0, 1, 2]),
        (r'metadata.flavor.name !~ "^m1\."', [3]),
        (r'not metadata.flavor.name =~ "^m1\."', [3, 4]),
        ("metadata.memory_mb > 600", [2]),
        ("metadata.memory_mb in (512.0, 4096)", [0, 1, 2]),
        ("metadata.tags.1 = b and volume >= 1", [1]),
        ("metadata.tags.2 = b", []),
        ("metadata.on = true or metadata.host = h2", [2, 3]),
        ("metadata.note = 'it''s ☃'", [3]),
        ("metadata.host != h1", [2]),
        ("not metadata.host = h2", [0, 1, 3, 4]),
        ("volume > 1 and not (resource = r2 or metadata.on = true)", [2, 4]),
        ('metadata."x\' OR true --" = 1', []),
    ],
)
def test_samples_are_found_by_their_own_metadata(described: Site, text: str, found: list[float]) -> None:
    assert volumes(described, text) == found


def test_the_columns_of_samples_do_not_depend_on_the_condition(described: Site) -> None:
    plain = samples(described, EVERYTHING, "m")
    found = samples(described, EVERYTHING, "m", query=[parse("not metadata.flavor.name = x", SAMPLES)])
    assert found == plain


def test_the_metadata_of_a_sample_is_that_of_the_copy_that_counts(described: Site) -> None:
    first = {**point(7, at(10), meter="c"), "metadata_id": 1}
    later = {**point(7, at(10), meter="c", recorded_at=at(20)), "metadata_id": 2}
    deltas = [{**point(8, at(10), meter="d", type="delta", sample_id=n), "metadata_id": n} for n in (1, 2)]
    land_points(described, [later, first, *deltas])
    assert volumes(described, "metadata.memory_mb = 512", "c") == [7]
    assert volumes(described, "metadata.memory_mb = 4096", "c") == []
    assert volumes(described, "metadata.memory_mb = 4096", "d") == [8]
    assert volumes(described, "metadata.memory_mb > 0", "d") == [8, 8]


def test_statistics_take_joined_conditions(site: Site) -> None:
    land_points(site, [point(n, at(n), resource=f"r{n % 3}", project=None if n == 4 else "p") for n in range(6)])

    def total(text: str) -> float:
        (found,) = statistics(site, EVERYTHING, "m", query=[parse(text, SERIES)], aggregate=["sum"])
        return float(found["sum"])

    assert total("resource in (r0, r1) and not project = p") == 4
    assert total('resource =~ "[12]$" or project != p') == 1 + 2 + 4 + 5
    assert total("not metadata.a = b") == 15
    assert statistics(site, EVERYTHING, "m", query=[parse("metadata.a != b", SERIES)]) == []


def test_what_is_not_a_number_is_neither_greater_nor_less(site: Site) -> None:
    land_points(site, [point(n, at(m)) for m, n in enumerate([1, 10, math.inf, math.nan])])
    assert volumes(site, "volume > 5") == [10, math.inf]
    assert volumes(site, "volume in (10, inf)") == [10, math.inf]
    assert len(volumes(site, "not volume > 5")) == 2
    assert len(volumes(site, "not volume in (nan)")) == 3


TRAITS = {
    "old": {"size": ("integer", "10"), "at": ("datetime", "2026-11-10T11:00:00")},
    "new": {"size": ("text", "large"), "at": ("datetime", "2026-11-10T12:00:00")},
    "none": {},
}


@pytest.fixture
def with_events(site: Site) -> Site:
    rows = [
        {
            "arrival_hour": "2026-11-10T12",
            "message_id": name,
            "event_type": f"box.{name}",
            "generated": at(n),
            "traits": [{"name": key, "dtype": dtype, "value": value} for key, (dtype, value) in traits.items()],
            "raw": None,
        }
        for n, (name, traits) in enumerate(TRAITS.items())
    ]
    site.lake.append("events", pa.Table.from_pylist(rows, schema=EVENT_COLUMNS))
    return site


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("traits.size in (10.0, huge)", ["old"]),
        ("traits.size =~ arg", ["new"]),
        ("traits.size !~ arg", ["old"]),
        ("not traits.size = 10", ["new", "none"]),
        ("not (traits.size = 10 or traits.size = large)", ["none"]),
        ("traits.at in (2026-11-10T12:00:00Z, x)", ["new"]),
        ("traits.at < 2026-11-10T13:00:00+01:00", ["old"]),
        ("event_type =~ '^box' and generated >= 2026-11-10T12:01:00Z", ["new", "none"]),
        ("not traits.missing = x", ["new", "none", "old"]),
        ("traits.missing != x", []),
    ],
)
def test_events_are_found_by_joined_conditions(with_events: Site, text: str, found: list[str]) -> None:
    assert sorted(events(with_events, ALL_EVENTS, query=[parse(text, EVENTS)])["message_id"].to_pylist()) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("meter = cpu and not meter = memory", ["b"]),
        ("meter in (memory, disk)", ["a"]),
        ("meter =~ '^c' and meter !~ mem", ["b"]),
        ("not meter =~ '^c'", ["c"]),
        ("meter != cpu or project = p0", ["a", "c"]),
        ("not (meter = cpu or meter = net)", []),
        ("last_sample_at in (2026-11-10T12:02:00Z)", ["c"]),
    ],
)
def test_resources_are_found_by_joined_conditions(any_warehouse: Site, text: str, found: list[str]) -> None:
    points = [
        point(1, at(), resource="a", meter="cpu", project="p0"),
        point(1, at(1), resource="a", meter="memory", project="p0"),
        point(1, at(1), resource="b", meter="cpu", project="p1"),
        point(1, at(2), resource="c", meter="net", project=None),
    ]
    land_points(any_warehouse, points)
    roll_up(any_warehouse)
    condition: Condition = parse(text, RESOURCES)
    assert sorted(row["resource_id"] for row in resource_list(any_warehouse, EVERYTHING, query=[condition])) == found


def test_the_command_line_takes_both_kinds_of_conditions(run: Run, tmp_path: Path) -> None:
    csv = tmp_path / "points.csv"
    rows = [f"2026-11-20T10:0{n}:00Z,m,r{n},{n}" for n in range(6)]
    csv.write_text("\n".join(["timestamp,meter,resource_id,volume", *rows]))
    assert run("load", str(csv)).exit_code == 0
    options = ["--format", "value", "--columns", "volume", "-q", "volume", "gt", "1"]
    done = run("samples", "m", *options, "--where", "not (resource = r2 or volume = 4)")
    assert done.stdout.split() == ["5.0", "3.0"], done.output
    refused = run("samples", "m", "--where", "resource = ")
    assert isinstance(refused.exception, UsageError)
    assert str(refused.exception).startswith("column 12, at 'resource = --> '")
