"""What real peers were asked about alarms, and Meterhouse answers alike: Aodh 23.0.0, and 2.0.6 for the rules of old.

`data/peer_answers/alarms.jsonl` has the requests in their order: `ask` (method and URL), `who` asks, `body` (or `raw`,
of the content type `type`), and what was answered: the `status`, fields that an alarm `has`, how many there are
(`count`), their `names`, the text that it `is`, or the start of the `error`. `{NAME}` stands for the id of the alarm
that a request before has to `save` by this name. Where `ours` is given, Meterhouse differs on purpose.
"""

import json
from pathlib import Path
from typing import Any

import httpx
from api_server import client

from meterhouse.site import Site

STEPS = Path(__file__).parents[2] / "data" / "peer_answers" / "alarms.jsonl"
WHO = {
    "admin": {"X-User-Id": "adm", "X-Project-Id": "pa", "X-Roles": "admin"},
    "u1 of p1": {"X-User-Id": "u1", "X-Project-Id": "p1", "X-Roles": "member,reader"},
    "u3 of p2": {"X-User-Id": "u3", "X-Project-Id": "p2", "X-Roles": "member,reader"},
    "reader of p1": {"X-User-Id": "u1", "X-Project-Id": "p1", "X-Roles": "reader"},
    "u7 of p7": {"X-User-Id": "u7", "X-Project-Id": "p7", "X-Roles": "member,reader"},
}


def _named(text: str, ids: dict[str, str]) -> str:
    for name, alarm_id in ids.items():
        text = text.replace(f"{{{name}}}", alarm_id)
    return text


def _asked(api: httpx.Client, step: dict[str, Any], ids: dict[str, str]) -> httpx.Response:
    method, url = _named(step["ask"], ids).split(" ", 1)
    headers = dict(WHO[step["who"]])
    content = None
    if "body" in step or "raw" in step:
        content = step["raw"].encode("latin-1") if "raw" in step else _named(json.dumps(step["body"]), ids).encode()
        if kind := step.get("type", "application/json"):
            headers["Content-Type"] = kind
    return api.request(method, url, headers=headers, content=content)


def _holds(step: dict[str, Any], found: httpx.Response) -> bool:
    if found.status_code != step["status"]:
        return False
    answer = found.json() if found.content else None
    fault = answer["error_message"]["faultstring"] if found.status_code >= 400 else ""
    return (
        all(answer[name] == value for name, value in step.get("has", {}).items())
        and len(answer if "count" in step else ()) == step.get("count", 0)
        and ("names" not in step or [each["name"] for each in answer] == step["names"])
        and ("is" not in step or answer == step["is"])
        and fault.startswith(step.get("error", ""))
    )


def test_alarms_are_answered_as_aodh_does(site: Site) -> None:
    steps = [json.loads(line) for line in STEPS.read_text().splitlines()]
    ids: dict[str, str] = {}
    differences = []
    with client(site) as api:
        for number, step in enumerate(steps):
            found = _asked(api, step, ids)
            if not _holds(step, found):
                differences.append(f"{number}: {json.dumps(step)[:400]}: got {found.status_code} {found.text[:300]}")
            if "save" in step and found.status_code == 201:
                ids[step["save"]] = found.json()["alarm_id"]
    assert not differences, f"{len(differences)} of {len(steps)} differ:\n" + "\n".join(differences)
