"""What requests say: arguments, simple and complex queries, limits."""

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import Request

from meterhouse.api.access.identity import Identity
from meterhouse.api.answers.faults import Fault
from meterhouse.api.requests.arguments import Argument, Arguments, Given
from meterhouse.api.requests.complex_query import check_projects, complex_query
from meterhouse.api.requests.metering_query import MEASURES, Metering, metering_query
from meterhouse.api.requests.paging import LIMIT, limit_of
from meterhouse.api.requests.simple_query import Q, Query, queries_of
from meterhouse.filters import Filter, OneOf
from meterhouse.settings import Settings, read_settings
from meterhouse.times import parse

ARGUMENTS = Arguments(Q, LIMIT, Argument("unique", "", "boolean"), Argument("groupby", "", repeated=True))
MEMBER = Identity("u1", "shop", frozenset({"member"}))


def given(query: Any = "", body: Any = None, kind: str = "application/json") -> Given:
    """The arguments of a GET."""
    text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": text, "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": (query if isinstance(query, str) else urlencode(query)).encode(),
        "headers": [(b"content-type", kind.encode())],
    }
    return asyncio.run(ARGUMENTS.of(Request(scope, receive)))


def q(*conditions: tuple[str, str, str] | tuple[str, str, str, str]) -> list[Query]:
    """Conditions of a client."""
    return [Query(*each) for each in conditions]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return read_settings(api_max_limit=1_000)


def refused(text: str, status: int = 400) -> Any:
    return pytest.raises(Fault, match=text, check=lambda fault: fault.status == status)


def test_conditions_come_in_three_forms() -> None:
    expected = [Query("meter", "eq", "cpu"), Query("timestamp", "ge", "2026-11-20", "datetime")]
    dotted = "q.field=meter&q.field=timestamp&q.op=eq&q.op=ge&q.value=cpu&q.value=2026-11-20&q.type=&q.type=datetime"
    indexed = "q[1].field=timestamp&q[1].op=ge&q[1].value=2026-11-20&q[0].field=meter&q[0].value=cpu&q[1].type=datetime"
    body = {"q": [{"field": "meter", "value": "cpu"}, {**vars(expected[1])}], "limit": 5}
    for found in (given(dotted), given(indexed), given(body=body)):
        assert queries_of(found) == expected
    assert given(body=body).integer("limit") == 5
    zipped = given("q.field=a&q.field=b&q.op=ne&q.value=1&q.value=2")  # the operator is of the first one
    assert queries_of(zipped) == [Query("a", "ne", "1"), Query("b", "eq", "2")]


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"query": {"nonsense": 1}}, 'Unknown argument: "nonsense": Known here: '),
        ({"query": {"q.fild": 1}}, 'Unknown argument: "q.fild": Known here: q.field'),
        ({"query": {"q": 1}}, 'Unknown argument: "q"'),
        ({"query": [("limit", 1), ("limit", 2)]}, "field/attribute limit. Value: '2'. It is given several times"),
        ({"query": {"limit": 1}, "body": {"limit": 2}}, "limit. Value: '2'. It is given in the query string and in"),
        ({"body": [1]}, "The body is .*Write an object"),
        ({"body": b"{"}, "The body is not JSON: .*"),
        ({"body": {"q": 5}}, "field/attribute q. Value: '5'. Write a list"),
        ({"body": {"q": [5]}}, "field/attribute q. Value: '5'. Write an object"),
        ({"body": {"q": [{"fild": 1}]}}, 'Unknown argument: "fild"'),
        ({"query": {"q.field": "meter"}}, "field/attribute value. Value: 'None'. Mandatory field missing"),
        ({"query": {"q.value": "meter"}}, "field/attribute field. Value: 'None'. Mandatory field missing"),
        ({"query": {"q.field": "a", "q.value": 1, "q.op": "like"}}, "attribute op. Value: 'like'. Write one of eq, ne"),
        ({"query": {"q.field": "a", "q.value": 1, "q.type": "int"}}, "attribute type. Value: 'int'. Write one of int"),
        ({"query": [("q.field", "a"), ("q.value", "1")] * 101}, "The query has 101 conditions. Give at most 100"),
        ({"query": [("groupby", "a")] * 1_001}, "The request has 1,001 arguments"),
    ],
)
def test_what_cannot_be_read_is_refused(asked: dict[str, Any], text: str) -> None:
    with refused(text):
        queries_of(given(**asked))


