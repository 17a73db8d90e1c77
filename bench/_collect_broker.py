"""The benchmark's own queues on a RabbitMQ: filled before a measurement, drained as a floor, looked at after it."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import _processes
import amqp
from kombu.connection import Connection

PRIORITIES = ("audit", "critical", "debug", "error", "info", "sample", "warn")
"""Of each of which oslo.messaging's listener has a queue: `topic.priority`."""

UNCONFIRMED = 2_000  # messages that may be on their way to the broker
PREFETCH, ACK_EVERY = 5_000, 1_000
PATIENCE_S = 60.0

Made = TypeVar("Made")


@contextlib.contextmanager
def queues(url: str, topic: str, kind: str) -> Iterator[None]:
    """Durable queues `topic.info` and `topic.sample`; they and what the peer adds to the topic go again at the end."""
    with Connection(url) as connection:
        for priority in ("info", "sample"):
            connection.default_channel.queue_declare(
                f"{topic}.{priority}", durable=True, auto_delete=False, arguments={"x-queue-type": kind}
            )
    try:
        yield
    finally:
        with Connection(url) as connection:
            for priority in PRIORITIES:
                connection.default_channel.queue_delete(f"{topic}.{priority}")
            connection.default_channel.exchange_delete(topic)


def version(url: str) -> str:
    """The broker's version."""
    with Connection(url) as connection:
        return str(connection.connect().server_properties["version"])


def publish(url: str, queue: str, file: Path, count: int) -> None:
    """Put the first lines of a file into a queue as persistent messages, each confirmed by the broker.

    Raises:
        RuntimeError: the broker refuses one, or the queue does not hold as many in the end.
    """
    unconfirmed: set[int] = set()

    def confirmed(tag: int, multiple: bool) -> None:
        if multiple:
            unconfirmed.difference_update([each for each in unconfirmed if each <= tag])
        else:
            unconfirmed.discard(tag)

    def refused(tag: int, multiple: bool) -> None:
        raise RuntimeError(f"the broker refused message {tag} of {queue}")

    with Connection(url) as connection, file.open("rb") as lines:
        channel = connection.default_channel
        channel.confirm_select()
        channel.events["basic_ack"].add(confirmed)
        channel.events["basic_nack"].add(refused)
        form = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2}
        for tag, line in enumerate(islice(lines, count), start=1):
            unconfirmed.add(tag)
            channel.basic_publish(amqp.Message(line.rstrip(b"\n"), **form), routing_key=queue)
            while len(unconfirmed) >= UNCONFIRMED:
                connection.drain_events(timeout=PATIENCE_S)
        while unconfirmed:
            connection.drain_events(timeout=PATIENCE_S)
    if (held := left(url, queue, expected=count)) != count:
        raise RuntimeError(f"{queue} holds {held:,} messages where {count:,} were published")


def drain(url: str, queue: str, count: int) -> None:
    """Take so many messages from a queue, acknowledge them in bulk, and do nothing with them."""
    taken = 0

    def take(message: amqp.Message) -> None:
        nonlocal taken
        taken += 1
        if taken % ACK_EVERY == 0 or taken == count:
            channel.basic_ack(message.delivery_tag, multiple=True)

    with Connection(url) as connection:
        channel = connection.default_channel
        channel.basic_qos(0, PREFETCH, False)
        channel.basic_consume(queue, callback=take)
        while taken < count:
            connection.drain_events(timeout=PATIENCE_S)


def left(url: str, queue: str, expected: int = 0) -> int:
    """How many messages a queue holds once nobody consumes it; the broker has seconds to count the expected ones."""
    end = time.monotonic() + 15
    with Connection(url) as connection:
        while True:
            found = connection.default_channel.queue_declare(queue, passive=True)
            settled = found.consumer_count == 0 and found.message_count == expected
            if settled or time.monotonic() > end:
                return int(found.message_count)
            time.sleep(0.05)


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock on the wall, and of the processor: this process's with those of the processes that it ended,
    and the broker's where it is known."""

    wall: float
    own: float
    broker: float | None


def measured(step: Callable[[], Made], url: str) -> tuple[Made, Spent]:
    """What a step gives, and what it takes."""
    pid = _process(url)
    before = pid and _processes.seconds(pid)
    wall, own = time.perf_counter(), sum(os.times()[:4])
    made = step()
    wall, own = time.perf_counter() - wall, sum(os.times()[:4]) - own
    return made, Spent(wall, own, _processes.seconds(pid) - before if pid and before is not None else None)


def _process(url: str) -> int | None:
    """The broker's process, where it is one of this machine that may be looked at."""
    port = f":{urlsplit(url).port or 5672:04X}"
    with contextlib.suppress(OSError):
        sockets = [
            line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()
        ]
        listening = {f"socket:[{words[9]}]" for words in sockets if words[1].endswith(port) and words[3] == "0A"}
        for command in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if command.read_text() == "beam.smp\n":
                    files = {os.readlink(file) for file in (command.parent / "fd").iterdir()}
                    if files & listening:
                        return int(command.parent.name)
    return None
