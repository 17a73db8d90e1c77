"""Collection: notifications and polled samples from RabbitMQ to committed samples and events, beside Ceilometer 27.0.0.

    python bench/collect.py [--messages FILE] [--count N] [--queue-type classic|quorum] [--no-peer]

A queue is filled before each measurement, and drained by one consumer. Meterhouse is measured from the call of `intake`
on an empty site (SQLite and a folder) until its samples and events are committed and in the catalog; imports and the
opening of the site are not in it, the start of the process that converts is. The floor drains as many of the same
messages with py-amqp and does nothing with them. The peer is Ceilometer's notification agent on fewer of the same
messages: see `_collect_peer.py`. Each has a process of its own.

The notifications are those of FILE (JSON lines), else the recorded ones of `shared/data`, else the simulated cloud's:
of these the ones that give a sample and an event, repeated with other ids, times and volumes. Messages that are
missing, doubled or left in a queue make the benchmark fail.

The broker is METERHOUSE_TEST_AMQP_URL, else one that `deploy/services` starts for the run.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

import orjson
from _ceilometer import RECORDED, VERSION, python
from _collect_broker import Spent, drain, left, measured, publish, queues, version
from _peers import ROOT
from convert import IN_BATCH, of_file, polled, repeated, simulated, table_of, whole_metadata

from meterhouse.collection.intake import Intake, intake
from meterhouse.conversion.convert import Converter
from meterhouse.definitions.loading import load
from meterhouse.settings import read_settings
from meterhouse.site import Site

AMQP_URL = "METERHOUSE_TEST_AMQP_URL"
COUNT, BATCHES = 80_000, 6_000
PEER_COUNT, PEER_BATCHES = 4_000, 1_000
SIZE = 1_600  # bytes of a notification on the wire, on the average: the larger ones of a selection are left out
PEER_PATIENCE_S = 600

Made = TypeVar("Made")


@dataclass(frozen=True)
class Traffic:
    """Messages of one kind in a file, one a line as they are on the wire, and the rows that they must become."""

    name: str
    priority: str
    file: Path
    messages: int
    samples: int
    events: int
    peer_messages: int


@dataclass(frozen=True)
class Drained:
    """What `intake` did, what it took, and the rows of the lake afterwards, all and distinct."""

    intake: Intake
    spent: Spent
    rows: dict[str, tuple[int, int]]


def isolated(step: Callable[..., Made], *arguments: Any) -> Made:
    """What a function gives in a fresh process, so that no measurement is disturbed by what was there before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(step, *arguments).result()


def wire(message: dict[str, Any]) -> bytes:
    """The message as oslo.messaging's `messagingv2` driver sends it."""
    unique = {**message, "_unique_id": uuid.UUID(message["message_id"]).hex}
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(unique)}).encode()


def written(file: Path, messages: Iterable[dict[str, Any]]) -> Path:
    """The file, with these messages in it."""
    with file.open("wb") as lines:
        lines.writelines(wire(message) + b"\n" for message in messages)
    return file


Outcome = tuple[dict[str, Any], int, int]
"""A notification, and how many samples and events it gives."""


def outcomes(messages: Iterable[dict[str, Any]]) -> Iterator[Outcome]:
    """The notifications that give a sample and an event and no error, each converted alone."""
    settings = read_settings()
    icehouse = {"icehouse_names": settings.icehouse_names, "icehouse_meters": settings.icehouse_meters}
    converter = Converter.from_settings(settings, load(settings.config_dir, **icehouse))
    for message in messages:
        made = converter.convert(table_of([orjson.dumps(message).decode()]))
        if made.samples.num_rows and made.events.num_rows and not made.errors:
            yield message, made.samples.num_rows, made.events.num_rows


def recorded() -> list[dict[str, Any]]:
    """The recorded notifications, of which Ceilometer has definitions; none where there is no such folder."""
    return [
        message for path in sorted((RECORDED / "notifications").glob("legacy-*.jsonl")) for message in of_file(path)
    ]


