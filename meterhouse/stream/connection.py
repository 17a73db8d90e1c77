"""A connection to a broker: made to any of its hosts, with queues looked at and bound."""

import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from amqp import Channel, Connection
from amqp import exceptions as amqp
from amqp.basic_message import Message
from kombu.connection import Connection as Kombu

from meterhouse.errors import MeterhouseError
from meterhouse.stream import Waiting
from meterhouse.stream.amqp import Queues, Tls
from meterhouse.stream.broker import Broker, Host

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""Time that a broker has for an answer; one that takes longer is taken for dead."""

LAST_CHUNK_SECONDS = 0.2
"""A stream's last chunk has come when nothing more of it does for so long."""

GONE = (OSError, amqp.AMQPError)
"""What py-amqp raises where a connection, or the broker behind it, is gone or closes it."""

log = logging.getLogger(__name__)


class Link:
    """One open connection."""

    def __init__(self, broker: Broker, connection: Connection) -> None:
        self.broker = broker
        self.connection = connection
        self._asking: Channel | None = None
        self._socket = connection.transport.sock

    def ask(self) -> Channel:
        """The channel for questions: an error closes it, and not the one that messages come by."""
        if self._asking is None or not self._asking.is_open:
            self._asking = self.connection.channel()
        return self._asking

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Wait for answers within the block for so long and no longer.

        Raises:
            OSError: the broker does not answer.
        """
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self._socket.settimeout(None)

    def look(self, queues: Queues, position: Callable[[str], int | None]) -> list[Waiting]:
        """What waits in each queue; own queues that are not there yet are made."""
        found = []
        for name, topic in queues.names.items():
            place = self.broker.place(name)
            try:
                with self.answering():
                    answer = self.ask().queue_declare(name, passive=True)
            except amqp.NotFound:
                if queues.exchanges:
                    self.bind(queues, [topic])
                found.append(Waiting(place, 0, missing=not queues.exchanges))
                continue
            waiting = answer.message_count
            if queues.kind == "stream" and waiting:
                read_to = position(queues.position(place))
                waiting = max(0, self._last_offset(name) - (-1 if read_to is None else read_to))
            found.append(Waiting(place, waiting, consumers=answer.consumer_count))
        return found

    def _last_offset(self, name: str) -> int:
        """The offset of a stream's newest message; -1 where it has none."""
        last = -1

        def take(message: Message) -> None:
            nonlocal last
            last = max(last, message.headers["x-stream-offset"])

        channel = self.connection.channel()
        with self.answering():
            channel.basic_qos(0, 65_535, False)
            channel.basic_consume(name, callback=take, arguments={"x-stream-offset": "last"})
        with contextlib.suppress(TimeoutError):
            while True:
                self.connection.drain_events(timeout=LAST_CHUNK_SECONDS)
        channel.close()
        return last

    def first(self, name: str) -> bytes | None:
        """The body of a queue's first message, which is given back; None where it is empty or not there."""
        channel = self.connection.channel()
        channel.auto_decode = False
        try:
            with self.answering():
                message = channel.basic_get(name, no_ack=False)
                if message is not None:
                    channel.basic_reject(message.delivery_tag, requeue=True)
                channel.close()
        except amqp.NotFound:
            return None
        return None if message is None else bytes(message.body)

    def bind(self, queues: Queues, topics: Sequence[str]) -> set[str]:
        """Make the own queues of these topics and bind them; return the exchanges that are not there (yet).

        An exchange is never made here: a service that then declares it otherwise would be refused by the broker.

        Raises:
            MeterhouseError: there is a queue of this name of another type.
        """
        missing = set()
        for name, topic in queues.names.items():
            if topic not in topics:
                continue
            self._declare(name, queues.kind)
            for exchange in queues.exchanges:
                try:
                    with self.answering():
                        self.ask().queue_bind(name, exchange, topic)
                except amqp.NotFound:
                    missing.add(exchange)
        return missing

    def _declare(self, name: str, kind: str) -> None:
        arguments: dict[str, Any] = {"x-queue-type": kind}
        # From 4.0 on, RabbitMQ drops a message of a quorum queue after 20 deliveries, unless it is told not to; before,
        # it took a negative limit for none at all.
        attempts = [arguments]
        if kind == "quorum" and self._major_version() >= 4:
            attempts.insert(0, {**arguments, "x-delivery-limit": -1})
        for last, attempt in zip([*[False] * (len(attempts) - 1), True], attempts, strict=True):
            try:
                with self.answering():
                    self.ask().queue_declare(name, durable=True, auto_delete=False, arguments=attempt)
                return
            except amqp.PreconditionFailed as error:
                if last:
                    raise MeterhouseError(
                        f"there is a queue {name} already, but not a durable {kind} queue: {error.reply_text}",
                        where=self.broker.name,
                        hint="Set METERHOUSE_STREAM_QUEUE_TYPE to its type, or another METERHOUSE_STREAM_POOL",
                    ) from None

    def _major_version(self) -> int:
        version = str(self.connection.server_properties.get("version", "0"))
        return int(version.partition(".")[0]) if version.partition(".")[0].isdigit() else 0

    def beat(self) -> None:
        """Tell the broker that this side lives."""
        self.connection.send_heartbeat()

    def close(self) -> None:
        """Close the connection; what was taken and not acknowledged returns to its queue."""
        with contextlib.suppress(*GONE, AttributeError), self.answering():
            self.connection.close()
        with contextlib.suppress(*GONE, AttributeError):
            self.connection.collect()


