"""What Meterhouse makes of real messages, held against what Ceilometer 27.0.0 made of them."""

import gzip
import json
from pathlib import Path

import pytest

from meterhouse.convert import Converter
from meterhouse.definitions.loading import Definitions, load, load_files

DATA = Path(__file__).parents[3] / "shared" / "data"
MASTER = DATA / "definitions" / "ceilometer-master"
BY_DEFINITION = sorted((DATA / "expected_by_definition").glob("*.jsonl.gz"))

# Made by code, not by definitions, in Ceilometer.
OTHER_ENDPOINTS = {"hardware.ipmi.metrics.update", "http.request", "http.response"}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded messages are not here")


def read(path):
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def messages():
    return {
        message["message_id"]: message
        for path in sorted((DATA / "notifications").glob("*-*.jsonl"))
        for message in read(path)
    }


def as_json(line):
    return json.loads(json.dumps(line))


def differences(expected, actual):
    return {
        one["message_id"]: (one, other) for one, other in zip(expected, actual, strict=True) if one != as_json(other)
    }


@pytest.fixture(params=["ceilometer's definitions", "shipped definitions"])
def converter(request):
    if request.param == "shipped definitions":
        return Converter(load(None))
    return Converter(load_files([MASTER / "meters.yaml"], MASTER / "event_definitions.yaml"))


@pytest.mark.parametrize("kind", ["", "_versioned"])
def test_samples_equal_ceilometers(converter, messages, kind):
    expected = [
        line for line in read(DATA / f"expected_samples{kind}.jsonl") if line["event_type"] not in OTHER_ENDPOINTS
    ]
    assert not differences(expected, [converter.samples_line(messages[line["message_id"]]) for line in expected])
    assert len(expected) > 300


@pytest.mark.parametrize("kind", ["", "_versioned"])
def test_events_equal_ceilometers(converter, messages, kind):
    expected = read(DATA / f"expected_events{kind}.jsonl")
    assert not differences(expected, [converter.event_line(messages[line["message_id"]]) for line in expected])
    assert len(expected) > 300


def definitions_of(recorded: Path) -> Definitions:
    deployment, name = recorded.name.removesuffix(".jsonl.gz").split("__")
    path = DATA / "definitions" / deployment / f"{name}.yaml"
    return load_files([path], None) if "meters" in name else load_files([], path)


@pytest.mark.parametrize(
    "recorded", [path for path in BY_DEFINITION if "meters" in path.name], ids=lambda path: path.name
)
def test_samples_by_the_meters_of_a_deployment_equal_ceilometers(messages, recorded):
    definitions = definitions_of(recorded)
    assert definitions.faults == ()
    converter = Converter(definitions)
    expected = {line["message_id"]: line["samples"] for line in read(recorded)}
    legacy = [line["message_id"] for line in read(DATA / "expected_samples.jsonl")]
    keys = ("name", "type", "unit", "volume", "resource_id", "project_id", "user_id", "timestamp", "published")
    for message_id in legacy:
        samples = converter.samples_line(messages[message_id])["samples"]
        shown = as_json([{key: sample[key] for key in keys} for sample in samples])
        assert shown == expected.get(message_id, []), message_id


@pytest.mark.parametrize(
    "recorded", [path for path in BY_DEFINITION if "event" in path.name], ids=lambda path: path.name
)
def test_events_by_the_definitions_of_a_deployment_equal_ceilometers(messages, recorded):
    converter = Converter(definitions_of(recorded))
    expected = read(recorded)
    actual = []
    for line in expected:
        made = converter.event_line(messages[line["message_id"]])
        if made["error"]:
            made["error"] = f"{made['error']['error']}: {made['error']['detail']}"
        actual.append(made)
    assert not differences(expected, actual)


def test_every_definition_file_loads_as_in_ceilometer():
    for line in read(DATA / "expected_definitions.jsonl"):
        path = DATA / "definitions" / line["file"]
        if line["kind"] == "meters":
            definitions = load_files([path], None)
            assert len(definitions.meters.meters) == line["loaded"], line["file"]
            assert len(definitions.faults) == line["entries"] - line["loaded"]
        elif line["kind"] == "event_definitions":
            assert len(load_files([], path).events.definitions) == line["loaded"], line["file"]
