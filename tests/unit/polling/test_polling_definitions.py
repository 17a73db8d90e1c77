"""What is to be polled is read as Ceilometer 27 reads it, and every fault has its file, line and reason."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meterhouse.cli import cli
from meterhouse.errors import DefinitionError
from meterhouse.polling.definitions import filters, load, load_files
from meterhouse.shipped import DEFAULTS

PEER = Path(__file__).parents[2] / "data" / "peer_answers" / "polling_definitions.jsonl"
"""What an executed Ceilometer 27.0.0 made of definitions: its sources or its error, the pollsters that it loaded in the
namespaces central and compute, and the names that a filter includes."""

ALL = "sources:\n- {name: all, interval: 60, meters: ['*']}\n"

# Differences on purpose.
SOURCE_DIFFERENCES = {
    "interval true": "refused: Ceilometer polls every second",
    "name null": "refused",
    "name a number": "a name is a text",
}

# `refused`: Ceilometer loads it, and fails at each poll, or runs what the definition or the answer says.
DIFFERENCES = {
    "unit empty": "a unit may be empty, as that of power.state is",
    "unit a list": "refused",
    "unit a mapping": "refused",
    "value_attribute a list": "refused",
    "value_attribute a mapping": "refused",
    "endpoint_type a list": "refused",
    "endpoint_type a mapping": "refused",
    "url_path a list": "refused",
    "url_path a mapping": "refused",
    "response_handlers []": "refused",
    "metadata_fields 'a'": "refused",
    "metadata_fields {'a': 'b'}": "refused",
    "metadata_fields [5]": "refused",
    "metadata_mapping ['a']": "refused",
    "metadata_mapping {'a': 5}": "refused",
    "preserve_mapped_metadata 'no'": "refused",
    "skip_sample_values 'a'": "refused",
    "value_mapping ['a']": "refused",
    "headers 'a: b'": "refused",
    "timeout 'soon'": "refused",
    "timeout -1": "refused",
    "extra_metadata_fields_cache_seconds 'soon'": "refused",
    "extra_metadata_fields ['a']": "refused",
    "base_metadata ['a']": "refused",
    "namespaces None": "it is as if the key were not there",
    "value_attribute 'a | 5'": "refused",
    "value_attribute 'a | value +'": "refused",
    "value_attribute \"a | __import__('os').getcwd() + value\"": "refused",
    "value_attribute 'a | foo(value)'": "refused",
    "another API, authentication_parameters missing": "refused",
}

CASES = [json.loads(line) for line in PEER.read_text("utf-8").splitlines()]


def loaded(folder: Path, files: dict[str, str], sources: str = ALL) -> Any:
    (folder / "pollsters.d").mkdir(parents=True)
    (folder / "polling.yaml").write_text(sources, "utf-8")
    for name, text in files.items():
        (folder / "pollsters.d" / name).write_text(text, "utf-8")
    return load_files(folder / "polling.yaml", sorted((folder / "pollsters.d").glob("*.yaml")), folder)


def test_sources_are_those_that_ceilometer_makes(tmp_path: Path) -> None:
    for number, case in enumerate(each for each in CASES if each["what"] == "sources"):
        try:
            polling = loaded(tmp_path / str(number), {}, case["text"])
            refused = bool(polling.faults)
        except DefinitionError as error:
            refused = f"{tmp_path / str(number)}/polling.yaml" in error.where
        if "error" in case["peer"]:
            assert refused, case["case"]
            continue
        assert not refused or case["case"] in SOURCE_DIFFERENCES, case["case"]
        ours = [
            {
                "name": each.name,
                "interval": each.interval,
                "resources": [*each.resources],
                "discovery": [*each.discovery],
            }
            for each in polling.sources
        ]
        assert (ours == case["peer"]["sources"]) is (case["case"] not in SOURCE_DIFFERENCES), case["case"]


def test_pollsters_are_loaded_where_ceilometer_loads_them(tmp_path: Path) -> None:
    for number, case in enumerate(each for each in CASES if each["what"] == "pollster"):
        polling = loaded(tmp_path / str(number), {"a.yaml": case["text"]})
        for namespace, peer in case["peer"].items():
            ours = [each.pollster.name for each in polling.schedules({namespace})]
            if "error" in peer:  # it ends
                assert not ours, case["case"]
                assert polling.faults, case["case"]
            elif namespace == "compute" and case["case"] in DIFFERENCES:
                continue
            else:
                same = ours == [each["name"] for each in peer["pollsters"]]
                assert same is (case["case"] not in DIFFERENCES), case["case"]
        assert all(each.line >= 1 and each.reason for each in polling.findings)


def test_the_first_valid_pollster_of_a_name_is_used_as_in_ceilometer(tmp_path: Path) -> None:
    for number, case in enumerate(each for each in CASES if each["what"] == "files"):
        polling = loaded(tmp_path / str(number), case["files"])
        mine = [each.pollster for each in polling.schedules({"central"})]
        if "error" in case["peer"]:
            assert not mine
            assert polling.faults or case["case"] == "empty"  # which is nothing, and no fault
            continue
        files = {
            f"{tmp_path / str(number)}/pollsters.d/{name}": text.split("unit: ")[1:]
            for name, text in case["files"].items()
        }
        for pollster, peer in zip(mine, case["peer"]["pollsters"], strict=True):
            path, _, line = pollster.where.rpartition(":")
            assert pollster.name == peer["name"]
            assert files[path][0 if line == "1" else 1].startswith(peer["unit"])


def test_a_filter_includes_what_it_includes_in_ceilometer() -> None:
    cases = [each for each in CASES if each["what"] == "filter"]
    for case in cases:
        try:
            filters.check(case["patterns"])
        except ValueError:
            assert case["peer"] is None, case["case"]
        else:
            assert [each for each in case["names"] if filters.matches(case["patterns"], each)] == case["peer"]
    assert len(cases) > 20


def test_shipped_pollsters_load_and_are_described(tmp_path: Path) -> None:
    polling = load(None)
    assert not polling.findings
    assert all(each.description for each in polling.pollsters)
    central = {each.pollster.name for each in polling.schedules({"central"})}
    assert {"instance", "image.size", "volume.size", "ip.floating"} <= central
    assert not any(each.of_host for each in polling.schedules({"central"}))


def test_faults_leave_the_others_and_have_file_line_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pollsters.d").mkdir()
    (tmp_path / "polling.yaml").write_text(
        "sources:\n"
        "- name: good\n  interval: 60\n  meters: [mine, imge.size]\n  sinks: [x]\n"
        "- name: bad\n  interval: soon\n  meters:\n  - cpu\n  - '!disk.*'\n"
        "- name: good\n  interval: 30\n  meters: [mine]\n"
    )
    (tmp_path / "pollsters.d" / "a.yaml").write_text(
        "- name: mine\n  sample_type: gauge\n  unit: x\n  endpoint_type: compute\n  url_path: a\n  value_attribute: v\n"
        "  history_seconds: 60\n  tiemout: 5\n"
        "- name: broken\n  sample_type: gouge\n  unit: x\n  endpoint_type: compute\n  url_path: a\n"
        "  value_attribute: a | open(value)\n  history_seconds: long\n"
        "  extra_metadata_fields:\n  - name: more\n    sample_type: gauge\n    endpoint_type: identity\n"
        "    value: name\n    url_path: sample.x()\n"
        "- name: mine\n  sample_type: gauge\n  unit: y\n  endpoint_type: compute\n  url_path: a\n  value_attribute: v\n"
    )
    (tmp_path / "pollsters.d" / "b.yaml").write_text("- name: [\n")
    (tmp_path / "pollsters.d" / "c.yml").write_text("[]\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["poll", "check", "."])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "polling.yaml:4: warning: source good: no pollster is called 'imge.size'; did you mean image.size?",
        "polling.yaml:5: warning: source good: unknown key 'sinks', it is ignored",
        "polling.yaml:7: fault: source bad: interval: 'soon' is not a number of seconds",
        "polling.yaml:9: fault: source bad: meters: 'cpu' includes and '!disk.*' excludes; use one of both, "
        "or * with exclusions",
        "polling.yaml:11: warning: source good: the source at line 2 has this name too: what both have is polled for "
        "that one",
        "pollsters.d/a.yaml:8: warning: pollster mine: unknown key 'tiemout', it is ignored",
        "pollsters.d/a.yaml:10: fault: pollster broken: sample_type: 'gouge' is none of gauge, delta, cumulative",
        "pollsters.d/a.yaml:14: fault: pollster broken: value_attribute: 'open(value)' cannot be used: there is no "
        "variable or function 'open'",
        "pollsters.d/a.yaml:15: fault: pollster broken: history_seconds: 'long' is not a number of seconds from 0 to "
        "316,224,000",
        "pollsters.d/a.yaml:21: fault: pollster broken: extra_metadata_fields.0.url_path: 'sample.x()' cannot be used: "
        "there is no method 'x'",
        "pollsters.d/a.yaml:22: warning: pollster mine: the pollster of this name at pollsters.d/a.yaml:1 hides it",
        "pollsters.d/b.yaml:2: fault: the file is not YAML: did not find expected node content. Fix the syntax there",
        "pollsters.d/c.yml:1: warning: this file is not read; only those that end with .yaml are",
    ]
    polling = load(tmp_path)
    assert [each.name for each in polling.sources] == ["good", "good"]
    (only,) = polling.schedules({"central"})
    assert (only.source.interval, only.pollster.history_seconds) == (60, 60)


def test_a_pollster_of_the_site_replaces_a_shipped_one_and_changes_its_digest(tmp_path: Path) -> None:
    shutil.copytree(DEFAULTS / "pollsters.d", tmp_path / "pollsters.d")
    before = {each.pollster.name: each for each in load(None).schedules({"central"})}
    same = load(tmp_path)
    assert not same.findings
    assert {each.pollster.name: each.digest for each in same.schedules({"central"})} == {
        name: each.digest for name, each in before.items()
    }
    path = tmp_path / "pollsters.d" / "glance.yaml"
    path.write_text(path.read_text().replace("limit=500", "limit=50"))
    after = {each.pollster.name: each for each in load(tmp_path).schedules({"central"})}
    assert [name for name in after if after[name].digest != before[name].digest] == ["image.size"]


def test_a_pollster_of_the_host_has_slots_of_each_host(tmp_path: Path) -> None:
    text = "{name: %s, sample_type: gauge, unit: u, value_attribute: v, host_command: echo 1, namespaces: %s}"
    files = {"a.yaml": "\n".join(f"- {text % each}" for each in [("a", "compute"), ("b", "[compute, central]")])}
    polling = loaded(tmp_path, files)
    assert {each.pollster.name: each.of_host for each in polling.schedules({"central", "compute"})} == {
        "a": True,
        "b": False,
    }
    assert {each.pollster.name: each.of_host for each in polling.schedules({"compute"})} == {"a": True, "b": True}
