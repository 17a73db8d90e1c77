"""What events, audits and polls say of a day is compared by resource and hour."""

from datetime import date, timedelta
from typing import Any

import pytest
from builders import at, drop, land_points, notification, point, polled, polling, process, roll_up, warehouse_rows
from usage_messages import audit, created, deleted, land

from meterhouse import times
from meterhouse.site import Site
from meterhouse.usage.periods import compute
from meterhouse.usage.reconciliation import agreement, changed_days, reconcile, reconcile_changed

DAY = date(2026, 11, 10)


def of_day(instance: str, day: int = 10, **payload: Any) -> dict[str, Any]:
    """The audit of a day of November 2026."""
    start = at(hours=-12, days=day - 10)
    period = {"audit_period_beginning": str(start)[:19], "audit_period_ending": str(start + timedelta(days=1))[:19]}
    return audit(instance, start + timedelta(days=1), **{"launched_at": "2026-11-01T00:00:00", **period, **payload})


def findings(site: Site) -> dict[str, str]:
    return {row["resource_id"]: row["finding"] for row in reconcile(site, DAY).differing.to_pylist()}


def test_a_day_on_which_all_agree_lists_nothing(any_warehouse: Site) -> None:
    land(any_warehouse, created("i1", at(days=-9)), of_day("i1"))
    compute(any_warehouse)
    done = reconcile(any_warehouse, DAY)
    assert (done.resources, done.hours, done.agreed, done.share) == (1, 24, 24, 1.0)
    assert done.differing.num_rows == 0


def test_an_instance_that_the_audit_lacks_is_listed_with_its_hours(any_warehouse: Site) -> None:
    land(any_warehouse, created("i1", at(days=-9)), created("i2", at(days=-9)), of_day("i1"))
    compute(any_warehouse)
    done = reconcile(any_warehouse, DAY)
    assert done.share == 0.5
    (row,) = done.differing.to_pylist()
    assert (row["resource_id"], row["hours"], row["event_hours"], row["audit_hours"], row["poll_hours"]) == (
        *("i2", 24.0, 24, 0),
        None,
    )
    assert row["finding"] == "no audit in hours 0-23"
    kept = warehouse_rows(any_warehouse, "SELECT resource_id, finding FROM reconciliation")
    assert kept == [("i2", "no audit in hours 0-23")]
    (summed,) = warehouse_rows(
        any_warehouse, "SELECT resources, compared_hours, agreed_hours, differing_resources FROM reconciliation_daily"
    )
    assert tuple(summed) == (2, 48, 24, 1)


def test_an_audit_of_what_an_event_has_ended_is_listed(site: Site) -> None:
    land(site, created("i1", at(days=-9)), deleted("i1", at(days=-2)), of_day("i1"), of_day("i2"))
    land(site, created("i2", at(days=-9)))
    compute(site)
    assert findings(site) == {"i1": "seen by a witness although it did not exist in hours 0-23"}


def test_what_has_ended_is_listed_on_the_day_of_its_end_and_no_longer(site: Site) -> None:
    large = {"instance_type": "m1.xlarge", "vcpus": 8}
    land(site, created("i1", at(days=-9)), of_day("i1", 4, **large), of_day("i1", 5, **large))
    land(site, deleted("i1", at(days=-2), **large), created("i2", at(days=-9)))
    for day in range(4, 11):
        land(site, of_day("i2", day))
    compute(site)
    assert findings(site) == {}


def test_no_audit_is_expected_of_what_is_on_no_host(site: Site) -> None:
    offloaded = of_day("i1", 9, state="shelved_offloaded", host=None)
    land(site, created("i1", at(days=-9)), created("i2", at(days=-9)))
    land(site, {**offloaded, "event_type": "compute.instance.shelve_offload.end"}, of_day("i2"))
    compute(site)
    assert findings(site) == {}


def test_hours_without_samples_are_listed(site: Site) -> None:
    land(site, created("i1", at(days=-9)), created("i2", at(days=-9)))
    land_points(
        site,
        [
            point(1, at(60 * hour, hours=-12), meter="cpu", resource=name, type="cumulative", unit="ns")
            for hour in range(24)
            for name in ("i1", "i2")
            if name == "i1" or hour not in (5, 6, 7, 20)
        ],
    )
    roll_up(site)
    compute(site)
    assert findings(site) == {"i2": "no sample in hours 5-7, 20"}