def test_a_body_of_another_type_is_refused() -> None:
    with refused("Unknown mimetype: application/xml", 415):
        given(body=b"<q/>", kind="application/xml; charset=utf-8")
    assert queries_of(given(body={"q": []}, kind="")) == []


def test_values_are_read_as_openstack_writes_them(settings: Settings) -> None:
    assert [given(f"unique={each}").boolean("unique") for each in ("True", "yes", "1", "off", "F")] == [
        *(True, True, True, False, False)
    ]
    assert given("groupby=a&groupby=b").texts("groupby") == ["a", "b"]
    with refused("attribute unique. Value: 'maybe'. Write true or false"):
        given("unique=maybe").boolean("unique")
    with refused("attribute limit. Value: 'ten'. Write an integer"):
        limit_of(given("limit=ten"), settings)
    with refused("Limit must be positive. It is 0"):
        limit_of(given("limit=0"), settings)
    with refused("attribute limit. Value: '1001'. At most 1,000"):
        limit_of(given("limit=1001"), settings)
    assert (limit_of(given(), settings), limit_of(given("limit=7"), settings)) == (100, 7)


def metering(*conditions: Any, identity: Identity = MEMBER, **more: Any) -> Metering:
    return metering_query(q(*conditions), identity, MEASURES, **more)


def test_a_span_is_read_of_conditions() -> None:
    found = metering(
        ("timestamp", "gt", "2026-11-20T10:00:00"),
        ("timestamp", "ge", "2026-11-20T12:00:00+01:00"),
        ("timestamp", "le", "2026-11-20T13:00:00Z", "datetime"),
        ("search_offset", "eq", "30"),
    )
    assert found.start == found.anchor == parse("2026-11-20T10:30")
    assert found.end == parse("2026-11-20T13:30:00.000001")
    assert found.asked == (parse("2026-11-20T11:00"), parse("2026-11-20T13:00"))
    after = metering(("timestamp", "gt", "2026-11-20T10:00:00"), ("timestamp", "lt", "2026-11-21"))
    assert after.start == parse("2026-11-20T10:00:00.000001")
    assert (after.anchor, after.end) == (parse("2026-11-20T10:00"), parse("2026-11-21"))


def test_of_several_conditions_on_a_field_the_last_one_counts() -> None:
    found = metering(("user", "eq", "a"), ("metadata.x", "eq", "1"), ("user_id", "eq", "b"), ("metadata.y", "eq", "1"))
    compared = [(each.field, each.value) for each in found.conditions if isinstance(each, Filter)]
    assert compared == [("user_id", "b"), ("metadata.x", "1"), ("metadata.y", "1")]


def test_metadata_is_compared_by_type() -> None:
    for value, kind in (("True", ""), ("yes", "boolean"), ("true", "string")):
        (condition,) = metering(("resource_metadata.on", "eq", value, kind)).conditions
        assert isinstance(condition, OneOf)
        assert condition.among == ("true", "True")


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (("color", "eq", "1"), 'Unknown argument: "color": unrecognized field in query. Known: '),
        (("proect_id", "eq", "1"), 'Unknown argument: "proect_id": .*Did you mean project_id'),
        (("meter", "lt", "1"), "attribute op. Value: 'lt'. Unimplemented operator for meter. Write eq"),
        (("timestamp", "eq", "2026-11-20"), "attribute op. Value: 'eq'. Unimplemented operator for timestamp"),
        (("timestamp", "ge", "noon"), "attribute timestamp. Value: 'noon'. 'noon' is not a time. Write ISO 8601"),
        (("timestamp", "ge", "1066-10-14"), "attribute timestamp. Value: '1066-10-14'. .*out of reach"),
        (("search_offset", "eq", "5"), "field. Value: 'search_offset'. It cannot be used without timestamp"),
        (("search_offset", "eq", "-5"), "search_offset. Value: '-5'. Write 0 to"),
        (("search_offset", "ge", "5"), "Unimplemented operator for search_offset"),
        (("metadata.x", "eq", "a", "integer"), "Unable to convert the value a to the expected data type integer"),
        (("metadata.x", "eq", "a", "float"), "to the expected data type float"),
        (("metadata.x", "eq", "a", "boolean"), "to the expected data type boolean"),
        (("metadata.x", "eq", "a", "datetime"), "'a' is not a time"),
        (("resource", "eq", "a", "integer"), "Change q.value of resource, or q.type"),
        (("user", "eq", "a\0b"), "attribute user. Value: .* The value has a NUL character"),
        (("metadata.", "eq", "a"), 'Unknown argument: "metadata."'),
    ],
)
def test_conditions_that_cannot_be_used_are_refused(condition: Any, text: str) -> None:
    with refused(text):
        metering(condition)


