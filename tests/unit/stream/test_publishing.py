"""What Meterhouse sends into the stream itself is confirmed, and where the collector finds it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from brokers import Proxy, channel, declare, delete, depth, take
from conftest import OpenSite

from meterhouse.broker_urls import brokers
from meterhouse.collection.collect import collect
from meterhouse.errors import Unavailable
from meterhouse.stream import amqp_publishing, connection, group_commit
from meterhouse.stream.amqp_publishing import AmqpPublisher
from meterhouse.stream.group_commit import GroupCommit
from meterhouse.stream.publishing import Publisher, enveloped, publisher
from meterhouse.stream.queues import Queues

Names = Callable[[str], str]


def message(number: int) -> bytes:
    return enveloped({"message_id": f"m{number}", "event_type": "x", "timestamp": "2026-11-20T10:00:00", "payload": {}})


@pytest.fixture
def queue(amqp_url: str, names: Names) -> str:
    """A queue, whose messages are collected."""
    name = names("queue")
    declare(amqp_url, "", name, "")
    return name


def to(url: str, *queues: str, **more: Any) -> AmqpPublisher:
    return AmqpPublisher(brokers(url), Queues(queues, **more))


@pytest.mark.service
def test_messages_are_persistent_and_confirmed(amqp_url: str, queue: str) -> None:
    mine = to(amqp_url, queue)
    mine.publish([message(n) for n in range(1_300)])
    assert depth(amqp_url, queue) == 1_300
    first, *_ = took = take(amqp_url, queue)
    assert [each.body for each in took] == [message(n) for n in range(1_300)]
    assert first.properties["delivery_mode"] == 2
    mine.publish([message(0)])
    assert depth(amqp_url, queue) == 1
    mine.close()


@pytest.mark.service
def test_they_go_to_the_queue_of_samples_that_is_collected(amqp_url: str, names: Names, open_site: OpenSite) -> None:
    pool = names("pool")
    site = open_site(stream_url=amqp_url, stream_pool=pool, stream_exchanges=names("nova"), stream_queue_type="classic")
    mine: Publisher = publisher(site.settings)
    mine.publish([message(1), message(2)])
    assert depth(amqp_url, f"{pool}.notifications.sample") == 2
    mine.publish([message(2)])
    assert (done := collect(site)).messages == 3
    assert done.landed == 2
    mine.close()
    for topic in ("info", "error", "sample"):
        delete(amqp_url, f"{pool}.notifications.{topic}")
    assert to("amqp://localhost", "a", "b").queue == "a"


@pytest.mark.service
def test_what_reaches_no_queue_is_an_error(amqp_url: str, names: Names, queue: str) -> None:
    nowhere = names("nowhere")
    mine = to(amqp_url, nowhere)
    with pytest.raises(Unavailable, match=f"no queue {nowhere} takes messages"):
        mine.publish([message(1)])
    declare(amqp_url, "", nowhere, "")
    mine.publish([message(1)])
    delete(amqp_url, nowhere)
    with pytest.raises(Unavailable, match=f"no queue {nowhere} takes messages"):
        mine.publish([message(1)])


@pytest.mark.service
def test_a_broken_connection_is_made_again_and_a_broker_that_is_silent_is_given_up(
    amqp_url: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amqp_publishing, "CONFIRM_SECONDS", 0.5)
    for name in ("ANSWER_SECONDS", "CONNECT_SECONDS"):
        monkeypatch.setattr(connection, name, 0.5)
    with Proxy(amqp_url) as proxy:
        mine = to(proxy.url, queue)
        mine.publish([message(1)])
        proxy.cut()
        mine.publish([message(2)])
        proxy.stall()
        with pytest.raises(Unavailable):
            mine.publish([message(3)])
        proxy.refuse()
        with pytest.raises(Unavailable, match="cannot be reached"):
            mine.publish([message(4)])
        elsewhere = AmqpPublisher([*brokers(proxy.url), *brokers(amqp_url)], Queues((queue,)))
        elsewhere.publish([message(4)])
        proxy.pass_on()
        mine.publish([message(5)])
        mine.close()
        elsewhere.close()
    sent = {each.body for each in take(amqp_url, queue)}
    assert {message(n) for n in (1, 2, 4, 5)} <= sent


@pytest.mark.service
@pytest.mark.slow
def test_an_idle_connection_stays(amqp_url: str, queue: str) -> None:
    mine = to(f"{amqp_url}?heartbeat=1", queue)
    mine.publish([message(1)])
    kept = mine._open
    until = time.monotonic() + 4
    while time.monotonic() < until:
        mine.idle()
        time.sleep(0.2)
    mine.publish([message(2)])
    assert mine._open is kept
    mine.close()
    with channel(amqp_url) as made:
        assert made.queue_purge(queue) == 2


# -- commits of many at once ----------------------------------------------------------------------------------


def test_whoever_waits_gets_the_error_of_the_commit_and_the_next_commit_is_tried() -> None:
    fails, groups = [True], list[list[bytes]]()
    begun, go = threading.Event(), threading.Event()

    def commit(messages: Any) -> int:
        groups.append(list(messages))
        begun.set()
        go.wait(10)
        if fails[0]:
            raise Unavailable("full")
        return len(groups)

    many = GroupCommit(commit)
    first = many.submit([b"1"])
    begun.wait(10)
    others = [many.submit([b"2", b"3"]), many.submit([b"4"])]
    given_up: Future[int] = many.submit([b"5"])
    assert given_up.cancel()
    go.set()
    for each in (first, *others):
        with pytest.raises(Unavailable, match="full"):
            each.result(10)
    fails[0] = False
    assert many.submit([b"6"]).result(10) == 3
    many.close()
    assert groups == [[b"1"], [b"2", b"3", b"4"], [b"6"]]


def test_only_so_much_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAITING", 10)
    monkeypatch.setattr(group_commit, "TOGETHER", 4)
    go, sizes = threading.Event(), list[int]()

    def commit(messages: Any) -> None:
        go.wait(10)
        sizes.append(len(messages))

    many = GroupCommit(commit)
    done = [many.submit([b"123"]) for _ in range(3)]
    with pytest.raises(Unavailable, match="too many samples wait"):
        many.submit([b"123"])
    go.set()
    for each in done:
        each.result(10)
    many.submit([b"more than may wait alone"]).result(10)
    many.close()
    assert sum(sizes) == 4
