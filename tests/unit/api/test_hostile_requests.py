"""Requests that no client should send: each is refused in a sentence or answered, and none breaks the server."""

import json

import httpx
from api_server import client
from builders import land_points, point

from meterhouse.site import Site

PATHS = (
    "/v2/meters",
    "/v2/meters/cpu",
    "/v2/meters/cpu/statistics",
    "/v2/samples",
    "/v2/resources",
    "/v2/events",
    "/v2/event_types",
    "/v2/alarms",
    "/v2/alarms/x/history",
    "/v2/quotas",
)
ONES = ("/v2/meters/", "/v2/samples/", "/v2/resources/", "/v2/events/", "/v2/event_types/", "/v2/alarms/")
QUERIES = ("/v2/query/samples", "/v2/query/alarms", "/v2/query/alarms/history")
VALUES = (
    "%00",
    "%FF%FE",
    "%ED%A0%80",
    "%E2%98%83",
    "'",
    "%22",
    "%5C",
    "%27%20OR%201=1--",
    "%25",
    "*",
    "[",
    "(",
    "-1",
    "1e400",
    "NaN",
    "Infinity",
    "true",
    "null",
    "{}",
    "[]",
    "%",
    "%zz",
    "0001-01-01T00:00:00",
    "9999-12-31T23:59:59",
    "9999-12-31T23:59:59-23:00",
    "0001-01-01T00:00:00%2B23:00",
    "2026-02-30T00:00:00",
    "2026-11-20T10:00:00%2B99:99",
    "2026-11-20T23:59:60",
    "99999-01-01",
    "0x10",
    "1_000",
    "%D9%A1",
    "9223372036854775807-9223372036854775807",
    "--1-",
    "1-99999999999999999999",
    "x%2Fy",
    "..",
    "%0D%0ASet-Cookie:x",
    "",
    "1" + "0" * 400,
    "x" * 5000,
)
ARGUMENTS = (
    "limit={}",
    "marker={}",
    "{}",
    "period={}",
    "groupby={}",
    "aggregate.func={}",
    "aggregate.func=cardinality&aggregate.param={}",
    "sort={}",
    "q.field={}&q.op=eq&q.value=1",
    "q.field=resource_id&q.op={}&q.value=1",
    "q.field=resource_id&q.op=eq&q.value={}",
    "q.field=metadata.{0}&q.op=eq&q.type=integer&q.value={0}",
    "q.field=timestamp&q.op=ge&q.value={}",
    "q[{}].field=resource_id",
    "period=1&q.field=timestamp&q.op=le&q.value={}",
)
REGEXES = ("(a+)+$", "(" * 500, "[", "\\", "(?P<x>a)(?P=x)", "(?=a)", "a{1000000000}", "a{1000}{1000}", "*", "x" * 5000)
NUMBERS = (1e308, 10**400, -(10**30), 2**63, True, None, [], {}, "\x00", "NaN", [[]], [None], [1, "a", True])
BODIES = (
    b"",
    b"\xff\xfe\x00",
    b"{",
    b"[]",
    b'"x"',
    b"5",
    b"null",
    b"NaN",
    b"[" * 100_000,
    b'{"filter":' * 5_000,
    b'{"limit":1e400}',
    b'{"limit":NaN}',
    b'{"limit":' + b"9" * 5_000 + b"}",
    b'{"filter":"\\ud800"}',
    b'{"filter":"\\u0000"}',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b'{"orderby":"[null]"}',
    b'{"orderby":"[[]]"}',
)


def _refused_or_answered(found: httpx.Response) -> None:
    asked = f"{found.request.method} {str(found.request.url)[:200]} {found.request.content[:200]!r}: {found.text[:300]}"
    assert found.status_code < 500, asked
    if found.status_code >= 400:
        assert set(found.json()["error_message"]) == {"faultcode", "faultstring", "debuginfo"}, asked
        assert found.json()["error_message"]["faultcode"] == "Client", asked


def _nested(depth: int, before: str, after: str) -> str:
    return before * depth + '{"=":{"type":"x"}}' + after * depth


def test_no_url_breaks_the_server(site: Site) -> None:
    land_points(site, [point(1, meter="cpu")])
    with client(site) as ask:
        for value in VALUES:
            for path in ONES:
                _refused_or_answered(ask.get(path + value))
            for number, path in enumerate(PATHS):
                for argument in ARGUMENTS[number % 2 :: 2]:
                    _refused_or_answered(ask.get(f"{path}?{argument.format(value)}"))


def test_no_filter_breaks_the_server(site: Site) -> None:
    land_points(site, [point(1, meter="cpu")])
    filters = [_nested(depth, '{"not":', "}") for depth in (10, 200, 400, 1_000, 1_010, 50_000)]
    filters += [_nested(depth, '{"and":[{"=":{"type":"y"}},', "]}") for depth in (10, 200, 400, 500, 50_000)]
    filters += [json.dumps({"or": [{"=": {"type": str(each)}} for each in range(20_000)]})]
    filters += [json.dumps({"in": {"type": [str(each) for each in range(50_000)]}})]
    filters += [
        json.dumps({"=~": {field: regex}}) for regex in REGEXES for field in ("type", "resource_id", "metadata.a")
    ]
    fields = ("volume", "timestamp", "metadata.a", "enabled", "state", "type", "project_id")
    filters += [
        json.dumps({op: {field: value}}) for value in NUMBERS for field in fields for op in ("=", "<", "in", "=~")
    ]
    with client(site) as ask:
        for path in QUERIES:
            for each in filters:
                _refused_or_answered(ask.post(path, json={"filter": each}))
            for body in BODIES:
                _refused_or_answered(ask.post(path, content=body, headers={"Content-Type": "application/json"}))


def test_no_method_breaks_the_server(site: Site) -> None:
    with client(site) as ask:
        for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "FOO"):
            for path in (*PATHS, "/", "/v2", "/v2/capabilities", *QUERIES):
                found = ask.request(method, path)
                assert found.status_code < 500
                assert found.status_code != 405 or found.headers["Allow"]
