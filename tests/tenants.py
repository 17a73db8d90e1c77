"""Users of a real Keystone, with a role in a project, and their tokens."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from services import Keystone

PASSWORD = "tenant-password"


@dataclass(frozen=True)
class Tenant:
    """A user of a project, and a token of it."""

    keystone: Keystone
    project_id: str
    user_id: str
    token: str

    def give(self, role: str) -> None:
        """Give the user one more role in the project."""
        self._role("PUT", role)

    def take(self, role: str) -> None:
        """Take a role away."""
        self._role("DELETE", role)

    def another_token(self, **scope: Any) -> str:
        """One more token of the user, of the project or another scope."""
        return log_in(self.keystone, self.user_id, **(scope or {"project": {"id": self.project_id}}))

    def credential_token(self, **more: Any) -> str:
        """A token of a new application credential of the user, such as one with `access_rules`."""
        wanted = {"application_credential": {"name": secrets.token_hex(4), **more}}
        where = f"{self.keystone.url}/users/{self.user_id}/application_credentials"
        answer = httpx.post(where, json=wanted, headers={"X-Auth-Token": self.token}, timeout=60)
        answer.raise_for_status()
        made = answer.json()["application_credential"]
        credential = {"id": made["id"], "secret": made["secret"]}
        asked = {"identity": {"methods": ["application_credential"], "application_credential": credential}}
        answer = httpx.post(f"{self.keystone.url}/auth/tokens", json={"auth": asked}, timeout=60)
        answer.raise_for_status()
        return str(answer.headers["X-Subject-Token"])

    def trusted_token(self, seconds: float) -> str:
        """A token by which the administrator acts as the user, and which ends after some seconds."""
        admin = self.keystone.client.get(f"{self.keystone.url}/users", params={"name": self.keystone.username})
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        trust = {
            "trustor_user_id": self.user_id,
            "trustee_user_id": admin.json()["users"][0]["id"],
            "project_id": self.project_id,
            "impersonation": True,
            "roles": [{"name": "member"}],
            "expires_at": f"{ends:%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        answer = httpx.post(
            f"{self.keystone.url}/OS-TRUST/trusts",
            json={"trust": trust},
            headers={"X-Auth-Token": self.another_token()},
            timeout=60,
        )
        answer.raise_for_status()
        scope = {"OS-TRUST:trust": {"id": answer.json()["trust"]["id"]}}
        account = {"name": self.keystone.username, "domain": {"id": "default"}, "password": self.keystone.password}
        identity = {"methods": ["password"], "password": {"user": account}}
        asked = {"auth": {"identity": identity, "scope": scope}}
        answer = httpx.post(f"{self.keystone.url}/auth/tokens", json=asked, timeout=60)
        answer.raise_for_status()
        return str(answer.headers["X-Subject-Token"])

    def revoke(self, token: str) -> None:
        """End a token before its time."""
        answer = httpx.delete(
            f"{self.keystone.url}/auth/tokens", headers={"X-Auth-Token": token, "X-Subject-Token": token}, timeout=60
        )
        assert answer.status_code == 204, answer.text

    def _role(self, method: str, role: str) -> None:
        where = f"{self.keystone.url}/projects/{self.project_id}/users/{self.user_id}/roles"
        self.keystone.client.request(method, f"{where}/{role_id(self.keystone, role)}").raise_for_status()


def tenant(keystone: Keystone, role: str = "member", project_id: str | None = None) -> Tenant:
    """A new user with a role in a project, a new one unless it is given."""
    name = f"tenant-{secrets.token_hex(4)}"
    project = project_id or keystone.make("project", name=name, domain_id="default")
    user = keystone.make("user", name=name, domain_id="default", password=PASSWORD)
    where = f"{keystone.url}/projects/{project}/users/{user}/roles/{role_id(keystone, role)}"
    keystone.client.put(where).raise_for_status()
    return Tenant(keystone, project, user, log_in(keystone, user, project={"id": project}))


def role_id(keystone: Keystone, name: str) -> str:
    """The id of a role."""
    roles = keystone.client.get(f"{keystone.url}/roles", params={"name": name}).json()["roles"]
    return str(roles[0]["id"])


def log_in(keystone: Keystone, user_id: str, **scope: Any) -> str:
    """A token of a user, of a scope such as `project={"id": …}`; without one, unscoped."""
    user = {"user": {"id": user_id, "password": PASSWORD}}
    asked: dict[str, Any] = {"identity": {"methods": ["password"], "password": user}, "scope": scope or "unscoped"}
    answer = httpx.post(f"{keystone.url}/auth/tokens", json={"auth": asked}, timeout=60)
    answer.raise_for_status()
    return str(answer.headers["X-Subject-Token"])
