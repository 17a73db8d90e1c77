"""Posted samples are durable when they are answered, found by the ids of the answer, and counted once."""

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import client, served
from brokers import Proxy, declare
from builders import count, process, rows, warehouse_rows
from conftest import OpenSite
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.collection.collect import collect
from meterhouse.collection.posted_samples import delta_id
from meterhouse.collection.posting import Posting
from meterhouse.errors import Conflict
from meterhouse.queries.samples import samples
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING, Scope
from meterhouse.site import Site
from meterhouse.stream import connection
from meterhouse.stream.publishing import enveloped
from meterhouse.stream.spool_publishing import SpoolPublisher
from meterhouse.upkeep import upkeep

AT = "2026-11-20T10:00:00"
URL = "/v2/meters/power"


def sample(volume: Any = 1.5, **more: Any) -> dict[str, Any]:
    return {
        "counter_name": "power",
        "counter_type": "gauge",
        "counter_unit": "W",
        "counter_volume": volume,
        "resource_id": "r1",
        **more,
    }


@pytest.fixture
def asks(site: Site) -> Iterator[httpx.Client]:
    with client(site, x_project_id="shop", x_user_id="ann") as made:
        yield made


def volumes(site: Site, meter: str = "power", scope: Scope = EVERYTHING) -> list[float]:
    return sorted(samples(site, scope, meter, limit=10_000)["volume"].to_pylist())


def test_the_answer_repeats_the_samples_with_their_defaults_and_ids_by_which_they_are_found(
    asks: httpx.Client, site: Site
) -> None:
    posted = [
        sample(timestamp="2026-11-20T11:00:00+01:00", resource_metadata={"a.b.c": "x", "a.b.d": "y", "e": "z"}),
        sample("2", counter_unit=None, timestamp=None, source="room", user_id="bob", project_id="shop"),
        sample(3, counter_type="delta", timestamp=AT),
        sample(4, counter_type="delta", timestamp=AT, message_id="mine"),
    ]
    before = times.now().replace(tzinfo=None)
    answer = asks.post(URL, json=posted)
    assert answer.status_code == 201, answer.text
    first, second, third, fourth = answer.json()
    recorded = first.pop("recorded_at")
    assert before <= datetime.fromisoformat(recorded) <= times.now().replace(tzinfo=None)
    message_id = first.pop("message_id")
    assert first == {
        **sample(),
        "timestamp": AT,
        "resource_metadata": posted[0]["resource_metadata"],
        "user_id": "ann",
        "project_id": "shop",
        "source": "shop:openstack",
    }
    assert (second["source"], second["user_id"], second["counter_unit"]) == ("shop:room", "bob", None)
    assert (second["timestamp"], second["counter_volume"]) == (recorded, 2.0)
    assert fourth["message_id"] == "mine"
    process(site)
    found = {each["id"]: each for each in samples(site, Scope("shop"), "power").to_pylist()}
    assert {message_id, second["message_id"]} < set(found)
    assert found[message_id]["timestamp"] == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert found[third["message_id"]]["volume"] == 3.0
    assert found[delta_id("mine")]["volume"] == 4.0
    (metadata,) = rows(site, "samples", "DISTINCT origin, metadata_id", "volume = 1.5")
    assert metadata["origin"] == "posted"
    texts = {json.dumps(json.loads(text)) for (text,) in warehouse_rows(site, "SELECT metadata FROM resource_metadata")}
    assert json.dumps({"a": {"b": {"c": "x", "d": "y"}}, "e": "z"}) in texts


