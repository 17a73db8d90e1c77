"""Heat makes the alarms of a stack itself, at Meterhouse's API, and the group grows on them."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from accounts import meterhouse, tenant
from api_server import served
from brokers import declare
from cloud import Cloud
from conftest import OpenSite
from services import Keystone, configured
from stacks import Owner, Stack
from stream_steps import Collector

from meterhouse.alarms.delivery import trusts
from meterhouse.alarms.keeping.callers import OPERATOR
from meterhouse.alarms.keeping.states import alarm_list
from meterhouse.stores.warehouse_tables import alarms as table

__all__ = ["meterhouse", "tenant"]

GROUP = {"get_param": "OS::stack_id"}
SIGNAL = {"str_replace": {"template": "trust+url", "params": {"url": {"get_attr": ["up", "signal_url"]}}}}
"""The signal of the policy, called by a trust that the alarm service makes."""


def alarms(threshold: float) -> dict[str, Any]:
    """The resources of alarms of a stack."""
    compared = {"aggregation_method": "mean", "comparison_operator": "gt", "granularity": 60, "evaluation_periods": 1}
    one = {"metric": "cpu_util", "resource_type": "instance", "threshold": threshold, **compared}
    of_group = {"str_replace": {"template": json.dumps({"=": {"server_group": "%id%"}}), "params": {"%id%": GROUP}}}
    rule = {"type": "gnocchi_resources_threshold", **one}
    night = {"name": "nights", "start": "0 23 * * *", "duration": 3600, "timezone": "Europe/Vienna"}
    resources = {
        "busy": ("GnocchiAggregationByResourcesAlarm", {**one, "query": of_group, "alarm_actions": [SIGNAL]}),
        "one": ("GnocchiResourcesAlarm", {**one, "resource_id": "other", "time_constraints": [night]}),
        "joined": (
            "CompositeAlarm",
            {
                "composite_rule": {
                    "operator": "or",
                    "rules": [{**rule, "resource_id": "a"}, {"and": [{**rule, "resource_id": each} for each in "bc"]}],
                },
                "severity": "critical",
            },
        ),
        "created": (
            "EventAlarm",
            {
                "event_type": "compute.instance.create.end",
                "query": [{"field": "traits.state", "op": "eq", "value": "active"}],
                "repeat_actions": False,
            },
        ),
    }
    return {name: {"type": f"OS::Aodh::{kind}", "properties": given} for name, (kind, given) in resources.items()}


@contextmanager
def catalogued(keystone: Keystone, url: str) -> Iterator[None]:
    """Let Keystone's catalogue say that alarming is at a URL, while the block runs."""
    client, root = keystone.client, keystone.url
    (service,) = client.get(f"{root}/services", params={"type": "alarming"}).json()["services"][:1]
    ends = client.get(f"{root}/endpoints", params={"service_id": service["id"]}).json()["endpoints"]
    assert ends, "no endpoint for alarming"
    for end in ends:
        keystone.change("endpoint", end["id"], url=url)
    yield
    for end in ends:
        keystone.change("endpoint", end["id"], url=end["url"])


@pytest.mark.service
def test_heat_makes_changes_and_deletes_the_alarms_of_a_stack_that_scales_on_them(
    keystone: Keystone,
    tenant: Owner,
    meterhouse: dict[str, str],
    open_site: OpenSite,
    postgres_warehouse: str,
    amqp_url: str,
    names: Callable[[str], str],
) -> None:
    exchange, queue = names("ceilometer"), names("samples")
    declare(amqp_url, exchange, queue, "notifications.sample")
    account = {name: value for name, value in meterhouse.items() if name != "id"}
    site = open_site(
        warehouse_url=postgres_warehouse,
        stream_url=amqp_url,
        stream_queues=queue,
        api_auth="keystone",
        webhook_allow="127.0.0.0/8",  # Heat's API
        **account,
    )

    def known() -> dict[str, dict[str, Any]]:
        return {row["alarm_id"]: row for row in alarm_list(site, OPERATOR)}

    def trusted() -> list[str]:
        with site.warehouse.read() as connection:
            definitions = connection.execute(table.select()).all()
        urls = [url for row in definitions for url in json.loads(row.definition)["alarm_actions"]]
        return [str(trusts.trust_of(trusts.without_userinfo(url)[1])) for url in urls if url.startswith("trust+")]

    with served(site) as url, catalogued(keystone, url):
        stack = Stack(tenant, configured("METERHOUSE_TEST_HEAT_URL"), cooldown=22, more=alarms(80.0))
        made = {name: stack.resources()[name] for name in ("busy", "one", "joined", "created")}
        assert set(known()) == set(made.values())
        busy = known()[made["busy"]]
        assert (busy["project_id"], busy["user_id"], busy["enabled"]) == (tenant.project, tenant.user, True)
        definition = busy["definition"]
        assert definition["rule"]["query"] == json.dumps({"=": {"server_group": stack.stack_id}})
        assert definition["repeat_actions"] is True  # Heat's default
        assert definition["alarm_actions"] == [f"trust+{stack.up_with_token}"]  # without the trust
        assert known()[made["joined"]]["definition"]["rule"].keys() == {"or"}
        assert known()[made["one"]]["definition"]["time_constraints"][0]["timezone"] == "Europe/Vienna"
        (trust,) = trusted()
        found = tenant.client.get(f"{keystone.url}/OS-TRUST/trusts/{trust}").json()["trust"]
        assert (found["trustor_user_id"], found["trustee_user_id"]) == (tenant.user, meterhouse["id"])

        collector = Collector(site, "--follow")
        cloud = Cloud(site, stack, amqp_url, exchange)
        cloud.load = 180.0
        cloud.run_until(lambda: stack.size == 2)
        assert {each["status"] for each in cloud.ledger() if each["state"] == "delivered"} == {200}
        assert collector.signalled(signal.SIGTERM) == 0, collector.errors

        stack.act("suspend")
        assert {row["enabled"] for row in known().values()} == {False}
        stack.act("resume")
        assert {row["enabled"] for row in known().values()} == {True}
        assert trusted() == [trust]  # Heat has read and written it back
        stack.change(alarms(95.0))
        after = known()
        assert set(after) == set(made.values())
        assert after[made["busy"]]["definition"]["rule"]["threshold"] == 95.0
        assert after[made["busy"]]["state"] == "alarm"  # is kept

        stack.delete()
        assert known() == {}
        gone = tenant.client.get(f"{keystone.url}/OS-TRUST/trusts/{trust}")
        assert gone.status_code == httpx.codes.NOT_FOUND