def test_the_running_hour_is_not_compared_yet(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land(site, created("i1", at(days=-9)), created("i2", at(90)))
    land_points(
        site,
        [
            point(1, at(10 * turn, hours=-12), meter="cpu", resource=name, type="cumulative", unit="ns")
            for turn in range(6 * 14 + 3)
            for name in ("i1", "i2")
            if name == "i1" or turn >= 6 * 13 + 3
        ],
    )
    roll_up(site)
    compute(site)
    monkeypatch.setattr(times, "now", lambda: at(hours=2, minutes=25))
    done = reconcile(site, DAY)
    assert (done.resources, done.hours, done.agreed) == (2, 14 + 1, 14 + 1)


def test_the_days_that_were_compared_last_are_known_with_their_agreement(any_warehouse: Site) -> None:
    assert agreement(any_warehouse, 31) == []
    land(any_warehouse, created("i1", at(days=-9)), created("i2", at(days=-9)), of_day("i1"), of_day("i1", 9))
    compute(any_warehouse)
    for day in (9, 10, 8):
        reconcile(any_warehouse, date(2026, 11, day))
    assert [str(each.day)[-2:] for each in agreement(any_warehouse, 2)] == ["10", "09"]
    newest = agreement(any_warehouse, 1)[0]
    assert (newest.resources, newest.hours, newest.agreed, newest.share, newest.differing) == (2, 48, 24, 0.5, 1)


def test_a_change_that_no_event_told_is_listed_with_when_it_may_have_been(site: Site) -> None:
    large = {"instance_type": "m1.xlarge", "vcpus": 8}
    land(site, created("i1", at(days=-9)), of_day("i1", 9), of_day("i1", 10, **large), of_day("i1", 11, **large))
    compute(site)
    (finding,) = findings(site).values()
    assert finding == (
        "no event told the change; an audit shows it, between 2026-11-10T00:00:00Z and 2026-11-11T00:10:00Z"
    )


def test_a_second_run_replaces_the_first(site: Site) -> None:
    land(site, created("i1", at(days=-9)), created("i2", at(days=-9)), of_day("i1"))
    compute(site)
    reconcile(site, DAY)
    land(site, of_day("i2"))
    compute(site)
    reconcile(site, DAY)
    assert warehouse_rows(site, "SELECT count(*) FROM reconciliation") == [(0,)]


def test_days_that_late_messages_changed_are_compared_again(site: Site) -> None:
    land(site, created("i1", at(days=-9)), created("i2", at(days=-9)), of_day("i1"))
    compute(site)
    reconcile_changed(site, DAY)
    assert warehouse_rows(site, "SELECT resource_id FROM reconciliation") == [("i2",)]
    land(site, of_day("i2") | {"timestamp": "2026-11-10 23:00:00"})
    compute(site)
    assert DAY in changed_days(site, date(2026, 11, 12))
    reconcile_changed(site, date(2026, 11, 12))
    assert changed_days(site, date(2026, 11, 12)) == []
    kept = warehouse_rows(site, f"SELECT count(*) FROM reconciliation WHERE day = '{DAY}'")
    assert kept == [(0,)]


def test_one_notification_is_no_poll(site: Site) -> None:
    resized = of_day("i1", 9, instance_type="m1.large") | {"event_type": "compute.instance.resize.confirm.end"}
    drop(site.settings.spool, "a.jsonl", [created("i1", at(days=-9)), created("i2", at(days=-9)), resized])
    process(site)
    compute(site)
    assert set(reconcile(site, date(2026, 11, 10)).differing["poll_hours"].to_pylist()) <= {None}


def test_a_poll_in_another_unit_than_the_notification_of_its_hour_is_a_poll(site: Site) -> None:
    """The volume of an older agent is in GB. Cinder's notifications make samples in GiB."""
    volume = {"volume_id": "v1", "tenant_id": "p1", "user_id": "u1", "size": 100, "status": "available"}
    resized = notification("m1", "volume.resize.end", timestamp=str(at(30))[:26], payload=volume)
    polls = [
        polled(100, at(60 * hour), meter="volume.size", counter_unit="GB", resource=name)
        for hour in range(-3, 4)
        for name in ("v1", "v2")
    ]
    drop(site.settings.spool, "a.jsonl", [resized, polling("m2", polls)])
    process(site)
    compute(site)
    assert not [each for each in findings(site).values() if "no sample" in each]


@pytest.mark.parametrize("day", [date(2099, 1, 1), date(1999, 1, 1)])
def test_a_day_of_the_future_or_without_data_has_nothing_to_compare(site: Site, day: date) -> None:
    land(site, created("i1", at()), deleted("i1", at(5)))
    compute(site)
    assert reconcile(site, day).resources == 0
