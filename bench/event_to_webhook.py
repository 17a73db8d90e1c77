"""How long an event takes from the broker to a webhook: with `collect --follow`, and under Dagster's sensors.

Notifications are published to a RabbitMQ one by one, at random intervals. An event alarm with `repeat_actions` notifies
an HTTP receiver of each. What is printed are the seconds from the publishing to the receiver's reading of the call.

Then 10,000 events at once, which are in the lake already, are evaluated against 1,000 event alarms, of which few fire:
reading, matching, and the transaction.

The broker is METERHOUSE_TEST_AMQP_URL, else one that `deploy/services` starts for the run. The warehouse is SQLite, or
that of --warehouse.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import amqp
import pyarrow as pa
from _collect_broker import queues, version
from kombu.connection import Connection

from meterhouse import times
from meterhouse.alarms.evaluation.events import evaluate_events
from meterhouse.alarms.keeping.apply import apply
from meterhouse.demo.children import free_port
from meterhouse.demo.dagster_process import DagsterProcesses
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.lake_tables import EVENTS

ROOT = Path(__file__).resolve().parent.parent
AMQP_URL = "METERHOUSE_TEST_AMQP_URL"
PATIENCE_S = 120.0

ALARMS = """\
alarms:
  - name: an instance ended with an error
    type: event
    severity: critical
    repeat_actions: true
    event_rule:
      event_type: compute.instance.*
      query: [{field: traits.project_id, op: eq, value: p1}]
    alarm_actions: ["%s"]
"""


def publish(url: str, queue: str) -> tuple[str, datetime]:
    """Publish one notification; return its id and when."""
    message_id = str(uuid.uuid4())
    moment = datetime.now(UTC)
    message = {
        "event_type": "compute.instance.delete.end",
        "message_id": message_id,
        "publisher_id": "compute.host1",
        "priority": "INFO",
        "timestamp": moment.isoformat(" ").removesuffix("+00:00"),
        "payload": {"instance_id": message_id, "tenant_id": "p1", "user_id": "u1"},
    }
    body = json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(message)})
    form = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2}
    with Connection(url) as connection:
        channel = connection.default_channel
        moment = datetime.now(UTC)
        channel.basic_publish(amqp.Message(body.encode(), **form), routing_key=queue)
    return message_id, moment


def of(receiver: WebhookReceiver) -> dict[str, datetime]:
    """When the first call about each event was read, by the event's id."""
    found: dict[str, datetime] = {}
    for call in receiver.calls:
        found.setdefault(call.body["reason_data"]["event"]["message_id"], call.received_at)
    return found


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"nothing came within {PATIENCE_S:.0f} s")
        time.sleep(0.05)


