"""The reports about resources: who uses what, what is idle or orphaned, how full it is, and how sure a bill is."""

from datetime import UTC, datetime
from typing import Any

import pytest
from builders import land_points, point, roll_up
from period_rows import put_period
from sqlalchemy import insert

from meterhouse import times
from meterhouse.queries import report_files, reports
from meterhouse.queries.sql import sqlite_times
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_names

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return START + (number - 1) * times.DAY


def report(site: Site, name: str, start: datetime = START, end: datetime = END) -> list[dict[str, Any]]:
    return reports.run(site, name, start, end)


def test_usage_by_flavor_counts_each_flavor_for_its_time(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", day(-5), day(11), flavor="m1.small", vcpus=1.0, memory_mib=2048.0)
    put_period(any_warehouse, "i1", day(11), flavor="m1.large", vcpus=4.0, memory_mib=8192.0)
    put_period(any_warehouse, "v1", day(31), type="volume", flavor="ssd", size_gib=10.0, project="p2")
    named = {"kind": "project", "id": "p1", "witness": "event", "name": "shop", "seen_until": day(1)}
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(insert(resource_names).values(valid_from=day(1), **named))
    shown = ("project_id", "project_name", "flavor", "hours", "vcpu_hours", "memory_gib_hours", "gib_hours")
    assert [tuple(row[name] for name in shown) for row in report(any_warehouse, "usage_by_project_and_flavor")] == [
        ("p1", "shop", "m1.large", 504.0, 2016.0, 4032.0, 0.0),
        ("p1", "shop", "m1.small", 240.0, 240.0, 480.0, 0.0),
        ("p2", None, "ssd", 24.0, 0.0, 0.0, 240.0),
    ]


def test_top_consumers_are_placed_with_their_share_and_change(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", day(1), day(11), vcpus=3.0)
    put_period(any_warehouse, "i2", day(-30), day(11), vcpus=1.0, project="p2")
    put_period(any_warehouse, "i3", day(-30), day(1), vcpus=9.0, project="p3")
    found = report(any_warehouse, "top_consumers", day(1), day(11))
    shown = ("place", "project_id", "used", "unit", "share", "change")
    assert [tuple(row[name] for name in shown) for row in found] == [
        (1, "p1", 720.0, "vCPU h", 0.75, None),
        (2, "p2", 240.0, "vCPU h", 0.25, 0.0),
    ]


def test_idle_and_oversized_instances_are_those_that_use_little(any_warehouse: Site) -> None:
    busy = {"idle": 0.01, "oversized": 0.1, "hungry": 0.1, "busy": 0.9}
    points = []
    for name, share in busy.items():
        put_period(any_warehouse, name, day(1), vcpus=2.0, memory_mib=1000.0, flavor="m1")
        for hour in range(25):
            when, given = day(1) + hour * times.HOUR, {"resource": name, "recorded_at": day(3)}
            cpu = share * 2 * hour * 3.6e12
            points.append(point(cpu, when, meter="cpu", unit="ns", type="cumulative", **given))
            if name != "idle":
                memory = 900.0 if name == "hungry" else 100.0
                points.append(point(memory, when, meter="memory.usage", unit="MiB", **given))
    put_period(any_warehouse, "unknown", day(1), vcpus=64.0)
    land_points(any_warehouse, points)
    roll_up(any_warehouse)
    found = report(any_warehouse, "idle_and_oversized_instances", day(1), day(2))
    assert [(row["finding"], row["resource_id"], row["memory_share"]) for row in found] == [
        ("idle", "idle", None),
        ("oversized", "oversized", 0.1),
    ]
    assert [row["cpu_share"] for row in found] == pytest.approx([0.01 * 23 / 24, 0.1 * 23 / 24], rel=0.05)


def test_orphans_are_volumes_and_addresses_that_nothing_uses(any_warehouse: Site) -> None:
    volume, address = {"type": "volume", "size_gib": 100.0}, {"type": "floating_ip"}
    put_period(any_warehouse, "used", day(1), state="in-use", **volume)
    put_period(any_warehouse, "free", day(1), day(21), state="in-use", **volume)
    put_period(any_warehouse, "free", day(21), state="available", **volume)
    put_period(any_warehouse, "gone", day(1), day(30), state="available", **volume)
    put_period(any_warehouse, "down", day(2), state="DOWN", **address)
    put_period(any_warehouse, "up", day(2), state="ACTIVE", **address)
    found = report(any_warehouse, "orphaned_volumes_and_addresses", day(31), END)
    shown = ("resource_id", "free_since_at", "free_days", "hours", "gib_hours")
    assert [tuple(row[name] for name in shown) for row in found] == [
        ("free", day(21), 11.0, 24.0, 2400.0),
        ("down", day(2), 30.0, 24.0, None),
    ]


def test_what_samples_alone_tell_of_is_no_orphan_after_the_last_one(any_warehouse: Site) -> None:
    volume = {"type": "volume", "size_gib": 2.0, "state": "available", "confirmed_by": "polls"}
    put_period(any_warehouse, "silent", day(1), confirmed_until=day(20), **volume)
    put_period(any_warehouse, "seen", day(1), confirmed_until=day(31) + 1.5 * times.HOUR, **volume)
    found = report(any_warehouse, "orphaned_volumes_and_addresses", day(31), END)
    assert [(row["resource_id"], row["hours"], row["gib_hours"]) for row in found] == [("seen", 2.0, 4.0)]


def test_what_samples_alone_tell_of_is_idle_only_until_the_last_one(any_warehouse: Site) -> None:
    known = {"vcpus": 2.0, "confirmed_by": "polls"}
    put_period(any_warehouse, "i1", day(1), confirmed_until=day(1) + 11.5 * times.HOUR, **known)
    cpu = {"meter": "cpu", "unit": "ns", "type": "cumulative", "resource": "i1", "recorded_at": day(3)}
    land_points(any_warehouse, [point(1e9 * hour, day(1) + hour * times.HOUR, **cpu) for hour in range(12)])
    roll_up(any_warehouse)
    (found,) = report(any_warehouse, "idle_and_oversized_instances", day(1), day(4))
    assert (found["finding"], found["hours"]) == ("idle", 12.0)


def test_unconfirmed_resources_are_listed_with_how_long_nothing_was_heard(any_warehouse: Site) -> None:
    put_period(any_warehouse, "lost", day(1), start_evidence="m-1")
    put_period(any_warehouse, "seen", day(1), unconfirmed=False, confirmed_by="events,polls")
    put_period(any_warehouse, "ended", day(1), day(2))
    (found,) = report(any_warehouse, "unconfirmed_resources")
    assert (found["resource_id"], found["start_evidence"], found["days"]) == ("lost", "m-1", 31)


def test_capacity_has_a_trend_and_the_days_that_are_left(any_warehouse: Site) -> None:
    for number in range(1, 11):  # one more of 2 vCPUs each day
        put_period(any_warehouse, f"i{number}", day(number), zone="az1", vcpus=2.0)
    put_period(any_warehouse, "v1", day(-100), type="volume", zone="az1", size_gib=500.0)
    pool = {"resource": "host@ceph#ssd", "unit": "GiB"}
    points = [
        point(capacity, day(number + 0.5), meter=f"volume.provider.pool.capacity.{name}", **pool)
        for number in range(1, 11)
        for name, capacity in (("total", 1000.0), ("free", 500.0 - 10 * number))
    ]
    points.append(point(40.0, day(3), meter="capacity.vcpus", unit="vcpu", resource="az1"))
    land_points(any_warehouse, points)
    roll_up(any_warehouse)
    found = report(any_warehouse, "capacity_and_trend", day(1), day(11))
    shown = ("what", "place", "used", "growth_per_day", "capacity", "days_left")
    assert [tuple(row[name] for name in shown) for row in found] == [
        ("vCPU", "az1", 20.0, pytest.approx(2.0), 40.0, pytest.approx(10.0)),
        ("pool GiB", "host@ceph#ssd", 600.0, pytest.approx(10.0), 1000.0, pytest.approx(40.0)),
        ("volume GiB", "az1", 500.0, pytest.approx(0.0), None, None),
    ]


def test_the_quality_of_a_bill_says_how_much_is_confirmed_and_how_far_it_may_be_off(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", day(1), day(11), vcpus=1.0, confirmed_by="events,audits")
    put_period(any_warehouse, "i2", day(22), vcpus=1.0)
    late = {"start_latest": day(12) + times.HOUR, "end_latest": day(22) + 2 * times.HOUR}
    put_period(any_warehouse, "i3", day(12), day(22), confirmed_by="audits", **late)
    (found,) = report(any_warehouse, "data_quality_of_a_bill")
    assert (found["resources"], found["hours"]) == (3, 720.0)
    assert found["confirmed_share"] == pytest.approx(240 / 720)
    assert (found["unconfirmed_hours"], found["uncertain_hours"], found["without_size_hours"]) == (240.0, 3.0, 240.0)


@pytest.mark.parametrize("name", report_files.ours())
def test_a_report_leaves_the_functional_suite_out_and_has_no_rows_without_data(any_warehouse: Site, name: str) -> None:
    assert report(any_warehouse, name) == []
    put_period(any_warehouse, "v1", day(1), type="volume", state="available", size_gib=1.0, source="meterhouse-verify")
    put_period(any_warehouse, "i1", day(1), vcpus=1.0, source="meterhouse-verify")
    assert report(any_warehouse, name) == []


@pytest.mark.parametrize("name", report_files.ours())
def test_a_report_can_be_run_over_any_span(any_warehouse: Site, name: str) -> None:
    put_period(any_warehouse, "i1", day(1), vcpus=1.0)
    put_period(any_warehouse, "i2", day(1), day(1) + times.HOUR, project=None)
    put_period(any_warehouse, "v1", day(1), type="volume", state="available")
    for start, end in ((day(1), day(1.5)), (day(1.2), day(1.3)), (day(-40_000), day(40_000)), (day(90), day(91))):
        report(any_warehouse, name, start, end)
    assert report(any_warehouse, name, times.now() + times.DAY, times.now() + 9 * times.DAY) == []


@pytest.mark.parametrize("name", report_files.ours())
def test_a_report_reads_periods_by_time_and_not_those_of_all_years(site: Site, name: str) -> None:
    query = report_files.ours()[name].query
    with site.warehouse.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", sqlite_times(reports.parameters(START, END)))
        steps = [step for *_, step in plan]
    assert not [step for step in steps if "SCAN" in step and "resource_periods" in step]
    assert not [step for step in steps if "resource_periods" in step and step.endswith("(resource_type=?)")]
