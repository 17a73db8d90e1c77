"""Auto-scaling for real: Heat grows and shrinks a group on Meterhouse's alarms.

The load is shared by the members that Heat's API lists, so each change of the group changes what the alarms see. Each
second, a polling agent's batch with `cpu_util` of each member goes through RabbitMQ; `meterhouse collect --follow`
takes it from there. The alarms are evaluated and the webhooks delivered by the functions that Dagster calls.
"""

import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers import declare, publish
from builders import enveloped, line, polled, polling, warehouse_rows
from conftest import OpenSite
from services import Keystone, configured
from stacks import END_SECONDS, Owner, Stack, owner
from stream_steps import Collector

from meterhouse import times
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.site import Site

PERIOD = 4
PERIODS = 2
CYCLE = 4.0
"""Seconds from one evaluation to the next."""

COOLDOWN = 22
"""Longer than the alarms' window (three periods), a cycle and what Heat takes for a change: what the alarms see is
then no older than the change before."""

HIGH, LOW = 80.0, 20.0
"""Percent. Above the one the group grows, below the other it shrinks."""


COLUMNS = ("samples", "alarm", "delivery", "stack")
"""Where things happen, in the order in which they follow from each other."""

TOLD = ("UPDATE_IN_PROGRESS", "CREATE_COMPLETE", "DELETE_COMPLETE", "UPDATE_COMPLETE", "SIGNAL_COMPLETE")
"""The events of a stack that are shown, in the order in which a change of the group has them."""


@dataclass(order=True)
class Happened:
    """One thing that happened. Heat tells the time to the second, so all are put in order by that."""

    second: datetime
    column: int
    place: int
    text: str