def test_whoever_posts_directly_can_query_at_once(asks: httpx.Client, site: Site) -> None:
    for word, volume in (("True", 1.0), ("true", 2.0)):
        answer = asks.post(
            URL, params={"direct": word}, json=[sample(volume, timestamp=f"2026-11-20T1{volume:.0f}:00")]
        )
        assert (answer.status_code, answer.headers.get("warning")) == (201, None), answer.text
    assert volumes(site) == [1.0, 2.0]
    kinds = [sample(n, counter_type=kind, resource_id="r2") for n, kind in enumerate(("gauge", "delta", "cumulative"))]
    posted = asks.post(URL, params={"direct": "1"}, json=[*kinds, {**kinds[1], "message_id": "my own"}]).json()
    for each in posted:
        found = asks.get(f"/v2/samples/{each['message_id']}").json()
        assert (found["id"], found["type"]) == (each["message_id"], each["counter_type"]), found
        assert (found["volume"], found["timestamp"]) == (each["counter_volume"], each["timestamp"])
        assert asks.get(f"/v2/samples/{each['message_id']}", headers={"X-Project-Id": "bank"}).status_code == 404
    assert asks.post(URL, params={"direct": "False"}, json=[sample(3.0)]).status_code == 201
    assert len(volumes(site)) == 6
    assert asks.post(URL, params={"direct": "perhaps"}, json=[sample(3.0)]).status_code == 400


def test_what_cannot_be_converted_now_is_stored_all_the_same(
    asks: httpx.Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*given: Any, **how: Any) -> None:
        raise Conflict("another process\nconverts")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("meterhouse.collection.posting.follow", busy)
        answer = asks.post(URL, params={"direct": "true"}, json=[sample(timestamp=AT)])
        operator = httpx.post(asks.base_url.join(URL), params={"direct": "true"}, json=[sample(2.0, timestamp=AT)])
    assert answer.status_code == 201
    assert answer.headers["warning"] == '199 - "The samples are stored, and can be queried later"'
    assert operator.headers["warning"].endswith('later: another process converts"')
    process(site)
    assert volumes(site) == [1.5, 2.0]


@pytest.mark.parametrize("how", ["stream", "direct", "both"])
def test_a_repeat_with_the_same_key_counts_once(asks: httpx.Client, site: Site, how: str) -> None:
    posted = [sample(1.0, counter_type="delta"), sample(2.0), sample(4.0, message_id="x", counter_type="delta")]
    answers = []
    for number in range(3):
        direct = {"stream": False, "direct": True, "both": number == 1}[how]
        headers = {"Idempotency-Key": '"one"'}
        answers.append(asks.post(URL, params={"direct": str(direct)}, json=posted, headers=headers))
    assert [answer.status_code for answer in answers] == [201] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    other = asks.post(URL, json=[sample(9.0)], headers={"Idempotency-Key": '"one"'})
    assert other.status_code == 422
    assert "new key" in other.json()["error_message"]["faultstring"]
    bank = {"x-project-id": "bank", "Idempotency-Key": '"one"'}
    assert asks.post(URL, json=[sample(8.0)], headers=bank).status_code == 201
    process(site)
    assert volumes(site) == [1.0, 2.0, 4.0, 8.0]


def test_a_repeat_of_a_message_id_counts_once_whatever_comes_with_it(asks: httpx.Client, site: Site) -> None:
    def delta(volume: float, message_id: str) -> dict[str, Any]:
        return sample(volume, counter_type="delta", message_id=message_id)

    assert asks.post(URL, json=[delta(1.0, "a"), delta(2.0, "b")]).status_code == 201
    assert asks.post(URL, json=[delta(2.0, "b"), delta(4.0, "c")]).status_code == 201
    assert asks.post(URL, json=[{**delta(8.0, "g"), "counter_type": "gauge"}] * 2).status_code == 201
    # Another project, and its administrator, hide nothing of this one's, whatever ids they use.
    for headers in ({"x-project-id": "bank"}, {"x-project-id": "bank", "x-roles": "admin"}):
        assert asks.post(URL, json=[delta(16.0, "c"), delta(32.0, "d")], headers=headers).status_code == 201
    assert asks.post(URL, json=[delta(64.0, "d")]).status_code == 201
    process(site)
    assert volumes(site, scope=Scope("shop")) == [1.0, 2.0, 4.0, 8.0, 64.0]
    assert volumes(site, scope=Scope("bank")) == [16.0, 32.0]


def test_samples_are_signed_if_the_site_verifies_signatures(open_site: OpenSite) -> None:
    site = open_site(telemetry_secret="secret")
    with client(site) as asks:
        posted = [sample(1.25, resource_metadata={"é.x": "ü", "n": None}), sample(2, timestamp=AT, message_id="m")]
        assert asks.post(URL, json=posted).status_code == 201
    process(site)
    assert volumes(site) == [1.25, 2.0]
    assert {row["source"] for row in rows(site, "samples", "source")} == {"openstack"}


