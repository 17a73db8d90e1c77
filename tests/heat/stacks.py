"""Stacks of a real Heat: a scaling group, a policy that adds a member to it, and one that removes a member."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from services import Keystone

END_SECONDS = 120.0
"""Time that Heat has for a change; on a busy machine, seconds become minutes."""

ROLES = ("member", "heat_stack_owner")
"""The roles of an owner of stacks."""

MOST = 5
"""The largest size of the group."""


@dataclass(frozen=True)
class Event:
    """What Heat tells of a stack.

    Attributes:
        time: to the second, UTC.
        part: `up`, `down`, `group` or `member`; another resource's name.
        status: such as `UPDATE_COMPLETE`.
    """

    time: datetime
    part: str
    status: str


@dataclass(frozen=True)
class Owner:
    """A user who owns stacks in a project of their own.

    Attributes:
        client: sends the user's token.
        keystone_url: Keystone's URL, with the version.
        project: the project's id.
        user: the user's id.
    """

    client: httpx.Client
    keystone_url: str
    project: str
    user: str

    def trust(self, trustee: str) -> str:
        """Let another user act as this one; return the trust's id."""
        given = {"trustor_user_id": self.user, "trustee_user_id": trustee, "project_id": self.project}
        asked = {"trust": {**given, "impersonation": True, "roles": [{"name": ROLES[0]}]}}
        answer = self.client.post(f"{self.keystone_url}/OS-TRUST/trusts", json=asked)
        answer.raise_for_status()
        return str(answer.json()["trust"]["id"])

    @contextlib.contextmanager
    def application_credential(self) -> Iterator[str]:
        """Id and secret of an application credential, joined by a colon. Its roles would survive the user in SQLite."""
        asked = {"application_credential": {"name": "alarms", "roles": [{"name": ROLES[0]}]}}
        url = f"{self.keystone_url}/users/{self.user}/application_credentials"
        answer = self.client.post(url, json=asked)
        answer.raise_for_status()
        made = answer.json()["application_credential"]
        yield f"{made['id']}:{made['secret']}"
        self.client.delete(f"{url}/{made['id']}").raise_for_status()


class Stack:
    """A stack with a scaling group that begins with one member.

    Attributes:
        stack_id: its id, which the members of a real group have in their metadata.
        project: the project that owns it.
        up: the pre-signed URL that adds a member.
        down: the pre-signed URL that removes one.
        up_with_token: the URL that adds a member if the request has a token.
    """

    def __init__(self, owner: Owner, heat_url: str, *, cooldown: int, more: dict[str, Any] | None = None) -> None:
        self._client, self.project = owner.client, owner.project
        self._name = f"test-{uuid.uuid4().hex[:8]}"
        self._cooldown = cooldown
        asked = {"stack_name": self._name, "template": _template(cooldown, more or {})}
        answer = self._client.post(f"{heat_url}/{self.project}/stacks", json=asked)
        answer.raise_for_status()
        self.stack_id = str(answer.json()["stack"]["id"])
        self._url = f"{heat_url}/{self.project}/stacks/{self._name}/{self.stack_id}"
        self._await("CREATE_COMPLETE")
        outputs = self._outputs()
        self.up, self.down, self.up_with_token = (str(outputs[key]) for key in ("up", "down", "up_with_token"))

    @property
    def members(self) -> list[str]:
        """The members of the group."""
        return list(self._outputs()["members"])

    @property
    def size(self) -> int:
        """The size of the group, as Heat's API tells."""
        return int(self._outputs()["size"])

    @property
    def events(self) -> list[Event]:
        """What happened to the stack, its group and the group's members, in order."""
        answer = self._client.get(f"{self._url}/events", params={"nested_depth": 2, "sort_dir": "asc"})
        answer.raise_for_status()
        return [
            Event(
                datetime.fromisoformat(each["event_time"]).astimezone(UTC),
                self._part(each["resource_name"]),
                each["resource_status"],
            )
            for each in answer.json()["events"]
        ]

    def _part(self, resource: str) -> str:
        """A part's name without what is random: the group is a stack of its own, and a member is named at random."""
        if resource.startswith(f"{self._name}-group-"):
            return "group"
        return resource if resource in (self._name, "group", "up", "down") else "member"

    def change(self, more: dict[str, Any]) -> None:
        """Give it other resources beside those of the group, and wait until Heat has changed it."""
        asked = {"template": _template(self._cooldown, more)}
        self._client.put(self._url, json=asked).raise_for_status()
        self._await("UPDATE_COMPLETE")

    def act(self, action: str) -> None:
        """Let Heat `suspend` or `resume` it, and wait until it has."""
        self._client.post(f"{self._url}/actions", json={action: None}).raise_for_status()
        self._await(f"{action.upper()}_COMPLETE")

    def resources(self) -> dict[str, str]:
        """The resources' physical ids, by name."""
        answer = self._client.get(f"{self._url}/resources")
        answer.raise_for_status()
        return {each["resource_name"]: each["physical_resource_id"] for each in answer.json()["resources"]}

    def delete(self) -> None:
        """Delete it, and wait until it is gone."""
        self._client.delete(self._url).raise_for_status()
        self._await("DELETE_COMPLETE")

    def _outputs(self) -> dict[str, Any]:
        return {each["output_key"]: each["output_value"] for each in self._shown()["outputs"]}

    def _shown(self) -> dict[str, Any]:
        answer = self._client.get(self._url)
        answer.raise_for_status()
        return dict(answer.json()["stack"])

    def _await(self, status: str) -> None:
        end = time.monotonic() + END_SECONDS
        while (shown := self._shown())["stack_status"] != status:
            assert not shown["stack_status"].endswith("FAILED"), shown["stack_status_reason"]
            assert time.monotonic() < end, shown["stack_status"]
            time.sleep(0.5)


