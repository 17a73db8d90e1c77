"""Compares what Meterhouse makes of real messages with what Ceilometer 27.0.0 made of them."""

import gzip
import json
from pathlib import Path

import pytest

from meterhouse.conversion.convert import Converter
from meterhouse.definitions.loading import Definitions, load, load_files

DATA = Path(__file__).parents[4] / "shared" / "data"
MASTER = DATA / "definitions" / "ceilometer-master"
BY_DEFINITION = sorted((DATA / "expected_by_definition").glob("*.jsonl.gz"))

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


@pytest.fixture(params=["legacy, ceilometer's definitions", "legacy, shipped definitions", "versioned"])
def recorded_for(request):
    """A converter, and the end of the names of the files with Ceilometer's results.

    Ceilometer knows nothing of Nova's versioned notifications. Meterhouse reads them as legacy ones and ships event
    definitions for others; without either they are as in Ceilometer.
    """
    if request.param == "legacy, shipped definitions":
        return Converter(load(None)), ""
    definitions = load_files([MASTER / "meters.yaml"], MASTER / "event_definitions.yaml", icehouse_names=False)
    return Converter(definitions, versioned=False), "_versioned" if request.param == "versioned" else ""


def test_samples_equal_those_of_ceilometer(recorded_for, messages):
    converter, kind = recorded_for
    expected = read(DATA / f"expected_samples{kind}.jsonl")
    assert not differences(expected, [converter.samples_line(messages[line["message_id"]]) for line in expected])
    assert len(expected) > 300


def test_events_equal_those_of_ceilometer(recorded_for, messages):
    converter, kind = recorded_for
    expected = read(DATA / f"expected_events{kind}.jsonl")
    assert not differences(expected, [converter.event_line(messages[line["message_id"]]) for line in expected])
    assert len(expected) > 300


def definitions_of(recorded: Path, *, icehouse_names: bool) -> Definitions:
    deployment, name = recorded.name.removesuffix(".jsonl.gz").split("__")
    path = DATA / "definitions" / deployment / f"{name}.yaml"
    meters, events = ([path], None) if "meters" in name else ([], path)
    return load_files(meters, events, icehouse_names=icehouse_names)


def recorded_files(kind):
    files = [path for path in BY_DEFINITION if kind in path.name]
    return pytest.mark.parametrize("recorded", files, ids=[path.name for path in files])


@pytest.fixture(params=[True, False], ids=["with the names of icehouse", "without them"])
def icehouse_names(request):
    return request.param


@recorded_files("meters")
def test_samples_by_the_meters_of_a_deployment_equal_those_of_ceilometer(messages, recorded, icehouse_names):
    definitions = definitions_of(recorded, icehouse_names=icehouse_names)
    assert definitions.faults == ()
    converter = Converter(definitions)
    expected = {line["message_id"]: line["samples"] for line in read(recorded)}
    legacy = [line["message_id"] for line in read(DATA / "expected_samples.jsonl")]
    keys = ("name", "type", "unit", "volume", "resource_id", "project_id", "user_id", "timestamp", "published")
    for message_id in legacy:
        samples = converter.samples_line(messages[message_id])["samples"]
        shown = as_json([{key: sample[key] for key in keys} for sample in samples if sample["endpoint"] == "meter"])
        before = expected.get(message_id, [])
        if icehouse_names:
            assert len(shown) == len(before)
            # Only what was missing is there now.
            before = [
                {key: now[key] if then[key] is None else then[key] for key in keys}
                for now, then in zip(shown, before, strict=True)
            ]
        assert shown == before, message_id


@recorded_files("event")
def test_events_by_the_definitions_of_a_deployment_equal_those_of_ceilometer(messages, recorded, icehouse_names):
    converter = Converter(definitions_of(recorded, icehouse_names=icehouse_names))
    expected = read(recorded)
    actual = []
    for line in expected:
        made = as_json(converter.event_line(messages[line["message_id"]]))
        if made["error"]:
            made["error"] = f"{made['error']['error']}: {made['error']['detail']}"
        elif icehouse_names and made["event"]:
            # Only what was missing is there now.
            names = {name for name, _, _ in line["event"]["traits"]}
            made["event"]["traits"] = [trait for trait in made["event"]["traits"] if trait[0] in names]
        actual.append(made)
    assert not differences(expected, actual)


def test_every_definition_file_loads_as_in_ceilometer():
    for line in read(DATA / "expected_definitions.jsonl"):
        path = DATA / "definitions" / line["file"]
        if line["kind"] == "meters":
            definitions = load_files([path], None, icehouse_names=False)
            assert len(definitions.meters.meters) == line["loaded"], line["file"]
            assert len(definitions.faults) == line["entries"] - line["loaded"]
        elif line["kind"] == "event_definitions":
            assert len(load_files([], path, icehouse_names=False).events.definitions) == line["loaded"], line["file"]