def of_size(chosen: list[Outcome]) -> list[Outcome]:
    """The notifications without the largest ones, so that SIZE is their mean."""
    sizes = [len(wire(next(repeated([message], 1)))) for message, _, _ in chosen]
    allowed = sorted(sizes)
    while sum(allowed) > SIZE * len(allowed):
        allowed.pop()
    return [each for each, size in zip(chosen, sizes, strict=True) if size <= allowed[-1]]


def notifications(folder: Path, given: Path | None, count: int) -> Traffic:
    """The traffic of notifications."""
    chosen = list(outcomes(of_file(given))) if given else of_size(list(outcomes(recorded() or simulated())))
    if not chosen:
        sys.exit("there is no notification that gives a sample and an event")
    file = written(folder / "notifications", repeated([message for message, _, _ in chosen], count))
    made = list(islice(cycle(chosen), count))
    types = {message["event_type"] for message, _, _ in chosen}
    name = f"{count:,} notifications of {len(types)} types, {len(chosen):,} distinct ones"
    samples, events = sum(each[1] for each in made), sum(each[2] for each in made)
    return Traffic(name, "info", file, count, samples, events, min(PEER_COUNT, count))


def polling(folder: Path, name: str, metadata: Callable[[int], dict[str, Any]]) -> Traffic:
    """The traffic of a polling agent."""
    file = written(folder / name, polled(BATCHES, metadata))
    name = f"{BATCHES:,} batches of {IN_BATCH} polled samples, {name}"
    return Traffic(name, "sample", file, BATCHES, BATCHES * IN_BATCH, 0, PEER_BATCHES)


def little_metadata(instance: int) -> dict[str, Any]:
    """What a pollster says of itself at the least."""
    return {"host": f"h{instance}"}


def floor(url: str, queue: str, count: int) -> Spent:
    """What it takes to drain the queue and do nothing."""
    return measured(lambda: drain(url, queue, count), url)[1]


def ours(url: str, queue: str) -> Drained:
    """What it takes Meterhouse, on an empty site."""
    with tempfile.TemporaryDirectory() as home:
        site = Site.open(read_settings(home=home, stream_url=url, stream_queues=queue))
        site.lake.version("notifications"), site.lake.version("samples"), site.lake.version("events")
        made, spent = measured(lambda: intake(site), url)
        with site.lake.connect() as duck:
            rows = {}
            for table, key in (("notifications", "message_id"), ("samples", "sample_id"), ("events", "message_id")):
                site.lake.view(duck, table, site.lake.files(table))
                found = duck.execute(f"SELECT count(*), count(DISTINCT {key}) FROM {table}").fetchall()
                rows[table] = found[0][0], found[0][1]
    return Drained(made, spent, rows)


