"""RabbitMQ as the source: messages are delivered, kept until they are landed, and come again after failures."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import amqp
import pytest
from brokers import (
    Broker,
    Certificates,
    Kind,
    Proxy,
    channel,
    declare,
    delete,
    depth,
    make_certificates,
    malformed,
    publish,
    take,
    traffic,
    wait_for,
)
from builders import count, rows

from meterhouse.broker_urls import brokers
from meterhouse.collection import syncing
from meterhouse.collection.collect import Limits, batches, collect
from meterhouse.collection.intake import intake
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stream import HEAD_BYTES, Batch, Raw, drain
from meterhouse.stream.amqp import AmqpStream
from meterhouse.stream.connection import connect
from meterhouse.stream.headers import properties
from meterhouse.stream.queues import Pace, Queues, Tls

pytestmark = pytest.mark.service

OpenSite = Callable[..., Site]
Names = Callable[[str], str]


@pytest.fixture
def queue(amqp_url: str, names: Names) -> str:
    """A classic queue."""
    name = names("queue")
    declare(amqp_url, "", name, "")
    return name


@pytest.fixture
def gone(amqp_url: str) -> Iterator[Callable[[str], str]]:
    """Deletes a queue after the test, such as one that Meterhouse declares."""
    named: list[str] = []

    def note(name: str) -> str:
        named.append(name)
        return name

    yield note
    for name in named:
        delete(amqp_url, name)


def source(url: str, *topics: str, tls: Tls | None = None, pace: Pace | None = None, **how: Any) -> AmqpStream:
    position = how.pop("position", lambda name: None)
    return AmqpStream(brokers(url), Queues(topics, **how), tls or Tls(), pace or Pace(wait_seconds=0.5), position)


def given(stream: AmqpStream, most: int = 10_000, **how: Any) -> list[Batch]:
    """All batches of a run that have messages, each acknowledged."""
    found = []
    for batch in stream.batches(most, **how):
        batch.acknowledge()
        if batch.messages:
            found.append(batch)
    return found


def drained(stream: AmqpStream, most: int = 10_000, **how: Any) -> list[Raw]:
    return [raw for batch in given(stream, most, **how) for raw in batch.messages]


def bodies(raws: list[Raw]) -> list[bytes]:
    return [raw.body for raw in raws]


class Follower:
    """Follows a stream in a thread until the end of the block."""

    def __init__(self, stream: AmqpStream, most: int = 1000) -> None:
        self.raws: list[Raw] = []
        self.failure: Exception | None = None
        self._stream, self._most = stream, most
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            for batch in self._stream.batches(self._most, follow=True):
                self.raws += batch.messages
                batch.acknowledge()
                if self._stop.is_set():
                    return
        except MeterhouseError as error:
            self.failure = error

    def has(self, wanted: list[bytes], seconds: float = 20.0) -> None:
        wait_for(lambda: set(bodies(self.raws)) >= set(wanted), f"all of {len(wanted)} messages", seconds)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def numbered(count: int, word: str = "m") -> list[bytes]:
    return [f"{word}{number}".encode() for number in range(count)]


# --- what is in the queues comes, once ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_is_in_a_queue_comes_once_and_in_order(amqp_url: str, names: Names, kind: Kind) -> None:
    name = names("queue")
    declare(amqp_url, "", name, "", kind)
    publish(amqp_url, "", name, numbered(2500), {"x-retries": 3})

    raws = drained(source(amqp_url, name))

    assert bodies(raws) == numbered(2500)
    assert {raw.queue for raw in raws} == {name}
    assert {raw.place for raw in raws} == {brokers(amqp_url)[0].place(name)}
    assert {raw.redelivered for raw in raws} == {False}
    assert properties(raws[0].properties) == {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "application_headers": {"x-retries": 3},
    }
    assert depth(amqp_url, name) == 0
    assert drained(source(amqp_url, name)) == []


def test_several_queues_are_drained_together(amqp_url: str, names: Names) -> None:
    topic = names("notifications")
    queues = [f"{topic}.{priority}" for priority in ("info", "error", "sample")]
    for name in queues:
        declare(amqp_url, "", name, "")
        publish(amqp_url, "", name, numbered(100, name))
    raws = drained(source(amqp_url, *queues))
    assert sorted((raw.queue, raw.body) for raw in raws) == sorted(
        (name, body) for name in queues for body in numbered(100, name)
    )


def test_several_brokers_are_drained_together(amqp_url: str, own_broker: Broker, queue: str) -> None:
    declare(own_broker.url, "", queue, "")
    publish(amqp_url, "", queue, numbered(300, "shared"))
    publish(own_broker.url, "", queue, numbered(300, "own"))
    stream = source(f"{amqp_url} {own_broker.url}", queue)
    assert [place.messages for place in stream.backlog().places] == [300, 300]
    raws = drained(stream, most=70)
    assert sorted(bodies(raws)) == sorted(numbered(300, "shared") + numbered(300, "own"))
    assert {raw.place for raw in raws} == {f"{broker.name} {queue}" for broker in stream.brokers}
    assert not stream.backlog()


def test_bodies_of_any_bytes_and_size_come_as_they_were_sent(amqp_url: str, queue: str) -> None:
    sent = [b"", b"\xff\xfe\0\xce", "日本 ü".encode(), bytes(range(256)) * 20_000, b"x" * 30_000_000, b"last"]
    publish(amqp_url, "", queue, sent)
    assert bodies(drained(source(amqp_url, queue))) == sent


def test_a_prefetch_of_two_is_enough(amqp_url: str, queue: str) -> None:
    publish(amqp_url, "", queue, numbered(50))
    found = given(source(amqp_url, queue, prefetch=2))
    assert [raw.body for batch in found for raw in batch.messages] == numbered(50)
    assert max(len(batch.messages) for batch in found) <= 2


# --- batches -------------------------------------------------------------------------------------------


def test_batches_end_at_a_count(amqp_url: str, queue: str) -> None:
    publish(amqp_url, "", queue, [b"x" * 2000] * 1000)
    sizes = [len(batch.messages) for batch in given(source(amqp_url, queue, prefetch=200))]
    assert sum(sizes) == 1000
    one_read = (1 << 18) // 2000
    assert max(sizes) < 100 + one_read


def test_batches_end_at_a_number_of_bytes(amqp_url: str, queue: str) -> None:
    publish(amqp_url, "", queue, [b"x" * 500_000] * 12)
    sizes = [len(batch.messages) for batch in given(source(amqp_url, queue, pace=Pace(max_bytes=1_000_000)))]
    assert sum(sizes) == 12
    assert set(sizes) <= {1, 2, 3}


def test_a_message_waits_no_longer_for_others_than_it_may(amqp_url: str, queue: str) -> None:
    """With a trickle, messages never pause long enough to end a batch, but the batch is still delivered."""
    ends = threading.Event()

    def trickle() -> None:
        with channel(amqp_url) as to:
            while not ends.is_set():
                to.basic_publish(amqp.Message(b"drop"), "", queue)
                time.sleep(0.03)

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        given_at = [
            time.monotonic()
            for batch, _ in zip(
                (
                    batch
                    for batch in source(amqp_url, queue, pace=Pace(wait_seconds=0.5)).batches(10_000, follow=True)
                    if batch.messages
                ),
                range(5),
                strict=False,
            )
        ]
    finally:
        ends.set()
        thread.join()
    gaps = [later - earlier for earlier, later in pairwise(given_at)]
    assert all(0.4 < gap < 1.5 for gap in gaps), gaps


def test_a_few_messages_are_batched_together(amqp_url: str, queue: str) -> None:
    """A single message comes at once. But each batch is a commit, so there are no more batches than the pace allows."""
    with Follower(source(amqp_url, queue, pace=Pace(wait_seconds=1.0))) as following:
        sent = time.monotonic()
        publish(amqp_url, "", queue, [b"first"])
        following.has([b"first"])
        assert time.monotonic() - sent < 1.0
    found = []
    stream = source(amqp_url, queue, pace=Pace(wait_seconds=1.0))
    publish(amqp_url, "", queue, [b"0"])
    for batch in stream.batches(100, follow=True):
        batch.acknowledge()
        if batch.messages:
            found.append(len(batch.messages))
            if sum(found) == 6:
                break
            if len(found) == 1:
                for number in range(1, 6):
                    publish(amqp_url, "", queue, [b"%d" % number])
                    time.sleep(0.12)
    assert found == [1, 5]


# --- landing, and only then forgetting ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_messages_that_were_not_acknowledged_come_again_as_redelivered(amqp_url: str, names: Names, kind: Kind) -> None:
    name = names("queue")
    declare(amqp_url, "", name, "", kind)
    publish(amqp_url, "", name, numbered(40))
    taken = source(amqp_url, name, prefetch=20).batches(10)
    first = next(batch for batch in taken if batch.messages)
    first.acknowledge()
    second = next(batch for batch in taken if batch.messages)
    taken.close()

    left = [body for body in numbered(40) if body not in bodies(first.messages)]
    assert bodies(second.messages) == left[: len(second.messages)]
    wait_for(lambda: depth(amqp_url, name) == len(left), "what was not acknowledged")
    again = drained(source(amqp_url, name))
    assert sorted(bodies(again)) == sorted(left)
    marked = {raw.body for raw in again if raw.redelivered}
    assert set(bodies(second.messages)) <= marked
    assert depth(amqp_url, name) == 0


def test_an_abandoned_batch_is_still_landed_once(amqp_url: str, queue: str, open_site: OpenSite) -> None:
    sent = traffic(1, notifications=300)
    publish(amqp_url, "", queue, sent.bodies)
    site = open_site(stream_url=amqp_url, stream_queues=queue, stream_prefetch=100)
    given = batches(site)
    assert next(one for one in given if one.messages).landed > 0
    given.close()
    done = collect(site)
    assert depth(amqp_url, queue) == 0
    assert done.dead_letters == 0
    assert sorted(row["message_id"] for row in rows(site, "notifications", "message_id")) == sorted(sent.message_ids)


def test_what_cannot_be_landed_stays_in_the_queue(
    amqp_url: str, queue: str, open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = traffic(2, notifications=50)
    publish(amqp_url, "", queue, sent.bodies)
    site = open_site(stream_url=amqp_url, stream_queues=queue)

    def full(*_: object, **__: object) -> None:
        raise MeterhouseError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("meterhouse.collection.landing.Landing.land", full)
        with pytest.raises(MeterhouseError, match="the disk is full"):
            collect(site)
    assert depth(amqp_url, queue) == 50
    done = collect(site)
    assert (done.messages, done.landed, done.redelivered) == (50, 50, 0)
    assert depth(amqp_url, queue) == 0


def test_a_run_that_ends_acknowledges_what_a_slow_disk_syncs_late(
    amqp_url: str, queue: str, open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(amqp_url, "", queue, [b'{"event_type": "x", "message_id": "1"}'])
    sync = syncing.sync
    monkeypatch.setattr(syncing, "sync", lambda files: (time.sleep(1.0), sync(files)))
    assert collect(open_site(stream_url=amqp_url, stream_queues=queue)).landed == 1
    assert depth(amqp_url, queue) == 0


def test_a_run_with_a_limit_of_messages_leaves_the_rest(amqp_url: str, queue: str, open_site: OpenSite) -> None:
    sent = traffic(3, notifications=60)
    publish(amqp_url, "", queue, sent.bodies)
    site = open_site(stream_url=amqp_url, stream_queues=queue)
    done = collect(site, Limits(messages=10))
    assert done.landed >= 10
    assert depth(amqp_url, queue) == 60 - done.landed
    assert collect(site).landed == 60 - done.landed
    assert count(site, "notifications") == 60


def test_a_message_that_is_not_a_notification_is_a_dead_letter_with_queue_and_headers(
    amqp_url: str, queue: str, open_site: OpenSite
) -> None:
    publish(amqp_url, "", queue, malformed(1, 12), {"x-death": [{"queue": "before", "count": 2}], "raw": b"\xff"})
    site = open_site(stream_url=amqp_url, stream_queues=queue)
    done = collect(site)
    assert (done.messages, done.dead_letters, done.landed) == (12, 12, 0)
    found = rows(site, "dead_letters", "queue, headers")
    assert [row["queue"] for row in found] == [queue] * 12
    for row in found:
        kept = json.loads(row["headers"])
        assert kept["content_type"] == "application/json"
        assert kept["application_headers"]["x-death"] == [{"queue": "before", "count": 2}]
    assert depth(amqp_url, queue) == 0


def test_a_message_that_is_too_long_is_a_dead_letter_with_its_head_and_is_acknowledged(
    amqp_url: str, queue: str, open_site: OpenSite
) -> None:
    long = json.dumps({"event_type": "x", "message_id": "long", "payload": "x" * 3_000_000}).encode()
    publish(amqp_url, "", queue, [b'{"event_type": "x", "message_id": "1"}', long, b'{"event_type": "x"}'])
    site = open_site(stream_url=amqp_url, stream_queues=queue, message_bytes=1 << 20)
    done = collect(site)
    assert (done.landed, done.dead_letters) == (2, 1)
    assert depth(amqp_url, queue) == 0
    (letter,) = rows(site, "dead_letters")
    assert letter["body"] == long[:HEAD_BYTES]
    assert letter["reason"].startswith(f"it has {len(long):,} bytes, more than METERHOUSE_MESSAGE_BYTES allows")


def test_a_header_that_cannot_be_read_holds_up_nothing(amqp_url: str, queue: str) -> None:
    """py-amqp would close the connection because of such a time, each time that the message comes."""
    with channel(amqp_url) as to:
        broken = amqp.Message(b"x" * 2_000_000)
        table = b"\x01aT" + b"\xff" * 8
        broken._serialize_properties = lambda: b"\x20\0" + len(table).to_bytes(4, "big") + table
        to.basic_publish(broken, "", queue)
        to.basic_publish(amqp.Message(b"after"), "", queue)
        to.connection.close()
    raws = drained(source(amqp_url, queue))
    assert [len(raw.body) for raw in raws] == [2_000_000, 5]


# --- own queues ----------------------------------------------------------------------------------------


def test_own_queues_leave_each_message_to_the_other_consumer_too(
    amqp_url: str, names: Names, gone: Callable[[str], str]
) -> None:
    nova, cinder, topic = names("nova"), names("cinder"), names("notifications")
    for exchange in (nova, cinder):
        declare(amqp_url, exchange, f"{topic}.info", f"{topic}.info")  # as the service does it, and Ceilometer too
    own = gone(f"meterhouse.{topic}.info")
    stream = source(amqp_url, f"{topic}.info", exchanges=(nova, cinder))
    assert [place.missing for place in stream.backlog().places] == [False]
    publish(amqp_url, nova, f"{topic}.info", numbered(20, "nova"))
    publish(amqp_url, cinder, f"{topic}.info", numbered(20, "cinder"))
    assert depth(amqp_url, own) == 40
    assert sorted(bodies(drained(stream))) == sorted(numbered(20, "nova") + numbered(20, "cinder"))
    assert sorted(message.body for message in take(amqp_url, f"{topic}.info")) == sorted(
        numbered(20, "nova") + numbered(20, "cinder")
    )


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
def test_own_queues_are_durable_and_of_the_type_asked_for(
    amqp_url: str, names: Names, gone: Callable[[str], str], kind: Kind
) -> None:
    exchange, topic, pool = names("nova"), names("notifications"), names("pool")
    declare(amqp_url, exchange, names("else"), "else")
    own = gone(f"{pool}.{topic}")
    source(amqp_url, topic, exchanges=(exchange,), pool=pool, kind=kind).backlog()
    declare(amqp_url, "", own, "", kind)  # otherwise the broker refuses


def test_an_own_queue_of_another_type_is_an_error(
    amqp_url: str, names: Names, gone: Callable[[str], str], open_site: OpenSite
) -> None:
    exchange, topic = names("nova"), names("notifications")
    declare(amqp_url, exchange, names("else"), "else")
    declare(amqp_url, "", gone(f"meterhouse.{topic}"), "", "classic")
    stream = source(amqp_url, topic, exchanges=(exchange,))
    for use in (stream.backlog, lambda: drained(stream)):
        with pytest.raises(MeterhouseError, match=r"not a durable quorum queue.*METERHOUSE_STREAM_QUEUE_TYPE"):
            use()


def test_an_exchange_is_bound_when_it_appears_and_never_declared(
    amqp_url: str, names: Names, gone: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "BIND_SECONDS", 0.2)
    here, later, topic = names("nova"), names("later"), names("notifications")
    declare(amqp_url, here, f"{topic}.info", f"{topic}.info")
    own = gone(f"meterhouse.{topic}.info")
    with Follower(source(amqp_url, f"{topic}.info", exchanges=(later, here))) as following:
        wait_for(lambda: exists(amqp_url, own), "the own queue")
        time.sleep(0.5)
        with channel(amqp_url) as to, pytest.raises(amqp.NotFound):
            to.exchange_declare(later, "topic", passive=True)
        declare(amqp_url, later, f"{topic}.error", f"{topic}.info")
        time.sleep(1.0)
        publish(amqp_url, later, f"{topic}.info", [b"from later"])
        publish(amqp_url, here, f"{topic}.info", [b"from here"])
        following.has([b"from later", b"from here"])


def test_checking_the_backlog_binds_an_exchange_that_appeared(
    amqp_url: str, names: Names, gone: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an idle site, whose sensor only checks the backlog, would never get the first message."""
    monkeypatch.setattr(drain, "BIND_SECONDS", 0.0)
    exchange, topic = names("nova"), names("notifications")
    own = gone(f"meterhouse.{topic}.info")
    stream = source(amqp_url, f"{topic}.info", exchanges=(exchange,))
    assert not stream.backlog()
    declare(amqp_url, exchange, f"{topic}.info", f"{topic}.info")
    assert not stream.backlog()
    publish(amqp_url, exchange, f"{topic}.info", [b"one"])
    assert depth(amqp_url, own) == 1
    assert stream.backlog().messages == 1


