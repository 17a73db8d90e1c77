"""Alarms by HTTP: what Aodh 23 answers to the same requests, but for what docs/api.md lists."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from api_server import client
from builders import at, land_points, point
from conftest import OpenSite

from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping.apply import apply
from meterhouse.site import Site

ANN = {"X-User-Id": "ann", "X-Project-Id": "shop", "X-Roles": "member,reader"}
BOB = {"X-User-Id": "bob", "X-Project-Id": "bank", "X-Roles": "member,reader"}
ADMIN = {"X-User-Id": "root", "X-Project-Id": "ops", "X-Roles": "admin"}
READER = {**ANN, "X-Roles": "reader"}

RULE = {"meter_name": "cpu_util", "threshold": 80.0, "comparison_operator": "gt", "period": 300}


@pytest.fixture
def ask(site: Site) -> Iterator[httpx.Client]:
    with client(site) as made:
        made.headers.update(ANN)
        yield made


def entry(name: str = "busy", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "threshold", "threshold_rule": RULE, **more}


def event(name: str = "broken", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "event", "event_rule": {"event_type": "compute.*"}, **more}


def made(ask: httpx.Client, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = ask.post("/v2/alarms", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(answer: httpx.Response, status: int, text: str) -> None:
    assert answer.status_code == status, answer.text
    fault = answer.json()["error_message"]
    assert (fault["faultcode"], fault["debuginfo"]) == ("Client", None)
    assert text in fault["faultstring"]


# -- one alarm ----------------------------------------------------------------------------------------------


def test_an_alarm_is_created_shown_changed_and_deleted(ask: httpx.Client) -> None:
    answer = ask.post("/v2/alarms", json=entry(alarm_id="mine", timestamp="2020-01-01T00:00:00", state=None))
    alarm = answer.json()
    path = f"/v2/alarms/{alarm['alarm_id']}"
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{str(ask.base_url).rstrip('/')}{path}")
    own = {"field": "project_id", "op": "eq", "value": "shop"}
    usual = {"statistic": "avg", "evaluation_periods": 1, "exclude_outliers": False}
    moment = alarm["timestamp"]
    assert alarm == {
        "alarm_id": alarm["alarm_id"],
        "name": "busy",
        "type": "threshold",
        "enabled": True,
        "severity": "low",
        "description": "Alarm when cpu_util is gt a avg of 80.0 over 300 seconds",
        "alarm_actions": [],
        "ok_actions": [],
        "insufficient_data_actions": [],
        "repeat_actions": False,
        "time_constraints": [],
        "project_id": "shop",
        "user_id": "ann",
        "evaluate_timestamp": None,
        "timestamp": moment,
        "state_timestamp": moment,
        "state": "insufficient data",
        "state_reason": "Not evaluated yet",
        "threshold_rule": {**RULE, **usual, "query": [own]},
    }
    assert datetime.fromisoformat(moment).tzinfo is None
    assert ask.get(path).json() == alarm
    assert ask.get(f"{path}/").json() == alarm
    # A client reads, changes and writes back; the sentence that was made up is made again.
    alarm["threshold_rule"]["threshold"] = 90
    changed = ask.put(path, json=alarm).json()
    assert changed["description"] == "Alarm when cpu_util is gt a avg of 90.0 over 300 seconds"
    assert changed["timestamp"] > changed["state_timestamp"] == moment
    gone = ask.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    for request in (ask.get(path), ask.put(path, json=entry()), ask.delete(path), ask.get(f"{path}/state")):
        refused(request, 404, f"Alarm {alarm['alarm_id']} not found")
    kinds = [each["type"] for each in ask.get(f"{path}/history").json()]
    assert kinds == ["deletion", "rule change", "creation"]


def test_numbers_flags_and_nulls_come_as_clients_of_the_peers_send_them(ask: httpx.Client) -> None:
    rule = {"metric": "cpu", "resource_id": "r1", "resource_type": "instance", "aggregation_method": "mean"}
    numbers = {"threshold": "70", "granularity": "60", "evaluation_periods": "2"}
    body = {
        "name": "g",
        "type": "gnocchi_resources_threshold",
        "enabled": "False",
        "repeat_actions": 1,
        "severity": None,
        "time_constraints": None,
        "alarm_actions": None,
        "project_id": None,
        "gnocchi_resources_threshold_rule": {**rule, **numbers, "comparison_operator": None},
    }
    alarm = made(ask, body)
    assert (alarm["enabled"], alarm["repeat_actions"], alarm["severity"]) == (False, True, "low")
    shown = {**rule, "threshold": 70.0, "granularity": 60, "evaluation_periods": 2, "comparison_operator": "eq"}
    assert alarm["gnocchi_resources_threshold_rule"] == shown
    assert alarm["description"] == "gnocchi_resources_threshold alarm rule"


def test_rules_are_shown_as_they_were_sent_and_with_the_peers_descriptions(ask: httpx.Client) -> None:
    one, other = (made(ask, entry(name))["alarm_id"] for name in ("a", "b"))
    condition = {"field": "resource_id", "op": "eq", "value": "007", "type": "string"}
    nights = {"name": "nights", "start": "0 23 * * *", "duration": 10}
    for kind, rule, description in (
        ("combination", {"operator": "or", "alarm_ids": [one, other]}, f"Combined state of alarms {one} or {other}"),
        ("event", {"event_type": "*", "query": []}, "Alarm when * event occurred."),
        ("composite", {"and": [{"type": "threshold", **RULE}, {"or": [{"type": "threshold", **RULE}]}]}, "composite"),
        ("absence", {"meter_name": "cpu", "within": 600}, "Alarm when no points of cpu came within 600 seconds"),
    ):
        alarm = made(ask, {"name": kind, "type": kind, f"{kind}_rule": rule, "time_constraints": [nights]})
        assert alarm["description"].startswith(description)
        text = json.dumps(alarm[f"{kind}_rule"])
        assert all(json.dumps(value) in text for value in rule.values() if not isinstance(value, list))
        said = "Time constraint at 0 23 * * * lasting for 10 seconds"
        assert alarm["time_constraints"] == [{**nights, "description": said, "timezone": ""}]
    asked = entry("typed", threshold_rule={**RULE, "query": [condition]})
    assert made(ask, asked)["threshold_rule"]["query"][0] == condition


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Invalid input for field/attribute name. Value: 'None'. Mandatory field missing."),
        ({"name": "x"}, "Invalid input for field/attribute type. Value: 'None'. Mandatory field missing."),
        ({"name": 5, "type": "event", "event_rule": {}}, "attribute name. Value: '5'. Wrong type."),
        ({"name": "x", "type": "event"}, "event_rule must be set for event type alarm"),
        ({"name": "x", "type": "event", "event_rule": None}, "event_rule must be set for event type alarm"),
        ({"name": "x", "type": "nothing", "event_rule": {}}, "type. Value: 'nothing'. Value should be one of: "),
        (event(threshold_rule={}), "threshold_rule must not be set for event type alarm"),
        (event(unknown=1), "Unknown attribute for argument data: unknown"),
        (event(severity="huge"), "severity. Value: 'huge'. Value should be one of: low, moderate, critical"),
        (event(state="nope"), "state. Value: 'nope'. Value should be one of: ok, alarm, insufficient data"),
        (event(enabled="maybe"), "enabled. Value: 'maybe'. Value not an unambiguous boolean"),
        (event(alarm_actions=["ftp://x"]), "'ftp://x' is not an action"),
        (event(alarm_actions=["http://127.0.0.1/"]), "a loopback address"),
        (event(project_id="a\0b"), "Invalid input for field/attribute project_id"),
        (entry(threshold_rule={**RULE, "period": 0}), "Invalid input for field/attribute period. Value: '0'."),
        (entry(threshold_rule={"threshold": 1}), "Invalid input for field/attribute meter_name. Value: 'None'."),
        (entry(threshold_rule={**RULE, "comparison_operator": "is"}), "comparison_operator. Value: 'is'."),
        (entry(threshold_rule={**RULE, "query": [{"field": "timestamp", "value": "x"}]}), "has the field timestamp"),
        (
            entry(threshold_rule={**RULE, "query": [{"field": "user_id", "value": "x", "type": "integer"}]}),
            "has the value 'x', which is no integer",
        ),
        (entry(time_constraints=[{"name": "n", "start": "0 23 * *", "duration": 1}]), "is no cron expression"),
        (entry(time_constraints=[{"name": "n", "start": "0 23 * * *", "duration": -1}]), "duration. Value: '-1'."),
        ({"name": "x", "type": "prometheus", "prometheus_rule": {"query": "up"}}, "has the type prometheus"),
        ([], "The body is []"),
        ("x", "The body is 'x'"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(site: Site, body: Any, text: str) -> None:
    with client(site) as asks:
        refused(asks.post("/v2/alarms", json=body, headers=ANN), 400, text)


def test_a_body_is_json_and_there_are_no_other_arguments_nor_methods(ask: httpx.Client) -> None:
    refused(ask.post("/v2/alarms", content=b"{not"), 400, "not JSON")
    refused(ask.post("/v2/alarms", content=b""), 400, 'Missing argument: "data"')
    refused(ask.post("/v2/alarms", content=b"{}", headers={"Content-Type": "text/plain"}), 415, "Unknown mimetype")
    refused(ask.post("/v2/alarms?dry=1", json=entry()), 400, 'Unknown argument: "dry"')
    path = f"/v2/alarms/{made(ask, entry())['alarm_id']}"
    answer = ask.post(path, json=entry())
    assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE, GET, HEAD, PUT")
    refused(ask.get("/v2/alarms/%00"), 404, "not found")


def test_a_combination_names_alarms_of_its_project_and_no_circle(ask: httpx.Client) -> None:
    one, foreign = made(ask, entry())["alarm_id"], made(ask, entry(), BOB)["alarm_id"]

    def combined(*ids: str) -> dict[str, Any]:
        return {"name": "c", "type": "combination", "combination_rule": {"alarm_ids": list(ids)}}

    for other in (foreign, "00000000-0000-4000-8000-000000000000"):
        refused(ask.post("/v2/alarms", json=combined(one, other)), 404, f"combines the alarm {other}, which does not")
    refused(ask.post("/v2/alarms", json=combined(one, one)), 400, "Name at least two")
    alarm = made(ask, combined(one, made(ask, entry())["alarm_id"]))["alarm_id"]
    circle = ask.put(f"/v2/alarms/{one}", json=combined(alarm, made(ask, entry())["alarm_id"]))
    refused(circle, 400, "combines itself")


# -- who may ------------------------------------------------------------------------------------------------


def test_only_an_administrator_makes_and_gives_away_alarms_of_others(ask: httpx.Client) -> None:
    refused(ask.post("/v2/alarms", json=entry(project_id="bank")), 401, "Not Authorized to access project bank")
    refused(ask.post("/v2/alarms", json=entry(user_id="bob")), 401, "Not Authorized to access user bob")
    refused(ask.post("/v2/alarms", json=event(alarm_actions=["log://"])), 401, "not authorized to create action: log")
    bank = {**RULE, "query": [{"field": "project_id", "op": "eq", "value": "bank"}]}
    refused(ask.post("/v2/alarms", json=entry(threshold_rule=bank)), 401, "Not Authorized to access project bank")
    both = {"or": [{"and": [{"type": "threshold", **bank}] * 2}, {"type": "threshold", **RULE}]}
    composite = {"name": "both", "type": "composite", "composite_rule": both}
    refused(ask.post("/v2/alarms", json=composite), 401, "Not Authorized to access project bank")
    own = ask.put(f"/v2/alarms/{made(ask, entry('own'))['alarm_id']}", json=entry("own", threshold_rule=bank))
    refused(own, 401, "Not Authorized to access project bank")
    alarm = made(ask, entry(project_id="bank", user_id="bob"), ADMIN)
    assert (alarm["project_id"], alarm["user_id"]) == ("bank", "bob")
    assert alarm["threshold_rule"]["query"] == [{"field": "project_id", "op": "eq", "value": "bank"}]
    path = f"/v2/alarms/{alarm['alarm_id']}"
    kept = ask.put(path, json=entry("kept", project_id="shop", user_id="ann"), headers=BOB).json()
    assert (kept["name"], kept["project_id"], kept["user_id"]) == ("kept", "bank", "bob")
    given = ask.put(path, json=entry(project_id="shop"), headers=ADMIN).json()
    assert (given["project_id"], given["user_id"]) == ("shop", "bob")
    assert given["threshold_rule"]["query"] == [{"field": "project_id", "op": "eq", "value": "shop"}]
    refused(ask.get(path, headers=BOB), 404, "not found")
    assert ask.get(path).status_code == 200


def test_readers_read_and_alarms_without_a_project_are_nobodys(ask: httpx.Client) -> None:
    path = f"/v2/alarms/{made(ask, entry())['alarm_id']}"
    assert ask.get(path, headers=READER).status_code == 200
    for answer in (
        ask.post("/v2/alarms", json=entry(), headers=READER),
        ask.put(path, json=entry(), headers=READER),
        ask.put(f"{path}/state", json="ok", headers=READER),
        ask.delete(path, headers=READER),
    ):
        refused(answer, 403, "takes the role member")
    nobody = {"X-User-Id": "eve", "X-Roles": "member"}
    made(ask, entry("operators"), {"X-Roles": "admin", "X-User-Id": "", "X-Project-Id": ""})
    ask.headers.clear()
    assert ask.get("/v2/alarms", headers=nobody).json() == []
    refused(ask.post("/v2/alarms", json=entry(), headers=nobody), 403, "without a project")


def test_alarms_of_files_are_shown_and_changed_in_their_file_alone(open_site: OpenSite, tmp_path: Path) -> None:
    declared = {"alarms": [{"name": "of-file", "threshold_rule": RULE}]}
    (tmp_path / "alarms.yaml").write_text(yaml.safe_dump(declared))
    site = open_site(config_dir=tmp_path)
    apply(site)
    with client(site) as ask:
        (alarm,) = ask.get("/v2/alarms").json()
        path = f"/v2/alarms/{alarm['alarm_id']}"
        for answer in (ask.put(path, json=entry()), ask.delete(path)):
            refused(answer, 403, "Alarm 'of-file' is declared in a file of METERHOUSE_CONFIG_DIR. Change it there")
        assert ask.put(f"{path}/state", json="ok").json() == "ok"
        assert ask.get("/v2/alarms", headers=ANN).json() == []
        refused(ask.get(path, headers=ANN), 404, "not found")


# -- state and history --------------------------------------------------------------------------------------


def test_a_state_is_a_text_of_json(ask: httpx.Client) -> None:
    path = f"/v2/alarms/{made(ask, entry(state='ok'))['alarm_id']}"
    assert ask.get(f"{path}/state").json() == "ok"
    assert ask.put(f"{path}/state", json="alarm").json() == "alarm"
    shown = ask.get(path).json()
    assert (shown["state"], shown["state_reason"]) == ("alarm", "Manually set via API")
    for content in (b'"ALARM"', b'{"state": "ok"}', b"5", b"null", b'["ok"]'):
        refused(ask.put(f"{path}/state", content=content), 400, "state invalid")
    refused(ask.put(f"{path}/state", content=b"ok"), 400, "not JSON")
    refused(ask.put(f"{path}/state", content=b""), 400, 'Missing argument: "state"')
    refused(ask.put(f"{path}/state", json="ok", headers=BOB), 404, "not found")
    # A change keeps the state, unless it has one.
    assert ask.put(path, json=entry("other")).json()["state"] == "alarm"
    assert ask.put(path, json=entry("other", state="ok")).json()["state"] == "ok"


def test_history_has_what_changed_by_whom_and_for_whom(ask: httpx.Client) -> None:
    alarm = made(ask, entry(alarm_actions=["https://user:secret@hooks.example.org/"]))
    path = f"/v2/alarms/{alarm['alarm_id']}"
    ask.put(f"{path}/state", json="ok", headers=ADMIN)
    ask.put(path, json=entry("new name"))
    ask.put(path, json=entry("new name"))  # nothing changes, so nothing is noted
    rows = ask.get(f"{path}/history").json()
    assert [each["type"] for each in rows] == ["rule change", "state transition", "creation"]
    changed, moved, created = rows
    assert json.loads(changed["detail"]) == {"name": "new name", "alarm_actions": []}
    assert json.loads(moved["detail"]) == {"state": "ok", "transition_reason": "Manually set via API"}
    assert json.loads(created["detail"])["alarm_actions"] == ["https://hooks.example.org/"]
    assert "only_project" not in created["detail"]
    whom = ("user_id", "project_id", "on_behalf_of")
    assert [moved[key] for key in whom] == ["root", "ops", "shop"]
    assert [created[key] for key in whom] == ["ann", "shop", "shop"]

    def kinds(query: str) -> list[str]:
        return [each["type"] for each in ask.get(f"{path}/history?{query}").json()]

    assert kinds("q.field=type&q.value=creation") == ["creation"]
    assert kinds("q.field=user_id&q.value=ann&limit=1") == ["rule change"]
    assert kinds(f"marker={changed['event_id']}") == ["state transition", "creation"]
    assert kinds("sort=timestamp:asc&limit=1") == ["creation"]
    assert kinds(f"q.field=timestamp&q.op=lt&q.value={moved['timestamp']}") == ["creation"]
    assert kinds(f"q.field=timestamp&q.op=ge&q.value={moved['timestamp']}") == ["rule change", "state transition"]
    refused(ask.get(f"{path}/history?q.field=project_id&q.value=bank"), 401, "Not Authorized to access project bank")
    refused(ask.get(f"{path}/history?q.field=alarm_id&q.value=x"), 400, 'Unknown argument: "alarm_id"')
    refused(ask.get(f"{path}/history?q.field=type&q.op=ne&q.value=x"), 400, "Unimplemented operator for type")
    refused(ask.get(f"{path}/history?marker=x"), 400, "Give the id of the last one of the page before")
    refused(ask.get(f"{path}/history", headers=BOB), 404, "not found")
    refused(ask.get(f"{path}/history/{created['event_id']}"), 404, "Not Found")  # no transition
    refused(ask.get(f"{path}/history/{moved['event_id']}", headers=BOB), 404, "Not Found")


def test_an_explanation_shows_the_samples_of_the_callers_project(site: Site) -> None:
    """Although an administrator's alarm may see more, which another one of his project may look at."""
    land_points(site, [point(90.0, at(-1), meter="cpu_util", project=each) for each in ("ops", "bank")])
    with client(site) as ask:
        alarm = made(ask, entry(threshold_rule={**RULE, "period": 60}), ADMIN)
        evaluate(site, at())
        path = f"/v2/alarms/{alarm['alarm_id']}/history"
        moved = ask.get(path, headers=ADMIN).json()[0]
        assert json.loads(moved["detail"])["state"] == "alarm"
        why = f"{path}/{moved['event_id']}"
        answers = [ask.get(why, headers={**ADMIN, "X-Roles": role}).json() for role in ("admin", "member")]
    projects = [sorted(each["project_id"] for each in answer["samples"]) for answer in answers]
    assert projects == [["bank", "ops"], ["ops"]]


