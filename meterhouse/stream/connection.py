"""A connection to a broker, by any of its hosts: inspects, declares, binds and consumes queues."""

import contextlib
import logging
import math
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from amqp import Channel, Connection
from amqp import exceptions as amqp
from amqp.basic_message import Message
from kombu.connection import Connection as Kombu

from meterhouse.broker_urls import Broker, Host
from meterhouse.errors import MeterhouseError
from meterhouse.stream import Waiting
from meterhouse.stream.queues import Queues, Tls

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""Time that a broker has for an answer. If it takes longer, it counts as dead."""

CHUNK_SECONDS = (0.2, 2.0)
"""A chunk of a stream counts as complete when nothing comes for the first time span, at the latest after the second."""

GONE = (OSError, amqp.AMQPError)
"""What py-amqp raises if the connection is lost, or the broker closes it."""

NO_TYPE = "meterhouse-asks"
"""A type that no queue has. A broker refuses to declare a queue with it, and its error names the actual type."""

_HEARTBEAT = 8

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' .*but current is "
    r"(the value )?('(?P<value>[^']*)'( of type '(?P<type>\w+)')?|none)"
)

log = logging.getLogger(__name__)


class Link:
    """One open connection, with its queues. Methods that wait for the broker raise OSError if it does not answer."""

    def __init__(self, broker: Broker, connection: Connection) -> None:
        self.broker = broker
        self.connection = connection
        self._asking: Channel | None = None
        self._answer_by = math.inf
        self._library: Callable[[tuple[int, int, bytes]], bool] = connection.on_inbound_frame
        connection.on_inbound_frame = self._frame
        connection.Channel = self._channel

    def _frame(self, frame: tuple[int, int, bytes]) -> bool:
        """Pass a frame to py-amqp. By itself, it would wait for an answer as long as heartbeats come."""
        if frame[0] == _HEARTBEAT and time.monotonic() > self._answer_by:
            raise TimeoutError("the broker does not answer")
        return self._library(frame)

    def _channel(self, *given: Any, **named: Any) -> Channel:
        """A channel that waits for an answer for a limited time."""
        channel = Channel(*given, **named)
        wait = channel.wait

        def wait_with_limit(*given: Any, **named: Any) -> Any:
            with self.answering():
                return wait(*given, **named)

        channel.wait = wait_with_limit
        return channel

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Limit the time for an answer that the block waits for."""
        before, self._answer_by = self._answer_by, time.monotonic() + ANSWER_SECONDS
        try:
            yield
        finally:
            self._answer_by = before

    def control(self) -> Channel:
        """The channel for commands. An error closes this channel, and not the one that delivers messages."""
        if self._asking is None or not self._asking.is_open:
            self._asking = self.connection.channel()
        return self._asking

    def look(self, queues: Queues, position: Callable[[str], int | None]) -> list[Waiting]:
        """What waits in each queue. Own queues that do not exist are declared.

        Raises:
            MeterhouseError: a queue that should be a stream is not one.
        """
        found = []
        for name in queues.names:
            place = self.broker.place(name)
            try:
                answer = self.control().queue_declare(name, passive=True)
            except amqp.NotFound:
                if queues.exchanges:
                    self.bind(queues)
                found.append(Waiting(place, 0, missing=not queues.exchanges))
                continue
            waiting = answer.message_count
            if queues.kind == "stream" and waiting:
                read_to = position(queues.position(place))
                waiting = max(0, self._last_offset(name) - (-1 if read_to is None else read_to))
            found.append(Waiting(place, waiting, consumers=answer.consumer_count))
        return found

    def _last_offset(self, name: str) -> int:
        """The offset of a stream's newest message; -1 if the stream is empty."""
        offsets = [-1]

        def take(message: Message) -> None:
            offset = (message.headers or {}).get("x-stream-offset")
            if offset is None:
                raise not_a_stream(self.broker, name)
            offsets.append(offset)

        channel = self.connection.channel()
        channel.auto_decode = False
        channel.basic_qos(0, 65_535, False)
        self.consume(channel, name, "last", callback=take)
        once, end = CHUNK_SECONDS[0], time.monotonic() + CHUNK_SECONDS[1]
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < end:
                self.connection.drain_events(timeout=once)
        channel.close()
        return max(offsets)

    def consume(self, channel: Channel, name: str, offset: int | str | None = None, **how: Any) -> None:
        """Start to consume a queue; with an offset, a stream.

        Raises:
            MeterhouseError: there is an offset, but the queue is not a stream.
        """
        try:
            channel.basic_consume(name, arguments={} if offset is None else {"x-stream-offset": offset}, **how)
        except amqp.PreconditionFailed as error:
            if offset is not None and "x-stream-offset" in str(error.reply_text):
                raise not_a_stream(self.broker, name) from None
            raise

    def first(self, name: str) -> bytes | None:
        """The body of a queue's first message, which stays in the queue; None if there is no message or no queue."""
        channel = self.connection.channel()
        channel.auto_decode = False
        try:
            message = channel.basic_get(name, no_ack=False)
            if message is not None:
                channel.basic_reject(message.delivery_tag, requeue=True)
            channel.close()
        except amqp.NotFound:
            return None
        return None if message is None else bytes(message.body)

    def first_of_stream(self, name: str, read_to: int) -> bytes | None:
        """The body of a stream's first message after an offset; None if there is no such message or no such stream."""
        found: list[bytes] = []

        def take(message: Message) -> None:
            if message.headers["x-stream-offset"] > read_to:
                found.append(bytes(message.body))
            channel.basic_ack(message.delivery_tag)

        channel = self.connection.channel()
        channel.auto_decode = False
        channel.basic_qos(0, 100, False)
        try:
            self.consume(channel, name, read_to + 1 if read_to >= 0 else "first", callback=take)
        except amqp.NotFound:
            return None
        end = time.monotonic() + CHUNK_SECONDS[1]
        with contextlib.suppress(TimeoutError):
            while not found and time.monotonic() < end:
                self.connection.drain_events(timeout=CHUNK_SECONDS[1])
        channel.close()
        return found[0] if found else None

    def is_stream(self, name: str) -> bool:
        """Whether a queue is a stream; False if the broker does not say. Each call makes the broker log an error."""
        arguments: dict[str, Any] = {"x-queue-type": NO_TYPE}
        for _ in range(10):  # the broker refuses one argument after the other
            try:
                self.control().queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
            except amqp.ChannelError as error:
                found = _INEQUIVALENT.search(str(error.reply_text))
                if found is None or found["argument"] in arguments or not found["argument"].startswith("x-"):
                    return found is not None and found["value"] == "stream"
                arguments[found["argument"]] = int(found["value"]) if found["type"] == "signedint" else found["value"]
        return False

    def bind(self, queues: Queues) -> set[str]:
        """Declare the own queues and bind them; return the exchanges that do not exist (yet).

        An exchange is never declared here: if a service then declared it with other properties, the broker would refuse
        it.

        Raises:
            MeterhouseError: a queue of this name exists with another type.
        """
        missing: set[str] = set()
        for name, topic in queues.names.items():
            self._declare(name, queues.kind)
            for exchange in queues.exchanges:
                if exchange not in missing:
                    try:
                        self.control().queue_bind(name, exchange, topic)
                    except amqp.NotFound:
                        missing.add(exchange)
        return missing

    def _declare(self, name: str, kind: str) -> None:
        arguments: dict[str, Any] = {"x-queue-type": kind}
        # From 4.0 on, RabbitMQ drops a message of a quorum queue after 20 deliveries, unless the limit is disabled.
        # Earlier releases have no limit by default, and misread a negative one.
        attempts = [arguments]
        if kind == "quorum" and self._major_version() >= 4:
            attempts.insert(0, {**arguments, "x-delivery-limit": -1})
        for last, attempt in zip([*[False] * (len(attempts) - 1), True], attempts, strict=True):
            try:
                self.control().queue_declare(name, durable=True, auto_delete=False, arguments=attempt)
                return
            except amqp.PreconditionFailed as error:
                if last:
                    raise MeterhouseError(
                        f"queue {name} exists, but is not a durable {kind} queue: {error.reply_text}",
                        where=self.broker.name,
                        hint="Set METERHOUSE_STREAM_QUEUE_TYPE to its type, or another METERHOUSE_STREAM_POOL",
                    ) from None

    def _major_version(self) -> int:
        version = str(self.connection.server_properties.get("version", "0"))
        return int(version.partition(".")[0]) if version.partition(".")[0].isdigit() else 0

    @property
    def heartbeat(self) -> float:
        """The heartbeat in seconds that both sides agreed on."""
        return float(self.connection.heartbeat)

    def beat(self) -> None:
        """Send a heartbeat to the broker."""
        self.connection.send_heartbeat()

    def close(self) -> None:
        """Close the connection. Messages that were taken and not acknowledged return to their queue."""
        with contextlib.suppress(*GONE):
            self.connection.close()
        self.drop()

    def drop(self) -> None:
        """Close the socket without telling the broker, which may not answer. Does nothing if it is closed already."""
        with contextlib.suppress(OSError):
            self.connection.collect()