def exists(url: str, name: str) -> bool:
    try:
        depth(url, name)
    except amqp.NotFound:
        return False
    return True


# --- queues that are not there, or are something else --------------------------------------------------


def test_no_queue_at_all_is_an_error_and_one_of_several_is_not(amqp_url: str, queue: str, names: Names) -> None:
    missing = names("missing")
    with pytest.raises(
        MeterhouseError, match=rf"none of the queues exists: {missing}\. Check METERHOUSE_STREAM_QUEUES"
    ):
        drained(source(amqp_url, missing))
    publish(amqp_url, "", queue, [b"one"])
    stream = source(amqp_url, missing, queue)
    assert [(place.messages, place.missing) for place in stream.backlog().places] == [(0, True), (1, False)]
    assert bodies(drained(stream)) == [b"one"]
    assert not exists(amqp_url, missing)


def test_a_queue_that_appears_is_followed(
    amqp_url: str, names: Names, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drain, "BIND_SECONDS", 0.2)
    name = names("later")
    with Follower(source(amqp_url, name)) as following:
        wait_for(lambda: f"{name} does not exist yet" in caplog.text, "a word of the missing queue")
        time.sleep(0.5)
        declare(amqp_url, "", name, "")
        publish(amqp_url, "", name, [b"one"])
        following.has([b"one"])
    assert caplog.text.count("does not exist yet") == 1


