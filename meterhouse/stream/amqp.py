"""RabbitMQ: queues of notifications on one or more brokers. Each broker is drained by its own thread."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from meterhouse import times
from meterhouse.broker_urls import Broker, brokers
from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings, listed
from meterhouse.stream import LONGEST, Backlog, Batch, Waiting
from meterhouse.stream.queues import Pace, Queues, Tls

if TYPE_CHECKING:
    from meterhouse.stream.connection import Link

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""How often a batch without messages is yielded, so that the caller can check the time."""


def sent_at(body: bytes) -> datetime | None:
    """The timestamp of a message, UTC."""
    from meterhouse.stream.envelope import BadMessage, unwrap

    try:
        timestamp = unwrap(body).timestamp
    except BadMessage:
        return None
    return None if timestamp is None else times.EPOCH + timedelta(microseconds=timestamp)


@dataclass
class AmqpStream:
    """The queues of some brokers.

    Args:
        brokers: the brokers.
        queues: the queues to consume.
        tls: the files for brokers with TLS.
        pace: when a batch is full.
        position: how far a stream queue is read, by the name of its position; None if it was not read yet.
        longest: maximum number of bytes of a message; of a longer one, only the start is taken, with a fault.

    Attributes:
        missing_exchanges: by broker, the exchanges that did not exist when own queues were last bound.
    """

    brokers: list[Broker]
    queues: Queues
    tls: Tls = field(default_factory=Tls)
    pace: Pace = field(default_factory=Pace)
    position: Callable[[str], int | None] = lambda name: None
    longest: int = LONGEST
    name = "amqp"
    missing_exchanges: dict[str, set[str]] = field(default_factory=dict, init=False)
    _bound: dict[str, float] = field(default_factory=dict, init=False)
    _kept: "dict[str, Link]" = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings, position: Callable[[str], int | None]) -> "AmqpStream":
        """The stream that the settings name."""
        queues = Queues(
            topics=tuple(listed(settings.stream_queues)),
            exchanges=tuple(listed(settings.stream_exchanges)),
            pool=settings.stream_pool,
            kind=settings.stream_queue_type,
            prefetch=settings.stream_prefetch,
        )
        tls = Tls(settings.stream_ca_file, settings.stream_cert_file, settings.stream_key_file)
        pace = Pace(settings.collect_bytes, settings.collect_wait_seconds)
        return cls(brokers(settings.stream_url), queues, tls, pace, position, settings.message_bytes)

    def backlog(self, *, keep: bool = False) -> Backlog:
        """What waits in each queue. Own queues are declared and bound, so that messages reach them.

        Args:
            keep: keep the connections open for the next call, see `Stream`.

        Raises:
            MeterhouseError: no broker can be reached. If only some cannot, a warning is logged for each.
        """
        found: list[Waiting] = []
        failures: list[MeterhouseError] = []
        for broker in self.brokers:
            try:
                found += self._look(broker, keep)
            except MeterhouseError as error:
                failures.append(error)
        if len(failures) == len(self.brokers):
            raise _together(list(failures))
        for failure in failures:
            log.warning("%s", failure)
        return Backlog(tuple(found))

    def _look(self, broker: Broker, keep: bool) -> list[Waiting]:
        from meterhouse.stream.connection import GONE, connect, open_link, unreachable

        kept = self._kept.pop(broker.name, None)
        if kept is not None:
            try:
                found = self._places(kept)
                self._kept[broker.name] = kept
            except GONE:
                pass
            else:
                return found
            finally:
                if broker.name not in self._kept:
                    kept.drop()
        if not keep:
            with connect(broker, self.tls) as link:
                return self._places(link)
        link = open_link(broker, self.tls)
        try:
            found = self._places(link)
            self._kept[broker.name] = link
        except GONE as error:
            raise unreachable(broker, error) from error
        finally:
            if broker.name not in self._kept:
                link.drop()
        return found

    def _places(self, link: "Link") -> list[Waiting]:
        from meterhouse.stream.drain import BIND_SECONDS

        name = link.broker.name
        if self.queues.exchanges and time.monotonic() - self._bound.get(name, 0.0) >= BIND_SECONDS:
            self.missing_exchanges[name] = link.bind(self.queues)
            self._bound[name] = time.monotonic()
        return link.look(self.queues, self.position)

    def close(self) -> None:
        """Close the connections that were kept open."""
        while self._kept:
            self._kept.popitem()[1].close()

    def oldest(self, place: str) -> datetime | None:
        """The timestamp of a queue's first message; None if there is no message or no timestamp.

        The message is taken and returned to the queue. It is redelivered later, and a quorum queue counts that. For a
        stream, it is the first message that was not read.

        Raises:
            MeterhouseError: the broker cannot be reached.
        """
        from meterhouse.stream.connection import connect

        for broker in self.brokers:
            for name in self.queues.names:
                if broker.place(name) == place:
                    with connect(broker, self.tls) as link:
                        if self.queues.kind == "stream":
                            read_to = self.position(self.queues.position(place))
                            body = link.first_of_stream(name, -1 if read_to is None else read_to)
                        else:
                            body = link.first(name)
                    return sent_at(body) if body is not None else None
        return None

    def batches(self, max_messages: int, *, quiet_seconds: float = 0.0, follow: bool = False) -> Generator[Batch]:
        """Batches of all brokers, until all are quiet; see `Stream`.

        Raises:
            MeterhouseError: a broker cannot be drained; the others are drained first. With `follow`, only if none can
                be drained from the start, and a retry does not help.
        """
        from meterhouse.stream.consumer import Consumer
        from meterhouse.stream.drain import Work

        work = Work(
            queues=self.queues,
            pace=self.pace,
            max_messages=min(max_messages, max(self.queues.prefetch // 4, 1)),
            longest=self.longest,
            gap_seconds=self.pace.wait_seconds if follow else min(self.pace.wait_seconds, quiet_seconds),
            position=self.position,
            follow=follow,
            offered=queue.Queue(maxsize=1),
            stop=threading.Event(),
        )
        tick = TICK_SECONDS if follow else min(TICK_SECONDS, max(quiet_seconds / 2, 0.05))
        consumers = [Consumer(broker, self.tls, work) for broker in self.brokers]
        failures: list[Exception] = []
        for consumer in consumers:
            consumer.start()
        try:
            while True:
                with suppress(queue.Empty):
                    yield work.offered.get(timeout=tick)
                    continue
                if work.offered.empty() and all(consumer.is_over(quiet_seconds) for consumer in consumers):
                    # Read now, because a consumer that follows retries, and then clears its failure.
                    failures = [consumer.failure for consumer in consumers if consumer.failure is not None]
                    yield Batch([], at_once=True)  # earlier batches may not be synced yet
                    break
                yield Batch([])
        finally:
            work.stop.set()
            for consumer in consumers:
                consumer.join()
        if failures:
            raise _together(failures)


def _together(failures: list[Exception]) -> Exception:
    """The error to raise for the failures of several brokers: the first that is a bug of ours, or all of them."""
    ours = [failure for failure in failures if not isinstance(failure, MeterhouseError)]
    if ours or len(failures) == 1:
        return (ours or failures)[0]
    return MeterhouseError("; ".join(str(failure) for failure in failures))
