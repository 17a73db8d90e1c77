"""The demo's simulated cloud writes what its ledger counts, and the webhook receiver records what it gets."""

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from meterhouse.demo.cloud import SimulatedCloud
from meterhouse.demo.receiver import WebhookReceiver

UNTIL = datetime(2026, 11, 22, 14, tzinfo=UTC)
COUNTERS = {
    "cpu",
    "disk.device.read.bytes",
    "disk.device.write.bytes",
    "network.incoming.bytes",
    "network.outgoing.bytes",
}
SERIES = (
    "source",
    "counter_name",
    "counter_type",
    "counter_unit",
    "resource_id",
    "project_id",
    "user_id",
)


@dataclass
class Recount:
    """The ledger's figures, recounted from the files with only the standard library."""

    messages: int = 0
    notifications: int = 0
    events: int = 0
    samples: int = 0
    not_finite: int = 0
    out_of_range: int = 0
    negative: int = 0
    future: int = 0
    duplicates: int = 0
    counter_resets: int = 0
    redelivered: int = 0
    dead_letters: int = 0
    late: int = 0
    excluded: int = 0
    good_points: int = 0
    samples_by_meter: Counter[str] = field(default_factory=Counter)
    notifications_by_event_type: Counter[str] = field(default_factory=Counter)
    repeats_in_same_file: int = 0
    repeats_in_later_file: int = 0
    dead_lines: list[bytes] = field(default_factory=list)
    series: dict[tuple[Any, ...], dict[datetime, list[float]]] = field(default_factory=dict)


def unwrapped(line: bytes) -> dict[str, Any] | None:
    try:
        envelope = json.loads(line.decode())
        message = json.loads(envelope["oslo.message"]) if "oslo.message" in envelope else envelope
    except (ValueError, TypeError):
        return None
    if not isinstance(message, dict) or envelope.get("oslo.version", "2.0") != "2.0" or "event_type" not in message:
        return None
    return message


def in_order(spool: Path) -> list[Path]:
    """Files in the order of writing: the history, live polls, late points."""
    kinds = ("history", "live", "late")
    return sorted(spool.glob("*.jsonl"), key=lambda path: (kinds.index(path.stem.rsplit("-", 1)[1]), path.name))


def recount(spool: Path, until: datetime = UNTIL) -> Recount:
    found = Recount()
    first_file: dict[str, tuple[str, bytes]] = {}
    points: dict[tuple[Any, ...], dict[datetime, list[float]]] = defaultdict(lambda: defaultdict(list))
    sample_ids: set[str] = set()
    for path in in_order(spool):
        for line in path.read_bytes().split(b"\n")[:-1]:
            found.messages += 1
            message = unwrapped(line)
            if message is None:
                found.dead_letters += 1
                found.dead_lines.append(line)
                continue
            if message["message_id"] in first_file:
                name, original = first_file[message["message_id"]]
                assert line == original
                found.redelivered += 1
                found.repeats_in_same_file += name == path.name
                found.repeats_in_later_file += name < path.name
                continue
            first_file[message["message_id"]] = (path.name, line)
            found.notifications += 1
            found.notifications_by_event_type[message["event_type"]] += 1
            if message["event_type"] != "telemetry.polling":
                found.events += 1
                continue
            assert len(message["payload"]["samples"]) <= 50
            for sample in message["payload"]["samples"]:
                assert sample["message_id"] not in sample_ids
                sample_ids.add(sample["message_id"])
                found.samples += 1
                found.samples_by_meter[sample["counter_name"]] += 1
                series = tuple(sample[name] for name in SERIES)
                moment = datetime.fromisoformat(sample["timestamp"])
                found.late += path.name.endswith("-late.jsonl")
                points[series][moment].append(float(sample["counter_volume"]))
    for series, moments in points.items():
        meter, kind = series[1], series[2]
        assert kind == ("cumulative" if meter in COUNTERS else "gauge")
        previous: list[float] = []
        for moment, volumes in sorted(moments.items()):
            good = []
            for volume in volumes:
                wrong = {
                    "not_finite": not math.isfinite(volume),
                    "out_of_range": math.isfinite(volume) and meter == "cpu_util" and not 0 <= volume <= 819200,
                    "negative": math.isfinite(volume) and meter != "cpu_util" and volume < 0,
                    "future": moment > until + timedelta(minutes=5),
                }
                assert sum(wrong.values()) <= 1
                for rule, broken in wrong.items():
                    setattr(found, rule, getattr(found, rule) + broken)
                if not any(wrong.values()):
                    good.append(volume)
            if not good:
                continue
            assert len(good) <= 2
            found.duplicates += len(good) - 1
            assert len(set(good)) == len(good), "a duplicate has another value"
            found.good_points += 1
            if kind == "cumulative" and previous:
                # The result is the same whichever of two duplicates counts.
                falls = {now < before for now in good for before in previous}
                assert len(falls) == 1
                found.counter_resets += falls.pop()
            previous = good
    found.series = {series: dict(moments) for series, moments in points.items()}
    found.excluded = found.samples - found.good_points
    return found


