"""The minute's cycle: what is late, missed, idle, or done by two at once."""

import json
import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import at, drop, land_points, notification, point, warehouse_rows
from conftest import OpenSite
from sqlalchemy import text

from meterhouse import times
from meterhouse.alarms.evaluation import decisions, loading, rule_cache
from meterhouse.alarms.evaluation.evaluate import MISSED, due_moments, evaluate
from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.apply import apply
from meterhouse.alarms.keeping.callers import OPERATOR
from meterhouse.alarms.keeping.states import alarm, history
from meterhouse.collection.collect import collect
from meterhouse.doctor.steps import evaluations
from meterhouse.site import Site
from meterhouse.stores.warehouse import Warehouse

UNKNOWN = "insufficient data"
RULE = {"meter_name": "m", "threshold": 50, "comparison_operator": "gt", "period": 60}


def configure(folder: Path, *entries: dict[str, Any]) -> None:
    (folder / "alarms.yaml").write_text(yaml.safe_dump({"alarms": list(entries)}))


def entry(name: str = "a", *, rule: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "threshold_rule": {**RULE, **(rule or {})}, **more}


def states(site: Site) -> dict[str, str]:
    return dict(warehouse_rows(site, "SELECT name, state FROM alarms ORDER BY name"))


def entries(site: Site, kind: str) -> list[dict[str, Any]]:
    return [json.loads(row["detail"]) for row in history(site, "a", 50, OPERATOR) if row["type"] == kind]


@pytest.fixture
def watched(any_warehouse: Site, open_site: OpenSite, tmp_path: Path) -> Site:
    configure(tmp_path, entry())
    return open_site(config_dir=tmp_path, warehouse_url=any_warehouse.settings.warehouse)


# -- thin windows -------------------------------------------------------------------------------------------


def waiting(site: Site, seconds: float) -> Path:
    """A file of the spool that has waited for so long."""
    path = drop(site.settings.spool, f"{seconds}.jsonl", [notification("m1")])
    past = time.time() - seconds
    os.utime(path, (past, past))
    return path


def test_only_while_intake_is_behind_a_thin_window_keeps_its_state(watched: Site) -> None:
    land_points(watched, [point(60.0, at(-0.5))])
    evaluate(watched, at())
    assert states(watched) == {"a": "alarm"}
    waiting(watched, 500)
    done = [evaluate(watched, at(minute)) for minute in (5, 6, 7)]
    assert [(each.transitions, each.held) for each in done] == [([], 1)] * 3
    assert states(watched) == {"a": "alarm"}
    (held,) = entries(watched, "state held")  # one entry, not one a minute
    assert held["state"] == "alarm"
    assert held["reason"].startswith("Remaining as alarm: 1 datapoints are unknown, and intake is 500 s behind: 1 wait")
    assert alarm(watched, "a", OPERATOR)["held_since"] == at(5)
    collect(watched)
    assert evaluate(watched, at(8)).transitions == [("a", "alarm", UNKNOWN)]
    assert alarm(watched, "a", OPERATOR)["held_since"] is None
    assert len(entries(watched, "state held")) == 1


def test_a_hold_ends_with_points_and_a_later_one_is_told_again(watched: Site) -> None:
    land_points(watched, [point(60.0, at(-0.5)), point(60.0, at(9.5))])
    evaluate(watched, at())
    waiting(watched, 500)
    for minute in (5, 10, 20, 21):
        assert evaluate(watched, at(minute)).held == (minute != 10)
    assert len(entries(watched, "state held")) == 2
    assert states(watched) == {"a": "alarm"}


@pytest.mark.parametrize("seconds", [30.0, 0.0])
def test_a_thin_window_says_insufficient_data_if_intake_is_not_behind(watched: Site, seconds: float) -> None:
    land_points(watched, [point(60.0, at(-0.5))])
    evaluate(watched, at())
    waiting(watched, seconds)
    assert evaluate(watched, at(5)).transitions == [("a", "alarm", UNKNOWN)]