def peer(url: str, topic: str, kind: str, count: int) -> dict[str, Any]:
    """What it takes Ceilometer's notification agent to drain the queues of a topic."""
    job = json.dumps({"url": url, "topic": topic, "quorum": kind == "quorum", "count": count})
    script = str(Path(__file__).with_name("_collect_peer.py"))
    command = [str(python()), "-I", "-W", "ignore", script, job]
    with tempfile.TemporaryFile("w+") as log:
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, timeout=PEER_PATIENCE_S, check=True)
        except subprocess.SubprocessError as error:
            log.seek(0)
            sys.exit(f"Ceilometer's notification agent: {type(error).__name__}\n{log.read()[-4000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def same(what: str, found: Any, expected: Any) -> None:
    """End the benchmark where a count is not what it must be."""
    if found != expected:
        sys.exit(f"{what}: {found} where there must be {expected}")


def line(name: str, messages: int, samples: int | None, seconds: float, own: float, broker: float | None) -> str:
    rates = f"{messages / seconds:12,.0f}" + (f"{samples / seconds:12,.0f}" if samples else " " * 12)
    return f"{name:30}{rates}{seconds:9.2f}{own:9.2f}" + (f"{broker:9.2f}" if broker is not None else f"{'':9}")


def compared(url: str, topic: str, kind: str, traffic: Traffic, with_peer: bool) -> None:
    """Print the rates of one kind of traffic."""
    queue = f"{topic}.{traffic.priority}"
    print(f"\n{traffic.name}, {traffic.file.stat().st_size / traffic.messages:,.0f} bytes a message")
    print(f"{'':30}{'messages/s':>12}{'samples/s':>12}{'seconds':>9}{'of CPU':>9}{'broker':>9}{'slower':>10}")
    isolated(publish, url, queue, traffic.file, traffic.messages)
    bare = isolated(floor, url, queue, traffic.messages)
    same("left in the queue by py-amqp", left(url, queue), 0)
    print(line("floor: py-amqp alone", traffic.messages, None, bare.wall, bare.own, bare.broker))

    isolated(publish, url, queue, traffic.file, traffic.messages)
    got = isolated(ours, url, queue)
    spent, collected, followed = got.spent, got.intake.collected, got.intake.followed
    expected = {"notifications": traffic.messages, "samples": traffic.samples, "events": traffic.events}
    same("rows of the lake, all and distinct", got.rows, {name: (rows, rows) for name, rows in expected.items()})
    same("dead letters and redelivered", (collected.dead_letters, collected.redelivered), (0, 0))
    same("left in the queue by Meterhouse", left(url, queue), 0)
    print(line("Meterhouse", traffic.messages, traffic.samples, spent.wall, spent.own, spent.broker))
    print(
        f"  collect {collected.seconds:.2f} s, of which landing {collected.landing_seconds:.2f} s; "
        f"convert {followed.converted.seconds:.2f} s, catalog {followed.catalogued.seconds:.2f} s; "
        f"{spent.wall - collected.seconds:.2f} s before and after collecting"
    )
    if not with_peer:
        return
    isolated(publish, url, queue, traffic.file, traffic.peer_messages)
    answer = peer(url, topic, kind, traffic.peer_messages)
    count, seconds = traffic.peer_messages, answer["seconds"]
    same("requeued by Ceilometer", answer["requeued"], 0)
    same("left in the queue by Ceilometer", left(url, queue), 0)
    same("events of Ceilometer", answer["events"], count if traffic.events else 0)
    if not traffic.events:
        same("samples of Ceilometer", answer["samples"], count * IN_BATCH)
    slower = seconds / count / (spent.wall / traffic.messages)
    theirs = line(f"Ceilometer {VERSION}", count, answer["samples"], seconds, answer["cpu_seconds"], None)
    print(f"{theirs}{slower:9.1f}×")


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--messages", type=Path, help="a file of notifications, JSON lines")
    arguments.add_argument("--count", type=int, default=COUNT, help=f"how many notifications to collect ({COUNT:,})")
    arguments.add_argument("--queue-type", choices=("classic", "quorum"), default="classic")
    arguments.add_argument("--no-peer", action="store_true", help="without Ceilometer")
    given = arguments.parse_args()
    url = os.environ.get(AMQP_URL)
    if not url:
        services = [sys.executable, str(ROOT / "deploy" / "services"), "run", "--only", "amqp", "--"]
        os.execv(sys.executable, [*services, sys.executable, __file__, *sys.argv[1:]])
    topic = f"meterhouse-bench-{uuid.uuid4().hex[:8]}"
    print(f"RabbitMQ {version(url)}, durable {given.queue_type} queues, one consumer; up to the commit")
    if not given.no_peer:
        print("Ceilometer does less: it keeps its samples and events in memory, and stores nothing")
    with tempfile.TemporaryDirectory() as name, queues(url, topic, given.queue_type):
        folder = Path(name)
        for traffic in (
            notifications(folder, given.messages, given.count),
            polling(folder, "little metadata", little_metadata),
            polling(folder, "900 bytes of metadata each", whole_metadata),
        ):
            compared(url, topic, given.queue_type, traffic, not given.no_peer)


if __name__ == "__main__":
    main()
