"""Archive policies: what a file may say, what Gnocchi's and Ceilometer's files mean, and which tiers a series gets."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Run, lines
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.definitions import timespans
from meterhouse.definitions.archive_policies import Policies, as_text, load, meanings, read
from meterhouse.errors import DefinitionError

OWN = {"name": "own", "tiers": [{"granularity": 60, "keep": "2 days"}], "percentiles": [90]}
RULE = {"meters": ["b", "b.*"], "policy": "own"}


def of(folder: Path, content: Any) -> Policies:
    path = folder / "archive_policies.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))  # a change within one tick of the clock
    return load(folder)


def policy(folder: Path, **keys: Any) -> Policies:
    return of(folder, {"policies": [{"name": "x", **keys}], "rules": [{"meters": "*", "policy": "x"}]})


def test_without_a_file_every_meter_has_tiers_of_5_minutes_1_hour_and_1_day() -> None:
    found = load(None)
    assert (found.faults, found.notes) == ((), ())
    assert [tier.seconds for tier in found.of("any.meter").tiers] == [300, 3600, 86400]
    assert found.of("any.meter").percentiles == (50, 95, 99)
    assert {"monitoring", "billing", "short-lived", "low", "medium", "high", "bool"} <= found.named.keys()


def test_the_longest_glob_decides(tmp_path: Path) -> None:
    rules = [
        ("disk.*", "low"),
        ("*", "bool"),
        ("disk.read.bytes", "high"),
        ("disk.re*", "billing"),
        ("d*.read*", "own"),
    ]
    found = of(tmp_path, {"policies": [OWN], "rules": [{"meters": glob, "policy": name} for glob, name in rules]})
    assert not found.faults
    meters = ("disk.read.bytes", "disk.read.ops", "disk.resize", "disk.write", "cpu")
    assert [found.of(meter).name for meter in meters] == ["high", "billing", "billing", "low", "bool"]


@pytest.mark.parametrize(
    ("tier", "seconds", "keep"),
    [
        ({"granularity": "5 minutes", "timespan": "30 days"}, 300, 30 * 86400),
        ({"granularity": "0:05:00", "points": 8640, "timespan": "30 days, 0:00:00"}, 300, 30 * 86400),
        ({"points": 60, "timespan": "1h"}, 60, 3600),
        ({"granularity": 300.0, "points": 12}, 300, 3600),
        ({"granularity": "1m"}, 60, None),
    ],
)
def test_two_of_granularity_timespan_and_points_give_the_third(
    tmp_path: Path, tier: dict[str, Any], seconds: int, keep: float | None
) -> None:
    for found in (policy(tmp_path, tiers=[tier]), policy(tmp_path, definition=[tier])):
        assert not found.faults
        assert (found.of("m").tiers[0].seconds, found.of("m").tiers[0].keep) == (seconds, keep)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tiers": [{"granularity": "7 minutes"}]}, "no tier of 7 minutes. Take a divisor of 1 hour"),
        ({"tiers": [{"granularity": "6 hours"}]}, "no tier of 6 hours"),
        ({"tiers": [{"granularity": 0.5}]}, "no tier of 0.5 seconds"),
        ({"tiers": [{"granularity": 120}, {"granularity": 300}]}, "5 minutes is not a multiple of 2 minutes"),
        ({"tiers": [{"granularity": 60}, {"granularity": "1m"}]}, "two tiers of 1 minute"),
        ({"tiers": [{"granularity": 60, "points": 10, "keep": 60}]}, "10 points of 1 minute are not 1 minute"),
        ({"tiers": [{"granularity": "soon"}]}, "granularity: 'soon' is not a span of time"),
        ({"tiers": [{"granularity": -1}]}, "granularity: -1 is not a span of time"),
        ({"tiers": [{"keep": 60}]}, "a tier has no granularity"),
        ({"tiers": [{"granularity": 60, "points": True}]}, "points is True"),
        ({"tiers": [5]}, "a tier is 5"),
        ({"tiers": 5}, "its tiers are 5"),
        ({"tiers": [{"granularity": 60, "colour": 1}]}, "a tier has unknown keys: colour"),
        ({"percentiles": [101]}, "a percentile is 101"),
        ({"percentiles": list(range(30))}, "30 percentiles"),
        ({"aggregates": ["nonsense"]}, "unknown aggregate 'nonsense'"),
        ({"aggregation_methods": ["rate:nonsense"]}, "unknown aggregate 'rate:nonsense'"),
        ({"aggregation_methods": ["100pct"]}, "unknown aggregate '100pct'"),
        ({"min_points": 1.5}, "min_points is 1.5"),
        ({"warehouse": "no"}, "warehouse is 'no'"),
        ({"description": 5}, "description is 5"),
        ({"colour": 5}, "has unknown keys: colour"),
    ],
)
def test_a_policy_that_cannot_work_is_left_out_with_its_rules_and_named(
    tmp_path: Path, keys: dict[str, Any], said: str
) -> None:
    found = of(tmp_path, {"policies": [{"name": "x", **keys}, OWN], "rules": [{"meters": "a", "policy": "x"}, RULE]})
    refused, rule = found.faults
    assert said in str(refused)
    assert str(refused).startswith(f"{tmp_path}/archive_policies.yaml:")
    assert "rule 'a': the policy 'x' cannot work" in str(rule)
    assert (found.of("a").name, found.of("b").name) == ("monitoring", "own")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rules": [{"meters": "a", "policy": "nobody"}]}, "there is no policy 'nobody'.*Known: billing"),
        ({"rules": [{"meters": "a", "policy": "low"}, {"meters": "a", "policy": "high"}]}, "another policy for it"),
        ({"rules": [5]}, "a rule is not a mapping"),
        ({"rules": [{"meters": 5, "policy": "low"}]}, "a rule's meters are 5"),
        ({"rules": [{"meters": "a"}]}, "a rule's policy is None"),
        ({"rules": [{"meters": "a", "policy": "low", "colour": 1}]}, "unknown keys: colour"),
        ({"rules": [], "default": "nobody"}, "default: there is no policy 'nobody'"),
        ({"rules": [], "colour": 1}, "unknown key 'colour'"),
        ({"policies": [{"tiers": []}]}, "a policy has no name"),
        ({"policies": [OWN, OWN]}, "another one of this name"),
        ({"resources": [5]}, "a resource has no metrics"),
    ],
)
def test_other_faults_stop_nothing_either(tmp_path: Path, content: Any, said: str) -> None:
    found = of(tmp_path, content)
    (fault,) = found.faults
    assert re.search(said, str(fault))
    assert found.of("z").name == "monitoring"


@pytest.mark.parametrize("text", ["a: b: c", "5", "colour: 1", "rules: 5"])
def test_a_file_without_policies_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DefinitionError, match=r"archive_policies.yaml:1"):
        of(tmp_path, text)


def test_a_tier_is_made_only_if_a_bucket_holds_min_points_at_the_cadence(tmp_path: Path) -> None:
    shipped = load(None).of("m")
    assert shipped.made(75.0) == (300, 3600, 86400)
    assert shipped.made(75.001) == shipped.made(None) == (3600, 86400)
    assert policy(tmp_path, tiers=[{"granularity": 60}], min_points=1).of("m").made(None)[0] == 60
    several = policy(tmp_path, tiers=[{"granularity": 60}, {"granularity": 300}], min_points=10).of("m")
    assert [several.made(cadence)[0] for cadence in (6, 7, 30, 31)] == [60, 300, 300, 3600]


@pytest.mark.parametrize(
    ("methods", "percentiles", "notes"),
    [
        (None, (), 0),
        (["mean", "median", "95pct"], (50, 95), 0),
        (["+95pct", "-mean"], (95,), 0),
        (["*"], (50, 95, 99), 1),
        (["mean", "rate:mean"], (), 0),
        (["rate:max", "rate:95pct"], (), 2),
    ],
)
def test_aggregation_methods_of_gnocchi_give_percentiles(
    tmp_path: Path, methods: list[str] | None, percentiles: tuple[float, ...], notes: int
) -> None:
    body: dict[str, Any] = {"definition": [{"granularity": 60, "points": 10}], "back_window": 0}
    found = policy(tmp_path, **body, **({} if methods is None else {"aggregation_methods": methods}))
    assert not found.faults
    assert found.of("m").percentiles == percentiles
    assert len(found.notes) == notes


def test_what_gnocchi_has_and_we_have_not_is_named(tmp_path: Path) -> None:
    tiers = [{"granularity": "1 s", "points": 5}, {"granularity": "6 h", "points": 5}]
    found = policy(tmp_path, definition=tiers, back_window=3, aggregation_methods=["mean", "rate:std"])
    assert not found.faults
    assert [tier.seconds for tier in found.of("m").tiers] == [1, 3600, 86400]
    said = "; ".join(str(each) for each in found.notes)
    for part in ("no tier of 6 hours", "back_window is not needed", "rate:std is in no column"):
        assert part in said


def test_the_answers_of_gnocchis_api_are_read(tmp_path: Path) -> None:
    body = {
        "name": "mine",
        "back_window": 0,
        "definition": [{"granularity": "0:01:00", "points": 1440, "timespan": "1 day, 0:00:00"}],
        "aggregation_methods": ["max", "98pct"],
    }
    rules = [{"name": "d", "archive_policy_name": "mine", "metric_pattern": "cpu*"}]
    (tmp_path / "policies.json").write_text(json.dumps([body]))
    (tmp_path / "one.json").write_text(json.dumps({**body, "name": "other"}))
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    found = read([tmp_path / name for name in ("policies.json", "one.json", "rules.json")])
    assert (found.faults, found.own) == ((), {"mine", "other"})
    assert found.of("cpu_util").percentiles == (98,)
    assert found.of("memory").name == "monitoring"


def test_gnocchi_resources_of_real_deployments_are_carried_over(shared: Path) -> None:
    paths = sorted(shared.glob("definitions/*/gnocchi_resources.yaml"))
    assert paths
    for path in paths:
        found = read([path])
        content = yaml.safe_load(path.read_text())
        assert (found.faults, found.notes) == ((), ())
        assert found.default == content.get("archive_policy_default", "monitoring")
        for resource in content["resources"]:
            metrics = resource["metrics"]
            for metric in metrics:
                own = (metrics[metric] or {}) if isinstance(metrics, dict) else {}
                expected = own.get("archive_policy_name", resource.get("archive_policy", found.default))
                assert found.of(metric.replace("*", "x")).name == expected


NAMES = st.sampled_from(["low", "own", "billing", "nobody", "a*", "*", "cpu"])
ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | NAMES | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "tiers", "definition", "granularity", "meters", "policy"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["policies", "rules", "default", "resources"]), st.lists(ANY, max_size=3) | ANY))
@settings(max_examples=30, deadline=None)
def test_whatever_the_file_holds_every_meter_has_a_policy(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    try:
        found = of(tmp_path_factory.mktemp("any"), content)
    except DefinitionError:
        return
    assert [tier.seconds for tier in found.of("cpu").tiers][-2:] == [3600, 86400]
    assert meanings(found.meaning)("cpu") == found.of("cpu").meaning


def test_a_fingerprint_is_that_of_the_meaning(tmp_path: Path) -> None:
    content = {"policies": [OWN], "rules": [RULE]}
    first = of(tmp_path, content).fingerprint
    renamed = {**OWN, "name": "new", "description": "d", "tiers": [{"granularity": "1m", "keep": "9 days"}]}
    assert of(tmp_path, {"policies": [renamed], "rules": [{**RULE, "policy": "new"}]}).fingerprint == first
    assert of(tmp_path, "# a comment\n" + yaml.safe_dump(content)).fingerprint == first
    for changed in ({"percentiles": [91]}, {"tiers": [{"granularity": 30}]}, {"min_points": 5}, {"warehouse": False}):
        assert of(tmp_path, {**content, "policies": [{**OWN, **changed}]}).fingerprint != first


def test_what_is_written_is_read_as_the_same(tmp_path: Path) -> None:
    odd = {**OWN, "name": "odd: #1", "description": "ä 'b'\nc", "min_points": 2, "warehouse": False}
    found = of(
        tmp_path, {"policies": [OWN, odd], "rules": [RULE, {"meters": "*", "policy": "odd: #1"}], "default": "low"}
    )
    again = of(tmp_path, as_text(found))
    assert (again.named, again.rules, again.default, again.faults) == (found.named, found.rules, found.default, ())


def test_a_policy_that_hides_a_shipped_one_and_cannot_work_is_not_replaced_by_it(tmp_path: Path) -> None:
    found = of(tmp_path, {"policies": [{"name": "low", "tiers": 5}], "rules": [{"meters": "a", "policy": "low"}]})
    assert found.of("a").name == "monitoring"
    assert len(found.faults) == 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1h 30m", 5400),
        ("2 weeks", 1209600),
        ("1.5 min", 90),
        ("1 day, 1:00:00", 90000),
        ("90", 90),
        ("0:00:01.5", 1.5),
    ],
)
def test_spans_of_time_are_read_as_people_write_them(value: str, seconds: float) -> None:
    assert timespans.seconds(value) == seconds


@pytest.mark.parametrize("value", ["", "h", "5 parsecs", "-5m", 0, True, None, [], float("nan"), "9" * 400, 1e300])
def test_other_spans_of_time_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a span of time"):
        timespans.seconds(value)


def test_commands_list_show_check_and_import_policies(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "gnocchi_resources.yaml").write_text(
        "archive_policy_default: ceilometer-low\nresources:\n"
        "- resource_type: instance\n  metrics:\n    cpu: {archive_policy_name: medium}\n    memory:\n"
    )

    assert "policies import" in run("definitions", "check").stdout
    imported = run("policies", "import", str(tmp_path / "gnocchi_resources.yaml"))
    assert imported.exit_code == 0
    of(tmp_path, imported.stdout)
    listed = {row["policy"]: row["meters"] for row in lines(run("policies", "list", "--json"))}
    assert (listed["medium"], listed["ceilometer-low"], listed["billing"]) == (["cpu"], ["all others"], [])
    shown = run("policies", "show", "cpu").stdout
    assert "for steps up to 15 s" in shown
    assert run("policies", "check").exit_code == 0
    of(tmp_path, {"rules": [{"meters": "a", "policy": "nobody"}]})
    checked = run("policies", "check")
    assert checked.exit_code == 1
    assert f"{tmp_path}/archive_policies.yaml:2: rule 'a': there is no policy 'nobody'" in checked.stdout
    assert "nobody" in run("definitions", "check").stdout
