"""Usage from periods, exact to the second, and from counters: one resource counts once."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from builders import NOON, at, drop, land_points, point, polled, polling, process, roll_up
from conftest import OpenSite
from usage_messages import audit, created, deleted, land

from meterhouse import times
from meterhouse.errors import UnknownKeyword, UsageError
from meterhouse.site import Site
from meterhouse.usage import described
from meterhouse.usage.amounts import of_span, usage
from meterhouse.usage.buckets import edges, month_span, zone_named
from meterhouse.usage.listing import listed
from meterhouse.usage.periods import compute

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")


def figures(site: Site, start: datetime, end: datetime, *columns: str, **how: Any) -> list[tuple[Any, ...]]:
    made = usage(site, start, end, **how)
    return [tuple(row[name] for name in columns) for row in made.to_pylist()]


def test_one_event_on_the_first_is_a_whole_month(any_warehouse: Site) -> None:
    land(any_warehouse, created("i1", OCTOBER[0]))
    compute(any_warehouse)
    found = figures(any_warehouse, *OCTOBER, "project_id", "seconds", "vcpu_hours", "memory_gib_hours")
    assert found == [("p1", 31 * 86_400.0, 4 * 744.0, 8 * 744.0)]


def test_ten_minutes_are_ten_minutes(site: Site) -> None:
    land(site, created("i1", at()), deleted("i1", at(10)))
    compute(site)
    assert figures(site, at(hours=-12), at(hours=12), "seconds", "vcpu_hours") == [(600.0, 4 / 6)]


def test_hours_begun_count_whole_and_their_columns_say_so(site: Site) -> None:
    land(site, created("i1", at(50)), deleted("i1", at(70)))
    compute(site)
    made = usage(site, at(hours=-12), at(hours=12), hours_begun=True)
    assert made.column_names[2:] == [
        *("resources", "hours_begun", "vcpu_hours_begun", "memory_gib_hours_begun", "root_gib_hours_begun"),
        *("ephemeral_gib_hours_begun", "size_gib_hours_begun"),
    ]
    assert made["hours_begun"].to_pylist() == [2]
    assert made["vcpu_hours_begun"].to_pylist() == [8.0]


def test_a_span_that_is_not_over_counts_to_the_present(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land(site, created("i1", at()))
    compute(site)
    monkeypatch.setattr(times, "now", lambda: at(hours=3))
    assert figures(site, at(), at(days=20), "seconds") == [(3 * 3600.0,)]


def test_days_of_a_zone_are_as_long_as_they_are(site: Site) -> None:
    land(site, created("i1", OCTOBER[0]))
    compute(site)
    berlin = zone_named("Europe/Berlin")
    start, end = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 26, 23, tzinfo=UTC)
    made = usage(site, start, end, by=[], bucket="day", zone=berlin)
    assert made["hours"].to_pylist() == [25.0, 24.0]
    assert made["bucket_start"].to_pylist() == [start, datetime(2026, 10, 25, 23, tzinfo=UTC)]
    assert month_span("2026-10", berlin) == (
        datetime(2026, 9, 30, 22, tzinfo=UTC),
        datetime(2026, 10, 31, 23, tzinfo=UTC),
    )


@pytest.mark.parametrize("bucket", ["hour", "day", "month"])
def test_buckets_add_up_to_the_whole(site: Site, bucket: str) -> None:
    land(site, created("i1", at(13)), created("i2", at(99)), deleted("i2", at(days=3, hours=5)))
    compute(site)
    span = at(hours=-12), at(days=9)
    (whole,) = figures(site, *span, "seconds", by=["project_id"])
    parts = figures(site, *span, "seconds", by=["project_id"], bucket=bucket, zone=zone_named("Asia/Kathmandu"))
    assert sum(each[0] for each in parts) == whole[0]


def test_hours_of_a_zone_with_half_an_hour_start_there() -> None:
    starts, ends = edges(NOON, NOON + timedelta(hours=2), "hour", ZoneInfo("Asia/Kolkata"))
    assert [each.minute for each in starts] == [30, 30, 30]
    assert ends[-1] >= NOON + timedelta(hours=2)


def test_usage_is_grouped_by_the_metadata_of_the_time(site: Site) -> None:
    resized = {"instance_type": "m1.xlarge", "instance_flavor_id": "5", "vcpus": 8}
    messages = [created("i1", at()), audit("i1", at(days=1), **resized)]
    drop(site.settings.spool, "a.jsonl", messages)
    process(site)
    compute(site)
    found = dict(figures(site, at(), at(days=2), "metadata.flavor_name", "vcpu_hours", by=["metadata.flavor_name"]))
    assert set(found) == {"m1.large", "m1.xlarge"}


def test_what_pollsters_and_notifications_say_of_a_resource_is_known_together(any_warehouse: Site) -> None:
    center = {"metering.cost_center": "4711", "display_name": "web"}
    polls = [
        polled(1e9 * minute, at(minute), meter="cpu", type="cumulative", resource="i1", resource_metadata=center)
        for minute in range(0, 181, 30)
    ]
    drop(any_warehouse.settings.spool, "a.jsonl", [polling("m1", polls), created("i1", at()), audit("i1", at(hours=2))])
    process(any_warehouse)
    compute(any_warehouse)
    found = usage(any_warehouse, at(), at(hours=3), by=["metadata.metering.cost_center"])
    assert of_span(any_warehouse, at(), at(hours=3)).periods["metadata"].null_count == 0
    stretches = of_span(any_warehouse, at(), at(hours=3)).periods.to_pylist()
    assert all("4711" in row["metadata"] and "m1.large" in row["metadata"] for row in stretches)
    assert found.select(["metadata.metering.cost_center", "seconds"]).to_pylist() == [
        {"metadata.metering.cost_center": "4711", "seconds": 3 * 3600.0}
    ]


def test_of_metadata_before_a_span_only_what_still_holds_is_read(any_warehouse: Site) -> None:
    polls = [
        polled(1e9 * hour, at(60 * hour), meter=meter, type="cumulative", resource="i1", resource_metadata=said)
        for hour in range(12)
        for meter, said in (
            ("cpu", {"round": str(hour)}),
            ("disk.device.read.bytes", {"disk": "vda" if hour < 3 else "vdb"}),
        )
    ]
    drop(any_warehouse.settings.spool, "a.jsonl", [polling("m1", polls), created("i1", at())])
    process(any_warehouse)
    compute(any_warehouse)
    history, texts = described.of_resources(any_warehouse, at(hours=9, minutes=30), at(hours=11))
    said = dict(zip(*(texts[name].to_pylist() for name in texts.column_names), strict=True))
    found = [(row["valid_from"], said[row["metadata_id"]]) for row in history.to_pylist()]
    assert max(moment for moment, _ in found if moment <= at(hours=9, minutes=30)) == at(hours=9)
    assert sorted(moment for moment, _ in found if moment > at(hours=3)) == [at(hours=9), at(hours=10)]
    for moment, text in found:
        if moment >= at(hours=9):
            assert f'"round":"{moment.hour - at().hour}"' in text
            assert '"disk":"vdb"' in text


def test_a_volume_whose_unit_is_spelt_in_two_ways_counts_once(site: Site) -> None:
    land_points(
        site,
        [
            point(100, at(60 * hour), meter="volume.size", unit=unit, resource="v1")
            for hour in range(4)
            for unit in ("GB", "GiB")
        ],
    )
    roll_up(site)
    compute(site)
    found = figures(site, at(), at(hours=3), "resources", "size_gib_hours", by=["resource_type"])
    assert found == [(1, 300.0)]


def test_while_pollsters_pause_anything_may_begin_and_end(site: Site) -> None:
    """No poll of any volume from 06:00 to 12:00: v2 is gone after it, and v3 there. No event told."""
    polled_at = [at(30 * n, hours=-12) for n in range(60) if not 12 < n < 24]
    seen = {
        "v1": polled_at,
        "v2": [moment for moment in polled_at if moment <= at(hours=-6)],
        "v3": [moment for moment in polled_at if moment >= at()],
    }
    points = [(name, moment) for name, moments in seen.items() for moment in moments]
    land_points(site, [point(9, moment, meter="volume.size", unit="GiB", resource=name) for name, moment in points])
    roll_up(site)
    compute(site)
    _, gone, new = sorted(listed(site), key=lambda row: row["resource_id"])
    assert (gone["end_earliest"], gone["ended_at"]) == (at(hours=-6), at(hours=-6))
    assert at() <= gone["end_latest"] <= at(30)
    assert (new["start_earliest"], new["started_at"]) == (at(hours=-6), at())


def test_a_delta_is_no_size(site: Site) -> None:
    hours = range(4)
    grown = [point(5, at(60 * n + 1), meter="volume.size", type="delta", unit="GiB", resource="v1") for n in hours]
    polls = [point(100, at(60 * n), meter="volume.size", unit="GiB", resource="v1") for n in hours]
    land_points(site, [*polls, *grown])
    roll_up(site)
    compute(site)
    assert [row["size_gib"] for row in listed(site)] == [100.0]


def test_what_samples_alone_tell_of_counts_until_the_end_of_the_hour_of_the_last_one(any_warehouse: Site) -> None:
    land_points(
        any_warehouse, [point(10, at(60 * hour), meter="volume.size", unit="GiB", resource="v1") for hour in (0, 1, 5)]
    )
    roll_up(any_warehouse)
    compute(any_warehouse)
    (period,) = listed(any_warehouse)
    assert period["ended_at"] is None
    assert figures(any_warehouse, at(), at(hours=20), "size_gib_hours", by=["resource_type"]) == [(60.0,)]
    assert figures(any_warehouse, at(hours=7), at(hours=20), "seconds", by=["resource_type"]) == []


def cpu_until(minutes: int, resource: str = "i1") -> list[dict[str, Any]]:
    """CPU time of an instance of which samples alone tell, each 5 minutes."""
    return [
        point(minute, at(minute), meter="cpu", type="cumulative", unit="ns", resource=resource)
        for minute in range(0, minutes + 1, 5)
    ]


def vcpus_at(*minutes: int, vcpus: float = 2, resource: str = "i1") -> list[dict[str, Any]]:
    return [point(vcpus, at(each), meter="vcpus", unit="vcpu", resource=resource) for each in minutes]


def sized(site: Site) -> list[tuple[datetime, datetime | None, float | None]]:
    return [(row["started_at"], row["ended_at"], row["vcpus"]) for row in listed(site)]


def test_a_size_of_samples_alone_counts_until_the_end_of_the_hour_of_its_last_one(any_warehouse: Site) -> None:
    land_points(any_warehouse, [*cpu_until(185), *vcpus_at(0)])
    roll_up(any_warehouse)
    compute(any_warehouse)
    assert sized(any_warehouse) == [(at(), at(60), 2.0), (at(60), None, None)]
    assert figures(any_warehouse, at(), at(hours=9), "seconds", "vcpu_hours") == [(4 * 3600.0, 2.0)]
    land_points(any_warehouse, vcpus_at(150))
    roll_up(any_warehouse)
    compute(any_warehouse)
    assert sized(any_warehouse) == [(at(), None, 2.0)]
    land_points(any_warehouse, vcpus_at(181, vcpus=4))
    roll_up(any_warehouse)
    compute(any_warehouse)
    assert sized(any_warehouse) == [(at(), at(181), 2.0), (at(181), None, 4.0)]
    assert figures(any_warehouse, at(), at(hours=9), "vcpu_hours") == [(2 * 181 / 60 + 4 * 59 / 60,)]


def test_a_size_that_is_polled_less_often_holds_for_two_of_its_steps(site: Site) -> None:
    land_points(site, [*cpu_until(60 * 25), *vcpus_at(0, 6 * 60, 12 * 60, 18 * 60)])
    roll_up(site)
    compute(site)
    assert sized(site) == [(at(), None, 2.0)]
    assert figures(site, at(), at(days=2), "vcpu_hours") == [(2 * 26.0,)]


def test_a_size_that_samples_told_in_their_metadata_holds_in_the_months_after(site: Site) -> None:
    said = {"display_name": "web", "flavor": {"name": "m1", "vcpus": 2}}
    samples = [
        polled(
            1e9 * hour,
            at(days=-24, hours=hour),
            meter="cpu",
            type="cumulative",
            counter_unit="ns",
            resource="i1",
            resource_metadata=said,
        )
        for hour in range(0, 24 * 20, 6)
    ]
    drop(site.settings.spool, "a.jsonl", [polling("m1", samples)])
    process(site)
    compute(site)
    assert sized(site) == [(at(days=-24), None, 2.0)]


def test_a_gauge_that_ceased_in_an_earlier_month_stays_ceased(site: Site) -> None:
    days = [
        point(40 + day, at(days=day), meter="cpu", type="cumulative", unit="ns", resource="i1")
        for day in range(-30, 19)
    ]
    vcpus = [point(2, at(60 * hour, days=-30), meter="vcpus", unit="vcpu", resource="i1") for hour in range(2)]
    land_points(site, [*days, *vcpus])
    roll_up(site)
    compute(site)
    ceased = at(120, days=-30)
    assert sized(site) == [(at(days=-30), ceased, 2.0), (ceased, None, None)]


def test_a_size_that_an_event_told_holds_whatever_samples_come(site: Site) -> None:
    land(site, created("i1", at()))
    land_points(site, cpu_until(185))
    roll_up(site)
    compute(site)
    assert sized(site) == [(at(), None, 4.0)]


def test_a_size_in_a_unit_that_cannot_be_converted_is_named(site: Site) -> None:
    land_points(site, [point(100, meter="volume.size", unit="parsec", resource="v1")])
    roll_up(site)
    compute(site)
    (refused,) = of_span(site, at(hours=-1), at(hours=1)).refused
    assert refused == "volume.size in parsec was not counted: units.yaml has no factor from parsec to GiB"


def test_the_increase_of_a_counter_is_counted_once_in_however_many_series(site: Site) -> None:
    samples = [
        polled(
            60e9 * minute,
            at(minute),
            meter="cpu",
            type="cumulative",
            counter_unit="ns",
            user_id="u1" if minute % 20 else None,
        )
        for minute in range(0, 61, 10)
    ]
    drop(site.settings.spool, "a.jsonl", [polling("m1", samples)])
    process(site)
    counters = of_span(site, at(), at(hours=2)).counters
    assert counters["unit"].unique().to_pylist() == ["s"]
    assert sum(counters["amount"].to_pylist()) == pytest.approx(3600)


def test_series_of_a_counter_that_take_turns_count_it_once(site: Site) -> None:
    minutes = [*((0, "u1"), *((minute, None) for minute in range(10, 201, 10))), *((m, "u1") for m in (210, 220, 230))]
    samples = [
        polled(60e9 * minute, at(minute), meter="cpu", type="cumulative", counter_unit="ns", user_id=user)
        for minute, user in minutes
    ]
    drop(site.settings.spool, "a.jsonl", [polling("m1", samples)])
    process(site)
    counters = of_span(site, at(), at(hours=5)).counters
    assert sum(counters["amount"].to_pylist()) == pytest.approx(220 * 60)
    parts = [of_span(site, at(hours=hour), at(hours=hour + 1)).counters for hour in range(5)]
    assert sum(sum(part["amount"].to_pylist()) for part in parts) == pytest.approx(220 * 60)


def test_hours_begun_include_the_one_in_which_the_span_starts(site: Site) -> None:
    land(site, created("i1", at(days=-1)))
    compute(site)
    begun = {"by": [], "hours_begun": True}
    assert figures(site, at(30), at(90), "hours_begun", **begun) == [(2,)]
    assert figures(site, at(30), at(50), "hours_begun", **begun) == [(1,)]


def test_a_size_that_cannot_be_true_stops_no_other(site: Site) -> None:
    land(site, created("i1", at(), memory_mb=10**18, vcpus=4), created("i2", at()))
    compute(site)
    found = figures(site, at(), at(hours=1), "vcpu_hours", "memory_gib_hours", by=["resource_id"])
    assert found == [(4.0, 0.0), (4.0, 8.0)]


def test_a_group_is_a_name_whatever_it_has_in_it(site: Site) -> None:
    land(site, created("i1", at()))
    compute(site)
    for name in ('metadata.x", version() AS "v', "metadata.a'b", 'metadata.a"b'):
        made = usage(site, at(), at(hours=1), by=[name])
        assert made.column_names[0] == name
        assert made[name].to_pylist() == [None]


@pytest.mark.parametrize("key", ["a.b", 'a"b', "a'b", "größe", "a/b", "a~1b", "a\\b", "*", "0", "a b", "a[0]"])
def test_usage_is_grouped_by_a_key_of_the_metadata_whatever_is_in_it(site: Site, key: str) -> None:
    samples = [polled(1, at(minute), meter="cpu", resource="i1", resource_metadata={key: "x"}) for minute in (0, 60)]
    drop(site.settings.spool, "a.jsonl", [created("i1", at()), polling("m1", samples)])
    process(site)
    compute(site)
    assert figures(site, at(), at(hours=1), f"metadata.{key}", "seconds", by=[f"metadata.{key}"]) == [("x", 3600.0)]


def test_deltas_of_one_counter_whose_unit_is_spelt_in_two_ways_count_once(site: Site) -> None:
    requests = {"meter": "api.request", "type": "delta", "resource": "p1"}
    both = [point(5, at(10 * n), unit=unit, **requests) for n in range(4) for unit in ("request", "requests")]
    land_points(site, [*both, point(7, at(70), unit="requests", **requests)])
    roll_up(site)
    counters = of_span(site, at(), at(hours=2)).counters
    assert counters.select(["unit", "amount"]).to_pylist() == [
        {"unit": "request", "amount": 20.0},
        {"unit": "request", "amount": 7.0},
    ]


def test_deltas_of_series_that_take_turns_all_count(site: Site) -> None:
    requests = {"meter": "api.request", "type": "delta", "counter_unit": "request"}
    samples = [polled(5, at(10 * n), user_id=f"u{n % 2}", **requests) for n in range(6)]
    drop(site.settings.spool, "a.jsonl", [polling("m1", samples)])
    process(site)
    assert of_span(site, at(), at(hours=1)).counters["amount"].to_pylist() == [30.0]


def test_a_reset_of_a_counter_is_no_loss(site: Site) -> None:
    volumes = [0, 100, 200, 50, 150]
    land_points(
        site,
        [
            point(volume, at(10 * n), meter="network.outgoing.bytes", type="cumulative", unit="B", resource="port1")
            for n, volume in enumerate(volumes)
        ],
    )
    roll_up(site)
    (row,) = of_span(site, at(), at(hours=1)).counters.to_pylist()
    assert (row["meter"], row["unit"], row["project_id"]) == ("network.outgoing.bytes", "GiB", "p1")
    assert row["amount"] * 2**30 == pytest.approx(350)


def test_nothing_that_the_functional_suite_sent_is_counted(site: Site) -> None:
    mine = created("i1", at()) | {"publisher_id": "meterhouse-verify.host1", "message_id": "mine"}
    land(site, mine, created("i2", at()))
    compute(site)
    periods = of_span(site, at(), at(hours=1)).periods
    assert periods["resource_id"].to_pylist() == ["i2"]


def test_what_cannot_be_asked_is_refused(site: Site) -> None:
    with pytest.raises(UnknownKeyword, match="unknown group 'flavour'"):
        usage(site, at(), at(hours=1), by=["flavour"])
    with pytest.raises(UsageError, match="the span is empty"):
        usage(site, at(), at())
    with pytest.raises(UsageError, match="there is no time zone 'Mars'"):
        zone_named("Mars")
    with pytest.raises(UsageError, match="'11-2026' is not a month"):
        month_span("11-2026", UTC_ZONE)


def test_late_messages_in_any_pieces_give_what_all_at_once_give(open_site: OpenSite) -> None:
    messages = [
        created("i1", at(days=-40)),
        audit("i1", at(days=-9)),
        audit("i1", at(days=-8)),
        deleted("i1", at(days=2)),
        created("i2", at(days=-20)),
        deleted("i2", at(days=-1)),
    ]
    whole, pieces = open_site(), open_site()
    land(whole, *messages)
    compute(whole)
    for message in reversed(messages):
        land(pieces, message)
        compute(pieces)
    assert _all(pieces) == _all(whole)
    compute(pieces, months=[date(2026, 9, 1)])
    assert _all(pieces) == _all(whole)


def _all(site: Site) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in listed(site)]