def of_meter(found: Recount, meter: str) -> dict[str, dict[datetime, list[float]]]:
    return {series[4]: moments for series, moments in found.series.items() if series[1] == meter}


@pytest.fixture(scope="module")
def ten_hours(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedCloud, Recount]:
    spool = tmp_path_factory.mktemp("spool")
    cloud = SimulatedCloud()
    cloud.write_history(spool, UNTIL, hours=10, cadence_s=300)
    cloud.write_late(spool, UNTIL)
    for poll in range(3):
        cloud.live_poll(spool, UNTIL + timedelta(seconds=20 * poll), overloaded=poll < 2)
    return cloud, recount(spool)


@pytest.fixture(scope="module")
def two_hours(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedCloud, Recount, Path]:
    spool = tmp_path_factory.mktemp("spool")
    cloud = SimulatedCloud()
    cloud.write_history(spool, UNTIL, hours=2)
    return cloud, recount(spool), spool


def write_everything(spool: Path, seed: int) -> dict[str, bytes]:
    cloud = SimulatedCloud(seed, instances=14)
    cloud.write_history(spool, UNTIL, hours=9, cadence_s=600)
    cloud.write_late(spool, UNTIL)
    cloud.live_poll(spool, UNTIL, overloaded=True)
    return {path.name: path.read_bytes() for path in spool.iterdir()}


def test_equal_seeds_write_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    first = write_everything(tmp_path / "first", seed=3)
    assert first == write_everything(tmp_path / "second", seed=3)
    assert first != write_everything(tmp_path / "third", seed=4)


def test_ledger_equals_a_recount_of_a_two_hour_history(two_hours: tuple[SimulatedCloud, Recount, Path]) -> None:
    cloud, found, _ = two_hours
    counted = cloud.ledger.as_dict()
    assert counted == {name: getattr(found, name) for name in counted}
    assert cloud.ledger.samples_by_meter == found.samples_by_meter
    assert cloud.ledger.notifications_by_event_type == found.notifications_by_event_type


def test_ledger_equals_a_recount_with_late_points_and_live_polls(ten_hours: tuple[SimulatedCloud, Recount]) -> None:
    cloud, found = ten_hours
    counted = cloud.ledger.as_dict()
    assert counted == {name: getattr(found, name) for name in counted}
    assert cloud.ledger.samples_by_meter == found.samples_by_meter
    assert cloud.ledger.late == 25


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "until", [UNTIL, datetime(2026, 11, 22, 23, 47, 31, 250_000, tzinfo=UTC)], ids=["full hour", "odd time"]
)
def test_the_ledger_is_right_for_other_seeds_sizes_and_ends(tmp_path: Path, seed: int, until: datetime) -> None:
    cloud = SimulatedCloud(seed, projects=3, instances=13 + 20 * seed)
    cloud.write_history(tmp_path, until, hours=9 + seed % 2, cadence_s=437)
    cloud.write_late(tmp_path, until)
    found = recount(tmp_path, until)
    counted = cloud.ledger.as_dict()
    assert counted == {name: getattr(found, name) for name in counted}
    stamps = [stamp for moments in found.series.values() for stamp in moments if stamp < until + timedelta(hours=1)]
    assert until - timedelta(hours=9 + seed % 2) <= min(stamps) <= max(stamps) < until


def test_every_kind_of_fault_is_planted(two_hours: tuple[SimulatedCloud, Recount, Path]) -> None:
    cloud, found, _ = two_hours
    bad = ("not_finite", "out_of_range", "negative", "future", "duplicates")
    kinds = (*bad, "counter_resets", "redelivered", "dead_letters")
    assert all(getattr(cloud.ledger, kind) >= 5 for kind in kinds)
    assert found.repeats_in_same_file
    assert found.repeats_in_later_file
    assert len(set(found.dead_lines)) == len(found.dead_lines)


def test_the_history_is_one_complete_file_for_each_hour(two_hours: tuple[SimulatedCloud, Recount, Path]) -> None:
    _, _, spool = two_hours
    assert sorted(path.name for path in spool.iterdir()) == ["20261122T12-history.jsonl", "20261122T13-history.jsonl"]


def test_future_points_are_gauges_one_to_three_days_ahead(two_hours: tuple[SimulatedCloud, Recount, Path]) -> None:
    _, found, _ = two_hours
    ahead = [(series[2], stamp - UNTIL) for series, stamps in found.series.items() for stamp in stamps if stamp > UNTIL]
    assert {kind for kind, _ in ahead} == {"gauge"}
    assert all(timedelta(days=1) <= by <= timedelta(days=3) for _, by in ahead)


