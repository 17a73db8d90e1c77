"""Statistics of good points, by period, group and unit, equal those of pandas and Ceilometer's API."""

import math
import random
import sys
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import at, drop, land_points, point, polled, polling, process, roll_up
from conftest import OpenSite

from meterhouse.errors import MeterhouseError, UnknownName
from meterhouse.filters import Filter
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site


def many(seed: int = 1) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        point(rng.uniform(-50, 50), at(rng.uniform(0, 900)), meter="m", resource=f"r{n % 4}", project=f"p{n % 2}")
        for n in range(300)
    ]


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-12, abs=1e-12)


@pytest.fixture(scope="module")
def points() -> list[dict[str, Any]]:
    return many()


@pytest.fixture
def filled(site: Site, points: list[dict[str, Any]]) -> Site:
    land_points(site, points)
    return site


def test_statistics_without_periods_cover_all_points(filled: Site, points: list[dict[str, Any]]) -> None:
    (found,) = statistics(filled, EVERYTHING, "m", aggregate=("count", "sum", "avg", "min", "max", "stddev"))
    volumes = np.array([p["volume"] for p in points])
    moments = [p["timestamp"] for p in points]
    assert found == {
        "count": 300,
        "sum": close(volumes.sum()),
        "avg": close(volumes.mean()),
        "min": volumes.min(),
        "max": volumes.max(),
        "stddev": close(volumes.std()),
        "unit": "u",
        "type": "gauge",
        "period": 0,
        "period_start": min(moments),
        "period_end": max(moments),
        "duration": close((max(moments) - min(moments)).total_seconds()),
        "duration_start": min(moments),
        "duration_end": max(moments),
        "groupby": None,
    }


def test_without_aggregates_ceilometers_five_are_returned(filled: Site) -> None:
    (found,) = statistics(filled, EVERYTHING, "m")
    assert {"count", "sum", "avg", "min", "max"} < set(found)
    assert "stddev" not in found
    (found,) = statistics(filled, EVERYTHING, "m", aggregate=["max"])
    assert "max" in found
    assert "sum" not in found


@pytest.mark.parametrize("start", [None, at(-7.3), at(100.1)])
def test_periods_start_at_the_start_of_the_query_or_at_the_first_point(
    filled: Site, points: list[dict[str, Any]], start: Any
) -> None:
    end = at(700.7)
    found = statistics(filled, EVERYTHING, "m", period=1200, start=start, end=end)
    frame = pd.DataFrame(points)
    frame = frame[(frame["timestamp"] < end) & (frame["timestamp"] >= (start or frame["timestamp"].min()))]
    anchor = start or frame["timestamp"].min()
    frame["n"] = (frame["timestamp"] - anchor) // pd.Timedelta(seconds=1200)
    wanted = [
        (
            anchor + timedelta(seconds=1200 * n),
            len(group),
            close(group["volume"].mean()),
            group["timestamp"].min(),
            group["timestamp"].max(),
        )
        for n, group in frame.groupby("n")
    ]
    assert [
        (row["period_start"], row["count"], row["avg"], row["duration_start"], row["duration_end"]) for row in found
    ] == wanted
    assert all(row["period_end"] - row["period_start"] == timedelta(seconds=1200) for row in found)


def test_empty_periods_are_left_out(site: Site) -> None:
    land_points(site, [point(1, at(0)), point(2, at(61)), point(3, at(240))])
    found = statistics(site, EVERYTHING, "m", period=3600, start=at(-120))
    assert [(row["period_start"], row["count"]) for row in found] == [(at(0), 1), (at(60), 1), (at(240), 1)]


def test_the_start_is_inclusive_and_the_end_exclusive(site: Site) -> None:
    moments = [at(0.00001), at(1.123457), at(2)]
    land_points(site, [point(n, moment) for n, moment in enumerate(moments)])
    for n, moment in enumerate(moments):
        assert sum(row["count"] for row in statistics(site, EVERYTHING, "m", end=moment)) == n
        assert sum(row["count"] for row in statistics(site, EVERYTHING, "m", start=moment)) == 3 - n
        (exact,) = statistics(site, EVERYTHING, "m", start=moment, end=moment + timedelta(microseconds=1))
        assert exact["sum"] == n
    assert statistics(site, EVERYTHING, "m", start=at(5), end=at(5)) == []
    assert statistics(site, EVERYTHING, "m", start=at(99)) == []


