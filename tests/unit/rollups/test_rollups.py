"""Roll-ups equal those that pandas computes from the same points, whatever the order in which the points came."""

import pytest
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from reference import TIERS, assert_right, assert_same, in_lake, random_points

from meterhouse.catalog import mark_for_recompute, points_by_hour, snapshot
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site


def test_rollups_equal_those_of_pandas(site: Site) -> None:
    points = random_points(1, hours=40)
    land_points(site, points)
    done = roll_up(site)
    assert done.excluded == sum(row["excluded"] for row in in_lake(site, 3600))
    assert_right(site, points)


def test_a_second_run_changes_nothing(site: Site) -> None:
    points = random_points(3, hours=6)
    land_points(site, points)
    roll_up(site)
    before = [in_lake(site, seconds) for seconds in TIERS]
    version = site.lake.version("rollups")
    assert roll_up(site).hours == []
    assert site.lake.version("rollups") == version
    hours = {row["bucket"] for row in in_lake(site, 3600)}
    assert mark_for_recompute(site, "sample_quality", hours, "a test") == len(hours)
    assert set(roll_up(site).hours) == hours
    for seconds, rows_before in zip(TIERS, before, strict=True):
        assert_same(in_lake(site, seconds), rows_before)


def test_the_increases_of_all_buckets_add_up_to_the_total(site: Site) -> None:
    volumes = [10, 15, 15, 40, 3, 9, 9, 1, 100]
    points = [
        point(v, at(hours=7.3 * n), meter="cpu", type="cumulative", recorded_at=at(days=5))
        for n, v in enumerate(volumes)
    ]
    land_points(site, points)
    roll_up(site)
    whole = 5 + 0 + 25 + 3 + 6 + 0 + 1 + 99
    for seconds in TIERS[1:]:
        found = in_lake(site, seconds)
        assert sum(row["increase"] for row in found) == whole
        assert sum(row["resets"] for row in found) == 2


def test_a_counter_with_a_gap_of_many_hours_keeps_its_increase_whenever_the_hours_were_rolled_up(site: Site) -> None:
    first = point(10, at(59), meter="cpu", type="cumulative")
    land_points(site, [first])
    roll_up(site)
    later = point(25, at(hours=40), meter="cpu", type="cumulative")
    land_points(site, [later])
    roll_up(site)
    assert [row["increase"] for row in in_lake(site, 3600)] == [0.0, 15.0]
    assert_right(site, [first, later])


@pytest.mark.slow
@pytest.mark.parametrize("together", [True, False])
def test_after_a_gap_longer_than_the_carry_a_counter_starts_again(site: Site, together: bool) -> None:
    points = [
        point(10, at(), meter="cpu", type="cumulative"),
        point(30, at(hours=49), meter="cpu", type="cumulative"),
        point(70, at(hours=97), meter="cpu", type="cumulative"),
        point(5, at(hours=146), meter="cpu", type="cumulative"),
    ]
    for batch in [points] if together else [[one] for one in points]:
        land_points(site, batch)
        roll_up(site)
    assert [row["increase"] for row in in_lake(site, 3600)] == [0.0, 0.0, 40.0, 0.0]
    assert [row["resets"] for row in in_lake(site, 3600)] == [0, 0, 0, 0]
    assert_right(site, points)


def test_a_late_point_corrects_its_own_hour_and_the_increase_of_the_next(site: Site) -> None:
    points = [point(v, at(hours=h), meter="cpu", type="cumulative") for h, v in ((0, 10), (3, 40), (5, 60))]
    land_points(site, points)
    roll_up(site)
    late = point(30, at(30, hours=1), meter="cpu", type="cumulative", recorded_at=at(hours=9))
    land_points(site, [late])
    done = roll_up(site)
    assert done.hours == [at(hours=1), at(hours=3)]
    assert [row["increase"] for row in in_lake(site, 3600)] == [0, 20, 10, 20]
    assert_right(site, [*points, late])


