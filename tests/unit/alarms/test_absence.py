"""Absence alarms: an event, or the points of a series, that do not come in time."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import at, land_points, notification, point, warehouse_rows
from conftest import OpenSite
from event_steps import come, declare, states

from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.evaluation.events import evaluate_events
from meterhouse.site import Site

UNKNOWN = "insufficient data"


@pytest.fixture
def site(open_site: OpenSite, tmp_path: Path) -> Site:
    return open_site(config_dir=tmp_path)


def alarm(name: str = "a", **rule: Any) -> dict[str, Any]:
    more = {key: rule.pop(key) for key in ("repeat_actions",) if key in rule}
    rule = {"within": 600, **rule}
    actions = {"alarm_actions": ["log://"], "ok_actions": ["log://"]}
    return {"name": name, "type": "absence", "absence_rule": rule, **actions, **more}


def reasons(site: Site) -> list[dict[str, Any]]:
    """What the outbox holds."""
    found = [json.loads(body) for (body,) in warehouse_rows(site, "SELECT body FROM deliveries ORDER BY sequence")]
    return [{name: each[name] for name in ("current", "reason", "reason_data")} for each in found]


def backup(message_id: str, when: Any, **more: Any) -> dict[str, Any]:
    return notification(message_id, "backup.done", timestamp=when.strftime("%Y-%m-%d %H:%M:%S.%f"), **more)


# -- events -------------------------------------------------------------------------------------------------


def test_an_event_that_does_not_come_in_time_fires_and_its_coming_ends_it(
    any_warehouse: Site, open_site: OpenSite, tmp_path: Path
) -> None:
    site = open_site(warehouse_url=any_warehouse.settings.warehouse, config_dir=tmp_path)
    begun = times.now()
    declare(site, alarm(event_type="backup.*"))
    evaluate(site, begun + timedelta(minutes=5))
    assert states(site) == {"a": UNKNOWN}  # it waits for as long as events may take
    come(site, backup("m1", begun))
    assert evaluate_events(site).transitions == [("a", UNKNOWN, "ok")]
    assert evaluate(site, begun + timedelta(minutes=10)).transitions == []
    done = evaluate(site, begun + timedelta(minutes=10, seconds=1))
    assert done.transitions == [("a", "ok", "alarm")]
    come(site, backup("m2", times.now()))
    assert evaluate_events(site).transitions == [("a", "alarm", "ok")]
    assert evaluate_events(site).transitions == []
    first, fired, ended = reasons(site)
    assert fired["reason"] == (
        f"Transition to alarm due to no backup.* event within 600 seconds, last: {times.text(begun)}"
    )
    assert fired["reason_data"] == {"type": "absence", "last": times.text(begun), "silent": ["backup.*"], "count": 1}
    assert first["reason"].startswith("Transition to ok due to event <id=m1,event_type=backup.done>")
    assert ended["reason_data"]["type"] == "absence"
    assert ended["reason_data"]["silent"] == []


def test_an_event_that_never_came_fires_after_its_time(site: Site) -> None:
    begun = times.now()
    declare(site, alarm(event_type="backup.done"))
    come(site, notification("other"))
    evaluate(site, begun + timedelta(minutes=11))
    assert states(site) == {"a": "alarm"}
    (fired,) = reasons(site)
    assert fired["reason_data"] == {"type": "absence", "last": None, "silent": ["backup.done"], "count": 1}


def test_conditions_choose_the_event_that_has_to_come(site: Site) -> None:
    begun = times.now()
    of_host = [{"field": "traits.project_id", "op": "eq", "value": "p2"}]
    declare(site, alarm("a", event_type="*", query=of_host), alarm("b", event_type="*"))
    come(site, backup("m1", begun))
    evaluate(site, begun + timedelta(minutes=9))
    assert states(site) == {"a": UNKNOWN, "b": "ok"}
    come(site, backup("m2", begun, payload={"tenant_id": "p2"}))
    evaluate(site, begun + timedelta(minutes=9))
    assert states(site) == {"a": "ok", "b": "ok"}


def test_a_late_event_from_before_the_span_ends_nothing(site: Site) -> None:
    begun = times.now()
    declare(site, alarm(event_type="backup.done"))
    evaluate(site, begun + timedelta(minutes=11))
    come(site, backup("m1", begun - timedelta(hours=2)))
    assert evaluate_events(site).transitions == []
    assert evaluate(site, begun + timedelta(minutes=12)).transitions == []
    assert states(site) == {"a": "alarm"}


def test_a_clock_that_is_ahead_hides_an_absence_until_the_arrival_hour_ends(site: Site) -> None:
    begun = times.now()
    declare(site, alarm(event_type="backup.done"))
    come(site, backup("m1", begun + timedelta(days=300)))
    assert evaluate_events(site).transitions == [("a", UNKNOWN, "ok")]
    end = times.hour_of(times.now()) + times.HOUR
    evaluate(site, end + timedelta(minutes=10))
    assert states(site) == {"a": "ok"}
    evaluate(site, end + timedelta(minutes=10, seconds=1))
    assert states(site) == {"a": "alarm"}


def test_an_absence_that_repeats_tells_of_it_each_time(site: Site) -> None:
    begun = times.now()
    declare(site, alarm(event_type="backup.done", repeat_actions=True))
    for minutes in (11, 12):
        evaluate(site, begun + timedelta(minutes=minutes))
    assert [each["reason"].partition(" due")[0] for each in reasons(site)] == [
        "Transition to alarm",
        "Remaining as alarm",
    ]


# -- points -------------------------------------------------------------------------------------------------


def test_a_series_that_falls_silent_fires_and_its_next_point_ends_it(site: Site) -> None:
    declare(site, alarm("any", meter_name="m", of="any"), alarm("all", meter_name="m", of="all"))
    land_points(site, [point(1.0, at(0), resource="r1"), point(1.0, at(5), resource="r2")])
    evaluate(site, at(6))
    assert states(site) == {"all": "ok", "any": "ok"}
    done = evaluate(site, at(11))
    assert done.transitions == [("any", "ok", "alarm")]
    told = reasons(site)[-1]
    assert told["reason"] == ("Transition to alarm due to no points of 1 of 2 series of m within 600 seconds")
    assert told["reason_data"]["last"] == times.text(at(0))
    assert told["reason_data"]["count"] == 1
    assert [each["last"] for each in told["reason_data"]["silent"]] == [times.text(at(0))]
    assert evaluate(site, at(16)).transitions == [("all", "ok", "alarm")]
    land_points(site, [point(1.0, at(16), resource="r1")])
    assert evaluate(site, at(17)).transitions == [("all", "alarm", "ok")]
    land_points(site, [point(1.0, at(17), resource="r2")])
    assert evaluate(site, at(18)).transitions == [("any", "alarm", "ok")]


def test_a_bad_point_does_not_end_an_absence(site: Site) -> None:
    declare(site, alarm("a", meter_name="cpu_util", of="any"))
    land_points(site, [point(1.0, at(0), meter="cpu_util", unit="%")])
    evaluate(site, at(5))
    land_points(site, [point(-70.0, at(12), meter="cpu_util", unit="%")])
    evaluate(site, at(14))
    assert states(site) == {"a": "alarm"}
    assert reasons(site)[-1]["reason_data"]["last"] == times.text(at(0))


def test_a_series_that_nobody_knows_any_more_is_not_missed(site: Site) -> None:
    declare(site, alarm("a", meter_name="m", of="any", known_for=7200))
    land_points(site, [point(1.0, at(0), resource="gone"), point(1.0, at(hours=5), resource="r1")])
    evaluate(site, at(1, hours=5))
    assert states(site) == {"a": "ok"}
    evaluate(site, at(hours=12))
    assert states(site) == {"a": UNKNOWN}


def test_conditions_choose_the_series_that_have_to_come(site: Site) -> None:
    of_project = [{"field": "project_id", "op": "eq", "value": "p2"}]
    described = [{"field": "metadata.host", "op": "eq", "value": "nowhere"}]
    declare(
        site,
        alarm("a", meter_name="m", of="any", query=of_project),
        alarm("b", meter_name="m", of="any", where="resource_id = 'r1'"),
        alarm("c", meter_name="m", of="any", query=described),
    )
    land_points(site, [point(1.0, at(0), resource="r1"), point(1.0, at(9), resource="r2", project="p2")])
    evaluate(site, at(11))
    assert states(site) == {"a": "ok", "b": "alarm", "c": UNKNOWN}
