"""Requests by which one project might see, guess or change what is another's: some for each operation of the API.

What the other project has is named by marks, texts that occur nowhere else. Each request is made twice: with the
marks, and with texts of the same form that nothing has. An answer must have no mark that was not asked for, and both
answers must be the same, but for what was asked: otherwise it tells what exists.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI
from fastapi.routing import APIRoute

from meterhouse.api.requests.metering_query import MEASURES, OWNERS
from meterhouse.filters import OPERATORS

KINDS = (
    *("project", "user", "resource", "shared_user", "meter", "source", "unit", "key", "value", "shared_value"),
    *("message", "delta", "event", "event_type", "trait", "trait_value"),
    *("alarm_name", "description", "alarm_value", "action"),
)
"""What the other project has that is named by a mark of the test's own."""

MADE = ("alarm_id", "combined_id", "sample_id", "entry_id")
"""What it has that the site names."""

OWN = {"project": "ownproject", "user": "ownuser", "resource": "ownresource", "meter": "ownmeter", "alarm_id": ""}

SHARED = {"meter": "sharedmeter", "resource": "sharedresource", "event_type": "shared.event"}
"""What both projects have."""


def mark() -> str:
    """A text that occurs nowhere else."""
    return f"zq{secrets.token_hex(6)}"


@dataclass(frozen=True)
class Names:
    """What is named in requests.

    Attributes:
        of: by kind (KINDS, MADE), a name.
        own_alarm: the id of an alarm of whoever asks.
    """

    of: Mapping[str, str]
    own_alarm: str

    def __getitem__(self, kind: str) -> str:
        return self.of[kind]

    def ghost(self) -> "Names":
        """Names of the same form that nothing has, next to these in any order."""
        return Names({kind: _other(kind, name) for kind, name in self.of.items()}, self.own_alarm)


def _other(kind: str, name: str) -> str:
    at = name.rindex("-") - 1 if kind == "sample_id" else len(name) - 1
    return name[:at] + ("1" if name[at] == "0" else "0") + name[at + 1 :]


@dataclass(frozen=True)
class Probe:
    """A request.

    Attributes:
        path: with its query.
        body: for JSON; None for none.
    """

    path: str
    body: Any = None


def where(path: str, *pairs: tuple[str, Any], **arguments: Any) -> str:
    """A path with a query."""
    query = urlencode([*pairs, *((name, value) for name, value in arguments.items())])
    return f"{path}?{query}" if query else path


def q(name: str, value: str, op: str = "eq") -> tuple[tuple[str, str], ...]:
    """A condition of a simple query."""
    return ("q.field", name), ("q.op", op), ("q.type", ""), ("q.value", value)


def value_of(name: str, names: Names) -> str:
    """The other project's value of a field."""
    kind = name.partition(".")[0].removesuffix("_id")
    if kind.endswith("metadata"):
        return names["value"]
    kinds = {"on_behalf_of": "project", "message": "delta", "name": "alarm_name", "type": "alarm_name"}
    kind = kinds.get(kind, kind)
    return names.of.get(kind, names["value"])


def fields(of: Iterable[str], names: Names) -> Iterator[str]:
    """The names of fields, those of metadata with keys."""
    for name in of:
        if name.endswith("."):
            yield from (f"{name}{key}" for key in ("display_name", names["key"], f"{names['key']}.deep"))
        else:
            yield name


def simple(path: str, of: Iterable[str], names: Names, **arguments: Any) -> Iterator[Probe]:
    """Each field, by its value and by another operator, and some that there are not."""
    for n, name in enumerate(fields([*of, "nosuch", names["key"]], names)):
        for op in ("eq", list(OPERATORS)[n % len(OPERATORS)]):
            yield Probe(where(path, *q(name, value_of(name, names), op), **arguments))
    for name in ("resource_id", "metadata.display_name", "timestamp"):
        yield Probe(where(path, *q(name, OWN["resource"], "ne"), **arguments))
    yield Probe(where(path, *q("project_id", OWN["project"]), *q("project_id", names["project"]), **arguments))
    yield Probe(where(path, *q("project", OWN["project"]), *q("project_id", names["project"]), **arguments))
    yield Probe(where(path, ("q[0].field", "resource_id"), ("q[0].value", names["resource"]), **arguments))
    yield Probe(path, {"q": [{"field": "resource_id", "op": "eq", "value": names["resource"]}]})


