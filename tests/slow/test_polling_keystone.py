"""Polling endpoints of a real Keystone's catalogue, with its tokens and application credentials."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from meterhouse.polling.asking import Asking
from meterhouse.polling.asking.endpoints import Endpoint, Endpoints
from meterhouse.polling.discovery import discover
from meterhouse.polling.polled import Permanent, Piece
from meterhouse.settings import read_settings
from tests.dynamic_pollsters import compiled, slot, source
from tests.services import Keystone
from tests.web import Raw, Request, Web, web

pytestmark = [pytest.mark.slow, pytest.mark.service]


@dataclass
class Volumes:
    """A service of volumes that Keystone knows, and that lets in whom Keystone does."""

    web: Web
    type: str
    keystone: Keystone
    revoked: set[str]
    users: list[str]

    def answer(self, request: Request) -> object:
        token = request.headers.get("x-auth-token", "")
        described = self.keystone.client.get(f"{self.keystone.url}/auth/tokens", headers={"X-Subject-Token": token})
        if token in self.revoked or described.status_code != 200:
            return Raw(401)
        found = described.json()["token"]
        self.users.append(f"{found['user']['name']} by {found['methods'][0]}")
        return {"volumes": [{"id": "v1", "size": 3}, {"id": "v2", "size": 4}]}


@pytest.fixture
def volumes(keystone: Keystone) -> Iterator[Volumes]:
    """Volumes that nobody else has."""
    with web({}) as server:
        made = Volumes(server, f"volume-{secrets.token_hex(4)}", keystone, set(), [])
        server.routes["/v3/volumes"] = made.answer
        client, url = keystone.client, keystone.url
        answer = client.post(f"{url}/services", json={"service": {"type": made.type, "name": made.type}})
        number = answer.raise_for_status().json()["service"]["id"]
        for interface, path in (("public", "/v3"), ("internal", "/internal")):
            body = {"service_id": number, "interface": interface, "url": server.url + path}
            client.post(f"{url}/endpoints", json={"endpoint": body}).raise_for_status()
        yield made
        client.delete(f"{url}/services/{number}").raise_for_status()


def test_endpoints_of_the_catalogue_are_polled_with_a_token_that_is_renewed(
    keystone: Keystone, volumes: Volumes
) -> None:
    asking = Asking(read_settings(**keystone.settings))
    poll = compiled(endpoint_type=volumes.type)
    found = poll.poll(asking, slot(), Piece(), source())
    assert [(each["resource_id"], each["counter_volume"]) for each in found.samples] == [("v1", 3), ("v2", 4)]
    assert poll.size(asking, source()) == 1
    token = volumes.web.requests[-1].headers["x-auth-token"]

    volumes.revoked.add(token)
    assert len(poll.poll(asking, slot(), Piece(), source()).samples) == 2
    sent = [request.headers["x-auth-token"] for request in volumes.web.requests]
    assert sent[:2] == [token, token]
    assert sent[2] not in (token, "")
    assert len(sent) == 3

    assert discover(asking, f"endpoint:{volumes.type}") == [f"{volumes.web.url}/v3"]
    inner = Asking(read_settings(**keystone.settings), Endpoints(interface="internal"))
    assert discover(inner, f"endpoint:{volumes.type}") == [f"{volumes.web.url}/internal"]
    with pytest.raises(Permanent, match="has no public endpoint of the type 'volume-nothing'"):
        discover(asking, "endpoint:volume-nothing")
    asking.close()
    inner.close()


def test_a_token_goes_to_no_address_that_the_catalogue_does_not_have(keystone: Keystone, volumes: Volumes) -> None:
    asking = Asking(read_settings(**keystone.settings))
    with web({"/volumes": {"volumes": []}}) as elsewhere:
        compiled(endpoint_type=volumes.type).poll(asking, slot(), Piece(), source(elsewhere.url))
        assert "x-auth-token" not in elsewhere.requests[0].headers
        trusting = Asking(read_settings(**keystone.settings), Endpoints((Endpoint(elsewhere.url, token=True),)))
        compiled(endpoint_type=volumes.type).poll(trusting, slot(), Piece(), source(elsewhere.url))
        assert elsewhere.requests[1].headers["x-auth-token"]
    asking.close()
    trusting.close()


def test_an_endpoint_gets_the_token_of_its_own_application_credential(
    keystone: Keystone, volumes: Volumes, tmp_path: Path
) -> None:
    user = keystone.client.get(f"{keystone.url}/auth/tokens", headers=_subject(keystone)).json()["token"]["user"]["id"]
    answer = keystone.client.post(
        f"{keystone.url}/users/{user}/application_credentials",
        json={"application_credential": {"name": secrets.token_hex(4)}},
    )
    made = answer.raise_for_status().json()["application_credential"]
    (tmp_path / "secret").write_text(f"{made['secret']}\n")
    way = Endpoint(volumes.web.url, credential_id=made["id"], credential_secret_file=str(tmp_path / "secret"))
    asking = Asking(read_settings(**keystone.settings), Endpoints((way,)))
    poll = compiled(endpoint_type=volumes.type)
    assert len(poll.poll(asking, slot(), Piece(), source()).samples) == 2
    assert volumes.users == [f"{keystone.username} by application_credential"]

    (tmp_path / "secret").write_text("not it\n")
    volumes.revoked.add(volumes.web.requests[-1].headers["x-auth-token"])
    with pytest.raises(Permanent, match="Keystone refuses the application credential") as refused:
        poll.poll(asking, slot(), Piece(), source())
    assert "not it" not in str(refused.value)
    asking.close()


def test_projects_are_discovered(keystone: Keystone) -> None:
    asking = Asking(read_settings(**keystone.settings))
    ours = keystone.make("project", name=secrets.token_hex(4), domain_id="default")
    off = keystone.make("project", name=secrets.token_hex(4), domain_id="default", enabled=False)
    assert {ours, off} <= set(discover(asking, "tenant"))
    enabled = Asking(read_settings(**keystone.settings), Endpoints(ignore_disabled_projects=True))
    found = discover(enabled, "tenant")
    assert ours in found
    assert off not in found
    asking.close()
    enabled.close()


def _subject(keystone: Keystone) -> dict[str, str]:
    return {"X-Subject-Token": httpx.Headers(keystone.client.headers)["X-Auth-Token"]}
