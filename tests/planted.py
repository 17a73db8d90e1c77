"""A site with two projects, of which one must not see what the other has."""

from collections.abc import Iterator
from typing import Any

import httpx
from api_examples import TEN
from builders import drop, notification, polled, polling
from isolation import KINDS, OWN, SHARED, Names, mark

from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.callers import OPERATOR, Caller
from meterhouse.alarms.keeping.states import history
from meterhouse.collection.intake import intake
from meterhouse.rollups.step import roll_up
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site

EVENTS = """\
- event_type: "*"
  traits:
    project_id: {{fields: payload.tenant_id}}
    user_id: {{fields: payload.user_id}}
    display_name: {{fields: payload.display_name}}
    {trait}: {{fields: payload.secret}}
"""
"""The definitions of the site's events; `trait` is the name of a trait that only the other project's have."""


def plant(site: Site) -> Names:
    """Give each project samples, events, resources, alarms and a history; return what the other one has.

    Its samples and events are landed first and last, so that what is newest is its own too.
    """
    names = {kind: mark() for kind in KINDS}
    assert site.settings.config_dir is not None
    (site.settings.config_dir / "event_definitions.yaml").write_text(EVENTS.format(trait=names["trait"]))
    drop(site.settings.spool, "a.jsonl", list(_messages(names)))
    intake(site)
    judge_hours(site)
    roll_up(site)
    alarm_id, combined_id = (_alarm(site, name, Caller(names["user"], names["project"]), names) for name in ("a", "b"))
    managed.set_state(site, alarm_id, "alarm", Caller(names["user"], names["project"]))
    own_alarm = _alarm(site, "own", Caller(OWN["user"], OWN["project"]), None)
    names |= {"alarm_id": alarm_id, "combined_id": combined_id}
    names["entry_id"] = str(history(site, alarm_id, 1, OPERATOR)[0]["event_id"])
    return Names(names, own_alarm)


def with_sample_id(names: Names, client: httpx.Client) -> Names:
    """The names, with the id of a sample of the other project, as the API shows it to that project."""
    answer = client.get(f"/v2/samples?q.field=meter&q.value={names['meter']}", headers=headers(names))
    if answer.status_code == 404:
        return Names({**names.of, "sample_id": "1234567890-1763632800000000"}, names.own_alarm)
    found = [each["id"] for each in answer.json()]
    return Names({**names.of, "sample_id": next(each for each in found if "-" in each)}, names.own_alarm)


def headers(names: Names, role: str = "member") -> dict[str, str]:
    """Of a request of the other project."""
    return {"X-User-Id": names["user"], "X-Project-Id": names["project"], "X-Roles": role}


def _messages(names: dict[str, str]) -> Iterator[dict[str, Any]]:
    theirs = {"project": names["project"], "user_id": names["user"], "source": names["source"]}
    metadata = {"display_name": names["value"], names["key"]: {"deep": names["value"]}, "flavor": {"name": "m1"}}
    shared = {"display_name": names["shared_value"], "state": names["value"]}
    own = {"project": OWN["project"], "user_id": OWN["user"]}
    for n in (0, 4):  # before and after the own ones
        moment = TEN.replace(minute=n * 10)
        of_meter = {"meter": names["meter"], "counter_unit": names["unit"], "resource_metadata": metadata}
        of_shared = {"meter": SHARED["meter"], "resource": SHARED["resource"], "project": names["project"]}
        delta = {"meter": "requests", "type": "delta", "resource": names["resource"], "resource_metadata": metadata}
        of_sample, of_delta = (None, None) if n else (names["message"], names["delta"])
        samples = [
            polled(n, moment, resource=names["resource"], message_id=of_sample, **of_meter, **theirs),
            polled(n, moment, resource=names["resource"], **{**of_meter, "meter": SHARED["meter"]}, **theirs),
            polled(n, moment, user_id=names["shared_user"], resource_metadata=shared, **of_shared),
            polled(n, moment, message_id=of_delta, **delta, **theirs),
        ]
        yield polling(f"poll-{n}", samples)
    mine = {"display_name": "mine", "state": "active"}
    samples = [
        polled(7, TEN.replace(minute=20), meter=meter, resource=resource, resource_metadata=mine, **own)
        for meter in (OWN["meter"], SHARED["meter"])
        for resource in (OWN["resource"], SHARED["resource"])
    ]
    yield polling("poll-own", samples)
    for message_id, event_type, project, user, name in (
        (names["event"], names["event_type"], names["project"], names["user"], names["value"]),
        (mark(), SHARED["event_type"], names["project"], names["user"], names["value"]),
        ("own-event", SHARED["event_type"], OWN["project"], OWN["user"], "mine"),
    ):
        payload = {"tenant_id": project, "user_id": user, "display_name": name}
        if project == names["project"]:
            payload["secret"] = names["trait_value"]
        yield notification(message_id, event_type, timestamp="2026-11-20 10:10:00", payload=payload)


def _alarm(site: Site, name: str, caller: Caller, names: dict[str, str] | None) -> str:
    rule: dict[str, Any] = {"meter_name": SHARED["meter"], "threshold": 1.0}
    entry: dict[str, Any] = {"name": f"alarm-{name}", "threshold_rule": rule}
    if names is not None:
        rule["query"] = [{"field": "resource_id", "op": "eq", "value": names["alarm_value"]}]
        entry |= {"name": f"{names['alarm_name']}{'' if name == 'a' else name}", "description": names["description"]}
        entry["alarm_actions"] = [f"http://8.8.8.8/{names['action']}"]
    return str(managed.create(site, entry, caller)["alarm_id"])
