"""The samples of a task become one notification, which the intake takes as one of Ceilometer's polling agents."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from meterhouse.conversion.polled import add_ordinary
from meterhouse.conversion.sample_columns import SampleColumns
from meterhouse.conversion.signatures import FIELD, is_valid
from meterhouse.polling.batches import SlotNote, batch, slot_of
from meterhouse.stream.envelope import unwrap

SLOT = SlotNote(
    source="nova",
    pollster="disk.size",
    start=datetime(2026, 11, 20, 12, tzinfo=UTC),
    end=datetime(2026, 11, 20, 12, 0, 5, tzinfo=UTC),
    shard="0/1",
    member="host:7",
    generation=3,
    polled_at=datetime(2026, 11, 20, 12, 0, 1, tzinfo=UTC),
    samples=2,
    rests=[{"piece": {"page": "http://cloud/next"}, "error": None}],
)


def sample(resource: str, **fields: Any) -> dict[str, Any]:
    return {
        "source": "openstack",
        "counter_name": "disk.size",
        "counter_type": "gauge",
        "counter_unit": "GB",
        "counter_volume": 20.5,
        "user_id": None,
        "project_id": "p1",
        "resource_id": resource,
        "timestamp": "2026-11-20T12:00:01.000001",
        "resource_metadata": {"name": "web", "flavor": {"id": 1}, "tags": ["a", None], "locked": False},
        **fields,
    }


def test_a_batch_is_read_as_the_samples_of_polling_agents_are() -> None:
    message = unwrap(batch("poll:nova:1", [sample("r1"), sample("r2")], SLOT, ""))
    assert (message.message_id, message.event_type, message.priority) == ("poll:nova:1", "telemetry.polling", "sample")
    assert add_ordinary(message.body.encode(), 0, SampleColumns())
    assert slot_of(message.body) == SLOT


def test_the_ids_depend_on_the_task_alone() -> None:
    def ids(task: str) -> list[str]:
        body = unwrap(batch(task, [sample("r1"), sample("r2")], SLOT, "")).body
        return [each["message_id"] for each in orjson.loads(body)["payload"]["samples"]]

    assert ids("a") == ids("a")
    assert not {*ids("a")} & {*ids("b")}
    assert len({*ids("a")}) == 2


SHARED: dict[str, Any] = {"a": 1}


@pytest.mark.parametrize(
    "samples",
    [
        [sample("r1"), sample("r2", resource_metadata={}), sample("r3", resource_metadata=None)],
        [sample("r1", resource_metadata=SHARED), sample("r2", resource_metadata=SHARED)],
        [sample("r1", monotonic_time=None, extra={"b": [{"c": 1}]})],
        [sample("r\0\ud800", resource_metadata={1: {"big": 2**70}, "set": {"one"}})],
    ],
    ids=["ordinary", "of one resource", "with more fields", "that JSON cannot hold"],
)
def test_each_sample_has_a_valid_signature(samples: list[dict[str, Any]]) -> None:
    signed = orjson.loads(unwrap(batch("t", samples, SLOT, "secret")).body)["payload"]["samples"]
    assert len(signed) == len(samples)
    assert all(is_valid(each, "secret") and not is_valid(each, "other") for each in signed)
    assert FIELD not in orjson.loads(unwrap(batch("t", [sample("r")], SLOT, "")).body)["payload"]["samples"][0]


def test_other_notifications_say_nothing_of_a_slot() -> None:
    assert slot_of('{"payload": {"samples": []}}') is None
    assert slot_of('{"payload": {"slot": 7}}') is None
    assert slot_of("[1]") is None