def paged(path: str, names: Names, *marks: str, **arguments: Any) -> Iterator[Probe]:
    """A list, and what follows something of the other project."""
    yield Probe(where(path, **arguments))
    yield Probe(where(path, limit=1000, **arguments))
    for each in marks:
        yield Probe(where(path, limit=1000, marker=names[each], **arguments))


def complex_(path: str, of: Iterable[str], names: Names) -> Iterator[Probe]:
    """Each field in each operator of a complex query, within each other, and as an order."""
    listed = list(fields(of, names))
    filters: list[Any] = []
    for name in listed:
        value = value_of(name, names)
        filters += [{op: {name: value}} for op in ("=", "!=", "<", ">=")]
        filters += [{"in": {name: [value, "x"]}}, {"not": {"=": {name: value}}}, {"=~": {name: f"^{value[:6]}"}}]
        filters += [{"not": {"not": {"=~": {name: ".*"}}}}]
    mine, theirs = {"=": {"resource_id": OWN["resource"]}}, {"=": {"resource_id": names["resource"]}}
    project = {"=": {"project_id": names["project"]}}
    filters += [
        {"or": [mine, theirs]},
        {"or": [mine, {"not": mine}]},
        {"not": {"and": [mine, theirs]}},
        {"and": [{"not": mine}, {"not": {"=": {"resource_id": "x"}}}]},
        {"or": [mine, project]},
        {"not": {"not": project}},
        {"not": {"=": {"project_id": OWN["project"]}}},
        {"or": [{"=": {"project_id": OWN["project"]}}, {"!=": {"project_id": OWN["project"]}}]},
        {"in": {"project_id": [OWN["project"], names["project"]]}},
        {"=": {"nosuch": names["value"]}},
        {"nosuch": {names["key"]: names["value"]}},
    ]
    yield Probe(path, {})
    for each in filters:
        yield Probe(path, {"filter": json.dumps(each), "limit": 1000})
    for name in listed:
        yield Probe(path, {"orderby": json.dumps([{name: "ASC"}]), "limit": 1000})


def near(name: str) -> str:
    """A name that is nearly one of the other project: a hint must not complete it."""
    return name[:-2]


def _meters(names: Names) -> Iterator[Probe]:
    yield from paged("/v2/meters", names, "meter", "resource")
    yield from paged("/v2/meters", names, unique="True")
    yield from simple("/v2/meters", OWNERS, names)


def _samples_of(names: Names) -> Iterator[Probe]:
    for meter in (SHARED["meter"], names["meter"], near(names["meter"]), OWN["meter"]):
        yield from paged(f"/v2/meters/{meter}", names, "sample_id", "delta")
        yield Probe(where(f"/v2/meters/{meter}", include_excluded="True"))
    yield from simple(f"/v2/meters/{SHARED['meter']}", MEASURES, names)


def _statistics(names: Names) -> Iterator[Probe]:
    groups = ("user_id", "resource_id", "project_id", "source", "resource_metadata.display_name", "meter", "unit")
    for meter in (SHARED["meter"], names["meter"], near(names["meter"])):
        path = f"/v2/meters/{meter}/statistics"
        yield Probe(path)
        yield Probe(where(path, period=3600, include_excluded="True"))
        for group in (*groups, f"resource_metadata.{names['key']}", f"metadata.{names['key']}", names["key"]):
            yield Probe(where(path, groupby=group))
        for func in ("cardinality", "min", "max", "p95", "rate", "increase", names["key"]):
            for parameter in ("resource_id", "user_id", "project_id"):
                yield Probe(where(path, ("aggregate.func", func), ("aggregate.param", parameter)))
    yield from simple(f"/v2/meters/{SHARED['meter']}/statistics", MEASURES, names)