def test_a_queue_that_is_deleted_ends_a_run_by_an_error(amqp_url: str, queue: str) -> None:
    publish(amqp_url, "", queue, numbered(5))

    def drain() -> None:
        for batch in source(amqp_url, queue).batches(10, quiet_seconds=30):
            batch.acknowledge()
            if batch.messages:
                delete(amqp_url, queue)

    with pytest.raises(MeterhouseError, match="none of the queues exists"):
        drain()


def test_a_stream_that_is_consumed_as_a_queue_is_an_error(
    amqp_url: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "STUCK_SECONDS", 0.5)
    name = names("stream")
    with channel(amqp_url) as to:
        to.queue_declare(
            name, durable=True, auto_delete=False, arguments={"x-queue-type": "stream", "x-max-length-bytes": 1 << 30}
        )
    publish(amqp_url, "", name, [b"one"])
    wait_for(lambda: depth(amqp_url, name), "the message")
    said = f"the queue {name} is a stream. Set METERHOUSE_STREAM_QUEUE_TYPE=stream"
    with pytest.raises(MeterhouseError, match=said):
        drained(source(amqp_url, name))
    with Follower(source(amqp_url, name)) as following:
        wait_for(lambda: following.failure or not following._thread.is_alive(), "the error")
    assert said in str(following.failure)


