"""The warehouse follows the lake's roll-ups: whole partitions, whatever stops it, and reports say how far."""

from typing import Any

import pytest
from builders import at, land_points, point, roll_up, warehouse_rows
from restores import expected, rolled_up

from meterhouse import times
from meterhouse.queries import reports
from meterhouse.rollups import following
from meterhouse.rollups.step import roll_up as roll_up_only
from meterhouse.site import Site

DAY = times.day_start(at().date())


def some(start: int, many: int = 12) -> list[dict[str, Any]]:
    return [point(n * 1.5, at(5 * n), resource=f"r{n % 2}", sample_id=n) for n in range(start, start + many)]


def test_a_report_says_up_to_which_moment_it_holds(any_warehouse: Site) -> None:
    def held() -> Any:
        return reports.holds_until(any_warehouse, DAY, DAY + times.DAY)

    land_points(any_warehouse, some(0, 24))
    roll_up(any_warehouse)
    assert held() == DAY + times.DAY
    land_points(any_warehouse, some(24))
    assert held() == at(120)  # dirty
    roll_up_only(any_warehouse)
    assert held() == at(120)  # rolled up, and not in the warehouse yet
    following.follow(any_warehouse)
    assert held() == DAY + times.DAY
    assert rolled_up(any_warehouse) == expected(some(0, 36))


def test_a_run_that_dies_between_partitions_leaves_whole_ones_and_is_repeated(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_points(site, some(0, 36))
    roll_up_only(site)
    monkeypatch.setattr(following, "ROWS_AT_ONCE", 1)
    put, done = following._put, []

    def dying(*given: Any) -> None:
        done.append(given)
        if len(done) == 3:
            raise ZeroDivisionError
        put(*given)

    monkeypatch.setattr(following, "_put", dying)
    with pytest.raises(ZeroDivisionError):
        following.follow(site)
    counts = warehouse_rows(site, "SELECT count(*), sum(count) FROM rollup_1h GROUP BY bucket")
    assert counts == [(2, 12)] * len(counts)
    assert len(counts) == 2
    following.follow(site)
    assert rolled_up(site) == expected(some(0, 36))


def test_a_site_without_roll_ups_is_followed_at_once(site: Site) -> None:
    assert (following.follow(site).hours, following.follow(site).hours) == (0, 0)
