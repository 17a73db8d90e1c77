"""A simulated OpenStack cloud: a day of notifications and polled samples with planted faults, and then live polls.

Everything is made from one seed. A ledger counts what was sent, for comparison with what a pipeline finds.
"""

import math
import os
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from meterhouse import times
from meterhouse.demo import notifications
from meterhouse.demo.inventory import (
    FLAVORS,
    HOT_NAME,
    ROLES,
    Flavor,
    Image,
    Instance,
    Inventory,
    Project,
    Volume,
    make_inventory,
    make_uuid,
    make_volume,
)
from meterhouse.demo.ledger import Ledger


class Meter(NamedTuple):
    """A polled meter, in the form of a sample's `counter_*` fields."""

    name: str
    type: str
    unit: str


METERS: Final = (
    Meter("cpu", "cumulative", "ns"),
    Meter("cpu_util", "gauge", "%"),
    Meter("memory.usage", "gauge", "MiB"),
    Meter("disk.device.read.bytes", "cumulative", "B"),
    Meter("disk.device.write.bytes", "cumulative", "B"),
    Meter("network.incoming.bytes", "cumulative", "B"),
    Meter("network.outgoing.bytes", "cumulative", "B"),
)
CPU_UTIL: Final = 1
MEMORY_USAGE: Final = 2
COUNTERS: Final = tuple(index for index, meter in enumerate(METERS) if meter.type == "cumulative")
GAUGES: Final = (CPU_UTIL, MEMORY_USAGE)

NOT_FINITE: Final = 12
OUT_OF_RANGE: Final = 10
NEGATIVE: Final = 8
DUPLICATES: Final = 9
FUTURE: Final = 6
REDELIVERED: Final = 14
LATE: Final = 25

BATCH: Final = 50
"""Maximum number of samples in one message of a polling agent."""

_SECOND: Final = 1_000_000
_HOUR: Final = 3600
_DAY: Final = 86_400
_UUID_EPOCH: Final = 0x01B21DD213814000  # 100 ns from 1582-10-15, where uuid1 starts, to 1970

