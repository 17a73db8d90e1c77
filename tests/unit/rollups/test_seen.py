"""What a resource is, and when it was seen, follows from its good points, in any order of arrival and judging."""

import math
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from reference import judged
from sqlalchemy import event, select, update

from meterhouse.catalog import catalog, mark_dirty, snapshot
from meterhouse.queries.meters import meter_list
from meterhouse.queries.resources import resource, resource_list
from meterhouse.queries.statistics import statistics
from meterhouse.recompute import backfill
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import dirty_hours, resources, series

AHEAD = at(days=26_000)


def described(volume: float, when: datetime, metadata: int | None, **more: Any) -> dict[str, Any]:
    return {**point(volume, when, **more), "metadata_id": metadata}


def what(site: Site, name: str = "r1") -> tuple[Any, ...]:
    """A resource's project, metadata_id, first and last time."""
    columns = (resources.c.project_id, resources.c.metadata_id, resources.c.first_sample_at, resources.c.last_sample_at)
    with site.warehouse.read() as connection:
        return tuple(connection.execute(select(*columns).where(resources.c.resource_id == name)).one())


def assert_follows(site: Site, points: list[dict[str, Any]]) -> None:
    """Assert that series and resources are what the good ones of these points say."""
    frame = judged(points, site.rules)
    good = frame[frame["good"]]
    with site.warehouse.read() as connection:
        found = connection.execute(select(series.c.series_id, series.c.first_seen, series.c.last_seen)).all()
        known = connection.execute(select(resources)).all()
    assert {row.series_id for row in found} == set(frame["series_id"])
    for row in found:
        mine = good[good["series_id"] == row.series_id]["timestamp"]
        assert (row.first_seen, row.last_seen) == ((mine.min(), mine.max()) if len(mine) else (None, None))
    assert {row.resource_id for row in known} == set(frame["resource_id"])
    for row in known:
        mine = good[good["resource_id"] == row.resource_id]
        if mine.empty:
            assert (row.project_id, row.metadata_id, row.first_sample_at, row.last_sample_at) == (None,) * 4
            continue
        newest = mine[mine["timestamp"] == mine["timestamp"].max()]
        assert (row.first_sample_at, row.last_sample_at) == (mine["timestamp"].min(), newest["timestamp"].iloc[0])
        said = {
            (each.project_id, None if pd.isna(each.metadata_id) else each.metadata_id) for each in newest.itertuples()
        }
        assert (row.project_id, row.metadata_id) in said