PROJECT = "You can not post samples to other projects"


@pytest.mark.parametrize(
    ("headers", "project_id", "status", "says"),
    [
        ({"x-project-id": "shop"}, "bank", 400, PROJECT),
        ({"x-project-id": "shop", "x-roles": "member"}, None, 201, "shop"),
        ({"x-project-id": "shop", "x-roles": "reader"}, None, 403, "telemetry:create_samples"),
        ({"x-project-id": "shop", "x-roles": "admin"}, "bank", 201, "bank"),
        ({"x-user-id": "ann"}, None, 400, PROJECT),
        ({}, "bank", 201, "bank"),
    ],
)
def test_only_administrators_post_for_other_projects(
    site: Site, headers: dict[str, str], project_id: str | None, status: int, says: str
) -> None:
    with client(site) as asks:
        answer = asks.post(URL, json=[sample(project_id=project_id)], headers=headers)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert bool(site.stream.backlog()) == (status == 201)


BAD: list[tuple[Any, str]] = [
    (None, "Samples should be included in request body"),
    ([], "Samples should be included in request body"),
    ({}, "Invalid input for field/attribute samples. Value: '{}'"),
    ([1], "Invalid input for field/attribute samples. Value: '1'"),
    ([sample(), sample("x")], "Value: 'x'. Write a finite number, such as 1.5. Nothing was stored; it is sample 2"),
    ([sample(counter_name="cpu")], "counter_name. Value: 'cpu'. should be power"),
    ([sample(counter_type="absolute")], "counter_type. Value: 'absolute'. should be one of"),
    *(
        ([sample(volume)], "Write a finite number")
        for volume in (math.nan, math.inf, "nan", "Infinity", "1_0", True, [], 10**400, "9" * 400)
    ),
    *(
        ([sample(**{name: None})], f"attribute {name}. Value: 'None'. Mandatory field missing")
        for name in ("counter_type", "counter_volume", "resource_id")
    ),
    *(
        ([{key: value for key, value in sample().items() if key != name}], "Mandatory field missing")
        for name in sample()
    ),
    ([sample(resource_id="")], "resource_id. Value: ''. It is empty"),
    ([sample(resource_id=5)], "resource_id. Value: '5'. Wrong type"),
    ([sample(resource_id="a\0b")], "NUL"),
    ([sample(resource_id="r" * 256)], "256 characters. Use at most 255"),
    ([sample(extra=1)], "Unknown attribute: extra"),
    ([sample(timestamp="soon")], "timestamp. Value: 'soon'. Write a time in ISO 8601"),
    ([sample(timestamp="1969-12-31T23:59:59")], "Use a time of the years 1970 to 2262"),
    ([sample(timestamp="9999-12-31T23:59:59-12:00")], "Use a time of the years 1970 to 2262"),
    ([sample(timestamp=1700000000)], "Write a time in ISO 8601"),
    ([sample(recorded_at="x")], "recorded_at"),
    ([sample(resource_metadata={"n": 1})], "resource_metadata.n. Value: '1'. Values are texts"),
    ([sample(resource_metadata={"n": True})], "Values are texts"),
    ([sample(resource_metadata={"n": {"m": "x"}})], "Values are texts"),
    ([sample(resource_metadata="x")], "Write an object of names and texts"),
    ([sample(resource_metadata={"a": "x", "a.b": "y"})], "Another name is the start of this one"),
    ([sample(resource_metadata={"a.b": "x", "a": "y"})], "Another name is the start of this one"),
    ([sample(resource_metadata={"." * 30: "x"})], "Use at most 20 levels"),
    ([sample(resource_metadata={str(n): "x" for n in range(1001)})], "at most 1,000 names"),
    ([sample()] * 10_001, "10,001 samples. Post at most 10,000"),
]


