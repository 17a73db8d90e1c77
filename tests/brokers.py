"""What tests of the stream need: brokers to kill, networks to cut, and messages whose result is known exactly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import amqp
import kombu
import pytest
from builders import at, enveloped, line, notification, polled, polling
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from services import services

PATIENCE_S = 60  # how long to wait for a broker's answer; on a busy machine, seconds become minutes
SETTLE_S = 3  # from this long after its declaration on, a quorum queue or stream survives a kill
PRIORITIES = ("audit", "debug", "info", "warn", "error", "critical", "sample")

# --- a broker for one test ---------------------------------------------------------------------------


class Broker:
    """A RabbitMQ for one test, run from this machine's programs: a container would keep neither port nor process.

    Attributes:
        url: the same over every restart.
        consumer_timeout_ms: as it was last set.
    """

    CONSUMER_TIMEOUT_MS = 1_800_000
    """RabbitMQ's default for how long a message may stay unacknowledged."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="meterhouse-test-", dir="/tmp"))
        self.url = ""
        self.consumer_timeout_ms = self.CONSUMER_TIMEOUT_MS
        self.restart()

    def restart(self) -> None:
        """Start the broker again, with its data and its port. Does nothing if it is running."""
        arguments = ("start", "--only", "amqp", "--dir", str(self.folder))
        done = services(*arguments, DOCKER_HOST="unix:///nonexistent")
        assert done.returncode == 0, done.stderr
        url = dict(text.split("=", 1) for text in done.stdout.splitlines())["METERHOUSE_TEST_AMQP_URL"]
        assert self.url in ("", url), f"the broker was at {self.url} and came back at {url}"
        self.url = url

    def kill(self) -> None:
        """End the broker's process by SIGKILL, like a crash, and wait until it has ended.

        A quorum queue or stream that was declared less than SETTLE_S ago may never answer again: RabbitMQ 3.10 elects
        no leader for it.
        """
        pid = amqp_process(self.folder)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not _environment(pid), "the broker's end")

    def set_consumer_timeout(self, milliseconds: int) -> None:
        """Set how long a message may stay unacknowledged until its channel is closed. A restart resets it."""
        self.control("eval", f"application:set_env(rabbit, consumer_timeout, {milliseconds}).")
        self.consumer_timeout_ms = milliseconds

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl, in the environment that the broker was started in; return what it prints."""
        environment = _environment(amqp_process(self.folder))
        done = subprocess.run(
            ["rabbitmqctl", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        """End the broker and remove its data."""
        done = services("stop", "--dir", str(self.folder))
        assert done.returncode == 0, done.stderr
        shutil.rmtree(self.folder)


def amqp_process(folder: Path) -> int:
    """The process id of the RabbitMQ that deploy/services started on a folder."""
    return int((folder / "amqp" / "rabbit.pid").read_text())


def _environment(pid: int) -> dict[str, str]:
    """The environment of a process; empty if it has ended."""
    try:
        text = Path(f"/proc/{pid}/environ").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(pair.split("=", 1) for pair in text.split("\0") if pair)


def wait_for(true: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    """Wait until a condition holds; fail with its name if it takes too long."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def started_broker() -> Iterator[Broker]:
    """The broker behind `own_broker`, which starts once for all tests."""
    broker = Broker()
    yield broker
    broker.stop()


@pytest.fixture
def own_broker(started_broker: Broker) -> Iterator[Broker]:
    """A broker that a test may kill. Afterwards it runs again, with its usual timeout."""
    yield started_broker
    started_broker.restart()
    if started_broker.consumer_timeout_ms != Broker.CONSUMER_TIMEOUT_MS:
        started_broker.set_consumer_timeout(Broker.CONSUMER_TIMEOUT_MS)


# --- a network that fails ----------------------------------------------------------------------------

RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing resets the connection, instead of ending it."""


class Proxy:
    """A TCP proxy on a loopback port that can fail as networks do; a context manager.

    Args:
        url: what to pass on to, of any scheme, with host and port.
        tls: speak TLS to the clients by this; what lies behind is reached in plain text.

    Attributes:
        port: the proxy's.
        url: that of what lies behind, through the proxy; its scheme has an `s` at the end where TLS is spoken.
        target: host and port of what lies behind; may be set, for connections to come.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.target = (parts.hostname, parts.port)
        self._tls = tls
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting: set[socket.socket] = set()  # clients without streams yet
        self._flowing = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.port = 0
        self.pass_on()
        user, at_sign, _ = parts.netloc.rpartition("@")
        scheme = parts.scheme + ("s" if tls else "")
        self.url = parts._replace(scheme=scheme, netloc=f"{user}{at_sign}127.0.0.1:{self.port}").geturl()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def pass_on(self) -> None:
        """Forward everything, including what a stall held back."""
        self._do(self._open(flowing=True))

    def stall(self) -> None:
        """Forward nothing in either direction: connections stay, new ones are accepted, but get no answer."""
        self._do(self._open(flowing=False))

    def cut(self) -> None:
        """Reset all connections; new ones are accepted as before."""
        self._do(self._reset())

    def refuse(self) -> None:
        """Reset all connections and accept no new ones: connection refused."""
        self._do(self._close())

    def _do(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(PATIENCE_S)

    async def _open(self, *, flowing: bool) -> None:
        if flowing:
            self._flowing.set()
        else:
            self._flowing.clear()
        if self._listener is None:
            self._listener = _listener(self.port)
            self.port = self._listener.getsockname()[1]
            self._accepting = self._loop.create_task(self._accept(self._listener))

    async def _close(self) -> None:
        if self._listener and self._accepting:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
            self._listener.close()
            self._listener = None
        await self._reset()

    async def _reset(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # in which asyncio closes the sockets
        if self._listener:
            with contextlib.suppress(BlockingIOError):
                while True:  # those that are connected and were not accepted yet
                    self._waiting.add(self._listener.accept()[0])
        for client in self._waiting:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
        self._waiting.clear()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            self._waiting.add(client)
            connection = self._loop.create_task(self._serve(client))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

    async def _serve(self, client: socket.socket) -> None:
        """Forward between a client and the target until one of them ends. A reset is forwarded as a reset."""
        ends: list[asyncio.StreamWriter] = []
        try:
            await self._flowing.wait()
            self._waiting.discard(client)
            from_client, to_client = await self._streams(client)
            ends.append(to_client)
            from_target, to_target = await asyncio.open_connection(*self.target)
            ends.append(to_target)
            ways = [
                self._loop.create_task(self._pump(from_client, to_target)),
                self._loop.create_task(self._pump(from_target, to_client)),
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            if all(way.exception() is None for way in done):
                for end in ends:
                    end.close()
        except OSError:
            pass  # the client gave up, its certificate is not ours, or the target does not listen
        finally:
            for end in ends:
                if not end.is_closing():
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.transport.abort()

    async def _streams(self, client: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client's streams, after the handshake if TLS is used."""
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, client, ssl=self._tls)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()


def _listener(port: int) -> socket.socket:
    """A listening socket at the port; for 0, at a free port below those that clients get.

    A client's port could be in use when the proxy wants it back.
    """
    for choice in [port] if port else random.sample(range(20000, 32000), 100):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", choice))
            listener.listen()
        except OSError:
            listener.close()
        else:
            listener.setblocking(False)
            return listener
    raise OSError(f"no free port for the proxy, which was at {port or 'none yet'}")


# --- certificates ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, and the certificates that it signed for a server on this machine and for a client."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    def served(self, *, ask: bool = False) -> ssl.SSLContext:
        """The server's side of TLS. With `ask`, it only accepts clients with a certificate of the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        if ask:
            context.load_verify_locations(self.authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def make_certificates(folder: Path) -> Certificates:
    """Create an authority and its certificates in a folder: for 127.0.0.1 and localhost, and for a client."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _subject(f"Meterhouse's test authority {uuid.uuid4().hex[:8]}")

    def make(
        name: str,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
    ) -> tuple[Path, Path]:
        builder = (
            x509.CertificateBuilder(issuer_name=authority_name, subject_name=subject, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(authority_key, hashes.SHA256())
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    authority, _ = make(
        "authority",
        authority_name,
        authority_key,
        [(x509.BasicConstraints(ca=True, path_length=0), True), (signs, True)],
    )
    hosts = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    serves = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    asks = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    server_key, client_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    return Certificates(
        authority,
        *make("server", _subject("localhost"), server_key, [(hosts, False), (serves, False)]),
        *make("client", _subject("meterhouse"), client_key, [(asks, False)]),
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


# --- queues and messages -----------------------------------------------------------------------------

Kind = Literal["classic", "quorum", "stream"]


@pytest.fixture
def names() -> Iterator[Callable[[str], str]]:
    """Makes unique names from words. Afterwards, their queues (for a topic: all) and exchanges are deleted."""
    mark, given = uuid.uuid4().hex[:12], set()

    def name(word: str) -> str:
        given.add(f"{word}-{mark}")
        return f"{word}-{mark}"

    yield name
    if url := os.environ.get("METERHOUSE_TEST_AMQP_URL"):
        with channel(url) as to:
            for one in given:
                for queue in (one, *(f"{one}.{priority}" for priority in PRIORITIES)):
                    to.queue_delete(queue)
                to.exchange_delete(one)


@contextlib.contextmanager
def channel(url: str) -> Iterator[amqp.Channel]:
    """A channel of a separate connection."""
    with kombu.Connection(url, connect_timeout=10) as connection:
        yield connection.channel()


def declare(
    url: str, exchange: str, queue: str, routing_key: str, kind: Kind = "classic", *, durable: bool = True
) -> None:
    """Declare a queue bound to a topic exchange, both durable or neither; without an exchange, only the queue."""
    with channel(url) as to:
        to.queue_declare(queue, durable=durable, auto_delete=False, arguments={"x-queue-type": kind})
        if exchange:
            to.exchange_declare(exchange, "topic", durable=durable, auto_delete=False)
            to.queue_bind(queue, exchange, routing_key)


def publish(
    url: str,
    exchange: str,
    routing_key: str,
    bodies: Sequence[bytes | str],
    headers: Mapping[str, Any] | None = None,
    patience: float = PATIENCE_S,
) -> None:
    """Publish persistent messages like oslo.messaging, and wait until the broker has confirmed them all.

    Raises:
        TimeoutError: for `patience` seconds the broker has said nothing.
        amqp.ChannelError: no queue is bound there (312 NO_ROUTE), or there is no such exchange (404).
        AssertionError: the broker refused a message.
    """
    most_waiting = 2000
    with channel(url) as to:
        waiting: dict[int, None] = {}  # delivery tags, ascending

        def on_ack(delivery_tag: int, multiple: bool) -> None:
            for tag in list(takewhile(delivery_tag.__ge__, waiting)) if multiple else [delivery_tag]:
                del waiting[tag]

        def on_nack(delivery_tag: int, multiple: bool) -> None:
            raise AssertionError(f"the broker refused message {delivery_tag} of {len(bodies)}")

        to.confirm_select()
        to.events["basic_ack"].add(on_ack)
        to.events["basic_nack"].add(on_nack)
        for tag, body in enumerate(bodies, 1):
            message = amqp.Message(
                body,
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
                application_headers=dict(headers or {}),
            )
            waiting[tag] = None
            to.basic_publish(message, exchange, routing_key, mandatory=True)
            while len(waiting) >= most_waiting:
                to.connection.drain_events(timeout=patience)
        while waiting:
            to.connection.drain_events(timeout=patience)


def take(url: str, queue: str) -> list[amqp.Message]:
    """Take all messages out of a queue (not of a stream), in order; their bodies are bytes."""
    taken = []
    with kombu.Connection(url, connect_timeout=10) as connection:
        taker = connection.connection.channel()
        taker.auto_decode = False
        while message := taker.basic_get(queue, no_ack=True):
            message.body = message.body or b""
            taken.append(message)
    return taken


def depth(url: str, queue: str) -> int:
    """The number of ready messages in a queue. For some seconds after a restart, a stream reports 0."""
    with channel(url) as to:
        return int(to.queue_declare(queue, passive=True).message_count)


def purge(url: str, queue: str) -> int:
    """Purge the ready messages of a queue (not of a stream); return their number."""
    with channel(url) as to:
        return int(to.queue_purge(queue))


def delete(url: str, queue: str = "", exchange: str = "") -> None:
    """Delete a queue, an exchange, or both, if they exist."""
    with channel(url) as to:
        if queue:
            to.queue_delete(queue)
        if exchange:
            to.exchange_delete(exchange)


def notify(
    url: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    exchange: str = "openstack",
    topic: str = "notifications",
    quorum: bool = False,
) -> None:
    """Publish notifications with oslo.messaging itself, as OpenStack's services do.

    It declares the exchange, and per priority a queue `topic.priority`: durable quorum queues, or classic ones that
    do not outlive the broker. It runs in a process of its own, for its imports replace and warn too much for ours.

    Args:
        url: the broker's.
        messages: each with `event_type` and `payload`; `priority` is `info`, `publisher_id` `compute.host1` where
            nothing else is said.
        exchange: the control exchange.
        topic: the first part of the queues' names.
        quorum: declare quorum queues.
    """
    parts = urlsplit(url)
    host = unquote(parts.path[1:])
    configuration = f"""\
[DEFAULT]
transport_url = rabbit://{parts.netloc}/{"" if host == "/" else host}
control_exchange = {exchange}

[oslo_messaging_notifications]
driver = messagingv2
topics = {topic}
retry = 1

[oslo_messaging_rabbit]
rabbit_quorum_queue = {quorum}
amqp_durable_queues = {quorum}
"""
    defaults = {"priority": "info", "publisher_id": "compute.host1"}
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(configuration)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("oslo_notifier.py")), file.name],
            input=json.dumps([{**defaults, **message} for message in messages]),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr


# --- traffic -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """Messages, and what Meterhouse makes of them with the shipped definitions.

    Attributes:
        bodies: as oslo.messaging's `messagingv2` sends them, notifications and polled batches mixed.
        message_ids: theirs, in the same order; each is there once.
        samples: how many samples they give.
        volume: the sum of the samples' volumes; exact, whatever the order of summing.
        events: how many events they give.
    """

    bodies: list[bytes]
    message_ids: list[str]
    samples: int
    volume: float
    events: int


def traffic(seed: int, notifications: int = 0, polling: int = 0, samples: int = 50) -> Traffic:
    """Notifications of instances, of about 1.6 kB, and batches of so many polled samples, ten seconds apart.

    The same seed gives the same. Two give no message_id twice, and no two samples of one series and time.
    """
    chance = random.Random(seed)
    made: list[tuple[str, dict[str, Any]]] = []
    count = quarters = 0
    for number in range(notifications):
        message_id = _uuid(chance)
        sizes = [chance.randrange(1, 1 << 16), chance.randrange(1, 64), chance.randrange(500), chance.randrange(500)]
        made.append((message_id, _instance_exists(message_id, number, sizes)))
        count += len(sizes)
        quarters += 4 * sum(sizes)
    for number in range(polling):
        message_id = _uuid(chance)
        volumes = [chance.randrange(1 << 14) for _ in range(samples)]
        made.append((message_id, _polled_batch(message_id, f"instance-{seed}", at(number / 6), volumes)))
        count += samples
        quarters += sum(volumes)
    chance.shuffle(made)
    return Traffic(
        [line(enveloped({**message, "_unique_id": message_id.replace("-", "")})) for message_id, message in made],
        [message_id for message_id, _ in made],
        count,
        quarters / 4,
        notifications,
    )


def _uuid(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _instance_exists(message_id: str, number: int, sizes: Sequence[int]) -> dict[str, Any]:
    """A notification that yields one event, and one sample of each size: memory, processors, two disks."""
    memory, vcpus, root, ephemeral = sizes
    payload = {
        "tenant_id": "3d5a9c1e7b2f4a6d8c0e1f2a3b4c5d6e",
        "user_id": "7c1d3e5f9a0b4c2d8e6f1a2b3c4d5e6f",
        "instance_id": message_id,
        "display_name": f"web-{number}",
        "reservation_id": "r-9x1k2c3d",
        "hostname": f"web-{number}",
        "instance_type": "m1.medium",
        "instance_type_id": 7,
        "instance_flavor_id": "d2f1",
        "architecture": "x86_64",
        "memory_mb": memory,
        "disk_gb": root + ephemeral,
        "vcpus": vcpus,
        "root_gb": root,
        "ephemeral_gb": ephemeral,
        "host": f"rack4-node{number % 40}",
        "node": f"rack4-node{number % 40}.example.org",
        "availability_zone": "az-2",
        "image_ref_url": "http://glance.example.org:9292/images/1f0e2d3c-4b5a-4697-8879-6a5b4c3d2e1f",
        "image_name": "debian-13",
        "access_ip_v4": None,
        "access_ip_v6": None,
        "created_at": "2026-11-01 08:00:01+00:00",
        "launched_at": "2026-11-01T08:00:43.000000",
        "deleted_at": "",
        "os_type": "linux",
        "state": "active",
        "state_description": "",
        "image_meta": {"base_image_ref": "1f0e2d3c-4b5a-4697-8879-6a5b4c3d2e1f", "min_ram": "512", "min_disk": "10"},
        "metadata": {"metering.team": "shop", "metering.cost.centre": "4711"},
        "audit_period_beginning": "2026-11-10 11:00:00",
        "audit_period_ending": "2026-11-10 12:00:00",
        "bandwidth": {},
    }
    return notification(message_id, publisher_id=f"compute.rack4-node{number % 40}", payload=payload)


def _polled_batch(message_id: str, stem: str, when: datetime, quarters: Sequence[int]) -> dict[str, Any]:
    """A batch with one sample for each volume (in quarters), each of another resource."""
    samples = [
        polled(
            volume / 4,
            when,
            meter="memory.usage",
            resource=f"{stem}-{place}",
            message_id=f"{message_id}-{place}",
            monotonic_time=None,
        )
        for place, volume in enumerate(quarters)
    ]
    return polling(message_id, samples)


def malformed(seed: int, count: int) -> list[bytes]:
    """`count` different bodies that are not notifications, of six kinds in turn; the first is empty."""
    chance = random.Random(seed)
    kinds: list[Callable[[str, int], bytes]] = [
        lambda name, turn: b" " * turn,
        lambda name, turn: b'{"event_type": "compute.instance.exists", "message_id": "%s", ' % name.encode(),
        lambda name, turn: line(enveloped(notification(name)))[:-20],
        lambda name, turn: line({**enveloped(notification(name)), "oslo.version": f"{3 + turn}.0"}),
        lambda name, turn: line(enveloped({"message_id": name, "priority": "INFO", "payload": {}})),
        lambda name, turn: line(enveloped(notification(name))) + b"\xff\xfe",
    ]
    return [kinds[at % len(kinds)](_uuid(chance), at // len(kinds)) for at in range(count)]