# -- lists --------------------------------------------------------------------------------------------------


@pytest.fixture
def listed(any_warehouse: Site) -> Iterator[httpx.Client]:
    """Four alarms of shop, and one of bank."""
    with client(any_warehouse) as ask:
        ask.headers.update(ANN)
        for body in (
            event("a1", severity="critical"),
            event("b1", enabled=False),
            event("c1", state="ok", repeat_actions=True),
            event("c2", severity="moderate", state="alarm", description="own"),
        ):
            made(ask, body)
        made(ask, event("z1"), BOB)
        yield ask


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["name"] for each in answer.json()]


def test_lists_are_filtered_sorted_and_paged(listed: httpx.Client) -> None:
    def found(query: str, headers: dict[str, str] | None = None) -> list[str]:
        return names(listed.get(f"/v2/alarms?{query}", headers=headers))

    everything = ["c2", "c1", "b1", "a1"]
    for query, expected in (
        ("", everything),
        ("q.field=name&q.op=eq&q.value=c1", ["c1"]),
        ("q.field=type&q.value=event", everything),
        ("q.field=type&q.value=threshold", []),
        ("q.field=enabled&q.value=true", ["c2", "c1", "a1"]),
        ("q.field=enabled&q.value=False&q.type=boolean", ["b1"]),
        ("q.field=state&q.value=ok", ["c1"]),
        ("q.field=severity&q.value=low", ["c1", "b1"]),
        ("q.field=repeat_actions&q.value=True", ["c1"]),
        ("q.field=user_id&q.value=ann", everything),
        ("q.field=project_id&q.value=shop", everything),
        ("q.field=all_projects&q.value=false", everything),
        ("q.field=name&q.field=severity&q.op=eq&q.op=eq&q.value=c2&q.value=moderate", ["c2"]),
        ("q[0].field=name&q[0].value=c1", ["c1"]),
        ("sort=name", ["a1", "b1", "c1", "c2"]),
        ("sort=name:desc&limit=2", ["c2", "c1"]),
        ("sort=severity:desc&sort=name", ["a1", "c2", "b1", "c1"]),
        ("sort=enabled&sort=name:desc", ["b1", "c2", "c1", "a1"]),
        ("sort=state:asc&sort=name:asc", ["c2", "a1", "b1", "c1"]),
        ("sort=repeat_actions:desc&sort=timestamp:asc", ["c1", "a1", "b1", "c2"]),
    ):
        assert found(query) == expected, query
    first = listed.get("/v2/alarms?sort=name&limit=1").json()[0]
    assert found(f"q.field=timestamp&q.value={first['timestamp']}") == ["a1"]
    # Pages follow from one another, whatever the order; the values of keys repeat.
    for sort in (
        "timestamp:desc",
        "severity&sort=name:desc",
        "state:desc&sort=enabled",
        "type",
        "user_id:desc",
        "name",
    ):
        pages, marker = [], ""
        while page := listed.get(f"/v2/alarms?sort={sort}&limit=1{marker}").json():
            pages.append(page[0]["name"])
            marker = f"&marker={page[0]['alarm_id']}"
        assert pages == found(f"sort={sort}"), sort
    # An administrator sees his own project's, if he does not ask for others.
    assert found("", ADMIN) == []
    assert found("q.field=all_projects&q.value=true", ADMIN) == ["z1", *everything]
    assert found("q.field=project_id&q.value=bank", ADMIN) == ["z1"]
    other = listed.get("/v2/alarms", headers=BOB).json()[0]["alarm_id"]
    for query, status, text in (
        ("q.field=all_projects&q.value=true", 403, "takes the role admin"),
        ("q.field=project_id&q.value=bank", 401, "Not Authorized to access project bank"),
        ("q.field=alarm_id&q.value=x", 400, "Invalid input for field/attribute field. Value: 'alarm_id'. only fields"),
        ("q.field=name&q.op=ne&q.value=c1", 400, "Invalid input for field/attribute op. Value: 'ne'."),
        ("q.field=enabled&q.value=maybe", 400, "convert the value maybe to the expected data type boolean"),
        ("q.field=timestamp&q.value=nope", 400, "Value: 'nope'"),
        ("sort=description", 400, "Invalid input for field/attribute sort. Value: 'description'. the sort parameter"),
        ("sort=name:up", 400, "Value: 'name:up'"),
        ("limit=0", 400, "Limit must be positive"),
        ("limit=x", 400, "Invalid input for field/attribute limit. Value: 'x'."),
        (f"marker={other}", 400, f"there is no alarm '{other}'"),
        ("marker=%00", 400, "marker"),
        ("foo=bar", 400, 'Unknown argument: "foo"'),
    ):
        refused(listed.get(f"/v2/alarms?{query}"), status, text)


