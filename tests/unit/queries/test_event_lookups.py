"""Looking up events by their traits reads few of them, and finds exactly what reading everything would find."""

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import at
from conftest import OpenSite
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from meterhouse.archive import event_files
from meterhouse.archive.compaction import compact
from meterhouse.filters import EVENTS, And, Condition, Filter, Not, OneOf, Or
from meterhouse.queries import event_groups
from meterhouse.queries.events import events
from meterhouse.scopes import ALL_EVENTS
from meterhouse.site import Site
from meterhouse.stores.group_reading import GroupReader
from meterhouse.stores.lake_tables import EVENTS as COLUMNS
from meterhouse.stores.trait_filters import Sought

NAMES = ("resource_id", "project_id", "state", "at")
VALUES = ("a", "b", "c", "", "é", "12", "12.0", "1e+1", "nan", "2026-11-10T12:00:00", "2026-11-10T13:00:00+01:00",
          "20261110T120000", "2026-11-1x", "now", "12\n")  # fmt: skip
TRAIT = st.tuples(st.sampled_from(NAMES), st.sampled_from(["text", "float", "datetime"]), st.sampled_from(VALUES))
EVENT = st.tuples(st.integers(0, 3), st.integers(0, 200), st.lists(TRAIT, max_size=4))
COMPARED = st.one_of(
    st.builds(
        lambda name, op, value: Filter(f"traits.{name}", op, value, EVENTS),
        st.sampled_from(NAMES), st.sampled_from(["eq", "eq", "eq", "ne", "le"]), st.sampled_from(VALUES).filter(bool),
    ),
    st.builds(
        lambda name, among: OneOf(f"traits.{name}", tuple(among), EVENTS),
        st.sampled_from(NAMES), st.lists(st.sampled_from(VALUES), min_size=1, max_size=3),
    ),
    st.just(Filter("event_type", "eq", "box.a", EVENTS)),
)  # fmt: skip
CONDITION: st.SearchStrategy[Condition] = st.recursive(
    COMPARED,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Or(tuple(parts))),
        inner.map(Not),
    ),
    max_leaves=5,
)


def land(site: Site, made: Sequence[tuple[int, int, Sequence[tuple[str, str, str]]]], prefix: str = "m") -> None:
    rows = [
        {
            "arrival_hour": f"2026-11-10T{12 + hour}",
            "message_id": f"{prefix}{number}",
            "event_type": "box.a" if number % 2 else "box.b",
            "generated": at(minute / 10, hours=hour),
            "traits": [{"name": name, "dtype": dtype, "value": value} for name, dtype, value in traits],
            "raw": "x" * 1_000,
        }
        for number, (hour, minute, traits) in enumerate(made)
    ]
    site.lake.append("events", pa.Table.from_pylist(rows, schema=COLUMNS))


@settings(
    max_examples=10,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(EVENT, min_size=1, max_size=40), st.lists(EVENT, max_size=5), st.lists(CONDITION, min_size=8, max_size=8)
)
def test_looking_up_events_finds_what_reading_everything_finds(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch, old: Any, new: Any, conditions: list[Condition]
) -> None:
    site = open_site()
    with monkeypatch.context() as small:
        small.setattr(event_files, "GROUP", 3)
        land(site, old)
        compact(site)
    if new:
        land(site, new, "n")
    for condition in conditions:
        found = events(site, ALL_EVENTS, query=[condition], limit=1_000)
        with monkeypatch.context() as plainly:
            plainly.setattr(Sought, "__bool__", lambda sought: False)
            assert found.equals(events(site, ALL_EVENTS, query=[condition], limit=1_000))


def test_only_the_row_groups_of_a_resource_are_read(any_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = any_site
    monkeypatch.setattr(event_files, "GROUP", 8)
    land(
        site,
        [
            (hour, 5 * number, [("resource_id", "text", f"r{number % 40}"), ("project_id", "text", f"p{number % 10}")])
            for hour in range(3)
            for number in range(80)
        ],
    )
    assert compact(site).hours == 3
    read: list[int] = []
    whole = GroupReader.read

    def counting(reader: GroupReader, groups: Any, columns: Any) -> pa.Table:
        found = whole(reader, groups, columns)
        read.append(len(found))
        return found

    monkeypatch.setattr(GroupReader, "read", counting)
    by_resource = [Filter("traits.resource_id", "eq", "r7", EVENTS)]
    assert len(events(site, ALL_EVENTS, query=by_resource)) == 6
    assert read == [3 * 8]  # of each hour, the group that has both events of the resource
    assert len(events(site, ALL_EVENTS, query=by_resource, start=at(hours=1), end=at(hours=2))) == 2
    assert read[1:] == [8]
    by_project = [Filter("traits.project_id", "eq", "p3", EVENTS)]
    assert len(events(site, ALL_EVENTS, query=by_project)) == 24
    assert sum(read[2:]) <= 3 * 2 * 8
    assert len(events(site, ALL_EVENTS, query=[Filter("traits.resource_id", "eq", "r99", EVENTS)])) == 0
    assert sum(read[3:]) <= 8  # a filter may be wrong once


def test_the_end_of_a_file_of_an_object_store_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_groups, "TAIL", 100)
    content, read = bytes(range(250)), list[tuple[int, int]]()

    def reading(start: int, end: int) -> bytes:
        read.append((start, end))
        return content[start:end]

    fetch = event_groups._from_store(reading, len(content))
    assert [fetch(at, 9) for at in (150, 241, 7)] == [content[at : at + 9] for at in (150, 241, 7)]
    assert read == [(150, 250), (7, 16)]


def test_every_reader_of_parquet_reads_files_with_filters(site: Site) -> None:
    land(site, [(0, number, [("resource_id", "text", f"r{number}")]) for number in range(600)])
    compact(site)
    (file,) = site.lake.files("events")
    assert pq.ParquetFile(file).metadata.num_row_groups == 3
    assert sorted(pq.ParquetFile(file).read()["message_id"].to_pylist()) == sorted(f"m{n}" for n in range(600))
    found = duckdb.sql(f"SELECT count(DISTINCT traits[1].value), sum(len(raw)) FROM '{file}'").fetchall()
    assert found == [(600, 600_000)]
