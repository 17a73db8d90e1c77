"""Alarms from outside: owners, tenancy, quotas, states and silences."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite

from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping import managed, quotas, silences
from meterhouse.alarms.keeping.apply import apply
from meterhouse.alarms.keeping.callers import OPERATOR, Caller
from meterhouse.alarms.keeping.silences import Silence
from meterhouse.alarms.keeping.states import alarm as shown
from meterhouse.alarms.keeping.states import alarm_list, history
from meterhouse.errors import DefinitionError, NotAllowed, OverQuota, UnknownKeyword, UnknownName, UsageError
from meterhouse.site import Site

UNKNOWN = "insufficient data"
BUSY = {"meter_name": "cpu_util", "threshold": 90, "comparison_operator": "gt", "period": 60}
ANN, BOB = Caller("ann", "p1"), Caller("bob", "p2")
HOOK = "https://hooks.example.org/a"


def entry(name: str = "busy", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "threshold", "threshold_rule": BUSY, **more}


def configure(folder: Path, *entries: dict[str, Any]) -> None:
    (folder / "alarms.yaml").write_text(yaml.safe_dump({"alarms": list(entries)}))


def states(site: Site) -> dict[str, str]:
    return {row["alarm_id"]: row["state"] for row in alarm_list(site, OPERATOR)}


@pytest.fixture
def watched(open_site: OpenSite, tmp_path: Path) -> Site:
    configure(tmp_path)
    return open_site(config_dir=tmp_path)


# -- owner and origin ---------------------------------------------------------------------------------------


def test_alarms_from_outside_have_random_ids_and_owners_and_may_share_a_name(watched: Site) -> None:
    one, other = (managed.create(watched, entry(), who) for who in (ANN, BOB))
    assert one["alarm_id"] != other["alarm_id"]
    assert [(each["project_id"], each["user_id"], each["origin"]) for each in (one, other)] == [
        ("p1", "ann", "outside"),
        ("p2", "bob", "outside"),
    ]
    assert (one["state"], one["state_reason"]) == (UNKNOWN, "Not evaluated yet")
    with pytest.raises(UsageError, match="2 alarms are named 'busy'"):
        shown(watched, "busy", OPERATOR)
    assert shown(watched, "busy", ANN)["alarm_id"] == one["alarm_id"]


def test_neither_kind_deletes_the_other(watched: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry("of-file"))
    apply(watched)
    made = managed.create(watched, entry("of-file"), ANN)  # a name of a file alarm is no obstacle
    configure(tmp_path)
    assert apply(watched).deleted == 1
    assert set(states(watched)) == {made["alarm_id"]}
    configure(tmp_path, entry("of-file"))
    apply(watched)
    assert managed.remove(watched, made["alarm_id"], OPERATOR) == made["alarm_id"]
    assert [row["origin"] for row in alarm_list(watched, OPERATOR)] == ["file"]


def test_an_alarm_of_a_file_is_changed_in_the_file_alone(watched: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry("of-file"))
    apply(watched)
    for attempt in (
        lambda: managed.change(watched, "of-file", {"enabled": False}, OPERATOR),
        lambda: managed.remove(watched, "of-file", OPERATOR),
    ):
        with pytest.raises(DefinitionError, match=r"declared in a file.*alarms\.yaml"):
            attempt()
    assert managed.set_state(watched, "of-file", "ok", OPERATOR)["state"] == "ok"


def test_a_dry_run_shows_what_differs_and_changes_nothing(watched: Site, tmp_path: Path) -> None:
    configure(tmp_path, entry("a"), entry("b"))
    apply(watched)
    configure(tmp_path, entry("a", severity="critical"), entry("c"))
    done = apply(watched, dry_run=True)
    assert sorted(done.drift) == [("changed", "a", "severity"), ("created", "c", ""), ("deleted", "b", "")]
    assert [row["name"] for row in alarm_list(watched, OPERATOR)] == ["a", "b"]


# -- tenancy ------------------------------------------------------------------------------------------------


def test_a_tenant_sees_and_changes_the_alarms_of_its_project_alone(watched: Site) -> None:
    made = managed.create(watched, entry(), ANN)
    assert alarm_list(watched, BOB) == []
    for attempt in (
        lambda: shown(watched, made["alarm_id"], BOB),
        lambda: managed.change(watched, made["alarm_id"], {"enabled": False}, BOB),
        lambda: managed.remove(watched, made["alarm_id"], BOB),
        lambda: managed.set_state(watched, made["alarm_id"], "ok", BOB),
        lambda: history(watched, made["alarm_id"], 10, BOB),
    ):
        with pytest.raises(UnknownName):
            attempt()
    assert len(alarm_list(watched, OPERATOR)) == 1


def test_who_has_no_project_sees_and_owns_nothing(watched: Site, tmp_path: Path) -> None:
    """Alarms without a project are the operator's, not those of a token without a project."""
    nobody = Caller("eve")
    configure(tmp_path, entry("declared"))
    apply(watched)
    made = managed.create(watched, entry("ops"), OPERATOR)
    assert alarm_list(watched, nobody) == []
    asked: list[Callable[[str], object]] = [
        lambda wanted: shown(watched, wanted, nobody),
        lambda wanted: history(watched, wanted, 10, nobody),
        lambda wanted: managed.change(watched, wanted, {"enabled": False}, nobody),
        lambda wanted: managed.set_state(watched, wanted, "ok", nobody),
        lambda wanted: managed.remove(watched, wanted, nobody),
    ]
    for ask in asked:
        for wanted in ("declared", made["alarm_id"]):
            with pytest.raises(UnknownName):
                ask(wanted)
    with pytest.raises(NotAllowed, match="without a project"):
        managed.create(watched, entry(), nobody)