@contextlib.contextmanager
def following(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """`meterhouse collect --follow`."""
    program = str(Path(sys.executable).with_name("meterhouse"))
    with (folder / "collect.log").open("wb") as log:
        child = subprocess.Popen([program, "collect", "--follow"], env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            child.terminate()
            child.wait(30)


@contextlib.contextmanager
def dagster(environment: dict[str, str], folder: Path) -> Iterator[None]:
    """Dagster's daemon with its sensors."""
    with DagsterProcesses(folder / "dagster", free_port(), environment, folder / "logs") as processes:
        processes.wait_until_loaded()
        yield


Collector = Callable[[dict[str, str], Path], AbstractContextManager[None]]


def measured(url: str, collector: Collector, events: int, pause: float, warehouse: str) -> list[float]:
    """The seconds of each event."""
    topic = f"meterhouse-bench-{uuid.uuid4().hex[:8]}"
    with (
        tempfile.TemporaryDirectory() as name,
        queues(url, topic, "classic"),
        WebhookReceiver() as receiver,
    ):
        folder = Path(name)
        (folder / "alarms.yaml").write_text(ALARMS % receiver.url)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("METERHOUSE_")}
        environment |= {
            "METERHOUSE_HOME": str(folder / "home"),
            "METERHOUSE_CONFIG_DIR": str(folder),
            "METERHOUSE_STREAM_URL": url,
            "METERHOUSE_STREAM_QUEUES": f"{topic}.info",
        }
        if warehouse:
            environment["METERHOUSE_WAREHOUSE_URL"] = warehouse
        program = str(Path(sys.executable).with_name("meterhouse"))
        subprocess.run([program, "alarms", "apply"], env=environment, check=True, stdout=subprocess.DEVNULL)
        with collector(environment, folder):
            publish(url, f"{topic}.info")  # the first one waits for all to be started
            until(lambda: of(receiver))
            sent: dict[str, datetime] = {}
            for _ in range(events):
                time.sleep(random.uniform(0.3, 1.7) * pause)
                message_id, moment = publish(url, f"{topic}.info")
                sent[message_id] = moment
            until(lambda: sent.keys() <= of(receiver).keys())
        came = of(receiver)
        if len(receiver.calls) != events + 1:
            raise SystemExit(f"{len(receiver.calls)} calls for {events + 1} events")
    return [(came[message_id] - moment).total_seconds() for message_id, moment in sent.items()]


def evaluated(count: int, alarms: int, warehouse: str) -> tuple[float, int]:
    """The seconds that an evaluation of events in the lake takes, and how many alarms it fires."""
    rng = random.Random(14)
    types = [f"service{n // 10}.resource{n % 10}.change.{end}" for n in range(100) for end in ("start", "end")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rules = [
            {
                "name": f"alarm {n}",
                "type": "event",
                "event_rule": {
                    "event_type": f"service{n % 10}.*",
                    "query": [
                        {"field": "traits.instance_id", "op": "eq", "value": f"instance-{n * 7}"},
                        {"field": "traits.memory_mb", "op": "gt", "value": "90000", "type": "integer"},
                    ],
                },
                "alarm_actions": ["log://"],
            }
            for n in range(alarms)
        ]
        (folder / "alarms.yaml").write_text(json.dumps({"alarms": rules}))
        given = {"warehouse_url": warehouse} if warehouse else {}
        site = Site.open(read_settings(home=folder / "home", config_dir=folder, **given))
        apply(site)
        present = times.now()

        def traits(n: int) -> list[dict[str, str]]:
            held = {
                "service": ("text", f"compute.host{n % 100}"),
                "request_id": ("text", f"request-{n}"),
                "project_id": ("text", f"project-{n % 500}"),
                "instance_id": ("text", f"instance-{rng.randrange(8_000)}"),
                "memory_mb": ("integer", str(rng.randrange(100_000))),
                "state": ("text", rng.choice(("active", "error", "building"))),
            }
            return [{"name": key, "dtype": dtype, "value": value} for key, (dtype, value) in held.items()]

        rows = [
            {
                "arrival_hour": times.arrival_hour(present),
                "message_id": f"message-{n}",
                "event_type": rng.choice(types),
                "generated": present,
                "traits": traits(n),
                "raw": None,
            }
            for n in range(count)
        ]
        site.lake.append("events", pa.Table.from_pylist(rows, EVENTS))
        done = evaluate_events(site)
        site.warehouse.engine.dispose()
        return done.seconds, len(done.transitions)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=20, help="how many events of each kind (default %(default)s)")
    parser.add_argument("--only", choices=("follow", "dagster", "evaluation"), help="one of the three")
    parser.add_argument("--warehouse", default="", help="URL of an empty PostgreSQL database; default SQLite")
    given = parser.parse_args()
    url = os.environ.get(AMQP_URL)
    if not url:
        services = [sys.executable, str(ROOT / "deploy" / "services"), "run", "--only", "amqp", "--"]
        os.execv(sys.executable, [*services, sys.executable, __file__, *sys.argv[1:]])
    random.seed(14)
    print(f"RabbitMQ {version(url)}; seconds from the publishing of an event to its webhook")
    print(f"{'':24}{'events':>8}{'median':>8}{'90 %':>8}{'longest':>9}")
    kinds: list[tuple[str, str, Collector, float]] = [
        ("follow", "collect --follow", following, 1.0),
        ("dagster", "Dagster's sensors", dagster, 6.0),
    ]
    for kind, name, collector, pause in kinds:
        if given.only in (None, kind):
            found = sorted(measured(url, collector, given.events, pause, given.warehouse))
            most = found[min(len(found) - 1, len(found) * 9 // 10)]
            print(f"{name:24}{len(found):8}{statistics.median(found):8.2f}{most:8.2f}{found[-1]:9.2f}", flush=True)
    if given.only in (None, "evaluation"):
        seconds, fired = zip(*(evaluated(10_000, 1_000, given.warehouse) for _ in range(3)), strict=True)
        print(f"10,000 events and 1,000 alarms, of which {fired[0]} fire: {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
