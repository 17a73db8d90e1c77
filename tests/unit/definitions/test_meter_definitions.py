import os
from pathlib import Path
from textwrap import dedent

import pytest

from meterhouse.definitions.columns import Columns
from meterhouse.definitions.loading import load, load_files
from meterhouse.definitions.meters import RawSample
from meterhouse.errors import DefinitionError
from meterhouse.shipped import DEFAULTS

MESSAGE = {
    "message_id": "m",
    "event_type": "box.create.end",
    "publisher_id": "box.host",
    "priority": "INFO",
    "timestamp": "2026-01-01 00:00:00",
    "_context_user": "context-user",
    "_context_project_id": "context-project",
    "payload": {
        "id": "box-1",
        "size": 3,
        "items": [{"n": "a", "v": 1, "u": "B"}, {"n": "b", "v": None, "u": "s"}],
        "tags": {"metering.server.group": "x" * 300, "other": 1, "metering.n": 5},
    },
}


def meter(**keys):
    entry = {
        "name": "box.size",
        "event_type": "box.create.*",
        "type": "gauge",
        "unit": "GiB",
        "volume": "$.payload.size",
        "resource_id": "$.payload.id",
    }
    entry.update(keys)
    return {key: value for key, value in entry.items() if value is not ...}


@pytest.fixture
def define(tmp_path):
    import yaml

    def write(*meters, name="meters.yaml"):
        path = tmp_path / name
        path.write_text(yaml.safe_dump({"metric": list(meters)}, sort_keys=False))
        return load_files([path], None)

    return write


def samples(definitions, message=MESSAGE):
    warn: list[str] = []
    plan = definitions.meters.plan(message["event_type"])
    blocks = plan.read(Columns([message]), [warn]) if plan else []
    return [RawSample(*row) for block in blocks for row in zip(*block[1:10], strict=True)], warn


def test_a_meter_makes_a_sample_from_a_notification(define):
    [sample], warn = samples(define(meter()))
    assert sample[:8] == ("box.size", "gauge", "GiB", 3, "box-1", None, None, "2026-01-01 00:00:00")
    assert warn == []


def test_without_metadata_a_sample_has_the_payload_event_type_and_host(define):
    [sample], _ = samples(define(meter(metadata={"nothing": "$.payload.nope"})))
    assert sample.metadata == {**MESSAGE["payload"], "event_type": "box.create.end", "host": "box.host"}
    odd = {**MESSAGE, "payload": "text", "publisher_id": None}
    [sample], _ = samples(define(meter()), odd)
    assert sample.metadata == {"event_type": "box.create.end", "host": None}


def test_empty_metadata_is_left_out(define):
    metadata = {"size": "$.payload.size", "none": "$.payload.nope", "version": 2}
    [sample], _ = samples(define(meter(metadata=metadata)))
    assert sample.metadata == {"size": 3, "version": 2}


def test_user_metadata_is_what_the_owner_marked(define):
    [sample], _ = samples(define(meter(user_metadata="$.payload.tags", metadata={"size": "$.payload.size"})))
    assert sample.metadata == {"size": 3, "user_metadata": {"server_group": "x" * 256, "n": 5}}


def test_user_metadata_does_not_repeat_metadata(define):
    [sample], _ = samples(define(meter(user_metadata="$.payload.tags", metadata={"n": "$.payload.size"})))
    assert sample.metadata == {"n": 3, "user_metadata": {"server_group": "x" * 256}}


def test_an_event_type_is_a_regular_expression_from_the_start(define):
    definitions = define(meter(event_type=["box.create", "lid"]))
    assert definitions.meters.plan("box.create.end")
    assert definitions.meters.plan("boxXcreate")
    assert not definitions.meters.plan("a.box.create")
    assert not definitions.meters.plan("box.delete")


def test_project_user_and_timestamp_are_read_from_the_paths_of_the_meter(define):
    [sample], _ = samples(
        define(meter(project_id="$.ctxt.project_id", user_id="$.ctxt.user", timestamp="$.payload.nope"))
    )
    assert (sample.project_id, sample.user_id) == ("context-project", "context-user")
    assert sample.timestamp == "2026-01-01 00:00:00"