@dataclass
class Cloud:
    """A stack, the load on its members, and a site that watches them.

    Attributes:
        site: the site.
        stack: the stack.
        amqp_url: the broker.
        exchange: where the samples are published.
        load: percent of one processor, shared by the members.
    """

    site: Site
    stack: Stack
    amqp_url: str
    exchange: str
    load: float = 0.0
    _samples: list[tuple[datetime, str]] = field(default_factory=list)
    _evaluated: float = 0.0

    def run_until(self, reached: Callable[[], bool], *, at_least: float = 0.0) -> None:
        """Publish samples each second and evaluate each CYCLE, until a state is reached and some seconds are over."""
        begun = time.monotonic()
        while time.monotonic() < begun + at_least or not reached():
            assert time.monotonic() < begun + END_SECONDS, self.table()
            tick = time.monotonic()
            self._publish()
            if tick - self._evaluated >= CYCLE:
                self._evaluated = tick
                assert evaluate(self.site).faults == []
                deliver(self.site)
            time.sleep(max(0.0, tick + 1 - time.monotonic()))

    def _publish(self) -> None:
        """One sample of each member, as a polling agent publishes them; and of another instance of the project."""
        moment, members = times.now(), self.stack.members
        each = min(100.0, self.load / len(members))
        busy = [*((member, each, self.stack.stack_id) for member in members), ("other", 50.0, "another-stack")]
        samples = [
            polled(
                volume,
                moment,
                resource=resource,
                project=self.stack.project,
                resource_metadata={"display_name": resource, "user_metadata": {"server_group": group}},
            )
            for resource, volume, group in busy
        ]
        batch = polling(f"batch-{moment.timestamp()}", samples)
        publish(self.amqp_url, self.exchange, "notifications.sample", [line(enveloped(batch))])
        self._samples.append((moment, f"{len(members)} member{'s' * (len(members) > 1)} at {each:g} %"))

    def transitions(self, name: str) -> list[str]:
        """The states that an alarm went to, in order."""
        return [state for _, alarm, state in self._transitions() if alarm == name]

    def _transitions(self) -> list[tuple[datetime, str, str]]:
        query = (
            "SELECT h.timestamp, a.name, h.detail FROM alarm_history h JOIN alarms a USING (alarm_id) "
            "WHERE h.type = 'state transition' ORDER BY h.sequence"
        )
        return [(when, name, json.loads(detail)["state"]) for when, name, detail in warehouse_rows(self.site, query)]

    def ledger(self) -> list[dict[str, Any]]:
        """The attempts of the ledger, in order, with the body as an object."""
        query = (
            "SELECT d.state, d.attempts, d.body, d.url, a.started_at, a.status FROM deliveries d "
            "LEFT JOIN delivery_attempts a USING (delivery_id) ORDER BY d.sequence, a.attempt"
        )
        names = ("state", "attempts", "body", "url", "started_at", "status")
        rows = warehouse_rows(self.site, query)
        return [{**dict(zip(names, row, strict=True)), "body": json.loads(row[2])} for row in rows]

    def table(self) -> str:
        """Samples where they change, transitions, deliveries and events of the stack, in order: a table of Markdown."""
        changes = [*self._samples[:1], *(new for old, new in pairwise(self._samples) if new[1] != old[1])]
        found: list[tuple[datetime, int, str]] = [
            *((when, 0, text) for when, text in changes),
            *((when, 1, f"{name}: {state}") for when, name, state in self._transitions()),
            *((each["started_at"], 2, f"{each['body']['alarm_name']}: {each['status']}") for each in self.ledger()),
            *((each.time, 3, f"{each.part}: {each.status}") for each in self.stack.events if each.status in TOLD),
        ]
        begun = self._samples[0][0].replace(microsecond=0)
        rows = sorted(
            Happened(when.replace(microsecond=0), column, _place(text), text)
            for when, column, text in found
            if when is not None and when >= begun
        )
        lines = [f"| second | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        for row in rows:
            cells = [row.text if column == row.column else "" for column in range(len(COLUMNS))]
            lines.append(f"| {(row.second - begun).seconds} | {' | '.join(cells)} |")
        return "\n".join(lines)


def _place(text: str) -> int:
    """The place of an event of a stack among those of the same second."""
    return next((place for place, status in enumerate(TOLD) if text.endswith(status)), 0)


def alarm(name: str, operator: str, threshold: float, group: str, **actions: list[str]) -> dict[str, Any]:
    """An alarm on the average of the members, which repeats its notification as long as it is on, as Heat's do."""
    rule = {
        "meter_name": "cpu_util",
        "query": [{"field": "metadata.user_metadata.server_group", "op": "eq", "value": group}],
        "statistic": "avg",
        "comparison_operator": operator,
        "threshold": threshold,
        "period": PERIOD,
        "evaluation_periods": PERIODS,
    }
    return {"name": name, "repeat_actions": True, "threshold_rule": rule, **actions}


def with_token(url: str, account: str) -> str:
    """The URL of an action that is called with a token of an account."""
    return f"trust+{url.replace('://', f'://{account}@', 1)}"


@pytest.fixture
def tenant(keystone: Keystone) -> Iterator[Owner]:
    with owner(keystone) as made:
        yield made


@pytest.fixture
def scaled(tenant: Owner) -> Iterator[Stack]:
    made = Stack(tenant, configured("METERHOUSE_TEST_HEAT_URL"), cooldown=COOLDOWN)
    yield made
    made.delete()


@pytest.fixture
def meterhouse(keystone: Keystone) -> Iterator[dict[str, str]]:
    """The account of Meterhouse in Keystone, which tenants may trust: `id`, and the settings of the site."""
    name, password = f"meterhouse-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    user = keystone.make("user", name=name, password=password, domain_id="default")
    yield {"id": user, "keystone_username": name, "keystone_password": password, "keystone_url": keystone.url}
    keystone.delete("user", user)


@pytest.fixture
def watching(
    scaled: Stack,
    meterhouse: dict[str, str],
    open_site: OpenSite,
    postgres_warehouse: str,
    amqp_url: str,
    names: Callable[[str], str],
    tmp_path: Path,
) -> Iterator[Callable[[list[dict[str, Any]]], Cloud]]:
    """Makes a cloud with these alarms; `meterhouse collect --follow` runs meanwhile."""
    exchange, queue = names("ceilometer"), names("samples")
    declare(amqp_url, exchange, queue, "notifications.sample")
    account = {name: value for name, value in meterhouse.items() if name != "id"}
    stream = {"stream_url": amqp_url, "stream_queues": queue}
    site = open_site(warehouse_url=postgres_warehouse, config_dir=tmp_path, **stream, **account)
    collector = Collector(site, "--follow")

    def make(alarms: list[dict[str, Any]]) -> Cloud:
        (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": alarms}))
        return Cloud(site, scaled, amqp_url, exchange)

    yield make
    assert collector.signalled(signal.SIGTERM) == 0, collector.errors


def test_a_group_grows_under_load_and_shrinks_without(
    watching: Callable[[list[dict[str, Any]]], Cloud], scaled: Stack, tenant: Owner, meterhouse: dict[str, str]
) -> None:
    trusted = f"{tenant.trust(meterhouse['id'])}:delete"  # as Aodh writes a trust into a URL
    busy = alarm("busy", "gt", HIGH, scaled.stack_id, alarm_actions=[with_token(scaled.up_with_token, trusted)])
    idle = alarm("idle", "lt", LOW, scaled.stack_id, alarm_actions=[scaled.down])
    cloud = watching([busy, idle])
    assert scaled.size == 1

    cloud.load = 180.0
    cloud.run_until(lambda: scaled.size == 2)
    cloud.run_until(lambda: scaled.size == 3)
    cloud.run_until(lambda: cloud.transitions("busy") == ["alarm", "ok"], at_least=COOLDOWN + 2 * CYCLE)
    assert scaled.size == 3

    cloud.load = 30.0
    cloud.run_until(lambda: scaled.size == 2)
    cloud.run_until(lambda: scaled.size == 1)
    cloud.run_until(lambda: cloud.transitions("idle") == ["ok", "alarm", "ok"])
    print(f"\n{cloud.table()}")

    ledger = cloud.ledger()
    told = {(each["state"], each["attempts"], each["status"], each["body"]["current"]) for each in ledger}
    assert told == {("delivered", 1, 200, "alarm")}
    assert not any(trusted in each["url"] for each in ledger)
    changes = [each.part for each in scaled.events if each.status == "SIGNAL_COMPLETE"]
    assert changes == ["up", "up", "down", "down"]
    assert len(ledger) > len(changes)  # Heat accepts a signal in the cooldown too, and does nothing
    assert scaled.size == 1


def test_heat_scales_on_an_ok_action_too(
    watching: Callable[[list[dict[str, Any]]], Cloud], scaled: Stack, tenant: Owner
) -> None:
    with tenant.application_credential() as credential:
        url = with_token(scaled.up_with_token, credential)
        cloud = watching([alarm("busy", "gt", HIGH, scaled.stack_id, ok_actions=[url])])
        cloud.load = 10.0
        cloud.run_until(lambda: scaled.size == 2)
        assert cloud.transitions("busy") == ["ok"]


def test_a_group_grows_on_the_alarm_that_templates_of_heat_have_today(
    watching: Callable[[list[dict[str, Any]]], Cloud], scaled: Stack
) -> None:
    rule = {
        "metric": "cpu_util",
        "resource_type": "instance",
        "query": json.dumps({"=": {"server_group": scaled.stack_id}}),
        "aggregation_method": "mean",
        "comparison_operator": "gt",
        "threshold": HIGH,
        "granularity": 60,
        "evaluation_periods": 1,
    }
    kind = "gnocchi_aggregation_by_resources_threshold"
    cloud = watching([{"name": "busy", "type": kind, f"{kind}_rule": rule, "alarm_actions": [scaled.up]}])
    cloud.load = 180.0
    cloud.run_until(lambda: scaled.size == 2)
    assert cloud.transitions("busy") == ["alarm"]