def test_groups_equal_those_of_pandas(filled: Site, points: list[dict[str, Any]]) -> None:
    found = statistics(filled, EVERYTHING, "m", groupby=["project_id", "resource_id"], period=10_000, start=at())
    frame = pd.DataFrame(points)
    frame["n"] = (frame["timestamp"] - at()) // pd.Timedelta(seconds=10_000)
    wanted = {
        (p, r, at() + timedelta(seconds=10_000 * n)): (len(group), close(group["volume"].sum()))
        for (p, r, n), group in frame.groupby(["project_id", "resource_id", "n"])
    }
    assert {
        (row["groupby"]["project_id"], row["groupby"]["resource_id"], row["period_start"]): (row["count"], row["sum"])
        for row in found
    } == wanted


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ([Filter("resource_id", "eq", "r1")], lambda p: p["resource_id"] == "r1"),
        ([Filter("resource", "ne", "r1")], lambda p: p["resource_id"] != "r1"),
        ([Filter("project", "eq", "p1"), Filter("resource", "gt", "r1")], lambda p: p["resource_id"] == "r3"),
        ([Filter("resource", "le", "r1")], lambda p: p["resource_id"] in ("r0", "r1")),
        (
            [Filter("source", "eq", "openstack"), Filter("type", "eq", "gauge"), Filter("unit", "eq", "u")],
            lambda p: True,
        ),
        ([Filter("user", "eq", "nobody' OR 'a' = 'a")], lambda p: False),
    ],
)
def test_a_query_selects_series(filled: Site, points: list[dict[str, Any]], query: Any, wanted: Any) -> None:
    found = statistics(filled, EVERYTHING, "m", query=query)
    assert sum(row["count"] for row in found) == sum(map(wanted, points))


def test_bad_points_are_left_out_unless_requested(site: Site) -> None:
    points = [point(5, at(), meter="cpu_util"), point(-500, at(1), meter="cpu_util")]
    land_points(site, [*points, point(7, at(), meter="cpu_util", recorded_at=at(9))])
    for _ in range(2):  # before its hour was rolled up, and after
        (found,) = statistics(site, EVERYTHING, "cpu_util")
        assert (found["count"], found["sum"]) == (1, 7.0)
        (found,) = statistics(site, EVERYTHING, "cpu_util", include_excluded=True)
        assert (found["count"], found["sum"]) == (3, -488.0)
        roll_up(site)


UNUSABLE = [math.nan, math.inf, -math.inf, sys.float_info.max, sys.float_info.max, sys.float_info.max, -1e151]


@pytest.mark.parametrize("type", ["gauge", "delta", "cumulative"])
def test_what_no_sum_can_hold_is_left_out_and_only_counted_on_request(site: Site, type: str) -> None:
    volumes = [21.0, *UNUSABLE, 23.0]
    land_points(site, [point(v, at(n), type=type) for n, v in enumerate(volumes)])
    everything = ("count", "sum", "avg", "min", "max", "stddev")
    wanted = {"sum": 44.0, "avg": 22.0, "min": 21.0, "max": 23.0, "stddev": 1.0}
    for _ in range(2):  # before its hour was rolled up, and after
        (good,) = statistics(site, EVERYTHING, "m", aggregate=everything)
        assert {name: good[name] for name in everything} == {"count": 2, **wanted}
        (every,) = statistics(site, EVERYTHING, "m", aggregate=everything, include_excluded=True)
        assert {name: every[name] for name in everything} == {"count": 9, **wanted}
        roll_up(site)


def test_statistics_of_nothing_but_unusable_volumes_have_no_figures(site: Site) -> None:
    land_points(site, [point(v, at(n)) for n, v in enumerate(UNUSABLE)])
    assert statistics(site, EVERYTHING, "m") == []
    (found,) = statistics(
        site, EVERYTHING, "m", aggregate=("count", "sum", "avg", "max", "stddev"), include_excluded=True
    )
    assert found["count"] == len(UNUSABLE)
    assert {found[name] for name in ("sum", "avg", "max", "stddev")} == {None}


def test_the_largest_volumes_that_count_have_finite_statistics(site: Site) -> None:
    land_points(site, [point(v, at(n), type="cumulative") for n, v in enumerate([1e150, 0.0, 1e150] * 20)])
    (found,) = statistics(site, EVERYTHING, "m", aggregate=("sum", "avg", "stddev"))
    assert all(math.isfinite(found[name]) for name in ("sum", "avg", "stddev"))
    assert found["sum"] == close(40e150)


def test_points_in_different_units_are_never_put_together(site: Site) -> None:
    land_points(
        site,
        [
            point(8_388_608, at(0), unit="KiB", resource="a"),
            point(8_192, at(5), unit="MiB", resource="b"),
            point(4_096, at(70), unit="MiB", resource="a"),
            point(7, at(5), unit=None, resource="b"),
        ],
    )
    found = statistics(site, EVERYTHING, "m", start=at())
    assert [(row["unit"], row["count"], row["avg"]) for row in found] == [
        ("KiB", 1, 8_388_608.0),
        ("MiB", 2, 6_144.0),
        (None, 1, 7.0),
    ]
    found = statistics(site, EVERYTHING, "m", start=at(), period=3600, groupby=["resource_id"])
    assert [(row["groupby"]["resource_id"], row["period_start"], row["unit"], row["sum"]) for row in found] == [
        ("a", at(), "KiB", 8_388_608.0),
        ("a", at(60), "MiB", 4_096.0),
        ("b", at(), "MiB", 8_192.0),
        ("b", at(), None, 7.0),
    ]
    (only,) = statistics(site, EVERYTHING, "m", query=[Filter("unit", "eq", "MiB")])
    assert (only["unit"], only["count"]) == ("MiB", 2)


