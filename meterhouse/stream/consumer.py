"""The thread that drains one broker: it reads on while batches are landed, and tells the broker what is.

Only this thread touches the connection. Whoever lands hands acknowledgements over; messages that the thread has taken
and that are not landed yet are at most two batches, and it reads no further then.
"""

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from amqp import Channel
from amqp import exceptions as amqp

from meterhouse.errors import MeterhouseError
from meterhouse.stream import Batch, Raw
from meterhouse.stream.amqp import Pace, Queues, Tls
from meterhouse.stream.broker import Broker
from meterhouse.stream.connection import GONE, Link, Refused, open_link, unreachable
from meterhouse.stream.deliveries import Deliveries, properties

READ_SECONDS = 0.05
"""How long one read waits: acknowledgements are sent as often."""

IDLE_SECONDS = 0.1
"""Where nothing came for so long, a batch is offered as it is."""

BACK_OFF_SECONDS = (0.2, 30.0)
"""The first and the longest pause before a broker is tried again; each is twice the one before."""

PATIENCE_SECONDS = 30.0
"""A broker that stays away for longer fails a run that is not to go on for ever."""

BIND_SECONDS = 60.0
"""How often exchanges that were not there are looked for."""

CLOSE_SECONDS = 15.0

log = logging.getLogger(__name__)


