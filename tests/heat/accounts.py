"""Fixtures: a tenant who owns stacks, and Meterhouse's account in Keystone."""

import uuid
from collections.abc import Iterator

import pytest
from services import Keystone
from stacks import Owner, owner
from tenants import role_id


@pytest.fixture
def tenant(keystone: Keystone) -> Iterator[Owner]:
    with owner(keystone) as made:
        yield made


@pytest.fixture
def meterhouse(keystone: Keystone) -> Iterator[dict[str, str]]:
    """The account of Meterhouse in Keystone, which tenants may trust: `id`, and the settings of the site.

    It validates tokens, for which it has the role `service`.
    """
    name, password = f"meterhouse-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    user = keystone.make("user", name=name, password=password, domain_id="default")
    (project,) = keystone.client.get(f"{keystone.url}/projects", params={"name": "service"}).json()["projects"]
    role = f"projects/{project['id']}/users/{user}/roles/{role_id(keystone, 'service')}"
    keystone.client.put(f"{keystone.url}/{role}").raise_for_status()
    account = {"keystone_username": name, "keystone_password": password, "keystone_project": "service"}
    yield {"id": user, "keystone_url": keystone.url, **account}
    keystone.delete("user", user)