def test_only_an_administrator_creates_for_others(watched: Site) -> None:
    with pytest.raises(NotAllowed, match="Not Authorized to access project p2"):
        managed.create(watched, entry(), ANN, project_id="p2")
    made = managed.create(watched, entry(), Caller("root", "admin", admin=True), project_id="p2", user_id="bob")
    assert (made["project_id"], made["user_id"]) == ("p2", "bob")
    (first,) = history(watched, made["alarm_id"], 10, OPERATOR)
    assert (first["type"], first["user_id"], first["project_id"], first["on_behalf_of"]) == (
        *("creation", "root"),
        *("admin", "p2"),
    )
    assert [each["type"] for each in history(watched, made["alarm_id"], 10, BOB)] == ["creation"]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("threshold", {**BUSY, "statistic": "max"}),
        ("threshold", {**BUSY, "statistic": "max", "where": "project = p2 or project = p1"}),
        ("composite", {"or": [{"type": "threshold", **BUSY, "statistic": "max"}]}),
        (
            "gnocchi_aggregation_by_resources_threshold",
            {
                "metric": "cpu_util",
                "query": '{"!=": {"id": "nobody"}}',
                "resource_type": "instance",
                "aggregation_method": "max",
                "comparison_operator": "gt",
                "threshold": 90,
            },
        ),
    ],
)
def test_an_alarm_of_a_tenant_sees_samples_of_its_project_alone(watched: Site, kind: str, rule: dict[str, Any]) -> None:
    land_points(
        watched,
        [
            point(10.0, at(-0.5), meter="cpu_util", resource="r1", project="p1"),
            point(99.0, at(-0.5), meter="cpu_util", resource="r2", project="p2"),
        ],
    )
    given = {
        "name": "a",
        "type": kind,
        f"{kind}_rule": {**rule, **({"statistic": "max"} if kind == "threshold" else {})},
    }
    of_ann, of_bob, of_all = (managed.create(watched, given, who)["alarm_id"] for who in (ANN, BOB, OPERATOR))
    evaluate(watched, at())
    assert states(watched) == {of_ann: "ok", of_bob: "alarm", of_all: "alarm"}


def test_an_administrator_of_the_project_does_not_open_the_alarm_of_a_tenant_to_others(watched: Site) -> None:
    land_points(watched, [point(95.0, at(-0.5), meter="cpu_util", project="p2")])
    ratio = {"numerator": {"meter_name": "cpu_util"}, "denominator": {"meter_name": "cpu_util"}, "threshold": 0}
    for kind, rule in (("threshold", BUSY), ("ratio", ratio)):
        made = managed.create(watched, {"name": kind, "type": kind, f"{kind}_rule": rule}, ANN)
        changed = managed.change(watched, made["alarm_id"], {f"{kind}_rule": rule}, Caller("root", "p1", admin=True))
        assert changed["definition"]["only_project"] == "p1"
    assert evaluate(watched, at()).transitions == []


