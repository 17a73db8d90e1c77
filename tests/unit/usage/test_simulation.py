"""The simulated month itself: its truth is consistent with what its services say, and its naive bill is right."""

import json
from collections import Counter, defaultdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from builders import count
from simulated_losses import Losses, delivered, in_pieces, land
from simulated_messages import DAY, HOUR, SECOND, Flavor, Recorded, Shape, nova, nova_versioned
from simulated_month import Month, Plan, Stretch
from simulated_truth import bill, by_project, cents, differences, usage

from meterhouse.conversion.nova_versioned import legacy_twin
from meterhouse.site import Site


@pytest.fixture(scope="module")
def month() -> Month:
    return Month(Plan(instances=40, volumes=40, poll_minutes=360))


def test_a_life_has_no_two_states_at_once(month: Month) -> None:
    for life in month.lives.values():
        for before, after in zip(life.stretches, life.stretches[1:], strict=False):
            assert before.ended_at is not None
            assert before.ended_at <= after.started_at


def test_the_last_thing_that_is_said_of_each_instance_is_what_it_is(month: Month) -> None:
    said: dict[str, dict[str, Any]] = defaultdict(dict)
    for message in month.messages:
        if message.kind == "event" and message.service == "nova":
            told = json.loads(message.line)["payload"]
            if not message.event_type.endswith("_post.end"):
                said[told["instance_id"]] = told
    for life in month.lives.values():
        if life.kind == "instance" and life.stretches and life.stretches[-1].ended_at is None:
            told, shape = said[life.id], life.stretches[-1].shape
            assert (told["state"], told["host"], told["vcpus"]) == (shape.state, shape.host, shape.flavor.vcpus)


def test_a_larger_cloud_has_the_lives_of_a_smaller_one() -> None:
    plan = {"volumes": 0, "addresses": 0, "images": 0, "snapshots": 0, "poll_minutes": 0}
    small, large = (Month(Plan(instances=number, **plan)) for number in (3, 9))
    assert set(small.lives) < set(large.lives)


def test_every_kind_of_operation_happens(month: Month) -> None:
    operations = {message.event_type.rpartition(".")[0] for message in month.messages}
    wanted = "create delete finish_resize resize.confirm resize.revert live_migration.post.dest shelve_offload unshelve"
    wanted += " suspend resume pause power_off power_on rescue unrescue rebuild soft_delete restore"
    assert {f"compute.instance.{operation}" for operation in wanted.split()} <= operations
    assert {"volume.transfer.accept", "volume.resize", "volume.attach", "snapshot.delete"} <= operations


def test_a_versioned_notification_says_what_its_unversioned_twin_says() -> None:
    shape = Shape("p", "u", "vm", "stopped", Flavor("3", "m1.medium", 2, 4096, 40, 5), "node-001", "az-1", "i-1")
    times = Recorded(1_790_000_000 * SECOND, 1_790_000_020 * SECOND)
    versioned = nova_versioned(
        "vm-1", shape, times, audit_period_beginning="2026-10-01 00:00:00", audit_period_ending=""
    )
    message = {"event_type": "instance.exists", "payload": versioned, "priority": "INFO", "publisher_id": "n:h"}
    twin, plain = legacy_twin(message), nova("vm-1", shape, times)
    assert twin is not None
    for key in ("instance_id", "tenant_id", "state", "host", "vcpus", "memory_mb", "root_gb", "ephemeral_gb"):
        assert twin["payload"][key] == plain[key]


def test_losses_are_as_large_as_said_and_spare_what_is_no_event(month: Month) -> None:
    events = sum(message.kind == "event" for message in month.messages)
    got = delivered(month.messages, Losses(lost=0.2, twice=0.3, late=0.5))
    times = Counter(message.message_id for _, message in got if message.kind == "event")
    assert len(times) == pytest.approx(0.8 * events, rel=0.1)
    assert sum(times.values()) == pytest.approx(0.8 * 1.3 * events, rel=0.1)
    late = [arrival - message.at for arrival, message in got if message.kind == "event"]
    assert max(late) > 1.9 * DAY
    assert len(got) - sum(times.values()) == len(month.messages) - events


def test_pieces_hold_each_delivery_once_in_order_of_arrival(month: Month) -> None:
    got = delivered(month.messages, Losses(late=0.2))
    pieces = in_pieces(got, [month.plan.start, month.plan.start + 3 * DAY])
    assert [each for piece in pieces for each in piece] == got


def test_deliveries_land_once_at_their_time_of_arrival(month: Month, site: Site) -> None:
    got = delivered(month.messages, Losses(twice=0.5))
    assert land(site, got) == len(month.messages) == count(site, "notifications")


FLAVOR = Flavor("1", "m1", 2, 1024, 10)
TWO_HOURS = [
    Stretch("instance", "a", 0, HOUR, Shape("p", "u", "vm", "active", FLAVOR)),
    Stretch("instance", "a", HOUR, None, Shape("q", "u", "vm", "stopped", FLAVOR)),
    Stretch("volume", "v", HOUR // 2, HOUR, Shape("p", "u", "d", "in-use", Flavor("9", "fast"), size_gib=10.0)),
]


def test_naive_usage_is_size_times_seconds_within_the_span() -> None:
    found = usage(TWO_HOURS, HOUR // 2, HOUR + 10 * SECOND)
    assert found[("p", "instance", "a", "vcpus")] == 2 * 1800
    assert found[("q", "instance", "a", "seconds")] == 10
    assert found[("p", "volume", "v", "size_gib")] == 10 * 1800


def test_the_naive_bill_is_exact_until_it_is_rounded_once() -> None:
    costs = bill(TWO_HOURS, 0, 3 * HOUR)
    assert costs[("p", "vcpu", "a")] == Fraction("0.024")
    assert costs[("p", "fast volume", "v")] == Fraction("0.00205")
    assert cents(by_project(costs)["p"]) == Decimal("0.03")


def test_differences_of_two_time_lines_are_named_with_what_each_says() -> None:
    assert differences([(0, 10, "a"), (10, 20, "b")], [(0, 12, "a"), (15, 20, "b")]) == [
        (10, 12, "b", "a"),
        (12, 15, "b", None),
    ]
    with pytest.raises(AssertionError, match="counted twice"):
        differences([(0, 10, "a")], [(0, 10, "a"), (9, 12, "a")])
