"""Alarms: evaluated together as Ceilometer and Aodh evaluate them, and written in one transaction."""

import json
import math
import random
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from asked import decided, windows_of
from builders import at, land_points, point, warehouse_rows
from conditions import holds
from conftest import OpenSite

from meterhouse import times
from meterhouse.alarms.definitions.alarm import Alarm, from_json
from meterhouse.alarms.definitions.files import load
from meterhouse.alarms.definitions.rules.comparing import COMPARE
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.wanted import Condition
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping.apply import Applied, apply
from meterhouse.errors import AlreadyRunning, DefinitionError
from meterhouse.filters import DIMENSIONS, parse
from meterhouse.site import Site

UNKNOWN = "insufficient data"


def alarm(name: str = "a", **rule: Any) -> Alarm:
    about = {key: rule.pop(key) for key in ("repeat_actions", "alarm_actions", "ok_actions") if key in rule}
    rule = {"meter_name": "m", "threshold": 50.0, "comparison_operator": "gt", **rule}
    return Alarm(name, ThresholdRule(**rule), **about)


def window_values(site: Site, definitions: list[Alarm], moment: datetime) -> list[list[float]]:
    return [list(window.values) for window in windows_of(site, definitions, moment)]


# -- what a window says -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "repeat", "values", "becomes", "notify"),
    [
        ("ok", False, [60, 70], "alarm", True),
        ("ok", False, [40, 50], "ok", False),
        ("alarm", False, [60, 70], "alarm", False),
        ("alarm", True, [60, 70], "alarm", True),
        ("alarm", False, [40, 50], "ok", True),
        ("ok", True, [40, 50], "ok", True),
        (UNKNOWN, False, [60, 70], "alarm", True),
        (UNKNOWN, False, [40, 40], "ok", True),
        # fewer values than periods
        ("ok", False, [60], UNKNOWN, True),
        ("alarm", True, [], UNKNOWN, True),
        (UNKNOWN, False, [60], UNKNOWN, False),
        (UNKNOWN, True, [], UNKNOWN, False),
        # a mixture
        ("ok", False, [40, 60], "ok", False),
        ("alarm", False, [60, 40], "alarm", False),
        ("ok", True, [40, 60], "ok", True),
        ("alarm", True, [60, 40], "alarm", True),
        (UNKNOWN, False, [40, 60], "alarm", True),
        (UNKNOWN, False, [60, 40], "ok", True),
    ],
)
def test_the_state_equals_that_of_ceilometer(
    state: str, repeat: bool, values: list[float], becomes: str, notify: bool
) -> None:
    outcome = decided(alarm(evaluation_periods=2, repeat_actions=repeat), state, [float(v) for v in values])
    assert (outcome.state, outcome.notify) == (becomes, notify)


@pytest.mark.parametrize(
    ("comparison", "values", "over"),
    [
        ("gt", [50.0, 50.1], [False, True]),
        ("ge", [49.9, 50.0], [False, True]),
        ("lt", [50.0, 49.9], [False, True]),
        ("le", [50.1, 50.0], [False, True]),
        ("eq", [50.1, 50.0], [False, True]),
        ("ne", [50.0, 50.1], [False, True]),
    ],
)
def test_each_comparison(comparison: str, values: list[float], over: list[bool]) -> None:
    states = [decided(alarm(comparison_operator=comparison), UNKNOWN, [value]).state for value in values]
    assert states == ["alarm" if each else "ok" for each in over]


def test_reasons_equal_those_of_aodh() -> None:
    rule = alarm(evaluation_periods=3, repeat_actions=True)
    to_alarm = decided(rule, "ok", [60.0, 61.0, 62.5])
    assert to_alarm.reason == "Transition to alarm due to 3 samples outside threshold, most recent: 62.5"
    assert to_alarm.reason_data == {"type": "threshold", "disposition": "outside", "count": 3, "most_recent": 62.5}
    assert decided(rule, "ok", [1.0, 2.0, 3.0]).reason == (
        "Remaining as ok due to 3 samples inside threshold, most recent: 3.0"
    )
    mixed = decided(rule, "ok", [60.0, 2.0, 3.0])
    assert mixed.reason == "Remaining as ok due to 2 samples inside threshold, most recent: 3.0"
    unknown = decided(rule, "ok", [60.0])
    assert unknown.reason == "3 datapoints are unknown"
    assert unknown.reason_data == {"type": "threshold", "disposition": "unknown", "count": 3, "most_recent": 60.0}
    assert decided(rule, "ok", []).reason_data["most_recent"] is None