def test_a_queue_that_is_consumed_as_a_stream_is_an_error_and_loses_nothing(amqp_url: str, queue: str) -> None:
    publish(amqp_url, "", queue, numbered(10))
    stream = source(amqp_url, queue, kind="stream")
    for use in (stream.backlog, lambda: drained(stream)):
        with pytest.raises(MeterhouseError, match=f"the queue {queue} is not a stream"):
            use()
    wait_for(lambda: depth(amqp_url, queue) == 10, "the messages back in the queue")


def test_a_header_that_looks_like_a_streams_holds_up_nothing(amqp_url: str, queue: str) -> None:
    publish(amqp_url, "", queue, numbered(3), {"x-stream-offset": 7})  # moved here from a stream, say
    assert bodies(drained(source(amqp_url, queue))) == numbered(3)


def test_a_run_ends_if_only_another_consumer_holds_messages(
    amqp_url: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "STUCK_SECONDS", 0.5)
    name = names("single")
    with channel(amqp_url) as to:
        to.queue_declare(name, durable=True, auto_delete=False, arguments={"x-single-active-consumer": True})
        to.basic_qos(0, 1, False)
        to.basic_consume(name, callback=lambda message: None)
        publish(amqp_url, "", name, numbered(5))
        assert drained(source(amqp_url, name)) == []
    wait_for(lambda: depth(amqp_url, name) == 5, "the messages back in the queue")