@contextmanager
def connect(broker: Broker, tls: Tls) -> Iterator[Link]:
    """A connection to the first host of the broker that answers, closed at the end.

    Raises:
        MeterhouseError: no host answers, or they refuse the connection; the message says why.
    """
    link = open_link(broker, tls)
    try:
        yield link
        link.close()
    except GONE as error:
        raise unreachable(broker, error) from error
    finally:
        link.drop()


def open_link(broker: Broker, tls: Tls) -> Link:
    """Connect to the first host of the broker that answers; see `connect`."""
    last: Exception = OSError("no host")
    for host in broker.hosts:
        try:
            return Link(broker, _open(broker, host, tls))
        except (*GONE, UnicodeError) as error:  # UnicodeError: the host's name is invalid
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
        transport_options={"client_properties": {"connection_name": f"meterhouse on {socket.gethostname()}"}},
    )
    made: Connection = link.transport.establish_connection()  # connect() would retry, and wait between
    made.transport.sock.settimeout(ANSWER_SECONDS)
    return made


def _tls(host: Host, tls: Tls) -> dict[str, Any]:
    options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host.name}
    for name, path in (("ca_certs", tls.ca), ("certfile", tls.certificate), ("keyfile", tls.key)):
        if path is not None:
            options[name] = str(path)
    return options


