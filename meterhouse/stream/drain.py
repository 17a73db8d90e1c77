"""The draining of one connection: it reads on while batches are landed, and tells the broker what is.

Messages that are taken and not landed yet are at most two batches: one that is being landed, and one that is filled or
on offer. No more is read meanwhile, and the broker keeps the rest.
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
from meterhouse.stream import Batch, Raw
from meterhouse.stream.connection import Link, is_a_stream, no_stream
from meterhouse.stream.deliveries import Deliveries
from meterhouse.stream.headers import properties
from meterhouse.stream.queues import Pace, Queues

READ_SECONDS = 0.05
"""How long one read waits: acknowledgements are sent as often."""

HELD_SECONDS = 0.01
"""How often it is looked whether a batch on offer is taken, while nothing is read."""

IDLE_SECONDS = 0.1
"""Nothing more is on its way when nothing came for so long."""

LOOK_SECONDS = 0.5
"""How often the queues are looked at, where nothing comes of what waits in them."""

STUCK_SECONDS = 3.0
"""What waits for so long and does not come is another consumer's, or the queue is a stream."""

BIND_SECONDS = 15.0
"""How often queues and exchanges that were not there are looked for, and own queues bound again."""

BUSY_BIND_SECONDS = 300.0
"""The same, while messages come without a pause."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """What the consumers of all brokers have in common.

    Attributes:
        queues: what is consumed.
        pace: when a batch is full.
        most: messages at which it is.
        gap_seconds: small batches come at most as often.
        position: how far a stream queue is read, by the name of its position.
        follow: go on for ever.
        offered: where batches go.
        stop: set when no more are wanted.
    """

    queues: Queues
    pace: Pace
    most: int
    gap_seconds: float
    position: Callable[[str], int | None]
    follow: bool
    offered: "queue.Queue[Batch]"
    stop: threading.Event


class Drain:
    """Takes messages off one connection, until asked to stop.

    Attributes:
        consuming: whether it has come so far.
        landed: how many deliveries were acknowledged.
        quiet_since: since when nothing has come and nothing waits; None while something does.
    """

    def __init__(self, link: Link, work: Work) -> None:
        self.consuming = False
        self.landed = 0
        self.quiet_since: float | None = None
        self._link, self._work, self._queues = link, work, work.queues
        self._places = {name: link.broker.place(name) for name in self._queues.names}
        self._channel = link.connection.channel()
        self._deliveries = Deliveries(link.connection, self._channel.channel_id, self._take)
        self._consumed: set[str] = set()
        self._missing: set[str] = set()
        self._doubted: dict[str, bool] = {}  # queues that may be streams, and whether it is still to be asked
        self._read_to: dict[str, int] = {}  # of streams, by the name of the position
        self._skipping = self._closing = False
        # the batch that is filled
        self._taken: list[Raw] = []
        self._bytes = 0
        self._positions: dict[str, int] = {}
        self._tags: list[int] = []  # of what is taken
        self._tag = 0
        self._acks: deque[int] = deque()
        now = time.monotonic()
        self._first_at = self._last_message = self._last_read = self._beaten = now
        self._bound = self._offered_at = self._looked = 0.0

    def run(self) -> None:
        """Take messages until asked to stop.

        Raises:
            OSError, AMQPError: the connection is gone.
            MeterhouseError: there is nothing to consume, or not in this way.
        """
        self._consume()
        self.consuming = True
        self._last_message = self._last_read
        while not self._work.stop.is_set():
            self._acknowledge()
            self._refuse_streams(name for name, is_open in self._doubted.items() if is_open)
            now = time.monotonic()
            self._keep_up(now)
            if self._is_ripe(now):
                self._offer(now)
            if self._is_full() or self._work.offered.full():
                self._last_read = now  # it is this side that does not read
                self._work.stop.wait(HELD_SECONDS)
            elif self._deliveries.read(READ_SECONDS):
                self._last_read = time.monotonic()
            elif now - self._last_read > 2 * self._link.heartbeat:
                raise ConnectionResetError("the broker has sent nothing, not even a heartbeat")
            else:
                self._look_whether_quiet(now)
        self._acknowledge()
        self._closing = True
        for name in self._consumed:
            self._channel.basic_cancel(name, nowait=True)
        self._sync()  # the answer tells that what was sent before has arrived

    def acknowledge(self, tag: int) -> None:
        """Tell the broker, soon, that all up to a delivery is landed; for the thread that lands."""
        self._acks.append(tag)

    def _sync(self) -> None:
        """Wait for an answer by the channel that messages come by; those that were on their way come before it."""
        self._channel.basic_qos(0, self._queues.prefetch, False)

    def _keep_up(self, now: float) -> None:
        if now - self._beaten >= self._link.heartbeat / 2:
            self._link.beat()
            self._beaten = now
        if not (self._missing or self._queues.exchanges) or now - self._bound < BIND_SECONDS:
            return
        # An answer comes behind all deliveries that are on their way, so it is asked for where there are none.
        if (not self._taken and now - self._last_message >= IDLE_SECONDS) or now - self._bound >= BUSY_BIND_SECONDS:
            self._consume()

    def _consume(self) -> None:
        """Begin to consume what is not consumed yet.

        Raises:
            MeterhouseError: none of the queues exists, and nobody is to wait for them.
        """
        self._bound = time.monotonic()
        missing = self._link.bind(self._queues) if self._queues.exchanges else set()
        self._sync()  # also sets the prefetch
        for name in self._queues.names:
            if name not in self._consumed:
                try:
                    self._link.ask().queue_declare(name, passive=True)
                except amqp.NotFound:
                    missing.add(name)
                else:
                    self._begin(name)
        if not self._consumed and not self._work.follow:
            raise MeterhouseError(
                f"none of the queues exists: {', '.join(self._queues.names)}",
                where=self._link.broker.name,
                hint="Check METERHOUSE_STREAM_QUEUES, or have own queues made by METERHOUSE_STREAM_EXCHANGES",
            )
        if missing and missing != self._missing:
            log.warning("%s: there is no %s yet", self._link.broker.name, ", ".join(sorted(missing)))
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

    def _take(self, name: str, tag: int, redelivered: bool, wire: bytes, body: bytes) -> None:
        if self._closing:
            return
        self._tag, self._last_message = tag, time.monotonic()
        if self._queues.kind == "stream":
            position = self._queues.position(self._places[name])
            offset = self._offset(name, wire)
            if offset <= self._read_to[position]:  # streams give whole chunks
                self._skipping = True
                return
            self._read_to[position] = self._positions[position] = offset
            redelivered = True  # it stays, and is read again by whoever does not know the position
        elif b"x-stream-offset" in wire and name not in self._doubted:
            self._doubted[name] = True  # to be asked later: nothing can be, in the midst of a read
        if not self._taken:
            self._first_at, self.quiet_since = self._last_message, None
        self._taken.append(Raw(body, name, "", wire, redelivered, self._places[name]))
        self._tags.append(tag)
        self._bytes += len(body)

    def _offset(self, name: str, wire: bytes) -> int:
        """The offset of a stream's message."""
        found = (properties(wire).get("application_headers") or {}).get("x-stream-offset")
        if found is None:  # there are headers that cannot be read
            _, mark, rest = wire.partition(b"\x0fx-stream-offsetl")
            if not mark:
                raise no_stream(self._link.broker, name)
            found = int.from_bytes(rest[:8], "big")
        return int(found)

    def _refuse_streams(self, names: Iterable[str]) -> None:
        """See that none of the queues is a stream: consumed as a queue, it would give what is new and nothing else."""
        for name in list(names):
            if self._link.is_stream(name):
                raise is_a_stream(self._link.broker, name)
            self._doubted[name] = False

    def _is_full(self) -> bool:
        return len(self._taken) >= self._work.most or self._bytes >= self._work.pace.most_bytes

    def _is_ripe(self, now: float) -> bool:
        """Whether the batch is to be offered, full or not."""
        if not self._taken:
            return False
        idle = now - self._last_message >= IDLE_SECONDS and now - self._offered_at >= self._work.gap_seconds
        return self._is_full() or idle or now - self._first_at >= self._work.pace.wait_seconds

    def _offer(self, now: float) -> None:
        """Hand the batch over, if the one before is taken."""
        # One read may take more than a batch has room for. Of streams all of it goes, for the positions are of all.
        most = self._work.most if self._queues.kind != "stream" else len(self._taken)
        taken, rest = self._taken[:most], self._taken[most:]
        batch = Batch(taken, partial(self.acknowledge, self._tags[len(taken) - 1]), self._positions)
        try:
            self._work.offered.put_nowait(batch)
        except queue.Full:
            return
        self._taken, self._tags = rest, self._tags[most:]
        self._bytes = sum(len(raw.body) for raw in rest)
        self._positions, self._offered_at = {}, now

    def _acknowledge(self) -> None:
        if self._skipping and not self._taken and self.landed < self._tag:
            self._acks.append(self._tag)  # what is skipped keeps back what comes behind it
            self._skipping = False
        tag = 0
        while self._acks:
            tag = self._acks.popleft()
        if tag:
            self._channel.basic_ack(tag, multiple=True)
            self.landed = tag

    def _look_whether_quiet(self, now: float) -> None:
        """Ask the broker whether the queues are empty, which also shows that it is there."""
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
                "%s: what waits does not come; does another consumer have it to itself?", self._link.broker.name
            )
        last_message = self._last_message
        self._sync()
        if not self._taken:
            self.quiet_since = last_message
