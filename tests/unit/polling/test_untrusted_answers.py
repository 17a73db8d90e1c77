"""Answers that nobody should send: each is a clear error or costs one entry, and nothing else is harmed."""

import gzip
import itertools
import json
import time
from collections.abc import Iterator

import pytest

from meterhouse.polling.asking import Asking
from meterhouse.polling.asking.endpoints import Endpoint, Endpoints
from meterhouse.polling.polled import Piece, Polled, PollError
from meterhouse.polling.record import rest_as_json, rest_of_json
from meterhouse.settings import read_settings
from tests.dynamic_pollsters import compiled, keystone_routes, polled, slot, source
from tests.web import Raw, Request, Web, web


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    with web({}) as made:
        made.routes.update(keystone_routes(volumev3=made.url))
        yield made


@pytest.fixture(scope="module")
def asking(server: Web) -> Iterator[Asking]:
    """What asks, with a token for the server; small answers only."""
    settings = read_settings(keystone_url=f"{server.url}/v3", keystone_username="u", keystone_password="p")
    made = Asking(settings, Endpoints((Endpoint(f"{server.url}/small", token=True, max_mib=1),)))
    yield made
    made.close()


BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><x>&c;</x>"""


@pytest.mark.parametrize(
    ("body", "handlers", "reason"),
    [
        (BOMB, ["xml"], "its XML declares entities"),
        (b"<a>" * 5000 + b"</a>" * 5000, ["xml"], "its XML is nested too deeply"),
        (b"<a><b></a>", ["xml"], "it is not XML: mismatched tag, line 1"),
        (b"[" * 100_000, ["json"], "its JSON is nested too deeply"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, ["json"], "its JSON is nested too deeply"),
        (b'[{"id": "v1", "size": 1}, {"id": "v', ["json"], "it is not JSON from line 1"),
        (
            b"<html>",
            ["json", "xml"],
            "it is not JSON from line 1, column 1, and it is not XML: no",
        ),
        (b"", ["json"], "it is empty"),
        (b"[" + b"9" * 5000 + b"]", ["json"], "it is not JSON: Exceeds the limit (4300 digits)"),
        (b'"text"', ["json"], "the answer is a text, neither a list nor a mapping"),
        (b"12", ["json"], "the answer is a number, neither a list nor a mapping"),
        (b'{"volumes": 7}', ["json"], "has under 'volumes' is a number, not a list. Set response_entries_key"),
    ],
)
def test_an_answer_that_cannot_be_read_is_an_error(
    asking: Asking, server: Web, body: bytes, handlers: list[str], reason: str
) -> None:
    server.routes["/volumes"] = body
    with pytest.raises(PollError) as error:
        polled(asking, server.url, response_handlers=handlers)
    assert reason in str(error.value)
    assert str(error.value).startswith(f"{server.url}/volumes: ")


def test_an_entry_that_cannot_be_used_costs_no_other(asking: Asking, server: Web) -> None:
    server.routes["/volumes"] = (
        b'[{"id": "v1", "size": NaN}, {"id": "v2", "size": Infinity}, {"id": "v3", "size": "1e999"}, "x", null, [1],'
        b'{"id": {"a": 1}, "size": 1}, {"size": 1}, {"id": "v4"}, {"id": "v5", "size": "big"}, {"id": "v6", "size": 6},'
        b'{"id": "\\u001b[31m", "size": [1]}, {"id": "v7", "size": 123456789012345678901234567890}]'
    )
    found = polled(asking, server.url)
    assert [(each["resource_id"], each["counter_volume"]) for each in found.samples] == [
        ("v6", 6),
        ("v7", 123456789012345678901234567890.0),
    ]
    assert found.warnings == [
        "3 entries, first v1: its value is not a finite number",
        "entry 4: it is a str, not a mapping",
        "entry 5: it is a NoneType, not a mapping",
        "entry 6: it is a list, not a mapping",
        "entry 7: an id of it is a dict",
        "4 entries: for other reasons",
    ]


def test_an_answer_that_is_too_large_is_not_read_to_its_end(asking: Asking, server: Web) -> None:
    server.routes["/small/volumes"] = Raw(pieces=itertools.repeat(b"[" * 1_000_000))
    with pytest.raises(PollError, match=r"the answer is larger than 1 MiB\. Ask for pages, or set max_mib"):
        polled(asking, f"{server.url}/small")
    server.routes["/small/volumes"] = Raw(
        body=gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}
    )
    with pytest.raises(PollError, match="the answer is larger than 1 MiB"):
        polled(asking, f"{server.url}/small")
    server.routes["/small/volumes"] = Raw(body=b"no gzip", headers={"Content-Encoding": "gzip"})
    with pytest.raises(PollError, match="the answer is not compressed as it says"):
        polled(asking, f"{server.url}/small")


def test_an_answer_that_drips_ends_with_its_time(asking: Asking, server: Web) -> None:
    server.routes["/volumes"] = Raw(pieces=itertools.repeat(b" "), pause=0.02)
    began = time.monotonic()
    with pytest.raises(PollError, match=r"there was no whole answer within 0\.3 s"):
        polled(asking, server.url, timeout=0.3)
    assert time.monotonic() - began < 20
    server.routes["/volumes"] = [{"id": "v1", "size": 1}]
    assert len(polled(asking, server.url).samples) == 1


def test_a_request_ends_with_its_slot(asking: Asking, server: Web) -> None:
    server.routes["/volumes"] = Raw(pieces=itertools.repeat(b" "), pause=0.02)
    with pytest.raises(PollError, match="there was no whole answer within 0"):
        compiled(timeout=3000).poll(asking, slot(0.3), Piece(), source(server.url))


def test_the_token_follows_no_redirect_to_another_host(asking: Asking, server: Web) -> None:
    with web({"/volumes": [{"id": "v1", "size": 1}]}) as other:
        server.routes["/volumes"] = Raw(302, headers={"Location": f"{other.url}/volumes?key=hunter2"})
        with pytest.raises(PollError, match="it redirects to another host, http://127") as error:
            polled(asking, server.url)
        assert "hunter2" not in str(error.value)
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        server.routes["/volumes"] = {"next": f"{elsewhere}/volumes", "volumes": []}
        with pytest.raises(PollError, match="the next page is at another host"):
            polled(asking, server.url, next_sample_url_attribute="next", response_entries_key="volumes")
        with pytest.raises(PollError, match="url_path leads to another host"):
            polled(asking, server.url, url_path=f"{other.url}/volumes")
        assert other.requests == []

    server.routes["/volumes"] = Raw(301, headers={"Location": "/moved"})
    server.routes["/moved"] = [{"id": "v1", "size": 1}]
    assert len(polled(asking, server.url).samples) == 1
    assert server.requests[-1].headers["x-auth-token"]
    server.routes["/moved"] = Raw(302, headers={"Location": "/volumes"})
    with pytest.raises(PollError, match="it redirects more than 5 times"):
        polled(asking, server.url)


def test_pages_that_never_end_are_left_to_other_tasks_and_circles_are_noticed(asking: Asking, server: Web) -> None:
    def page(request: Request) -> object:
        number = int(request.path.partition("=")[2] or 0)
        return {"next": f"volumes?page={number + 1}", "volumes": [{"id": f"v{number}", "size": 1}]}

    keys = {"next_sample_url_attribute": "next", "response_entries_key": "volumes"}
    server.routes["/volumes"] = page
    found = polled(asking, server.url, **keys)
    assert (len(found.samples), found.warnings) == (100, [])
    assert [(each.piece, each.error) for each in found.rests] == [
        (Piece(page=f"{server.url}/volumes?page=100", resources=(server.url,)), None)
    ]
    more = polled(asking, server.url, found.rests[0].piece, **keys)
    assert more.samples[0]["resource_id"] == "v100"

    circle = [f"{server.url}: its pages go round in a circle; those that were polled are kept"]
    server.routes["/volumes"] = {"next": "volumes?page=1", "volumes": [{"id": "v1", "size": 1}]}
    found = polled(asking, server.url, **keys)
    assert (found.rests, len(found.samples), found.warnings) == ([], 2, circle)

    def one_of_two(request: Request) -> object:
        return {"next": "volumes" if "page" in request.path else "volumes?page=1", "volumes": [{"id": "v", "size": 1}]}

    server.routes["/volumes"] = one_of_two
    for begins, pages in ((None, 2), (f"{server.url}/volumes?page=1", 1)):
        found = polled(asking, server.url, Piece(page=begins, resources=(server.url,)), **keys)
        assert (found.rests, len(found.samples), found.warnings) == ([], pages, circle)


def test_what_was_polled_is_kept_and_the_rest_is_a_task_of_its_own(asking: Asking, server: Web) -> None:
    def page(request: Request) -> object:
        return Raw(500) if "page" in request.path else {"next": "a/volumes?page=1", "volumes": [{"id": "a", "size": 1}]}

    keys = {"next_sample_url_attribute": "next", "response_entries_key": "volumes"}
    server.routes.update({"/a/volumes": page, "/b/volumes": Raw(503), "/c/volumes": [{"id": "c", "size": 1}]})
    server.routes["/a/a/volumes"] = page
    urls = [f"{server.url}/{each}" for each in "abc"]
    found = compiled(**keys).poll(asking, slot(), Piece(), source(*urls))
    assert [each["resource_id"] for each in found.samples] == ["a", "c"]
    wanted = f"{urls[0]}/a/volumes?page=1"
    assert [(each.piece, each.error) for each in found.rests] == [
        (Piece(page=wanted, resources=(urls[0],)), f"{urls[0]}/a/volumes?…: it answers with status 500"),
        (Piece(resources=(urls[1],)), f"{urls[1]}/volumes: it answers with status 503"),
    ]
    left = compiled(**keys).poll(asking, slot(), Piece(resources=(urls[2],)), source(*urls))
    assert len(left.samples) == 1

    server.routes["/k/"] = [{"id": "k", "size": 1}]
    secret = [f"{server.url}/k/?token=hidden", f"{server.url}/b/?token=hidden"]
    server.routes["/b/"] = Raw(503)
    found = compiled(**keys, url_path="?token=hidden").poll(asking, slot(), Piece(), source(*secret))
    (rest,) = found.rests
    assert (len(found.samples), "hidden" in str(rest)) == (1, False)
    server.routes["/b/"] = [{"id": "b", "size": 1}]
    left = compiled(**keys, url_path="?token=hidden").poll(asking, slot(), rest.piece, source(*secret))
    assert [each["resource_id"] for each in left.samples] == ["b"]
    gone = compiled(**keys, url_path="?token=hidden").poll(asking, slot(), rest.piece, source(secret[0]))
    assert (gone.samples, gone.rests) == ([], [])

    server.routes["/c/volumes"] = Raw(500)
    server.routes["/a/volumes"] = Raw(500)
    with pytest.raises(PollError, match="it answers with status 500; and 2 more targets failed"):
        compiled(**keys).poll(asking, slot(), Piece(), source(*urls))


def test_shards_divide_endpoints_or_the_entries_of_one(asking: Asking, server: Web) -> None:
    server.routes["/volumes"] = [{"id": f"v{number}", "size": 1} for number in range(40)]
    urls = [f"{server.url}/{number}" for number in range(8)]
    server.routes.update({f"/{number}/volumes": [{"id": f"of-{number}", "size": 1}] for number in range(8)})

    def ids(found: Polled) -> set[str]:
        return {each["resource_id"] for each in found.samples}

    parts = [ids(compiled().poll(asking, slot(), Piece(n, 4), source(server.url, shards=4))) for n in range(4)]
    assert sum(map(len, parts)) == 40
    assert len(set.union(*parts)) == 40
    assert all(parts)
    parts = [ids(compiled().poll(asking, slot(), Piece(n, 2), source(*urls))) for n in range(2)]
    assert sum(map(len, parts)) == 8
    assert set.union(*parts) == {f"of-{number}" for number in range(8)}


@pytest.mark.parametrize("says", [4, 2, 0])
@pytest.mark.parametrize("endpoints", [3, 10])
def test_what_a_shard_leaves_is_divided_as_the_shard_was(
    asking: Asking, server: Web, endpoints: int, says: int
) -> None:
    """Whatever the source says by now: 3 endpoints are divided by entries among the slot's 4 tasks, 10 are not."""
    urls = [f"{server.url}/left/{number}" for number in range(endpoints)]
    entries = {url: [{"id": f"{at}-{number}", "size": 1} for number in range(40)] for at, url in enumerate(urls)}
    paths = {url: f"/left/{at}/volumes" for at, url in enumerate(urls)}
    server.routes.update({path: Raw(500) if url == urls[1] else entries[url] for url, path in paths.items()})
    rests, ids = [], []
    for number in range(4):
        found = compiled().poll(asking, slot(), Piece(number, 4), source(*urls, shards=says if number else 4))
        ids += [each["resource_id"] for each in found.samples]
        rests += [rest_of_json(rest_as_json(rest)).piece for rest in found.rests]
    server.routes[paths[urls[1]]] = entries[urls[1]]
    assert {rest.resources for rest in rests} == {(urls[1],)}
    assert len(rests) == (4 if endpoints < 4 else 1)
    for rest in rests:
        left = compiled().poll(asking, slot(), rest, source(*urls, shards=says))
        ids += [each["resource_id"] for each in left.samples]
    assert sorted(ids) == sorted(entry["id"] for each in entries.values() for entry in each)


def test_errors_show_no_secrets(asking: Asking, server: Web) -> None:
    for url in ("http://user:hunter2@localhost/", "ftp://localhost/?key=hunter2", "http://localhost:x/?hunter2"):
        with pytest.raises(PollError) as error:
            polled(asking, url)
        assert "hunter2" not in str(error.value)
    server.routes["/volumes"] = Raw(500, json.dumps({"password": "hunter2"}).encode())
    with pytest.raises(PollError) as error:
        polled(asking, server.url, headers={"X-Key": "hunter2"}, url_path="volumes?key=hunter2")
    assert str(error.value) == f"{server.url}/volumes?…: it answers with status 500"
    with pytest.raises(PollError, match="it cannot be connected to: Connection refused"):
        polled(asking, "http://127.0.0.1:1/")


def test_half_an_answer_is_none(asking: Asking, server: Web) -> None:
    server.routes["/volumes"] = Raw(pieces=iter([b"[]"]), headers={"Content-Length": "100"})
    with pytest.raises(PollError, match="the connection ended before the answer did"):
        polled(asking, server.url)
