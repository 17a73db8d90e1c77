"""What one alarm does wrong, where it is defined or while it runs, affects no other one."""

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from meterhouse import configuration
from meterhouse.alarms.definitions.alarm import from_json
from meterhouse.alarms.definitions.files import load, read
from meterhouse.alarms.definitions.rules.comparing import MAX_PERIOD, MAX_PERIODS
from meterhouse.alarms.evaluation import decisions as module
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping.apply import apply
from meterhouse.errors import DefinitionError, Unavailable
from meterhouse.site import Site

UNKNOWN = "insufficient data"
BUSY = {"meter_name": "m", "threshold": 50, "comparison_operator": "gt", "period": 300}


def configure(folder: Path, *entries: Any) -> None:
    (folder / "alarms.yaml").write_text(yaml.safe_dump({"alarms": list(entries)}))


def entry(name: str, rule: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "threshold_rule": {**BUSY, **(rule or {})}, **more}


def states(site: Site) -> dict[str, str]:
    return dict(warehouse_rows(site, "SELECT name, state FROM alarms ORDER BY name"))


def reason(site: Site, name: str) -> str:
    return str(dict(warehouse_rows(site, "SELECT name, state_reason FROM alarms"))[name])


@pytest.fixture
def busy(open_site: OpenSite, tmp_path: Path) -> Site:
    """A site whose alarms.yaml is in `tmp_path`, and whose meter `m` is over 50."""
    site = open_site(config_dir=tmp_path)
    land_points(site, [point(60.0, at(-1))])
    return site


# -- where it is defined ------------------------------------------------------------------------------------

TOO_MUCH = [
    ({"period": 100_000_000_000}, r"period 100000000000\. Write a whole number from 1 to 2,678,400"),
    ({"period": 10**400}, r"period 1000.*Write a whole number"),
    ({"period": MAX_PERIOD + 1}, r"period 2678401"),
    ({"period": -1}, r"period -1"),
    ({"period": True}, r"period True"),
    ({"period": "60"}, r"period '60'"),
    ({"period": 60.0}, r"period 60\.0"),
    ({"period": None}, r"has no period"),
    ({"evaluation_periods": MAX_PERIODS + 1}, r"evaluation_periods 10001"),
    ({"period": 86400, "evaluation_periods": 62}, r"a window of 5,443,200 seconds.*at most 5,356,800 seconds"),
    ({"period": MAX_PERIOD, "evaluation_periods": 2}, r"a window of 8,035,200 seconds"),
    ({"period": 86400, "evaluation_periods": 32, "exclude_outliers": True}, r"a window of 5,529,600 seconds"),
    ({"threshold": math.inf}, r"threshold inf\. Write a number"),
    ({"threshold": -math.inf}, r"threshold -inf"),
    ({"threshold": math.nan}, r"threshold nan"),
    ({"threshold": 10**400}, r"threshold 1000"),
    ({"threshold": True}, r"threshold True"),
    ({"meter_name": "m" * 256}, r"meter_name of 256 characters\. Write at most 255"),
    ({"meter_name": "m\0"}, r"meter_name 'm\\x00'\. Write it without control characters"),
    ({"query": [{"field": "unit", "value": "x"}] * 51}, r"51 items in query\. Write at most 50"),
    ({"query": [{"field": "unit", "value": "x" * 256}]}, r"value of 256 characters"),
    ({"query": [{"field": "project_id", "value": False}]}, r"value False\. Write a text, in quotes"),
    ({"query": [{"field": "unit", "value": None}]}, r"value None"),
    ({"query": [{"field": ["unit"], "value": "x"}]}, r"field \['unit'\]"),
]


@pytest.mark.parametrize(("rule", "said"), TOO_MUCH)
def test_every_number_text_and_list_of_a_rule_is_bounded(tmp_path: Path, rule: dict[str, Any], said: str) -> None:
    configure(tmp_path, entry("far", rule))
    with pytest.raises(DefinitionError, match=said) as caught:
        load(tmp_path)
    assert f"{tmp_path}/alarms.yaml:" in str(caught.value)
    assert "'far'" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_number_with_more_digits_than_python_prints_is_refused(tmp_path: Path) -> None:
    digits = "0x" + "f" * 6000
    (tmp_path / "alarms.yaml").write_text(
        f"alarms:\n- name: far\n  threshold_rule: {{meter_name: m, threshold: 1, period: {digits}}}\n"
    )
    with pytest.raises(DefinitionError, match=r"alarms\.yaml:3: .*'far' has period a int that is too large to show"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "n" * 256}, "name of 256 characters"),
        ({"name": "n\x1b[2J"}, "name .* Write it without control characters"),
        ({"name": ["n"]}, r"an alarm has name \['n'\]"),
        ({"name": True}, "an alarm has name True"),
        ({"name": None}, "an alarm has no name"),
        ({"description": None}, "description None"),
        ({"description": "d" * 10_001}, "description of 10,001 characters"),
        ({"severity": ["low"]}, "severity"),
        ({"enabled": "no"}, "enabled 'no'"),
        ({"repeat_actions": 1}, "repeat_actions 1"),
        ({"ok_actions": ["http://h/" + "x" * 2000]}, "ok_actions: the URL has 2,009 characters.*at most 2,000"),
        ({"ok_actions": [f"http://h/{n}" for n in range(51)]}, "51 items in ok_actions"),
        ({"ok_actions": ["http://h/\0"]}, "ok_actions"),
        ({True: 1}, "unknown keys: True"),
    ],
)
def test_everything_else_of_an_alarm_is_bounded_too(tmp_path: Path, more: dict[Any, Any], said: str) -> None:
    configure(tmp_path, {**entry("far"), **more})
    with pytest.raises(DefinitionError, match=said):
        load(tmp_path)