def test_a_tenant_combines_its_own_alarms_alone(watched: Site) -> None:
    mine, another = (managed.create(watched, entry(), who)["alarm_id"] for who in (ANN, BOB))
    both = {"name": "c", "type": "combination", "combination_rule": {"alarm_ids": [mine, another]}}
    refusals = []
    for each in (another, "no-such-alarm"):
        rule = {"alarm_ids": [mine, each]}
        with pytest.raises(DefinitionError, match=f"combines the alarm {each}, which does not exist") as refused:
            managed.create(watched, {**both, "combination_rule": rule}, ANN)
        refusals.append(str(refused.value).replace(each, "it"))
    assert refusals[0] == refusals[1]  # so nobody learns which alarms others have
    managed.create(watched, both, OPERATOR)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest",
        "https://[::1]:9/",
        "http://10.1.2.3/",
        "http://[::ffff:0:7f00:1]/",
    ],
)
def test_a_tenant_does_not_reach_the_control_plane(watched: Site, url: str) -> None:
    with pytest.raises(DefinitionError, match="leads to"):
        managed.create(watched, entry(alarm_actions=[url]), ANN)
    with pytest.raises(DefinitionError, match="leads to"):
        managed.create(watched, entry(alarm_actions=[url]), OPERATOR)


def test_a_tenant_does_not_write_to_the_log(watched: Site) -> None:
    with pytest.raises(NotAllowed, match=r"You are not authorized to create action: log://"):
        managed.create(watched, entry(alarm_actions=["log://"]), ANN)
    with pytest.raises(NotAllowed, match="You are not authorized to create action: test://x"):
        managed.create(watched, entry(alarm_actions=["TEST://x"]), ANN)
    managed.create(watched, entry(alarm_actions=["log://"]), OPERATOR)


# -- changes, states and history ----------------------------------------------------------------------------


def test_a_change_keeps_the_other_fields_and_the_state(watched: Site) -> None:
    made = managed.create(watched, entry(severity="critical", alarm_actions=[HOOK]), ANN)
    managed.set_state(watched, made["alarm_id"], "alarm", ANN)
    changed = managed.change(watched, made["alarm_id"], {"enabled": False}, ANN)
    assert (changed["enabled"], changed["severity"], changed["state"]) == (False, "critical", "alarm")
    assert changed["definition"]["alarm_actions"] == [HOOK]
    managed.change(watched, made["alarm_id"], {"enabled": False}, ANN)  # no change: no entry
    kinds = [(each["type"], json.loads(each["detail"])) for each in history(watched, made["alarm_id"], 10, ANN)]
    assert [kind for kind, _ in kinds] == ["rule change", "state transition", "creation"]
    assert kinds[0][1] == {"enabled": False}
    assert kinds[1][1] == {"state": "alarm", "transition_reason": "Manually set via API"}
    whole = managed.change(watched, made["alarm_id"], entry("renamed"), ANN, whole=True)
    assert (whole["name"], whole["severity"], whole["enabled"]) == ("renamed", "low", True)


def test_a_change_that_cannot_work_changes_nothing(watched: Site) -> None:
    made = managed.create(watched, entry(), ANN)
    with pytest.raises(DefinitionError, match="severity 'odd'"):
        managed.change(watched, made["alarm_id"], {"severity": "odd"}, ANN)
    with pytest.raises(DefinitionError, match="has unknown keys: colour"):
        managed.change(watched, made["alarm_id"], {"colour": "red"}, ANN)
    with pytest.raises(DefinitionError, match="is not a mapping"):
        managed.change(watched, made["alarm_id"], ["enabled"], ANN)
    assert shown(watched, made["alarm_id"], ANN)["severity"] == "low"


def test_a_state_is_set_without_notifying_anybody(watched: Site) -> None:
    made = managed.create(watched, entry(alarm_actions=[HOOK]), ANN)
    managed.set_state(watched, made["alarm_id"], "alarm", ANN)
    assert warehouse_rows(watched, "SELECT count(*) FROM deliveries") == [(0,)]
    with pytest.raises(UnknownKeyword, match="unknown state 'odd'"):
        managed.set_state(watched, made["alarm_id"], "odd", ANN)


def test_the_history_stays_after_the_deletion(watched: Site) -> None:
    made = managed.create(watched, entry(), ANN)
    managed.remove(watched, made["alarm_id"], ANN)
    kinds = [each["type"] for each in history(watched, made["alarm_id"], 10, ANN)]
    assert kinds == ["deletion", "creation"]
    with pytest.raises(UnknownName):
        history(watched, made["alarm_id"], 10, BOB)


# -- quotas -------------------------------------------------------------------------------------------------


