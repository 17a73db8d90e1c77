"""Names from a real Keystone."""

import secrets
from collections.abc import Iterator

import httpx
import pytest
from builders import NOON, drop, notification
from conftest import OpenSite
from services import Keystone

from meterhouse import times
from meterhouse.collection.collect import collect
from meterhouse.doctor import findings_of
from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.keystone import session
from meterhouse.settings import read_settings
from meterhouse.usage.names import history_of, listed, names_at
from meterhouse.usage.names_sync import sync

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def project(keystone: Keystone) -> Iterator[str]:
    number = keystone.make("project", name=f"shop-{secrets.token_hex(4)}", domain_id="default")
    yield number
    keystone.delete("project", number)


def test_projects_users_and_domains_have_the_names_of_their_time(
    keystone: Keystone, open_site: OpenSite, project: str
) -> None:
    site = open_site(**keystone.settings)
    user = keystone.make("user", name=f"ann-{secrets.token_hex(4)}", domain_id="default")
    done = sync(site)
    assert done.keystone is not None
    assert done.faults == []
    first = times.now()
    old = names_at(site, "project", first)[project]
    assert old.startswith("shop-")
    assert names_at(site, "user", first)[user].startswith("ann-")
    assert names_at(site, "domain", first)["default"] == "Default"
    assert {each["domain_name"] for each in listed(site, "project") if each["id"] == project} == {"Default"}

    keystone.change("project", project, name=f"{old}-renamed")
    keystone.delete("user", user)
    assert sync(site).changed == 1
    assert names_at(site, "project", times.now())[project] == f"{old}-renamed"
    assert names_at(site, "project", first)[project] == old
    assert names_at(site, "user", times.now())[user].startswith("ann-")  # who is gone is still in old bills
    assert [row["name"] for row in history_of(site, project)] == [old, f"{old}-renamed"]
    assert sync(site).changed == 0


def test_users_of_every_domain_are_listed(keystone: Keystone, open_site: OpenSite) -> None:
    name = f"branch-{secrets.token_hex(4)}"
    domain = keystone.make("domain", name=name)
    user = keystone.make("user", name="ann", domain_id=domain)
    site = open_site(**keystone.settings)
    sync(site)
    found = {each["id"]: each for each in listed(site, "user")}
    assert (found[user]["name"], found[user]["domain_name"]) == ("ann", name)
    keystone.change("domain", domain, enabled=False)
    keystone.delete("domain", domain)


def test_an_application_credential_and_a_reader_of_the_system_may_list_names(
    keystone: Keystone, open_site: OpenSite, project: str
) -> None:
    user = keystone.make("user", name=f"reader-{secrets.token_hex(4)}", password="pw", domain_id="default")
    name = keystone.client.get(f"{keystone.url}/users/{user}").json()["user"]["name"]
    roles = keystone.client.get(f"{keystone.url}/roles").json()["roles"]
    (reader,) = (role["id"] for role in roles if role["name"] == "reader")
    (admin,) = (role["id"] for role in roles if role["name"] == "admin")
    keystone.client.put(f"{keystone.url}/system/users/{user}/roles/{reader}").raise_for_status()
    by_system = {"keystone_url": keystone.url, "keystone_username": name, "keystone_password": "pw"}
    site = open_site(**by_system)
    sync(site)
    assert project in names_at(site, "project", times.now())

    keystone.client.put(f"{keystone.url}/projects/{project}/users/{user}/roles/{admin}").raise_for_status()
    with session(read_settings(**by_system, keystone_project=old_name(keystone, project))) as of_user:
        of_user.log_in()
        token = of_user._token
    made = httpx.post(
        f"{keystone.url}/users/{user}/application_credentials",
        json={"application_credential": {"name": "names", "secret": "s3cret"}},
        headers={"X-Auth-Token": str(token)},
        timeout=60,
    )
    made.raise_for_status()
    credential = {
        "keystone_credential_id": made.json()["application_credential"]["id"],
        "keystone_credential_secret": "s3cret",
    }
    site = open_site(keystone_url=keystone.url, **credential)
    sync(site)
    assert project in names_at(site, "project", times.now())
    # Keystone on SQLite leaves the roles of a credential behind that goes with its user, and refuses the next one.
    url = f"{keystone.url}/users/{user}/application_credentials/{credential['keystone_credential_id']}"
    httpx.delete(url, headers={"X-Auth-Token": str(token)}, timeout=60).raise_for_status()
    keystone.delete("user", user)


def old_name(keystone: Keystone, project: str) -> str:
    return str(keystone.client.get(f"{keystone.url}/projects/{project}").json()["project"]["name"])


def test_a_token_that_was_revoked_is_replaced(keystone: Keystone) -> None:
    with session(read_settings(**keystone.settings)) as names:
        names.log_in()
        token = str(names._token)
        headers = {"X-Auth-Token": token, "X-Subject-Token": token}
        httpx.delete(f"{keystone.url}/auth/tokens", headers=headers, timeout=60).raise_for_status()
        assert any(each.kind == "project" for each in names.names())
        assert names._token != token


def test_what_keystone_refuses_is_one_error_without_the_password(keystone: Keystone, open_site: OpenSite) -> None:
    with (
        session(read_settings(**{**keystone.settings, "keystone_password": "hunter2"})) as names,
        pytest.raises(
            MeterhouseError, match="Keystone refuses the account 'admin' of the domain 'Default': 401"
        ) as bad,
    ):
        list(names.names())
    assert "hunter2" not in str(bad.value)

    member = keystone.make("user", name=f"member-{secrets.token_hex(4)}", password="pw", domain_id="default")
    name = keystone.client.get(f"{keystone.url}/users/{member}").json()["user"]["name"]
    roles = keystone.client.get(f"{keystone.url}/roles").json()["roles"]
    (role,) = (each["id"] for each in roles if each["name"] == "member")
    projects = keystone.client.get(f"{keystone.url}/projects", params={"name": "admin"}).json()["projects"]
    keystone.client.put(f"{keystone.url}/projects/{projects[0]['id']}/users/{member}/roles/{role}").raise_for_status()
    site = open_site(**{**keystone.settings, "keystone_username": name, "keystone_password": "pw"})
    with pytest.raises(MeterhouseError, match=r"Keystone refuses GET /domains: 403 .*Give the account the role reader"):
        sync(site)
    keystone.delete("user", member)


def test_the_doctor_asks_keystone_whether_the_account_may_list_projects(
    keystone: Keystone, open_site: OpenSite
) -> None:
    assert findings_of(open_site(), "keystone") == []
    (found,) = findings_of(open_site(**keystone.settings), "keystone")
    assert (found.state, found.found) == (
        "ok",
        f"{keystone.url} lists projects for the account 'admin' of the domain 'Default'",
    )
    (found,) = findings_of(open_site(**{**keystone.settings, "keystone_password": "hunter2"}), "keystone")
    assert found.state == "failed"
    assert "hunter2" not in str(found)


def test_a_keystone_that_is_away_stops_no_other_names(keystone: Keystone, open_site: OpenSite) -> None:
    site = open_site(**{**keystone.settings, "keystone_url": "http://127.0.0.1:9/v3"})
    message = notification("1", _context_project_id="p1", _context_project_name="Shop")
    drop(site.settings.spool, "one.jsonl", [message])
    collect(site)
    with pytest.raises(Unavailable, match="Keystone does not answer"):
        sync(site)
    assert names_at(site, "project", NOON) == {"p1": "Shop"}
