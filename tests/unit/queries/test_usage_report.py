"""The usage report: sizes count for as long as there was a resource, counters by their increase, each once."""

from datetime import datetime
from typing import Any

import pytest
from builders import NOON, at, land_points, point, roll_up
from period_rows import put_period

from meterhouse import times
from meterhouse.queries import reports
from meterhouse.site import Site
from meterhouse.usage.periods import compute

MIDNIGHT = times.day_start(NOON.date())


def usage(site: Site, start: datetime = MIDNIGHT, end: datetime = MIDNIGHT + times.DAY) -> list[dict[str, Any]]:
    return reports.run(site, "usage_by_project_and_day", start, end)


def counter(volume: float, minutes: float, **more: Any) -> dict[str, Any]:
    return point(volume, at(minutes), meter="cpu", unit="ns", type="cumulative", **more)


def test_sizes_count_to_the_microsecond_for_as_long_as_they_were(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", at(), at(10), vcpus=4.0, memory_mib=6144.0)
    put_period(any_warehouse, "v1", at(), at(minutes=1 / 60_000_000), type="volume", size_gib=3.6e9)
    (found,) = usage(any_warehouse)
    assert (found["instances"], found["vcpu_hours"], found["memory_gib_hours"]) == (1, 4 / 6, 1.0)
    assert found["volume_gib_hours"] == pytest.approx(1.0)


def test_an_instance_that_goes_on_counts_on_each_day_of_a_month(any_warehouse: Site) -> None:
    start, end = datetime.fromisoformat("2026-10-01T00:00Z"), datetime.fromisoformat("2026-11-01T00:00Z")
    put_period(any_warehouse, "i1", start, vcpus=4.0)
    found = usage(any_warehouse, start, end)
    assert [row["vcpu_hours"] for row in found] == [96.0] * 31
    assert [str(row["day"]) for row in found[::30]] == ["2026-10-01", "2026-10-31"]


def test_a_resize_and_a_transfer_divide_the_day(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", at(), at(60), vcpus=2.0)
    put_period(any_warehouse, "i1", at(60), at(180), vcpus=8.0)
    put_period(any_warehouse, "i1", at(180), at(240), vcpus=8.0, project="p2")
    assert [(row["project_id"], row["instances"], row["vcpu_hours"]) for row in usage(any_warehouse)] == [
        ("p1", 1, 18.0),
        ("p2", 1, 8.0),
    ]


def test_a_span_cuts_periods_at_both_ends(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", at(), at(600), vcpus=1.0)
    (found,) = usage(any_warehouse, at(30), at(90))
    assert found["vcpu_hours"] == 1.0
    assert usage(any_warehouse, at(days=2), at(days=3)) == []


def test_what_is_to_come_is_not_used_yet(any_warehouse: Site) -> None:
    now = times.now()
    put_period(any_warehouse, "i1", now - times.HOUR, vcpus=1.0)
    put_period(any_warehouse, "i2", now + times.HOUR, vcpus=1.0)
    found = usage(any_warehouse, now - times.DAY, now + 3 * times.DAY)
    assert sum(row["vcpu_hours"] for row in found) == pytest.approx(1.0, abs=0.02)
    assert usage(any_warehouse, now + times.DAY, now + 2 * times.DAY) == []


def test_what_only_samples_tell_counts_to_the_end_of_the_hour_of_the_last(any_warehouse: Site) -> None:
    seen = {"type": "volume", "size_gib": 100.0, "confirmed_until": at(90)}
    put_period(any_warehouse, "polled", **seen, confirmed_by="polls")
    put_period(any_warehouse, "audited", **seen, project="p2", confirmed_by="audits")
    put_period(any_warehouse, "told", **seen, project="p3", confirmed_by="events,polls")
    put_period(any_warehouse, "was told", at(-60), at(), type="volume", project="p4", confirmed_by="events")
    put_period(any_warehouse, "was told", **seen, project="p4", confirmed_by="polls")
    assert [row["volume_gib_hours"] for row in usage(any_warehouse)] == [200.0, 1200.0, 1200.0, 1200.0]


def test_what_the_functional_suite_sends_is_not_used(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", vcpus=1.0, source="meterhouse-verify")
    verify = [row | {"source": "meterhouse-verify"} for row in (counter(0, 0), counter(5, 1))]
    land_points(any_warehouse, verify)
    roll_up(any_warehouse)
    assert usage(any_warehouse) == []


def test_a_day_has_the_same_counters_as_its_hours(any_warehouse: Site) -> None:
    land_points(any_warehouse, [counter(3.6e12 * (n + 12), 60 * n) for n in range(-12, 24)])
    roll_up(any_warehouse)
    (whole,) = usage(any_warehouse)
    parts = [usage(any_warehouse, MIDNIGHT + n * times.HOUR, MIDNIGHT + (n + 1) * times.HOUR) for n in range(24)]
    assert whole["cpu_hours"] == pytest.approx(23.0)
    assert sum(row["cpu_hours"] for part in parts for row in part) == pytest.approx(23.0)
    across = usage(any_warehouse, at(hours=6), at(hours=24))  # by hours on both days
    assert [row["cpu_hours"] for row in across] == pytest.approx([6.0, 12.0])


def test_one_counter_in_two_series_counts_once(any_warehouse: Site) -> None:
    def without_user(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "user_id": None, "series_id": row["series_id"] ^ 1}

    minutes = range(0, 60, 5)
    twice = [counter(1e12 * n, n) for n in minutes] + [without_user(counter(1e12 * n, n)) for n in (10, 25, 40)]
    after = [counter(1e12 * n, n, resource="r2") for n in range(0, 30, 5)]
    after += [without_user(counter(1e12 * n, n, resource="r2")) for n in range(30, 60, 5)]
    land_points(any_warehouse, [*twice, *after])
    roll_up(any_warehouse)
    (found,) = usage(any_warehouse)
    assert found["cpu_hours"] == pytest.approx((55 + 25 + 25) * 1e12 / 3.6e12)


def test_counters_in_another_unit_are_counted_apart(any_warehouse: Site) -> None:
    land_points(any_warehouse, [counter(1, 0), counter(2, 1), point(1, meter="cpu", unit="s", type="cumulative")])
    roll_up(any_warehouse)
    (found,) = usage(any_warehouse)
    assert (found["cpu_hours"], found["series_not_counted"]) == (pytest.approx(1 / 3.6e12), 1)


def test_a_volume_whose_unit_is_spelt_in_two_ways_counts_once(site: Site) -> None:
    sizes = [point(100, at(30 * n), meter="volume.size", unit=("GB", "GiB")[n % 2], resource="v1") for n in range(4)]
    land_points(site, sizes)
    roll_up(site)
    compute(site)
    (found,) = usage(site)
    assert found["volume_gib_hours"] == 200.0
