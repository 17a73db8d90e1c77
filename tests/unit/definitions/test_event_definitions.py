import pytest
import yaml

from meterhouse.conversion.convert import Converter
from meterhouse.definitions.loading import load_files
from meterhouse.errors import DefinitionError

MESSAGE = {
    "message_id": "m",
    "event_type": "box.create.end",
    "publisher_id": "box.host",
    "priority": "INFO",
    "timestamp": "2026-01-01 02:00:00+01:00",
    "_context_request_id": "req-1",
    "_context_project_id": "p",
    "_context_user_id": "u",
    "payload": {"id": "box-1", "size": "3", "made_at": "2026-01-01T00:00:00.5Z", "empty": "", "none": None},
}
DEFAULTS = [
    ["service", "text", "box.host"],
    ["request_id", "text", "req-1"],
    ["project_id", "text", "p"],
    ["user_id", "text", "u"],
    ["tenant_id", "text", "p"],
]


@pytest.fixture
def line(tmp_path):
    def event_line(*definitions, message=MESSAGE):
        path = tmp_path / "event_definitions.yaml"
        path.write_text(yaml.safe_dump(list(definitions), sort_keys=False))
        return Converter(load_files([], path)).event_line(message)

    return event_line


def entry(event_type="box.*", **traits):
    return {"event_type": event_type, "traits": traits}


def test_an_event_has_the_default_traits_if_no_definition_matches(line):
    assert line(entry("lid.*", x="payload.id")) == {
        "message_id": "m",
        "event": {"event_type": "box.create.end", "generated": "2026-01-01T01:00:00", "traits": DEFAULTS},
        "error": None,
    }


def test_traits_have_types(line):
    traits = line(
        entry(
            id="payload.id",
            size={"type": "int", "fields": "payload.size"},
            ratio={"type": "float", "fields": "payload.size"},
            made_at={"type": "datetime", "fields": "payload.made_at"},
        )
    )["event"]["traits"]
    assert traits == [
        *DEFAULTS,
        ["id", "text", "box-1"],
        ["size", "integer", 3],
        ["ratio", "float", 3.0],
        ["made_at", "datetime", "2026-01-01T00:00:00.500000"],
    ]


def test_a_path_without_a_value_makes_no_trait(line):
    traits = line(
        entry(
            none="payload.none",
            missing="payload.missing",
            number={"type": "int", "fields": "payload.empty"},
            text="payload.empty",
        )
    )["event"]["traits"]
    assert traits == [*DEFAULTS, ["text", "text", ""]]


def test_a_text_is_cut_to_255_characters(line):
    message = {**MESSAGE, "payload": {"id": "é" * 300}}
    assert line(entry(id="payload.id"), message=message)["event"]["traits"][-1][2] == "é" * 255


def test_a_definition_can_override_the_defaults(line):
    traits = line(entry(service="payload.nope", tenant_id="payload.id"))["event"]["traits"]
    assert [trait[0] for trait in traits] == ["request_id", "project_id", "user_id", "tenant_id"]
    assert traits[-1] == ["tenant_id", "text", "box-1"]


def test_the_last_definition_that_matches_applies(line):
    first, second = entry(a="payload.id"), entry(["box.create.*", "!*.start"], b="payload.id")
    assert line(first, second)["event"]["traits"][-1][0] == "b"
    assert line(second, first)["event"]["traits"][-1][0] == "a"
    start = {**MESSAGE, "event_type": "box.create.start"}
    assert line(first, second, message=start)["event"]["traits"][-1][0] == "a"


def test_only_exclusions_include_everything_else(line):
    assert line(entry("!lid.*", a="payload.id"))["event"]["traits"][-1][0] == "a"
    assert line(entry("!box.*", a="payload.id"))["event"]["traits"] == DEFAULTS


def test_a_glob_matches_the_whole_type(line):
    assert line(entry("box.create", a="payload.id"))["event"]["traits"] == DEFAULTS


def test_a_value_of_another_type_makes_no_event(line):
    made = line(entry(size={"type": "int", "fields": "payload.id"}))
    assert made["event"] is None
    assert made["error"] == {
        "error": "ValueError",
        "detail": "invalid literal for int() with base 10: 'box-1'",
    }


@pytest.mark.parametrize("priority", ["warn", "sample", "audit", None, 5])
def test_other_priorities_make_no_event(line, priority):
    assert line(message={**MESSAGE, "priority": priority}) == {"message_id": "m", "event": None, "error": None}


@pytest.mark.parametrize("priority", ["error", "ERROR", "Info"])
def test_errors_make_events_too(line, priority):
    assert line(message={**MESSAGE, "priority": priority})["event"]


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("metric: []", 1, "not a list"),
        ("- event_type: x\n  traits: {}\n- event_type: y\n", 3, "'traits' is missing"),
        ("- traits: {}\n  event_type: 5\n", 2, "neither a string nor a list"),
        ("- event_type: x\n  traits:\n    a: payload.a\n    b: {type: bool, fields: a}\n", 4, "'bool' is not one of"),
        ("- event_type: x\n  traits:\n    a:\n      fields: a[\n", 4, "not a JSONPath"),
        ("- event_type: x\n  traits:\n    a: {fields: a, plugin: lower}\n", 3, "unknown plugin 'lower'"),
    ],
)
def test_an_invalid_definition_rejects_the_file(tmp_path, text, where, reason):
    path = tmp_path / "event_definitions.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError, match=reason) as caught:
        load_files([], path)
    assert caught.value.where == f"{path}:{where}"


def test_type_names_are_case_insensitive_and_none_is_a_type(line):
    traits = {
        "n": {"fields": "payload.size", "type": "INT"},
        "at": {"fields": "payload.made_at", "type": "DateTime"},
        "x": {"fields": "payload.size", "type": "none"},
        "empty": {"fields": "payload.empty", "type": "none"},
    }
    made = line(entry(**traits))["event"]["traits"]
    assert made == [
        *DEFAULTS,
        ["n", "integer", 3],
        ["at", "datetime", "2026-01-01T00:00:00.500000"],
        ["x", "none", "3"],
    ]


def test_an_entry_without_event_types_matches_none(line):
    assert line(entry([], id="payload.id"))["event"]["traits"] == DEFAULTS
    assert line(entry(["!other.*"], id="payload.id"))["event"]["traits"] == [*DEFAULTS, ["id", "text", "box-1"]]


def test_an_expression_that_fails_prevents_the_event(line):
    made = line(entry(id="payload.id", x=["payload.id", "payload.none[0]"]))
    assert (made["event"], made["error"]["error"]) == (None, "TypeError")