def _samples(names: Names) -> Iterator[Probe]:
    yield from paged("/v2/samples", names, "sample_id", "delta")
    yield Probe(where("/v2/samples", include_excluded="True", limit=1000))
    yield from simple("/v2/samples", MEASURES, names)


def _each(path: str, *kinds: str) -> Callable[[Names], Iterator[Probe]]:
    def probes(names: Names) -> Iterator[Probe]:
        for kind in kinds:
            for name in (names[kind], near(names[kind])):
                yield Probe(path.format(quote(name, safe="")))

    return probes


def _resources(names: Names) -> Iterator[Probe]:
    yield from paged("/v2/resources", names, "resource")
    yield from paged("/v2/resources", names, meter_links="0")
    yield from simple("/v2/resources", OWNERS, names)


def _resource(names: Names) -> Iterator[Probe]:
    yield from _each("/v2/resources/{}", "resource", "user")(names)
    yield Probe(f"/v2/resources/{SHARED['resource']}")


def _events(names: Names) -> Iterator[Probe]:
    yield from paged("/v2/events", names, "event")
    known = ("event_type", "message_id", "start_timestamp", "end_timestamp", "all_tenants", "project_id", "user_id")
    for name in (*known, "display_name", "traits.project_id", names["trait"]):
        kinds = {"message_id": "event", "project_id": "project", "user_id": "user", "event_type": "event_type"}
        value = names[kinds.get(name.rpartition(".")[2], "trait_value")]
        for op in OPERATORS:
            yield Probe(where("/v2/events", *q(name, value, op)))
    yield Probe(where("/v2/events", *q("event_type", SHARED["event_type"])))
    yield Probe(where("/v2/events", *q("all_tenants", "true")))
    yield Probe(where("/v2/events", *q("start_timestamp", "2026-11-20T00:00:00")))


def _event_types(names: Names) -> Iterator[Probe]:
    yield Probe("/v2/event_types")


def _alarms(names: Names) -> Iterator[Probe]:
    yield from paged("/v2/alarms", names, "alarm_id")
    known = ("name", "type", "enabled", "state", "severity", "timestamp", "repeat_actions", "alarm_id", "description")
    for name in (*known, "user", "user_id", "project", "project_id", "meter", "resource_id", "nosuch"):
        yield Probe(where("/v2/alarms", *q(name, value_of(name, names))))
    for each in ("true", "false"):
        yield Probe(where("/v2/alarms", *q("all_projects", each)))
        yield Probe(where("/v2/alarms", *q("all_projects", each), *q("project_id", names["project"])))
    for order in ("name:asc", "project_id:desc", "timestamp", f"{names['key']}:asc"):
        yield Probe(where("/v2/alarms", sort=order, limit=1000))


def _alarm(**more: Any) -> dict[str, Any]:
    rule = {"meter_name": SHARED["meter"], "threshold": 1.0}
    return {"name": "probing", "type": "threshold", "threshold_rule": rule, "enabled": False, **more}


def _combination(*alarm_ids: str) -> dict[str, Any]:
    rule = {"alarm_ids": list(alarm_ids), "operator": "or"}
    return {"name": "probing", "type": "combination", "combination_rule": rule, "enabled": False}


def _create_alarm(names: Names) -> Iterator[Probe]:
    yield Probe("/v2/alarms", _alarm(project_id=names["project"]))
    yield Probe("/v2/alarms", _alarm(user_id=names["user"]))
    yield Probe("/v2/alarms", _alarm(project_id=names["project"], user_id=names["user"]))
    yield Probe("/v2/alarms", _combination(names["alarm_id"], names.own_alarm))
    yield Probe("/v2/alarms", _combination(near(names["alarm_id"]), names.own_alarm))
    for name in ("project_id", "resource_id", f"metadata.{names['key']}", "nosuch"):
        query = [{"field": name, "op": "eq", "value": value_of(name, names)}]
        rule = {"meter_name": names["meter"], "threshold": 1.0, "query": query}
        yield Probe("/v2/alarms", _alarm(threshold_rule=rule))