def test_complex_queries_see_the_own_project(listed: httpx.Client) -> None:
    def found(condition: Any, order: Any = None, headers: dict[str, str] | None = None, **more: Any) -> list[str]:
        body = {"filter": json.dumps(condition), **more} if condition else more
        body |= {"orderby": json.dumps(order)} if order else {}
        return names(listed.post("/v2/query/alarms", json=body, headers=headers))

    everything = ["c2", "c1", "b1", "a1"]
    for condition, expected in (
        (None, everything),
        ({"=": {"name": "c1"}}, ["c1"]),
        ({"!=": {"name": "c1"}}, ["c2", "b1", "a1"]),
        ({"=<": {"name": "b1"}}, ["b1", "a1"]),
        ({"in": {"name": ["a1", "b1", "z1"]}}, ["b1", "a1"]),
        ({"=~": {"name": "^c"}}, ["c2", "c1"]),
        ({"AND": [{"=": {"enabled": True}}, {"NOT": {"=": {"state": "ok"}}}]}, ["c2", "a1"]),
        ({"or": [{"=": {"repeat_actions": "true"}}, {"in": {"enabled": [False]}}]}, ["c1", "b1"]),
        ({"!=": {"repeat_actions": True}}, ["c2", "b1", "a1"]),
        ({">": {"timestamp": "2020-01-01T00:00:00"}}, everything),
        ({"=": {"description": "own"}}, ["c2"]),
        ({"=": {"description": "Alarm when compute.* event occurred."}}, ["c1", "b1", "a1"]),
        ({"=": {"state_reason": "Not evaluated yet"}}, everything),
        ({">": {"evaluate_timestamp": "2020-01-01"}}, []),
        ({"in": {"project_id": ["shop"]}}, everything),
    ):
        assert found(condition) == expected, condition
    assert found(None, [{"name": "asc"}]) == everything[::-1]
    assert found(None, [{"severity": "DESC"}, {"name": "desc"}], limit=3) == ["a1", "c2", "c1"]
    assert found(None, [{"evaluate_timestamp": "asc"}, {"name": "asc"}], limit="2") == ["a1", "b1"]
    assert found(None, headers=ADMIN) == ["z1", *everything]
    for condition in ({"=": {"project_id": "bank"}}, {"not": {"=": {"project": "bank"}}}, {"=~": {"project": ".*"}}):
        body = {"filter": json.dumps({"or": [condition, {"=": {"name": "a1"}}]})}
        refused(listed.post("/v2/query/alarms", json=body), 401, "Not Authorized to access project")
    for body, text in (
        ({"filter": json.dumps({"=": {"nope": 1}})}, "Unknown field 'nope'"),
        ({"filter": json.dumps({">": {"enabled": True}})}, "a flag is compared by = or !="),
        ({"filter": json.dumps({"=": {"enabled": "maybe"}})}, "neither true nor false"),
        ({"filter": "nope"}, "It is not JSON"),
        ({"orderby": json.dumps([{"name": "up"}])}, "Write asc or desc"),
        ({"limit": 0}, "Limit must be positive"),
        ({"bogus": 1}, "bogus"),
    ):
        refused(listed.post("/v2/query/alarms", json=body), 400, text)
    refused(listed.post("/v2/query/alarms", content=b""), 400, 'Missing argument: "body"')


