"""Auto-scaling for real: Heat grows and shrinks a group on Meterhouse's alarms.

The load is shared by the members that Heat's API lists, so each change of the group changes what the alarms see. Each
second, a polling agent's batch with `cpu_util` of each member goes through RabbitMQ; `meterhouse collect --follow`
takes it from there. The alarms are evaluated and the webhooks delivered by the functions that Dagster calls.
"""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from accounts import meterhouse, tenant
from brokers import declare
from cloud import CYCLE, Cloud
from conftest import OpenSite
from services import configured
from stacks import Owner, Stack
from stream_steps import Collector

__all__ = ["meterhouse", "tenant"]

PERIOD = 4
PERIODS = 2
COOLDOWN = 22
"""Longer than the alarms' window (three periods), a cycle and what Heat takes for a change: what the alarms see is
then no older than the change before."""

HIGH, LOW = 80.0, 20.0
"""Percent. Above the one the group grows, below the other it shrinks."""


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
def scaled(tenant: Owner) -> Iterator[Stack]:
    made = Stack(tenant, configured("METERHOUSE_TEST_HEAT_URL"), cooldown=COOLDOWN)
    yield made
    made.delete()


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