BAD: dict[str, dict[str, Any]] = {
    "from a clock that is ahead": {"volume": 1.0, "when": AHEAD, "recorded_at": at()},
    "not a number": {"volume": math.nan, "when": at(50)},
    "too large": {"volume": 1e300, "when": at(50)},
    "negative": {"volume": -1.0, "when": at(50)},
    "not a number, from a clock that was reset": {
        "volume": math.nan,
        "when": datetime.fromisoformat("1970-01-01T00:00Z"),
    },
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("kind", BAD)
def test_an_excluded_point_does_not_decide_what_a_resource_is(any_warehouse: Site, kind: str, first: bool) -> None:
    site = any_warehouse
    bad = described(metadata=9, meter="memory", project="other", **BAD[kind])
    good = [described(2048, at(minute), 7, meter="memory", project="shop") for minute in (0, 40)]
    batches = [[bad], good] if first else [good, [bad]]
    for batch in batches:
        land_points(site, batch)
        roll_up(site)
    assert what(site) == ("shop", 7, at(0), at(40))
    assert [(row["first_seen"], row["last_seen"]) for row in meter_list(site, EVERYTHING)] == [(at(0), at(40))]
    assert resource(site, EVERYTHING, "r1")["project_id"] == "shop"
    with site.warehouse.read() as connection:  # its series and hour are known all the same
        assert connection.execute(select(series.c.first_seen).where(series.c.project_id == "other")).all() == [(None,)]
    assert not snapshot(site).hours


def test_a_superseded_point_does_not_decide_the_metadata(site: Site) -> None:
    late = described(1, at(), 8, recorded_at=at(9))
    land_points(site, [described(2, at(), 5), late, described(3, at(), 6, recorded_at=at(3))])
    roll_up(site)
    assert what(site) == ("p1", 8, at(), at())


def test_a_new_resource_is_listed_before_it_is_judged_and_without_good_points_it_has_no_times(site: Site) -> None:
    land_points(site, [point(-1, meter="memory", resource="bad"), point(1, resource="good", project="shop")])
    assert {row["resource_id"]: row["last_sample_at"] for row in resource_list(site, EVERYTHING)} == {
        "bad": None,
        "good": None,
    }
    assert {row["resource_id"]: row["project_id"] for row in resource_list(site, EVERYTHING)} == {
        "bad": "p1",
        "good": "shop",
    }
    roll_up(site)
    assert [
        (row["resource_id"], row["project_id"], row["last_sample_at"]) for row in resource_list(site, EVERYTHING)
    ] == [
        ("good", "shop", at()),
        ("bad", None, None),
    ]


def test_statistics_read_points_that_are_not_rolled_up_yet(site: Site) -> None:
    land_points(site, [point(50.0, at(n), meter="cpu_util") for n in range(3)])
    assert statistics(site, EVERYTHING, "cpu_util")[0]["count"] == 3


def test_when_the_newest_point_becomes_bad_the_next_good_one_of_any_day_takes_its_place(
    open_site: OpenSite, tmp_path: Path
) -> None:
    rules = tmp_path / "quality.yaml"

    def limit(maximum: float) -> None:
        rules.write_text(f"rules: [{{name: high, bit: 1, check: range, severity: critical, max: {maximum}}}]")

    limit(10)
    site = open_site(config_dir=tmp_path)
    land_points(
        site,
        [
            described(volume, at(days=day), day, project=f"p{day}")
            for day, volume in ((1, 1.0), (200, 2.0), (300, 3.0), (301, 4.0))
        ],
    )
    roll_up(site)
    assert what(site) == ("p301", 301, at(days=1), at(days=301))
    for maximum, newest in ((2.5, 200), (1.5, 1), (3.5, 300), (10, 301)):
        limit(maximum)
        backfill(site, "sample_quality", at(), at(days=400))
        roll_up(site)
        assert what(site) == (f"p{newest}", newest, at(days=1), at(days=newest))
    rules.write_text("rules: [{name: low, bit: 1, check: range, severity: critical, min: 1.5}]")
    backfill(site, "sample_quality", at(days=1), at(days=2))
    assert what(site) == ("p301", 301, at(days=200), at(days=301))


def test_a_day_that_is_judged_again_on_its_own_is_right_too(open_site: OpenSite, tmp_path: Path) -> None:
    site = open_site(config_dir=tmp_path)
    land_points(site, [described(day, at(days=day), day, project=f"p{day}") for day in range(4)])
    roll_up(site)
    (tmp_path / "quality.yaml").write_text("rules: [{name: all, bit: 1, check: range, severity: critical, max: -1}]")
    for day in (3, 1, 2):
        backfill(site, "sample_quality", at(days=day), at(days=day + 1))
    roll_up(site)
    assert what(site) == ("p0", 0, at(), at())  # day 0 was not judged again


@pytest.mark.slow
@pytest.mark.parametrize("seed", [31])
def test_series_and_resources_do_not_depend_on_the_order_of_arrival_and_judging(site: Site, seed: int) -> None:
    rng = random.Random(seed)
    points: list[dict[str, Any]] = []
    for _ in range(100):
        when = at(rng.choice([1, 1, 1, 1500, 9_000]) * rng.random())
        bad = rng.random() < 0.4
        ahead = when + timedelta(days=rng.choice([0, 1, 4])) if bad and rng.random() < 0.5 else when
        volume = rng.choice([math.nan, -1.0, 1e200]) if bad and ahead == when else rng.uniform(0, 9)
        one = point(
            volume,
            ahead,
            meter=rng.choice(["memory", "cpu"]),
            type=rng.choice(["gauge", "cumulative"]),
            resource=f"r{rng.randrange(8)}",
            project=f"p{rng.randrange(3)}",
            recorded_at=when,
        )
        points.append({**one, "metadata_id": rng.choice([None, rng.randrange(100)])})
    for start in range(0, len(points), 34):
        land_points(site, points[start : start + 34])
        hours = sorted(snapshot(site).hours)
        roll_up(site, set(rng.sample(hours, len(hours) // 2)))
        if rng.random() < 0.5:
            roll_up(site)
            assert_follows(site, points[: start + 34])
    roll_up(site)
    assert_follows(site, points)
    with site.warehouse.begin() as connection:
        connection.execute(update(dirty_hours).values(marks=dirty_hours.c.marks + 1))
    for hour in rng.sample(sorted(snapshot(site).hours), 4):
        roll_up(site, {hour})
    roll_up(site)
    assert_follows(site, points)


@pytest.mark.parametrize("days", [3, 15])
def test_finding_the_next_newest_point_costs_the_same_on_an_old_site(site: Site, days: int) -> None:
    """Counts what the warehouse executes, and the hours that are rolled up, not time."""
    land_points(site, [point(1, at(days=-day), meter="memory") for day in range(1, days)])
    land_points(site, [point(1, at(), meter="memory")])
    roll_up(site)
    again = point(-1.0, at(), meter="memory", recorded_at=at(9))
    land_points(site, [again, point(1, at(5), meter="memory")])
    statements: list[str] = []
    event.listen(site.warehouse.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    done = roll_up(site)
    assert (done.hours, done.points) == ([at()], 2)
    assert len(statements) < 130
    assert what(site)[2:] == (at(days=1 - days), at(5))


def test_a_series_whose_points_are_gone_from_the_lake_was_not_seen_then(site: Site) -> None:
    land_points(site, [described(1, at(), 5, project="p1"), described(2, at(days=1), 6, project="p2")])
    roll_up(site)
    assert what(site) == ("p2", 6, at(), at(days=1))
    site.lake.table("samples").delete("project_id = 'p2'")
    with site.warehouse.begin() as connection:
        mark_dirty(connection, [at(days=1)], "the lake was restored")
    catalog(site)
    roll_up(site)
    assert what(site) == ("p1", 5, at(), at())
