"""`trust+http` actions against a real Keystone: the token of a trust or an application credential, renewed once."""

import secrets
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from builders import warehouse_rows
from conftest import OpenSite
from outbox import ledger, tell
from services import Keystone

from meterhouse.alarms.delivery import ledger as deliveries_ledger
from meterhouse.alarms.delivery import tokens, trusts
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.callers import OPERATOR, Caller
from meterhouse.alarms.keeping.states import alarm, history
from meterhouse.demo.receiver import Call, WebhookReceiver
from meterhouse.errors import DefinitionError

pytestmark = pytest.mark.service


@dataclass(frozen=True)
class Tenant:
    """A user of a project, and a token of it."""

    project_id: str
    user_id: str
    password: str
    token: str


def log_in(keystone: Keystone, user_id: str, password: str, project_id: str) -> str:
    user = {"user": {"id": user_id, "password": password}}
    asked = {"identity": {"methods": ["password"], "password": user}, "scope": {"project": {"id": project_id}}}
    answer = httpx.post(f"{keystone.url}/auth/tokens", json={"auth": asked}, timeout=60)
    answer.raise_for_status()
    return str(answer.headers["X-Subject-Token"])


@pytest.fixture(scope="module")
def tenant(keystone: Keystone) -> Tenant:
    name = f"tenant-{secrets.token_hex(4)}"

    def made(path: str, kind: str, **fields: Any) -> str:
        answer = keystone.client.post(f"{keystone.url}{path}", json={kind: fields})
        answer.raise_for_status()
        return str(answer.json()[kind]["id"])

    roles = keystone.client.get(f"{keystone.url}/roles").json()["roles"]
    role = next(each["id"] for each in roles if each["name"] == "admin")
    project = made("/projects", "project", name=name, domain_id="default")
    user = made("/users", "user", name=name, domain_id="default", password="tenant-password")
    answer = keystone.client.put(f"{keystone.url}/projects/{project}/users/{user}/roles/{role}")
    answer.raise_for_status()
    return Tenant(project, user, "tenant-password", log_in(keystone, user, "tenant-password", project))


@pytest.fixture(autouse=True)
def _no_tokens() -> None:
    tokens._kept.clear()


def account(keystone: Keystone) -> dict[str, Any]:
    return {
        "keystone_url": keystone.url,
        "keystone_username": keystone.username,
        "keystone_password": keystone.password,
        "keystone_project": "admin",
        "webhook_allow": "127.0.0.1",
    }


def who(keystone: Keystone, token: str) -> dict[str, Any]:
    answer = keystone.client.get(f"{keystone.url}/auth/tokens", headers={"X-Subject-Token": token})
    answer.raise_for_status()
    return dict(answer.json()["token"])


def test_an_alarm_from_outside_gets_a_trust_that_ends_with_it(
    open_site: OpenSite, keystone: Keystone, tenant: Tenant
) -> None:
    site = open_site(**account(keystone))
    caller = Caller(project_id=tenant.project_id, user_id=tenant.user_id, admin=False)
    rule = {"meter_name": "m", "threshold": 1.0}
    with WebhookReceiver() as receiver:
        entry = {"name": "a", "threshold_rule": rule, "alarm_actions": [f"trust+{receiver.url}"]}
        with pytest.raises(DefinitionError, match="needs a trust"):
            managed.create(site, entry, caller)
        made = managed.create(site, entry, caller, token=tenant.token)
        assert made["definition"]["alarm_actions"] == [f"trust+{receiver.url}"]
        ((stored,),) = warehouse_rows(site, "SELECT definition FROM alarms")
        trust_id = stored.partition("trust+http://")[2].partition(":delete@")[0]
        assert len(trust_id) == 32
        changed = managed.change(site, made["alarm_id"], {**entry, "severity": "critical"}, caller, whole=True)
        assert changed["severity"] == "critical"
        url = f"trust+http://{trust_id}:delete@{receiver.url.partition('://')[2]}"
        tell(site, url, origin="outside", project=tenant.project_id)
        assert deliver(site).delivered == 1
    token = who(keystone, receiver.calls[0].headers["x-auth-token"])
    assert (token["user"]["id"], token["project"]["id"]) == (tenant.user_id, tenant.project_id)
    assert token["OS-TRUST:trust"]["id"] == trust_id
    seen = [
        alarm(site, made["alarm_id"], OPERATOR),
        history(site, made["alarm_id"], 10, OPERATOR),
        deliveries_ledger.listed(site),
    ]
    assert trust_id not in str(seen)
    managed.remove(site, made["alarm_id"], caller, token=tenant.token)
    gone = keystone.client.get(f"{keystone.url}/OS-TRUST/trusts/{trust_id}", headers={"X-Auth-Token": tenant.token})
    assert gone.status_code == 404
    assert trust_id not in str(history(site, made["alarm_id"], 10, OPERATOR))


