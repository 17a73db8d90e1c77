"""Conversion: notifications to samples and events on one core, beside Ceilometer 27.0.0 on the same file.

    python bench/convert.py [--messages FILE] [--count N]

Both use the definitions that Ceilometer brings; below is Meterhouse with its own. Meterhouse begins with the JSON text
in an Arrow table and ends with Arrow tables of samples, events and metadata; Ceilometer begins with the JSON text and
ends where it would hand the samples to a publisher. The messages are those of FILE (JSON lines, with or without the
envelope), else of the simulated cloud, repeated with other ids, timestamps and volumes. The floor only parses them.

Polled samples come in batches of 50, with metadata of about 900 bytes each, and with little.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from _ceilometer import VERSION, Ceilometer, packaged

from meterhouse import times
from meterhouse.conversion.convert import Converter
from meterhouse.definitions.events import EventDefinitions
from meterhouse.definitions.loading import Definitions, load, load_files
from meterhouse.definitions.meters import MeterDefinitions
from meterhouse.demo.cloud import SimulatedCloud
from meterhouse.stores.lake_tables import NOTIFICATIONS
from meterhouse.stream.envelope import unwrap

COUNT, BATCHES, IN_BATCH = 20_000, 400, 50
CHUNK = 100_000  # rows of a table that the pipeline converts at once
ROUNDS, PEER_ROUNDS = 7, 2  # of which the fastest counts


def of_file(path: Path) -> list[dict[str, Any]]:
    """The notifications of a file, batches of polled samples left out."""
    messages = []
    for line in path.open("rb"):
        try:
            message = orjson.loads(unwrap(line).body)
        except ValueError:  # a dead letter, or NaN
            continue
        if message.get("event_type") != "telemetry.polling":
            messages.append(message)
    return messages


def simulated() -> list[dict[str, Any]]:
    """The notifications of a simulated day."""
    with tempfile.TemporaryDirectory() as folder:
        SimulatedCloud().write_history(Path(folder), times.now().replace(microsecond=0))
        return [message for path in sorted(Path(folder).glob("*.jsonl")) for message in of_file(path)]


def repeated(messages: list[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """So many messages, no two with the same id; the repetitions are later and have other volumes."""
    for number, message in enumerate(itertools.islice(itertools.cycle(messages), count)):
        turn = number // len(messages)
        payload = message.get("payload")
        if turn and isinstance(payload, dict):
            payload = {key: value + turn if type(value) is int else value for key, value in payload.items()}
        yield {
            **message,
            "message_id": str(uuid.UUID(int=number)),
            "timestamp": _later(message.get("timestamp"), turn),
            "payload": payload,
        }


def _later(timestamp: Any, seconds: int) -> Any:
    try:
        return str(datetime.fromisoformat(timestamp) + timedelta(seconds=seconds))
    except (TypeError, ValueError, OverflowError):
        return timestamp


def polled(batches: int, metadata: Callable[[int], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Batches of polled samples of 500 instances; those of a batch are of one run of the pollster, so of one time."""
    start = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    for number in range(batches):
        moment = start + timedelta(seconds=6 * number)
        samples = []
        for at in range(IN_BATCH):
            instance = (number * IN_BATCH + at) % 500
            samples.append(
                {
                    "source": "openstack",
                    "counter_name": ("cpu", "memory.usage", "disk.device.read.bytes", "network.incoming.bytes")[at % 4],
                    "counter_type": "gauge" if at % 4 == 1 else "cumulative",
                    "counter_unit": ("ns", "MB", "B", "B")[at % 4],
                    "counter_volume": number * 1_000_003 + at if at % 4 != 1 else 512.5 + at + number % 97 / 7,
                    "user_id": f"{instance % 20:032x}",
                    "project_id": f"{instance % 7:032x}",
                    "resource_id": str(uuid.UUID(int=instance)),
                    "timestamp": f"{moment.isoformat()}.{number:06d}+00:00",
                    "resource_metadata": metadata(instance),
                    "message_id": str(uuid.UUID(int=number * IN_BATCH + at)),
                    "monotonic_time": None,
                    "message_signature": "0" * 64,
                }
            )
        yield {
            "message_id": str(uuid.UUID(int=number)),
            "publisher_id": "ceilometer.polling",
            "event_type": "telemetry.polling",
            "priority": "SAMPLE",
            "payload": {"samples": samples},
            "timestamp": str(moment),
        }


