"""From a transition to the samples and the notifications behind it."""

from pathlib import Path

import pytest
import yaml
from builders import drop, polled, polling
from conftest import OpenSite

from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.explaining import explain
from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.callers import OPERATOR, Caller
from meterhouse.alarms.keeping.states import history
from meterhouse.collection.collect import collect
from meterhouse.collection.following import follow
from meterhouse.errors import UnknownName
from meterhouse.site import Site

BUSY = {"meter_name": "cpu_util", "threshold": 90, "comparison_operator": "gt", "period": 300}


@pytest.fixture
def watched(open_site: OpenSite, tmp_path: Path) -> Site:
    (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": [{"name": "hot", "threshold_rule": BUSY}]}))
    return open_site(config_dir=tmp_path)


def came(site: Site, name: str, *messages: object) -> None:
    drop(site.settings.spool, name, messages)
    collect(site)
    follow(site)


def transition(site: Site, name: str) -> str:
    return str(history(site, name, 1, OPERATOR)[0]["event_id"])


def test_a_transition_leads_to_its_samples_and_their_notifications(watched: Site) -> None:
    now = times.now()
    came(
        watched,
        "a.jsonl",
        polling("batch-1", [polled(95.0, now), polled(1e9, now, resource="r2"), polled(1.0, now, meter="other")]),
        polling("batch-2", [polled(97.0, now, resource="r3")]),
    )
    moment = times.now()
    assert evaluate(watched, moment).transitions == [("hot", "insufficient data", "alarm")]
    came(watched, "b.jsonl", polling("batch-3", [polled(10.0, now, resource="r4")]))  # known only afterwards
    found = explain(watched, transition(watched, "hot"), OPERATOR)
    assert (found.name, found.state, found.timestamp) == ("hot", "alarm", moment)
    (window,) = found.windows
    assert (window["meter"], window["values"], window["points"], window["excluded"]) == ("cpu_util", [96.0], [2], [1])
    assert window["number_of_series"] == 2
    assert {row["resource_id"]: (row["volume"], row["message_ids"], row["excluded"]) for row in found.samples} == {
        "r1": (95.0, ["batch-1"], []),
        "r2": (1e9, ["batch-1"], ["out_of_range", "over_100"]),
        "r3": (97.0, ["batch-2"], []),
    }


def test_samples_of_many_notifications_lead_to_their_own_each(watched: Site) -> None:
    """Also those of a message that came twice in other words, and a value that is no number."""
    now = times.now()
    batches = [polling(f"batch-{n}", [polled(91.0 + n, now, resource=f"r{n}")]) for n in range(40)]
    others = [polling(f"other-{n}", [polled(1.0, now, meter="other")]) for n in range(600)]
    came(
        watched,
        "a.jsonl",
        *others[:300],
        *batches,
        polling("again", [polled(93.0, now, resource="r2")]),
        polling("no-number", [polled(float("nan"), now, resource="r99")]),
        *others[300:],
    )
    evaluate(watched, times.now())
    found = {
        row["resource_id"]: row["message_ids"] for row in explain(watched, transition(watched, "hot"), OPERATOR).samples
    }
    assert found["r2"] == ["batch-2", "again"]
    assert {name: ids for name, ids in found.items() if name not in ("r2", "r99")} == {
        f"r{n}": [f"batch-{n}"] for n in range(40) if n != 2
    }
    assert found.get("r99", ["no-number"]) == ["no-number"]


def test_an_explanation_is_by_the_rule_of_that_time(watched: Site) -> None:
    came(watched, "a.jsonl", polling("batch-1", [polled(95.0, times.now())]))
    made = managed.create(watched, {"name": "mine", "threshold_rule": BUSY}, OPERATOR)
    evaluate(watched)
    event = transition(watched, made["alarm_id"])
    other = {"threshold_rule": {**BUSY, "meter_name": "other"}, "name": "renamed"}
    managed.change(watched, made["alarm_id"], other, OPERATOR)
    found = explain(watched, event, OPERATOR)
    assert (found.name, found.windows[0]["meter"]) == ("mine", "cpu_util")
    assert [row["message_ids"] for row in found.samples] == [["batch-1"]]
    managed.remove(watched, made["alarm_id"], OPERATOR)
    assert explain(watched, event, OPERATOR).samples == found.samples


def test_a_tenant_is_told_of_the_transitions_of_its_project_alone(watched: Site) -> None:
    came(watched, "a.jsonl", polling("batch-1", [polled(95.0, times.now()), polled(96.0, times.now(), project="p2")]))
    ann, bob = Caller("ann", "p1"), Caller("bob", "p2")
    made = managed.create(watched, {"name": "mine", "threshold_rule": BUSY}, ann)
    evaluate(watched)
    event = transition(watched, made["alarm_id"])
    assert [row["volume"] for row in explain(watched, event, ann).samples] == [95.0]
    for who in (bob, Caller("zoe")):
        with pytest.raises(UnknownName):
            explain(watched, event, who)
    with pytest.raises(UnknownName):  # an alarm of a file is the operator's
        explain(watched, transition(watched, "hot"), ann)


def test_what_is_no_transition_cannot_be_explained(watched: Site) -> None:
    made = managed.create(watched, {"name": "mine", "threshold_rule": BUSY}, OPERATOR)
    for event in (transition(watched, made["alarm_id"]), "x"):
        with pytest.raises(UnknownName, match=r"unknown transition .*alarms history"):
            explain(watched, event, OPERATOR)