@pytest.mark.slow
def test_a_late_better_duplicate_of_an_hours_last_point_corrects_the_next_hour(site: Site) -> None:
    points = [point(v, at(hours=h), meter="cpu", type="cumulative") for h, v in ((0, 10), (1, 40))]
    land_points(site, points)
    roll_up(site)
    late = point(25, at(), meter="cpu", type="cumulative", recorded_at=at(hours=9))
    land_points(site, [late])
    roll_up(site)
    assert [row["increase"] for row in in_lake(site, 3600)] == [0, 15]
    assert_right(site, [*points, late])


def test_hours_that_were_not_requested_stay_dirty(site: Site) -> None:
    land_points(site, [point(1, at()), point(2, at(hours=1)), point(3, at(days=1))])
    assert roll_up(site, {at(hours=1)}).hours == [at(hours=1)]
    assert set(snapshot(site).hours) == {at(), at(days=1)}
    assert [row["bucket"] for row in in_lake(site, 3600)] == [at(hours=1)]
    (day,) = in_lake(site, 86400)
    assert (day["count"], day["sum"]) == (2, 3.0)


def test_an_hour_with_only_bad_points_has_a_rollup_that_counts_them(site: Site) -> None:
    points = [point(-1, at(), meter="cpu_util"), point(1e6, at(1), meter="cpu_util")]
    land_points(site, points)
    roll_up(site)
    (hour,) = in_lake(site, 3600)
    assert (hour["count"], hour["excluded"], hour["sum"], hour["last_at"]) == (0, 2, None, None)
    assert_right(site, points)


@pytest.mark.slow
def test_a_rollup_does_not_depend_on_an_earlier_judging(open_site: OpenSite) -> None:
    points = random_points(4, hours=6)
    for first in (True, False):
        site = open_site()
        land_points(site, points)
        if first:
            judge_hours(site)
        roll_up(site)
        assert_right(site, points)


def test_the_good_points_of_an_hour_are_those_of_its_last_roll_up(site: Site) -> None:
    nan, far = float("nan"), at(hours=40)
    land_points(site, [point(1, at()), point(1, at(1)), point(2, at(hours=1)), point(nan, at(hours=1)), point(1, far)])
    assert points_by_hour(site, at(), far) == {}
    roll_up(site)
    assert points_by_hour(site, at(), far) == {at(): 2, at(hours=1): 1}
    land_points(site, [point(3, at(2)), point(nan, at(hours=2))])
    roll_up(site)
    assert points_by_hour(site, at(), far) == {at(): 3, at(hours=1): 1, at(hours=2): 0}


def test_the_figures_of_a_run_are_those_of_the_hours_that_it_recomputed(site: Site) -> None:
    nan, next_day = float("nan"), at(hours=13)
    land_points(site, [point(n, at(n)) for n in range(5)] + [point(7, next_day), point(nan, next_day)])
    judged, rolled = judge_hours(site), roll_up(site)
    assert judged.days == {
        "2026-11-10": {"hours": 1, "points": 5, "excluded": 0},
        "2026-11-11": {"hours": 1, "points": 2, "excluded": 1},
    }
    assert {day: (of["hours"], of["points"], of["excluded"]) for day, of in rolled.days.items()} == {
        "2026-11-10": (1, 5, 0),
        "2026-11-11": (1, 1, 1),
    }
    assert (judged.points, judged.excluded) == (7, 1)
    assert (rolled.points, rolled.excluded, rolled.rows) == (6, 1, sum(of["rows"] for of in rolled.days.values()))
    land_points(site, [point(1, at(hours=2))])
    (late,) = roll_up(site).days.items()  # the other hour of the day is not counted again
    assert (late[0], late[1]["hours"], late[1]["points"]) == ("2026-11-10", 1, 1)


def test_rollups_are_the_same_in_every_kind_of_site(any_site: Site) -> None:
    points = random_points(5, hours=4)
    for half in (points[::2], points[1::2]):
        land_points(any_site, half)
        roll_up(any_site)
    assert_right(any_site, points)
