"""Drains one connection: reads messages while batches are landed, and acknowledges what is landed.

At most two batches are taken and not landed: one that is being landed, and one that is being filled or offered. Until
one of them is landed, nothing more is read, and the broker keeps the rest.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from amqp import exceptions as amqp

from meterhouse.errors import MeterhouseError
from meterhouse.stream import Batch, Raw, too_long
from meterhouse.stream.connection import Link, is_a_stream, not_a_stream
from meterhouse.stream.deliveries import Deliveries
from meterhouse.stream.headers import properties
from meterhouse.stream.queues import Pace, Queues

READ_SECONDS = 0.05
"""How long one read waits, and so how often acknowledgements are sent."""

HELD_SECONDS = 0.01
"""While nothing is read: how often to check whether the offered batch was taken."""

IDLE_SECONDS = 0.1
"""If nothing came for this long, no more messages are on their way."""

LOOK_SECONDS = 0.5
"""While no messages come: how often to check whether any wait in the queues."""

STUCK_SECONDS = 3.0
"""If messages wait for this long but do not come, another consumer holds them, or the queue is a stream."""

BIND_SECONDS = 15.0
"""How often to look for queues and exchanges that did not exist, and to bind own queues again."""

BUSY_BIND_SECONDS = 300.0
"""The same, while messages come without a pause."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What the consumers of all brokers share.

    Attributes:
        queues: the queues to consume.
        pace: when a batch is full.
        max_messages: the number of messages at which a batch is full.
        longest: maximum number of bytes of a message; of a longer one, only the start is taken, with a fault.
        gap_seconds: the minimum time between small batches.
        position: how far a stream queue is read, by the name of its position.
        follow: whether to continue until stopped.
        offered: the queue that batches are put into.
        stop: set to stop the consumers.
    """

    queues: Queues
    pace: Pace
    max_messages: int
    longest: int
    gap_seconds: float
    position: Callable[[str], int | None]
    follow: bool
    offered: "queue.Queue[Batch]"
    stop: threading.Event


class Drain:
    """Takes messages from one connection until it is stopped.

    Attributes:
        consuming: whether it has started to consume.
        landed: how many deliveries were acknowledged.
        quiet_since: since when no message has come and none waits; None while there are messages.
    """

    def __init__(self, link: Link, work: Work) -> None:
        self.consuming = False
        self.landed = 0
        self.quiet_since: float | None = None
        self._link, self._work, self._queues = link, work, work.queues
        self._places = {name: link.broker.place(name) for name in self._queues.names}
        self._channel = link.connection.channel()
        self._deliveries = Deliveries(link.connection, self._channel.channel_id, self._take, work.longest)
        self._consumed: set[str] = set()
        self._missing: set[str] = set()
        self._maybe_streams: dict[str, bool] = {}  # queue → whether it still has to be checked
        self._read_to: dict[str, int] = {}  # of streams, by the name of the position
        self._skipping = self._closing = False
        # the batch that is being filled
        self._taken: list[Raw] = []
        self._bytes = 0
        self._positions: dict[str, int] = {}
        self._tags: list[int] = []  # the delivery tags of `_taken`
        self._tag = 0
        self._acks: deque[int] = deque()
        now = time.monotonic()
        self._first_at = self._last_message = self._last_read = self._beaten = now
        self._bound = self._offered_at = self._looked = 0.0

    def run(self) -> None:
        """Take messages until stopped.

        Raises:
            OSError, AMQPError: the connection is lost.
            MeterhouseError: none of the queues exists, or they cannot be consumed in this way.
        """
        self._consume()
        self.consuming = True
        self._last_message = self._last_read
        while not self._work.stop.is_set():
            self._acknowledge()
            self._refuse_streams(name for name, unchecked in self._maybe_streams.items() if unchecked)
            now = time.monotonic()
            self._maintain(now)
            if self._is_ready(now):
                self._offer(now)
            if self._is_full() or self._work.offered.full():
                self._last_read = now  # this side pauses, not the broker
                self._work.stop.wait(HELD_SECONDS)
            elif self._deliveries.read(READ_SECONDS):
                self._last_read = time.monotonic()
            elif now - self._last_read > 2 * self._link.heartbeat:
                raise ConnectionResetError("the broker has sent nothing, not even a heartbeat")
            else:
                self._check_quiet(now)
        self._acknowledge()
        self._closing = True
        for name in self._consumed:
            self._channel.basic_cancel(name, nowait=True)
        self._sync()  # with the answer, everything that was sent before has arrived

    def acknowledge(self, tag: int) -> None:
        """Have all deliveries up to this one acknowledged soon; for the thread that lands."""
        self._acks.append(tag)

    def _sync(self) -> None:
        """Wait for an answer on the channel that delivers messages. Messages that are on their way come before it."""
        self._channel.basic_qos(0, self._queues.prefetch, False)

    def _maintain(self, now: float) -> None:
        """Send heartbeats, and look for missing queues and exchanges."""
        if now - self._beaten >= self._link.heartbeat / 2:
            self._link.beat()
            self._beaten = now
        if not (self._missing or self._queues.exchanges) or now - self._bound < BIND_SECONDS:
            return
        # An answer comes after all deliveries that are on their way, so it is requested when there are none.
        if (not self._taken and now - self._last_message >= IDLE_SECONDS) or now - self._bound >= BUSY_BIND_SECONDS:
            self._consume()

    def _consume(self) -> None:
        """Start to consume the queues that are not consumed yet.

        Raises:
            MeterhouseError: none of the queues exists, and the run does not follow.
        """
        self._bound = time.monotonic()
        missing = self._link.bind(self._queues) if self._queues.exchanges else set()
        self._sync()  # also sets the prefetch
        for name in self._queues.names:
            if name not in self._consumed:
                try:
                    self._link.control().queue_declare(name, passive=True)
                except amqp.NotFound:
                    missing.add(name)
                else:
                    self._begin(name)
        if not self._consumed and not self._work.follow:
            raise MeterhouseError(
                f"none of the queues exists: {', '.join(self._queues.names)}",
                where=self._link.broker.name,
                hint="Check METERHOUSE_STREAM_QUEUES, or set METERHOUSE_STREAM_EXCHANGES to use own queues",
            )
        if missing and missing != self._missing:
            log.warning("%s: %s does not exist yet", self._link.broker.name, ", ".join(sorted(missing)))
        self._missing = missing
        self._last_read = time.monotonic()

    def _begin(self, name: str) -> None:
        offset: int | str | None = None
        if self._queues.kind == "stream":
            position = self._queues.position(self._places[name])
            read_to = self._work.position(position)
            self._read_to[position] = -1 if read_to is None else read_to
            offset = "first" if read_to is None else read_to + 1
        self._consumed.add(name)  # the consumer's tag is the queue's name: a delivery may come before the answer
        self._link.consume(self._channel, name, offset, consumer_tag=name)

    def _take(self, name: str, tag: int, redelivered: bool, wire: bytes, body: bytes, size: int) -> None:
        if self._closing:
            return
        self._tag, self._last_message = tag, time.monotonic()
        if self._queues.kind == "stream":
            position = self._queues.position(self._places[name])
            offset = self._offset(name, wire)
            if offset <= self._read_to[position]:  # a stream delivers whole chunks
                self._skipping = True
                return
            self._read_to[position] = self._positions[position] = offset
            redelivered = True  # it stays in the stream, and a process that does not know the position reads it again
        elif b"x-stream-offset" in wire and name not in self._maybe_streams:
            self._maybe_streams[name] = True  # checked later, because no command can be sent during a read
        if not self._taken:
            self._first_at, self.quiet_since = self._last_message, None
        fault = too_long(size, self._work.longest)
        self._taken.append(Raw(body, name, fault, wire, redelivered, self._places[name]))
        self._tags.append(tag)
        self._bytes += len(body)

    def _offset(self, name: str, wire: bytes) -> int:
        """The offset of a stream's message."""
        found = (properties(wire).get("application_headers") or {}).get("x-stream-offset")
        if found is None:  # some headers cannot be read
            _, mark, rest = wire.partition(b"\x0fx-stream-offsetl")
            if not mark:
                raise not_a_stream(self._link.broker, name)
            found = int.from_bytes(rest[:8], "big")
        return int(found)

    def _refuse_streams(self, names: Iterable[str]) -> None:
        """Raise if one of the queues is a stream: consumed as a queue, it would only deliver new messages."""
        for name in list(names):
            if self._link.is_stream(name):
                raise is_a_stream(self._link.broker, name)
            self._maybe_streams[name] = False

    def _is_full(self) -> bool:
        return len(self._taken) >= self._work.max_messages or self._bytes >= self._work.pace.max_bytes

    def _is_ready(self, now: float) -> bool:
        """Whether to offer the batch, full or not."""
        if not self._taken:
            return False
        idle = now - self._last_message >= IDLE_SECONDS and now - self._offered_at >= self._work.gap_seconds
        return self._is_full() or idle or now - self._first_at >= self._work.pace.wait_seconds

    def _offer(self, now: float) -> None:
        """Offer the batch, if the one before was taken."""
        # One read may take more than a batch may hold. For streams, the batch takes all, because the positions are
        # those after all messages.
        size = self._work.max_messages if self._queues.kind != "stream" else len(self._taken)
        taken, rest = self._taken[:size], self._taken[size:]
        batch = Batch(taken, partial(self.acknowledge, self._tags[len(taken) - 1]), self._positions)
        try:
            self._work.offered.put_nowait(batch)
        except queue.Full:
            return
        self._taken, self._tags = rest, self._tags[size:]
        self._bytes = sum(len(raw.body) for raw in rest)
        self._positions, self._offered_at = {}, now

    def _acknowledge(self) -> None:
        if self._skipping and not self._taken and self.landed < self._tag:
            self._acks.append(self._tag)  # unacknowledged skipped messages would hold back those after them
            self._skipping = False
        tag = 0
        while self._acks:
            tag = self._acks.popleft()
        if tag:
            self._channel.basic_ack(tag, multiple=True)
            self.landed = tag

    def _check_quiet(self, now: float) -> None:
        """Check with the broker whether the queues are empty. Its answer also shows that it is alive."""
        idle = now - self._last_message
        if self._taken or self.quiet_since is not None or idle < IDLE_SECONDS or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        places = self._link.look(self._queues, self._read_to.get)
        self._last_read = time.monotonic()  # a broker that answers need not send heartbeats
        if any(place.messages for place in places):
            if idle < STUCK_SECONDS or self.landed < self._tag:
                return
            self._refuse_streams(self._consumed if self._queues.kind != "stream" else ())
            log.warning(
                "%s: messages wait but are not delivered; does another consumer hold them?", self._link.broker.name
            )
        last_message = self._last_message
        self._sync()
        if not self._taken:
            self.quiet_since = last_message