def test_complex_queries_of_the_history_see_what_happened_on_behalf_of_the_own_project(listed: httpx.Client) -> None:
    def found(condition: Any = None, headers: dict[str, str] | None = None, **more: Any) -> list[str]:
        body = {"filter": json.dumps(condition), **more} if condition else more
        answer = listed.post("/v2/query/alarms/history", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return [json.loads(each["detail"]).get("name", each["type"]) for each in answer.json()]

    alarm = listed.get("/v2/alarms?q.field=name&q.value=a1").json()[0]["alarm_id"]
    listed.put(f"/v2/alarms/{alarm}/state", json="ok", headers=ADMIN)
    everything = ["state transition", "c2", "c1", "b1", "a1"]
    for condition, expected in (
        (None, everything),
        ({"=": {"alarm_id": alarm}}, ["state transition", "a1"]),
        ({"=": {"type": "state transition"}}, ["state transition"]),
        ({"=": {"project_id": "ops"}}, ["state transition"]),
        ({"=": {"on_behalf_of": "shop"}}, everything),
        ({"and": [{"=": {"user_id": "ann"}}, {"=": {"severity": "low"}}]}, ["c1", "b1"]),
        ({"<": {"timestamp": "2020-01-01"}}, []),
    ):
        assert found(condition) == expected, condition
    assert found(orderby=json.dumps([{"timestamp": "asc"}]), limit=1) == ["a1"]
    assert found({"=": {"on_behalf_of": "bank"}}, ADMIN) == ["z1"]
    body = {"filter": json.dumps({"!=": {"on_behalf_of": "bank"}})}
    refused(listed.post("/v2/query/alarms/history", json=body), 401, "Not Authorized to access project bank")


# -- quotas -------------------------------------------------------------------------------------------------


def test_quotas_bound_the_alarms_of_a_project(ask: httpx.Client) -> None:
    def quota(limit: Any, **more: Any) -> dict[str, Any]:
        return {"project_id": "shop", "quotas": [{"resource": "alarms", "limit": limit}], **more}

    path = f"/v2/alarms/{made(ask, entry())['alarm_id']}"
    assert ask.get("/v2/quotas").json() == quota(-1)
    answer = ask.post("/v2/quotas", json=quota("1"), headers=ADMIN)
    assert (answer.status_code, answer.json()) == (201, quota(1))
    assert ask.get("/v2/quotas?project_id=shop").json() == quota(1)
    refused(ask.post("/v2/alarms", json=entry()), 403, "Alarm quota exceeded for user ann on project shop")
    assert ask.put(path, json=entry("changed")).status_code == 200
    refused(ask.get("/v2/quotas?project_id=bank"), 403, "quota of project bank")
    refused(ask.post("/v2/quotas", json=quota(5)), 403, "takes the role admin")
    refused(ask.delete("/v2/quotas/shop"), 403, "takes the role admin")
    for body, text in (
        (quota(-2), "limit. Value: '-2'. Value should be greater or equal to -1"),
        (quota("x"), "Invalid input for field/attribute limit"),
        ({"quotas": []}, "project_id. Value: 'None'. Mandatory field missing"),
        ({"project_id": "shop", "quotas": [{"resource": "apples", "limit": 1}]}, "Value should be one of: alarms"),
        (quota(1, x=1), "Unknown attribute for argument body: x"),
        ([], "The body is []"),
    ):
        refused(ask.post("/v2/quotas", json=body, headers=ADMIN), 400, text)
    for _ in range(2):
        assert ask.delete("/v2/quotas/shop", headers=ADMIN).status_code == 204
    made(ask, entry())
