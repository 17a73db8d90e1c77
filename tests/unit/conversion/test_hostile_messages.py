"""Hostile messages: no crash, no hang, and each message is accounted for."""

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import at as at_minute
from builders import count, drop, enveloped, notification, polled, polling, process
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterhouse.collection.collect import collect
from meterhouse.conversion.convert import EVENT_PRIORITIES, Converter
from meterhouse.conversion.step import convert
from meterhouse.definitions.loading import load
from meterhouse.site import Site
from meterhouse.stores.lake_tables import NOTIFICATIONS

RECORDED = [
    json.loads(line) for line in (Path(__file__).parents[2] / "data" / "notifications.jsonl").read_text().splitlines()
]
ODD: list[Any] = [
    None,
    True,
    5,
    -1.5,
    10**400,
    "",
    "x",
    "\ud800",
    "\0",
    [],
    {},
    [None],
    {"": {}},
    [[[[1]]]],
    "x" * 70_000,
]
NOISE = st.binary(min_size=1, max_size=40).filter(lambda raw: b"\n" not in raw and raw.strip())
RECEIVED = datetime(2026, 1, 1, tzinfo=UTC)


def table(messages: list[dict[str, Any]]) -> pa.Table:
    count = len(messages)
    types = [each.get("event_type") for each in messages]
    return pa.table(
        {
            "arrival_hour": ["2026-01-01T00"] * count,
            "message_id": [f"m-{at}" for at in range(count)],
            "event_type": [each if isinstance(each, str) and each.isascii() else None for each in types],
            "publisher_id": [None] * count,
            "priority": [None] * count,
            "timestamp": [None] * count,
            "received_at": [RECEIVED] * count,
            "source": ["test"] * count,
            "body": [json.dumps(each) for each in messages],
        },
        schema=NOTIFICATIONS,
    )


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*place, key)
        yield from places(each, (*place, key))


def with_value(message: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(message)
    holder: Any = changed
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return changed


def without(message: dict[str, Any], place: tuple[Any, ...]) -> dict[str, Any]:
    changed = copy.deepcopy(message)
    holder: Any = changed
    for key in place[:-1]:
        holder = holder[key]
    del holder[place[-1]]
    return changed


def is_for_an_event(message: dict[str, Any]) -> bool:
    priority = message.get("priority")
    return (
        isinstance(message.get("event_type"), str)
        and not message["event_type"].startswith("telemetry.")
        and isinstance(priority, str)
        and priority.lower() in EVENT_PRIORITIES
    )


def check(messages: list[dict[str, Any]]) -> None:
    made = Converter(load(None)).convert(table(messages))
    assert made.messages == len(messages)
    seen = made.events.column("message_id").to_pylist()
    lost = {error.message_id for error in made.errors if error.endpoint in ("event", "body")}
    wanted = {f"m-{at}" for at, message in enumerate(messages) if is_for_an_event(message)}
    assert len(seen) == len(set(seen))
    assert wanted <= {*seen, *lost}
    assert not wanted & set(seen) & lost
    assert set(made.samples.column("metadata_id").drop_null().to_pylist()) <= set(made.metadata)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
def test_a_value_of_the_wrong_type_anywhere_in_a_message_only_affects_that_message(odd):
    messages = [with_value(message, place, odd) for message in RECORDED for place in places(message)]
    assert len(messages) > 2000
    check(messages)


def test_a_missing_key_anywhere_only_affects_its_message():
    check([without(message, place) for message in RECORDED for place in places(message)])


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_several_wrong_values_in_a_message_only_affect_that_message(data):
    messages = []
    for message in data.draw(st.lists(st.sampled_from(RECORDED), min_size=1, max_size=6)):
        changed = message
        for _ in range(data.draw(st.integers(1, 4))):
            there = list(places(changed))
            if there:
                changed = with_value(changed, data.draw(st.sampled_from(there)), data.draw(st.sampled_from(ODD)))
        messages.append(changed)
    check(messages)


def megabytes(number: int) -> int:
    return number << 20


HOSTILE = {
    "a text of 10 MB": lambda: notification("big-1", payload={"display_name": "x" * megabytes(10)}),
    "a list of a million numbers": lambda: notification("big-2", payload={"metrics": list(range(1_000_000))}),
    "a million keys": lambda: notification("big-3", payload={f"k{at}": at for at in range(500_000)}),
    "a payload of 10 MB in an envelope": lambda: enveloped(notification("big-4", payload={"x": "y" * megabytes(10)})),
    "twenty thousand polled samples": lambda: polling(
        "big-5", [polled(float(at), at_minute(at)) for at in range(20_000)]
    ),
    "a number of a million digits": lambda: (
        '{"message_id":"d-1","event_type":"x","priority":"info",'
        f'"timestamp":"2026-01-01","payload":{{"n":{"9" * 1_000_000}}}}}'
    ),
    "100,000 levels of lists": lambda: '{"event_type":"x","payload":' + "[" * 100_000 + "]" * 100_000 + "}",
    "100,000 levels of objects": lambda: '{"event_type":"x","payload":' + '{"a":' * 100_000 + "1" + "}" * 100_001,
    "500 levels": lambda: (
        '{"message_id":"n-500","event_type":"x","priority":"info","timestamp":"2026-01-01","payload":'
        + "[" * 500
        + "]" * 500
        + "}"
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_huge_or_deep_message_is_landed_or_a_dead_letter_and_the_next_one_is_converted(site: Site, name):
    drop(site.settings.spool, "hostile.jsonl", [HOSTILE[name](), notification("after")])
    collected, converted = collect(site), convert(site)
    assert collected.landed + collected.dead_letters == 2
    assert count(site, "notifications") == collected.landed
    assert count(site, "dead_letters") == collected.dead_letters
    assert converted.notifications == collected.landed
    assert count(site, "events", "message_id = 'after'") == 1


def test_an_envelope_cut_anywhere_is_a_dead_letter(site: Site):
    whole = json.dumps(enveloped(notification("cut"))).encode()
    cuts = [whole[:at] for at in range(1, len(whole), 7)]
    site.settings.spool.mkdir(parents=True, exist_ok=True)
    (site.settings.spool / "cut.jsonl").write_bytes(b"\n".join([*cuts, whole]) + b"\n")
    collected = collect(site)
    assert (collected.landed, collected.dead_letters) == (1, len(cuts))
    assert convert(site).events == 1


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(NOISE, max_size=5))
def test_bytes_that_are_not_text_are_dead_letters(open_site, noise):
    site = open_site()
    folder = site.settings.spool
    lines = [b"\xff\xfe" + each for each in noise]
    (folder / "noise.jsonl").write_bytes(b"\n".join([*lines, json.dumps(notification("good")).encode()]) + b"\n")
    process(site)
    assert count(site, "dead_letters") == len(lines)
    assert count(site, "events") == 1