def whole_metadata(instance: int) -> dict[str, Any]:
    """What the compute agent knows of an instance: about 900 bytes."""
    flavor = {"id": f"{instance % 5}", "name": f"m1.size{instance % 5}", "vcpus": 2, "ram": 4096, "disk": 40, "swap": 0}
    image = {
        "id": str(uuid.UUID(int=instance % 9)),
        "links": [{"rel": "bookmark", "href": f"http://image/{instance % 9}"}],
    }
    return {
        "display_name": f"server-{instance}",
        "name": f"instance-{instance:08x}",
        "instance_id": str(uuid.UUID(int=instance)),
        "instance_type": flavor["name"],
        "host": f"{instance % 30:056x}",
        "instance_host": f"compute-{instance % 30}.example.org",
        "flavor": {**flavor, "ephemeral": 0},
        "status": "active",
        "state": "running",
        "task_state": "",
        "image": image,
        "image_ref": image["id"],
        "image_ref_url": None,
        "architecture": "x86_64",
        "OS-EXT-AZ:availability_zone": "nova",
        "vcpus": 2,
        "memory_mb": 4096,
        "disk_gb": 40,
        "ephemeral_gb": 0,
        "root_gb": 40,
        "user_metadata": {"stack": str(uuid.UUID(int=instance % 40)), "autoscaling_group": f"group-{instance % 40}"},
    }


def table_of(bodies: list[str]) -> pa.Table:
    """Landed notifications, as `collect` leaves them."""
    messages = [orjson.loads(body) for body in bodies]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    columns: dict[str, list[Any]] = {
        "arrival_hour": ["2026-01-01T00"] * len(bodies),
        "message_id": [message.get("message_id") for message in messages],
        "event_type": [message.get("event_type") for message in messages],
        "publisher_id": [str(message.get("publisher_id")) for message in messages],
        "priority": [str(message.get("priority")).lower() for message in messages],
        "timestamp": [None] * len(bodies),
        "received_at": [at] * len(bodies),
        "source": ["bench"] * len(bodies),
        "body": bodies,
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in NOTIFICATIONS})


def fastest(step: Callable[[], Any]) -> tuple[Any, float]:
    """What a step gives, and the fewest seconds of the processor that it took."""
    best = float("inf")
    made = None
    for _ in range(ROUNDS):
        clock = time.process_time()
        made = step()
        best = min(best, time.process_time() - clock)
    return made, best


def converted(definitions: Definitions, what: str, table: pa.Table) -> Callable[[], int]:
    """The conversion of a table to samples, to events or to both; it gives how many it made."""
    meters = definitions.meters if what != "events" else MeterDefinitions(())
    events = definitions.events if what != "samples" else EventDefinitions(())
    chosen = Definitions(meters, events, (), ())
    converter = Converter(chosen, drop_unmatched=what == "samples", versioned=False)

    def step() -> int:
        made = 0
        for start in range(0, table.num_rows, CHUNK):
            done = converter.convert(table.slice(start, CHUNK))
            made += int(done.samples.num_rows) if what != "events" else 0
            made += int(done.events.num_rows) if what != "samples" else 0
        return made

    return step


def parsed(bodies: list[str]) -> Callable[[], None]:
    """The parsing of messages, of which nothing is kept."""

    def step() -> None:
        for body in bodies:
            orjson.loads(body)

    return step