@contextlib.contextmanager
def owner(keystone: Keystone) -> Iterator[Owner]:
    """A new user in a new project."""
    name, password = f"scaled-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    project = keystone.make("project", name=name, domain_id="default")
    user = keystone.make("user", name=name, password=password, domain_id="default")
    for role in keystone.client.get(f"{keystone.url}/roles").json()["roles"]:
        if role["name"] in ROLES:
            path = f"projects/{project}/users/{user}/roles/{role['id']}"
            keystone.client.put(f"{keystone.url}/{path}").raise_for_status()
    identity = {"methods": ["password"], "password": {"user": {"id": user, "password": password}}}
    asked = {"auth": {"identity": identity, "scope": {"project": {"id": project}}}}
    answer = keystone.client.post(f"{keystone.url}/auth/tokens", json=asked)
    answer.raise_for_status()
    with httpx.Client(timeout=60, headers={"X-Auth-Token": answer.headers["X-Subject-Token"]}) as client:
        yield Owner(client, keystone.url, project, user)
    keystone.delete("user", user)
    keystone.delete("project", project)


def _template(cooldown: int, more: dict[str, Any]) -> dict[str, Any]:
    member = {"type": "OS::Heat::RandomString", "properties": {"length": 8}}
    sizes = {"min_size": 1, "max_size": MOST, "desired_capacity": 1}

    def policy(change: int) -> dict[str, Any]:
        adjustment = {"adjustment_type": "change_in_capacity", "scaling_adjustment": change, "cooldown": cooldown}
        group = {"auto_scaling_group_id": {"get_resource": "group"}}
        return {"type": "OS::Heat::ScalingPolicy", "properties": {**adjustment, **group}}

    def output(resource: str, attribute: str) -> dict[str, Any]:
        return {"value": {"get_attr": [resource, attribute]}}

    return {
        "heat_template_version": "2021-04-16",
        "resources": {
            "group": {"type": "OS::Heat::AutoScalingGroup", "properties": {**sizes, "resource": member}},
            "up": policy(+1),
            "down": policy(-1),
            **more,
        },
        "outputs": {
            "size": output("group", "current_size"),
            "members": output("group", "refs"),
            "up": output("up", "alarm_url"),
            "up_with_token": output("up", "signal_url"),
            "down": output("down", "alarm_url"),
        },
    }
