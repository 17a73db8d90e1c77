"""Statistics by the metadata that came with samples, in hours that are rolled up and in those that are not."""

from datetime import timedelta
from typing import Any

from builders import drop, polled, polling, process
from telemetry_site import NINE

from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.filters import SERIES, Filter
from meterhouse.queries.meter_pages import meter_page
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING, Scope
from meterhouse.site import Site


def points(first: int, rooms: list[str | None], meter: str = "power") -> list[dict[str, Any]]:
    """A point every 10 minutes from a minute on, each with a room in its metadata, or with none."""
    return [
        polled(
            n,
            NINE + timedelta(minutes=first + 10 * n),
            meter=meter,
            resource="rack-1",
            project="shop",
            resource_metadata={"room": room} if room else {},
        )
        for n, room in enumerate(rooms)
    ]


def land(site: Site, name: str, *parts: list[dict[str, Any]]) -> None:
    drop(site.settings.spool, name, [polling(f"{name}-{n}", part) for n, part in enumerate(parts)])


def counts(site: Site, **asked: Any) -> dict[Any, int]:
    found = statistics(
        site, EVERYTHING, "power", groupby=["metadata.room"], aggregate=["count"], own_metadata=True, **asked
    )
    return {row["groupby"]["metadata.room"]: row["count"] for row in found}


def test_each_sample_counts_by_its_own_metadata_whether_rolled_up_or_not(site: Site) -> None:
    land(site, "a.jsonl", points(0, ["a", "b", "a", "b"]), points(5, ["x", "x", "x"], meter="heat"))
    land(site, "b.jsonl", points(120, ["c", "c"]))
    process(site)
    rolled = {"a": 2, "b": 2, "c": 2}
    assert counts(site) == rolled
    land(site, "c.jsonl", points(65, ["d", "d"]), points(31, ["e"]))
    collect(site)
    convert(site)
    assert counts(site) == rolled | {"d": 2, "e": 1}  # the catalog does not know them yet
    catalog(site)
    assert counts(site) == rolled | {"d": 2, "e": 1}  # their hours are not rolled up again yet
    of_d = [Filter("metadata.room", "eq", "d", SERIES)]
    (row,) = statistics(site, EVERYTHING, "power", query=of_d, own_metadata=True)
    assert row["count"] == 2
    assert counts(site, include_excluded=True) == rolled | {"d": 2, "e": 1}
    assert counts(site, start=NINE + timedelta(minutes=60)) == {"c": 2, "d": 2}
    process(site)
    assert counts(site) == rolled | {"d": 2, "e": 1}


def test_meters_by_metadata_had_a_sample_with_it(site: Site) -> None:
    land(site, "a.jsonl", points(0, ["a", "b"]), points(5, ["x", None], meter="heat"))
    process(site)
    for room, found in {"a": ["power"], "b": ["power"], "x": ["heat"], "z": []}.items():
        query = [Filter("metadata.room", "eq", room, SERIES)]
        assert [each["meter"] for each in meter_page(site, EVERYTHING, SERIES, query=query)] == found
        assert meter_page(site, Scope("bank"), SERIES, query=query) == []