# -- windows ------------------------------------------------------------------------------------------------


def naive(points: list[dict[str, Any]], given: Alarm, moment: datetime) -> list[float]:
    """One alarm's values, as Ceilometer's evaluator finds them: one statistics query, one bucket after the other."""
    rule = given.rule
    periods = rule.evaluation_periods * 2 if rule.exclude_outliers else rule.evaluation_periods + 1
    start = moment - timedelta(seconds=rule.period * periods)

    def matches(p: dict[str, Any], c: Condition) -> bool:
        return p[c.field] is not None and COMPARE[c.op](p[c.field], c.value)

    buckets: dict[int, list[float]] = {}
    for p in points:
        if (
            p["meter"] == rule.meter_name
            and start <= p["timestamp"] <= moment
            and all(matches(p, c) for c in rule.query)
            and (not rule.where or holds(parse(rule.where, DIMENSIONS), p))
            and math.isfinite(p["volume"])
        ):
            buckets.setdefault((p["timestamp"] - start) // timedelta(seconds=rule.period), []).append(p["volume"])
    kept = [buckets[n] for n in sorted(buckets)]
    if rule.exclude_outliers:
        counts = [len(values) for values in kept]
        mean, spread = np.mean(counts) if counts else 0, np.std(counts) if counts else 0
        kept = [values for values in kept if mean - 2 * spread <= len(values) <= mean + 2 * spread]
    how: dict[str, Any] = {"avg": np.mean, "min": min, "max": max, "sum": sum, "count": len}
    return [float(how[rule.statistic](values)) for values in kept[-rule.evaluation_periods :]]


WHERE = (
    "resource = r1",
    "project = p1 and not resource in (r0, r2)",
    "not project = p1",
    'resource =~ "^r[02]$" or project != p0',
    "resource = r1 and project = p0 and unit = u",
    "resource = nobody",
)


def test_evaluating_all_alarms_together_equals_evaluating_each_alone(site: Site) -> None:
    rng = random.Random(3)
    points = [
        point(
            float("nan") if rng.random() < 0.03 else rng.uniform(0, 100),
            at(rng.uniform(-60, 1)),
            meter=rng.choice(["m", "n"]),
            resource=f"r{rng.randrange(4)}",
            project=rng.choice(["p0", "p1", None]),
        )
        for _ in range(1500)
    ]
    points += [point(77.0, at()), point(78.0, at(-10)), point(79.0, at(0.0000167))]
    land_points(site, points)
    fields, ops = ["resource_id", "project_id", "user_id", "source", "type", "unit"], list(COMPARE)
    values = ["r0", "r1", "p0", "p1", "u1", "openstack", "gauge", "u"]
    definitions = [
        alarm(
            f"a{n}",
            meter_name=rng.choice(["m", "m", "n", "unknown"]),
            statistic=rng.choice(["avg", "min", "max", "sum", "count"]),
            period=rng.choice([1, 60, 300, 420]),
            evaluation_periods=rng.choice([1, 2, 3, 5]),
            exclude_outliers=rng.random() < 0.4,
            query=tuple(
                Condition(rng.choice(fields[:2] if rng.random() < 0.7 else fields), rng.choice(["eq", "eq", *ops]), v)
                for v in rng.sample(values, rng.choice([0, 1, 1, 2]))
            ),
            where=rng.choice(["", "", *WHERE]),
        )
        for n in range(120)
    ]
    found = window_values(site, definitions, at())
    for given, window in zip(definitions, found, strict=True):
        assert window == pytest.approx(naive(points, given, at()), rel=1e-9), given
    assert sum(map(bool, found)) > 30


def test_only_good_points_count(site: Site) -> None:
    land_points(
        site,
        [
            point(1e7, at(-1), meter="cpu_util"),
            point(20.0, at(-2), meter="cpu_util"),
            point(30.0, at(-2), meter="cpu_util", recorded_at=at(9)),
        ],
    )
    rule = alarm(meter_name="cpu_util", period=600, statistic="sum")
    assert window_values(site, [rule], at()) == [[30.0]]


def counted(counts: list[int], period: int = 60) -> list[dict[str, Any]]:
    """Points so that the window's buckets have these counts, oldest first, ending now."""
    start = at() - timedelta(seconds=period * len(counts))
    return [
        point(float(n), start + timedelta(seconds=period * n + 1 + k))
        for n, count in enumerate(counts)
        for k in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ([10, 10, 10, 10, 10, 1], [2.0, 3.0, 4.0]),  # the low last one is out: |z| = 2.24
        ([10, 10, 10, 10, 10, 30], [2.0, 3.0, 4.0]),  # a high one too
        ([10, 10, 10, 10, 10, 10], [3.0, 4.0, 5.0]),
        ([1, 10, 10, 10, 10, 1], [3.0, 4.0, 5.0]),  # two of six are no outliers
    ],
)
def test_outliers_are_periods_with_an_odd_number_of_points(site: Site, counts: list[int], kept: list[float]) -> None:
    land_points(site, counted(counts))
    rule = alarm(period=60, evaluation_periods=3, exclude_outliers=True)
    assert window_values(site, [rule], at()) == [kept]
    plain = alarm(period=60, evaluation_periods=3)
    assert window_values(site, [plain], at()) == [[3.0, 4.0, 5.0]]