def peer_fastest(ceilometer: Ceilometer, what: str, file: Path) -> dict[str, float]:
    """The fastest of a few rounds of Ceilometer."""
    rounds = [ceilometer.rate(what, file) for _ in range(PEER_ROUNDS)]
    return min(rounds, key=lambda each: each["cpu_seconds"])


def line(name: str, count: int, seconds: float, ours: float = 0.0, made: int | None = None) -> None:
    ratio = f"{seconds / ours:9.1f}×" if ours else " " * 10
    print(f"{name:44}{count / seconds:12,.0f}{ratio}" + (f"{made:12,}" if made is not None else ""))


def notifications(folder: Path, ceilometer: Ceilometer, messages: list[dict[str, Any]], count: int) -> None:
    """Print the rates of notifications."""
    meters, events = packaged()
    theirs, own = load_files([meters], events, icehouse_names=False), load(None)
    bodies = [orjson.dumps(message).decode() for message in repeated(messages, count)]
    file = folder / "messages.jsonl"
    file.write_text("\n".join(bodies), "utf-8")
    table = table_of(bodies)
    types = {message.get("event_type") for message in messages}
    print(
        f"{count:,} notifications of {len(types)} types ({len(messages):,} distinct), "
        f"{sum(map(len, bodies)) / count:,.0f} characters each; one core"
    )
    print(f"{'':44}{'messages/s':>12}{'slower':>10}{'made':>12}")
    _, floor = fastest(parsed(bodies))
    line("floor: parse the JSON", count, floor)
    for what in ("samples", "events", "both"):
        made, seconds = fastest(converted(theirs, what, table))
        line(f"{what}: Meterhouse", count, seconds, made=made)
        peer = peer_fastest(ceilometer, what, file)
        line(f"{what}: Ceilometer {VERSION}", count, peer["cpu_seconds"], seconds, int(peer["made"]))
        if what == "both":
            wall = count / peer["seconds"]
            print(
                f"  Ceilometer by the clock on the wall: {wall:,.0f}/s; Meterhouse takes {seconds / floor:.1f} floors"
            )
    made, seconds = fastest(converted(own, "both", table))
    line("both: Meterhouse with its own definitions", count, seconds, made=made)


def polled_samples(folder: Path, ceilometer: Ceilometer) -> None:
    """Print the rates of polled samples."""
    definitions = load(None)
    print(f"\n{BATCHES * IN_BATCH:,} polled samples in batches of {IN_BATCH}; one core")
    print(f"{'':44}{'samples/s':>12}{'slower':>10}{'made':>12}")
    for name, metadata in (
        ("900 bytes of metadata", whole_metadata),
        ("little metadata", lambda at: {"host": f"h{at}"}),
    ):
        bodies = [orjson.dumps(message).decode() for message in polled(BATCHES, metadata)]
        file = folder / "polled.jsonl"
        file.write_text("\n".join(bodies), "utf-8")
        count = BATCHES * IN_BATCH
        _, floor = fastest(parsed(bodies))
        line(f"{name}: floor: parse", count, floor)
        made, seconds = fastest(converted(definitions, "both", table_of(bodies)))
        line(f"{name}: Meterhouse", count, seconds, made=made)
        peer = peer_fastest(ceilometer, "polled", file)
        line(f"{name}: Ceilometer {VERSION}", count, peer["cpu_seconds"], seconds, int(peer["made"]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--messages", type=Path, help="a file of notifications, JSON lines")
    arguments.add_argument("--count", type=int, default=COUNT, help=f"how many to convert ({COUNT:,})")
    given = arguments.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    messages = of_file(given.messages) if given.messages else simulated()
    if not messages:
        sys.exit("there is no notification")
    with tempfile.TemporaryDirectory() as folder, Ceilometer() as ceilometer:
        notifications(Path(folder), ceilometer, messages, given.count)
        polled_samples(Path(folder), ceilometer)


if __name__ == "__main__":
    main()
