"""Filters: a condition finds the same in the lake and in both kinds of warehouse, and a value is only a value."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from builders import at, land_points, point, roll_up
from sqlalchemy import insert, update

from meterhouse import times
from meterhouse.errors import UnknownKeyword, UsageError
from meterhouse.filters import EVENTS, OPERATORS, RESOURCES, SAMPLES, SERIES, Field, Filter, find, names, on_lake
from meterhouse.queries.events import events
from meterhouse.queries.resources import resource, resource_list
from meterhouse.queries.samples import samples
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import ALL_EVENTS, EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.lake_tables import EVENTS as EVENT_COLUMNS
from meterhouse.stores.warehouse_tables import resource_metadata, resources

HOSTILE = ["x' OR 'a' = 'a", '"; DROP TABLE series; --', "?", ":start", "%", "_", "\\", "\N{SNOWMAN}\n\x1b[2J", ""]


# -- what a filter is -----------------------------------------------------------------------------------------


def test_an_unknown_field_or_operator_names_near_ones_and_those_of_its_kind_only() -> None:
    with pytest.raises(UnknownKeyword, match=r"unknown field 'volum'\. Did you mean volume\?"):
        Filter("volum", "eq", "1", SAMPLES)
    with pytest.raises(UnknownKeyword, match="unknown field 'volume'"):
        Filter("volume", "eq", "1", SERIES)
    with pytest.raises(UnknownKeyword, match=r"unknown field 'proj'\. Did you mean project, project_id\?"):
        Filter("proj", "eq", "1")
    with pytest.raises(UnknownKeyword, match=r"unknown operator 'gte'\. Did you mean"):
        Filter("volume", "gte", "1", SAMPLES)


@pytest.mark.parametrize(
    "name", ["metadata", "metadata.", ".host", 'metadata.KEY"', "metadata.a\\b", "traits.state", ""]
)
def test_a_field_with_keys_needs_one_that_every_store_can_look_up(name: str) -> None:
    with pytest.raises(UnknownKeyword, match="unknown field"):
        Filter(name, "eq", "x", RESOURCES)


def test_a_field_with_keys_takes_any_key_also_with_dots() -> None:
    assert find(RESOURCES, "metadata.flavor.name") == Field("metadata", "loose", "flavor.name")
    assert find(EVENTS, "traits.state") == Field("traits", "loose", "state")
    assert "metadata.KEY" in names(RESOURCES)
    assert "traits.KEY" in names(EVENTS)


@pytest.mark.parametrize("text", ["many", "1,5", "", "0x10"])
def test_a_number_is_asked_for_where_the_field_is_one(text: str) -> None:
    with pytest.raises(UsageError, match=f"volume: '{text}' is not a number"):
        Filter("volume", "gt", text, SAMPLES)


def test_a_time_is_asked_for_where_the_field_is_one() -> None:
    with pytest.raises(UsageError, match="'soon' is not a time"):
        Filter("timestamp", "gt", "soon", SAMPLES)
    assert Filter("timestamp", "gt", "2026-11-10T13:00:00+01:00", SAMPLES).operand == at()


def test_no_value_is_part_of_a_statement() -> None:
    for fields in (SERIES, SAMPLES, EVENTS):
        for name in names(fields):
            for op in OPERATORS:
                kind = find(fields, name).type
                value = {"number": "987654321", "time": "2026-11-10T12:34:56Z"}.get(kind, "987654321' OR true --")
                condition, values = on_lake(Filter(name, op, value, fields))
                assert "987654321" not in condition
                assert "12:34" not in condition
                assert condition.count("?") == len(values) > 0


def test_filters_load_no_store() -> None:
    probe = "import sys, meterhouse.filters; print({'sqlalchemy', 'duckdb', 'pyarrow', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


# -- samples and statistics -----------------------------------------------------------------------------------


def volumes(site: Site, *conditions: tuple[str, str, str]) -> list[float]:
    found = samples(site, EVERYTHING, "m", query=[Filter(*each, SAMPLES) for each in conditions])
    return sorted(found["volume"].to_pylist())


def test_volumes_compare_as_numbers(site: Site) -> None:
    land_points(site, [point(volume, at(n)) for n, volume in enumerate([9, 10, 100, -5, math.nan, math.inf])])
    assert volumes(site, ("volume", "gt", "9")) == [10, 100, math.inf]
    assert volumes(site, ("volume", "ge", "10")) == [10, 100, math.inf]
    assert volumes(site, ("volume", "lt", "10")) == [-5, 9]
    assert volumes(site, ("volume", "le", "-5.0")) == [-5]
    assert volumes(site, ("volume", "eq", "1e1")) == [10]
    assert volumes(site, ("volume", "gt", "9"), ("volume", "lt", "50")) == [10]
    assert volumes(site, ("volume", "eq", "inf")) == [math.inf]
    assert math.isnan(volumes(site, ("volume", "eq", "nan"))[0])


def test_timestamps_compare_as_times(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land_points(site, [point(n, at(hours=n)) for n in range(5)])
    assert volumes(site, ("timestamp", "ge", "2026-11-10T16:00:00+02:00")) == [2, 3, 4]
    assert volumes(site, ("timestamp", "eq", "2026-11-10 13:00")) == [1]
    assert volumes(site, ("recorded_at", "lt", times.text(at(hours=1)))) == [0]
    monkeypatch.setattr(times, "now", lambda: at(hours=4, minutes=30))
    assert volumes(site, ("timestamp", "gt", "-100m")) == [3, 4]


def test_a_hostile_value_is_only_a_value(site: Site) -> None:
    resources = [*HOSTILE, "other"]
    land_points(site, [point(n, at(n), resource=value) for n, value in enumerate(resources)])
    for n, value in enumerate(HOSTILE):
        for name in ("resource", "resource_id"):
            assert volumes(site, (name, "eq", value)) == [n]
            assert volumes(site, (name, "ne", value)) == [m for m in range(len(resources)) if m != n]
            (found,) = statistics(site, EVERYTHING, "m", query=[Filter(name, "eq", value)])
            assert (found["count"], found["sum"]) == (1, n)
            (shown,) = resource_list(site, EVERYTHING, query=[Filter(name, "eq", value, RESOURCES)])
            assert shown["resource_id"] == value
        for name in set(names(SERIES)) - {"resource", "resource_id"}:
            assert volumes(site, (name, "eq", value)) == []


# -- events ---------------------------------------------------------------------------------------------------

TRAITS: dict[str, Mapping[str, tuple[str, str]]] = {
    "small": {"memory_mb": ("integer", "512"), "state": ("text", "active"), "at": ("datetime", "2026-11-10T12:00:00")},
    "large": {
        "memory_mb": ("integer", "4096"),
        "state": ("text", "error"),
        "at": ("datetime", "2026-11-10T12:00:00.5"),
    },
    "part": {"memory_mb": ("float", "1000.0"), "state": ("text", "9"), "at": ("datetime", "nonsense")},
    "odd": {"memory_mb": ("text", "much"), "state": ("text", "10")},
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


BY_TRAIT = (
    ("traits.state eq error", "large"),
    ("traits.state ne error", "odd part small"),
    ("traits.memory_mb gt 600", "large part"),
    ("traits.memory_mb le 512.0", "small"),
    ("traits.memory_mb eq 1000", "part"),
    ("traits.memory_mb ne 1000", "large odd small"),
    ("traits.memory_mb eq much", "odd"),
    ("traits.state gt 9", "odd"),
    ("traits.state lt error", "active-and-numbers"),
    ("traits.at gt 2026-11-10T13:00:00+01:00", "large"),
    ("traits.at eq 2026-11-10T12:00:00Z", "small"),
    ("traits.missing ne x", ""),
    ("event_type eq box.odd", "odd"),
    ("message_id gt odd", "part small"),
    ("generated ge 2026-11-10T12:03:00Z", "none odd"),
)


def test_events_are_found_by_trait_as_numbers_times_and_texts(with_events: Site) -> None:
    differing = []
    for condition, wanted in BY_TRAIT:
        field, op, value = condition.split()
        found = events(with_events, ALL_EVENTS, query=[Filter(field, op, value, EVENTS)])["message_id"].to_pylist()
        if sorted(found) != (["odd", "part", "small"] if wanted == "active-and-numbers" else wanted.split()):
            differing.append((condition, found))
    assert differing == []


def test_conditions_on_events_hold_together_with_type_and_span(with_events: Site) -> None:
    conditions = [Filter("traits.memory_mb", "gt", "100", EVENTS), Filter("traits.state", "ne", "error", EVENTS)]
    found = events(with_events, ALL_EVENTS, event_type="box.*", query=conditions, end=at(2))
    assert found["message_id"].to_pylist() == ["small"]
    assert events(with_events, ALL_EVENTS, event_type="x' OR true --").num_rows == 0


# -- resources ------------------------------------------------------------------------------------------------

HOSTILE = {"long": "5" * 400, "tiny": f"0.{'0' * 400}1", "space": "\u00a05", "id": "007"}
"""What looks like a number, and what no database must take for one."""

METADATA: dict[str, Any] = {
    "a": {"host": "h1", "memory_mb": 512, "on": True, "flavor": {"name": "m1", "id": 7}, "odd key": None},
    "b": {"host": "h2", "memory_mb": "2048", "on": False, "flavor.name": "m2", "flavor": {"name": "m1"}},
    "c": {"host": "1e1", "memory_mb": "much", "tags": ["x", "y"], "it's": "10", "size": "9", **HOSTILE},
    "d": None,
}


@pytest.fixture
def with_resources(any_warehouse: Site) -> Site:
    points = [point(1, at(n), resource=name, meter="cpu", project=f"p{n}") for n, name in enumerate(METADATA)]
    land_points(any_warehouse, [*points, point(1, at(9), resource="a", meter="memory", project="p0")])
    roll_up(any_warehouse)
    with any_warehouse.warehouse.begin() as connection:
        for number, (name, metadata) in enumerate(METADATA.items()):
            if metadata is not None:
                values = {"metadata_id": number, "metadata": json.dumps(metadata)}
                connection.execute(insert(resource_metadata).values(values))
                connection.execute(update(resources).where(resources.c.resource_id == name).values(metadata_id=number))
    return any_warehouse


BY_METADATA = (
    (("resource_id", "eq", "a"), "a"),
    (("project", "ge", "p2"), "c d"),
    (("project_id", "ne", "p1"), "a c d"),
    (("source", "eq", "openstack"), "a b c d"),
    (("meter", "eq", "memory"), "a"),
    (("meter", "ne", "memory"), "b c d"),
    (("meter", "gt", "cpu"), "a"),
    (("first_sample_at", "gt", "2026-11-10T13:01:00+01:00"), "c d"),
    (("last_sample_at", "le", "2026-11-10T12:01:00Z"), "b"),
    (("metadata.host", "eq", "h1"), "a"),
    (("metadata.host", "ne", "h1"), "b c"),
    (("metadata.host", "eq", "10"), ""),
    (("metadata.host", "eq", "1e1"), "c"),
    (("metadata.tags.0", "eq", "x"), "c"),
    (("metadata.size", "gt", "8.5"), "c"),
    (("metadata.long", "gt", "4"), ""),
    (("metadata.tiny", "lt", "4"), ""),
    (("metadata.space", "eq", "5"), ""),
    (("metadata.id", "eq", "7"), ""),
    (("metadata.id", "eq", "007"), "c"),
    (("metadata.memory_mb", "gt", "1000"), "b"),
    (("metadata.memory_mb", "lt", "1000"), "a"),
    (("metadata.memory_mb", "eq", "512.0"), "a"),
    (("metadata.memory_mb", "ne", "512"), "b c"),
    (("metadata.memory_mb", "eq", "much"), "c"),
    (("metadata.on", "eq", "true"), "a"),
    (("metadata.flavor.name", "eq", "m1"), "a"),
    (("metadata.flavor.name", "eq", "m2"), "b"),
    (("metadata.flavor.id", "eq", "7"), "a"),
    (("metadata.it's", "eq", "10"), "c"),
    (("metadata.odd key", "ne", "x"), ""),
    (("metadata.missing", "ne", "x"), ""),
    (("metadata.host", "eq", "h1' OR 'a' = 'a"), ""),
    (("metadata.x' OR 'a' = 'a", "eq", "h1"), ""),
)


def test_resources_are_found_alike_in_both_warehouses(with_resources: Site) -> None:
    differing = []
    for condition, wanted in BY_METADATA:
        found = resource_list(with_resources, EVERYTHING, query=[Filter(*condition, RESOURCES)])
        if sorted(row["resource_id"] for row in found) != wanted.split():
            differing.append((condition, found))
    assert differing == []


def test_conditions_on_resources_hold_together(with_resources: Site) -> None:
    conditions = [
        ("meter", "eq", "memory"),
        ("meter", "eq", "cpu"),
        ("metadata.host", "ge", "h"),
        ("project", "eq", "p0"),
    ]
    found = resource_list(with_resources, EVERYTHING, query=[Filter(*each, RESOURCES) for each in conditions])
    assert [row["resource_id"] for row in found] == ["a"]
    assert found[0]["metadata"] == METADATA["a"]


def test_a_resource_is_shown_with_all_its_meters(with_resources: Site) -> None:
    found = resource(with_resources, EVERYTHING, "a")
    assert {name: found[name] for name in ("project_id", "user_id", "last_sample_at", "metadata")} == {
        "project_id": "p0",
        "user_id": "u1",
        "last_sample_at": at(9),
        "metadata": METADATA["a"],
    }
    assert [(row["meter"], row["first_seen"], row["last_seen"]) for row in found["meters"]] == [
        ("cpu", at(), at()),
        ("memory", at(9), at(9)),
    ]


def test_the_newest_sample_says_which_source_a_resource_is_of(site: Site) -> None:
    older, newer = point(1, at(1)), {**point(1, at(2)), "source": "other", "series_id": 7}
    land_points(site, [newer, older, {**point(1, at(3)), "resource_id": "r2", "series_id": 8}])
    roll_up(site)
    found = resource(site, EVERYTHING, "r1")
    assert (found["source"], found["meters"][0]["first_seen"]) == ("other", at(2))
    found = resource(site, EVERYTHING, "r1", "openstack")
    assert (found["source"], found["meters"][0]["first_seen"]) == ("openstack", at(1))


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (("volume", "lt", "nan"), "nothing is lt nan"),
        (("volume", "gt", "1_0"), "'1_0' is not a number"),
        (("resource_id", "eq", "a\0b"), "NUL"),
    ],
)
def test_a_value_that_no_store_can_compare_is_a_usage_error(condition: tuple[str, str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Filter(*condition, SAMPLES)


def test_every_field_of_resources_is_a_column_or_has_keys() -> None:
    known = {*resources.c.keys(), "meter", "metadata"}
    assert {field.column for field in RESOURCES.values()} <= known


def test_a_span_of_a_field_needs_two_conditions(site: Site) -> None:
    land_points(site, [point(n, at(n)) for n in range(5)])
    start, end = times.text(at(1)), times.text(at(1) + timedelta(minutes=2))
    assert volumes(site, ("timestamp", "ge", start), ("timestamp", "lt", end)) == [1, 2]