class Consumer(threading.Thread):
    """Drains the queues of one broker into `offered`, until `stop` is set."""

    def __init__(
        self,
        broker: Broker,
        queues: Queues,
        tls: Tls,
        pace: Pace,
        position: Callable[[str], int | None],
        offered: "queue.Queue[Batch]",
        most: int,
        stop: threading.Event,
        *,
        follow: bool,
    ) -> None:
        super().__init__(daemon=True, name=f"amqp {broker.name}")
        self.broker, self.queues, self.tls, self.pace = broker, queues, tls, pace
        self.failure: MeterhouseError | None = None
        self._position, self._offered, self._most, self._stop_asked, self._follow = (
            position,
            offered,
            most,
            stop,
            follow,
        )
        self._acks: deque[tuple[Channel, int]] = deque()
        self._quiet_since: float | None = None
        self._taken: list[Raw] = []
        self._bytes = 0
        self._tag = 0
        self._first_at = 0.0
        self._positions: dict[str, int] = {}
        self._consumed: set[str] = set()
        self._start_at: dict[str, int] = {}
        self._skipped = self._closing = False
        self._places = {name: self.broker.place(name) for name in queues.names}

    # -- for the thread that lands ----------------------------------------------------------------------------

    def is_over(self, quiet_seconds: float | None) -> bool:
        """Whether the broker is given up, or nothing has come for so long (None: no matter how long)."""
        quiet_since = self._quiet_since
        if quiet_seconds is None or quiet_since is None:
            return not self.is_alive()
        return time.monotonic() - quiet_since >= quiet_seconds

    def join(self, timeout: float | None = CLOSE_SECONDS) -> None:
        """Wait until what was acknowledged is told to the broker and the connection is closed."""
        super().join(timeout)

    # -- the thread -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Connect, drain, and connect again where the connection is lost."""
        pause, away_since = BACK_OFF_SECONDS[0], time.monotonic()
        was_there = False
        while not self._stop_asked.is_set():
            failure: MeterhouseError
            try:
                link = open_link(self.broker, self.tls)
            except MeterhouseError as error:
                failure = error
            else:
                pause, was_there = BACK_OFF_SECONDS[0], True
                try:
                    self._drain(link)
                    return
                except GONE as error:
                    failure = unreachable(self.broker, error)
                except MeterhouseError as error:
                    self.failure = error
                    return
                finally:
                    self._forget()
                    link.close()
                away_since = time.monotonic()
            if self._follow:
                hopeless = isinstance(failure, Refused) and not was_there
            else:
                hopeless = not was_there or time.monotonic() - away_since > PATIENCE_SECONDS
            if hopeless:
                self.failure = failure
                return
            log.warning("%s; trying again in %.1f s", failure, pause)
            self._stop_asked.wait(pause * random.uniform(0.7, 1.0))
            pause = min(pause * 2, BACK_OFF_SECONDS[1])

    def _forget(self) -> None:
        """Drop what was taken and not offered: it comes again."""
        self._taken, self._bytes, self._positions = [], 0, {}
        self._acks.clear()
        self._consumed.clear()
        self._quiet_since = None

    def _drain(self, link: Link) -> None:
        """Take messages until asked to stop.

        Raises:
            OSError, AMQPError: the connection is gone.
            MeterhouseError: there is nothing to consume.
        """
        channel = link.connection.channel()
        channel.auto_decode = False
        deliveries = Deliveries(link.connection, self._take)
        bound = time.monotonic()
        missing = self._consume(link, channel, deliveries)
        beat, last_read, last_message = time.monotonic(), time.monotonic(), time.monotonic()
        while not self._stop_asked.is_set():
            self._acknowledge()
            now = time.monotonic()
            if now - beat >= self.broker.heartbeat / 2:
                link.beat()
                beat = now
            if missing and now - bound >= (BIND_SECONDS if self.queues.exchanges else 5.0):
                bound, missing = now, self._consume(link, channel, deliveries)
            if self._is_full(now - last_message) and not self._offer(channel):
                last_read = now  # it is this side that does not read
                self._stop_asked.wait(READ_SECONDS)
                continue
            before = len(self._taken)
            if deliveries.read(READ_SECONDS):
                last_read = time.monotonic()
                if len(self._taken) > before:
                    last_message = last_read
                    if not before:
                        self._first_at = last_read
                    self._quiet_since = None
                elif self._skipped:
                    self._skipped = False
                    channel.basic_ack(self._tag, multiple=True)
                continue
            if now - last_read > 2 * self.broker.heartbeat:
                raise ConnectionResetError("the broker has sent nothing, not even a heartbeat")
            if not self._taken and self._quiet_since is None and now - last_message >= IDLE_SECONDS:
                self._look_whether_quiet(link, last_message)
        self._acknowledge()
        self._closing = True
        for name in self._consumed:
            channel.basic_cancel(name, nowait=True)
        with link.answering():  # the answer tells that what was sent before has arrived
            channel.basic_qos(0, self.queues.prefetch, False)

    def _consume(self, link: Link, channel: Channel, deliveries: Deliveries) -> bool:
        """Begin to consume what is not consumed yet; return whether something is missing.

        Raises:
            MeterhouseError: none of the queues exists, and nobody is to wait for them.
        """
        missing: set[str] = set()
        if self.queues.exchanges:
            missing = link.bind(self.queues, self.queues.topics)
        with link.answering():
            channel.basic_qos(0, self.queues.prefetch, False)
        for name in self.queues.names:
            if name in self._consumed:
                continue
            try:
                with link.answering():
                    link.ask().queue_declare(name, passive=True)
            except amqp.NotFound:
                missing.add(name)
                continue
            self._begin(link, channel, deliveries, name)
        if missing:
            log.info("%s: there is no %s yet", self.broker.name, ", ".join(sorted(missing)))
        if not self._consumed and not self._follow:
            raise MeterhouseError(
                f"none of the queues exists: {', '.join(self.queues.names)}",
                where=self.broker.name,
                hint="Check METERHOUSE_STREAM_QUEUES, or have own queues made by METERHOUSE_STREAM_EXCHANGES",
            )
        return bool(missing)

    def _begin(self, link: Link, channel: Channel, deliveries: Deliveries, name: str) -> None:
        arguments = {}
        if self.queues.kind == "stream":
            read_to = self._position(self.queues.position(self._places[name]))
            self._start_at[name] = -1 if read_to is None else read_to
            arguments = {"x-stream-offset": "first" if read_to is None else read_to + 1}
        self._consumed.add(name)  # the consumer's tag is the queue's name: a delivery may come before the answer
        with link.answering():
            channel.basic_consume(name, consumer_tag=name, callback=deliveries.by_library, arguments=arguments)

    def _take(self, channel: int, name: str, tag: int, redelivered: bool, wire: bytes, body: bytes) -> None:
        if self._closing:
            return
        if self.queues.kind == "stream":
            offset = (properties(wire).get("application_headers") or {}).get("x-stream-offset", -1)
            if offset <= self._start_at[name]:  # streams give whole chunks
                self._tag, self._skipped = tag, True
                return
            self._positions[self.queues.position(self._places[name])] = offset
            redelivered = True  # it stays, and is read again by whoever does not know the position
        elif tag == 1 and b"x-stream-offset" in wire:
            raise MeterhouseError(
                f"the queue {name} is a stream", where=self.broker.name, hint="Set METERHOUSE_STREAM_QUEUE_TYPE=stream"
            )
        self._taken.append(Raw(body, name, "", wire, redelivered, self._places[name]))
        self._bytes += len(body)
        self._tag = tag

    def _is_full(self, idle: float) -> bool:
        if not self._taken:
            return False
        return (
            len(self._taken) >= self._most
            or self._bytes >= self.pace.most_bytes
            or idle >= IDLE_SECONDS
            or time.monotonic() - self._first_at >= self.pace.wait_seconds
        )

    def _offer(self, channel: Channel) -> bool:
        """Hand a batch over, if the one before is taken."""
        acknowledge = partial(self._acks.append, (channel, self._tag))
        try:
            self._offered.put_nowait(Batch(self._taken, acknowledge, self._positions))
        except queue.Full:
            return False
        self._taken, self._bytes, self._positions = [], 0, {}
        return True

    def _acknowledge(self) -> None:
        """Tell the broker what is landed; what came by a connection that is gone comes again."""
        last: dict[Channel, int] = {}
        while self._acks:
            channel, tag = self._acks.popleft()
            last[channel] = tag
        for channel, tag in last.items():
            if channel.is_open:
                channel.basic_ack(tag, multiple=True)

    def _look_whether_quiet(self, link: Link, last_message: float) -> None:
        """Ask the broker whether the queues are empty, which also shows that it is there."""
        waiting = 0
        if self.queues.kind != "stream":  # whose depth says nothing of what was read
            waiting = sum(place.messages for place in link.look(self.queues, self._position))
        else:
            with link.answering():
                link.ask().basic_qos(0, 1, False)
        if not waiting and not self._taken:
            self._quiet_since = last_message