# --- brokers that cannot be reached, or refuse ----------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def clear_error(said: str, stream: AmqpStream) -> Iterator[None]:
    """Checking the backlog, draining and following each fail within seconds, with one line that says what to do."""
    yield
    for use in (stream.backlog, lambda: drained(stream), lambda: list(stream.batches(10, follow=True))):
        begun = time.monotonic()
        with pytest.raises(MeterhouseError, match=said) as fault:
            use()
        assert time.monotonic() - begun < 8
        assert "\n" not in str(fault.value)
        assert "s3cr3t" not in str(fault.value)
        assert stream.brokers[0].name in str(fault.value)


def with_account(url: str, account: str) -> str:
    return f"amqp://{account}@{url.rpartition('@')[2]}"


def test_a_wrong_password_is_one_clear_line(amqp_url: str, queue: str) -> None:
    url = with_account(amqp_url, "guest:s3cr3t")
    with clear_error(
        r"the broker refuses the connection: .*Check the account in METERHOUSE_STREAM_URL", source(url, queue)
    ):
        pass


def test_a_wrong_virtual_host_is_one_clear_line(amqp_url: str, queue: str) -> None:
    url = amqp_url.rpartition("/")[0] + "/nowhere"
    with clear_error(r"the broker refuses the connection: .*nowhere.*Check the virtual host in", source(url, queue)):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "no.such.host.invalid", "a..b"])
def test_a_missing_broker_is_one_clear_line(address: str) -> None:
    stream = source(f"amqp://u:s3cr3t@{address}", "q")
    for use in (stream.backlog, lambda: drained(stream)):
        begun = time.monotonic()
        with pytest.raises(MeterhouseError, match=r"the broker cannot be reached: .*Check METERHOUSE_STREAM_URL"):
            use()
        assert time.monotonic() - begun < 8


def test_a_broker_that_does_not_answer_is_one_clear_line(amqp_url: str, queue: str) -> None:
    with Proxy(amqp_url) as proxy:
        proxy.stall()
        begun = time.monotonic()
        with pytest.raises(MeterhouseError, match=r"the broker cannot be reached: .*timed out"):
            drained(source(proxy.url, queue))
        assert time.monotonic() - begun < 8


def test_the_next_host_of_a_cluster_is_used_if_one_does_not_answer(amqp_url: str, queue: str) -> None:
    publish(amqp_url, "", queue, [b"one"])
    _, _, address = amqp_url.partition("://")
    assert bodies(drained(source(f"rabbit://guest:guest@127.0.0.1:1,{address}", queue))) == [b"one"]


def test_an_account_without_permission_is_one_clear_line(own_broker: Broker, names: Names) -> None:
    user, name = names("user"), names("queue")
    declare(own_broker.url, "", name, "")
    own_broker.control("add_user", user, "s3cr3t")
    own_broker.control("set_permissions", user, "", "", "nothing")
    stream = source(with_account(own_broker.url, f"{user}:s3cr3t"), name)
    begun = time.monotonic()
    with pytest.raises(
        MeterhouseError, match=r"the broker refuses the connection: .*Check the account in METERHOUSE_STREAM_URL"
    ):
        drained(stream)
    assert time.monotonic() - begun < 8


def test_one_broker_that_refuses_does_not_hold_up_the_others(amqp_url: str, own_broker: Broker, queue: str) -> None:
    declare(own_broker.url, "", queue, "")
    publish(own_broker.url, "", queue, numbered(20))
    both = source(f"{with_account(amqp_url, 'guest:s3cr3t')} {own_broker.url}", queue)
    taken: list[Raw] = []

    def drain() -> None:
        for batch in both.batches(10):
            taken.extend(batch.messages)
            batch.acknowledge()

    with pytest.raises(MeterhouseError, match=f"{brokers(amqp_url)[0].name}: the broker refuses"):
        drain()
    assert bodies(taken) == numbered(20)
    with Follower(both) as following:
        publish(own_broker.url, "", queue, [b"more"])
        following.has([b"more"])
        assert following.failure is None


