"""A simulated month of a cloud: what was there, known to the microsecond, and every message that its services sent.

Each resource has its own life, made from the seed and its number alone, so that a smaller cloud has a part of the
lives of a larger one. Instances are created, resized (confirmed or reverted), migrated (live, cold, failed), shelved,
offloaded, unshelved, suspended, paused, stopped, rescued, rebuilt, deleted, soft-deleted and restored; some are never
built. Volumes are attached, extended, retyped, transferred; snapshots, images and floating IPs come and go.

The truth, which the tests compare with:

- An instance exists from its first launch (`launched_at`) until `deleted_at`. One that was never launched does not.
- A volume, snapshot or floating IP exists from the end of its creation until the end of its deletion, an image from its
  upload until `deleted_at`.
- What changes, changes at the end of the operation (`….end`), whatever the messages before it already say.
"""

import random
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import simulated_messages as forms
from simulated_messages import DAY, HOUR, MINUTE, SECOND, Flavor, Message, Recorded, Shape

from meterhouse import times

FLAVORS = (
    Flavor("1", "m1.tiny", 1, 512, 1),
    Flavor("2", "m1.small", 1, 2048, 20),
    Flavor("3", "m1.medium", 2, 4096, 40),
    Flavor("4", "m1.large", 4, 8192, 80),
    Flavor("5", "m1.xlarge", 8, 16384, 160, 40),
)
VOLUME_TYPES = (Flavor("11", "standard"), Flavor("12", "fast"))
ZONES = ("az-1", "az-2")
VERIFY = "meterhouse-verify"
"""The source of what Meterhouse's functional suite sends."""