def test_what_cannot_be_stored_is_refused_with_the_reason(asks: httpx.Client, site: Site) -> None:
    for body, says in BAD:
        content = b"" if body is None else json.dumps(body).encode()
        answer = asks.post(URL, content=content, headers={"Content-Type": "application/json"})
        shown = str(body)[:200]
        assert answer.status_code == 400, (shown, answer.text)
        text = answer.json()["error_message"]["faultstring"]
        assert says in text or (_is_too_large(body) and "not JSON" in text), (shown, text)
    assert asks.post(URL, content=b"a=1", headers={"Content-Type": "text/plain"}).status_code == 415
    for key in ("", "k" * 256, "\x7f"):
        assert asks.post(URL, json=[sample()], headers={"Idempotency-Key": key}).status_code == 400
    assert asks.post(URL, params={"other": "1"}, json=[sample()]).status_code == 400
    assert not site.stream.backlog()


def _is_too_large(body: Any) -> bool:
    """Whether the volume is one that JSON has no number for."""
    volume = body[0].get("counter_volume") if isinstance(body, list) and body and isinstance(body[0], dict) else 0
    return isinstance(volume, float | int) and not -1e300 < volume < 1e300


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_ITEM = st.fixed_dictionaries(
    {},
    optional={
        **{name: _JSON | st.just(value) for name, value in sample().items()},
        **dict.fromkeys(("user_id", "project_id", "source", "timestamp", "message_id", "recorded_at"), _JSON),
        "resource_metadata": _JSON | st.dictionaries(st.text(max_size=6), st.text(max_size=3) | st.none()),
        "timestamp": _JSON | st.datetimes().map(str),
    },
)
_COMPLETE = st.fixed_dictionaries(
    {
        **{name: st.just(value) for name, value in sample().items()},
        "counter_volume": st.floats(),
        "resource_id": st.text(),
        "message_id": st.text(max_size=3) | st.none(),
        "resource_metadata": st.dictionaries(st.text(max_size=6), st.text(max_size=3) | st.none()),
        "timestamp": st.none() | st.datetimes().map(str),
    }
)


def test_whatever_is_posted_the_answer_is_never_that_the_server_failed(asks: httpx.Client, site: Site) -> None:
    taken = 0

    @settings(max_examples=150)
    @given(st.binary(max_size=40) | (_JSON | st.lists(_ITEM | _COMPLETE, max_size=3)).map(_dumped))
    def check(body: bytes) -> None:
        nonlocal taken
        answer = asks.post(URL, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (201, 400), answer.text
        taken += len(answer.json()) if answer.status_code == 201 else 0
        if answer.status_code == 400:
            assert answer.json()["error_message"]["faultcode"] == "Client"

    check()
    collect(site)
    process(site)
    assert count(site, "dead_letters") == 0
    landed = rows(site, "notifications", "body", "event_type = 'telemetry.api'")
    kept = sum(len(json.loads(row["body"])["payload"]["samples"]) for row in landed)
    assert kept == count(site, "samples")
    assert kept <= taken


def _dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


def test_a_sample_from_the_future_is_stored_and_excluded(asks: httpx.Client, site: Site) -> None:
    far = (times.now() + timedelta(days=400)).isoformat()
    assert asks.post(URL, json=[sample(9.0, timestamp=far), sample(1.0)], params={"direct": "1"}).status_code == 201
    reasons = {row["volume"]: row["reasons"] for row in samples(site, EVERYTHING, "power").to_pylist()}
    assert reasons == {9.0: ["future"], 1.0: []}
    (row,) = statistics(site, EVERYTHING, "power")
    assert (row["count"], row["max"]) == (1, 1.0)


# -- durability -----------------------------------------------------------------------------------------------


def test_if_the_stream_cannot_be_written_nothing_is_stored_and_the_answer_says_so(site: Site) -> None:
    site.settings.spool.rmdir()
    site.settings.spool.write_text("not a folder")
    with client(site) as asks:
        answer = asks.post(URL, json=[sample()])
        assert answer.status_code == 503
        assert "the spool folder cannot be written" in answer.json()["error_message"]["faultstring"]
        assert asks.post(URL, json=[sample()], headers={"x-project-id": "p"}).status_code == 503
        site.settings.spool.unlink()
        assert asks.post(URL, json=[sample()]).status_code == 201
    process(site)
    assert count(site, "samples") == 1


def test_a_disk_that_fills_up_while_a_file_is_written_leaves_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    publisher = SpoolPublisher(site.settings.spool)
    with monkeypatch.context() as filled:
        filled.setattr(os, "fsync", full)
        with pytest.raises(Exception, match="cannot be written: No space left on device"):
            publisher.publish([b"{}"])
    assert list(site.settings.spool.iterdir()) == []
    publisher.publish([b"{}"])
    (file,) = site.settings.spool.iterdir()
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"{}\n", 0o600)


