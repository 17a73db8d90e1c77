"""Sites that are polled by real members, which a test may kill; and the count of what they polled."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import yaml
from builders import rows
from command_line import PROGRAM
from sqlalchemy import select

from meterhouse.collection.following import follow
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import poll_members, poll_tasks

Point = tuple[str, datetime]
"""A resource and the start of a slot."""


@dataclass
class Polled:
    """What is in the lake and in the record after members have polled.

    Attributes:
        points: how often each resource was landed for each slot.
        missed: reasons, by source and slot.
        done: the owners of each source's slots that are done.
        members: who polled what is landed, by source and slot.
        received: when the samples of each source and slot were received.
        ahead: by how many seconds each member's clock was ahead.
    """

    points: Counter[Point] = field(default_factory=Counter)
    missed: dict[Point, str] = field(default_factory=dict)
    done: dict[Point, str] = field(default_factory=dict)
    members: dict[Point, str] = field(default_factory=dict)
    received: dict[Point, datetime] = field(default_factory=dict)
    ahead: dict[str, float] = field(default_factory=dict)


class PolledSite:
    """A site whose sources are lists of the server of JSON lists, each polled every `interval` seconds.

    Args:
        home: its folder.
        name: what its lists are called, different from those of other sites.
        json_url: the server of lists.
        sources: how many.
        interval: seconds.
        settings: of the members.
    """

    RESOURCES = 5

    def __init__(
        self, home: Path, name: str, json_url: str, *, sources: int, interval: int, settings: Mapping[str, Any]
    ) -> None:
        self.home, self.interval = home, interval
        self.lists = [f"{name}-{number}" for number in range(sources)]
        self.environment = {f"METERHOUSE_{key.upper()}": str(value) for key, value in settings.items()}
        self.environment |= {"METERHOUSE_HOME": str(home), "METERHOUSE_CONFIG_DIR": str(home / "config")}
        self.members: list[subprocess.Popen[bytes]] = []
        (home / "config/pollsters.d").mkdir(parents=True)
        listed = [
            {"name": each, "interval": interval, "meters": ["volume.size"], "resources": [f"{json_url}/lists/{each}"]}
            for each in self.lists
        ]
        (home / "config/polling.yaml").write_text(yaml.safe_dump({"sources": listed}))
        pollster = {
            "name": "volume.size",
            "sample_type": "gauge",
            "unit": "GB",
            "endpoint_type": "lists",
            "url_path": f"{self.RESOURCES}?bare=1",
            "value_attribute": "value",
            "resource_id_attribute": "id",
            "project_id_attribute": "project_id",
            "user_id_attribute": "user_id",
            "metadata_fields": ["name", "status"],
        }
        (home / "config/pollsters.d/volumes.yaml").write_text(yaml.safe_dump([pollster]))

    @cached_property
    def site(self) -> Site:
        """The site, for a test that reads it."""
        how = {key.removeprefix("METERHOUSE_").lower(): value for key, value in self.environment.items()}
        return Site.open(read_settings(**how))

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a member."""
        with (self.home / "members.log").open("ab") as log:
            member = subprocess.Popen(
                [PROGRAM, "poll", "--follow"],
                env={**os.environ, **self.environment, **environment},
                stdout=log,
                stderr=log,
            )
        self.members.append(member)
        return member

    def stop(self, *members: subprocess.Popen[bytes]) -> None:
        """Ask members to end, all if none are named, and wait until they have."""
        asked = members or tuple(self.members)
        for member in asked:
            member.send_signal(signal.SIGTERM)
        for member in asked:
            assert member.wait(60) in (0, -signal.SIGKILL), self.log()

    def kill(self) -> None:
        """Kill what still runs."""
        for member in self.members:
            with contextlib.suppress(ProcessLookupError):
                member.kill()
            member.wait()
        self.site.warehouse.engine.dispose()

    def log(self) -> str:
        """What the members have logged."""
        return (self.home / "members.log").read_text()

    def polled(self, until: datetime) -> bool:
        """Whether each source has been polled for a slot that begins at a time or later."""
        newest = {row["source"]: row["slot_at"] for row in self.tasks() if row["state"] == "done"}
        return all(newest.get(each, datetime.min.replace(tzinfo=UTC)) >= until for each in self.lists)

    def has_polled(self, member: subprocess.Popen[bytes]) -> bool:
        """Whether a member has polled something."""
        return any(task["state"] == "done" and f":{member.pid}:" in task["owner"] for task in self.tasks())

    def poll(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Poll what is due, once."""
        environment = {**os.environ, **self.environment}
        return subprocess.run([PROGRAM, "poll", *arguments], env=environment, capture_output=True, text=True)

    def tasks(self) -> list[dict[str, Any]]:
        """The record's tasks, by slot."""
        with self.site.warehouse.read() as connection:
            return [dict(row) for row in connection.execute(select(poll_tasks).order_by("slot_at")).mappings()]

    def close_slots(self) -> None:
        """Wait until the slots of the past are over, and let a last member record what they came to."""
        time.sleep(self.interval)
        assert self.poll().returncode == 0

    def count(self) -> Polled:
        """What was landed, converted and recorded."""
        site, found = self.site, Polled()
        follow(site, wait_seconds=30)
        landed: Counter[Point] = Counter()
        for row in rows(site, "notifications"):
            payload = orjson.loads(row["body"])["payload"]
            slot = payload["slot"]
            key = (slot["source"], datetime.fromisoformat(slot["start"]))
            if not payload["samples"]:
                continue
            found.members[key] = slot["member"]
            for sample in payload["samples"]:
                found.points[sample["resource_id"], key[1]] += 1
                received = datetime.fromisoformat(sample["timestamp"]).replace(tzinfo=UTC)
                landed[sample["resource_id"], received] += 1
            found.received[key] = received
        for row in self.tasks():
            for number in range(row["slots"]):
                key = (row["source"], row["slot_at"] + number * timedelta(seconds=self.interval))
                if row["state"] == "missed":
                    found.missed[key] = row["error"]
                elif row["state"] == "done":
                    found.done[key] = row["owner"]
        with site.warehouse.read() as connection:
            members = connection.execute(select(poll_members.c.member, poll_members.c.clock_ahead_seconds))
            found.ahead = {row.member: row.clock_ahead_seconds for row in members}
        assert Counter((row["resource_id"], row["timestamp"]) for row in rows(site, "samples")) == landed
        return found