def test_lookup_makes_a_sample_for_each_value(define):
    made, warn = samples(
        define(
            meter(
                name="$.payload.items[*].n",
                volume="$.payload.items[*].v",
                unit="$.payload.items[*].u",
                lookup=["name", "volume", "unit"],
            )
        )
    )
    assert [sample[:5] for sample in made] == [
        ("a", "gauge", "B", 1, "box-1"),
        ("b", "gauge", "s", None, "box-1"),
    ]
    assert warn == []


def test_lookup_drops_all_samples_if_counts_differ(define):
    made, warn = samples(define(meter(name="$.payload.items[*].n", volume="$.payload.size", lookup=["name", "volume"])))
    assert made == []
    assert "2 values of name but 1 of volume" in warn[0]


def test_the_old_name_of_lookup_is_accepted(define):
    made, _ = samples(define(meter(name="$.payload.items[*].n", multi="name")))
    assert [(sample.name, sample.volume) for sample in made] == [("a", 3), ("b", 3)]


def test_what_is_looked_up_and_never_defined_counts_as_one_value(define):
    definitions = define(meter(name="$.payload.items[*].n", lookup=["name", "user_id", "other"]))
    assert samples(definitions)[0] == []
    made, _ = samples(definitions, {**MESSAGE, "payload": {"items": [{"n": "a"}]}})
    assert [(sample.name, sample.user_id) for sample in made] == [("a", None)]


def test_a_type_that_is_looked_up_has_to_be_valid(define):
    keys = {"name": "$.payload.items[*].n", "lookup": ["name", "type"], "type": "$.payload.items[*].u"}
    with pytest.raises(ValueError, match="not one of gauge"):
        samples(define(meter(**keys)))


@pytest.mark.parametrize("field", ["$.payload.size + 0 * $.payload.size", "$.payload.items[*].n"])
def test_lookup_drops_all_samples_if_an_attribute_has_another_count(define, field):
    made, warn = samples(define(meter(name="payload['id','size','items']", lookup="name", user_id=field)))
    assert (len(made), len(warn)) == ((3, 0) if "size" in field else (0, 1))


def test_an_empty_timestamp_is_the_notifications(define):
    [sample], _ = samples(define(meter(timestamp="payload.when")), {**MESSAGE, "payload": {"when": ""}})
    assert sample.timestamp == "2026-01-01 00:00:00"
    keys = {"name": "payload.items[*]", "lookup": ["name", "timestamp"], "timestamp": "payload.when[*]"}
    made, _ = samples(define(meter(**keys)), {**MESSAGE, "payload": {"items": ["a", "b"], "when": ["", "2026"]}})
    assert [sample.timestamp for sample in made] == ["2026-01-01 00:00:00", "2026"]


def test_empty_keys_count_as_missing(define):
    [sample], _ = samples(define(meter(user_id="", project_id=None, timestamp=0, user_metadata="")))
    assert (sample.user_id, sample.project_id, sample.timestamp) == (None, None, "2026-01-01 00:00:00")


def test_no_user_metadata_leaves_no_trace(define):
    [sample], _ = samples(define(meter(metadata={"id": "payload.id"}, user_metadata="payload.items[0]")))
    assert sample.metadata == {"id": "box-1"}
    with pytest.raises(TypeError, match="user metadata"):
        samples(define(meter(user_metadata="payload.id")))


def test_the_last_meter_of_a_name_wins_in_a_file_and_the_first_file_wins(define, tmp_path):
    definitions = define(meter(volume=1), meter(name="other"), meter(volume=2))
    assert [(sample.name, sample.volume) for sample in samples(definitions)[0]] == [("box.size", 2), ("other", 3)]
    assert [fault.line for fault in definitions.faults] == [2]
    define(meter(volume=7), name="a.yaml")
    define(meter(volume=8), name="b.yaml")
    both = load_files([tmp_path / "a.yaml", tmp_path / "b.yaml"], None)
    assert [sample.volume for sample in samples(both)[0]] == [7]