_Emit = Callable[[int], list[str]]
_Step = tuple[int, _Emit]
_Volume = float | str
"""A number, or JSON text for a value that is not a number, escaped for the envelope."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """A planted fault of one point of a polling cycle.

    Attributes:
        volume: a volume that replaces the point's.
        differs: send a second sample of the point, whose volume differs by this.
        dated: send a further point of the series with this time, in seconds since the epoch.
    """

    instance: Instance
    meter: int
    volume: _Volume | None = None
    differs: float | None = None
    dated: int | None = None


class SimulatedCloud:
    """A cloud whose behaviour only depends on its seed: equal calls write equal bytes.

    Args:
        seed: the seed of the random numbers.
        projects: the number of Keystone projects.
        instances: the number of Nova instances, at least 12. Some are created or deleted during the history.

    Attributes:
        ledger: counts of what was written so far.
        hot_instance_id: the instance `web-01`, which is overloaded at the end of the history and on demand.
        overload_minutes: the length of the overload at the end of the history.
    """

    overload_minutes = 10

    def __init__(self, seed: int = 7, *, projects: int = 5, instances: int = 40) -> None:
        if projects < 1 or instances < 12:
            raise ValueError("a simulated cloud has at least 1 project and 12 instances")
        self._rng = random.Random(seed)
        self.ledger = Ledger()
        self.inventory: Inventory = make_inventory(self._rng, projects, instances)
        self._hot = self.inventory.instances[0]
        self.hot_instance_id = self._hot.id
        assert self._hot.display_name == HOT_NAME
        others = self.inventory.instances[1:]
        self._rng.shuffle(others)
        shares = [instances // 8, instances // 12, instances // 16, instances // 10]
        cuts = [sum(shares[:n]) for n in range(5)]
        self._created, self._deleted, self._resized, self._rebooted = (
            others[first:last] for first, last in pairwise(cuts)
        )
        self._steady = others[cuts[-1] :]
        self._running = [each for each in self.inventory.instances if each not in self._created]
        self._volumes: list[Volume] = []
        self._heads: list[list[str]] = []
        self._node, self._other_node = (f"{self._rng.getrandbits(48) | 1 << 40:012x}" for _ in range(2))
        self._clock_seq = f"{0x8000 | self._rng.getrandbits(14):04x}"
        self._odd_ids = 0
        self._cadence_s = 60
        self._polled_at: int | None = None
        self._started = 0

    def write_history(self, spool: Path, until: datetime, hours: int = 24, cadence_s: int = 60) -> None:
        """Write the history [until - hours, until), one file for each UTC clock hour, `20261121T14-history.jsonl`.

        Polls are at the multiples of `cadence_s` since the epoch. Each file appears in the spool by a rename.

        Raises:
            ValueError: the history was already written, `until` has no time zone, or the history is too short.
        """
        end = _microseconds(until)
        start = end - hours * _HOUR * _SECOND
        if self._polled_at is not None:
            raise ValueError("the history of a simulated cloud can only be written once, before any live poll")
        if cadence_s < 2 or hours * _HOUR < 10 * cadence_s:
            raise ValueError("a history needs at least 10 polls, at least 2 seconds apart")
        cycles = range(_round_up(start, cadence_s), -(-end // _SECOND), cadence_s)
        self._cadence_s, self._started = cadence_s, cycles[0]
        steps = self._steps(start, end)
        faults = self._plan_faults(cycles, math.ceil(end / _SECOND))
        overloaded_from = end // _SECOND - self.overload_minutes * 60
        first_hour = start // (_HOUR * _SECOND) * _HOUR
        hours_there = range(first_hour, math.ceil(end / _SECOND), _HOUR)
        carried: list[bytes] = []
        step = 0
        for number, hour in enumerate(hours_there):
            lines: list[str] = []
            for at in cycles[bisect_left(cycles, hour) : bisect_left(cycles, hour + _HOUR)]:
                while step < len(steps) and steps[step][0] <= at * _SECOND:
                    lines += steps[step][1](steps[step][0])
                    step += 1
                lines += self._poll(at, at >= overloaded_from, faults.get(at, ()))
            while step < len(steps) and steps[step][0] < (hour + _HOUR) * _SECOND:
                lines += steps[step][1](steps[step][0])
                step += 1
            encoded = [line.encode() for line in lines]
            carried = self._disturb(encoded, carried, number, len(hours_there))
            self._write(spool, f"{_instant(hour):%Y%m%dT%H}-history.jsonl", encoded)

    def write_late(self, spool: Path, until: datetime) -> None:
        """Write points that come late: good gauge points of three clock hours, five to nine hours before `until`.

        Their times are between the polls, where their series have no points.

        Raises:
            ValueError: the history does not cover those hours.
        """
        last_hour = _microseconds(until) // (_HOUR * _SECOND) * _HOUR
        offset = min(17, self._cadence_s // 2)
        hours = [last_hour - back * _HOUR for back in (8, 7, 6)]
        if self._polled_at is None or hours[0] < self._started or hours[-1] + _HOUR > self._polled_at:
            raise ValueError("late points need a history that covers the nine hours before")
        lines = []
        for number, hour in enumerate(hours):
            polls = range(_round_up(hour * _SECOND, self._cadence_s), hour + _HOUR - offset, self._cadence_s)
            places = self._rng.sample(range(len(polls) * len(self._steady)), _share(LATE, number, 3))
            points = []
            for place in places:
                poll, which = divmod(place, len(self._steady))
                at, instance = polls[poll] + offset, self._steady[which]
                cpu_util = self._cpu_util(instance, _curve(instance.role.busy_hour, at), overloaded=False)
                volume = cpu_util if place % 3 else self._memory_usage(instance, cpu_util)
                points.append((instance, CPU_UTIL if place % 3 else MEMORY_USAGE, volume, at))
            lines.append(self._odd_message(points, _microseconds(until)).encode())
            self.ledger.late += len(points)
        self._write(spool, f"{until.astimezone(UTC):%Y%m%dT%H%M%S}-late.jsonl", lines)

    def live_poll(self, spool: Path, at: datetime, overloaded: bool) -> None:
        """Write one polling cycle of all running instances, as `20261122T140007-live.jsonl`.

        `web-01` is at 95 to 99 % when overloaded, otherwise below 60 %. No other instance exceeds 85 %.

        Raises:
            ValueError: `at` is not a full second, not after the previous poll, or has no time zone.
        """
        moment, fraction = divmod(_microseconds(at), _SECOND)
        if fraction or (self._polled_at is not None and moment <= self._polled_at):
            raise ValueError("a poll has to be at a full second, after the previous poll")
        lines = [line.encode() for line in self._poll(moment, overloaded, ())]
        self._write(spool, f"{at.astimezone(UTC):%Y%m%dT%H%M%S}-live.jsonl", lines)

    # Polled samples

    def _poll(self, at: int, overloaded: bool, faults: Sequence[_Fault]) -> list[str]:
        """The messages of one polling cycle, one meter after the other; `at` in seconds since the epoch."""
        volumes = self._volumes_at(at, overloaded)
        odd: list[tuple[Instance, int, _Volume, int]] = []
        for each in faults:
            row = volumes[each.meter]
            place = self._running.index(each.instance)
            if each.volume is not None:
                row[place] = each.volume
            elif each.differs is not None:
                odd.append((each.instance, each.meter, _differing(row[place], each.differs), at))
            elif each.dated is not None:
                odd.append((each.instance, each.meter, row[place], each.dated))
        if not self._heads:
            self._heads = [[self._head(each, meter) for each in self._running] for meter in METERS]
        count = len(self._running)
        base = at * 10_000_000 + _UUID_EPOCH
        low = base & 0xFFFFFFFF
        if low + len(METERS) * count > 0xFFFFFFFF:  # the ids of a cycle share all but their first field
            low -= len(METERS) * count
        to_id, tail = _ends(at, self._id_tail(base, self._node))
        lines = []
        for number, (heads, row) in enumerate(zip(self._heads, volumes, strict=True)):
            ids = range(low + number * count, low + (number + 1) * count)
            texts = [f"{head}{volume}{to_id}{own:08x}{tail}" for head, volume, own in zip(heads, row, ids, strict=True)]
            sent = at * _SECOND + 180_000 + 40_000 * number
            for first in range(0, count, BATCH):
                lines.append(self._polling_message(texts[first : first + BATCH], sent + first))
            self.ledger.samples_by_meter[METERS[number].name] += count
        self.ledger.samples += len(METERS) * count
        if odd:
            lines.append(self._odd_message(odd, at * _SECOND + 900_000))
        self._polled_at = at
        return lines

    def _volumes_at(self, at: int, overloaded: bool) -> list[list[_Volume]]:
        """Let the running instances work until `at`, and read their meters: a list of volumes for each meter."""
        draw = self._rng.random
        curves = {role.name: _curve(role.busy_hour, at) for role in ROLES}
        volumes: list[list[_Volume]] = [[] for _ in METERS]
        cpu, util, memory, read, write, received, sent = (row.append for row in volumes)
        for each in self._running:
            cpu_util = self._cpu_util(each, curves[each.role.name], overloaded and each is self._hot)
            passed = at - each.counted_to
            each.counted_to = at
            # Each draw adds at least a few hundred bytes a second, so a counter always grows.
            busy = passed * (0.3 + cpu_util / 100)
            each.cpu_ns += int(cpu_util * each.flavor.vcpus * passed * 1e7)
            each.read_bytes += int(each.read_rate * busy * (0.5 + draw()))
            each.write_bytes += int(each.write_rate * busy * (0.5 + draw()))
            each.in_bytes += int(each.in_rate * busy * (0.5 + draw()))
            each.out_bytes += int(each.out_rate * busy * (0.5 + draw()))
            cpu(each.cpu_ns)
            util(cpu_util)
            memory(self._memory_usage(each, cpu_util))
            read(each.read_bytes)
            write(each.write_bytes)
            received(each.in_bytes)
            sent(each.out_bytes)
            if each.restarted:
                each.restarted = False
                self.ledger.counter_resets += len(COUNTERS)
        return volumes

    def _cpu_util(self, instance: Instance, curve: float, overloaded: bool) -> float:
        draw = self._rng.random
        noise = draw() + draw() - 1.0
        if overloaded:
            return round(97.0 + 2.0 * noise, 2)
        role = instance.role
        highest = 55.0 if instance is self._hot else 84.0
        return round(min(highest, max(0.5, role.idle + role.swing * curve + (4.0 + 0.1 * role.swing) * noise)), 2)

    def _memory_usage(self, instance: Instance, cpu_util: float) -> float:
        share = instance.memory_share + 0.0012 * cpu_util + 0.02 * self._rng.random()
        return round(instance.flavor.memory_mb * share, 1)

    def _head(self, instance: Instance, meter: Meter) -> str:
        """A sample's JSON up to its volume, which is the same in every poll, escaped for the envelope."""
        resource_id = instance.id
        if meter.name.startswith("disk.device"):
            resource_id = f"{instance.id}-vda"
        elif meter.name.startswith("network"):
            resource_id = f"{instance.name}-{instance.id}-tap{instance.port_id[:11]}"
        constant = {
            "source": "openstack",
            "counter_name": meter.name,
            "counter_type": meter.type,
            "counter_unit": meter.unit,
            "user_id": instance.project.user_id,
            "project_id": instance.project.id,
            "resource_id": resource_id,
            "resource_metadata": instance.metadata,
        }
        return _escaped(orjson.dumps(constant).decode()[:-1] + ',"counter_volume":')

    def _odd_message(self, points: Sequence[tuple[Instance, int, _Volume, int]], sent: int) -> str:
        """A message of samples outside the regular cycle: (instance, meter, volume, seconds since the epoch)."""
        texts = []
        for instance, meter, volume, at in points:
            self._odd_ids += 1
            base = at * 10_000_000 + _UUID_EPOCH + self._odd_ids
            to_id, tail = _ends(at, self._id_tail(base, self._other_node))
            texts.append(f"{self._head(instance, METERS[meter])}{volume}{to_id}{base & 0xFFFFFFFF:08x}{tail}")
            self.ledger.samples_by_meter[METERS[meter].name] += 1
        self.ledger.samples += len(points)
        return self._polling_message(texts, sent)

    def _id_tail(self, base: int, node: str) -> str:
        """A uuid1 of the 100 ns `base`, without its first field."""
        return f"-{base >> 32 & 0xFFFF:04x}-{base >> 48 & 0xFFF | 0x1000:04x}-{self._clock_seq}-{node}"

    def _polling_message(self, texts: list[str], sent: int) -> str:
        """The line of a batch of samples, which are escaped JSON texts; `sent` in microseconds."""
        self._count("telemetry.polling")
        head = _escaped(
            f'{{"message_id":"{make_uuid(self._rng)}","publisher_id":"ceilometer.polling",'
            '"event_type":"telemetry.polling","priority":"SAMPLE","payload":{"samples":['
        )
        tail = _escaped(
            f']}},"timestamp":"{notifications.stamp(sent)}","_unique_id":"{self._rng.getrandbits(128):032x}"}}'
        )
        return f'{{"oslo.version":"2.0","oslo.message":"{head}{",".join(texts)}{tail}"}}'

    # Notifications

    def _notification(
        self, at: int, publisher: str, event_type: str, payload: dict[str, Any], project_id: str, user_id: str
    ) -> str:
        """The line of a notification that is sent at `at`, in microseconds since the epoch."""
        self._count(event_type)
        self.ledger.events += 1
        message = {
            "message_id": make_uuid(self._rng),
            "publisher_id": publisher,
            "event_type": event_type,
            "priority": "INFO",
            "payload": payload,
            "timestamp": notifications.stamp(at),
            "_unique_id": f"{self._rng.getrandbits(128):032x}",
            "_context_request_id": f"req-{make_uuid(self._rng)}",
            "_context_project_id": project_id,
            "_context_tenant": project_id,
            "_context_user_id": user_id,
            "_context_user": user_id,
            "_context_is_admin": False,
            "_context_roles": ["member", "reader"],
            "_context_timestamp": notifications.iso(at),
        }
        return _enveloped(message)

    def _count(self, event_type: str) -> None:
        self.ledger.notifications += 1
        self.ledger.notifications_by_event_type[event_type] += 1

    def _of_project(self, publisher: str, event_type: str, project: Project, payload: dict[str, Any]) -> _Emit:
        return lambda at: [self._notification(at, publisher, event_type, payload, project.id, project.user_id)]

    def _compute(self, instance: Instance, action: str, state: str, task: str, at: int, **more: Any) -> str:
        payload = notifications.instance(instance, state, task, **more)
        project = instance.project
        event_type = f"compute.instance.{action}"
        return self._notification(at, f"compute.{instance.host}", event_type, payload, project.id, project.user_id)

    def _steps(self, start: int, end: int) -> list[_Step]:
        """What happens in the cloud during the history, in order: (microseconds since the epoch, function to emit)."""
        draw = self._rng
        steps: list[_Step] = []

        def some_time(earliest: float = 0.05, latest: float = 0.85) -> int:
            return start + int((end - start) * draw.uniform(earliest, latest))

        for each in self.inventory.instances:
            each.age(start / _SECOND)
            each.created_at = start - each.age_s * _SECOND - draw.randrange(_SECOND)
            each.launched_at = each.created_at + draw.randrange(8 * _SECOND, 40 * _SECOND)
        for each in self._created:
            steps += self._creation(each, some_time())
        for each in self._deleted:
            steps += self._deletion(each, some_time(0.15))
        for each in self._resized:
            steps += self._resize(each, some_time(0.15))
        for each in self._rebooted:
            at = some_time(0.15)
            steps.append((at, partial(self._act, each, "reboot.start", "active", "reboot_started")))
            steps.append((at + 9_412_377, partial(self._restart, each, "reboot.end", each.flavor)))
        steps += self._volume_steps(start, some_time)
        steps += self._image_steps(end, some_time)
        steps += self._network_steps(some_time)
        hour = -(-start // (_HOUR * _SECOND)) * _HOUR * _SECOND
        while hour < end:
            steps.append((hour + 5_071_113, self._audit))
            hour += _HOUR * _SECOND
        return sorted((step for step in steps if step[0] < end), key=lambda step: step[0])

    def _act(self, instance: Instance, action: str, state: str, task: str, at: int) -> list[str]:
        return [self._compute(instance, action, state, task, at)]

    def _creation(self, instance: Instance, at: int) -> list[_Step]:
        network = f"network.{instance.host}"
        up = at + self._rng.randrange(8 * _SECOND, 40 * _SECOND)
        instance.created_at, instance.launched_at = at, 0

        def launch(now: int) -> list[str]:
            instance.launched_at = now - 137_291
            instance.boot(now / _SECOND)
            self._running.append(instance)
            self._heads = []
            more = {"fixed_ips": notifications.fixed_ips(instance), "message": "Success"}
            return [self._compute(instance, "create.end", "active", "", now, **more)]

        port = notifications.port(instance, "DOWN")
        return [
            (at, partial(self._act, instance, "create.start", "building", "scheduling")),
            (at + 1_630_219, self._of_project(network, "port.create.end", instance.project, port)),
            (up, launch),
        ]

    def _deletion(self, instance: Instance, at: int) -> list[_Step]:
        gone = at + 4_204_918

        def stop(now: int) -> list[str]:
            self._running.remove(instance)
            self._heads = []
            return self._act(instance, "delete.start", "active", "deleting", now)

        def delete(now: int) -> list[str]:
            return [self._compute(instance, "delete.end", "deleted", "", now, deleted_at=now)]

        network = f"network.{instance.host}"
        port = {"port_id": instance.port_id}
        return [
            (at, stop),
            (gone - 1_330_007, self._of_project(network, "port.delete.end", instance.project, port)),
            (gone, delete),
        ]

    def _resize(self, instance: Instance, at: int) -> list[_Step]:
        bigger = FLAVORS[min(len(FLAVORS) - 1, FLAVORS.index(instance.flavor) + 1)]
        return [
            (at, partial(self._act, instance, "resize.prep.start", "active", "resize_prep")),
            (at + 1_903_554, partial(self._act, instance, "resize.prep.end", "active", "resize_prep")),
            (at + 21_377_018, partial(self._restart, instance, "finish_resize.end", bigger)),
            (at + 64_190_733, partial(self._act, instance, "resize.confirm.end", "active", "")),
        ]

    def _restart(self, instance: Instance, action: str, flavor: Flavor, at: int) -> list[str]:
        """Restart an instance, with its counters at zero."""
        instance.boot(at / _SECOND)
        instance.restarted = True
        instance.flavor = flavor
        self._heads = []
        return self._act(instance, action, "active", "", at)

    def _audit(self, at: int) -> list[str]:
        """The hourly `exists` of every instance and volume."""
        lines = []
        period = notifications.audit_period(at)
        for each in self._running:
            at += 37_003
            lines.append(self._compute(each, "exists", "active", "", at, bandwidth={}, **period))
        for volume in self._volumes:
            at += 21_007
            status = "in-use" if volume.instance else "available"
            lines.append(self._cinder(volume, "exists", status, at, **period))
        return lines

    def _cinder(self, volume: Volume, action: str, status: str, at: int, **more: Any) -> str:
        payload = notifications.volume(volume, status, **more)
        owner = volume.project
        return self._notification(at, "volume.cinder-01", f"volume.{action}", payload, owner.id, owner.user_id)

    def _volume_steps(self, start: int, some_time: Callable[[], int]) -> list[_Step]:
        settled = {id(each) for each in [self._hot, *self._steady]}
        self._volumes = list(self.inventory.volumes)
        for volume in self._volumes:
            volume.created_at = start - volume.age_s * _SECOND
            if id(volume.instance) not in settled:
                volume.instance = None

        def begin(volume: Volume, at: int) -> list[str]:
            return [self._cinder(volume, "create.start", "creating", at)]

        def finish(volume: Volume, at: int) -> list[str]:
            self._volumes.append(volume)
            return [self._cinder(volume, "create.end", "available", at)]

        def grow(volume: Volume, at: int) -> list[str]:
            volume.size *= 2
            return [self._cinder(volume, "resize.end", "available", at)]

        def remove(volume: Volume, at: int) -> list[str]:
            self._volumes.remove(volume)
            return [self._cinder(volume, "delete.end", "deleting", at)]

        steps: list[_Step] = []
        for number in range(4):
            volume = make_volume(self._rng, f"scratch-{number + 1:02}", self._rng.choice(self.inventory.projects), None)
            volume.created_at = at = some_time()
            steps.append((at, partial(begin, volume)))
            steps.append((at + 3_120_845, partial(finish, volume)))
        steps.append((some_time(), partial(grow, self._volumes[1])))
        steps.append((some_time(), partial(remove, self._volumes[2])))
        return steps

    def _image_steps(self, end: int, some_time: Callable[[], int]) -> list[_Step]:
        def emit(image: Image, action: str, status: str, created_at: int, at: int) -> list[str]:
            payload = notifications.image(image, status, created_at, at)
            return [self._notification(at, "image.glance-01", f"image.{action}", payload, image.owner, image.owner)]

        steps: list[_Step] = []
        for image in self.inventory.images[:2]:
            created_at = end - image.age_s * _SECOND
            steps.append((some_time(), partial(emit, image, "update", "active", created_at)))
        for number in range(2):
            owner = self._rng.choice(self.inventory.projects).id
            checksum = f"{self._rng.getrandbits(128):032x}"
            size = self._rng.randrange(1 << 29, 1 << 33)
            image = Image(make_uuid(self._rng), f"backup-{number + 1}", owner, size, checksum, 0)
            at = some_time()
            steps.append((at, partial(emit, image, "create", "queued", at)))
            steps.append((at + 48_200_611, partial(emit, image, "upload", "active", at)))
            steps.append((at + 49_733_502, partial(emit, image, "update", "active", at)))
        return steps

    def _network_steps(self, some_time: Callable[[], int]) -> list[_Step]:
        agent = "network.neutron-01"
        steps: list[_Step] = []
        for number, instance in enumerate(self._rng.sample(self._steady, 4)):
            at, own_id = some_time(), make_uuid(self._rng)
            for delay, action, attached in ((0, "create", False), (5_882_340, "update", True)):
                payload = notifications.floating_ip(own_id, instance, number, attached)
                emit = self._of_project(agent, f"floatingip.{action}.end", instance.project, payload)
                steps.append((at + delay, emit))
        at, project = some_time(), self._rng.choice(self.inventory.projects)
        network, subnet, router = (make_uuid(self._rng) for _ in range(3))
        for delay, kind, payload in (
            (0, "network", notifications.network(network, project, "staging-net")),
            (1_209_331, "subnet", notifications.subnet(subnet, network, project)),
            (3_770_128, "router", notifications.router(router, project, "staging-router")),
        ):
            steps.append((at + delay, self._of_project(agent, f"{kind}.create.end", project, payload)))
        return steps

    # Faults

    def _plan_faults(self, cycles: range, until: int) -> dict[int, list[_Fault]]:
        """Which points of the history are bad, duplicated or dated in the future, by the time of their cycle.

        Each fault has its own point, and only instances that run all the time have faults. So one kind of fault never
        hides another.
        """
        draw = self._rng
        count = NOT_FINITE + OUT_OF_RANGE + NEGATIVE + DUPLICATES + FUTURE
        places = iter(draw.sample(range(len(cycles) * len(self._steady)), count))
        planned: dict[int, list[_Fault]] = {}

        def plant(meter: int, **what: Any) -> None:
            cycle, which = divmod(next(places), len(self._steady))
            planned.setdefault(cycles[cycle], []).append(_Fault(self._steady[which], meter, **what))

        for number in range(NOT_FINITE):
            text = ("NaN", "Infinity", _escaped('"nan"'), "-Infinity")[number % 4]
            plant(GAUGES[number % 3 % 2], volume=text)
        for number in range(OUT_OF_RANGE):
            plant(CPU_UTIL, volume=round(draw.uniform(-60, -1) if number % 3 == 2 else draw.uniform(1e6, 9e6), 2))
        for number in range(NEGATIVE):
            plant((*COUNTERS, MEMORY_USAGE)[number % 6], volume=-draw.randrange(1, 5000))
        for number in range(DUPLICATES):
            plant(number % len(METERS), differs=draw.randrange(1, 4))
        for number in range(FUTURE):
            ahead = _DAY + (2 * _DAY * number) // FUTURE + draw.randrange(1, 2 * _DAY // FUTURE)
            plant(GAUGES[number % 2], dated=until + ahead)
        self.ledger.not_finite += NOT_FINITE
        self.ledger.out_of_range += OUT_OF_RANGE
        self.ledger.negative += NEGATIVE
        self.ledger.duplicates += DUPLICATES
        self.ledger.future += FUTURE
        return planned

    def _disturb(self, lines: list[bytes], carried: list[bytes], number: int, files: int) -> list[bytes]:
        """Repeat some of a file's messages in it, and insert messages carried from the previous file and dead letters.

        Returns:
            The messages to repeat in the next file.
        """
        valid = len(lines)
        share = min(_share(REDELIVERED, number, files), valid)
        next_file: list[bytes] = []
        # From the last to the first, so that an insertion does not move messages that are still to be repeated.
        for turn, place in enumerate(sorted(self._rng.sample(range(valid), share), reverse=True)):
            if (number + turn) % 2 and number + 1 < files:
                next_file.append(lines[place])
            else:
                lines.insert(self._rng.randrange(place + 1, len(lines) + 1), lines[place])
        letters = self._dead_letters(number, files)
        for line in [*carried, *letters]:
            lines.insert(self._rng.randrange(len(lines) + 1), line)
        self.ledger.redelivered += share
        self.ledger.dead_letters += len(letters)
        return next_file

    def _dead_letters(self, number: int, files: int) -> list[bytes]:
        """A file's share of the lines that are not notifications."""
        ids = [make_uuid(self._rng) for _ in range(8)]
        message = {"message_id": ids[0], "event_type": "compute.instance.update", "priority": "INFO", "payload": {}}
        bare = {name: value for name, value in message.items() if name != "event_type"}
        inner = orjson.dumps({**message, "message_id": ids[1]}).decode()
        letters = [
            _enveloped(message).encode()[:-20],
            orjson.dumps({"oslo.version": "2.0", "oslo.message": inner[:-12]}),
            _enveloped({**message, "message_id": ids[2]}).encode().replace(b"compute", b"comp\xff\xfete"),
            orjson.dumps([{**message, "message_id": ids[3]}]),
            _enveloped({**bare, "message_id": ids[4]}).encode(),
            _enveloped({**message, "message_id": ids[5]}).replace('"2.0"', '"9.0"', 1).encode(),
            orjson.dumps({**bare, "message_id": ids[6]}),
            f"Traceback (most recent call last): {ids[7]}".encode(),
        ]
        first, last = (len(letters) * edge // files for edge in (number, number + 1))
        return letters[first:last]

    def _write(self, spool: Path, name: str, lines: list[bytes]) -> None:
        """Put a complete file into the spool at once."""
        spool.mkdir(parents=True, exist_ok=True)
        hidden = spool / f".{name}"
        hidden.write_bytes(b"\n".join(lines) + b"\n")
        os.replace(hidden, spool / name)
        self.ledger.messages += len(lines)


def _instant(at: int) -> datetime:
    return times.EPOCH + timedelta(seconds=at)


def _microseconds(instant: datetime) -> int:
    if instant.tzinfo is None:
        raise ValueError("the time has no time zone")
    return (instant - times.EPOCH) // timedelta(microseconds=1)


def _round_up(at: int, cadence_s: int) -> int:
    """The first multiple of the cadence, in seconds, at or after this time in microseconds."""
    return -(-at // (cadence_s * _SECOND)) * cadence_s


def _share(total: int, number: int, parts: int) -> int:
    """This part's share of the total."""
    return total * (number + 1) // parts - total * number // parts


def _curve(busy_hour: float, at: int) -> float:
    """The load by the time of day, from 0 at the quietest hour to 1 at the busiest."""
    hour = at % _DAY / _HOUR
    return 0.5 + 0.5 * math.cos(2 * math.pi * (hour - busy_hour) / 24)


def _differing(volume: _Volume, by: float) -> float:
    """A volume near this one: below it, so that a counter stays between its neighbours, unless it would be negative."""
    assert not isinstance(volume, str)
    return round(volume - by, 2) if volume >= by else round(volume + by, 2)


def _ends(at: int, id_tail: str) -> tuple[str, str]:
    """A sample's JSON between its volume and the first field of its message_id, and after that field, escaped."""
    instant = _instant(at).isoformat()
    return (
        _escaped(f',"timestamp":"{instant}","message_id":"'),
        _escaped(f'{id_tail}","monotonic_time":null,"message_signature":""}}'),
    )


def _escaped(text: str) -> str:
    """Text, escaped for a JSON string."""
    return orjson.dumps(text).decode()[1:-1]


def _enveloped(message: dict[str, Any]) -> str:
    """A message in oslo.messaging's envelope, version 2.0."""
    return orjson.dumps({"oslo.version": "2.0", "oslo.message": orjson.dumps(message).decode()}).decode()
