"""A long collection at the highest rate that the machine sustains: everything is counted, and memory stays flat."""

import os
import signal
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from struct import pack

import pytest
from brokers import channel, declare, depth, traffic, wait_for
from builders import rows
from conftest import OpenSite
from stream_steps import PROCESSES, Collector

from meterhouse.catalog import commits_behind
from meterhouse.conversion.step import unconverted
from meterhouse.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.service]

SECONDS = float(os.environ.get("METERHOUSE_TEST_SOAK_SECONDS", "40"))
"""How long messages are published; `make soak` has ten minutes."""

WAITING = 5_000, 20_000
"""The publisher pauses if more messages wait than the second number, until fewer wait than the first."""

ROUND = traffic(1, notifications=475, polling=25)
"""The messages that are published repeatedly, with new message_ids."""

CATCH_UP_SECONDS = 60 + SECONDS
"""Time for what is left when the publisher has ended."""


def publish_rounds(url: str, queue: str, seconds: float, told: Connection) -> None:
    """Publish whole rounds as fast as they are collected, for a time; report how many at the end.

    The frames are made here: py-amqp's own take ten times as long.
    """
    parts = [templates(body, message_id) for body, message_id in zip(ROUND.bodies, ROUND.message_ids, strict=True)]
    end, rounds = time.monotonic() + seconds, 0
    with channel(url) as to:
        method = pack(">HHHB", 60, 40, 0, 0) + bytes([len(queue)]) + queue.encode() + b"\0"
        start = frame(1, to.channel_id, method)
        while time.monotonic() < end:
            bodies = [(b"%036d" % (rounds * len(parts) + number)).join(pieces) for number, pieces in enumerate(parts)]
            rounds += 1
            properties = pack(">HB", 0x1000, 2)  # persistent
            to.connection.transport.write(
                b"".join(
                    start
                    + frame(2, to.channel_id, pack(">HHQ", 60, 0, len(body)) + properties)
                    + frame(3, to.channel_id, body)
                    for body in bodies
                )
            )
            if to.queue_declare(queue, passive=True).message_count > WAITING[1]:
                while to.queue_declare(queue, passive=True).message_count > WAITING[0]:
                    time.sleep(0.05)
    told.send(rounds)


def landed_messages(site: Site) -> int:
    """How many rows the notifications have."""
    return sum(site.lake.actions("notifications")["num_records"].to_pylist())


def frame(kind: int, channel_id: int, payload: bytes) -> bytes:
    """A frame of AMQP 0-9-1."""
    return pack(">BHI", kind, channel_id, len(payload)) + payload + b"\xce"


def templates(body: bytes, message_id: str) -> list[bytes]:
    """The parts of a body before and after its message_id; the instance that it is about stays the same."""
    instance = b'instance_id\\": \\"'
    kept = body.replace(instance + message_id.encode(), instance + message_id[::-1].encode())
    return kept.replace(message_id.replace("-", "").encode(), message_id.encode()).split(message_id.encode())


def resident(pid: int | None) -> float:
    """The memory of a process, in MB; 0 if it does not exist."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in text.splitlines() if line.startswith("VmRSS:")), 0.0)


def flat(measured: list[float]) -> bool:
    """Whether the last third is not above the middle one, apart from noise."""
    third = len(measured) // 3
    return statistics.median(measured[-third:]) <= 1.15 * statistics.median(measured[third : 2 * third]) + 50


def test_a_long_collection_at_full_speed_counts_exactly_in_flat_memory(
    open_site: OpenSite, names: Callable[[str], str], amqp_url: str
) -> None:
    queue = names("soak")
    declare(amqp_url, "", queue, "", "quorum")
    site = open_site(stream_url=amqp_url, stream_queues=queue)
    told, telling = PROCESSES.Pipe(duplex=False)
    publisher = PROCESSES.Process(target=publish_rounds, args=(amqp_url, queue, SECONDS, telling))
    collector = Collector(site, "--follow")
    try:
        begun = time.monotonic()
        publisher.start()
        own, its = [], []
        while publisher.is_alive():
            time.sleep(1)
            own.append(resident(collector.pid))
            its.append(resident(collector.child()))
        rounds = told.recv()
        count = rounds * len(ROUND.bodies)
        # An empty queue is not enough: messages that are not acknowledged do not count in its depth.
        wait_for(lambda: landed_messages(site) >= count, "the last message", CATCH_UP_SECONDS)
        landed = time.monotonic() - begun
        wait_for(lambda: (unconverted(site), commits_behind(site)) == (0, 0), "the last conversion", CATCH_UP_SECONDS)
        converted = time.monotonic() - begun
        assert collector.signalled(signal.SIGTERM) == 0, collector.errors
        assert collector.errors == ""
    finally:
        publisher.kill()
        collector.kill()
    samples = rounds * ROUND.samples
    print(
        f"\n{count:,} messages and {samples:,} samples: landed {count / landed:,.0f} messages/s, "
        f"converted {count / converted:,.0f} messages/s with {samples / converted:,.0f} samples/s; "
        f"memory {statistics.median(own):,.0f} MB (at most {max(own):,.0f}), "
        f"of the conversion {statistics.median(its):,.0f} MB (at most {max(its):,.0f})"
    )
    ids = "count(*) AS n, count(DISTINCT message_id) AS ids"
    assert rows(site, "notifications", ids) == [{"n": count, "ids": count}]
    assert rows(site, "samples", "count(*) AS n, count(DISTINCT sample_id) AS ids, sum(volume) AS volume") == [
        {"n": samples, "ids": samples, "volume": rounds * ROUND.volume}
    ]
    assert rows(site, "events", ids) == [{"n": rounds * ROUND.events, "ids": rounds * ROUND.events}]
    assert rows(site, "dead_letters", "count(*) AS n") == [{"n": 0}]
    assert depth(amqp_url, queue) == 0
    assert flat(own), [round(each) for each in own]
    its = its[next(second for second, each in enumerate(its) if each) :]  # it starts when much has come
    assert flat(its), [round(each) for each in its]
