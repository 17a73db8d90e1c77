"""What Ceilometer's paths answer: meters, samples, statistics, resources, events, capabilities."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from telemetry_site import ANN, BOB, NINE, ROOT, asked, minutes, shown

from meterhouse.site import Site


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, httpx.Client]]:
    with asked(tmp_path_factory.mktemp("telemetry")) as both:
        yield both


@pytest.fixture(scope="module")
def ask(served: tuple[Site, httpx.Client]) -> httpx.Client:
    return served[1]


def q(*conditions: str) -> str:
    """Conditions as clients send them: `FIELD OP VALUE`, or `FIELD OP VALUE TYPE`."""
    parts = [(*each.split(" "), "")[:4] for each in conditions]
    names = ("field", "op", "value", "type")
    return "&".join(f"q.{name}={quote(part[n], safe='')}" for n, name in enumerate(names) for part in parts)


def rows(ask: httpx.Client, path: str, **headers: str) -> list[dict[str, Any]]:
    answer = ask.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: list[dict[str, Any]] = answer.json()
    return found


def refused(answer: httpx.Response, status: int, text: str) -> None:
    fault = answer.json()["error_message"]
    assert (answer.status_code, fault["faultcode"], fault["debuginfo"]) == (status, "Client", None), answer.text
    assert text in fault["faultstring"]


# -- versions and capabilities ------------------------------------------------------------------------------


def test_versions_are_those_of_ceilometer(ask: httpx.Client) -> None:
    (version,) = ask.get("/").json()["versions"]["values"]
    assert (version["id"], version["status"], version["updated"]) == ("v2", "stable", "2013-02-13T00:00:00Z")
    assert version["links"][0] == {"href": f"{ask.base_url}/v2".replace("//v2", "/v2"), "rel": "self"}
    assert version["media-types"][0]["type"] == "application/vnd.openstack.telemetry-v2+json"
    refused(ask.get("/v2"), 404, "Not Found")


def test_capabilities_are_flat(ask: httpx.Client) -> None:
    found = ask.get("/v2/capabilities").json()
    assert set(found) == {"api", "storage", "event_storage", "alarm_storage"}
    assert found["storage"] == {"storage:production_ready": True}
    assert found["api"]["statistics:aggregation:selectable:stddev"] is True
    assert all(isinstance(flag, bool) for flag in found["api"].values())


# -- meters -------------------------------------------------------------------------------------------------


def test_meters_are_listed_by_resource(ask: httpx.Client) -> None:
    found = rows(ask, f"/v2/meters?{q('resource_id eq web-2', 'user eq amy')}")
    assert found[0] == {
        "meter_id": base64.b64encode(b"web-2+cpu_util").decode(),
        "name": "cpu_util",
        "type": "gauge",
        "unit": "%",
        "resource_id": "web-2",
        "project_id": "shop",
        "user_id": "amy",
        "source": "openstack",
    }
    assert [each["name"] for each in found] == ["cpu_util", "requests", "vcpus"]
    assert {each["resource_id"] for each in rows(ask, "/v2/meters", **BOB)} == {"db/1"}
    large = rows(ask, f"/v2/meters?{q('metadata.flavor.name eq m1.large', 'source eq openstack')}")
    assert {each["resource_id"] for each in large} == {"web-2", "db/1"}
    assert rows(ask, f"/v2/meters?{q('project eq nobody')}") == []


def test_unique_meters_belong_to_no_resource(ask: httpx.Client) -> None:
    found = rows(ask, "/v2/meters?unique=True", **ANN)
    assert [(each["name"], each["unit"]) for each in found] == [
        *(("cpu", "ns"), ("cpu_util", "%"), ("memory", "MB"), ("memory", "MiB"), ("requests", "request")),
        ("vcpus", "vcpu"),
    ]
    assert {each[name] for each in found for name in ("resource_id", "project_id", "user_id", "source")} == {None}


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v2/meters?", "meter_id"),
        ("/v2/meters?unique=1&", "meter_id"),
        ("/v2/resources?meter_links=0&", "resource_id"),
        ("/v2/samples?", "id"),
        (f"/v2/samples?{q('metadata.flavor.name eq m1.large', 'timestamp le 2026-11-20T10:00:00')}&", "id"),
        ("/v2/meters/requests?", "message_id"),
        ("/v2/meters/cpu_util?include_excluded=False&", "message_id"),
        ("/v2/events?", "message_id"),
        ("/v2/events?sort=generated:desc&", "message_id"),
    ],
)
@pytest.mark.parametrize("who", [{}, ANN])
def test_pages_by_marker_have_all_of_a_list_once(ask: httpx.Client, path: str, key: str, who: dict[str, str]) -> None:
    whole = rows(ask, f"{path}limit=1000", **who)
    for limit in (1, 3):
        found: list[dict[str, Any]] = []
        while page := rows(ask, f"{path}limit={limit}" + (f"&marker={quote(found[-1][key])}" if found else ""), **who):
            found += page
        assert found == whole
    refused(
        ask.get(f"{path}marker=nobody"), 400, "attribute marker. Value: 'nobody'"
    ) if "resources" not in path else None


def test_a_limit_is_within_bounds(ask: httpx.Client) -> None:
    for path in ("meters", "meters/cpu_util", "samples", "resources", "events"):
        refused(ask.get(f"/v2/{path}?limit=0"), 400, "Limit must be positive. It is 0")
        refused(ask.get(f"/v2/{path}?limit=-1"), 400, "Limit must be positive. It is -1")
        refused(ask.get(f"/v2/{path}?limit=1001"), 400, "At most 1,000")
        refused(ask.get(f"/v2/{path}?limits=1"), 400, 'Unknown argument: "limits"')
    assert len(rows(ask, "/v2/samples?limit=2")) == 2


# -- samples ------------------------------------------------------------------------------------------------


def test_a_sample_has_two_forms(ask: httpx.Client) -> None:
    (old,) = rows(ask, f"/v2/meters/cpu_util?{q('resource_id eq web-1', 'timestamp lt 2026-11-20T09:10:00')}")
    assert old.pop("recorded_at") > shown(NINE)
    assert old == {
        "counter_name": "cpu_util",
        "counter_type": "gauge",
        "counter_unit": "%",
        "counter_volume": 10.0,
        "user_id": "ann",
        "project_id": "shop",
        "resource_id": "web-1",
        "source": "openstack",
        "timestamp": "2026-11-20T09:00:00",
        "resource_metadata": {
            "flavor.extra:gpu": "0",
            "flavor.name": "m1.small",
            "name": "web-1",
            "on": "True",
            "tags": "['a', 1]",
        },
        "message_id": old["message_id"],
    }
    assert old["message_id"].endswith(f"-{1_795_165_200_000_000}")
    new = ask.get(f"/v2/samples/{old['message_id']}", headers=ANN).json()
    assert new.pop("recorded_at")
    names = {"counter_name": "meter", "message_id": "id", "resource_metadata": "metadata"}
    assert new == {names.get(name, name.removeprefix("counter_")): value for name, value in old.items()}


def test_samples_are_newest_first_and_say_what_they_break(ask: httpx.Client) -> None:
    found = rows(ask, f"/v2/samples?{q('meter eq cpu_util', 'resource eq web-1')}&limit=3")
    assert [(each["volume"], each.get("reasons")) for each in found] == [
        *((-5.0, ["out_of_range"]), (18.0, None), (17.0, None)),
    ]
    good = rows(ask, f"/v2/samples?{q('meter eq cpu_util', 'resource eq web-1')}&limit=2&include_excluded=False")
    assert [each["volume"] for each in good] == [18.0, 17.0]


@pytest.mark.parametrize(
    ("conditions", "volumes"),
    [
        (("timestamp gt 2026-11-20T10:00:00", "timestamp le 2026-11-20T10:20:00"), [18, 17]),
        (("timestamp ge 2026-11-20T11:00:00+01:00", "timestamp lt 2026-11-20T10:20:00Z"), [17, 16]),
        (("timestamp ge 2026-11-20T10:10:00", "timestamp ge 2026-11-20T10:20:00"), [-5, 18]),  # the last one counts
        (("timestamp ge 2026-11-20T10:05:00", "timestamp le 2026-11-20T10:06:00", "search_offset eq 5"), [17, 16]),
        (("timestamp ge 2026-11-20T10:20:00", "timestamp lt 2026-11-20T10:00:00"), []),
        (("timestamp ge 2026-11-20T10:20:00 datetime", "source eq other"), []),
        (("timestamp ge 2026-11-20T10:20:00", "source eq other", "source eq openstack"), [-5, 18]),
        (("timestamp ge 2026-11-20T10:20:00", "metadata.on eq True boolean"), [-5, 18]),
        (("timestamp ge 2026-11-20T10:20:00", "resource_metadata.flavor.extra.gpu eq 0 integer"), [-5, 18]),
        (("timestamp ge 2026-11-20T10:20:00", "metadata.flavor.extra:gpu eq 0"), [-5, 18]),
        (("timestamp ge 2026-11-20T10:20:00", "metadata.flavor.name eq m1.large"), []),
        (("timestamp ge 2026-11-20T10:20:00", "metadata.tags.1 eq 1.0 float"), [-5, 18]),
        (("timestamp ge 2026-11-20T10:20:00", "user_id eq amy"), []),
        (("timestamp ge 2026-11-20T10:20:00", "meter eq cpu"), []),
    ],
)
def test_samples_are_queried(ask: httpx.Client, conditions: tuple[str, ...], volumes: list[float]) -> None:
    found = rows(ask, f"/v2/meters/cpu_util?{q('resource_id eq web-1', *conditions)}")
    assert [each["counter_volume"] for each in found] == volumes
    same = rows(ask, f"/v2/samples?{q('meter eq cpu_util', 'resource_id eq web-1', *conditions)}")
    if "meter eq cpu" not in conditions:  # which counts more, for it comes later
        assert [each["volume"] for each in same] == volumes


def test_a_query_may_be_the_body(ask: httpx.Client) -> None:
    body = {"q": [{"field": "resource_id", "op": "eq", "value": "web-2"}, {"field": "meter", "value": "requests"}]}
    found = ask.request("GET", "/v2/samples", json={**body, "limit": 1}).json()
    assert [each["volume"] for each in found] == [8.0]
    refused(ask.request("GET", "/v2/samples", content=b"<q/>", headers={"content-type": "text/xml"}), 415, "text/xml")


def test_samples_are_found_by_their_ids(ask: httpx.Client) -> None:
    newest = rows(ask, "/v2/meters/requests?limit=1")[0]
    for name in (newest["message_id"], "requests-web-2-80"):
        assert ask.get(f"/v2/samples/{name}").json()["volume"] == 8.0
        assert rows(ask, f"/v2/samples?{q(f'message_id eq {name}')}")[0]["volume"] == 8.0
        refused(ask.get(f"/v2/samples/{name}", headers=BOB), 404, f"Sample {name} Not Found")
        assert rows(ask, f"/v2/samples?{q(f'message_id eq {name}')}", **BOB) == []
    assert ask.get("/v2/samples/requests-web-2-80").json()["id"] == "requests-web-2-80"
    assert rows(ask, f"/v2/samples?{q('message_id eq cpu_util-db/1-0')}")[0]["volume"] == 30.0
    for name in ("nobody", "1-1", "ffffffffffffffff", "9" * 30 + "-1", "a%00b"):
        refused(ask.get(f"/v2/samples/{name}"), 404, "Not Found")


# -- complex queries ----------------------------------------------------------------------------------------


def complex_query(ask: httpx.Client, body: Any, **headers: str) -> httpx.Response:
    return ask.post("/v2/query/samples", json=body, headers=headers)


UTIL = {"=": {"meter": "cpu_util"}}
LATE = {">=": {"timestamp": "2026-11-20T10:10:00"}}
BOTH = {"and": [UTIL, LATE]}
REQUESTS = {"and": [{"=": {"type": "delta"}}, {"=>": {"volume": 7}}]}
OF_TWO = {"or": [{"=": {"user_id": "bob"}}, {"=": {"message_id": "cpu_util-web-2-80"}}]}


@pytest.mark.parametrize(
    ("condition", "order", "found"),
    [
        (BOTH, [], [-5, 18, 38, 28, 17, 37, 27]),
        (BOTH, [{"timestamp": "asc"}, {"volume": "desc"}], [37, 27, 17, 38, 28, 18, -5]),
        (BOTH, [{"timestamp": "DESC"}, {"volume": "asc"}], [-5, 18, 28, 38, 17, 27, 37]),
        (BOTH, [{"resource_id": "desc"}, {"volume": "asc"}], [27, 28, -5, 17, 18, 37, 38]),
        (BOTH, [{"metadata.flavor.name": "desc"}, {"volume": "asc"}], [-5, 17, 18, 27, 28, 37, 38]),
        ({"AND": [UTIL, {"NOT": {"<": {"timestamp": "2026-11-20T10:20:00"}}}]}, [], [-5, 18, 38, 28]),
        ({"and": [UTIL, {"in": {"counter_volume": [18, 38, 99]}}]}, [], [18, 38]),
        ({"and": [UTIL, {"=~": {"resource": "^web"}}, {">": {"volume": 26.5}}]}, [{"volume": "asc"}], [27, 28]),
        ({"or": [{"and": [UTIL, {"=": {"volume": 18}}]}, REQUESTS]}, [{"volume": "desc"}], [18, 8, 7]),
        ({"and": [LATE, {"=": {"resource_metadata.on": "True"}}, UTIL]}, [], [-5, 18, 38, 17, 37]),
        ({"and": [LATE, {"=": {"metadata.on": True}}, UTIL]}, [], [-5, 18, 17]),
        ({"and": [LATE, {"not": {"=": {"metadata.ram": 2048}}}, UTIL]}, [], [-5, 18, 38, 17, 37]),
        ({"and": [UTIL, OF_TWO, LATE]}, [], [38, 28, 37]),
        ({"in": {"message_id": ["requests-web-2-10", "cpu_util-web-2-0"]}}, [], [1, 20]),
        ({"=": {"unit": "MB"}}, [], [512]),
        ({"=": {"meter": "nothing"}}, [{"volume": "asc"}], []),
    ],
)
def test_samples_are_found_by_complex_queries(ask: httpx.Client, condition: Any, order: Any, found: list[int]) -> None:
    asked = {"filter": json.dumps(condition), "orderby": json.dumps(order)}
    answer = complex_query(ask, asked)
    assert answer.status_code == 200, answer.text
    volumes = [each["volume"] for each in answer.json()]
    assert volumes == found if order or len(found) < 3 else sorted(volumes) == sorted(found)
    assert complex_query(ask, {**asked, "limit": 2}).json() == answer.json()[:2]


def test_a_complex_query_sees_the_own_project_alone(ask: httpx.Client) -> None:
    everything = complex_query(ask, {"limit": 1000}, **BOB).json()
    assert {each["project_id"] for each in everything} == {"bank"}
    for nested in ({"=": {"project_id": "shop"}}, {"not": {"in": {"project": ["bank", "shop"]}}}):
        answer = complex_query(ask, {"filter": json.dumps({"or": [UTIL, nested]})}, **BOB)
        refused(answer, 401, "Not Authorized to access project shop")
    assert len(complex_query(ask, {"filter": '{"=": {"project_id": "bank"}}'}, **BOB).json()) == 10


def test_ids_are_compared_for_equality_alone(ask: httpx.Client) -> None:
    answer = complex_query(ask, {"filter": '{"<": {"message_id": "a"}}'})
    refused(answer, 400, "Compare them with =, != or in")
    found = complex_query(ask, {"orderby": '[{"message_id": "desc"}]'}).json()
    assert [each["id"] for each in found] == sorted((each["id"] for each in found), reverse=True)
    assert complex_query(ask, {"orderby": '[{"message_id": "desc"}]', "limit": 5}).json() == found[:5]


# -- statistics ---------------------------------------------------------------------------------------------

TEN = "timestamp ge 2026-11-20T10:00:00"


def statistics(ask: httpx.Client, meter: str, query: str = "", **headers: str) -> list[dict[str, Any]]:
    return rows(ask, f"/v2/meters/{meter}/statistics?{query}", **headers)


def test_statistics_have_the_usual_five(ask: httpx.Client) -> None:
    assert statistics(ask, "cpu_util", q("resource_id eq web-1")) == [
        {
            "unit": "%",
            "count": 9,
            "sum": 126.0,
            "avg": 14.0,
            "min": 10.0,
            "max": 18.0,
            "duration": 4800.0,
            "duration_start": shown(NINE),
            "duration_end": shown(minutes(80)),
            "period": 0,
            "period_start": shown(NINE),
            "period_end": shown(minutes(80)),
            "groupby": None,
        }
    ]
    assert [each["count"] for each in statistics(ask, "cpu_util", "", **BOB)] == [9]
    assert [each["unit"] for each in statistics(ask, "memory")] == ["MB", "MiB"]
    for nothing in (
        statistics(ask, "nobody"),
        statistics(ask, "cpu", "", **BOB),
        statistics(ask, "cpu", q("user eq x")),
    ):
        assert nothing == []


def test_periods_start_with_the_query(ask: httpx.Client) -> None:
    query = q("resource eq web-1", "timestamp gt 2026-11-20T09:55:00", "timestamp le 2026-11-20T10:20:00")
    found = statistics(ask, "cpu_util", f"{query}&period=900")
    assert [(each["period_start"], each["period_end"], each["count"], each["period"]) for each in found] == [
        (shown(minutes(55)), shown(minutes(70)), 1, 900),
        (shown(minutes(70)), shown(minutes(85)), 2, 900),
    ]
    gaps = statistics(ask, "cpu_util", f"{q('resource eq web-1', 'timestamp lt 2026-11-20T09:25:00')}&period=300")
    assert [each["period_start"] for each in gaps] == [shown(minutes(n)) for n in (0, 10, 20)]  # of the first point on
    assert statistics(ask, "cpu_util", q("timestamp ge 2026-11-20T10:00:00", "timestamp lt 2026-11-20T09:00:00")) == []


def test_durations_are_within_what_was_asked(ask: httpx.Client) -> None:
    query = ("resource eq web-1", "timestamp ge 2026-11-20T09:25:00", "timestamp lt 2026-11-20T09:35:00")
    (found,) = statistics(ask, "cpu_util", q(*query, "search_offset eq 10"))
    assert (found["count"], found["duration"]) == (3, 600.0)
    assert (found["duration_start"], found["duration_end"]) == (shown(minutes(25)), shown(minutes(35)))
    outside = ("resource eq web-1", "timestamp ge 2026-11-20T09:22:00", "timestamp lt 2026-11-20T09:24:00")
    (found,) = statistics(ask, "cpu_util", q(*outside, "search_offset eq 3"))
    assert (found["count"], found["duration"], found["duration_start"], found["duration_end"]) == (1, None, None, None)


def test_figures_are_grouped(ask: httpx.Client) -> None:
    found = statistics(ask, "cpu_util", f"{q(TEN)}&groupby=project_id&groupby=user_id&groupby=user_id&period=1200")
    assert [(each["groupby"], each["period_start"], each["avg"]) for each in found] == [
        ({"project_id": "bank", "user_id": "bob"}, shown(minutes(60)), 36.5),
        ({"project_id": "shop", "user_id": "amy"}, shown(minutes(60)), 26.5),
        ({"project_id": "shop", "user_id": "ann"}, shown(minutes(60)), 16.5),
        ({"project_id": "bank", "user_id": "bob"}, shown(minutes(80)), 38.0),
        ({"project_id": "shop", "user_id": "amy"}, shown(minutes(80)), 28.0),
        ({"project_id": "shop", "user_id": "ann"}, shown(minutes(80)), 18.0),
    ]
    flavors = statistics(ask, "cpu_util", "groupby=resource_metadata.flavor.name")
    assert [(each["groupby"], each["count"]) for each in flavors] == [
        ({"resource_metadata.flavor.name": "m1.large"}, 18),
        ({"resource_metadata.flavor.name": "m1.small"}, 9),
    ]
    (of_one,) = statistics(ask, "cpu_util", f"{q('metadata.flavor.name eq m1.small')}&groupby=source")
    assert (of_one["groupby"], of_one["count"]) == ({"source": "openstack"}, 9)


def test_aggregates_are_chosen(ask: httpx.Client) -> None:
    asked = (
        "aggregate.func=cardinality&aggregate.param=user_id&aggregate.func=max&aggregate.func=stddev&aggregate.func=max"
    )
    (found,) = statistics(ask, "cpu_util", f"{q('resource_id eq web-1')}&{asked}")
    assert found["aggregate"] == {"cardinality/user_id": 1.0, "max": 18.0, "stddev": pytest.approx(2.5819889)}
    assert {name for name in ("min", "max", "avg", "sum", "count") if name in found} == {"max"}
    zipped = "aggregate.func=avg&aggregate.func=cardinality&aggregate.param=resource_id&aggregate.func=count"
    (found,) = statistics(ask, "cpu_util", zipped)
    assert found["aggregate"] == {"avg": 24.0, "cardinality/resource_id": 3.0, "count": 27.0}
    assert (found["avg"], found["count"]) == (24.0, 27)
    ours = "&".join(f"aggregate.func={name}" for name in ("p50", "first", "last", "increase", "rate"))
    (counter,) = statistics(ask, "cpu", f"{ours}&{q(TEN, 'timestamp lt 2026-11-20T10:20:00')}")
    assert counter["aggregate"] == {"p50": 300.0, "first": 0.0, "last": 600.0, "increase": 600.0, "rate": 1.0}
    body = {"aggregate": [{"func": "cardinality", "param": "project_id"}]}
    answer = ask.request("GET", "/v2/meters/cpu_util/statistics", json=body).json()
    assert answer[0]["aggregate"] == {"cardinality/project_id": 2.0}


def test_bad_points_count_if_they_are_asked_for(ask: httpx.Client) -> None:
    (found,) = statistics(ask, "cpu_util", f"{q('resource_id eq web-1')}&include_excluded=True")
    assert (found["count"], found["min"]) == (10, -5.0)


def test_periods_may_be_of_the_calendar(ask: httpx.Client) -> None:
    found = statistics(ask, "cpu_util", "period=day&timezone=Asia/Kolkata")
    assert [(each["period_start"], each["period"], each["count"]) for each in found] == [
        ("2026-11-19T18:30:00", 86400.0, 27),
    ]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("period=-1", "Period must be positive. It is -1"),
        ("period=999999999999", "attribute period. Value: '999999999999'"),
        ("period=soon", "attribute period. Value: 'soon'. Write 0 to"),
        ("period=day&timezone=Mars", "attribute timezone. Value: 'Mars'"),
        ("groupby=color", 'Unknown argument: "color": Invalid groupby field'),
        ("groupby=metadata.", 'Unknown argument: "metadata."'),
        ("aggregate.func=median", "Invalid aggregation function: median. Write one of"),
        ("aggregate.func=cardinality", "Bad aggregate: cardinality.None. Write what to count"),
        ("aggregate.func=cardinality&aggregate.param=color", "Bad aggregate: cardinality.color"),
        ("aggregate.param=user_id", "attribute aggregate.param. Value: 'user_id'. There is no aggregate.func"),
        ("aggregate.func=rate&include_excluded=True", "attribute include_excluded. Value: 'True'"),
        (q("message_id eq 1"), "attribute field. Value: 'message_id'"),
        (q("color eq 1"), 'Unknown argument: "color": unrecognized field in query'),
        (q("timestamp eq 2026-11-20"), "Unimplemented operator for timestamp"),
        ("limit=5", 'Unknown argument: "limit"'),
    ],
)
def test_statistics_that_cannot_be_computed_are_refused(ask: httpx.Client, query: str, text: str) -> None:
    refused(ask.get(f"/v2/meters/cpu_util/statistics?{query}"), 400, text)


# -- resources ----------------------------------------------------------------------------------------------


def test_resources_link_to_their_samples(ask: httpx.Client) -> None:
    base = str(ask.base_url).rstrip("/")
    found = ask.get("/v2/resources/db/1/", headers=BOB).json()
    assert found["links"] == [
        {"href": f"{base}/v2/resources/db%2F1", "rel": "self"},
        {"href": f"{base}/v2/meters/cpu_util?q.field=resource_id&q.value=db%2F1", "rel": "cpu_util"},
        {"href": f"{base}/v2/meters/vcpus?q.field=resource_id&q.value=db%2F1", "rel": "vcpus"},
    ]
    assert ask.get(found["links"][0]["href"]).json() == found
    assert len(ask.get(found["links"][1]["href"]).json()) == 9
    assert {name: found[name] for name in ("project_id", "user_id", "source", "metadata")} == {
        "project_id": "bank",
        "user_id": "bob",
        "source": "openstack",
        "metadata": {"flavor.name": "m1.large", "name": "db", "on": "True"},
    }
    assert (found["first_sample_timestamp"], found["last_sample_timestamp"]) == (shown(NINE), shown(minutes(80)))
    listed = rows(ask, "/v2/resources?meter_links=0", **BOB)
    assert listed == [{**found, "links": found["links"][:1]}]
    for who in (ANN, {**BOB, "X-Project-Id": ""}):
        refused(ask.get("/v2/resources/db%2F1", headers=who), 404, "Resource db/1 Not Found")


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (("project_id eq shop",), ["web-1", "web-2"]),
        (("metadata.on eq True",), ["db/1", "web-1"]),
        (("metadata.ram eq 2048 integer", "user_id eq amy"), ["web-2"]),
        (("timestamp ge 2026-11-20T10:00:00", "resource_id eq web-1"), ["web-1"]),
        (("timestamp gt 2026-11-20T10:20:00",), []),
        (("timestamp lt 2026-11-20T09:00:00",), []),
        (("timestamp le 2026-11-20T09:00:00", "source eq openstack"), ["db/1", "web-1", "web-2"]),
        (
            ("timestamp ge 2026-11-20T10:21:00", "timestamp lt 2026-11-20T11:00:00", "search_offset eq 2"),
            ["db/1", "web-1", "web-2"],
        ),
    ],
)
def test_resources_are_queried(ask: httpx.Client, conditions: tuple[str, ...], found: list[str]) -> None:
    listed = rows(ask, f"/v2/resources?{q(*conditions)}")
    assert [each["resource_id"] for each in listed] == found


# -- events -------------------------------------------------------------------------------------------------


def ids(ask: httpx.Client, query: str = "", **headers: str) -> list[str]:
    return [each["message_id"] for each in rows(ask, f"/v2/events?{query}", **headers)]


def test_events_are_oldest_first_and_seen_by_their_owner(ask: httpx.Client) -> None:
    assert ids(ask) == ["event-0", "event-1", "event-2", "event-3"]
    assert ids(ask, "limit=2") == ["event-0", "event-1"]
    assert ids(ask, "sort=generated:desc&limit=2") == ["event-3", "event-2"]
    assert ids(ask, "", **ANN) == ["event-0"]
    assert ids(ask, "", **ROOT) == ["event-3"]  # of no project
    assert ids(ask, "all_tenants=True", **ROOT) == ids(ask)
    refused(ask.get("/v2/events?all_tenants=True", headers=ANN), 403, "takes the role admin")
    refused(ask.get("/v2/events?sort=traits"), 400, "attribute sort. Value: 'traits'")
    for lacking in ({"X-Project-Id": "shop"}, {"X-User-Id": "ann"}):
        for path in ("/v2/events", "/v2/events/event-0"):
            refused(ask.get(path, headers=lacking), 403, "Send both X-User-Id and X-Project-Id")


def test_an_event_has_its_traits(ask: httpx.Client) -> None:
    found = ask.get("/v2/events/event-1").json()
    assert (found["event_type"], found["generated"], found["raw"]) == (
        *("compute.instance.create.end", shown(minutes(10)), {}),
    )
    traits = {each["name"]: (each["type"], each["value"]) for each in found["traits"]}
    assert traits["vcpus"] == ("integer", "2")
    assert traits["instance_id"] == ("string", "web-2")
    refused(ask.get("/v2/events/event-1", headers=ANN), 404, "Event event-1 Not Found")
    refused(ask.get("/v2/events/nobody"), 404, "Event nobody Not Found")


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (("event_type eq compute.instance.create.end",), [0, 1, 2]),
        (("event_type eq compute.*",), []),
        (("message_id eq event-2",), [2]),
        (("start_timestamp eq 2026-11-20T09:10:00", "end_timestamp eq 2026-11-20T09:20:00"), [1, 2]),
        (("vcpus ge 2 integer",), [1, 2]),
        (("vcpus gt 1 integer", "vcpus lt 3 integer"), [1]),
        (("instance_id ne web-1",), [1, 2]),
        (("instance_id le web-1 string", "state eq active"), [0, 2]),
        (("nothing eq 1",), []),
    ],
)
def test_events_are_queried(ask: httpx.Client, conditions: tuple[str, ...], found: list[int]) -> None:
    assert ids(ask, q(*conditions)) == [f"event-{n}" for n in found]


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        ("event_type ne a", "Unimplemented operator for event_type"),
        ("start_timestamp le 2026-11-20", "Unimplemented operator for start_timestamp"),
        ("start_timestamp eq noon", "attribute start_timestamp. Value: 'noon'"),
        ("vcpus eq two integer", "Unable to convert the value two to the expected data type integer"),
        ("vcpus eq true boolean", "attribute type. Value: 'boolean'"),
    ],
)
def test_queries_for_events_that_cannot_be_used_are_refused(ask: httpx.Client, condition: str, text: str) -> None:
    refused(ask.get(f"/v2/events?{q(condition)}"), 400, text)


def test_types_of_events_are_for_administrators(ask: httpx.Client) -> None:
    created = "compute.instance.create.end"
    assert rows(ask, "/v2/event_types", **ROOT) == [created, "identity.user.created"]
    assert {"name": "vcpus", "type": "integer"} in rows(ask, f"/v2/event_types/{created}/traits")
    values = rows(ask, f"/v2/event_types/{created}/traits/vcpus?limit=2")
    assert values == [{"name": "vcpus", "type": "integer", "value": each} for each in ("1", "2")]
    assert rows(ask, "/v2/event_types/nobody/traits") == []
    refused(ask.get(f"/v2/event_types/{created}"), 404, "Not Found")
    for path in ("", f"/{created}/traits", f"/{created}/traits/vcpus"):
        refused(ask.get(f"/v2/event_types{path}", headers=ANN), 401, "takes the role admin")


# -- all paths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["meters", "meters/cpu_util", "meters/cpu_util/statistics", "samples", "resources"])
def test_another_project_is_not_authorized(ask: httpx.Client, path: str) -> None:
    for name in ("project", "project_id"):
        answer = ask.get(f"/v2/{path}?{q(f'{name} eq shop')}", headers=BOB)
        refused(answer, 401, "Not Authorized to access project shop")
    assert ask.get(f"/v2/{path}?{q('project_id eq bank')}", headers=BOB).status_code == 200
    assert ask.get(f"/v2/{path}?{q('project_id eq shop')}", headers=ROOT).json()


def test_methods_and_slashes_are_those_of_http(ask: httpx.Client) -> None:
    whole = ask.get("/v2/meters/")
    head = ask.head("/v2/meters")
    assert whole.json()
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    for path, allowed in (
        ("/v2/samples", "GET, HEAD"),
        ("/v2/meters/cpu", "GET, HEAD, POST"),
        ("/v2/query/samples", "POST"),
    ):
        answer = ask.delete(path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
        assert answer.json()["error_message"]["faultcode"] == "Client"


def test_roles_are_needed(ask: httpx.Client) -> None:
    for path in ("meters", "samples", "resources", "events", "capabilities", "meters/cpu/statistics"):
        refused(ask.get(f"/v2/{path}", headers={**ANN, "X-Roles": "guest"}), 403, "takes the role reader")