def test_meters_have_no_time() -> None:
    with refused('Unknown argument: "timestamp": not valid for this resource'):
        metering(("timestamp", "ge", "2026-11-20"), timed=False)


def test_another_project_is_not_authorized() -> None:
    for name in ("project", "project_id"):
        with refused("Not Authorized to access project bank. Ask for your own", 401):
            metering((name, "eq", "bank"), (name, "eq", "shop"))
    assert metering(("project_id", "eq", "shop")).conditions
    admin = Identity("", "", frozenset({"admin"}))
    assert metering(("project_id", "eq", "bank"), identity=admin).conditions


def test_a_complex_query_is_read(settings: Settings) -> None:
    asked = complex_query(
        {
            "filter": '{"and": [{"=": {"project": "shop"}}, {"NOT": {"in": {"metadata.on": ["a"]}}}]}',
            "orderby": '[{"timestamp": "DESC"}, {"metadata.x": "asc"}]',
            "limit": 5,
        },
        MEASURES | {"timestamp": MEASURES["meter"]},
        settings,
    )
    assert asked.limit == 5
    assert [(each.name, each.descending) for each in asked.order] == [("timestamp", True), ("metadata.x", False)]
    check_projects(asked.condition, "shop")
    for nested in ('{"not": {"!=": {"project_id": "bank"}}}', '{"in": {"project": ["shop", "bank"]}}'):
        found = complex_query({"filter": nested}, MEASURES, settings)
        check_projects(found.condition, None)
        with refused("Not Authorized to access project bank", 401):
            check_projects(found.condition, "shop")
    for empty in (None, {}, {"filter": None, "orderby": "[]"}):
        assert complex_query(empty, MEASURES, settings) == complex_query({"limit": 100}, MEASURES, settings)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "The body is .*Write an object with filter, orderby, limit"),
        ({"filtre": 1}, 'Unknown argument: "filtre"'),
        ({"filter": "{"}, "Filter expression not valid: It is not JSON"),
        ({"filter": "5"}, "Filter expression not valid: 5 is not a condition. Write an object"),
        ({"filter": '{"=": {"a": 1}}'}, "Filter expression not valid: At =: Unknown field 'a'"),
        ({"filter": '{"and": [{"=": {"user": "a"}}, {"like": {"user": 1}}]}'}, r"At and\[1\]: Unknown operator 'like'"),
        ({"filter": '{"not":' * 40 + '{"=":{"user":"a"}}' + "}" * 40}, "nested more than 32 levels"),
        ({"filter": "[" * 5_000}, "Filter expression not valid: It is not JSON"),
        ({"filter": ""}, "Filter expression not valid: It is not JSON"),
        ({"orderby": ""}, "Order-by expression not valid: It is not JSON"),
        ({"filter": {"=": {"user": "a"}}}, "attribute filter.* Wrong type. Write a text that holds JSON"),
        ({"filter": "{}"}, "Filter expression not valid: {} is not a condition"),
        ({"filter": "null"}, "Filter expression not valid: None is not a condition"),
        ({"filter": '{"and": [{"=": {"user": "a"}}]}'}, "At and: .* Write at least two"),
        ({"orderby": "{}"}, "Order-by expression not valid: It is {}. Write a list"),
        ({"orderby": "5"}, "Order-by expression not valid: It is 5. Write a list"),
        ({"orderby": '[{"user": "up"}]'}, "It has the direction 'up'. Write asc or desc"),
        ({"orderby": '[{"a": "asc"}]'}, "Order-by expression not valid: Unknown field 'a'"),
        ({"orderby": '[{"user": "asc", "project": "asc"}]'}, "Write an object with one key"),
        ({"limit": "ten"}, "attribute limit. Value: 'ten'. Write an integer"),
        ({"limit": -1}, "Limit must be positive. It is -1"),
    ],
)
def test_complex_queries_that_cannot_be_used_are_refused(body: Any, text: str, settings: Settings) -> None:
    with refused(text):
        complex_query(body, MEASURES, settings)