def test_one_period_is_enough_with_the_quorum_of_icehouse(open_site: OpenSite, tmp_path: Path) -> None:
    configure(tmp_path, entry(rule={"evaluation_periods": 3}))
    points = [point(60.0, at(-0.5)), point(10.0, at(60))]
    for quorum, expected in (("kilo", UNKNOWN), ("icehouse", "alarm")):
        site = open_site(config_dir=tmp_path, alarm_quorum=quorum)
        land_points(site, points)
        evaluate(site, at())
        assert states(site) == {"a": expected}
    reason = warehouse_rows(site, "SELECT state_reason FROM alarms")[0][0]
    assert reason == "Transition to alarm due to 1 samples outside threshold, most recent: 60.0"
    evaluate(site, at(10))
    assert warehouse_rows(site, "SELECT state_reason FROM alarms") == [("3 datapoints are unknown",)]


# -- missed minutes -----------------------------------------------------------------------------------------


def test_missed_minutes_are_due_in_order_and_bounded() -> None:
    def minutes(last: float | None, now: float) -> list[float]:
        moments = due_moments(None if last is None else at(last), at(now))
        return [(moment - at()) / timedelta(minutes=1) for moment in moments]

    assert minutes(None, 0) == [0]
    assert minutes(0, 1) == [1]
    assert minutes(0, 1.4) == [1.4]
    assert minutes(0, 3) == [1, 2, 3]
    assert minutes(0, 3.6) == [1, 2, 3, 3.6]
    assert minutes(0, 1000.2) == [*range(1000 - MISSED + 1, 1000), 1000.2]
    assert minutes(5, 0) == [0]  # the clock was set back


