"""Sends messages to a queue of a broker, and waits until the broker has confirmed each.

Messages are persistent and `mandatory`: one that reaches no queue comes back, and counts as not sent. Sources: AMQP
0-9-1, and RabbitMQ's extension of publisher confirms.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from meterhouse.broker_urls import Broker
from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.settings import Settings
from meterhouse.stream.amqp import AmqpStream
from meterhouse.stream.queues import Queues, Tls

if TYPE_CHECKING:
    from meterhouse.stream.connection import Link

TOPIC: Final = "notifications.sample"
"""The topic of samples. If it is not among those that are collected, messages go to the first that is."""

CONFIRM_SECONDS: Final = 10.0
"""How long the broker has to confirm what it got."""

UNCONFIRMED: Final = 500
"""How many messages are sent ahead of their confirmation."""

_PERSISTENT: Final = 2

log = logging.getLogger(__name__)


@dataclass
class AmqpPublisher:
    """Sends to the first broker that takes messages, over one connection that is kept.

    Args:
        brokers: the brokers.
        queues: the queues that are collected.
        tls: the files for brokers with TLS.
    """

    brokers: list[Broker]
    queues: Queues
    tls: Tls = field(default_factory=Tls)
    _open: "_Open | None" = field(default=None, init=False, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> "AmqpPublisher":
        """The publisher for the stream that the settings name."""
        stream = AmqpStream.from_settings(settings, lambda name: None)
        return cls(stream.brokers, stream.queues, stream.tls)

    @property
    def queue(self) -> str:
        """The queue that messages go to."""
        names = self.queues.names
        return next((name for name, topic in names.items() if topic == TOPIC), next(iter(names)))

    def publish(self, bodies: Sequence[bytes]) -> None:
        """Send messages; see `Publisher`."""
        from meterhouse.stream.connection import GONE, unreachable

        if self._open is not None:
            try:
                self._open.send(bodies)
                return
            except (Unavailable, *GONE) as error:  # the broker may have closed it long ago, or deleted the queue
                log.info("%s: %s; connecting again", self._open.link.broker.name, error)
                self._drop()
        failures: list[MeterhouseError] = []
        for broker in self.brokers:
            try:
                self._connect(broker).send(bodies)
                return
            except MeterhouseError as error:
                self._drop()
                failures.append(error)
            except GONE as error:
                self._drop()
                failures.append(unreachable(broker, error))
        raise Unavailable("; ".join(str(failure) for failure in failures))

    def idle(self) -> None:
        """Send a heartbeat when one is due, and read what the broker has sent."""
        from meterhouse.stream.connection import GONE

        if self._open is None:
            return
        try:
            self._open.beat()
        except GONE:
            self._drop()

    def close(self) -> None:
        """Close the connection."""
        from meterhouse.stream.connection import GONE

        if self._open is not None:
            with suppress(*GONE):
                self._open.link.close()
            self._drop()

    def _connect(self, broker: Broker) -> "_Open":
        from meterhouse.stream.connection import open_link

        link = open_link(broker, self.tls)
        try:
            if self.queues.exchanges:
                link.bind(self.queues)
            self._open = _Open(link, self.queue)
        finally:
            if self._open is None:
                link.drop()
        return self._open

    def _drop(self) -> None:
        if self._open is not None:
            self._open.link.drop()
            self._open = None


class _Open:
    """An open connection with a channel whose messages are confirmed.

    Args:
        link: the connection.
        queue: where messages go.
    """

    def __init__(self, link: "Link", queue: str) -> None:
        self.link, self._queue = link, queue
        self._channel = link.connection.channel()
        self._channel.confirm_select()
        for name, handler in (("ack", self._acked), ("nack", self._refused), ("return", self._returned)):
            self._channel.events[f"basic_{name}"].add(handler)
        self._sent = 0
        self._waiting: set[int] = set()
        self._fault = ""
        self._beat_at = time.monotonic()

    def send(self, bodies: Sequence[bytes]) -> None:
        """Send messages, and wait until all are confirmed.

        Raises:
            Unavailable: the broker has refused some.
            OSError, AMQPError: the connection is lost, or the broker does not answer.
        """
        from amqp.basic_message import Message

        self._fault = ""
        for body in bodies:
            message = Message(
                body, content_type="application/json", content_encoding="utf-8", delivery_mode=_PERSISTENT
            )
            self._channel.basic_publish(message, exchange="", routing_key=self._queue, mandatory=True)
            self._sent += 1
            self._waiting.add(self._sent)
            if len(self._waiting) >= UNCONFIRMED:
                self._confirm(UNCONFIRMED // 2)
        self._confirm(0)
        if self._fault:
            raise Unavailable(self._fault, where=self.link.broker.name)

    def beat(self) -> None:
        """See `AmqpPublisher.idle`."""
        with suppress(TimeoutError):
            while True:
                self.link.connection.drain_events(timeout=0.001)
        if time.monotonic() - self._beat_at >= self.link.broker.heartbeat / 3:
            self._beat_at = time.monotonic()
            self.link.connection.send_heartbeat()

    def _confirm(self, most: int) -> None:
        """Wait until at most so many messages are not confirmed."""
        until = time.monotonic() + CONFIRM_SECONDS
        while len(self._waiting) > most:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the broker has not confirmed {len(self._waiting)} messages")
            self.link.connection.drain_events(timeout=left)

    def _acked(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._waiting = {each for each in self._waiting if each > tag}
        else:
            self._waiting.discard(tag)

    def _refused(self, tag: int, multiple: bool) -> None:
        self._fault = self._fault or f"the broker could not keep messages in the queue {self._queue}"
        self._acked(tag, multiple)

    def _returned(self, error: Exception, *given: Any) -> None:
        self._fault = (
            f"no queue {self._queue} takes messages ({error}). Let `meterhouse collect` run once with "
            "METERHOUSE_STREAM_EXCHANGES set, or declare the queue"
        )