class Unreachable(MeterhouseError):
    """The broker does not answer, or has closed the connection. A retry may help."""


def unreachable(broker: Broker, error: Exception) -> MeterhouseError:
    """The error for the user: what, where, and what to do. It is `Unreachable` if a retry may help."""
    text = str(getattr(error, "reply_text", "") or error)
    reason = (text.splitlines() or [""])[0][:300] or type(error).__name__
    if isinstance(error, amqp.AccessRefused):
        return MeterhouseError(
            f"the broker refuses the connection: {reason}",
            where=broker.name,
            hint="Check the account in METERHOUSE_STREAM_URL and its permissions",
        )
    if isinstance(error, amqp.NotAllowed):
        return MeterhouseError(
            f"the broker refuses the connection: {reason}",
            where=broker.name,
            hint="Check the virtual host in METERHOUSE_STREAM_URL, and that the account may use it",
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return MeterhouseError(
            f"TLS with the broker failed: {reason}",
            where=broker.name,
            hint="Check METERHOUSE_STREAM_CA_FILE, _CERT_FILE and _KEY_FILE, and that the port speaks TLS",
        )
    if isinstance(error, amqp.ChannelError):
        return Unreachable(f"the broker closed the channel: {reason}", where=broker.name)
    hint = "Check METERHOUSE_STREAM_URL, and that the broker is running"
    if "unexpectedly closed" in reason:
        hint += ", and whether the port needs TLS (amqps://) or a certificate (METERHOUSE_STREAM_CERT_FILE)"
    return Unreachable(f"the broker cannot be reached: {reason}", where=broker.name, hint=hint)


def is_a_stream(broker: Broker, name: str) -> MeterhouseError:
    """The error for a queue that is a stream, but is not consumed as one."""
    return MeterhouseError(
        f"the queue {name} is a stream", where=broker.name, hint="Set METERHOUSE_STREAM_QUEUE_TYPE=stream"
    )


def not_a_stream(broker: Broker, name: str) -> MeterhouseError:
    """The error for a queue that is consumed as a stream, but is not one."""
    return MeterhouseError(
        f"the queue {name} is not a stream", where=broker.name, hint="Set METERHOUSE_STREAM_QUEUE_TYPE to its type"
    )