# -- definitions and cycles ---------------------------------------------------------------------------------


def configure(folder: Path, *entries: dict[str, Any]) -> None:
    (folder / "alarms.yaml").write_text(yaml.safe_dump({"alarms": list(entries)}))


def entry(name: str = "hot", **more: Any) -> dict[str, Any]:
    rule = {"meter_name": "cpu_util", "threshold": 90, "comparison_operator": "gt", "period": 300}
    return {"name": name, "threshold_rule": {**rule, **more.pop("rule", {})}, **more}


def states(site: Site) -> dict[str, str]:
    return dict(warehouse_rows(site, "SELECT name, state FROM alarms"))


def history(site: Site) -> list[tuple[str, dict[str, Any]]]:
    return [
        (kind, json.loads(detail))
        for kind, detail in warehouse_rows(site, "SELECT type, detail FROM alarm_history ORDER BY sequence")
    ]


@pytest.fixture
def watched(open_site: OpenSite, tmp_path: Path) -> Site:
    """A site whose alarms.yaml is in `tmp_path`."""
    configure(tmp_path)
    return open_site(config_dir=tmp_path)


def counts(done: Applied) -> tuple[int, int, int]:
    return done.created, done.changed, done.deleted


def test_alarms_are_created_changed_and_deleted_to_match_the_file(watched: Site, tmp_path: Path) -> None:
    assert counts(apply(watched)) == (0, 0, 0)
    configure(tmp_path, entry("a"), entry("b", severity="critical"))
    assert counts(apply(watched)) == (2, 0, 0)
    assert counts(apply(watched)) == (0, 0, 0)
    configure(tmp_path, entry("a", rule={"threshold": 95}, enabled=False), entry("c"))
    assert counts(apply(watched)) == (1, 1, 1)
    assert states(watched) == {"a": UNKNOWN, "c": UNKNOWN}
    found = history(watched)
    assert sorted(kind for kind, _ in found) == ["creation"] * 3 + ["deletion", "rule change"]
    (changes,) = (detail for kind, detail in found if kind == "rule change")
    assert set(changes) == {"rule", "enabled"}


def test_a_definition_survives_the_round_trip_through_the_warehouse(watched: Site, tmp_path: Path) -> None:
    query = [{"field": "resource", "op": "ne", "value": "r1"}, {"field": "project_id", "value": 5}]
    configure(tmp_path, entry(rule={"query": query}, alarm_actions=["http://h/x", "http://h/x", "log://"]))
    (given,) = load(tmp_path)
    assert given.rule.query == (Condition("resource_id", "ne", "r1"), Condition("project_id", "eq", "5"))
    assert given.alarm_actions == ("http://h/x", "log://")
    assert from_json(given.as_json()) == given


def test_the_series_of_an_alarm_may_be_chosen_by_a_condition(watched: Site, tmp_path: Path) -> None:
    where = "not (resource in (r1, r2)\n or project = p2)"
    configure(tmp_path, entry(rule={"where": where}))
    (given,) = load(tmp_path)
    assert from_json(given.as_json()) == given
    assert given.rule.where == where
    land_points(watched, [point(95.0, at(-1), meter="cpu_util", resource=name) for name in ("r1", "r2")])
    evaluate(watched, at())
    assert states(watched) == {"hot": UNKNOWN}
    land_points(watched, [point(96.0, at(-1), meter="cpu_util", resource="r3", project=None)])
    evaluate(watched, at())
    assert states(watched) == {"hot": "alarm"}


def test_an_alarm_without_a_condition_is_stored_as_releases_before_had_it(tmp_path: Path) -> None:
    configure(tmp_path, entry())
    (given,) = load(tmp_path)
    assert "where" not in json.loads(given.as_json())["rule"]
    assert from_json(given.as_json()) == given