def test_only_the_hot_instance_is_overloaded_and_only_at_the_end(ten_hours: tuple[SimulatedCloud, Recount]) -> None:
    cloud, found = ten_hours
    for resource_id, moments in of_meter(found, "cpu_util").items():
        for stamp, volumes in moments.items():
            plausible = [volume for volume in volumes if 0 <= volume <= 100]
            if resource_id != cloud.hot_instance_id:
                assert all(volume <= 85 for volume in plausible)
            elif UNTIL - timedelta(minutes=10) <= stamp <= UNTIL + timedelta(seconds=20):
                assert all(95 <= volume <= 99 for volume in volumes)
            else:
                assert all(volume < 60 for volume in volumes)


def test_the_hot_instance_has_no_faults(ten_hours: tuple[SimulatedCloud, Recount]) -> None:
    cloud, found = ten_hours
    hot = of_meter(found, "cpu_util")[cloud.hot_instance_id]
    assert len(hot) == 10 * 12 + 3
    assert all(len(volumes) == 1 for volumes in hot.values())


def test_late_points_are_between_the_polls_of_three_hours(tmp_path: Path) -> None:
    cloud = SimulatedCloud(instances=20)
    cloud.write_history(tmp_path, UNTIL, hours=10, cadence_s=600)
    before = recount(tmp_path)
    cloud.write_late(tmp_path, UNTIL)
    after = recount(tmp_path)
    fresh = [
        (series, stamp)
        for series, moments in after.series.items()
        for stamp in moments
        if stamp not in before.series[series]
    ]
    assert len(fresh) == cloud.ledger.late
    assert {series[2] for series, _ in fresh} == {"gauge"}
    assert len({stamp.replace(minute=0, second=0) for _, stamp in fresh}) == 3
    assert all(timedelta(hours=5) < UNTIL - stamp <= timedelta(hours=9) for _, stamp in fresh)
    assert after.good_points == before.good_points + len(fresh)


def test_late_points_need_a_history_that_covers_their_hours(tmp_path: Path) -> None:
    cloud = SimulatedCloud()
    cloud.write_history(tmp_path, UNTIL, hours=2, cadence_s=600)
    with pytest.raises(ValueError, match="nine hours"):
        cloud.write_late(tmp_path, UNTIL)


def test_live_polls_continue_the_counters_without_a_reset(tmp_path: Path) -> None:
    cloud = SimulatedCloud(instances=20)
    cloud.write_history(tmp_path, UNTIL, hours=2, cadence_s=120)
    resets = recount(tmp_path).counter_resets
    for poll in range(5):
        cloud.live_poll(tmp_path, UNTIL + timedelta(seconds=7 * poll), overloaded=poll % 2 == 0)
    found = recount(tmp_path)
    assert found.counter_resets == resets == cloud.ledger.counter_resets
    live = [stamp for stamp in of_meter(found, "cpu")[cloud.hot_instance_id] if stamp >= UNTIL]
    assert len(live) == 5


def test_the_cpu_counter_grows_according_to_cpu_util(two_hours: tuple[SimulatedCloud, Recount, Path]) -> None:
    cloud, found, _ = two_hours
    vcpus = cloud.inventory.instances[0].flavor.vcpus
    counter = of_meter(found, "cpu")[cloud.hot_instance_id]
    gauge = of_meter(found, "cpu_util")[cloud.hot_instance_id]
    stamps = sorted(counter)
    for before, stamp in pairwise(stamps):
        seconds = (stamp - before).total_seconds()
        percent = (counter[stamp][0] - counter[before][0]) / (seconds * vcpus * 1e7)
        assert percent == pytest.approx(gauge[stamp][0], abs=0.001)


def test_a_poll_at_or_before_the_last_one_is_rejected(tmp_path: Path) -> None:
    cloud = SimulatedCloud()
    cloud.live_poll(tmp_path, UNTIL, overloaded=False)
    with pytest.raises(ValueError, match="after the previous poll"):
        cloud.live_poll(tmp_path, UNTIL, overloaded=False)


def test_receiver_records_calls_and_refuses_the_first() -> None:
    with WebhookReceiver(fail_first=2) as receiver, httpx.Client(headers={"X-Key": "k"}) as client:
        answers = [client.post(receiver.url, json={"turn": turn}).status_code for turn in range(4)]
        assert answers == [503, 503, 200, 200]
        assert [call.body for call in receiver.refused] == [{"turn": 0}, {"turn": 1}]
        assert [call.body for call in receiver.calls] == [{"turn": 2}, {"turn": 3}]
        assert receiver.calls[0].headers["x-key"] == "k"
        assert receiver.calls[0].received_at.tzinfo is UTC


def test_receiver_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with WebhookReceiver() as receiver:
        httpx.post(receiver.url, content=b"no json")
        assert [call.body for call in receiver.calls] == ["no json"]
    assert capfd.readouterr() == ("", "")
