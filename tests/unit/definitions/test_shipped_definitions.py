"""The shipped definitions, entry by entry, with messages of our own.

What Ceilometer 27.0.0 has a definition for, it made of these messages itself: the expectations are its own. The others,
of the sections "beyond Ceilometer" and of Nova's versioned notifications, were checked by hand.
"""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from meterhouse.conversion.convert import Converter
from meterhouse.definitions.loading import load
from meterhouse.shipped import DEFAULTS

DATA = Path(__file__).parents[2] / "data"
CONVERTER = Converter(load(None))
METERS = [
    meter
    for path in sorted((DEFAULTS / "meters.d").glob("*.yaml"))
    for meter in yaml.safe_load(path.read_text("utf-8"))["metric"]
]
SELDOM = {
    "compute.instance.create.end": {"deleted_at"},
    "compute.instance.update": {"deleted_at"},
    "snapshot.exists": {"image_id", "instance_id", "replication_status"},
    "snapshot.transfer.accept.end": {"image_id", "instance_id", "replication_status"},
}
"""Traits of an entry that its messages never have, by its first event type; Ceilometer's entries have them too."""

EVENTS = yaml.safe_load((DEFAULTS / "event_definitions.yaml").read_text("utf-8"))


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


MESSAGES = read("notifications.jsonl")
IDS = [f"{message['event_type']}-{at}" for at, message in enumerate(MESSAGES)]
SAMPLES = read("expected_samples.jsonl")
TRAITS = read("expected_events.jsonl")


def types_of(entry: dict[str, Any]) -> list[str]:
    given = entry["event_type"]
    return given if isinstance(given, list) else [given]


@pytest.mark.parametrize(("message", "expected"), list(zip(MESSAGES, SAMPLES, strict=True)), ids=IDS)
def test_the_samples_are_as_expected(message: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json.loads(json.dumps(CONVERTER.samples_line(message))) == expected


@pytest.mark.parametrize(("message", "expected"), list(zip(MESSAGES, TRAITS, strict=True)), ids=IDS)
def test_the_event_is_as_expected(message: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json.loads(json.dumps(CONVERTER.event_line(message))) == expected


@pytest.mark.parametrize("meter", METERS, ids=lambda meter: meter["name"])
def test_every_meter_is_exercised(meter: dict[str, Any]) -> None:
    found = [
        sample
        for line in SAMPLES
        if any(re.match(pattern, line["event_type"]) for pattern in types_of(meter))
        for sample in line["samples"]
        if sample["published"] and (sample["name"] == meter["name"] or meter["name"].startswith("$"))
    ]
    assert found
    for sample in found:
        assert sample["type"] == meter["type"]
        assert sample["unit"] == meter["unit"] or meter["unit"].startswith("$")
        assert sample["resource_id"]


@pytest.mark.parametrize("at", range(len(EVENTS)), ids=lambda at: types_of(EVENTS[at])[0])
def test_every_event_definition_is_exercised_with_each_of_its_traits(at: int) -> None:
    def serves(event_type: str) -> bool:
        matching = [
            n for n, entry in enumerate(EVENTS) if any(fnmatchcase(event_type, glob) for glob in types_of(entry))
        ]
        return bool(matching) and matching[-1] == at

    found = [line["event"]["traits"] for line in TRAITS if line["event"] and serves(line["event"]["event_type"])]
    assert found
    types = {"text": "text", "int": "integer", "float": "float", "datetime": "datetime"}
    named = {(name, dtype) for traits in found for name, dtype, _ in traits}
    wanted = {
        (name, types[value.get("type", "text") if isinstance(value, dict) else "text"])
        for name, value in EVENTS[at]["traits"].items()
    }
    assert {name for name, _ in wanted - named} == SELDOM.get(types_of(EVENTS[at])[0], set())