@dataclass(frozen=True)
class Plan:
    """How large the cloud is, and what its services are set up to send.

    Args:
        seed: of the random numbers.
        instances, volumes, addresses, images, snapshots, projects: how many. By default a twentieth of the large month.
        month: its first day.
        audit_hours: the length of the audits' periods; 0 for none.
        poll_minutes: the step of the polls; 0 for none.
        nova: which notifications Nova sends: "unversioned", "versioned" or "both".
        updates: whether Nova notifies of each change of state (`notify_on_state_change`).
        ahead: host → by how many microseconds its clock is ahead.
        before: how long before the month the oldest resources were created, in microseconds.
        lead: how much of the time before and after the month audits and polls cover, in microseconds.
    """

    seed: int = 13
    instances: int = 100
    volumes: int = 150
    addresses: int = 20
    images: int = 10
    snapshots: int = 20
    projects: int = 5
    month: datetime = datetime(2026, 10, 1, tzinfo=UTC)
    audit_hours: int = 24
    poll_minutes: int = 60
    nova: str = "unversioned"
    updates: bool = False
    ahead: Mapping[str, int] = field(default_factory=dict)
    before: int = 60 * DAY
    lead: int = DAY

    @property
    def start(self) -> int:
        """The first instant of the month."""
        return times.micros(self.month)

    @property
    def end(self) -> int:
        """The first instant after the month."""
        following = (self.month.replace(day=28) + times.DAY * 4).replace(day=1)
        return times.micros(following)

    def project(self, number: int) -> str:
        return f"{number % self.projects:04x}{forms.hash_of('project', str(number % self.projects)):056x}"[:32]

    @property
    def hosts(self) -> list[str]:
        return [f"node-{number:03}" for number in range(max(3, self.instances // 40))]


LARGE = {"instances": 2000, "volumes": 3000, "addresses": 400, "images": 100, "snapshots": 300, "projects": 100}
"""The month of the issue."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of time in which a resource was the same; `ended_at` is None if it goes on."""

    resource_type: str
    resource_id: str
    started_at: int
    ended_at: int | None
    shape: Shape


class Life:
    """The life of one resource: its history, and the messages about it."""

    kind = ""
    service = ""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.rng = random.Random(f"{plan.seed}/{self.kind}/{number}")
        self.id = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        self.messages: list[Message] = []
        self.history: list[tuple[int, Shape | None]] = []
        self.owner = self.rng.randrange(plan.projects)
        self.recorded = Recorded(0)
        self.places: list[tuple[int, Recorded]] = []
        self.hosts_seen: set[str] = set()
        self.born, self.dies = self._span()

    def _span(self) -> tuple[int, int | None]:
        """When its creation and its deletion begin: before, in or after the month."""
        plan, rng = self.plan, self.rng
        chance = rng.random()
        if chance < 0.4:
            born = plan.start - rng.randrange(2 * HOUR // SECOND, plan.before // SECOND) * SECOND
        elif chance < 0.97:
            born = plan.start + rng.randrange((plan.end - plan.start) // SECOND) * SECOND
        else:
            born = plan.end + rng.randrange(HOUR // SECOND) * SECOND
        if rng.random() < 0.4:
            return born, None
        short = rng.random() < 0.2
        length = rng.randrange(5 * 60, 3 * 3600) if short else rng.randrange(3600, 40 * 86_400)
        return born, born + length * SECOND

    # -- what it is ----------------------------------------------------------------------------------------------

    def become(self, at: int, shape: Shape | None) -> None:
        """From now on it is this; None: it is no more."""
        assert not self.history or at >= self.history[-1][0]
        if not self.history or self.history[-1][1] != shape:
            self.history.append((at, shape))

    def record(self, at: int, **changes: int) -> None:
        """Change the times in its service's database."""
        self.recorded = replace(self.recorded, **changes)
        self.places.append((at, self.recorded))

    def at(self, moment: int) -> Shape | None:
        """What it was at a moment."""
        place = bisect_right(self.history, moment, key=lambda entry: entry[0])
        return self.history[place - 1][1] if place else None

    def recorded_at(self, moment: int) -> Recorded:
        """The times in its service's database at a moment."""
        place = bisect_right(self.places, moment, key=lambda entry: entry[0])
        return self.places[place - 1][1] if place else Recorded(0)

    @property
    def stretches(self) -> list[Stretch]:
        found = []
        for number, (begun, shape) in enumerate(self.history):
            ended = self.history[number + 1][0] if number + 1 < len(self.history) else None
            if shape is not None and ended != begun:
                found.append(Stretch(self.kind, self.id, begun, ended, shape))
        return found

    # -- what is said about it -----------------------------------------------------------------------------------

    def new_id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def send(
        self, at: int, event_type: str, payload: Any, publisher: str, host: str, shape: Shape | None, **more: Any
    ) -> None:
        """Send a notification; the clock of its host says what time it is."""
        kind = more.pop("kind", "event")
        message_id = self.new_id()
        line = forms.body(event_type, message_id, publisher, at + self.plan.ahead.get(host, 0), payload, **more)
        self.messages.append(Message(at, kind, self.service, host, self.id, event_type, shape, message_id, line))


class Instance(Life):
    """A Nova instance."""

    kind, service = "instance", "nova"

    def __init__(self, plan: Plan, number: int) -> None:
        super().__init__(plan, number)
        rng = self.rng
        host = rng.choice(plan.hosts)
        self.now = Shape(
            project=plan.project(self.owner),
            user=f"user-{self.owner}-{rng.randrange(3)}",
            name=f"vm-{number}",
            state="building",
            flavor=rng.choice(FLAVORS),
            host=host,
            zone=self.zone_of(host),
            image=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        )
        self._live()

    def zone_of(self, host: str) -> str:
        return ZONES[int(host.rpartition("-")[2]) % 2]

    def other_host(self) -> str:
        return self.rng.choice([host for host in self.plan.hosts if host != self.now.host])

    def clock(self, at: int, host: str | None) -> int:
        """What the clock of a host shows."""
        return at + self.plan.ahead.get(host or "", 0)

    def say(self, at: int, operation: str, phase: str = "", host: str | None = None, **more: Any) -> None:
        """Send a notification of Nova's about itself as it is now, from its own host or another."""
        publisher = host or self.now.host or self.plan.hosts[0]
        self.hosts_seen.add(publisher)
        kind = {"kind": more.pop("kind", "event"), "priority": "ERROR" if phase == "error" else "INFO"}
        shape = more.pop("shape", self.now)
        recorded = more.pop("recorded", self.recorded)
        truth = None if shape.state in ("deleted", "building") else shape
        if self.plan.nova != "versioned":
            event, payload = forms.nova_event(operation, phase), forms.nova(self.id, shape, recorded, **more)
            self.send(at, event, payload, f"compute.{publisher}", publisher, truth, **kind)
        if self.plan.nova != "unversioned":
            event = forms.nova_versioned_event(operation, phase)
            payload = forms.nova_versioned(self.id, shape, recorded, **more)
            self.send(at, event, payload, f"nova-compute:{publisher}", publisher, truth, **kind)

    def _becomes(self, at: int, operation: str, publisher: str | None, **changes: Any) -> None:
        """Become something else, of which a host notifies at the operation's end."""
        before = self.now.state
        self.now = replace(self.now, **changes)
        self.become(at, self.now)
        if self.plan.updates:
            self.say(at, "update", host=publisher, old_state=before, old_task_state=operation, new_task_state=None)
        self.say(at, operation, "end", host=publisher)

    def audit_now(self, at: int) -> None:
        """The audit that Nova sends before a rebuild, a resize or a deletion: of the running period, until now."""
        if self.plan.audit_hours:
            period = self.plan.audit_hours * HOUR
            begun = at // period * period
            ends = forms.stamp(self.clock(at, self.now.host))
            more = {"audit_period_beginning": forms.seconds(begun), "audit_period_ending": ends, "bandwidth": {}}
            self.say(at, "exists", kind="audit", **more)

    def _live(self) -> None:
        rng, at = self.rng, self.born
        self.record(at, created_at=at)
        self.say(at + SECOND, "create", "start")
        fate = rng.random()
        if fate < 0.02:  # never built
            self.now = replace(self.now, state="error")
            never = replace(self.now, state="building")
            self.say(at + 30 * SECOND, "create", "error" if fate < 0.01 else "end", shape=never)
            self._delete(at + 30 * SECOND + 5 * MINUTE)
            return
        at += rng.randrange(5, 60) * SECOND
        self.record(at, launched_at=self.clock(at, self.now.host))
        self.now = replace(self.now, state="active")
        self.become(at, self.now)
        self.say(at + 400_000, "create", "end")
        horizon = min(self.dies or self.plan.end + DAY, self.plan.end + DAY)
        at += 10 * MINUTE
        while at < horizon - 30 * MINUTE:
            operations = self.OPERATIONS[self.now.state]
            step = rng.choice((20 * MINUTE, 3 * HOUR, 3 * DAY, 9 * DAY))
            at += rng.randrange(step // SECOND) * SECOND + MINUTE
            if at >= horizon - 30 * MINUTE:
                break
            at = rng.choice(operations)(self, at)
        if self.dies is not None:
            self._delete(max(self.dies, at + MINUTE))

    def _delete(self, at: int) -> None:
        recorded = self.recorded
        if self.now.host:
            self.audit_now(at)
        self.say(at + SECOND, "delete", "start")
        if self.now.host:
            self.say(at + SECOND + 300_000, "shutdown", "start")
            self.say(at + 3 * SECOND, "shutdown", "end")
        gone = at + 4 * SECOND
        self.record(gone, deleted_at=self.clock(gone, self.now.host))
        if recorded.launched_at:
            self.become(gone, None)
        self.now = replace(self.now, state="deleted")
        self.say(gone + 300_000, "delete", "end")

    # -- operations: each begins at a time and returns when it is over

    def _simple(self, at: int, operation: str, state: str) -> int:
        end = at + self.rng.randrange(2, 40) * SECOND
        self.say(at, operation, "start")
        self._becomes(end, operation, self.now.host, state=state)
        return end

    def stop(self, at: int) -> int:
        return self._simple(at, "power_off", "stopped")

    def start(self, at: int) -> int:
        return self._simple(at, "power_on", "active")

    def suspend(self, at: int) -> int:
        return self._simple(at, "suspend", "suspended")

    def resume(self, at: int) -> int:
        return self._simple(at, "resume", "active")

    def pause(self, at: int) -> int:
        return self._simple(at, "pause", "paused")

    def unpause(self, at: int) -> int:
        return self._simple(at, "unpause", "active")

    def reboot(self, at: int) -> int:
        return self._simple(at, "reboot", "active")

    def snapshot(self, at: int) -> int:
        return self._simple(at, "snapshot", "active")

    def unrescue(self, at: int) -> int:
        return self._simple(at, "unrescue", "active")

    def soft_delete(self, at: int) -> int:
        return self._simple(at, "soft_delete", "soft-delete")

    def restore(self, at: int) -> int:
        return self._simple(at, "restore", "active")

    def _relaunch(self, at: int) -> None:
        """Nova renews `launched_at` at the end of a resize, a rescue, a rebuild and an unshelving."""
        self.record(at, launched_at=self.clock(at, self.now.host))

    def rescue(self, at: int) -> int:
        end = at + self.rng.randrange(5, 40) * SECOND
        self.say(at, "rescue", "start")
        self._relaunch(end)
        self._becomes(end, "rescue", self.now.host, state="rescued")
        return end

    def rebuild(self, at: int) -> int:
        self.audit_now(at)
        self.say(at + SECOND, "rebuild", "start")
        end = at + self.rng.randrange(10, 90) * SECOND
        self._relaunch(end)
        self._becomes(end, "rebuild", self.now.host, image=str(uuid.UUID(int=self.rng.getrandbits(128), version=4)))
        return end

    def shelve(self, at: int) -> int:
        self.say(at, "shelve", "start")
        at += self.rng.randrange(5, 90) * SECOND
        self._becomes(at, "shelve", self.now.host, state="shelved")
        if self.rng.random() < 0.3:
            return at
        at += self.rng.choice((SECOND, HOUR))
        return self.offload(at)

    def offload(self, at: int) -> int:
        host = self.now.host
        self.say(at, "shelve_offload", "start")
        at += 3 * SECOND
        self._becomes(at, "shelve_offload", host, state="shelved_offloaded", host=None)
        return at

    def unshelve(self, at: int) -> int:
        host = self.now.host or self.other_host()
        self.say(at, "unshelve", "start", host=host)
        at += self.rng.randrange(5, 90) * SECOND
        self.now = replace(self.now, host=host)
        self._relaunch(at)
        self._becomes(at, "unshelve", host, state="active", zone=self.zone_of(host))
        return at

    def resize(self, at: int) -> int:
        flavor = self.rng.choice([other for other in FLAVORS if other != self.now.flavor])
        return self._resize(at, flavor)

    def migrate_cold(self, at: int) -> int:
        flavor = self.now.flavor
        assert flavor is not None
        return self._resize(at, flavor)

    def _resize(self, at: int, flavor: Flavor) -> int:
        rng, source, target = self.rng, self.now.host, self.other_host()
        before = self.now
        self.audit_now(at)
        self.say(at + SECOND, "resize.prep", "start", host=target)
        self.say(at + 2 * SECOND, "resize.prep", "end", host=target)
        self.say(at + 3 * SECOND, "resize", "start", host=source)
        at += rng.randrange(10, 900) * SECOND
        self.say(at, "resize", "end", host=source)
        arriving = replace(before, flavor=flavor, host=target, zone=self.zone_of(target))
        self.say(at + SECOND, "finish_resize", "start", host=target, shape=arriving)
        at += rng.randrange(3, 60) * SECOND
        self.now = arriving
        self._relaunch(at)
        self._becomes(at, "finish_resize", target, state="resized")
        waits = rng.choice((MINUTE, HOUR, DAY))
        at += rng.randrange(30, waits // SECOND) * SECOND
        if rng.random() < 0.7:
            self.say(at, "resize.confirm", "start", host=source)
            at += rng.randrange(2, 20) * SECOND
            self._becomes(at, "resize.confirm", source, state="active")
        else:
            self.say(at, "resize.revert", "start", host=target)
            at += rng.randrange(5, 60) * SECOND
            self.now = replace(before, state="resized")
            self._relaunch(at)
            self._becomes(at, "resize.revert", source, state="active")
        return at

    def migrate_live(self, at: int) -> int:
        source, target = self.now.host, self.other_host()
        self.say(at, "live_migration.pre", "start", host=target)
        self.say(at + SECOND, "live_migration.pre", "end", host=target)
        at += self.rng.randrange(10, 120) * SECOND
        before = self.now
        self.say(at, "live_migration._post", "start", host=source)
        self.say(at + SECOND, "live_migration.post.dest", "start", host=target)
        at += 3 * SECOND
        self.now = replace(self.now, host=target, zone=self.zone_of(target))
        self._becomes(at, "live_migration.post.dest", target)
        # the source still has what it read before
        self.say(at + 2 * SECOND, "live_migration._post", "end", host=source, shape=before)
        return at + 2 * SECOND

    def migrate_in_vain(self, at: int) -> int:
        target = self.other_host()
        self.say(at, "live_migration.pre", "start", host=target)
        self.say(at + SECOND, "live_migration.pre", "end", host=target)
        self.say(at + 20 * SECOND, "live_migration.rollback.dest", "start", host=target)
        self.say(at + 21 * SECOND, "live_migration.rollback.dest", "end", host=target)
        return at + 21 * SECOND

    OPERATIONS: Mapping[str, tuple[Callable[["Instance", int], int], ...]] = {
        "active": (
            *(stop, stop, suspend, pause, reboot, snapshot, rescue, rebuild, shelve, soft_delete),
            *(resize, resize, resize, migrate_cold, migrate_live, migrate_live, migrate_in_vain),
        ),
        "stopped": (start,),
        "suspended": (resume,),
        "paused": (unpause,),
        "rescued": (unrescue,),
        "shelved": (offload, unshelve),
        "shelved_offloaded": (unshelve,),
        "soft-delete": (restore,),
    }

    # -- witnesses

    def audited(self, begun: int, ended: int, at: int) -> None:
        """Send the audit of a period, if its host has it or had it when it was deleted in the period."""
        recorded = self.recorded_at(at)
        deleted = recorded.deleted_at
        if not recorded.launched_at or self.history[0][0] > at or (deleted and deleted <= begun):
            return
        shape = self.at(at) or replace(self._last(), state="deleted")
        if shape.host is None:
            return
        more = {"audit_period_beginning": forms.seconds(begun), "audit_period_ending": forms.seconds(ended)}
        self.say(
            at - self.plan.ahead.get(shape.host, 0),
            *("exists", "", shape.host),
            **{"kind": "audit", "shape": shape, "recorded": recorded, "bandwidth": {}, **more},
        )

    def _last(self) -> Shape:
        return next(shape for _, shape in reversed(self.history) if shape is not None)

    def polled(self, shape: Shape) -> list[tuple[str, str]]:
        """The meters of a poll, and their samples without volume, time and id."""
        if shape.state not in forms.POLLED_STATES:
            return []
        metadata = forms.polled_instance(self.id, shape)
        # Of a domain that is shut off, the agent knows no processor time.
        off = shape.state in ("stopped", "shelved")
        meters = [("vcpus", "gauge", "vcpu"), *([] if off else [("cpu", "cumulative", "ns")])]
        return [
            (meter[0], forms.sample(*meter, self.id, shape.project, shape.user, metadata, "openstack"))
            for meter in meters
        ]

    def volume_of(self, meter: str, shape: Shape, at: int) -> float:
        assert shape.flavor is not None
        return shape.flavor.vcpus if meter == "vcpus" else 250_000_000 * ((at - self.born) // SECOND)


class Volume(Life):
    """A Cinder volume."""

    kind, service = "volume", "cinder"

    def __init__(self, plan: Plan, number: int) -> None:
        super().__init__(plan, number)
        rng = self.rng
        flavor = rng.choice(VOLUME_TYPES)
        self.now = Shape(
            project=plan.project(self.owner),
            user=f"user-{self.owner}-{rng.randrange(3)}",
            name=f"disk-{number}",
            state="available",
            flavor=flavor,
            host=f"cinder-01@{flavor.name}#{flavor.name}",
            zone=rng.choice(ZONES),
            size_gib=float(rng.choice((1, 5, 10, 50, 100, 500))),
        )
        self._live()

    def say(self, at: int, operation: str, **more: Any) -> None:
        kind = {"kind": more.pop("kind", "event")}
        shape, recorded = more.pop("shape", self.now), more.pop("recorded", self.recorded)
        truth = None if shape.state in ("creating", "deleted") else shape
        payload = forms.volume(self.id, shape, recorded, **more)
        self.send(at, f"volume.{operation}", payload, f"volume.{shape.host}", "cinder-01", truth, **kind)

    def _live(self) -> None:
        rng, at = self.rng, self.born
        self.record(at, created_at=at)
        self.say(at, "create.start", shape=replace(self.now, state="creating"))
        at += 2 * SECOND
        self.record(at, created_at=at, launched_at=at)
        self.become(at, self.now)
        self.say(at, "create.end")
        horizon = min(self.dies or self.plan.end + DAY, self.plan.end + DAY)
        at += 10 * MINUTE
        while True:
            at += rng.randrange(rng.choice((HOUR, 2 * DAY, 12 * DAY)) // SECOND) * SECOND + MINUTE
            if at >= horizon - 30 * MINUTE:
                break
            at = rng.choice(self.OPERATIONS[self.now.state])(self, at)
        if self.dies is not None:
            at = max(self.dies, at - 20 * MINUTE, self.history[-1][0] + MINUTE)
            self.say(at, "delete.start", status="deleting")
            self.become(at + 2 * SECOND, None)
            self.record(at + 2 * SECOND, deleted_at=at + 2 * SECOND)
            self.say(at + 2 * SECOND, "delete.end", status="deleting")
            self.messages[-1] = replace(self.messages[-1], shape=None)

    def _changes(self, at: int, operation: str, status: str | None = None, **changes: Any) -> None:
        self.now = replace(self.now, **changes)
        self.become(at, self.now)
        self.say(at, operation, **({"status": status} if status else {}))

    def attach(self, at: int) -> int:
        self.say(at, "attach.start", status="attaching")
        parent = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        self._changes(at + 2 * SECOND, "attach.end", state="in-use", parent=parent)
        return at + 2 * SECOND

    def detach(self, at: int) -> int:
        self.say(at, "detach.start", status="detaching")
        self._changes(at + 2 * SECOND, "detach.end", state="available", parent=None)
        return at + 2 * SECOND

    def extend(self, at: int) -> int:
        self.say(at, "resize.start", status="extending")
        assert self.now.size_gib is not None
        # Cinder notifies of the end before it sets the status back.
        grown = self.now.size_gib + self.rng.choice((1, 10, 50))
        self._changes(at + 5 * SECOND, "resize.end", status="extending", size_gib=grown)
        return at + 5 * SECOND

    def retype(self, at: int) -> int:
        other = next(kind for kind in VOLUME_TYPES if kind != self.now.flavor)
        self._changes(at, "retype", flavor=other)
        return at

    def transfer(self, at: int) -> int:
        self.say(at, "transfer.create.start")
        self._changes(at + SECOND, "transfer.create.end", state="awaiting-transfer")
        at += self.rng.randrange(60, 7200) * SECOND
        self.say(at, "transfer.accept.start")
        self.owner += 1 + self.rng.randrange(max(1, self.plan.projects - 1))
        self._changes(
            at + SECOND,
            "transfer.accept.end",
            state="available",
            project=self.plan.project(self.owner),
            user=f"user-{self.owner % self.plan.projects}-0",
        )
        return at + SECOND

    OPERATIONS: Mapping[str, tuple[Callable[["Volume", int], int], ...]] = {
        "available": (attach, extend, retype, transfer, transfer),
        "in-use": (detach, extend),
    }

    def audited(self, begun: int, ended: int, at: int) -> None:
        """Send the audit of a period, as the job of Cinder's does for what was there in it."""
        recorded = self.recorded_at(at)
        deleted = recorded.deleted_at
        if not recorded.launched_at or recorded.launched_at >= ended or (deleted and deleted <= begun):
            return
        shape = self.at(at) or replace(self._last(), state="deleted")
        more = {"audit_period_beginning": forms.seconds(begun), "audit_period_ending": forms.seconds(ended)}
        self.say(at, "exists", kind="audit", shape=shape, recorded=recorded, **more)

    _last = Instance._last

    def polled(self, shape: Shape) -> list[tuple[str, str]]:
        metadata = forms.polled_volume(self.id, shape, self.recorded)
        text = forms.sample("volume.size", "gauge", "GB", self.id, shape.project, shape.user, metadata, "openstack")
        return [("volume.size", text)]

    def volume_of(self, meter: str, shape: Shape, at: int) -> float:
        assert shape.size_gib is not None
        return int(shape.size_gib)


class Snapshot(Life):
    """A snapshot of a Cinder volume."""

    kind, service = "snapshot", "cinder"

    def __init__(self, plan: Plan, number: int) -> None:
        super().__init__(plan, number)
        rng = self.rng
        self.now = Shape(
            project=plan.project(self.owner),
            user=f"user-{self.owner}-{rng.randrange(3)}",
            name=f"snap-{number}",
            state="available",
            zone=rng.choice(ZONES),
            size_gib=float(rng.choice((1, 10, 100))),
            parent=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        )
        at = self.born
        self.record(at, created_at=at)
        self.say(at, "create.start", status="creating")
        self.record(at, launched_at=at + 3 * SECOND, created_at=at + 3 * SECOND)
        self.become(at + 3 * SECOND, self.now)
        self.say(at + 3 * SECOND, "create.end")
        if self.dies is not None:
            self.say(self.dies, "delete.start", status="deleting")
            self.become(self.dies + 2 * SECOND, None)
            self.record(self.dies + 2 * SECOND, deleted_at=self.dies + 2 * SECOND)
            self.say(self.dies + 2 * SECOND, "delete.end", status="deleting")
            self.messages[-1] = replace(self.messages[-1], shape=None)

    def say(self, at: int, operation: str, **more: Any) -> None:
        kind = {"kind": more.pop("kind", "event")}
        shape, recorded = more.pop("shape", self.now), more.pop("recorded", self.recorded)
        payload = forms.snapshot(self.id, shape, recorded, **more)
        self.send(at, f"snapshot.{operation}", payload, "volume.cinder-01", "cinder-01", shape, **kind)

    audited, _last = Volume.audited, Instance._last

    def polled(self, shape: Shape) -> list[tuple[str, str]]:
        metadata = forms.polled_snapshot(shape, self.recorded)
        meter = "volume.snapshot.size"
        return [(meter, forms.sample(meter, "gauge", "GB", self.id, shape.project, shape.user, metadata, "openstack"))]

    volume_of = Volume.volume_of


class Image(Life):
    """A Glance image."""

    kind, service = "image", "glance"

    def __init__(self, plan: Plan, number: int) -> None:
        super().__init__(plan, number)
        self.now = Shape(
            project=plan.project(self.owner),
            user="",
            name=f"image-{number}",
            state="active",
            size_gib=self.rng.randrange(64, 4096) / 1024,
        )
        at = self.born
        self.record(at, created_at=at)
        self.say(at, "create", replace(self.now, state="queued"))
        self.say(at + SECOND, "prepare", replace(self.now, state="saving"))
        at += 20 * SECOND
        self.record(at, launched_at=at)
        self.become(at, self.now)
        self.say(at, "upload", self.now)
        self.say(at, "activate", self.now)
        if self.dies is not None:
            at = max(self.dies, at + MINUTE)
            self.record(at, deleted_at=at)
            self.become(at, None)
            self.say(at, "delete", replace(self.now, state="deleted"))
            self.messages[-1] = replace(self.messages[-1], shape=None)

    def say(self, at: int, operation: str, shape: Shape) -> None:
        payload = forms.image(self.id, shape, self.recorded, at)
        known = shape if shape.state == "active" else None
        self.send(at, f"image.{operation}", payload, "image.glance-01", "glance-01", known)

    def audited(self, begun: int, ended: int, at: int) -> None:
        """Glance has no audit."""

    def polled(self, shape: Shape) -> list[tuple[str, str]]:
        metadata = forms.polled_image(self.id, shape, self.recorded)
        text = forms.sample("image.size", "gauge", "B", self.id, shape.project, None, metadata, "openstack")
        return [("image.size", text)]

    def volume_of(self, meter: str, shape: Shape, at: int) -> float:
        assert shape.size_gib is not None
        return int(shape.size_gib * forms.GIB)


class Address(Life):
    """A floating IP of Neutron's."""

    kind, service = "floating_ip", "neutron"

    def __init__(self, plan: Plan, number: int) -> None:
        super().__init__(plan, number)
        rng, at = self.rng, self.born
        self.now = Shape(
            project=plan.project(self.owner),
            user=f"user-{self.owner}-0",
            name=f"203.0.{number // 250}.{number % 250}",
            state="DOWN",
        )
        self.record(at, created_at=at, launched_at=at)
        self.become(at, self.now)
        self.say(at, "create.end", self.now)
        for _ in range(rng.randrange(4)):
            at += rng.randrange(60, 5 * 86_400) * SECOND
            if at >= min(self.dies or self.plan.end, self.plan.end):
                break
            self.now = replace(self.now, state="DOWN" if self.now.state == "ACTIVE" else "ACTIVE")
            self.become(at, self.now)
            self.say(at, "update.end", self.now)
        if self.dies is not None:
            at = max(self.dies, self.history[-1][0] + MINUTE)
            self.become(at, None)
            self.record(at, deleted_at=at)
            self.say(at, "delete.end", None)

    def say(self, at: int, operation: str, shape: Shape | None) -> None:
        payload = forms.floating_ip(self.id, shape, self.recorded) if shape else {"floatingip_id": self.id}
        self.send(at, f"floatingip.{operation}", payload, "network.neutron-01", "neutron-01", shape)

    def audited(self, begun: int, ended: int, at: int) -> None:
        """Neutron has no audit."""

    def polled(self, shape: Shape) -> list[tuple[str, str]]:
        metadata = forms.polled_floating_ip(shape)
        text = forms.sample("ip.floating", "gauge", "ip", self.id, shape.project, shape.user, metadata, "openstack")
        return [("ip.floating", text)]

    def volume_of(self, meter: str, shape: Shape, at: int) -> float:
        return 1 if shape.state == "ACTIVE" else 3


KINDS: dict[str, type[Life]] = {"instances": Instance, "volumes": Volume, "snapshots": Snapshot, "images": Image}
KINDS["addresses"] = Address


class Month:
    """A simulated month.

    Attributes:
        plan: what it was made of.
        lives: its resources by their ids.
        messages: everything that was sent, in the order of true time.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        lives = [kind(plan, number) for name, kind in KINDS.items() for number in range(getattr(plan, name))]
        self.lives: dict[str, Any] = {life.id: life for life in lives}
        if plan.audit_hours:
            self._audit()
        self.messages = [message for life in lives for message in life.messages]
        if plan.poll_minutes:
            self.messages += self._poll()
        self.messages.sort(key=lambda message: message.at)

    @property
    def stretches(self) -> list[Stretch]:
        """The truth: what was there, of all time."""
        return [stretch for life in self.lives.values() for stretch in life.stretches]

    @property
    def witnessed_ahead(self) -> set[str]:
        """The resources of which a host told whose clock is ahead."""
        return {life.id for life in self.lives.values() if life.hosts_seen & set(self.plan.ahead)}

    def _cycles(self, step: int) -> Iterator[int]:
        plan = self.plan
        first = (plan.start - plan.lead) // step * step + step
        yield from range(first, plan.end + plan.lead, step)

    def _audit(self) -> None:
        """The services' own audits, some seconds after each period."""
        step = self.plan.audit_hours * HOUR
        for end in self._cycles(step):
            for number, life in enumerate(self.lives.values()):
                life.audited(end - step, end, end + (5 + number % 50) * SECOND)

    def _poll(self) -> Iterator[Message]:
        """Batches of fifty samples: of each host those of its instances, and of the central agent all others."""
        plan = self.plan
        templates: dict[tuple[str, int], list[tuple[str, str]]] = {}
        for at in self._cycles(plan.poll_minutes * MINUTE):
            by_agent: dict[str, list[str]] = {}
            for life in self.lives.values():
                place = bisect_right(life.history, at, key=lambda entry: entry[0]) - 1
                shape = life.history[place][1] if place >= 0 else None
                if shape is None:
                    continue
                key = (life.id, place)
                if key not in templates:
                    templates[key] = life.polled(shape)
                agent = shape.host if life.kind == "instance" else "central-01"
                for meter, text in templates[key]:
                    assert agent is not None
                    seen = at + plan.ahead.get(agent, 0)
                    sample = text % (life.volume_of(meter, shape, at), forms.iso(seen), f"{life.id}-{meter}-{at}")
                    by_agent.setdefault(agent, []).append(sample)
                    life.hosts_seen.add(agent)
            for agent, samples in by_agent.items():
                for number in range(0, len(samples), 50):
                    batch = f"poll-{agent}-{at}-{number}"
                    head = (
                        f'{{"event_type": "telemetry.polling", "message_id": "{batch}", '
                        f'"publisher_id": "telemetry.publisher.{agent}", "priority": "SAMPLE", '
                        f'"timestamp": "{forms.stamp(at + 2 * SECOND)}", "payload": {{"samples": ['
                    )
                    line = (head + ",".join(samples[number : number + 50]) + "]}}").encode()
                    yield Message(
                        at + 2 * SECOND, "poll", "polling", agent, None, "telemetry.polling", None, batch, line
                    )