def test_what_a_killed_server_has_half_written_is_never_collected_and_goes_with_upkeep(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            SpoolPublisher(site.settings.spool).publish([b"{}"])
    (left,) = site.settings.spool.iterdir()
    assert collect(site).messages == 0
    assert upkeep(site).deleted["left_behind"] == 0
    long_ago = times.now().timestamp() - 30 * 86_400
    os.utime(left, (long_ago, long_ago))
    assert upkeep(site).deleted["left_behind"] == 1
    assert list(site.settings.spool.iterdir()) == []


def test_keys_are_forgotten_when_repeats_would_be_landed_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = times.now()
    with client(site) as asks:
        for days in (30, 0):
            monkeypatch.setattr(times, "now", lambda days=days: now - timedelta(days=days))
            assert asks.post(URL, json=[sample()], headers={"Idempotency-Key": f"k{days}"}).status_code == 201
    assert upkeep(site).deleted["idempotency_keys"] == 1
    assert upkeep(site).deleted["idempotency_keys"] == 0


def test_requests_that_come_together_are_stored_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, written = threading.Event(), []
    publish = SpoolPublisher.publish

    def slow(publisher: SpoolPublisher, bodies: Any) -> None:
        first.wait(10)
        written.append(len(bodies))
        publish(publisher, bodies)

    monkeypatch.setattr(SpoolPublisher, "publish", slow)
    with served(site) as url, ThreadPoolExecutor(12) as clients:
        posted = [
            clients.submit(httpx.post, f"{url}{URL}", json=[sample(n, counter_type="delta")], timeout=30)
            for n in range(12)
        ]
        while not first.is_set():
            assert httpx.get(f"{url}/v2/meters").status_code == 200  # nobody else waits for them
            first.set()
        assert {each.result().status_code for each in posted} == {201}
    assert sum(written) == 12
    assert len(written) < 12
    process(site)
    assert volumes(site) == [float(n) for n in range(12)]


def test_a_server_that_ends_stores_what_it_has_taken(site: Site) -> None:
    posting = Posting(site)
    message = {"message_id": "m", "event_type": "x", "timestamp": AT, "priority": "info", "payload": {}}
    done = [posting.send([enveloped({**message, "message_id": f"m{n}"})]) for n in range(5)]
    done += [posting.land([enveloped({**message, "message_id": f"n{n}"})]) for n in range(5)]
    posting.close()
    assert [each.result(0) for each in done] == [""] * 10
    with pytest.raises(Exception, match="ending"):
        posting.send([b""])
    collect(site)
    assert count(site, "notifications") == 10


@pytest.mark.service
def test_samples_go_through_the_broker_and_if_it_is_away_the_answer_says_so(
    open_site: OpenSite, amqp_url: str, names: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANSWER_SECONDS", "CONNECT_SECONDS"):
        monkeypatch.setattr(connection, name, 0.5)
    queue = names("posted")
    declare(amqp_url, "", queue, "")
    with Proxy(amqp_url) as proxy:
        site = open_site(stream_url=proxy.url, stream_queues=queue)
        with client(site) as asks:
            assert asks.post(URL, json=[sample(1.0), sample(2.0, counter_type="delta")]).status_code == 201
            proxy.refuse()
            answer = asks.post(URL, json=[sample(4.0)])
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "the broker cannot be reached" in answer.json()["error_message"]["faultstring"].lower()
            proxy.pass_on()
            assert asks.post(URL, json=[sample(8.0)]).status_code == 201
        process(site)
    assert volumes(site) == [1.0, 2.0, 8.0]