def test_a_quota_bounds_the_alarms_of_a_project(open_site: OpenSite, tmp_path: Path) -> None:
    configure(tmp_path)
    site = open_site(config_dir=tmp_path, alarm_project_quota=2, alarm_user_quota=3)
    for who in (ANN, Caller("zoe", "p1"), BOB):
        managed.create(site, entry(), who)
    with pytest.raises(OverQuota, match="for user ann on project p1: the project has 2 alarms of 2"):
        managed.create(site, entry(), ANN)
    quotas.set_quota(site, "p1", 4, OPERATOR)
    managed.create(site, entry(), ANN)
    managed.create(site, entry(), ANN)
    assert quotas.quota(site, "p1", OPERATOR) == quotas.Quota("p1", 4, 4)
    quotas.set_quota(site, "p1", -1, OPERATOR)
    with pytest.raises(OverQuota, match="the user has 3 alarms of 3"):
        managed.create(site, entry(), ANN)
    assert quotas.delete_quota(site, "p1", OPERATOR).maximum == 2
    with pytest.raises(UsageError, match="maximum number -2"):
        quotas.set_quota(site, "p1", -2, OPERATOR)
    for attempt in (
        lambda: quotas.set_quota(site, "p1", 9, ANN),
        lambda: quotas.delete_quota(site, "p1", ANN),
        lambda: quotas.quota(site, "p1", BOB),
    ):
        with pytest.raises(NotAllowed):
            attempt()
    assert quotas.quota(site, "p1", ANN).maximum == 2


# -- silences -----------------------------------------------------------------------------------------------


def test_a_silenced_alarm_changes_its_state_and_notifies_nobody(watched: Site, tmp_path: Path) -> None:
    land_points(watched, [point(95.0, at(-0.5), meter="cpu_util")])
    configure(
        tmp_path,
        entry("web-1", alarm_actions=["log://"]),
        entry("db-1", alarm_actions=["log://"]),
        entry("web-critical", severity="critical", alarm_actions=["log://"]),
    )
    window = at(-5), at(5)
    made = silences.add(watched, Silence("web-*", *window, "ann", "maintenance", severity="low"))
    assert evaluate(watched, at()).notifications == 2
    assert {row["name"]: row["state"] for row in alarm_list(watched, OPERATOR)} == dict.fromkeys(
        ("web-1", "db-1", "web-critical"), "alarm"
    )
    told = {
        name: json.loads(detail).get("silenced_by")
        for name, detail in warehouse_rows(
            watched,
            "SELECT a.name, h.detail FROM alarm_history AS h JOIN alarms AS a ON a.alarm_id = h.alarm_id "
            "WHERE h.type = 'state transition'",
        )
    }
    assert told == {"web-1": made.silence_id, "db-1": None, "web-critical": None}


def test_a_silence_has_a_span_an_author_and_a_reason(watched: Site) -> None:
    for given, said in (
        (Silence("*", at(), at(), "ann", "why"), "the span is empty"),
        (Silence("*", at(), at(1), " ", "why"), "no author"),
        (Silence("*", at(), at(1), "ann", ""), "no reason"),
        (Silence("", at(), at(1), "ann", "why"), "no name"),
    ):
        with pytest.raises(UsageError, match=said):
            silences.add(watched, given)
    with pytest.raises(UnknownKeyword, match="unknown severity 'odd'"):
        silences.add(watched, Silence("*", at(), at(1), "ann", "why", severity="odd"))


def test_a_silence_ends_by_itself_or_by_hand(watched: Site) -> None:
    now = times.now()
    past = silences.add(watched, Silence("a*", at(), at(1), "ann", "why"))
    running, later = (
        silences.add(watched, Silence("a*", now + begin, now + timedelta(hours=9), "ann", "why"))
        for begin in (timedelta(hours=-1), timedelta(hours=1))
    )
    assert [each.silence_id for each in silences.silences(watched)] == [running.silence_id, later.silence_id]
    assert len(silences.silences(watched, past=True)) == 3
    with watched.warehouse.read() as connection:
        assert silences.silencing(connection, now)("a1", "p", "low") == running.silence_id
        assert silences.silencing(connection, now)("b1", "p", "low") is None
        assert silences.silencing(connection, at(0.5))("a1", "p", "low") == past.silence_id
    for each in (running, later):
        silences.end(watched, each.silence_id)
    assert silences.silences(watched) == []
    with pytest.raises(UnknownName, match="unknown silence 'x'"):
        silences.end(watched, "x")