@contextmanager
def connect(broker: Broker, tls: Tls) -> Iterator[Link]:
    """A connection to the first host of the broker that answers, closed at the end.

    Raises:
        MeterhouseError: no host answers, or they refuse; the text says why.
    """
    link = open_link(broker, tls)
    try:
        yield link
    except GONE as error:
        raise unreachable(broker, error) from error
    finally:
        link.close()


def open_link(broker: Broker, tls: Tls) -> Link:
    """Connect to the first host of the broker that answers; see `connect`."""
    last: Exception = OSError("no host")
    for host in broker.hosts:
        try:
            return Link(broker, _open(broker, host, tls))
        except GONE as error:
            last = error
            log.debug("%s: %s", host, error)
    raise unreachable(broker, last) from last


def _open(broker: Broker, host: Host, tls: Tls) -> Connection:
    link = Kombu(
        hostname=host.name,
        port=host.port,
        userid=host.user,
        password=host.password,
        virtual_host=broker.vhost,
        ssl=_tls(host, tls) if broker.tls else False,
        heartbeat=broker.heartbeat,
        connect_timeout=CONNECT_SECONDS,
        transport="pyamqp",
        transport_options={
            "read_timeout": ANSWER_SECONDS,
            "client_properties": {"connection_name": f"meterhouse on {socket.gethostname()}"},
        },
    )
    made: Connection = link.connect()
    made.transport.sock.settimeout(None)
    return made


def _tls(host: Host, tls: Tls) -> dict[str, Any]:
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host.name}
    for name, path in (("ca_certs", tls.ca), ("certfile", tls.certificate), ("keyfile", tls.key)):
        if path is not None:
            options[name] = str(path)
    return options


class Refused(MeterhouseError):
    """The broker answers, and refuses: trying again will not help."""


def unreachable(broker: Broker, error: Exception) -> MeterhouseError:
    """The error for the user: what, where, and what to do."""
    said = (str(error).splitlines() or [type(error).__name__])[0][:300] or type(error).__name__
    if isinstance(error, amqp.AccessRefused):
        return Refused(
            f"the broker refuses: {said}", where=broker.name, hint="Check the account in METERHOUSE_STREAM_URL"
        )
    if isinstance(error, amqp.NotAllowed):
        return Refused(
            f"the broker refuses: {said}",
            where=broker.name,
            hint="Check the virtual host in METERHOUSE_STREAM_URL, and that the account may use it",
        )
    if isinstance(error, ssl.SSLError):
        return Refused(
            f"no TLS with the broker: {said}",
            where=broker.name,
            hint="Check METERHOUSE_STREAM_CA_FILE, METERHOUSE_STREAM_CERT_FILE, and that the port speaks TLS",
        )
    return MeterhouseError(
        f"the broker cannot be reached: {said}", where=broker.name, hint="Check METERHOUSE_STREAM_URL and that it runs"
    )