def test_tls(amqp_url: str, queue: str, certificates: Certificates) -> None:
    sent = [b"x" * 100_000, *numbered(500), b"y" * 3_000_000]
    publish(amqp_url, "", queue, sent)
    with Proxy(amqp_url, tls=certificates.served()) as proxy:
        assert proxy.url.startswith("amqps://")
        assert bodies(drained(source(proxy.url, queue, tls=Tls(ca=certificates.authority)))) == sent


def test_an_untrusted_certificate_is_one_clear_line(
    amqp_url: str, queue: str, certificates: Certificates, tmp_path: Path
) -> None:
    other = make_certificates(tmp_path)
    with Proxy(amqp_url, tls=certificates.served()) as proxy:
        for tls in (Tls(), Tls(ca=other.authority)):
            stream = source(proxy.url, queue, tls=tls)
            with clear_error(r"TLS with the broker failed: .*verify failed.*METERHOUSE_STREAM_CA_FILE", stream):
                pass


def test_a_client_certificate_is_sent_if_it_is_requested(amqp_url: str, queue: str, certificates: Certificates) -> None:
    publish(amqp_url, "", queue, [b"one"])
    with Proxy(amqp_url, tls=certificates.served(ask=True)) as proxy:
        bare = source(proxy.url, queue, tls=Tls(ca=certificates.authority))
        with pytest.raises(MeterhouseError, match=r"TLS with the broker failed|cannot be reached") as fault:
            drained(bare)
        assert "\n" not in str(fault.value)
        shown = Tls(certificates.authority, certificates.client, certificates.client_key)
        assert bodies(drained(source(proxy.url, queue, tls=shown))) == [b"one"]


def test_tls_with_a_port_without_tls_is_one_clear_line(amqp_url: str, queue: str) -> None:
    stream = source(amqp_url.replace("amqp://", "amqps://"), queue)
    with pytest.raises(MeterhouseError, match=r"TLS with the broker failed: .*that the port speaks TLS"):
        drained(stream)


def test_a_bug_of_ours_is_raised_to_the_caller_of_batches(amqp_url: str, names: Names) -> None:
    name = names("stream")
    declare(amqp_url, "", name, "", "stream")

    def position(_: str) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drained(source(amqp_url, name, kind="stream", position=position))


# --- quiet ----------------------------------------------------------------------------------------------


def test_a_run_ends_when_the_queues_are_empty_and_quiet(amqp_url: str, queue: str) -> None:
    sent = numbered(30)

    def trickle() -> None:
        for body in sent:
            publish(amqp_url, "", queue, [body])
            time.sleep(0.05)

    thread = threading.Thread(target=trickle)
    thread.start()
    raws = drained(source(amqp_url, queue), quiet_seconds=1.5)
    thread.join()
    assert bodies(raws) == sent
    begun = time.monotonic()
    assert drained(source(amqp_url, queue), quiet_seconds=0.6) == []
    assert 0.6 <= time.monotonic() - begun < 3


def test_a_run_does_not_end_while_a_batch_is_landed_slowly(amqp_url: str, queue: str) -> None:
    publish(amqp_url, "", queue, numbered(40))
    found = []
    for batch in source(amqp_url, queue, prefetch=20).batches(10):
        if batch.messages:
            time.sleep(0.4)
            found += bodies(batch.messages)
        batch.acknowledge()
    assert found == numbered(40)


def test_a_message_on_its_way_is_waited_for(amqp_url: str, queue: str) -> None:
    """The queue is empty as soon as the broker starts to send the message."""
    sent = [b"x" * 20_000_000]
    publish(amqp_url, "", queue, sent)
    for _ in range(3):
        taken = source(amqp_url, queue).batches(10)
        assert [bodies(batch.messages) for batch in taken if batch.messages] == [sent]


# --- connections that fail ------------------------------------------------------------------------------


def test_new_messages_are_followed_within_seconds(amqp_url: str, queue: str) -> None:
    with Follower(source(amqp_url, queue, pace=Pace())) as following:
        for body in numbered(2):
            time.sleep(1.0)
            sent = time.monotonic()
            publish(amqp_url, "", queue, [body])
            following.has([body])
            assert time.monotonic() - sent < Pace().wait_seconds


@pytest.mark.parametrize("fault", ["cut", "refuse", "stall"])
def test_a_stream_is_followed_across_a_network_fault(amqp_url: str, queue: str, fault: str) -> None:
    with (
        Proxy(f"{amqp_url}?heartbeat=1") as proxy,
        Follower(source(proxy.url, queue, prefetch=100)) as following,
    ):
        publish(amqp_url, "", queue, numbered(500, "before"))
        following.has(numbered(1, "before"))
        getattr(proxy, fault)()
        publish(amqp_url, "", queue, numbered(500, "meanwhile"))
        time.sleep(0.5)
        if fault == "refuse":
            proxy.pass_on()
        elif fault == "stall":
            time.sleep(3.0)  # it has given the connection up by then
            proxy.cut()
            proxy.pass_on()
        following.has(numbered(500, "before") + numbered(500, "meanwhile"))
        publish(amqp_url, "", queue, numbered(10, "after"))
        following.has(numbered(10, "after"))
    assert depth(amqp_url, queue) == 0
    assert following.failure is None


