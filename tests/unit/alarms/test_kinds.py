"""Every kind of alarm, evaluated on real points in the minute's cycle."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite

from meterhouse.alarms.definitions.alarm import from_json, from_mapping
from meterhouse.alarms.definitions.files import read
from meterhouse.alarms.definitions.rules.kinds import RULES
from meterhouse.alarms.definitions.time_constraints import TimeConstraint, in_force
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping.apply import apply
from meterhouse.errors import DefinitionError
from meterhouse.site import Site

UNKNOWN = "insufficient data"
BUSY = {"meter_name": "cpu_util", "threshold": 90, "comparison_operator": "gt", "period": 60}
RESOURCE = {
    "metric": "cpu_util",
    "resource_id": "r1",
    "resource_type": "instance",
    "aggregation_method": "mean",
    "threshold": 90,
    "comparison_operator": "gt",
}

EVERY_KIND: dict[str, dict[str, Any]] = {
    "threshold": BUSY,
    "gnocchi_resources_threshold": RESOURCE,
    "gnocchi_aggregation_by_metrics_threshold": {
        "metrics": ["r1/cpu_util", "r2/cpu_util"],
        "aggregation_method": "mean",
        "threshold": 1.5,
    },
    "gnocchi_aggregation_by_resources_threshold": {
        "metric": "cpu_util",
        "query": '{"and": [{"=": {"server_group": "g1"}}, {"=": {"ended_at": null}}]}',
        "resource_type": "instance",
        "aggregation_method": "mean",
        "threshold": 1,
    },
    "rate_of_change": {"meter_name": "cpu", "threshold": 1.0},
    "ratio": {"numerator": {"meter_name": "a"}, "denominator": {"meter_name": "b"}, "threshold": 0.9},
    "deviation": {"meter_name": "cpu_util"},
    "composite": {
        "and": [
            {"type": "threshold", **BUSY},
            {
                "or": [
                    {
                        "type": "ratio",
                        "numerator": {"meter_name": "a"},
                        "denominator": {"meter_name": "b"},
                        "threshold": 0.9,
                    }
                ]
            },
        ]
    },
    "combination": {"alarm_ids": ["one", "two"]},
    "event": {"event_type": "compute.instance.*", "query": [{"field": "traits.state", "value": "error"}]},
    "absence": {"meter_name": "cpu_util", "within": 300},
}


def entry(name: str, kind: str, rule: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, f"{kind}_rule": rule, **more}


def configure(folder: Path, *entries: dict[str, Any]) -> None:
    (folder / "alarms.yaml").write_text(yaml.safe_dump({"alarms": list(entries)}))


def states(site: Site) -> dict[str, str]:
    return dict(warehouse_rows(site, "SELECT name, state FROM alarms"))


def reason(site: Site, name: str) -> str:
    return str(warehouse_rows(site, f"SELECT state_reason FROM alarms WHERE name = '{name}'")[0][0])


@pytest.fixture
def watched(open_site: OpenSite, tmp_path: Path) -> Site:
    configure(tmp_path)
    return open_site(config_dir=tmp_path)


# -- definitions --------------------------------------------------------------------------------------------


def test_there_is_an_example_of_every_kind() -> None:
    assert set(EVERY_KIND) == set(RULES)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_definition_of_every_kind_survives_the_round_trip(kind: str) -> None:
    constraint = {"name": "nights", "start": "0 22 * * *", "duration": 3600, "timezone": "Europe/Vienna"}
    made = from_mapping(entry("a", kind, EVERY_KIND[kind], time_constraints=[constraint]), "x:1")
    assert from_json(made.as_json()) == made
    assert not {"TYPE", "MEANING"} & set(made.rule.as_dict())
    assert made.rule.sentence


@pytest.mark.parametrize(
    ("kind", "rule", "said"),
    [
        ("prometheus", {"query": "up"}, "prometheus, which asks a Prometheus server"),
        ("loadbalancer_member_health", {}, "asks Octavia and Heat"),
        ("threshold", {**BUSY, "query": [{"field": "timestamp", "value": "now"}]}, "has the field timestamp"),
        ("threshold", {**BUSY, "TYPE": "threshold"}, "has unknown keys: TYPE"),
        ("combination", {"alarm_ids": ["one", "one"]}, "combines 1 alarm"),
        ("combination", {"alarm_ids": ["one", "two"], "operator": "xor"}, "operator 'xor'"),
        ("composite", {"xor": []}, "has a rule without a type"),
        ("composite", {"and": []}, "an empty `and`"),
        ("composite", {"and": [{"type": "event"}]}, "a rule of the type 'event'"),
        ("composite", {"type": "threshold", **BUSY}, "no `and` and no `or`"),
        ("gnocchi_resources_threshold", {**RESOURCE, "aggregation_method": "mode"}, "aggregation_method 'mode'"),
        ("gnocchi_resources_threshold", {**RESOURCE, "evaluation_periods": 101}, "evaluation_periods 101"),
        (
            "gnocchi_aggregation_by_metrics_threshold",
            {"metrics": ["r1/a", "r2/b"], "aggregation_method": "mean", "threshold": 1},
            "several meters: a, b",
        ),
        (
            "gnocchi_aggregation_by_metrics_threshold",
            {"metrics": ["5d2a"], "aggregation_method": "mean", "threshold": 1},
            "Write RESOURCE_ID/METER",
        ),
        (
            "gnocchi_aggregation_by_resources_threshold",
            {**EVERY_KIND["gnocchi_aggregation_by_resources_threshold"], "query": "server_group = g1"},
            "which is not JSON",
        ),
        (
            "gnocchi_aggregation_by_resources_threshold",
            {**EVERY_KIND["gnocchi_aggregation_by_resources_threshold"], "query": '{">": {"started_at": "2026"}}'},
            "a search by started_at",
        ),
        ("event", {"query": [{"field": "colour", "value": "red"}]}, "Write traits.NAME"),
        ("event", {"query": [{"field": "traits.n", "value": "x", "type": "integer"}]}, "which is no integer"),
        ("absence", {"within": 60}, "names no meter and no event type"),
        ("absence", {"within": 60, "meter_name": "a", "event_type": "b"}, "names both"),
        ("absence", {"meter_name": "a"}, "has no within"),
        ("deviation", {"meter_name": "a", "weeks": 1}, "weeks 1"),
        ("deviation", {"meter_name": "a", "at_least": -1}, "at_least -1"),
        ("ratio", {"numerator": {"meter_name": "a"}, "threshold": 1}, "denominator of .* is not a mapping"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_the_reason(kind: str, rule: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        from_mapping(entry("a", kind, rule), "x:1")


def test_a_rule_of_another_type_is_refused() -> None:
    with pytest.raises(DefinitionError, match="has threshold_rule and the type event"):
        from_mapping({**entry("a", "event", {}), "threshold_rule": BUSY}, "x:1")


def test_a_composite_of_aliases_of_aliases_is_refused_in_no_time() -> None:
    rule: Any = {"type": "threshold", **BUSY}
    for _ in range(12):
        rule = {"and": [rule] * 40}
    with pytest.raises(DefinitionError, match="more than 100 rules"):
        from_mapping(entry("a", "composite", rule), "x:1")


def test_clients_may_send_numbers_and_flags_as_texts() -> None:
    rule = {**RESOURCE, "granularity": "300", "resource_type": None, "evaluation_periods": "2", "threshold": "70.5"}
    given = entry("a", "gnocchi_resources_threshold", rule, repeat_actions="True", description=None)
    made = from_mapping(given, "", as_text=True)
    assert (made.rule.wanted()[0].period, made.rule.wanted()[0].evaluation_periods) == (300, 2)
    assert made.repeat_actions
    with pytest.raises(DefinitionError, match=r"threshold '70\.5'"):
        from_mapping(entry("a", "gnocchi_resources_threshold", {**rule, "resource_type": "generic"}), "x:1")


def test_alarms_are_read_from_a_folder_too(tmp_path: Path) -> None:
    configure(tmp_path, entry("a", "threshold", BUSY))
    (tmp_path / "alarms.d").mkdir()
    for name in ("b", "c"):
        text = yaml.safe_dump({"alarms": [entry(name, "threshold", BUSY), entry(f"{name}-far", "odd", {})]})
        (tmp_path / "alarms.d" / f"{name}.yaml").write_text(text)
    (tmp_path / "alarms.d" / "d.yaml").write_text("alarms: [")
    found = read(tmp_path)
    assert [alarm.name for alarm, _ in found.alarms] == ["a", "b", "c"]
    assert len(found.faults) == 3  # two alarms and a file
    assert found.names is None  # so nothing is deleted: the file may have declared it


def test_unchanged_files_are_not_read_again(watched: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(tmp_path, entry("a", "threshold", BUSY), entry("far", "odd", {}))
    (fault,) = evaluate(watched, at()).faults

    def never(*_: Any) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr("meterhouse.alarms.definitions.files.read", never)
        assert evaluate(watched, at(1)).faults == [fault]
    configure(tmp_path, entry("b", "threshold", BUSY))
    assert evaluate(watched, at(2)).faults == []
    assert set(states(watched)) == {"b"}


# -- time constraints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "duration", "timezone", "minutes", "holds"),
    [
        ("0 12 * * *", 600, "", 0, True),
        ("0 12 * * *", 600, "", 10, True),
        ("0 12 * * *", 600, "", 10.1, False),
        ("0 12 * * *", 600, "", -1.1, False),
        ("0 12 * * *", 600, "", -0.5, True),  # in the minute before a start, as Aodh
        ("0 13 * * *", 600, "Europe/Vienna", 5, True),
        ("0 12 * * *", 600, "Europe/Vienna", 5, False),
        ("30 23 * * *", 13 * 3600, "", 0, True),  # since yesterday
        ("0 0 1 * *", 3600, "", 0, False),
        ("0 0 31 2 *", 3600, "", 0, False),  # never begins, as an earlier release may have stored
    ],
)
def test_a_time_constraint_holds_from_its_start_for_its_duration(
    start: str, duration: int, timezone: str, minutes: float, holds: bool
) -> None:
    assert in_force([TimeConstraint("t", start, duration, timezone)], at(minutes)) is holds


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"start": "61 * * * *", "duration": 60}, "no cron expression"),
        ({"start": "* * * * * *", "duration": 60}, "no cron expression"),
        ({"start": "R R * * *", "duration": 60}, "no cron expression"),
        ({"start": "0 0 31 2,4 *", "duration": 60}, "never comes"),
        ({"start": "* * * * *", "duration": -1}, "duration -1"),
        ({"start": "* * * * *"}, "has no duration"),
        ({"start": "* * * * *", "duration": 60, "timezone": "Mars/Base"}, "timezone 'Mars/Base'"),
    ],
)
def test_a_time_constraint_that_cannot_work_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        from_mapping(entry("a", "threshold", BUSY, time_constraints=[{"name": "t", **given}]), "x:1")


def test_outside_of_its_constraints_an_alarm_keeps_its_state(watched: Site, tmp_path: Path) -> None:
    land_points(watched, [point(95.0, at(-0.5), meter="cpu_util")])
    never = {"name": "t", "start": "0 3 * * *", "duration": 60}
    kinds = {name: EVERY_KIND[name] for name in ("threshold", "gnocchi_resources_threshold")}
    both = [entry(kind, kind, rule, time_constraints=[never]) for kind, rule in kinds.items()]
    configure(tmp_path, *both, entry("always", "threshold", BUSY))
    evaluate(watched, at())
    assert states(watched) == {**dict.fromkeys(kinds, UNKNOWN), "always": "alarm"}
    assert reason(watched, "threshold") == "Not evaluated yet"


# -- evaluation ---------------------------------------------------------------------------------------------


def test_a_gnocchi_alarm_takes_whole_periods_of_the_clock(watched: Site, tmp_path: Path) -> None:
    """Ceilometer's periods begin at the window's start: the two points would be in one period of it."""
    land_points(watched, [point(50.0, at(-0.4), meter="cpu_util"), point(100.0, at(0.1), meter="cpu_util")])
    configure(tmp_path, entry("g", "gnocchi_resources_threshold", RESOURCE), entry("t", "threshold", BUSY))
    evaluate(watched, at(0.3))
    assert states(watched) == {"g": "alarm", "t": "ok"}
    assert "most recent: 100.0" in reason(watched, "g")


def test_an_aggregation_over_resources_first_aggregates_each(watched: Site, tmp_path: Path) -> None:
    """The mean of r1's mean and of r2's is 50; that of all points is 75."""
    land_points(
        watched,
        [point(100.0, at(-1 + n / 10), meter="cpu_util", resource="r1") for n in range(3)]
        + [point(0.0, at(-0.9), meter="cpu_util", resource="r2")]
        + [point(900.0, at(-0.9), meter="cpu_util", resource="r3")],
    )
    equals = {"comparison_operator": "eq", "threshold": 50}
    over = {**equals, "aggregation_method": "mean"}
    search = '{"or": [{"=": {"id": "r1"}}, {"in": {"original_resource_id": ["r2"]}}]}'
    configure(
        tmp_path,
        entry("m", "gnocchi_aggregation_by_metrics_threshold", {**over, "metrics": ["r1/cpu_util", "r2/cpu_util"]}),
        entry("s", "gnocchi_aggregation_by_resources_threshold", {**over, "metric": "cpu_util", "query": search}),
        entry(
            "t", "threshold", {**BUSY, "where": "resource in (r1, r2)", "comparison_operator": "eq", "threshold": 75}
        ),
    )
    evaluate(watched, at())
    assert states(watched) == {"m": "alarm", "s": "alarm", "t": "alarm"}


def test_a_ratio_counts_periods_with_both_meters_alone(watched: Site, tmp_path: Path) -> None:
    land_points(
        watched,
        [
            *(point(9.0, at(-0.5), meter="a"), point(10.0, at(-0.4), meter="b")),
            *(point(5.0, at(-1.5), meter="a"), point(0.0, at(-1.4), meter="b")),
        ],
    )
    configure(tmp_path, entry("r", "ratio", {**EVERY_KIND["ratio"], "threshold": 0.8}))
    evaluate(watched, at())
    assert states(watched) == {"r": "alarm"}
    assert "1 samples outside threshold, most recent: 0.9" in reason(watched, "r")


def test_a_rate_of_change_is_not_misled_by_a_reset(watched: Site, tmp_path: Path) -> None:
    counter = [(-9, 1000.0), (-7, 1600.0), (-6, 1900.0), (-5, 2200.0), (-4, 100.0), (-3, 400.0), (-1, 1000.0)]
    land_points(watched, [point(value, at(when), meter="bytes", type="cumulative") for when, value in counter])
    fast = {"meter_name": "bytes", "period": 300, "comparison_operator": "lt", "threshold": 0}
    configure(
        tmp_path,
        entry("falls", "rate_of_change", fast),
        entry("fast", "rate_of_change", {**fast, "comparison_operator": "gt", "threshold": 3}),
    )
    evaluate(watched, at())
    assert states(watched) == {"falls": "ok", "fast": "alarm"}


def test_the_rate_of_change_of_a_gauge_may_be_negative(watched: Site, tmp_path: Path) -> None:
    for resource in ("r1", "r2"):
        values = [(-9, 1000.0), (-6, 700.0), (-4, 500.0), (-1, 100.0)]
        land_points(watched, [point(value, at(when), meter="free", resource=resource) for when, value in values])
    slow = {"meter_name": "free", "period": 300, "comparison_operator": "eq", "threshold": -4.0}
    configure(tmp_path, entry("falls", "rate_of_change", slow))  # two series lose 600 in the last five minutes
    evaluate(watched, at())
    assert reason(watched, "falls").endswith("most recent: -4.0")


def test_a_deviation_is_measured_by_the_same_hour_of_past_weeks(watched: Site, tmp_path: Path) -> None:
    for week, value in enumerate([100.0, 49.0, 50.0, 51.0]):
        moment = at(-10) - timedelta(weeks=week)
        land_points(watched, [point(value, moment, meter="rps"), point(1e6, moment + timedelta(hours=5), meter="rps")])
    usual = {"meter_name": "rps", "weeks": 3}
    configure(
        tmp_path,
        entry("odd", "deviation", usual),
        entry("low", "deviation", {**usual, "direction": "down"}),
        entry("wide", "deviation", {**usual, "at_least": 150}),
        entry("new", "deviation", {"meter_name": "unheard"}),
    )
    evaluate(watched, at())
    assert states(watched) == {"odd": "alarm", "low": "ok", "wide": "ok", "new": UNKNOWN}


def test_a_deviation_from_one_week_alone_is_not_known(watched: Site, tmp_path: Path) -> None:
    for week in range(2):
        land_points(watched, [point(50.0, at(-10) - timedelta(weeks=week), meter="rps")])
    configure(tmp_path, entry("odd", "deviation", {"meter_name": "rps"}))
    evaluate(watched, at())
    assert reason(watched, "odd") == "Not evaluated yet" or "only 1 of the past 4 weeks" in reason(watched, "odd")
    assert states(watched) == {"odd": UNKNOWN}


def test_a_combination_sees_the_states_of_this_cycle(watched: Site, tmp_path: Path) -> None:
    land_points(watched, [point(95.0, at(-0.5), meter="cpu_util")])
    both = {"alarms": ["busy", "idle"]}
    configure(
        tmp_path,
        entry("c-top", "combination", {"alarms": ["a-or", "busy"], "operator": "and"}),
        entry("a-or", "combination", {**both, "operator": "or"}),
        entry("b-and", "combination", {**both, "operator": "and"}),
        entry("busy", "threshold", BUSY),
        entry("idle", "threshold", {**BUSY, "comparison_operator": "lt"}),
        entry("half", "combination", {"alarms": ["busy", "lacking"], "operator": "and"}),
        entry("lacking", "threshold", {**BUSY, "meter_name": "nothing"}),
    )
    evaluate(watched, at())
    assert states(watched) == {
        "busy": "alarm",
        "idle": "ok",
        "a-or": "alarm",
        "b-and": "ok",
        "c-top": "alarm",
        "lacking": UNKNOWN,
        "half": UNKNOWN,
    }
    assert reason(watched, "a-or").startswith("Transition to alarm due to alarms ")


def test_a_combination_in_a_circle_or_of_nothing_is_refused(watched: Site, tmp_path: Path) -> None:
    configure(
        tmp_path,
        entry("a", "combination", {"alarms": ["b", "x"]}),
        entry("b", "combination", {"alarms": ["c", "x"]}),
        entry("c", "combination", {"alarms": ["a", "x"]}),
        entry("self", "combination", {"alarms": ["self", "x"]}),
        entry("far", "combination", {"alarms": ["nobody", "x"]}),
        entry("x", "threshold", BUSY),
    )
    done = apply(watched)
    said = sorted(str(fault) for fault in done.faults)
    assert len(said) == 5
    assert "alarm 'a' combines itself: a → b → c → a" in " ".join(said)
    assert "which does not exist" in " ".join(said)
    assert set(states(watched)) == {"x"}


def test_a_composite_alarm_joins_its_rules(watched: Site, tmp_path: Path) -> None:
    land_points(watched, [point(95.0, at(-0.5), meter="cpu_util"), point(9.0, at(-0.5), meter="a")])
    part = {"type": "threshold", **BUSY}
    other = {**part, "meter_name": "a"}
    configure(
        tmp_path,
        entry("both", "composite", {"and": [part, other]}),
        entry("one", "composite", {"or": [other, {"and": [part]}]}),
        entry("lacks", "composite", {"and": [part, {**part, "meter_name": "nothing"}]}),
    )
    evaluate(watched, at())
    assert states(watched) == {"both": "ok", "one": "alarm", "lacks": UNKNOWN}
    assert reason(watched, "one") == (
        "Composite rule alarm with composition form: (rule1 or (rule2)) transition to alarm, due to rules: rule2 "
        "outside their threshold."
    )


def test_unknown_meters_and_short_periods_are_warned_of(watched: Site, tmp_path: Path) -> None:
    configure(tmp_path, *(entry(f"a{n}", "threshold", {**BUSY, "meter_name": "memory.usgae"}) for n in range(3)))
    (warning,) = apply(watched).warnings
    assert warning == (
        "alarm 'a0' and 2 more read the meter memory.usgae, which this site does not know; did you mean memory.usage "
        "or memory.swap.in?"
    )
    assert len(states(watched)) == 3  # it may come later