def test_what_fired_and_ceased_in_missed_minutes_is_heard_of(watched: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = at()

    def present() -> datetime:
        return now

    monkeypatch.setattr(times, "now", present)
    land_points(watched, [point(10.0 if minute not in (2, 3) else 99.0, at(minute - 0.2)) for minute in range(-1, 7)])
    assert evaluate(watched).cycles == 1
    now = at(6)
    done = evaluate(watched)
    assert done.cycles == 6
    assert done.transitions == [("a", "ok", "alarm"), ("a", "alarm", "ok")]
    told = warehouse_rows(watched, "SELECT timestamp FROM alarm_history WHERE type = 'state transition' ORDER BY 1")
    assert len(told) == 3
    assert alarm(watched, "a", OPERATOR)["transitions"][0]["timestamp"] == at(4)


# -- two at once --------------------------------------------------------------------------------------------


def test_two_evaluators_at_once_notify_once(watched: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(tmp_path, entry(repeat_actions=True, alarm_actions=["log://"], rule={"period": 86_400}))
    land_points(watched, [point(60.0, times.now() - timedelta(minutes=1))])
    real, inside = decisions.windows, threading.Event()

    def slowly(*given: Any) -> Any:
        inside.set()
        time.sleep(0.3)
        return real(*given)

    monkeypatch.setattr(decisions, "windows", slowly)
    other = Site(watched.settings, Warehouse.from_settings(watched.settings))
    first = threading.Thread(target=lambda: evaluate(watched))
    first.start()
    assert inside.wait(30)
    second = evaluate(other)
    first.join()
    other.warehouse.engine.dispose()
    assert (second.cycles, second.alarms, dict(second.states)) == (0, 1, {"alarm": 1})
    assert warehouse_rows(watched, "SELECT count(*) FROM deliveries") == [(1,)]


# -- idle cycles, and what is kept from one to the next -----------------------------------------------------


def test_a_cycle_without_points_keeps_the_time_in_one_row_and_reads_no_definition(
    watched: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_points(watched, [point(1.0, at(-50)), point(1.0, at(-0.5), meter="other")])
    evaluate(watched, at())
    evaluate(watched, at(1))
    with monkeypatch.context() as patched:
        patched.setattr(loading, "load", lambda *_: 1 / 0)
        done = evaluate(watched, at(2))
    assert (done.alarms, dict(done.states), done.cycles) == (1, {UNKNOWN: 1}, 1)
    assert alarm(watched, "a", OPERATOR)["evaluate_timestamp"] == at(2)
    land_points(watched, [point(60.0, at(2.5))])
    assert evaluate(watched, at(3)).transitions == [("a", UNKNOWN, "alarm")]
    assert warehouse_rows(watched, "SELECT count(*) FROM alarm_cycles") == [(1,)]
    (finding,) = evaluations(watched)
    assert finding.part == "evaluations"


def test_a_new_alarm_was_never_evaluated_until_it_is(watched: Site, tmp_path: Path) -> None:
    evaluate(watched, at())
    made = managed.create(watched, {"name": "b", "type": "threshold", "threshold_rule": RULE}, OPERATOR)
    assert alarm(watched, made["alarm_id"], OPERATOR)["evaluate_timestamp"] is None
    evaluate(watched, at(1))
    assert alarm(watched, made["alarm_id"], OPERATOR)["evaluate_timestamp"] == at(1)
    evaluate(watched, at(2))
    managed.change(watched, made["alarm_id"], {"enabled": False}, OPERATOR)
    configure(tmp_path, entry(enabled=False), entry("c"))
    apply(watched)
    evaluate(watched, at(3))
    assert alarm(watched, made["alarm_id"], OPERATOR)["evaluate_timestamp"] == at(2)
    assert alarm(watched, "a", OPERATOR)["evaluate_timestamp"] == at(2)
    assert alarm(watched, "c", OPERATOR)["evaluate_timestamp"] == at(3)


def test_what_definitions_say_is_kept_until_one_changes(
    watched: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = [{"field": "metadata.x", "op": "eq", "value": "1"}, {"field": "resource", "op": "ne", "value": "r9"}]
    night = [{"name": "night", "start": "0 0 * * *", "duration": 3600}]
    configure(
        tmp_path,
        entry("a"),
        entry("b", rule={"where": "resource = r1 or project = p2", "statistic": "max"}),
        entry("c", rule={"query": query}),
        entry("d", time_constraints=night),
        entry("e", repeat_actions=True, rule={"exclude_outliers": True, "evaluation_periods": 2}),
    )
    land_points(watched, [point(60.0, at(-0.5))])
    evaluate(watched, at())
    before = states(watched)
    assert before == {"a": "alarm", "b": "alarm", "c": UNKNOWN, "d": UNKNOWN, "e": UNKNOWN}
    home = watched.settings.home_path
    (home / rule_cache.FILE).unlink()
    with watched.warehouse.read() as connection:
        fresh = loading.load(connection, home)
        kept = rule_cache.read(home, connection)
    assert kept is not None
    assert kept.alarms == fresh.alarms
    for name in ("at", "threshold", "operator", "repeat", "constraint"):
        assert getattr(kept.rules, name).tolist() == getattr(fresh.rules, name).tolist()
    assert kept.rules.constraints == fresh.rules.constraints
    some, others = kept.rules.requests, fresh.rules.requests
    assert (some.names, some.keys, some.resources) == (others.names, others.keys, others.resources)
    for name in ("meter", "statistic", "period", "keep", "look_back", "exclude_outliers", "aligned", "over"):
        assert getattr(some, name).tolist() == getattr(others, name).tolist()
    assert [(s.form, s.by_metadata, s.numbers.tolist(), list(s.values)) for s in some.shapes] == [
        (s.form, s.by_metadata, s.numbers.tolist(), list(s.values)) for s in others.shapes
    ]
    land_points(watched, [point(60.0, at(0.5))])
    evaluate(watched, at(1))
    assert states(watched) == {**before, "e": "alarm"}
    configure(tmp_path, entry("a", rule={"threshold": 70}), entry("b"))
    land_points(watched, [point(60.0, at(1.5))])
    evaluate(watched, at(2))
    assert states(watched) == {"a": "ok", "b": "alarm"}


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_damaged_file_of_what_is_kept_is_written_again(watched: Site, damage: bytes | None) -> None:
    path = watched.settings.home_path / rule_cache.FILE
    land_points(watched, [point(60.0, at(-0.5)), point(1.0, at(0.5))])
    evaluate(watched, at())
    whole = path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    evaluate(watched, at(1))
    assert states(watched) == {"a": "ok"}
    assert len(path.read_bytes()) > len(whole) // 2


def test_another_warehouse_of_the_same_home_has_its_own_alarms(watched: Site, open_site: OpenSite) -> None:
    land_points(watched, [point(60.0, at(-0.5))])
    evaluate(watched, at())
    with watched.warehouse.begin() as connection:  # as after a restore: the same numbers, other entries
        connection.execute(text("UPDATE alarm_history SET event_id = 'other-' || event_id"))
        connection.execute(text("UPDATE alarms SET definition = replace(definition, '50', '90')"))
    land_points(watched, [point(60.0, at(0.5))])
    assert evaluate(watched, at(1)).transitions == [("a", "alarm", "ok")]
