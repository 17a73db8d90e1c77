"""What one alarm and one resource are, as a person and as a program sees them."""

import json
from pathlib import Path

import pytest
from builders import at, drop, polled, polling
from command_line import Run, lines

from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping import states
from meterhouse.settings import read_settings
from meterhouse.site import Site

ALARMS = """alarms:
  - name: busy
    description: Too busy.
    severity: critical
    threshold_rule:
      {meter_name: cpu_util, query: [{field: resource, op: eq, value: r1}], threshold: 90, comparison_operator: gt}
"""


@pytest.fixture
def alarmed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An alarm that rang at 12:02, and was ok again at 12:05."""
    (tmp_path / "alarms.yaml").write_text(ALARMS)
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    drop(tmp_path / "spool", "a.jsonl", [polling("b1", [polled(95.0, at(1)), polled(5.0, at(4))])])
    monkeypatch.setattr(times, "now", lambda: at(10))
    assert run("collect").exit_code == 0
    assert run("rollup").exit_code == 0
    site = Site.open(read_settings(home=tmp_path, config_dir=tmp_path))
    for minutes in (2, 5):
        evaluate(site, at(minutes))
    site.warehouse.engine.dispose()
    return run


def test_an_alarm_is_shown_with_its_state_definition_and_last_transitions(alarmed: Run) -> None:
    (found,) = lines(alarmed("alarms", "show", "busy", "--json"))
    assert (found["name"], found["state"], found["state_timestamp"]) == ("busy", "ok", "2026-11-10T12:05:00Z")
    assert found["state_reason"] == "Transition to ok due to 1 samples inside threshold, most recent: 5.0"
    assert found["definition"]["rule"]["query"] == [{"field": "resource_id", "op": "eq", "value": "r1"}]
    assert [(each["timestamp"], each["state"]) for each in found["transitions"]] == [
        ("2026-11-10T12:05:00Z", "ok"),
        ("2026-11-10T12:02:00Z", "alarm"),
    ]
    assert json.loads(alarmed("alarms", "show", "busy", "--format", "json").stdout) == [found]


def test_an_alarm_is_readable(alarmed: Run) -> None:
    text = alarmed("alarms", "show", "busy").stdout
    shown = [line.split(maxsplit=1) for line in text.splitlines()]
    assert shown[0] == ["busy"]
    assert ["state", "ok"] in shown
    assert ["state", "timestamp     2026-11-10T12:05:00Z"] in shown
    assert ["threshold", "90"] in shown
    assert ["description", "Too busy."] in shown
    assert text.index("transitions") < text.index("2026-11-10T12:02:00Z  alarm")


def test_only_the_last_transitions_are_shown(alarmed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "TRANSITIONS", 1)
    assert [each["state"] for each in lines(alarmed("alarms", "show", "busy", "--json"))[0]["transitions"]] == ["ok"]
    assert [row["type"] for row in lines(alarmed("alarms", "history", "busy", "--json"))] == [
        "state transition",
        "state transition",
        "creation",
    ]


def test_a_resource_is_readable(alarmed: Run) -> None:
    assert alarmed("resources", "show", "r1").stdout.splitlines() == [
        "r1",
        "  source           openstack",
        "  resource id      r1",
        "  project id       p1",
        "  user id          u1",
        "  first sample at  2026-11-10T12:01:00Z",
        "  last sample at   2026-11-10T12:04:00Z",
        "  metadata",
        "    host  h1",
        "  meters",
        "    meter     type   unit  first_seen            last_seen",
        "    cpu_util  gauge  %     2026-11-10T12:01:00Z  2026-11-10T12:04:00Z",
    ]


def test_what_a_resource_was_by_time_is_shown(alarmed: Run, tmp_path: Path) -> None:
    moved = [polled(5.0, at(minute), resource_metadata={"host": f"h{minute}"}) for minute in (7, 8)]
    drop(tmp_path / "spool", "b.jsonl", [polling("b2", moved)])
    assert alarmed("collect").exit_code == 0
    assert alarmed("rollup").exit_code == 0
    assert alarmed("resources", "show", "r1", "--history", "--columns", "history").stdout.splitlines()[1:] == [
        "  history",
        "    valid_from            valid_to              project_id  user_id  metadata",
        "    2026-11-10T12:01:00Z  2026-11-10T12:07:00Z  p1          u1       host=h1",
        "    2026-11-10T12:07:00Z  2026-11-10T12:08:00Z  p1          u1       host=h7",
        "    2026-11-10T12:08:00Z                        p1          u1       host=h8",
    ]
    (found,) = lines(alarmed("resources", "show", "r1", "--history", "--json"))
    assert [(each["metadata"], each["valid_to"] is None) for each in found["history"]] == [
        *(({"host": "h1"}, False), ({"host": "h7"}, False), ({"host": "h8"}, True))
    ]
    (found,) = lines(alarmed("resources", "show", "r1", "--json"))
    assert "history" not in found


def test_resources_are_found_by_project_meter_and_metadata(alarmed: Run, tmp_path: Path) -> None:
    others = [polled(1.0, at(1), resource="r2", meter="memory"), polled(1.0, at(1), resource="r3", project="shop")]
    drop(tmp_path / "spool", "b.jsonl", [polling("b2", [*others])])
    assert alarmed("collect").exit_code == 0

    def found(*conditions: str) -> list[str]:
        words = " ".join(f"-q {condition}" for condition in conditions).split()
        return sorted(row["resource_id"] for row in lines(alarmed("resources", *words, "--json")))

    assert found("project_id eq shop") == ["r3"]
    assert found("meter eq cpu_util") == ["r1", "r3"]
    assert found("meter ne cpu_util") == ["r2"]
    assert found("metadata.host eq h1", "project_id ne shop") == ["r1", "r2"]
    assert found("metadata.host eq h2") == []