def test_a_condition_may_choose_one_of_several_units(watched: Site, tmp_path: Path) -> None:
    land_points(watched, [point(9.0, at(-1), meter="cpu_util", unit=unit, resource=unit) for unit in ("%", "x")])
    configure(tmp_path, entry(), entry("one", rule={"where": "unit = x"}))
    done = apply(watched)
    assert done.created == 1
    assert [("'hot'" in str(fault), "different units: % and x" in str(fault)) for fault in done.faults] == [
        (True, True)
    ]


def test_a_transition_its_history_and_its_notifications_are_kept_together(watched: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry(alarm_actions=["log://a", "log://b"], ok_actions=["log://c"], severity="critical"))
    land_points(watched, [point(95.0, at(-1), meter="cpu_util"), point(10.0, at(60), meter="cpu_util")])
    done = evaluate(watched, at())
    assert done.transitions == [("hot", UNKNOWN, "alarm")]
    assert (done.alarms, done.notifications, dict(done.states)) == (1, 2, {"alarm": 1})
    assert evaluate(watched, at()).transitions == []
    done = evaluate(watched, at(61))
    assert done.transitions == [("hot", "alarm", "ok")]
    assert states(watched) == {"hot": "ok"}
    kept = warehouse_rows(
        watched,
        "SELECT d.url, d.body, h.detail FROM deliveries AS d JOIN alarm_history AS h ON h.event_id = d.event_id "
        "WHERE h.type = 'state transition' ORDER BY d.sequence",
    )
    assert [row[0] for row in kept] == ["log://a", "log://b", "log://c"]
    body = json.loads(kept[0][1])
    assert body == {
        "alarm_name": "hot",
        "alarm_id": load(tmp_path)[0].alarm_id,
        "severity": "critical",
        "previous": UNKNOWN,
        "current": "alarm",
        "reason": "Transition to alarm due to 1 samples outside threshold, most recent: 95.0",
        "reason_data": {"type": "threshold", "disposition": "outside", "count": 1, "most_recent": 95.0},
    }
    detail = json.loads(kept[0][2])
    (window,) = detail.pop("windows")
    assert detail == {"state": "alarm", "transition_reason": body["reason"]}
    assert (window["values"], window["points"], window["excluded"], window["number_of_series"]) == ([95.0], [1], [0], 1)
    assert window["starts"] == [times.text(at(-5))]


def test_actions_are_repeated_only_if_the_alarm_says_so(watched: Site, tmp_path: Path) -> None:
    configure(
        tmp_path,
        entry("once", alarm_actions=["log://once"]),
        entry("again", alarm_actions=["log://again"], repeat_actions=True),
    )
    land_points(watched, [point(95.0, at(-1), meter="cpu_util")])
    assert [evaluate(watched, at(n / 60)).notifications for n in range(3)] == [2, 1, 1]
    assert len([kind for kind, _ in history(watched) if kind == "state transition"]) == 2