def _change_alarm(names: Names) -> Iterator[Probe]:
    for alarm_id in (names["alarm_id"], near(names["alarm_id"]), names["alarm_name"]):
        yield Probe(f"/v2/alarms/{alarm_id}", _alarm(name="taken", enabled=True))
    yield Probe(f"/v2/alarms/{names.own_alarm}", _alarm(project_id=names["project"]))
    yield Probe(f"/v2/alarms/{names.own_alarm}", _combination(names["alarm_id"], names["combined_id"]))


def _set_state(names: Names) -> Iterator[Probe]:
    for alarm_id in (names["alarm_id"], near(names["alarm_id"]), names["alarm_name"]):
        yield Probe(f"/v2/alarms/{alarm_id}/state", "ok")


def _history(names: Names) -> Iterator[Probe]:
    for alarm_id in (names["alarm_id"], near(names["alarm_id"]), names["alarm_name"]):
        yield from paged(f"/v2/alarms/{alarm_id}/history", names, "entry_id")
        yield Probe(where(f"/v2/alarms/{alarm_id}/history", *q("project_id", names["project"])))
    path = f"/v2/alarms/{names.own_alarm}/history"
    yield from paged(path, names, "entry_id")
    for name in ("type", "severity", "user", "user_id", "project", "project_id", "on_behalf_of", "detail", "alarm_id"):
        yield Probe(where(path, *q(name, value_of(name, names))))


def _entry(names: Names) -> Iterator[Probe]:
    for alarm_id in (names["alarm_id"], names.own_alarm):
        yield Probe(f"/v2/alarms/{alarm_id}/history/{names['entry_id']}")


def _quota(names: Names) -> Iterator[Probe]:
    yield Probe("/v2/quotas")
    yield Probe(where("/v2/quotas", project_id=names["project"]))


def _set_quota(names: Names) -> Iterator[Probe]:
    quotas = [{"resource": "alarms", "limit": 0}]
    yield Probe("/v2/quotas", {"project_id": names["project"], "quotas": quotas})
    yield Probe("/v2/quotas", {"project_id": OWN["project"], "quotas": quotas})


def _post_samples(names: Names) -> Iterator[Probe]:
    def sample(**more: Any) -> dict[str, Any]:
        return {
            "counter_name": SHARED["meter"],
            "counter_type": "gauge",
            "counter_unit": "%",
            "counter_volume": 1.0,
            "resource_id": OWN["resource"],
            "timestamp": "2026-11-20T10:30:00",
            "resource_metadata": {"display_name": "posted"},
            **more,
        }

    for direct in ("False", "True"):
        path = where(f"/v2/meters/{SHARED['meter']}", direct=direct)
        yield Probe(path, [sample(project_id=names["project"])])
        yield Probe(path, [sample(), sample(project_id=names["project"])])
        yield Probe(path, [sample(message_id=names["delta"])])
    yield Probe(f"/v2/meters/{names['meter']}", [sample()])


_ALARM_FIELDS = (
    *("alarm_id", "name", "description", "enabled", "type", "state", "severity", "timestamp", "state_timestamp"),
    *("user", "user_id", "project", "project_id", "meter", "repeat_actions", "meter_name", "rule"),
)
_HISTORY_FIELDS = (
    *("event_id", "alarm_id", "type", "detail", "user", "user_id", "project", "project_id", "on_behalf_of"),
    *("timestamp", "severity", "user_id", "state"),
)
_SAMPLE_FIELDS = (*MEASURES, "timestamp", "recorded_at", "type", "unit", "volume", "counter_name", "counter_type")

