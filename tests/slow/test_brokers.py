"""tests/brokers.py: brokers die and come back, networks fail, and messages yield what they claim."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import amqp
import pyarrow as pa
import pytest
from brokers import (
    SETTLE_S,
    Broker,
    Certificates,
    Proxy,
    Traffic,
    channel,
    declare,
    delete,
    depth,
    make_certificates,
    malformed,
    notify,
    publish,
    purge,
    take,
    traffic,
    wait_for,
)

from meterhouse import times
from meterhouse.conversion.convert import Converted, Converter
from meterhouse.definitions.loading import load
from meterhouse.stores.lake_tables import NOTIFICATIONS
from meterhouse.stream.envelope import BadMessage, unwrap

pytestmark = pytest.mark.slow

Names = Callable[[str], str]

# --- the network -------------------------------------------------------------------------------------


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of a server that returns what it gets."""

    def answer(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(1 << 16):
                    client.sendall(data)
            except ConnectionResetError:
                pass

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def echoed(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    got = b""
    while len(got) < len(text):
        got += client.recv(1 << 16)
    return got


def test_a_proxy_forwards_a_long_message_completely(echo: str) -> None:
    text = bytes(range(256)) * 20_000
    with Proxy(echo) as proxy, connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(text,))
        sender.start()
        got = b""
        while len(got) < len(text):
            got += client.recv(1 << 16)
        sender.join()
    assert got == text


def test_a_refusing_proxy_resets_open_connections_and_accepts_no_new_ones(echo: str) -> None:
    with Proxy(echo) as proxy, connect(proxy) as client:
        assert echoed(client, b"before") == b"before"
        port = proxy.port
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.pass_on()
        assert proxy.port == port
        with connect(proxy) as again:
            assert echoed(again, b"after") == b"after"


def test_a_stalled_proxy_holds_everything_back_and_loses_nothing(echo: str) -> None:
    with Proxy(echo) as proxy, connect(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.stall()
        with connect(proxy) as newcomer:
            for one in (client, newcomer):
                one.sendall(b"held")
                one.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    one.recv(1)
                one.settimeout(20)
            proxy.pass_on()
            assert [client.recv(4), newcomer.recv(4)] == [b"held", b"held"]


def test_a_proxy_can_be_cut_while_it_stalls(echo: str) -> None:
    with Proxy(echo) as proxy, connect(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.stall()
        with connect(proxy) as newcomer:
            client.sendall(b"lost")
            proxy.cut()
            for one in (client, newcomer):
                with pytest.raises(ConnectionResetError):
                    one.recv(1)


def test_a_cut_resets_once(echo: str) -> None:
    with Proxy(echo) as proxy, connect(proxy) as client:
        assert echoed(client, b"before") == b"before"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with connect(proxy) as again:
            assert echoed(again, b"after") == b"after"


def test_when_the_target_closes_the_proxy_closes_after_the_last_bytes() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Proxy(f"tcp://127.0.0.1:{server.getsockname()[1]}") as proxy,
        connect(proxy) as client,
    ):
        target, _ = server.accept()
        with target:
            target.sendall(b"last words")
        assert client.recv(100) == b"last words"
        assert client.recv(100) == b""


def test_a_target_can_be_changed_and_a_missing_one_causes_a_reset(echo: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with Proxy(f"amqp://me:word@127.0.0.1:{port}/%2F") as proxy:
        assert proxy.url == f"amqp://me:word@127.0.0.1:{proxy.port}/%2F"
        with pytest.raises(ConnectionResetError), connect(proxy) as client:
            client.recv(1)
        proxy.target = ("127.0.0.1", int(echo.rpartition(":")[2]))
        with connect(proxy) as client:
            assert echoed(client, b"there") == b"there"


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def trusting(certificates: Certificates, *, as_client: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates.authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if as_client:
        context.load_cert_chain(certificates.client, certificates.client_key)
    return context


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_speaks_tls_with_clients_that_trust_its_authority(
    echo: str, certificates: Certificates, host: str
) -> None:
    with Proxy(echo, tls=certificates.served()) as proxy:
        assert proxy.url.startswith("tcps://")
        with trusting(certificates).wrap_socket(connect(proxy), server_hostname=host) as client:
            assert echoed(client, b"secret" * 50_000) == b"secret" * 50_000


def test_another_authority_and_another_host_are_not_trusted(
    echo: str, certificates: Certificates, tmp_path: Path
) -> None:
    with Proxy(echo, tls=certificates.served()) as proxy:
        for context, host in (
            (trusting(make_certificates(tmp_path)), "localhost"),
            (trusting(certificates), "elsewhere.example.org"),
        ):
            with connect(proxy) as client, pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(client, server_hostname=host)


def test_a_client_without_a_certificate_is_rejected_if_one_is_required(echo: str, certificates: Certificates) -> None:
    with Proxy(echo, tls=certificates.served(ask=True)) as proxy:
        known = trusting(certificates, as_client=True)
        with known.wrap_socket(connect(proxy), server_hostname="localhost") as client:
            assert echoed(client, b"known") == b"known"
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),  # how it shows depends on Python's version
            trusting(certificates).wrap_socket(connect(proxy), server_hostname="localhost") as client,
        ):
            assert client.recv(1) == b""


def test_a_handshake_waits_while_the_network_stalls(echo: str, certificates: Certificates) -> None:
    with Proxy(echo, tls=certificates.served()) as proxy:
        proxy.stall()
        with connect(proxy) as client:
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                trusting(certificates).wrap_socket(client, server_hostname="localhost")
        proxy.pass_on()
        with trusting(certificates).wrap_socket(connect(proxy), server_hostname="localhost") as client:
            assert echoed(client, b"on") == b"on"


@pytest.mark.service
def test_amqps_is_spoken_with_the_proxy_in_front_of_any_broker(
    amqp_url: str, names: Names, certificates: Certificates
) -> None:
    queue = names("queue")
    declare(amqp_url, "", queue, "")
    publish(amqp_url, "", queue, [b"{}"])
    with Proxy(amqp_url, tls=certificates.served(ask=True)) as proxy:
        options = {
            "ca_certs": str(certificates.authority),
            "certfile": str(certificates.client),
            "keyfile": str(certificates.client_key),
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": "localhost",
        }
        with amqp.Connection(f"127.0.0.1:{proxy.port}", ssl=options) as connection:
            assert connection.channel().basic_get(queue, no_ack=True).body == "{}"


# --- queues ------------------------------------------------------------------------------------------


@pytest.mark.service
@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
def test_what_is_published_is_there_when_publish_returns(amqp_url: str, names: Names, kind: str) -> None:
    exchange, queue = names("exchange"), names("queue")
    declare(amqp_url, exchange, queue, "key", kind)
    publish(amqp_url, exchange, "key", [b"%d" % number for number in range(5000)])
    wait_for(lambda: depth(amqp_url, queue) == 5000, f"the depth of the {kind} queue", 10)


@pytest.mark.service
def test_messages_come_as_they_were_published_in_order_with_their_headers(amqp_url: str, names: Names) -> None:
    exchange, queue = names("exchange"), names("queue")
    declare(amqp_url, exchange, queue, "key.#", durable=False)
    bodies = [b"first", "zwölf".encode(), b"\xff\xfe", b""]
    publish(amqp_url, exchange, "key.info", bodies, {"x-retries": 3})
    taken = take(amqp_url, queue)
    assert [bytes(message.body) for message in taken] == bodies
    for message in taken:
        assert message.properties["delivery_mode"] == 2
        assert message.properties["application_headers"] == {"x-retries": 3}
    assert depth(amqp_url, queue) == 0


@pytest.mark.service
def test_publishing_a_message_that_no_queue_gets_fails(amqp_url: str, names: Names) -> None:
    exchange, queue = names("exchange"), names("queue")
    declare(amqp_url, exchange, queue, "key")
    with pytest.raises(amqp.ChannelError, match="NO_ROUTE"):
        publish(amqp_url, exchange, "other", [b"lost"])
    with pytest.raises(amqp.NotFound):
        publish(amqp_url, names("nowhere"), "key", [b"lost"])


@pytest.mark.service
def test_a_queue_is_purged_and_deleted(amqp_url: str, names: Names) -> None:
    exchange, queue = names("exchange"), names("queue")
    declare(amqp_url, exchange, queue, "key")
    publish(amqp_url, exchange, "key", [b"1", b"2"])
    assert purge(amqp_url, queue) == 2
    delete(amqp_url, queue, exchange)
    delete(amqp_url, queue, exchange)
    with pytest.raises(amqp.NotFound):
        depth(amqp_url, queue)


# --- oslo.messaging ----------------------------------------------------------------------------------


@pytest.mark.service
@pytest.mark.parametrize("quorum", [False, True])
def test_the_notifier_of_oslo_publishes_in_the_form_of_our_traffic(amqp_url: str, names: Names, quorum: bool) -> None:
    exchange, topic = names("openstack"), names("notifications")
    ours = {kind: traffic(1, **{kind: 1}) for kind in ("notifications", "polling")}
    sent = [json.loads(json.loads(one.bodies[0])["oslo.message"]) for one in ours.values()]
    notify(
        amqp_url,
        [{**message, "priority": message["priority"].lower()} for message in sent]
        + [{"event_type": "a", "payload": 1}],
        exchange=exchange,
        topic=topic,
        quorum=quorum,
    )
    with channel(amqp_url) as to:  # it has declared the queues in this form
        arguments = {"x-queue-type": "quorum"} if quorum else {}
        to.queue_declare(f"{topic}.sample", durable=quorum, auto_delete=False, arguments=arguments)
    taken = [*take(amqp_url, f"{topic}.info"), *take(amqp_url, f"{topic}.sample")]
    exists, plain, polling = [json.loads(message.body) for message in taken]
    for theirs, message, mine in zip((exists, polling), (taken[0], taken[2]), sent, strict=True):
        unwrapped = json.loads(theirs["oslo.message"])
        own = {"message_id", "_unique_id", "timestamp"}
        assert theirs.keys() == {"oslo.version", "oslo.message"}
        assert theirs["oslo.version"] == "2.0"
        assert unwrapped.keys() == mine.keys()
        assert {key: unwrapped[key] for key in mine.keys() - own} == {key: mine[key] for key in mine.keys() - own}
        assert message.properties["content_type"] == "application/json"
        assert message.properties["content_encoding"] == "utf-8"
        assert message.properties["delivery_mode"] == 2
    assert json.loads(plain["oslo.message"])["publisher_id"] == "compute.host1"


@pytest.mark.service
def test_a_notification_that_the_notifier_cannot_send_is_an_error(amqp_url: str) -> None:
    with Proxy(amqp_url) as proxy:
        proxy.refuse()
        with pytest.raises(AssertionError, match="Could not send notification"):
            notify(proxy.url, [{"event_type": "a", "payload": 1}])


# --- traffic -----------------------------------------------------------------------------------------


def converted(made: Traffic) -> Converted:
    found = [unwrap(body) for body in made.bodies]
    now = times.now()
    rows = [
        {
            "arrival_hour": times.arrival_hour(now),
            "message_id": one.message_id,
            "event_type": one.event_type,
            "publisher_id": one.publisher_id,
            "priority": one.priority,
            "timestamp": one.timestamp,
            "received_at": now,
            "source": "q",
            "body": one.body,
        }
        for one in found
    ]
    return Converter(load(None)).convert(pa.Table.from_pylist(rows, schema=NOTIFICATIONS))


def test_traffic_yields_exactly_the_samples_volumes_and_events_that_it_claims() -> None:
    made = traffic(7, notifications=300, polling=20, samples=50)
    assert (made.samples, made.events) == (300 * 4 + 20 * 50, 300)
    result = converted(made)
    volumes = result.samples.column("volume").to_pylist()
    assert result.errors == []
    assert (len(volumes), sum(volumes), result.events.num_rows) == (made.samples, made.volume, made.events)
    assert result.polled == 20
    assert [unwrap(body).message_id for body in made.bodies] == made.message_ids
    assert len(set(made.message_ids)) == 320
    assert len(set(result.samples.column("sample_id").to_pylist())) == made.samples
    places = zip(result.samples.column("series_id").to_pylist(), result.samples.column("timestamp"), strict=True)
    assert len(set(places)) == made.samples


def test_traffic_is_the_same_for_a_seed_and_shares_nothing_with_another() -> None:
    made, other = traffic(1, 50, 5), traffic(2, 50, 5)
    assert made == traffic(1, 50, 5)
    assert not set(made.message_ids) & set(other.message_ids)
    series = [set(converted(one).samples.column("series_id").to_pylist()) for one in (made, other)]
    assert not series[0] & series[1]


def test_a_notification_of_the_traffic_has_the_size_of_a_real_one() -> None:
    sizes = [len(body) for body in traffic(1, notifications=1000).bodies]
    assert 1550 < min(sizes) <= max(sizes) < 1650


def test_malformed_bodies_are_all_rejected_and_all_different() -> None:
    bodies = malformed(1, 600)
    assert len(set(bodies)) == 600
    assert bodies[0] == b""
    reasons = set()
    for body in bodies:
        with pytest.raises(BadMessage) as caught:
            unwrap(body)
        reasons.add(str(caught.value).partition(":")[0].partition(" '")[0])
    assert reasons == {"not JSON", "oslo.messaging envelope version", "no event_type", "not UTF-8"}
    assert not set(bodies) & set(malformed(2, 600)) - {b" " * length for length in range(100)}


# --- a broker that dies ------------------------------------------------------------------------------


@pytest.mark.service
def test_a_killed_broker_comes_back_on_its_port_with_its_durable_queues(own_broker: Broker, names: Names) -> None:
    url, queues = own_broker.url, {kind: names(kind) for kind in ("classic", "quorum")}
    for kind, queue in queues.items():
        declare(url, "exchange", queue, queue, kind)
        publish(url, "exchange", queue, [b"%d" % number for number in range(1000)])
    time.sleep(SETTLE_S)
    own_broker.kill()
    with pytest.raises(ConnectionRefusedError):
        depth(url, queues["classic"])
    own_broker.restart()
    assert own_broker.url == url
    for queue in queues.values():
        assert [int(bytes(message.body)) for message in take(url, queue)] == list(range(1000))


@pytest.mark.service
def test_a_lowered_consumer_timeout_fires_within_seconds(own_broker: Broker, names: Names) -> None:
    queue = names("queue")
    declare(own_broker.url, "", queue, "")
    publish(own_broker.url, "", queue, [b"unacknowledged"])
    own_broker.set_consumer_timeout(1000)
    begun = time.monotonic()
    with pytest.raises(amqp.PreconditionFailed, match="timed out"):
        hold_one(own_broker.url, queue)
    assert time.monotonic() - begun < 15
    assert depth(own_broker.url, queue) == 1


def hold_one(url: str, queue: str) -> None:
    """Take a message, and wait without an acknowledgement."""
    with channel(url) as to:
        to.basic_consume(queue, callback=lambda message: None)
        while True:
            to.connection.drain_events(timeout=30)
