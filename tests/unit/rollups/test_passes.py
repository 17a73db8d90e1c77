"""The pass over points is cut into passes and shards, and running days are folded: the roll-ups are the same."""

import random
from datetime import timedelta
from typing import Any

import pytest
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from reference import COLUMNS, assert_right, assert_same, in_lake, random_points, rollups

from meterhouse import times
from meterhouse.rollups import kept_day, made, running_day, step
from meterhouse.rollups.kept_day import load
from meterhouse.rollups.made import is_open
from meterhouse.sample_quality import reading
from meterhouse.site import Site
from meterhouse.stores import lake_files, lake_replace


@pytest.mark.parametrize("in_order", [True, False])
def test_many_passes_and_shards_give_the_same_as_one(
    site: Site, monkeypatch: pytest.MonkeyPatch, in_order: bool
) -> None:
    """Files that are not in order are those of earlier releases."""
    monkeypatch.setattr(reading, "POINTS_A_PASS", 60)
    monkeypatch.setattr(reading, "POINTS_A_SHARD", 20)
    monkeypatch.setattr(made, "FEW_ROWS", 10)
    if not in_order:
        monkeypatch.setattr(lake_files, "ordered", lambda rows: rows)
    points = random_points(11, hours=9)
    for n in range(2):
        land_points(site, points[n::2])
        roll_up(site)
    assert_right(site, points)


def test_the_order_of_arrival_does_not_change_a_bit(open_site: OpenSite) -> None:
    points = [one for one in random_points(12, hours=4) if one["type"] != "delta"]
    found = []
    for seed in range(2):
        site = open_site()
        mixed = random.Random(seed).sample(points, len(points))
        for n in range(seed + 1):
            land_points(site, mixed[n :: seed + 1])
            roll_up(site)
        found.append([repr(in_lake(site, seconds)) for seconds in (300, 3600, 86400)])
    assert found[0] == found[1]


@pytest.mark.parametrize("series", ["few", "many", "some"])
def test_a_large_day_that_is_not_over_folds_its_hours_and_gets_percentiles_when_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch, series: str
) -> None:
    """Hours of many series have files of their own, and the day so far is kept; here also one of a damaged disk."""
    monkeypatch.setattr(step, "FEW_POINTS", 0)
    if series != "few":
        monkeypatch.setattr(made, "FEW_ROWS", 3 if series == "some" else 0)
        monkeypatch.setattr(running_day, "SMALL_BYTES", 0)
        monkeypatch.setattr(lake_replace, "SMALL_BYTES", 0)
    kept = site.settings.home_path / "spill" / f"day-{at(0).date()}.arrow"
    folds: list[int] = []
    monkeypatch.setattr(kept_day, "load", lambda *given: folds.append((found := load(*given))[0]) or found)
    clock = at(hours=4)
    monkeypatch.setattr(times, "now", lambda: clock)
    points: list[dict[str, Any]] = []
    for n in range(8):
        for name, kind in (("cpu", "cumulative"), ("cpu_util", "gauge"), ("requests", "delta")):
            one = point(float(n * 7 % 5) - (n == 3), at(minutes=25 * n), meter=name, type=kind)
            points.append({**one, "metadata_id": n if n % 2 else None})
        land_points(site, points[-3:])
        if n == 5 and kept.exists():
            kept.write_bytes(kept.read_bytes()[:-1])
        roll_up(site)
    if series == "many":
        assert folds == [0, 0, 0, 0, 1, 0, 2, 2]
    land_points(site, [late := point(1.5, at(hours=1, minutes=1), meter="cpu_util", recorded_at=clock)])
    points.append(late)
    roll_up(site)
    without = [{**row, "p50": None, "p95": None, "p99": None} for row in rollups(points, site.rules, 86400)]
    assert_same(in_lake(site, 86400), without)
    assert_same(in_lake(site, 3600), rollups(points, site.rules, 3600))
    assert [is_open(path) for path in _daily(site)] == [True]
    clock += timedelta(days=1)
    assert roll_up(site).hours == [at(hours=2)]
    assert [is_open(path) for path in _daily(site)] == [False]
    assert_right(site, points)
    assert roll_up(site).hours == []
    assert set(COLUMNS) <= set(in_lake(site, 86400)[0])


def _daily(site: Site) -> list[str]:
    return [
        str(path) for path in site.lake.matching("rollups", partitions={"granularity_s": [86400]})["path"].to_pylist()
    ]