def test_a_trust_that_is_gone_is_a_failed_attempt_without_its_id(
    open_site: OpenSite, keystone: Keystone, tenant: Tenant
) -> None:
    site = open_site(**account(keystone))
    with WebhookReceiver() as receiver:
        url = trusts.create(site.settings, tenant.token, f"trust+{receiver.url}")
        assert trusts.delete(site.settings, [url, receiver.url], tenant.token) == []
        tell(site, url)
        assert deliver(site).failed == 1
    assert receiver.calls == []
    trust_id = url.partition("://")[2].partition(":")[0]
    assert "Keystone refuses the trust of the URL" in ledger(site)[0][2]
    assert trust_id not in str(deliveries_ledger.listed(site))


def test_an_application_credential_of_the_url_or_of_the_settings_is_used(
    open_site: OpenSite, keystone: Keystone, tenant: Tenant
) -> None:
    wanted = {"application_credential": {"name": secrets.token_hex(4)}}
    answer = httpx.post(
        f"{keystone.url}/users/{tenant.user_id}/application_credentials",
        json=wanted,
        headers={"X-Auth-Token": tenant.token},
        timeout=60,
    )
    answer.raise_for_status()
    made = answer.json()["application_credential"]
    given = {"webhook_credential_id": made["id"], "webhook_credential_secret": made["secret"]}
    with WebhookReceiver() as receiver:
        for settings, user in ((given, ""), ({}, f"{made['id']}:{made['secret']}@")):
            site = open_site(**account(keystone), **settings)
            tell(site, f"trust+{receiver.url}".replace("://", f"://{user}"))
            assert deliver(site).delivered == 1
            assert made["secret"] not in str(deliveries_ledger.listed(site))
    for call in receiver.calls:
        assert who(keystone, call.headers["x-auth-token"])["user"]["id"] == tenant.user_id


def test_a_token_is_kept_until_a_receiver_answers_401_and_renewed_once(
    open_site: OpenSite, keystone: Keystone, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(**account(keystone))
    logins: list[Any] = []
    real = tokens._log_in
    monkeypatch.setattr(tokens, "_log_in", lambda *given: logins.append(given) or real(*given))
    refused: set[str] = set()

    class Refusing(WebhookReceiver):
        def record(self, call: Call) -> bool:
            return call.headers["x-auth-token"] not in refused and super().record(call)

    monkeypatch.setattr("meterhouse.demo.receiver._Handler.send_response", _401_for_503())
    with Refusing() as receiver:
        url = trusts.create(site.settings, tenant.token, f"trust+{receiver.url}")
        for number in range(20):
            tell(site, url, alarm=f"a{number}")
        assert deliver(site).delivered == 20
        assert len(logins) == 1  # one for all
        refused.add(receiver.calls[0].headers["x-auth-token"])
        for number in range(20):
            tell(site, url, alarm=f"b{number}")
        assert deliver(site).delivered == 20
        assert len(logins) == 2
        refused.add(receiver.calls[-1].headers["x-auth-token"])
        monkeypatch.setattr(Refusing, "record", lambda self, call: False)  # takes no token at all
        tell(site, url, alarm="c")
        assert deliver(site).failed == 1
        assert len(logins) == 3
    assert ledger(site)[-1][2] == "the receiver answered 401"
    trusts.delete(site.settings, [url], tenant.token)


def _401_for_503() -> Any:
    real = BaseHTTPRequestHandler.send_response
    return lambda self, status, message=None: real(self, 401 if status == 503 else status, message)