def test_a_failure_leaves_neither_state_nor_notification(
    watched: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path, entry("a"), entry("b", alarm_actions=["log://x"]))
    land_points(watched, [point(95.0, at(-1), meter="cpu_util")])
    with monkeypatch.context() as broken:
        broken.setattr("meterhouse.alarms.delivery.outbox.Notification.body", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(watched, at())
    assert states(watched) == {"a": UNKNOWN, "b": UNKNOWN}
    assert warehouse_rows(watched, "SELECT * FROM alarm_history WHERE type = 'state transition'") == []
    assert len(evaluate(watched, at()).transitions) == 2


def test_a_disabled_alarm_is_not_evaluated(watched: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry(enabled=False))
    land_points(watched, [point(95.0, at(-1), meter="cpu_util")])
    assert evaluate(watched, at()).alarms == 0
    assert states(watched) == {"hot": UNKNOWN}


def test_a_changed_alarm_keeps_its_state_until_it_is_evaluated(watched: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry())
    land_points(watched, [point(95.0, at(-1), meter="cpu_util")])
    evaluate(watched, at())
    configure(tmp_path, entry(rule={"threshold": 99}))
    apply(watched)
    assert states(watched) == {"hot": "alarm"}
    assert evaluate(watched, at()).transitions == [("hot", "alarm", "ok")]


def test_two_processes_do_not_evaluate_at_the_same_time(watched: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterhouse.alarms.keeping.apply.WAIT_SECONDS", 0.0)
    with watched.warehouse.lease("alarm_evaluations"), pytest.raises(AlreadyRunning):
        evaluate(watched)


def test_alarms_are_the_same_in_every_kind_of_site(any_site: Site) -> None:
    land_points(any_site, counted([1, 2, 3]))
    rule = alarm(period=60, evaluation_periods=2, statistic="count")
    assert window_values(any_site, [rule], at()) == [[2.0, 3.0]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "x"}, r"threshold_rule of 'x' is not a mapping"),
        ({"threshold_rule": {}}, r"an alarm has no name"),
        (entry(type="event"), r"alarm 'hot' has threshold_rule and the type event\. Write event_rule"),
        (entry(type="prometheus"), r"alarm 'hot' has the type prometheus, which asks a Prometheus server"),
        (entry(type="odd"), r"alarm 'hot' has type 'odd'\. Write one of threshold"),
        (entry(severity="bad"), r"has severity 'bad'"),
        (entry(enabled="yes please"), r"has enabled 'yes please'\. Write true or false"),
        (entry(actions=[]), r"has unknown keys: actions"),
        (entry(alarm_actions="http://h"), r"has alarm_actions that is not a list"),
        (
            entry(alarm_actions=["ftp://h"]),
            r"has alarm_actions: 'ftp://h' is not an action\. Write http",
        ),
        (entry(alarm_actions=["http://"]), r"has alarm_actions: 'http://' has no host"),
        (entry(alarm_actions=["http://[::1"]), r"has alarm_actions: 'http://\[::1' is not a URL"),
        (entry(alarm_actions=["http://h:port/"]), r"has alarm_actions: 'http://h:port/' is not a URL"),
        (entry(alarm_actions=[7]), r"has alarm_actions: 7 is not a URL"),
        (entry(**{"http://u:hush@h/": 1}), r"has unknown keys: http://h/\. "),
        (entry(alarm_actions=[{"http://u:hush@h/": 1}]), r"has alarm_actions: a mapping or list is not a URL"),
        (entry(alarm_actions=["https:/u:hush@h/"]), r"has alarm_actions: 'https:\*\*\*@h/' has no host"),
        (entry(alarm_actions=["https://u:hu/sh@h/"]), r"has alarm_actions: 'https:\*\*\*@h/' is not a URL"),
        (entry(rule={"threshold": "90"}), r"threshold_rule of 'hot' has threshold '90'\. Write a number"),
        (entry(rule={"threshold": float("nan")}), r"has threshold nan"),
        (entry(rule={"where": "projct = a"}), r"`where` that is not a condition: column 1, .*Did you mean project"),
        (entry(rule={"where": "colour = b"}), r"unknown field 'colour'"),
        (entry(rule={"where": 7}), r"has where 7\. Write a text"),
        (entry(rule={"period": 0}), r"has period 0\. Write a whole number"),
        (entry(rule={"evaluation_periods": 1.5}), r"has evaluation_periods 1\.5"),
        (entry(rule={"statistic": "p99"}), r"has statistic 'p99'"),
        (entry(rule={"comparison_operator": ">"}), r"has comparison_operator '>'"),
        (entry(rule={"meter_name": ""}), r"has no meter_name"),
        (entry(rule={"query": {}}), r"has query that is not a list"),
        (entry(rule={"query": [5]}), r"query: is not a mapping"),
        (entry(rule={"query": [{"field": "timestamp", "value": 1}]}), r"query: has the field timestamp"),
        (entry(rule={"query": [{"field": "resource_id", "op": "like", "value": 1}]}), r"query: has op 'like'"),
    ],
)
def test_an_invalid_alarm_is_rejected_with_file_and_line(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    configure(tmp_path, given)
    with pytest.raises(DefinitionError, match=said) as caught:
        load(tmp_path)
    assert f"{tmp_path}/alarms.yaml:" in str(caught.value)


def test_two_alarms_with_the_same_name_are_rejected(tmp_path: Path) -> None:
    configure(tmp_path, entry("x"), entry("x"))
    with pytest.raises(DefinitionError, match="two alarms are named 'x'"):
        load(tmp_path)


def test_a_broken_file_changes_nothing(watched: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry("a"))
    apply(watched)
    (tmp_path / "alarms.yaml").write_text("alarms: [")
    (fault,) = apply(watched).faults
    assert re.search(r"alarms\.yaml:\d+: is not YAML", str(fault))
    assert states(watched) == {"a": UNKNOWN}
    (said,) = evaluate(watched).faults  # the alarms that it has are evaluated all the same
    assert "is not YAML" in said
    assert states(watched) == {"a": UNKNOWN}
