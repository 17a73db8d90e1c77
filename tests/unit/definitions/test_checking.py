"""`meterhouse definitions check`: every fault of every file, with file, line and reason."""

import json
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.cli import cli
from meterhouse.definitions.checking import check, check_folder
from meterhouse.definitions.loading import files_of


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(dedent(text))
    return path


def said(found):
    return [(finding.line, finding.severity, finding.definition, finding.reason) for finding in found.findings]


METERS = """\
metric:
  - name: good
    event_type: box
    type: gauge
    unit: box
    volume: 1
    resource_id: $.payload.id
  - name: bad
    event_type: ["box", "("]
    type: level
    unit: box
    volume: $.payload[
    resource_id: {plugin: split}
    metadata:
      host: $.payload.host
      size: {fields: $.payload.size, plugin: sum}
  - name: half
    event_type: box
    type: gauge
  - just text
  - name: odd
    event_type: box
    type: gauge
    unit: box
    volume: 1
    resource: $.payload.id
    resource_id: $.paylod.id
"""


def test_every_fault_of_a_file_of_meters_is_found_with_its_line(tmp_path):
    found = said(check([write(tmp_path, "meters.yaml", METERS)]))
    faults = [(line, name) for line, severity, name, _ in found if severity == "fault"]
    half = [(17, "half")] * 3  # three keys are missing
    assert sorted(faults) == [(9, "bad"), (10, "bad"), (12, "bad"), (13, "bad"), (16, "bad"), *half, (20, "?")]
    reasons = " ".join(reason for *_, reason in found)
    for part in (
        "'level' is not one of",
        "not a regular expression",
        "no 'fields'",
        "unknown plugin 'sum'",
        "'volume' is missing",
    ):
        assert part in reasons
    warnings = [(line, name) for line, severity, name, _ in found if severity == "warning"]
    assert sorted(warnings) == [(26, "odd"), (27, "odd")]


def test_every_fault_of_a_file_of_events_is_found_with_its_line(tmp_path):
    path = write(
        tmp_path,
        "event_definitions.yaml",
        """\
        - event_type: box.*
          traits:
            size: {fields: payload.size, type: integer}
            name: payload.name
            host: {fields: "payload.[", type: text}
        - event_type: 5
          traits: [size]
        - traits: {}
        - event_type: box.*
          traits:
            typo: paylod.x
        """,
    )
    found = said(check([path]))
    assert sorted((line, severity) for line, severity, *_ in found) == [
        (3, "fault"),
        (5, "fault"),
        (6, "fault"),
        (7, "fault"),
        (8, "fault"),
        (11, "warning"),
    ]


def test_hidden_definitions_are_reported(tmp_path):
    entry = "{{name: {}, event_type: box, type: gauge, unit: box, volume: 1, resource_id: $.payload.id}}"
    one = write(tmp_path, "a.yaml", "metric:\n  - " + "\n  - ".join(map(entry.format, ["x", "y", "x"])))
    two = write(tmp_path, "b.yaml", "metric:\n  - " + entry.format("y"))
    found = check([one, two]).findings
    assert [(Path(finding.file).name, finding.line, finding.definition) for finding in found] == [
        ("a.yaml", 2, "x"),
        ("b.yaml", 2, "y"),
    ]
    assert "line 4" in found[0].reason
    assert "a.yaml:3" in found[1].reason


@pytest.mark.parametrize(
    ("text", "line"),
    [("metric: [\n", 2), ("metric: 5\n", 1), ("text", 1), ("a: &a [*a]\n", 1), ("- {event_type: x\n", 2)],
)
def test_a_file_that_is_not_a_definition_file_is_one_fault(tmp_path, text, line):
    found = check([write(tmp_path, "x.yaml", text)])
    assert [finding.severity for finding in found.findings] == ["fault"]
    assert abs(found.findings[0].line - line) <= 1


def test_unknown_keys_are_warnings_wherever_they_are(tmp_path):
    meters = write(
        tmp_path,
        "meters.yaml",
        """\
        mertic: []
        metric:
          - name: a
            event_type: box
            type: gauge
            unit: s
            volume: {fields: $.payload.x, colour: 1, plugin: {name: split, parameter: {segment: 0}}}
            resource_id: $.payload.id
            metadata: {host: {fields: $.payload.host, colour: 2}}
        """,
    )
    events = write(
        tmp_path,
        "event_definitions.yaml",
        "- event_type: box\n  traits:\n    size: {fields: payload.size, colour: red, type: int}\n",
    )
    found = check([meters, events]).findings
    assert {finding.severity for finding in found} == {"warning"}
    named = sorted((Path(finding.file).name, finding.line, finding.reason.split("'")[1]) for finding in found)
    assert named == [
        ("event_definitions.yaml", 3, "colour"),
        ("meters.yaml", 1, "mertic"),
        ("meters.yaml", 7, "colour"),
        ("meters.yaml", 7, "parameter"),
        ("meters.yaml", 9, "colour"),
    ]


def test_a_folder_without_definition_files_is_a_fault(tmp_path):
    write(tmp_path, "my-meters.yaml", METERS)
    (tmp_path / "meters.d").mkdir()
    write(tmp_path / "meters.d", "x.yml", METERS)
    found = check_folder(tmp_path, shipped=False)
    assert [(Path(finding.file).name, finding.severity) for finding in found.findings] == [
        ("x.yml", "warning"),
        ("my-meters.yaml", "warning"),
        (tmp_path.name, "fault"),
    ]
    assert CliRunner().invoke(cli, ["definitions", "check", str(tmp_path)]).exit_code == 1
    write(tmp_path, "quality.yaml", "")
    assert check_folder(tmp_path).faults == 0


def test_the_shipped_definitions_have_no_findings():
    meters, events = files_of(None)
    found = check([*meters, events])
    assert found.findings == ()
    assert found.meters >= 38
    assert found.events >= 40


def test_the_command_fails_if_and_only_if_there_is_a_fault(tmp_path):
    bad = write(tmp_path, "meters.yaml", METERS)
    done = CliRunner().invoke(cli, ["definitions", "check", "--json", str(bad)])
    assert done.exit_code == 1
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert {finding["severity"] for finding in findings} == {"fault", "warning"}
    assert "9 faults, 2 warnings" in done.stderr
    assert CliRunner().invoke(cli, ["definitions", "check"]).exit_code == 0


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["$.payload.x", "gauge", "("])
)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metric", "name", "event_type", "type", "traits", "volume", "fields", "plugin", "metadata"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=200)
@given(data=ANY | st.fixed_dictionaries({"metric": st.lists(ANY, max_size=3)}) | st.lists(ANY, max_size=3))
def test_whatever_a_file_contains_the_check_reports_it_and_never_raises(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "x.yaml"
    path.write_text(json.dumps(data))
    found = check([path])
    assert all(finding.line >= 1 and finding.reason for finding in found.findings)