def test_the_number_of_alarms_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterhouse.alarms.definitions.files.MAX_ALARMS", 1)
    configure(tmp_path, entry("a"), entry("b"))
    found = read(tmp_path)
    assert [alarm.name for alarm, _ in found.alarms] == ["a"]
    assert found.names is None
    assert "the files declare more than 1 alarms" in str(found.faults[0])


@pytest.mark.parametrize("period", ["2026-13-45", "9" * 5000, "2026-01-01T99:00:00Z"])
def test_what_yaml_takes_for_a_number_or_time_but_is_none_affects_one_alarm(tmp_path: Path, period: str) -> None:
    rule = f"{{meter_name: m, threshold: 1, period: {period}}}"
    good = "{meter_name: m, threshold: 1}"
    (tmp_path / "alarms.yaml").write_text(
        f"alarms:\n- {{name: far, threshold_rule: {rule}}}\n- {{name: good, threshold_rule: {good}}}\n"
    )
    found = read(tmp_path)
    assert [alarm.name for alarm, _ in found.alarms] == ["good"]
    (fault,) = found.faults
    assert f"{tmp_path}/alarms.yaml:2: threshold_rule of 'far' has period '{period[:10]}" in str(fault)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, "m", "gt"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
RULE = st.fixed_dictionaries({}, optional=dict.fromkeys((*BUSY, "query", "evaluation_periods", "statistic"), JUNK))
ALARM = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a", "b"]) | JUNK,
        "threshold_rule": st.just(BUSY) | RULE | RULE.map(lambda rule: {**BUSY, **rule}) | JUNK,
        "severity": JUNK,
        "ok_actions": JUNK,
        "type": JUNK,
    },
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(ALARM | JUNK, max_size=4))
def test_garbage_leaves_the_good_alarms(tmp_path_factory: pytest.TempPathFactory, junk: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    configure(folder, *junk, entry("good"))
    found = read(folder)
    assert "good" in [alarm.name for alarm, _ in found.alarms]
    assert len(found.alarms) + len(found.faults) == len(junk) + 1
    for alarm, _ in found.alarms:
        assert from_json(alarm.as_json()) == alarm
    for fault in found.faults:
        assert f"{folder}/alarms.yaml:" in str(fault)
        assert len(str(fault)) < 1000


@given(st.text(max_size=40) | ALARM.map(lambda content: json.dumps(content, default=str)))
def test_a_damaged_definition_of_the_warehouse_is_one_error(stored: str) -> None:
    with suppress(DefinitionError):
        from_json(stored)


# -- while it runs ------------------------------------------------------------------------------------------


def test_an_alarm_that_cannot_work_is_left_out_and_reported_with_its_line(busy: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry("good"), entry("far", {"period": 10**11, "evaluation_periods": 1000}))
    configuration.check(busy.settings)  # it stops no other step either
    done = apply(busy)
    assert done.created == 1
    (fault,) = done.faults
    assert f"{tmp_path}/alarms.yaml:" in str(fault)
    assert states(busy) == {"good": UNKNOWN}
    assert evaluate(busy, at()).faults == [str(fault)]
    assert states(busy) == {"good": "alarm"}


def test_an_alarm_that_is_mistyped_keeps_its_last_good_definition(busy: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry("a"), entry("b"))
    apply(busy)
    configure(tmp_path, entry("a", {"period": 0}), entry("b"))
    done = apply(busy)
    assert (done.changed, done.deleted) == (0, 0)
    assert states(busy) == {"a": UNKNOWN, "b": UNKNOWN}
    evaluate(busy, at())
    assert states(busy) == {"a": "alarm", "b": "alarm"}
    configure(tmp_path, {"nmae": "a"}, entry("c"))  # which alarm is meant nobody knows: none is deleted
    assert apply(busy).deleted == 0
    assert sorted(states(busy)) == ["a", "b", "c"]


DAMAGED = ["", "{", "[]", "null", '{"name": "far"}', '{"name": "far", "rule": [], "type": "threshold"}', "[" * 5000]


@pytest.mark.parametrize("definition", [json.dumps({"name": "far", "rule": {**BUSY, "period": 10**11}}), *DAMAGED])
def test_a_definition_in_the_warehouse_that_cannot_work_silences_only_itself(
    busy: Site, tmp_path: Path, definition: str
) -> None:
    """One of an earlier release, which allowed more, or a damaged one."""
    configure(tmp_path, entry("far", {"period": 0}), entry("good", alarm_actions=["log://"]))
    with busy.warehouse.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO alarms (alarm_id, name, origin, project_id, user_id, type, enabled, severity, "
                "definition, state, state_reason, state_timestamp, timestamp) "
                "VALUES ('x', 'far', 'file', '', '', 'threshold', true, 'low', :definition, 'ok', '', "
                "'2026-11-01 00:00:00', '2026-11-01 00:00:00')"
            ),
            {"definition": definition},
        )
    done = evaluate(busy, at())
    assert (done.alarms, done.notifications) == (2, 1)
    assert states(busy) == {"far": UNKNOWN, "good": "alarm"}
    assert "a definition that cannot work" in reason(busy, "far")
    assert len(done.faults) == 2  # that of the file, and that of the warehouse
    assert evaluate(busy, at()).transitions == []
    configure(tmp_path, entry("far"), entry("good"))  # a definition that works takes its place
    assert evaluate(busy, at()).faults == []
    assert states(busy) == {"far": "alarm", "good": "alarm"}


