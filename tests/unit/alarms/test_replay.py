"""A back-test gives exactly what the live evaluation gave, over points as they were known at each cycle."""

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite

from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.callers import OPERATOR
from meterhouse.alarms.replay import asked, fast, run
from meterhouse.alarms.replay.comparing import differences
from meterhouse.alarms.replay.drawn import svg
from meterhouse.errors import UsageError
from meterhouse.site import Site

BUSY = {"meter_name": "cpu_util", "threshold": 60.0, "comparison_operator": "gt", "period": 300}


def entry(name: str, kind: str, rule: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, f"{kind}_rule": rule, **more}


def configure(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "alarms.yaml"
    path.write_text(yaml.safe_dump({"alarms": list(entries)}))
    return path


@pytest.fixture
def watched(open_site: OpenSite, tmp_path: Path) -> Site:
    configure(tmp_path)
    return open_site(config_dir=tmp_path)


def replayed(site: Site, name: str, start: datetime, end: datetime, every: int) -> run.Replayed:
    key, given = asked.of_site(site, name)
    return run.replay(site, given, run.cycles(start, end, every), every)[key]


def a_day(rng: random.Random) -> list[dict[str, Any]]:
    """Points of a day of three series: waves, a gap, late ones, copies and values that no processor has."""
    found = []
    for resource in range(3):
        for minute in range(0, 24 * 60, 5):
            if 600 <= minute < 700 or rng.random() < 0.1:
                continue
            when = at(minute + rng.uniform(0, 4))
            value = 60 + 30 * rng.uniform(-1, 1) + (30 if 200 < minute < 320 else -20 if 900 < minute < 1000 else 0)
            if rng.random() < 0.05:
                value = rng.choice([1e9, float("nan"), -5.0])
            late = rng.choice([0.1, 0.2, 1, 3, 12, 90])
            found.append(
                point(
                    value, when, meter="cpu_util", resource=f"r{resource}", recorded_at=when + timedelta(minutes=late)
                )
            )
            if rng.random() < 0.05:  # again, with another value, which wins
                again = {"meter": "cpu_util", "resource": f"r{resource}"}
                found.append(point(value / 2, when, recorded_at=when + timedelta(minutes=late + 7), **again))
    return sorted(found, key=lambda each: each["recorded_at"])


def test_a_replay_of_a_day_equals_its_live_evaluation(watched: Site, tmp_path: Path) -> None:
    every, hours = 1800, 24
    nights = {"name": "nights", "start": "0 20 * * *", "duration": 6 * 3600}
    configure(
        tmp_path,
        entry("mean", "threshold", {**BUSY, "evaluation_periods": 2}),
        entry("thin", "threshold", {**BUSY, "evaluation_periods": 3, "exclude_outliers": True}),
        entry("r1", "threshold", {**BUSY, "query": [{"field": "resource_id", "op": "eq", "value": "r1"}]}),
        entry("nights", "threshold", BUSY, time_constraints=[nights]),
        entry("silent", "absence", {"meter_name": "cpu_util", "within": 900, "of": "any"}),
        entry("both", "combination", {"alarms": ["mean", "r1"]}),
        entry(
            "joined",
            "composite",
            {"or": [{"type": "threshold", **BUSY}, {"type": "threshold", **BUSY, "statistic": "min"}]},
        ),
        entry(
            "aligned",
            "gnocchi_aggregation_by_resources_threshold",
            {
                "metric": "cpu_util",
                "query": '{"like": {"id": "r%"}}',
                "resource_type": "instance",
                "aggregation_method": "max",
                "comparison_operator": "gt",
                "threshold": 80,
                "granularity": 300,
            },
        ),
    )
    points = a_day(random.Random(14))
    moments = run.cycles(at(), at(hours * 60), every)
    live: dict[str, list[tuple[datetime, str, str]]] = {}
    for moment in moments:
        known = [each for each in points if each["recorded_at"] <= moment]
        points = points[len(known) :]
        if known:
            land_points(watched, known)
        for name, before, after in evaluate(watched, moment).transitions:
            live.setdefault(name, []).append((moment, before, after))
    land_points(watched, points)  # what came later does not matter
    reasons = {
        (name, times.parse(str(when))): why
        for name, when, why in warehouse_rows(
            watched,
            "SELECT a.name, h.timestamp, json_extract(h.detail, '$.transition_reason') FROM alarm_history AS h "
            "JOIN alarms AS a ON a.alarm_id = h.alarm_id WHERE h.type = 'state transition'",
        )
    }
    assert {name: len(changes) > 2 for name, changes in live.items()} == dict.fromkeys(
        ("mean", "thin", "r1", "nights", "both", "joined", "aligned", "silent"), True
    )
    given = asked.of_file(watched, tmp_path / "alarms.yaml")[1]
    played = {each.alarm.name: each for each in run.replay(watched, given, moments, every).values()}
    for name, changes in live.items():
        found = played[name]
        assert [(each.at, each.previous, each.state) for each in found.changes] == changes, name
        assert [each.reason for each in found.changes] == [reasons[name, each.at] for each in found.changes]


def test_a_replayed_absence_misses_no_series_before_its_first_point_came(watched: Site, tmp_path: Path) -> None:
    """The catalog of now knows the series r2, that of then did not."""
    points = [
        *(point(1.0, at(5 * n), meter="cpu_util") for n in range(40)),
        *(point(1.0, at(60 + 5 * n), meter="cpu_util", resource="r2") for n in range(6)),
    ]
    silent = {"meter_name": "cpu_util", "within": 600, "of": "any", "known_for": 1800}
    path = configure(tmp_path, entry("silent", "absence", silent))
    moments = run.cycles(at(5), at(200), 300)
    live = []
    for moment in moments:
        land_points(watched, [each for each in points if moment - timedelta(minutes=5) < each["recorded_at"] <= moment])
        live += [(moment, after) for _, _, after in evaluate(watched, moment).transitions]
    assert [state for _, state in live] == ["ok", "alarm", "ok"]  # and at last r2 is forgotten
    (key,), given = asked.of_file(watched, path)
    assert [(each.at, each.state) for each in run.replay(watched, given, moments, 300)[key].changes] == live


def test_two_versions_of_a_rule_are_compared_span_by_span(watched: Site, tmp_path: Path) -> None:
    land_points(watched, [point(50.0 + 10 * n, at(5 * n), meter="cpu_util") for n in range(5)])
    path = configure(tmp_path, entry("a", "threshold", BUSY), entry("b", "threshold", {**BUSY, "threshold": 80}))
    ids, given = asked.of_file(watched, path)
    moments = run.cycles(at(), at(30), 300)
    one, other = (run.replay(watched, given, moments, 300)[key] for key in ids)
    found = differences(one, other)
    assert [(each.start, each.end, each.one, each.other) for each in found] == [(at(10), at(20), "alarm", "ok")]
    assert one.seconds("alarm") - other.seconds("alarm") == 600
    assert differences(one, one) == []


def test_the_picture_shows_values_threshold_and_alarms(watched: Site, tmp_path: Path) -> None:
    land_points(watched, [point(50.0 + 10 * n, at(5 * n), meter="cpu_util") for n in range(5)])
    path = configure(tmp_path, entry("<a & b>", "threshold", BUSY))
    ids, given = asked.of_file(watched, path)
    drawn = svg([run.replay(watched, given, run.cycles(at(), at(30), 60), 60)[ids[0]]])
    assert "&lt;a &amp; b&gt;: 1 alarms" in drawn
    assert drawn.count("<title>alarm</title>") == 1
    from xml.etree import ElementTree

    assert ElementTree.fromstring(drawn).tag.endswith("svg")


def test_a_fast_replay_is_near(watched: Site, tmp_path: Path) -> None:
    values = [40.0] * 12 + [90.0] * 12 + [40.0] * 12
    land_points(watched, [point(value, at(5 * n), meter="cpu_util") for n, value in enumerate(values)])
    path = configure(tmp_path, entry("a", "threshold", BUSY))
    ids, given = asked.of_file(watched, path)
    moments = run.cycles(at(), at(180), 60)
    exact, near = (play(watched, given, moments, 60)[ids[0]] for play in (run.replay, fast.replay))
    assert near.seconds("alarm") == pytest.approx(exact.seconds("alarm"), abs=600)
    assert near.seconds("alarm") > 3000


def test_in_hindsight_points_count_that_were_loaded_later(watched: Site, tmp_path: Path) -> None:
    known = {"meter": "cpu_util", "recorded_at": at(days=2)}
    land_points(watched, [point(value, at(5 * n), **known) for n, value in enumerate((40.0, 90.0, 90.0, 40.0))])
    ids, given = asked.of_file(watched, configure(tmp_path, entry("a", "threshold", BUSY)))
    moments = run.cycles(at(), at(20), 300)
    then, now = (play(watched, given, moments, 300)[ids[0]] for play in (run.replay, run.hindsight))
    assert then.changes == []
    assert [change.state for change in now.changes] == ["ok", "alarm", "ok"]


def test_a_replay_is_bounded_and_says_what_it_cannot_do(watched: Site, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the span has 527,040 cycles of 60 s"):
        run.cycles(at(), at(days=366), 60)
    made = managed.create(watched, entry("e", "event", {"event_type": "compute.*"}), OPERATOR)
    with pytest.raises(UsageError, match="waits for events"):
        replayed(watched, made["alarm_id"], at(), at(1), 60)