@pytest.mark.parametrize(
    ("keys", "line", "reason"),
    [
        ({"type": "meter"}, 4, "not one of gauge, delta and cumulative"),
        ({"volume": ...}, 2, "required key 'volume' is missing"),
        ({"unit": "%"}, 5, "not a JSONPath"),
        ({"volume": {"fields": "$.payload.x", "plugin": "sum"}}, 7, "unknown plugin 'sum'"),
        ({"volume": {"plugin": "timedelta"}}, 7, "no 'fields'"),
        ({"event_type": "("}, 3, "not a regular expression"),
        ({"lookup": 5}, 8, "neither a string nor a list"),
        ({"volume": 1.5}, 6, "neither an integer"),
        ({"volume": 0}, 6, "missing or empty"),
        ({"metadata": ["x"]}, 9, "not a mapping"),
        (
            {"lookup": "volume", "volume": {"fields": ["a", "b"], "plugin": "timedelta"}},
            7,
            "the only plugin that can be used is 'split'",
        ),
    ],
)
def test_an_invalid_meter_is_left_out_and_named(define, keys, line, reason):
    definitions = define(meter(**keys), meter(name="good"))
    assert [each.name for each in definitions.meters.meters] == ["good"]
    [fault] = definitions.faults
    assert fault.name == "box.size"
    assert reason in fault.reason
    assert abs(fault.line - line) <= 1
    assert f"meters.yaml:{fault.line}: meter 'box.size' is left out: " in str(fault)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("metric:\n  - name: [\n", 3, "not YAML"),
        ("metric:\n\t- x\n", 2, "not YAML"),
        ("- name: x\n", 1, "not a mapping with a list 'metric'"),
        ("# nothing\nmetric: 5\n", 2, "not a mapping with a list 'metric'"),
    ],
)
def test_an_invalid_file_is_rejected_with_its_line(tmp_path, text, line, reason):
    (tmp_path / "meters.yaml").write_text(text)
    with pytest.raises(DefinitionError, match=reason) as caught:
        load(tmp_path)
    assert caught.value.where == f"{tmp_path / 'meters.yaml'}:{line}"
    assert caught.value.hint


def test_a_file_that_is_not_text_is_rejected(tmp_path):
    (tmp_path / "meters.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DefinitionError, match="cannot be read"):
        load(tmp_path)


def test_what_a_folder_lacks_comes_from_the_shipped_files(tmp_path):
    shipped = load(None)
    assert shipped.faults == ()
    assert load(tmp_path).files == shipped.files
    assert {path.parent for path in shipped.files} == {DEFAULTS, DEFAULTS / "meters.d"}
    assert {"memory", "vcpus", "volume.size", "image.size", "bandwidth"} <= {
        each.name for each in shipped.meters.meters
    }


def test_meters_are_read_from_the_folder_by_name(tmp_path):
    (tmp_path / "meters.d").mkdir()
    for name in ("b", "a"):
        (tmp_path / "meters.d" / f"{name}.yaml").write_text(
            f"metric: [{{name: {name}, event_type: x, type: gauge, unit: B, volume: 1, resource_id: $.payload.id}}]"
        )
    assert [each.name for each in load(tmp_path).meters.meters] == ["a", "b"]


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path):
    path: Path = tmp_path / "meters.yaml"
    entry = "metric: [{name: %s, event_type: x, type: gauge, unit: B, volume: 1, resource_id: $.payload.id}]"
    path.write_text(entry % "one")
    first = load(tmp_path)
    assert load(tmp_path) is first
    path.write_text(entry % "two")
    os.utime(path, ns=(1, 1))
    assert [each.name for each in load(tmp_path).meters.meters] == ["two"]


def test_icehouse_names_are_read_unless_results_have_to_equal_ceilometers(tmp_path):
    path = tmp_path / "meters.yaml"
    path.write_text(
        dedent("""
        metric:
          - name: box.size
            event_type: box
            type: gauge
            unit: GiB
            volume: $.payload._context_x
            resource_id: $.payload.id
            project_id: _context_project_id
            user_id: $._context_user
        """)
    )
    message = {**MESSAGE, "payload": {"id": "b", "_context_x": 4}}
    [sample], _ = samples(load_files([path], None), message)
    assert (sample.volume, sample.project_id, sample.user_id) == (4, "context-project", "context-user")
    [sample], _ = samples(load_files([path], None, icehouse_names=False), message)
    assert (sample.volume, sample.project_id, sample.user_id) == (4, None, None)
