"""Clients that people have work unchanged: aodhclient, python-openstackclient and python-ceilometerclient from PyPI."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from api_examples import fill
from api_server import served
from conftest import OpenSite
from openstack_clients import Client, ClientError, aodhclient, ceilometerclient, client, shell
from services import Keystone
from tenants import PASSWORD, tenant

from meterhouse.site import Site

__all__ = ["aodhclient", "ceilometerclient"]
pytestmark = [pytest.mark.slow, pytest.mark.service]

RULE = {"meter_name": "cpu_util", "threshold": 80.0, "comparison_operator": "gt", "period": 300}
GRANULAR = {"metric": "cpu_util", "resource_id": "web-01", "resource_type": "instance", "aggregation_method": "mean"}


@pytest.fixture
def filled(site: Site) -> Iterator[str]:
    """The URL of a site with an hour of two projects."""
    fill(site)
    with served(site) as url:
        yield url


@pytest.fixture
def ann(aodhclient: Path, filled: str) -> Iterator[Client]:
    """aodhclient of a member of the project shop."""
    with client(aodhclient, "aodh", endpoint=filled, user_id="ann", project_id="shop", roles="member") as made:
        yield made


def test_aodhclient_works_with_alarms(ann: Client, aodhclient: Path, filled: str) -> None:
    body = {"name": "busy", "type": "threshold", "threshold_rule": RULE, "alarm_actions": ["http://hooks.example.org/"]}
    alarm = ann("alarm.create", body)
    alarm_id = alarm["alarm_id"]
    assert alarm["threshold_rule"]["query"] == [{"field": "project_id", "op": "eq", "value": "shop"}]
    strings = {**GRANULAR, "threshold": 5.0, "granularity": "60"}  # as the command sends it
    other = ann(
        "alarm.create",
        {"name": "b", "type": "gnocchi_resources_threshold", "gnocchi_resources_threshold_rule": strings},
    )
    assert other["gnocchi_resources_threshold_rule"]["granularity"] == 60
    assert ann("alarm.get", alarm_id) == alarm
    names = [each["name"] for each in ann("alarm.list", sorts=["name:desc"])]
    assert names == ["busy", "b"]
    assert [each["name"] for each in ann("alarm.list", filters={"state": "ok"})] == []
    assert [each["name"] for each in ann("alarm.list", sorts=["name"], limit=1, marker=other["alarm_id"])] == ["busy"]
    changed = ann("alarm.update", alarm_id, {"severity": "critical", "threshold_rule": {**RULE, "threshold": 90}})
    assert (changed["severity"], changed["threshold_rule"]["threshold"]) == ("critical", 90)
    assert changed["alarm_actions"] == ["http://hooks.example.org/"]
    assert ann("alarm.set_state", alarm_id, "ok") == "ok"
    assert ann("alarm.get_state", alarm_id) == "ok"
    query = json.dumps({"and": [{"=": {"state": "ok"}}, {"=": {"severity": "critical"}}]})
    assert [each["alarm_id"] for each in ann("alarm.query", query)] == [alarm_id]
    kinds = ["state transition", "rule change", "creation"]
    assert [each["type"] for each in ann("alarm_history.get", alarm_id)] == kinds
    found = ann("alarm_history.search", json.dumps({"=": {"alarm_id": alarm_id}}))
    assert [each["type"] for each in found] == kinds
    assert ann("quota.list")["quotas"] == [{"resource": "alarms", "limit": -1}]
    assert ann("capabilities.list")["alarm_storage"] == {"storage:production_ready": True}
    with client(aodhclient, "aodh", endpoint=filled, user_id="root", project_id="ops", roles="admin") as root:
        quota = [{"resource": "alarms", "limit": 2}]
        assert root("quota.create", "shop", quota) == {"project_id": "shop", "quotas": quota}
        assert len(root("alarm.list", filters={"all_projects": "true"})) == 2
    with pytest.raises(ClientError, match=r"Alarm quota exceeded for user ann on project shop.*HTTP 403"):
        ann("alarm.create", body)
    ann("alarm.delete", alarm_id)
    with pytest.raises(ClientError, match=f"Alarm {alarm_id} not found.*HTTP 404"):
        ann("alarm.get", alarm_id)


def test_commands_of_aodhclient_and_openstackclient_work(aodhclient: Path, filled: str) -> None:
    who = ("--os-auth-type", "aodh-noauth", "--user-id", "ann", "--project-id", "shop", "--aodh-endpoint", filled)

    def aodh(*command: str) -> Any:
        done = shell(aodhclient, "aodh", *who, *command, "-f", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    rule = ("--metric", "cpu_util", "--resource-id", "web-01", "--resource-type", "instance", "--granularity", "60")
    more = ("--aggregation-method", "mean", "--threshold", "70", "--evaluation-periods", "2")
    made = aodh("alarm", "create", "--name", "g", "--type", "gnocchi_resources_threshold", *rule, *more)
    assert (made["granularity"], made["threshold"], made["state"]) == (60, 70.0, "insufficient data")
    assert aodh("alarm", "show", "g")["alarm_id"] == made["alarm_id"]
    assert aodh("alarm", "update", "--name", "g", "--threshold", "75")["threshold"] == 75.0
    how = ("--os-auth-type", "aodh-noauth", "--os-user-id", "ann", "--os-project-id", "shop", "--os-roles", "member")
    done = shell(aodhclient, "openstack", *how, "--os-aodh-endpoint", filled, "alarm", "list", "-f", "json")
    assert done.returncode == 0, done.stderr
    assert [each["name"] for each in json.loads(done.stdout)] == ["g"]


def test_ceilometerclient_works_with_metering_data_and_alarms(ceilometerclient: Path, filled: str) -> None:
    with client(ceilometerclient, "ceilometer", os_endpoint=filled, token="x") as ask:
        meters = ask("meters.list", q=[{"field": "project_id", "op": "eq", "value": "shop"}])
        assert {"cpu", "cpu_util", "requests"} <= {each["name"] for each in meters}
        of_web = [{"field": "resource_id", "op": "eq", "value": "web-01"}]
        samples = ask("samples.list", meter_name="cpu_util", q=of_web, limit=2)
        assert [each["counter_volume"] for each in samples] == [51.0, -1.0]  # Ceilometer lists them all
        newest = ask("new_samples.list", q=of_web, limit=1)
        assert ask("new_samples.get", newest[0]["id"])["id"] == newest[0]["id"]
        (day,) = ask(
            "statistics.list", "cpu_util", q=of_web, period=3600, groupby=["resource_id"], aggregates=[{"func": "avg"}]
        )
        assert (day["aggregate"], day["groupby"]) == ({"avg": 47.0}, {"resource_id": "web-01"})
        resource = ask("resources.get", "web-01")
        assert (resource["resource_id"], resource["project_id"]) == ("web-01", "shop")
        assert {each["resource_id"] for each in ask("resources.list")} >= {"web-01", "ledger-1"}
        created = "compute.instance.create.end"
        (event,) = ask("events.list", q=[{"field": "event_type", "op": "eq", "value": created, "type": ""}])
        assert ask("events.get", event["message_id"])["event_type"] == created
        assert created in [each["event_type"] for each in ask("event_types.list")]
        assert "instance_id" in [each["name"] for each in ask("trait_descriptions.list", created)]
        assert ask("traits.list", created, "instance_id")[0]["value"] == "web-01"
        asked = {"filter": json.dumps({"and": [{"=": {"meter": "cpu_util"}}, {">": {"volume": 47}}]}), "limit": 5}
        assert {each["volume"] for each in ask("query_samples.query", **asked)} == {48.0, 51.0}
        assert ask("capabilities.get")["api"]["statistics:groupby"] is True
        # Alarms, which it has asked Ceilometer for until Mitaka.
        alarm = ask("alarms.create", name="busy", type="threshold", threshold_rule=RULE)
        alarm_id = alarm["alarm_id"]
        assert [each["name"] for each in ask("alarms.list")] == ["busy"]
        assert ask("alarms.update", alarm_id, severity="critical", threshold=70)["severity"] == "critical"
        assert ask("alarms.get", alarm_id)["threshold_rule"]["threshold"] == 70
        assert ask("alarms.set_state", alarm_id, "alarm") == "alarm"
        kinds = [each["type"] for each in ask("alarms.get_history", alarm_id)]
        assert kinds == ["state transition", "rule change", "creation"]
        found = ask("query_alarms.query", filter=json.dumps({"=": {"state": "alarm"}}))
        assert [each["name"] for each in found] == ["busy"]
        assert len(ask("query_alarm_history.query", filter=json.dumps({"=": {"alarm_id": alarm_id}}))) == 3
        ask("alarms.delete", alarm_id)
        assert ask("alarms.list") == []


def test_commands_of_ceilometerclient_work(ceilometerclient: Path, filled: str) -> None:
    def ceilometer(*command: str) -> str:
        done = shell(ceilometerclient, "ceilometer", "--os-token", "x", "--ceilometer-url", filled, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "cpu_util" in ceilometer("meter-list")
    table = ceilometer("statistics", "-m", "cpu_util", "-q", "resource_id=web-01", "-p", "3600", "-a", "avg")
    assert "47.0" in table
    made = ceilometer(
        "alarm-threshold-create", "--name", "busy", "-m", "cpu_util", "--threshold", "80", "--period", "300"
    )
    assert "Alarm when cpu_util is eq a avg of 80.0 over 300 seconds" in made
    assert "busy" in ceilometer("alarm-list")


def test_clients_find_the_endpoints_in_keystones_catalogue(
    open_site: OpenSite, keystone: Keystone, aodhclient: Path, ceilometerclient: Path
) -> None:
    site = open_site(api_auth="keystone", **keystone.settings)
    ann, bob = tenant(keystone), tenant(keystone)
    with served(site) as url, _region(keystone, url) as region:
        made: dict[str, Client] = {}
        how = {"auth_url": keystone.url, "password": PASSWORD, "region_name": region}
        with (
            client(aodhclient, "aodh", user_id=ann.user_id, project_id=ann.project_id, **how) as made["ann"],
            client(aodhclient, "aodh", user_id=bob.user_id, project_id=bob.project_id, **how) as made["bob"],
        ):
            alarm = made["ann"]("alarm.create", {"name": "mine", "type": "threshold", "threshold_rule": RULE})
            assert (alarm["project_id"], alarm["user_id"]) == (ann.project_id, ann.user_id)
            assert made["bob"]("alarm.list") == []
            with pytest.raises(ClientError, match="HTTP 404"):
                made["bob"]("alarm.get", alarm["alarm_id"])
            with pytest.raises(ClientError, match="HTTP 401"):
                made["bob"]("alarm.list", filters={"project_id": ann.project_id})
        name = keystone.client.get(f"{keystone.url}/users/{ann.user_id}").json()["user"]["name"]
        account = {"os_username": name, "os_password": PASSWORD, "os_tenant_id": ann.project_id, "os_tenant_name": name}
        domains = {"os_user_domain_id": "default", "os_project_domain_id": "default"}
        where = {"os_auth_url": keystone.url, "os_region_name": region}
        with client(ceilometerclient, "ceilometer", **account, **domains, **where) as ask:
            assert [each["name"] for each in ask("alarms.list")] == ["mine"]
            assert ask("meters.list") == []


@contextmanager
def _region(keystone: Keystone, url: str) -> Iterator[str]:
    """A region of its own, whose endpoints for metering and alarming are a URL."""
    region = f"region-{uuid.uuid4().hex[:8]}"
    keystone.client.post(f"{keystone.url}/regions", json={"region": {"id": region}}).raise_for_status()
    services = {kind: keystone.make("service", type=kind, name=f"{kind}-{region}") for kind in ("metering", "alarming")}
    for service in services.values():
        keystone.make("endpoint", service_id=service, interface="public", region_id=region, url=url)
    yield region
    for service in services.values():
        keystone.delete("service", service)  # with its endpoint
    keystone.delete("region", region)
