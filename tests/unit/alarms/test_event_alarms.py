"""Event alarms: each event that comes fires each alarm that it is about once, as Aodh fires it."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import notification, warehouse_rows
from conftest import OpenSite
from event_steps import alarm, come, declare, states
from sqlalchemy import update

from meterhouse import times
from meterhouse.alarms.evaluation import events as module
from meterhouse.alarms.evaluation.cycle import evaluate_all
from meterhouse.alarms.evaluation.events import evaluate_events
from meterhouse.alarms.keeping import silences
from meterhouse.archive.compaction import compact
from meterhouse.errors import Damaged, WentBack
from meterhouse.site import Site
from meterhouse.stores.lake_tables import EVENTS
from meterhouse.stores.warehouse_tables import alarms

UNKNOWN = "insufficient data"


@pytest.fixture
def site(open_site: OpenSite, tmp_path: Path) -> Site:
    return open_site(config_dir=tmp_path)


@pytest.fixture
def any_warehouse(any_warehouse: Site, open_site: OpenSite, tmp_path: Path) -> Site:
    return open_site(warehouse_url=any_warehouse.settings.warehouse, config_dir=tmp_path)


def history(site: Site) -> list[dict[str, Any]]:
    rows = warehouse_rows(site, "SELECT detail FROM alarm_history WHERE type = 'state transition' ORDER BY sequence")
    return [json.loads(detail) for (detail,) in rows]


def told(site: Site) -> list[tuple[str, str, str, str]]:
    """What the outbox holds: alarm, previous, current, message_id."""
    bodies = [json.loads(body) for (body,) in warehouse_rows(site, "SELECT body FROM deliveries ORDER BY sequence")]
    return [
        (each["alarm_name"], each["previous"], each["current"], each["reason_data"]["event"]["message_id"])
        for each in bodies
    ]


def test_an_event_fires_the_alarms_that_are_about_it(any_warehouse: Site) -> None:
    site = any_warehouse
    of_instance = {"field": "traits.project_id", "op": "eq", "value": "p1"}
    declare(site, alarm("a", "compute.*", of_instance), alarm("b", "volume.*"))
    come(site, notification("m1", "compute.instance.delete.end"))
    done = evaluate_events(site)
    assert (done.events, done.alarms, done.notifications) == (1, 2, 1)
    assert done.transitions == [("a", UNKNOWN, "alarm")]
    assert states(site) == {"a": "alarm", "b": UNKNOWN}
    (entry,) = history(site)
    assert entry["state"] == "alarm"
    assert entry["transition_reason"] == (
        "Event <id=m1,event_type=compute.instance.delete.end> hits the query <query="
        '[{"field": "traits.project_id", "op": "eq", "type": "string", "value": "p1"}]>.'
    )
    assert entry["event"]["message_id"] == "m1"
    (body,) = [json.loads(body) for (body,) in warehouse_rows(site, "SELECT body FROM deliveries")]
    data = body["reason_data"]
    assert data["type"] == "event"
    assert sorted(data["event"]) == ["event_type", "generated", "message_id", "traits"]
    assert ["project_id", "text", "p1"] in data["event"]["traits"]


def test_an_alarm_that_fired_ignores_further_events_unless_it_repeats(site: Site) -> None:
    declare(site, alarm("once"), alarm("always", repeat_actions=True))
    come(site, notification("m1", "compute.a"), notification("m2", "compute.b"))
    evaluate_events(site)
    come(site, notification("m3", "compute.c"))
    evaluate_events(site)
    assert told(site) == [
        ("always", UNKNOWN, "alarm", "m1"),
        ("once", UNKNOWN, "alarm", "m1"),
        ("always", "alarm", "alarm", "m2"),
        ("always", "alarm", "alarm", "m3"),
    ]
    # Each event of one that repeats is in the history, as Aodh has it.
    assert [each["event"]["message_id"] for each in history(site)] == ["m1", "m1", "m2", "m3"]
    reasons = dict(warehouse_rows(site, "SELECT name, state_reason FROM alarms"))
    assert "<id=m3," in reasons["always"]
    assert "<id=m1," in reasons["once"]


def test_a_silenced_alarm_is_fired_and_tells_nobody(site: Site) -> None:
    declare(site, alarm("a", repeat_actions=True), alarm("b"))
    present = times.now()
    made = silences.add(site, silences.Silence("a", present - times.HOUR, present + times.HOUR, "ann", "moving"))
    come(site, notification("m1", "compute.a"))
    assert len(evaluate_events(site).transitions) == 2
    assert [name for name, *_ in told(site)] == ["b"]
    assert [each.get("silenced_by") for each in history(site)] == [made.silence_id, None]
    silences.end(site, made.silence_id)
    come(site, notification("m2", "compute.a"))
    evaluate_events(site)
    assert [(name, message) for name, *_, message in told(site)] == [("b", "m1"), ("a", "m2")]


def test_an_alarm_that_was_set_back_fires_for_the_next_event(site: Site) -> None:
    declare(site, alarm())
    come(site, notification("m1", "compute.a"))
    evaluate_events(site)
    with site.warehouse.begin() as connection:
        connection.execute(update(alarms).values(state="ok"))
    assert evaluate_events(site).transitions == []
    come(site, notification("m2", "compute.a"))
    assert evaluate_events(site).transitions == [("a", "ok", "alarm")]


def test_a_new_alarm_sees_what_comes_from_its_creation_on(site: Site) -> None:
    come(site, notification("before", "compute.a"))
    declare(site, alarm("a", repeat_actions=True))
    come(site, notification("after", "compute.a"))
    evaluate_events(site)
    assert [message for *_, message in told(site)] == ["after"]
    # Another one, while events wait for evaluation.
    come(site, notification("waits", "compute.a"))
    declare(site, alarm("a", repeat_actions=True), alarm("b", repeat_actions=True))
    come(site, notification("comes", "compute.a"))
    evaluate_events(site)
    assert [(name, message) for name, *_, message in told(site)] == [
        ("a", "after"),
        ("a", "waits"),
        ("a", "comes"),
        ("b", "comes"),
    ]


def test_a_site_without_such_alarms_follows_nothing(site: Site) -> None:
    declare(site, alarm())
    come(site, notification("m1", "compute.a"))
    evaluate_events(site)
    declare(site)
    come(site, notification("m2", "compute.a"))
    evaluate_events(site)
    assert warehouse_rows(site, "SELECT follower FROM followed WHERE follower = 'event_alarms'") == []
    declare(site, alarm("a", repeat_actions=True))
    evaluate_events(site)
    assert [message for *_, message in told(site)] == ["m1"]
    come(site, notification("m3", "compute.a"))
    evaluate_events(site)
    assert [message for *_, message in told(site)] == ["m1", "m3"]


def test_an_event_that_comes_again_fires_nothing(
    open_site: OpenSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(redelivery_hours=1, config_dir=tmp_path)
    declare(site, alarm("a", repeat_actions=True), alarm("once"))
    come(site, notification("m1", "compute.a"))
    evaluate_events(site)
    come(site, notification("m1", "compute.a"))
    assert evaluate_events(site).events == 0
    with site.warehouse.begin() as connection:
        connection.execute(update(alarms).values(state="ok"))
    present = times.now
    monkeypatch.setattr(times, "now", lambda: present() + timedelta(hours=5))
    come(site, notification("m1", "compute.a"))  # the landing has forgotten it
    done = evaluate_events(site)
    assert (done.events, done.notifications, done.transitions) == (1, 0, [])


def test_pieces_are_evaluated_as_one(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVENTS_AT_ONCE", "FIRST_EVENTS", "IDS_AT_ONCE"):
        monkeypatch.setattr(module, name, 2)
    declare(site, alarm("a", repeat_actions=True), alarm("once"), alarm("none", "x.*"))
    for number in range(3):
        come(site, *(notification(f"m{number}{n}", "compute.a") for n in range(5)))
    evaluate_events(site)
    assert [message for name, *_, message in told(site) if name == "a"] == [
        f"m{number}{n}" for number in range(3) for n in range(5)
    ]
    assert [message for name, *_, message in told(site) if name == "once"] == ["m00"]


def test_an_alarm_outside_of_its_time_constraints_sees_nothing(site: Site) -> None:
    night = {"name": "never", "start": "0 0 30 2 *", "duration": 1}
    declare(site, alarm("a", time_constraints=[{**night, "start": "0 0 29 2 *"}]), alarm("b"))
    come(site, notification("m1", "compute.a"))
    assert evaluate_events(site).transitions == [("b", UNKNOWN, "alarm")]


def test_a_damaged_definition_affects_no_other_alarm(site: Site) -> None:
    declare(site, alarm("a"), alarm("b"))
    with site.warehouse.begin() as connection:
        connection.execute(update(alarms).where(alarms.c.name == "a").values(definition='{"name": "a"'))
    come(site, notification("m1", "compute.a"))
    assert evaluate_events(site).transitions == [("b", UNKNOWN, "alarm")]


def test_alarms_from_outside_see_the_events_of_their_project(site: Site) -> None:
    declare(site, alarm("a"), alarm("b"))
    with site.warehouse.begin() as connection:
        connection.execute(update(alarms).where(alarms.c.name == "a").values(origin="outside", project_id="p2"))
    come(site, notification("m1", "compute.a"))
    assert evaluate_events(site).transitions == [("b", UNKNOWN, "alarm")]
    come(site, notification("m2", "compute.a", payload={"tenant_id": "p2"}))
    assert evaluate_events(site).transitions == [("a", UNKNOWN, "alarm")]


def test_a_cycle_catches_up_with_events(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(site, alarm("a"), alarm("b", "volume.*"))
    come(site, notification("m1", "compute.a"))
    done = evaluate_all(site)
    assert (done.transitions, done.notifications, done.faults) == ([("a", UNKNOWN, "alarm")], 1, [])
    assert evaluate_all(site).transitions == []

    def damaged(*given: object) -> None:
        raise Damaged("a data file of the lake's table events is missing")

    monkeypatch.setattr("meterhouse.alarms.evaluation.cycle.evaluate_events", damaged)
    done = evaluate_all(site)
    assert done.alarms == 2
    assert done.faults == ["event alarms cannot be evaluated: a data file of the lake's table events is missing"]


def test_events_that_were_compacted_before_they_were_evaluated_fire_once(
    open_site: OpenSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(config_dir=tmp_path, vacuum_hours=0)
    present = times.now()
    monkeypatch.setattr(times, "now", lambda: present)
    declare(site, alarm("a", repeat_actions=True))
    come(site, notification("m1", "compute.a"))
    evaluate_events(site)
    come(site, notification("m2", "compute.a"))
    come(site, notification("m3", "compute.a"))
    monkeypatch.setattr(times, "now", lambda: present + timedelta(hours=2))
    compact(site)
    site.lake.vacuum("events", 0)
    come(site, notification("m4", "compute.a"))
    evaluate_events(site)
    assert [message for *_, message in told(site)] == ["m1", "m2", "m3", "m4"]


def test_a_lake_that_went_back_fires_no_event_again(site: Site, tmp_path: Path) -> None:
    declare(site, alarm("a", repeat_actions=True))
    come(site, notification("m1", "compute.a"))
    copy = tmp_path / "copy"
    shutil.copytree(site.lake.url, copy)
    come(site, notification("m2", "compute.a"))
    evaluate_events(site)
    shutil.rmtree(site.lake.url)
    shutil.copytree(copy, site.lake.url)
    again = Site.open(site.settings)
    with pytest.raises(WentBack):
        come(again, notification("m3", "compute.a"))
    for letter in ("m2", "m3"):  # as `doctor --mend` converts them
        again.lake.append("events", rows_of(letter))
    evaluate_events(again)
    assert [message for *_, message in told(site)] == ["m1", "m2", "m3"]


def rows_of(message_id: str) -> pa.Table:
    """An event as the lake has it."""
    present = times.now()
    row = {
        "arrival_hour": times.arrival_hour(present),
        "message_id": message_id,
        "event_type": "compute.a",
        "generated": present,
        "traits": [],
        "raw": None,
    }
    return pa.Table.from_pylist([row], EVENTS)