def test_gauges_deltas_and_counters_of_one_meter_are_never_put_together(site: Site) -> None:
    land_points(site, [point(n, at(n), type=type) for n, type in enumerate(["gauge", "delta", "cumulative", "delta"])])
    found = statistics(site, EVERYTHING, "m")
    assert [(row["type"], row["count"], row["sum"]) for row in found] == [
        ("cumulative", 1, 2.0),
        ("delta", 2, 4.0),
        ("gauge", 1, 0.0),
    ]


def test_an_unknown_name_lists_similar_ones(filled: Site, site: Site) -> None:
    with pytest.raises(UnknownName, match=r"unknown meter 'n'\. Did you mean m\?"):
        statistics(filled, EVERYTHING, "n")
    land_points(site, [point(1, meter="network.incoming.bytes")])
    with pytest.raises(UnknownName, match=r"Did you mean network\.incoming\.bytes\?"):
        statistics(site, EVERYTHING, "network.incomming.byte")
    with pytest.raises(UnknownName, match=r"unknown field 'resorce'.*resource"):
        Filter("resorce", "eq", "x")
    with pytest.raises(UnknownName, match="unknown operator '='"):
        Filter("resource", "=", "x")
    with pytest.raises(UnknownName, match="unknown group 'meter'"):
        statistics(filled, EVERYTHING, "m", groupby=["meter"])
    with pytest.raises(UnknownName, match="unknown aggregate 'median'"):
        statistics(filled, EVERYTHING, "m", aggregate=["median"])
    with pytest.raises(MeterhouseError, match="the period is -1 seconds"):
        statistics(filled, EVERYTHING, "m", period=-1)


def test_a_site_without_meters_says_so(site: Site) -> None:
    with pytest.raises(UnknownName, match="There is no meter yet"):
        statistics(site, EVERYTHING, "cpu")


def test_a_meter_with_a_quote_in_its_name(open_site: OpenSite) -> None:
    site = open_site()
    land_points(site, [point(1, meter="it's")])
    assert statistics(site, EVERYTHING, "it's")[0]["count"] == 1


def test_statistics_are_the_same_in_every_kind_of_site(any_site: Site, points: list[dict[str, Any]]) -> None:
    land_points(any_site, points)
    assert (
        sum(row["count"] for row in statistics(any_site, EVERYTHING, "m", period=600, groupby=["resource_id"])) == 300
    )


def test_metadata_is_what_came_with_the_samples_of_the_meter(site: Site) -> None:
    """Other meters of the resource say other things of it, at the same times and between them."""
    polled_once = [
        polled(k, at(5 * k + later), meter=meter, resource="vm", resource_metadata=metadata, message_id=f"{meter}-{k}")
        for k in range(24)
        for meter, later, metadata in (
            ("cpu", 0, {"host": "h1" if k < 15 else "h2", "cores": "4"}),
            ("disk", 0, {"device": "vda"}),
            ("net", 1, {"host": "other"}),
        )
    ]
    bare = [polled(k, at(5 * k), meter="bare", resource="vm", resource_metadata={}) for k in range(24)]
    for each in bare:
        del each["resource_metadata"]
    drop(site.settings.spool, "a.jsonl", [polling("b", [*polled_once, *bare])])
    process(site)

    def counted(meter: str, **asked: Any) -> dict[Any, int]:
        rows = statistics(site, EVERYTHING, meter, aggregate=("count",), **asked)
        return {tuple((row["groupby"] or {}).values()): row["count"] for row in rows}

    def by(field: str, value: str) -> list[Filter]:
        return [Filter(f"metadata.{field}", "eq", value)]

    assert counted("cpu", groupby=["metadata.host"]) == {("h1",): 15, ("h2",): 9}
    assert counted("cpu", query=by("cores", "4")) == {(): 24}
    assert counted("cpu", query=by("device", "vda")) == {}
    assert counted("disk", groupby=["metadata.device"]) == {("vda",): 24}
    assert counted("disk", groupby=["metadata.host"]) == {(None,): 24}
    assert counted("net", query=by("host", "other")) == {(): 24}
    assert sum(counted("bare", groupby=["metadata.host"]).values()) == 24