PROBES: Mapping[str, Callable[[Names], Iterator[Probe]]] = {
    "GET /v2/meters": _meters,
    "GET /v2/meters/{}": _samples_of,
    "GET /v2/meters/{}/statistics": _statistics,
    "POST /v2/meters/{}": _post_samples,
    "GET /v2/samples": _samples,
    "GET /v2/samples/{}": _each("/v2/samples/{}", "sample_id", "delta", "message"),
    "GET /v2/resources": _resources,
    "GET /v2/resources/{}": _resource,
    "GET /v2/events": _events,
    "GET /v2/events/{}": _each("/v2/events/{}", "event"),
    "GET /v2/event_types": _event_types,
    "GET /v2/event_types/{}/traits": _each("/v2/event_types/{}/traits", "event_type"),
    "GET /v2/event_types/{}/traits/{}": lambda names: iter(
        [
            Probe(f"/v2/event_types/{names['event_type']}/traits/{names['trait']}"),
            Probe(f"/v2/event_types/{SHARED['event_type']}/traits/{names['trait']}"),
        ]
    ),
    "POST /v2/query/samples": lambda names: complex_("/v2/query/samples", _SAMPLE_FIELDS, names),
    "GET /v2/alarms": _alarms,
    "POST /v2/alarms": _create_alarm,
    "GET /v2/alarms/{}": _each("/v2/alarms/{}", "alarm_id", "combined_id", "alarm_name"),
    "PUT /v2/alarms/{}": _change_alarm,
    "DELETE /v2/alarms/{}": _each("/v2/alarms/{}", "alarm_id", "combined_id", "alarm_name"),
    "GET /v2/alarms/{}/state": _each("/v2/alarms/{}/state", "alarm_id", "alarm_name"),
    "PUT /v2/alarms/{}/state": _set_state,
    "GET /v2/alarms/{}/history": _history,
    "GET /v2/alarms/{}/history/{}": _entry,
    "POST /v2/query/alarms": lambda names: complex_("/v2/query/alarms", _ALARM_FIELDS, names),
    "POST /v2/query/alarms/history": lambda names: complex_("/v2/query/alarms/history", _HISTORY_FIELDS, names),
    "GET /v2/quotas": _quota,
    "POST /v2/quotas": _set_quota,
    "DELETE /v2/quotas/{}": _each("/v2/quotas/{}", "project"),
    **{
        f"GET {path}": _each(path, "project")
        for path in ("/", "/v2/capabilities", "/v2/metrics", "/healthz", "/readyz")
    },
    "GET /metrics": _each("/metrics", "project"),
}
"""By method and path, whose parameters have no names here."""

CHANGING = frozenset(name for name in PROBES if not name.startswith(("GET ", "POST /v2/query/")))
"""Operations that change something."""

BLIND = CHANGING | {
    *(f"GET {path}" for path in ("/", "/v2/capabilities", "/v2/metrics", "/healthz", "/readyz", "/metrics")),
    *("GET /v2/alarms/{}/state", "GET /v2/quotas"),
    *(f"GET /v2/event_types{path}" for path in ("", "/{}/traits", "/{}/traits/{}")),
}
"""Operations that show the other project itself no mark: they change something, or are for an administrator. All others
must show some, or their probes prove nothing."""


def operations(app: FastAPI) -> set[str]:
    """The operations of an application, as PROBES names them."""
    found = set()
    for route in app.routes:
        if isinstance(route, APIRoute):
            path = re.sub(r"\{[^}]*\}", "{}", route.path)
            found |= {f"{method} {path}" for method in route.methods}
    return found


def marks_in(text: str, names: Names) -> set[str]:
    """The names of the other project that a text has."""
    return {name for name in names.of.values() if name in text}


def renamed(text: str, names: Names, others: Names) -> str:
    """A text with other names in the place of some, and without ids and times that differ each time."""
    for kind, name in names.of.items():
        text = text.replace(name, others[kind]).replace(near(name), near(others[kind]))
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "(id)", text)
    return re.sub(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+", "(time)", text)