def test_alarms_that_make_the_query_fail_are_found_and_the_others_evaluated(
    busy: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = module.windows, []

    def fails(site: Site, requests: Any, moment: Any) -> Any:
        calls.append(len(requests))
        if "bad" in requests.meters:
            raise OverflowError("int too big")
        return real(site, requests, moment)

    monkeypatch.setattr(module, "windows", fails)
    names = [f"good{n:02}" for n in range(30)] + ["bad1", "bad2"]
    configure(tmp_path, *[entry(name, {"meter_name": "bad"} if name[0] == "b" else {}) for name in names])
    done = evaluate(busy, at())
    assert states(busy) == {name: UNKNOWN if name.startswith("bad") else "alarm" for name in names}
    assert reason(busy, "bad1") == "The alarm cannot be evaluated: int too big"
    assert done.faults == [f"alarm '{name}' cannot be evaluated: int too big" for name in ("bad1", "bad2")]
    assert len(calls) < 20


@pytest.mark.parametrize("error", [OSError("the disk is gone"), Unavailable("no answer"), ValueError("for all")])
def test_a_failure_that_is_no_alarms_fault_changes_no_state(
    busy: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    configure(tmp_path, entry("a"), entry("b"))
    evaluate(busy, at())

    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(module, "windows", fails)
    with pytest.raises(type(error)):
        evaluate(busy, at())
    assert states(busy) == {"a": "alarm", "b": "alarm"}


def test_the_commands_say_which_alarm_is_wrong_and_fail(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    configure(tmp_path, entry("good"), entry("far", {"period": 10**11}))
    for command, printed in (("apply", '"created": 1'), ("evaluate", '"alarms": 1')):
        answer = run("alarms", command, "--json")
        assert answer.exit_code == 1
        assert printed in answer.stdout
        assert "'far' has period 100000000000" in answer.stderr


# -- units --------------------------------------------------------------------------------------------------


def test_an_alarm_on_series_with_two_units_is_refused_unless_its_query_names_one(
    any_warehouse: Site, tmp_path: Path, open_site: OpenSite
) -> None:
    site = open_site(warehouse_url=any_warehouse.settings.warehouse, config_dir=tmp_path)
    land_points(site, [point(8388608.0, at(-1), unit="KiB"), point(8192.0, at(-2), unit="MiB", resource="r2")])
    configure(
        tmp_path,
        entry("mixed"),
        entry("one", {"query": [{"field": "unit", "value": "MiB"}]}),
        entry("other", {"query": [{"field": "resource_id", "value": "r1"}]}),
    )
    done = evaluate(site, at())
    (fault,) = done.faults
    assert "alarm 'mixed' reads series with different units: KiB and MiB. Name one in its query" in fault
    assert f"{tmp_path}/alarms.yaml:" in fault
    assert states(site) == {"one": "alarm", "other": "alarm"}


def test_a_second_unit_that_comes_later_makes_the_state_insufficient_data(busy: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry("a", alarm_actions=["log://"]), entry("b", {"query": [{"field": "unit", "value": "u"}]}))
    assert evaluate(busy, at()).faults == []
    land_points(busy, [point(61.0, at(-1), unit="MiB", resource="r2")])
    done = evaluate(busy, at())
    assert states(busy) == {"a": UNKNOWN, "b": "alarm"}
    assert done.transitions == [("a", "alarm", UNKNOWN)]
    assert reason(busy, "a").startswith("The alarm reads series with different units: MiB and u. Name one")
    assert len(done.faults) == 1
    assert evaluate(busy, at(60)).faults == []  # they are past
