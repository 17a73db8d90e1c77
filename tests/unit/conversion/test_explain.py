"""`meterhouse convert --explain`: which definition matched, and which path found what."""

import json

import pytest
from click.testing import CliRunner

from meterhouse.cli import cli

MESSAGE = {
    "message_id": "m-1",
    "event_type": "box.create.end",
    "publisher_id": "box.host",
    "priority": "INFO",
    "timestamp": "2026-01-01 00:00:00",
    "_context_tenant": "p-9",
    "payload": {"id": "b-1", "size": 4, "made": "2026-01-01T00:00:00", "up": "2026-01-01T00:00:09"},
}
OTHER = {**MESSAGE, "message_id": "m-2", "event_type": "van.create.end", "priority": "WARN"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "meters.yaml").write_text("""\
metric:
  - name: box.size
    event_type: box.create
    type: gauge
    unit: GiB
    volume: $.payload.size
    resource_id: $.payload.id
    project_id: _context_tenant
    user_id: $.payload.owner
  - name: box.boot
    event_type: box
    type: gauge
    unit: s
    volume: {fields: [$.payload.made, $.payload.up], plugin: timedelta}
    resource_id: $.payload.id
""")
    (tmp_path / "event_definitions.yaml").write_text("""\
- event_type: box.*
  traits: {size: payload.size}
- event_type: ["box.create.*", "!*.start"]
  traits:
    size: {fields: payload.size, type: int}
    gone: payload.gone
""")
    return tmp_path


def explain(folder, kind, message_id, *options):
    lines = "\n".join(map(json.dumps, [OTHER, MESSAGE]))
    arguments = ["convert", kind, "--definitions", str(folder), "--explain", message_id, *options]
    return CliRunner().invoke(cli, arguments, input=lines)


def test_each_meter_that_matched_says_what_its_paths_found(folder):
    found = json.loads(explain(folder, "samples", "m-1", "--json").stdout)
    meters = {meter["name"]: meter for meter in found["matched"]}
    assert set(meters) == {"box.size", "box.boot"}
    size = {path["reads"]: path for path in meters["box.size"]["paths"]}
    assert meters["box.size"]["where"] == f"{folder / 'meters.yaml'}:2"
    assert meters["box.size"]["event_type"] == "box.create"
    assert size["volume"]["found"] == [["payload.size", 4]]
    assert size["project_id"]["value"] == "p-9"
    assert (size["user_id"]["found"], size["user_id"]["value"]) == ([], None)
    assert size["timestamp"]["instead"] == "the notification's"
    boot = {path["reads"]: path for path in meters["box.boot"]["paths"]}
    assert boot["volume"]["plugin"] == "timedelta"
    assert [value for _, value in boot["volume"]["found"]] == ["2026-01-01T00:00:00", "2026-01-01T00:00:09"]
    assert boot["volume"]["value"] == 9.0
    assert {sample["name"]: sample["volume"] for sample in found["result"]["samples"]} == {"box.size": 4, "box.boot": 9}


def test_the_event_definition_that_applies_comes_before_those_that_it_hides(folder):
    found = json.loads(explain(folder, "events", "m-1", "--json").stdout)
    served, hidden = found["matched"]
    assert served["where"] == f"{folder / 'event_definitions.yaml'}:3"
    assert hidden == {
        "name": "box.*",
        "where": f"{folder / 'event_definitions.yaml'}:1",
        "hidden_by": served["where"],
    }
    paths = {path["reads"]: path["value"] for path in served["paths"]}
    assert (paths["trait size (integer)"], paths["trait gone (text)"]) == (4, None)


def test_an_explanation_can_be_text_for_people(folder):
    text = explain(folder, "samples", "m-1").stdout
    assert "volume: 4  ($.payload.size)" in text
    assert "user_id: nothing  ($.payload.owner: not there)" in text
    assert "-> box.size 4 GiB of b-1" in text
    assert "-> event box.create.end with" in explain(folder, "events", "m-1").stdout


def test_if_a_message_yields_nothing_the_explanation_says_why(folder):
    text = explain(folder, "samples", "m-2").stdout
    assert "no definition matches" in text
    assert "-> no samples: they are only made of the priorities info and sample" in text


def test_a_missing_message_is_one_clear_line(folder):
    done = explain(folder, "samples", "m-3")
    assert done.exit_code == 1
    assert "no message on standard input has the message_id 'm-3'" in done.stderr


def test_a_trait_that_prevents_the_event_is_named(folder):
    lines = json.dumps({**MESSAGE, "payload": {"size": "ten"}})
    arguments = ["convert", "events", "--definitions", str(folder), "--explain", "m-1"]
    text = CliRunner().invoke(cli, arguments, input=lines).stdout
    assert (
        "trait size (integer): ten  (payload.size: payload.size = ten; which is not of type integer, so there is no"
        in text
    )


def test_the_explanation_says_that_unmatched_notifications_are_dropped(folder, monkeypatch):
    from meterhouse.settings import settings

    monkeypatch.setenv("METERHOUSE_DROP_UNMATCHED_NOTIFICATIONS", "true")
    settings.cache_clear()
    try:
        lines = json.dumps({**OTHER, "priority": "info"})
        arguments = ["convert", "events", "--definitions", str(folder), "--explain", "m-2"]
        text = CliRunner().invoke(cli, arguments, input=lines).stdout
    finally:
        settings.cache_clear()
    assert "-> no event: no definition matches, and METERHOUSE_DROP_UNMATCHED_NOTIFICATIONS is on" in text