def test_a_run_continues_after_a_lost_connection_and_lands_each_message_once(
    amqp_url: str, queue: str, open_site: OpenSite
) -> None:
    sent = traffic(4, notifications=2000)
    publish(amqp_url, "", queue, sent.bodies)
    with Proxy(amqp_url) as proxy:
        site = open_site(stream_url=proxy.url, stream_queues=queue, stream_prefetch=400)
        done, cuts = 0, 0
        for one in batches(site, Limits(quiet_seconds=0.5)):
            done += one.landed
            if one.messages and cuts < 3:
                cuts += 1
                proxy.cut()
    assert cuts == 3
    assert done == 2000
    assert sorted(row["message_id"] for row in rows(site, "notifications", "message_id")) == sorted(sent.message_ids)
    assert depth(amqp_url, queue) == 0


def test_a_run_gives_up_on_a_broker_that_stays_unavailable(
    amqp_url: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterhouse.stream.consumer.PATIENCE_SECONDS", 1.0)
    publish(amqp_url, "", queue, numbered(5))

    def drain(proxy: Proxy) -> None:
        for batch in source(proxy.url, queue).batches(10, quiet_seconds=60):
            batch.acknowledge()
            if batch.messages:
                proxy.refuse()

    with Proxy(amqp_url) as proxy, pytest.raises(MeterhouseError, match="cannot be reached"):
        drain(proxy)


def test_a_slow_lander_keeps_its_connection(amqp_url: str, queue: str) -> None:
    """Nothing is read for longer than the heartbeat; the broker still knows that this side is alive."""
    body = b"x" * 100_000
    publish(amqp_url, "", queue, [body] * 200)
    raws: list[Raw] = []
    for batch in source(f"{amqp_url}?heartbeat=1", queue, prefetch=20).batches(10):
        if batch.messages and not raws:
            time.sleep(4)
        raws += batch.messages
        batch.acknowledge()
    assert len(raws) == 200
    assert not any(raw.redelivered for raw in raws)


def test_heartbeats_keep_an_idle_connection_alive(amqp_url: str, queue: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Follower(source(f"{amqp_url}?heartbeat=1", queue)) as following:
        time.sleep(4)
        publish(amqp_url, "", queue, [b"one"])
        following.has([b"one"])
    assert "retrying in" not in caplog.text


def test_heartbeats_do_not_count_as_an_answer(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a quorum queue without a leader, the broker only sends heartbeats for minutes."""
    monkeypatch.setattr("meterhouse.stream.connection.ANSWER_SECONDS", 1.5)
    (broker,) = brokers(f"{amqp_url}?heartbeat=1")
    begun = time.monotonic()
    with pytest.raises(MeterhouseError, match="the broker does not answer"), connect(broker, Tls()) as link:
        link.control().wait((60, 71))  # basic.get-ok, which was not requested
    assert 1.5 <= time.monotonic() - begun < 8


def test_after_a_broker_closes_the_channel_for_a_late_acknowledgement_the_run_reconnects(
    own_broker: Broker, names: Names
) -> None:
    """To the broker, a second acknowledgement of the same messages is an error; it closes the channel under load."""
    name = names("queue")
    declare(own_broker.url, "", name, "")
    publish(own_broker.url, "", name, [b"x" * 3000] * 3000)
    raws: list[Raw] = []
    with Follower(source(own_broker.url, name, prefetch=200)) as following:
        wait_for(lambda: following.raws, "the first")
        for thread in threading.enumerate():
            if thread.name.startswith("amqp ") and thread._drain is not None:
                thread._drain.acknowledge(1)
        wait_for(lambda: len(following.raws) >= 3000, "all")
        wait_for(lambda: depth(own_broker.url, name) == 0, "an empty queue")
    raws = following.raws
    assert len(raws) >= 3000
    assert following.failure is None


# --- streams --------------------------------------------------------------------------------------------


@pytest.fixture
def stream_site(amqp_url: str, names: Names, open_site: OpenSite) -> Callable[..., Site]:
    name = names("stream")
    declare(amqp_url, "", name, "", "stream")
    return lambda **how: open_site(stream_url=amqp_url, stream_queues=name, stream_queue_type="stream", **how)


def positions(site: Site) -> int | None:
    stream = site.stream
    assert isinstance(stream, AmqpStream)
    place = stream.brokers[0].place(site.settings.stream_queues)
    return site.lake.transaction("notifications", stream.queues.position(place))


def test_a_stream_queue_is_read_once_and_continued_from_its_position(
    amqp_url: str, stream_site: Callable[..., Site], tmp_path: Path
) -> None:
    first, second = traffic(5, notifications=700), traffic(6, notifications=30)
    site = stream_site(home=tmp_path)
    name = site.settings.stream_queues
    assert not site.stream.backlog()
    publish(amqp_url, "", name, first.bodies)
    wait_for(lambda: site.stream.backlog().messages == 700, "the backlog")
    done = collect(site)
    assert (done.messages, done.landed) == (700, 700)
    assert positions(site) == 699
    assert not site.stream.backlog()
    assert collect(site).messages == 0
    publish(amqp_url, "", name, second.bodies)
    again = stream_site(home=tmp_path)
    wait_for(lambda: again.stream.backlog().messages == 30, "the backlog")
    done = collect(again)
    assert (done.messages, done.landed) == (30, 30)
    assert positions(again) == 729
    found = rows(again, "notifications", "message_id")
    assert sorted(row["message_id"] for row in found) == sorted(first.message_ids + second.message_ids)


def test_a_position_is_recorded_with_its_messages(amqp_url: str, stream_site: Callable[..., Site]) -> None:
    site = stream_site(stream_prefetch=200)
    publish(amqp_url, "", site.settings.stream_queues, traffic(7, notifications=500).bodies)
    landed = 0
    for one in batches(site):
        if one.messages:
            landed += one.landed
            assert positions(site) == landed - 1 == count(site, "notifications") - 1
    assert landed == 500


def test_dead_letters_of_a_stream_also_move_its_position(amqp_url: str, stream_site: Callable[..., Site]) -> None:
    site = stream_site()
    publish(amqp_url, "", site.settings.stream_queues, malformed(3, 6))
    assert collect(site).dead_letters == 6
    assert positions(site) == 5
    assert collect(site).messages == 0


def test_two_readers_of_one_stream_land_each_message_once(
    amqp_url: str, stream_site: Callable[..., Site], tmp_path: Path
) -> None:
    sent = traffic(8, notifications=3000)
    one = stream_site(home=tmp_path, stream_prefetch=500)
    two = stream_site(home=tmp_path, stream_prefetch=300)
    publish(amqp_url, "", one.settings.stream_queues, sent.bodies)
    landed: list[int] = []
    threads = [
        threading.Thread(target=lambda site=site: landed.append(collect(site, Limits(quiet_seconds=0.5)).landed))
        for site in (one, two)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(landed) == 3000
    assert positions(one) == 2999
    found = rows(one, "notifications", "message_id")
    assert sorted(row["message_id"] for row in found) == sorted(sent.message_ids)


def test_a_stream_continues_after_a_lost_connection(amqp_url: str, names: Names) -> None:
    name = names("stream")
    declare(amqp_url, "", name, "", "stream")
    publish(amqp_url, "", name, numbered(1000))
    read: dict[str, int] = {}
    found: list[bytes] = []
    with Proxy(amqp_url) as proxy:
        stream = source(proxy.url, name, kind="stream", prefetch=100, position=read.get)
        for number, batch in enumerate(stream.batches(50, quiet_seconds=0.5)):
            found += bodies(batch.messages)
            read.update(batch.positions)
            batch.acknowledge()
            if number in (2, 5):
                proxy.cut()
    assert list(dict.fromkeys(found)) == numbered(1000)
    assert set(read.values()) == {999}


def test_a_publishers_own_offset_does_not_move_a_stream(amqp_url: str, names: Names) -> None:
    name = names("stream")
    declare(amqp_url, "", name, "", "stream")
    publish(amqp_url, "", name, [b"odd"], {"x-stream-offset": 5000})
    publish(amqp_url, "", name, numbered(5))
    stream = source(amqp_url, name, kind="stream")
    found = given(stream, quiet_seconds=0.3)
    assert [body for batch in found for body in bodies(batch.messages)] == [b"odd", *numbered(5)]
    assert set(found[-1].positions.values()) == {5}


def test_a_stream_can_be_read_with_a_small_prefetch(amqp_url: str, names: Names) -> None:
    name = names("stream")
    declare(amqp_url, "", name, "", "stream")
    publish(amqp_url, "", name, numbered(300))
    stream = source(amqp_url, name, kind="stream", prefetch=4, position=lambda _: 249)
    assert bodies(drained(stream)) == numbered(300)[250:]


# --- memory ---------------------------------------------------------------------------------------------

MEASURED = """
import sys
from meterhouse.collection.collect import Limits, collect
from meterhouse.settings import read_settings
from meterhouse.site import Site
site = Site.open(read_settings(home=sys.argv[1], stream_url=sys.argv[2], stream_queues=sys.argv[3],
                               collect_bytes=4 << 20))
peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) >> 10
first = collect(site, Limits(messages=100))
before = peak()
rest = collect(site)
print(first.landed + rest.landed, before, peak() - before)
"""


def test_memory_is_bounded_whatever_waits(amqp_url: str, queue: str, tmp_path: Path, migrated: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "warehouse.db").write_bytes(migrated.read_bytes())
    wide = [
        json.dumps({"event_type": "x", "message_id": str(number), "payload": {"text": f"{number} " * 20_000}}).encode()
        for number in range(2500)
    ]
    waiting = sum(map(len, wide)) >> 20
    assert waiting > 200
    publish(amqp_url, "", queue, wide)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "home"), amqp_url, queue],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    landed, before, grown = map(int, done.stdout.split())
    assert landed == 2500
    assert grown < 60, f"{before} MiB after the first batches of 4 MiB, {grown} MiB more after {waiting} MiB of them"


def test_intake_makes_samples_and_events_from_messages(amqp_url: str, queue: str, open_site: OpenSite) -> None:
    sent = traffic(9, notifications=40, polling=10)
    publish(amqp_url, "", queue, sent.bodies)
    site = open_site(stream_url=amqp_url, stream_queues=queue)
    done = intake(site)
    assert done.collected.landed == 50
    assert (done.followed.converted.samples, done.followed.converted.events) == (sent.samples, sent.events)
    assert rows(site, "samples", "sum(volume) AS volume")[0]["volume"] == sent.volume
