"""How late points came is a statistic by event hour and meter, whatever else is right or wrong with them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from reference import in_lake
from sqlalchemy import select, update

from meterhouse import lateness, times
from meterhouse.archive.compaction import compact
from meterhouse.archive.seal import archive
from meterhouse.queries import reports
from meterhouse.site import Site
from meterhouse.stores import warehouse_tables
from meterhouse.upkeep import upkeep


def came(after: float, minutes: float = 0, **more: object) -> dict[str, object]:
    """A point that arrived so many seconds after its time."""
    when = at(minutes)
    return point(1.0, when, recorded_at=when + timedelta(seconds=after), **more)


def test_median_and_percentile_are_within_a_power_of_two_and_counts_and_maximum_are_exact(any_site: Site) -> None:
    seconds = np.random.default_rng(1).lognormal(3, 2, 200).round(3).tolist()
    for some in (seconds[:50], seconds[50:]):  # two commits add up
        land_points(any_site, [came(after, n / 10, resource=f"r{after}") for n, after in enumerate(some)])
    (found,) = reports.run(any_site, "lateness", at(), at(hours=1))
    late = any_site.settings.lateness_seconds
    assert (found["day"], found["meter"], found["points"]) == (at().date(), "m", 200)
    assert found["late_points"] == sum(after > late for after in seconds) > 0
    assert found["max_seconds"] == pytest.approx(max(seconds))
    for name, share in (("median_seconds", 0.5), ("p95_seconds", 0.95)):
        exact = np.quantile(seconds, share, method="inverted_cdf")
        assert exact / 2 <= found[name] <= exact * 2


def test_equal_lateness_is_reported_as_it_is(site: Site) -> None:
    land_points(site, [came(10.0, n) for n in range(5)])
    land_points(site, [came(-3.0, n, meter="ahead") for n in range(5)])  # a clock that is a little fast
    ahead, found = reports.run(site, "lateness", at(), at(hours=1))
    assert (found["median_seconds"], found["p95_seconds"], found["max_seconds"]) == (10, 10, 10)
    assert (ahead["median_seconds"], ahead["late_points"]) == (0, 0)


def test_a_point_of_a_wrong_clock_has_no_lateness_and_hides_none(site: Site) -> None:
    land_points(site, [came(10.0), point(1.0, at(days=20_000), recorded_at=at())])
    (found,) = reports.run(site, "lateness", at(days=-40_000), at(days=40_000))
    assert (found["points"], found["max_seconds"]) == (1, 10)
    assert lateness.by_hour(site, at(), at(hours=1)) == {at(): (1, 0, 10.0)}


def test_lateness_is_deleted_when_nothing_was_counted_for_long(open_site: OpenSite) -> None:
    site = open_site(keep_runs_days=3)
    land_points(site, [came(10.0)])
    upkeep(site)
    table = warehouse_tables.lateness
    with site.warehouse.begin() as connection:
        assert len(connection.execute(select(table)).all()) == 1
        connection.execute(update(table).values(counted_at=times.now() - 4 * times.DAY))
    upkeep(site)
    with site.warehouse.read() as connection:
        assert connection.execute(select(table)).all() == []


@pytest.mark.parametrize("replace", [compact, lambda site: archive(site, at().date())], ids=["compacted", "sealed"])
def test_a_late_point_merges_into_an_hour_whose_files_were_replaced(site: Site, replace: Callable[[Site], Any]) -> None:
    for n in (1, 2):
        land_points(site, [point(float(n), at(n), type="cumulative")])
    roll_up(site)
    before = site.lake.files("samples")
    replace(site)
    assert len(site.lake.files("samples")) < len(before)
    again = point(2.0, at(2), type="cumulative", recorded_at=at(days=9))  # the same point, which is none
    land_points(site, [point(7.0, at(3), type="cumulative", recorded_at=at(days=9)), again])
    assert roll_up(site).hours == [at()]
    (hour,) = in_lake(site, 3600)
    assert (hour["count"], hour["increase"], hour["last"], hour["excluded"]) == (3, 6.0, 7.0, 0)
