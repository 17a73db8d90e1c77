"""What real peers were asked, and Meterhouse answers alike: Ceilometer 8.1.5 and Panko 10.0.0, executed on loopback.

`data/peer_answers/*.jsonl` has a request a line: `ask` (method and URL), `who` asks, `body`, the `status` and the
answer, in which samples and events are places in the lists of `peer_data`. Samples of one time are in one list, since
the peers leave their order open. Where `ours` is given, Meterhouse differs on purpose, for that reason, and the answer
is Meterhouse's.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import peer_data
from api_server import client
from builders import drop, process

from meterhouse.site import Site

ANSWERS = Path(__file__).parents[2] / "data" / "peer_answers"
WHO = {
    "admin": {"X-User-Id": "adm", "X-Project-Id": "pa", "X-Roles": "admin"},
    "admin of p1": {"X-User-Id": "u1", "X-Project-Id": "p1", "X-Roles": "admin"},
    "u1 of p1": {"X-User-Id": "u1", "X-Project-Id": "p1", "X-Roles": "member"},
    "u2 of p1": {"X-User-Id": "u2", "X-Project-Id": "p1", "X-Roles": "member"},
    "u3 of p2": {"X-User-Id": "u3", "X-Project-Id": "p2", "X-Roles": "member"},
}
SAMPLES = peer_data.samples()
EVENTS = peer_data.events()
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?")
TRAIT_NAMES = {"int": "integer", "float": "float", "datetime": "datetime", "text": "string"}
Json = Any


def _flat(metadata: dict[str, Any], before: str = "", separator: str = ".") -> dict[str, str]:
    """Metadata as the API gives it: one level, keys joined by a dot and then by colons, and values as text."""
    found: dict[str, str] = {}
    for key, value in metadata.items():
        name = f"{before}{separator}{key}" if before else key
        if isinstance(value, dict):
            found |= _flat(value, name, ":" if before else ".")
        else:
            found[name] = str(value)
    return found


def _old_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """As `/v2/meters/{name}` gives it, without what no one can foretell."""
    found = {key: value for key, value in sample.items() if key != "message_id"}
    volume, metadata = float(sample["counter_volume"]), _flat(sample["resource_metadata"])
    return found | {"counter_volume": volume, "resource_metadata": metadata}


def _sample(sample: dict[str, Any]) -> dict[str, Any]:
    """As `/v2/samples` gives it, without what no one can foretell."""
    new = {"meter": "counter_name", "type": "counter_type", "unit": "counter_unit", "volume": "counter_volume"}
    same = ("user_id", "project_id", "resource_id", "source", "timestamp")
    return (
        {key: sample[old] for key, old in new.items()}
        | {key: sample[key] for key in same}
        | {"volume": float(sample["counter_volume"]), "metadata": _flat(sample["resource_metadata"])}
    )


def _event(event: dict[str, Any]) -> dict[str, Any]:
    traits = [
        {"name": name, "type": TRAIT_NAMES[peer_data.TRAIT_TYPES.get(name, "text")], "value": str(value)}
        for name, value in sorted(event["traits"].items())
    ]
    return {**event, "traits": traits, "raw": {}}


def _told(answer: Json, *unforetold: str) -> list[dict[str, Any]]:
    """The items of an answer, without those fields, which must be there, and times among them be times.

    A sample that breaks a rule of quality also has its `reasons`.
    """
    for item in answer:
        for name in unforetold:
            assert isinstance(item[name], str), item
            assert name != "recorded_at" or TIME.fullmatch(item[name]), item
    return [{key: value for key, value in item.items() if key not in (*unforetold, "reasons")} for item in answer]


def _same_samples(answer: Json, expected: list[list[int]]) -> bool:
    made: Callable[[dict[str, Any]], dict[str, Any]] = _sample
    unforetold = ("id", "recorded_at")
    if answer and "counter_name" in answer[0]:
        made, unforetold = _old_sample, ("message_id", "recorded_at")
    items, begin = _told(answer, *unforetold), 0
    if len(items) != sum(map(len, expected)):
        return False
    for places in expected:
        group, begin = items[begin : begin + len(places)], begin + len(places)
        if _sorted(group) != _sorted(made(SAMPLES[place]) for place in places):
            return False
    return True


def _sorted(items: Any) -> list[str]:
    return sorted(json.dumps(item, sort_keys=True) for item in items)


def _same_times(answer: Json, expected: list[str]) -> bool:
    return [item["timestamp"] for item in answer] == expected


def _same_events(answer: Json, expected: list[int]) -> bool:
    found = [
        {**event, "traits": sorted(event["traits"], key=lambda trait: str(trait["name"]))}
        for event in (answer if isinstance(answer, list) else [answer])
    ]
    return found == [_event(EVENTS[place]) for place in expected]


def _near(found: Json, expected: Json) -> bool:
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            key in found and _near(found[key], value) for key, value in expected.items()
        )
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    return bool(found == expected)


def _same_statistics(answer: Json, expected: list[dict[str, Any]]) -> bool:
    """All the fields of the peer, periods in their order, groups of one period in any."""

    def place(row: dict[str, Any]) -> list[str]:
        return [str(row["period_start"]), json.dumps(row["groupby"], sort_keys=True), str(row["unit"])]

    in_order = [row["period_start"] for row in answer if row["period"]]
    return (
        len(answer) == len(expected)
        and in_order == sorted(in_order)
        and all(map(_near, sorted(answer, key=place), sorted(expected, key=place)))
    )


def _same_rows(answer: Json, expected: list[list[Any]]) -> bool:
    """Meters, each as its fields in this order."""
    fields = ("name", "type", "unit", "resource_id", "project_id", "user_id", "source", "meter_id")
    return _sorted([row[field] for field in fields] for row in answer) == _sorted(expected)


def _same_resources(answer: Json, expected: list[dict[str, Any]]) -> bool:
    """Resources, each with the place of the sample that has its metadata, and its links by their paths."""
    items = answer if isinstance(answer, list) else [answer]
    found = [
        {
            **item,
            "links": sorted([link["rel"], re.sub("^http://[^/]*", "", link["href"])] for link in item["links"]),
        }
        for item in items
    ]
    wanted = [{**row, "metadata": _flat(SAMPLES[row["metadata"]]["resource_metadata"])} for row in expected]
    return _sorted(found) == _sorted(wanted)


def _same_error(answer: Json, expected: str) -> bool:
    message = answer["error_message"]
    return (
        set(message) == {"faultcode", "faultstring", "debuginfo"}
        and message["faultcode"] in ("Client", "Server")
        and str(message["faultstring"]).startswith(expected)
    )


COMPARISONS: dict[str, Callable[[Json, Any], bool]] = {
    "samples": _same_samples,
    "sample": lambda answer, expected: _same_samples([answer], [[expected]]),
    "times": _same_times,
    "events": _same_events,
    "statistics": _same_statistics,
    "meters": _same_rows,
    "resources": _same_resources,
    "count": lambda answer, expected: len(answer) == expected,
    "answer": lambda answer, expected: _sorted(answer) == _sorted(expected),
    "error": _same_error,
}


def _difference(api: httpx.Client, request: dict[str, Any]) -> str | None:
    """What differs, or None."""
    method, url = request["ask"].split(" ", 1)
    body = request.get("body")
    content = None if body is None else json.dumps(body)
    headers = WHO[request["who"]] | ({} if body is None else {"Content-Type": "application/json"})
    found = api.request(method, url, headers=headers, content=content)
    asked = f"{request['ask']} {json.dumps(body) if body is not None else ''} as {request['who']}"
    if found.status_code != request["status"]:
        return f"{asked}: {found.status_code} in place of {request['status']}: {found.text[:300]}"
    (kind,) = COMPARISONS.keys() & request.keys()
    if COMPARISONS[kind](found.json(), request[kind]):
        return None
    return f"{asked}: expected {kind} {json.dumps(request[kind])[:300]}, got {found.text[:300]}"


def _check(open_site: Callable[..., Site], tmp_path: Path, name: str) -> None:
    (tmp_path / "event_definitions.yaml").write_text(peer_data.event_definitions())
    (tmp_path / "meters.d").mkdir()
    (tmp_path / "meters.d" / "none.yaml").write_text("metric: []\n")
    site = open_site(config_dir=tmp_path)
    drop(site.settings.spool, "a.jsonl", peer_data.messages())
    process(site)
    requests = [json.loads(line) for line in (ANSWERS / name).read_text().splitlines()]
    with client(site) as api:
        differences = [difference for request in requests if (difference := _difference(api, request))]
    assert not differences, f"{len(differences)} of {len(requests)} differ:\n" + "\n".join(differences)


def test_meters_samples_resources_and_statistics_are_answered_as_ceilometer_does(
    open_site: Callable[..., Site], tmp_path: Path
) -> None:
    _check(open_site, tmp_path, "metering.jsonl")


def test_events_are_answered_as_panko_does(open_site: Callable[..., Site], tmp_path: Path) -> None:
    _check(open_site, tmp_path, "events.jsonl")
