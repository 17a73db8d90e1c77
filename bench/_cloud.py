"""The month that the benchmark of usage measures with: instances and volumes, as their services' landed notifications.

Two resources of five are instances, three are volumes. Three of five are older than the month, two of five are deleted.
Of the instances, three of ten each are resized, stopped for two hours, and migrated live; of the volumes, two of ten
are extended and one of fifty changes hands. Nova and Cinder audit each day. All is made by NumPy from one seed, and
what it adds up to is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse import times
from meterhouse.site import Site
from meterhouse.stores.lake_tables import NOTIFICATIONS

MONTH = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = 31
BEFORE = 60
"""Days before the month in which older resources were created."""

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NEVER = np.int64(4_000_000_000_000_000)
STOPPED = 2 * HOUR

FLAVORS = (("m1.tiny", 1, 512, 1), ("m1.small", 1, 2048, 20), ("m1.medium", 2, 4096, 40), ("m1.large", 4, 8192, 80))
VCPUS = np.array([flavor[1] for flavor in FLAVORS])
SIZES = np.array((1, 10, 20, 50, 100, 500))
GROWTH = 10

Integers = npt.NDArray[np.int64]

INSTANCE = (
    '{"event_type": "%s", "message_id": "%s", "publisher_id": "compute.node-%03d", "priority": "INFO", "timestamp": '
    '"%s", "_context_project_id": "%s", "payload": {"tenant_id": "%s", "user_id": "%s", "instance_id": "%s", '
    '"display_name": "vm-%d", "reservation_id": "r-4efhdyk5", "hostname": "vm", "instance_type": "%s", '
    '"instance_type_id": %d, "instance_flavor_id": "%d", "architecture": "x86_64", "memory_mb": %d, "disk_gb": %d, '
    '"vcpus": %d, "root_gb": %d, "ephemeral_gb": 0, "host": "node-%03d", "node": "node-%03d.example.com", '
    '"availability_zone": "nova", "cell_name": "", "created_at": "%s+00:00", "terminated_at": "%s", "deleted_at": '
    '"%s", "launched_at": "%s", "image_ref_url": "http://glance.example.com:9292/images/0c15f5e0", "os_type": "linux", '
    '"kernel_id": "", "ramdisk_id": "", "state": "%s", "state_description": "", "progress": "", "access_ip_v4": null, '
    '"access_ip_v6": null, "image_meta": {"base_image_ref": "0c15f5e0-8a3e-4b1b-9c12-0d2c6b8f0e11", '
    '"container_format": "bare", "disk_format": "qcow2", "min_disk": "20", "min_ram": "0"}, "metadata": '
    '{"metering.server_group": "web"}%s}}'
)
VOLUME = (
    '{"event_type": "%s", "message_id": "%s", "publisher_id": "volume.cinder-01@ceph#ceph", "priority": "INFO", '
    '"timestamp": "%s", "_context_project_id": "%s", "payload": {"tenant_id": "%s", "user_id": "%s", "host": '
    '"cinder-01@ceph#ceph", "availability_zone": "nova", "volume_id": "%s", "volume_type": "ceph", "display_name": '
    '"disk-%d", "launched_at": "%s+00:00", "created_at": "%s+00:00", "status": "%s", "snapshot_id": null, "size": %d, '
    '"replication_status": null, "replication_extended_status": null, "replication_driver_data": null, "metadata": [], '
    '"volume_attachment": []%s}}'
)
PERIOD = ', "audit_period_beginning": "%s", "audit_period_ending": "%s"%s'

EVENTS = (
    *("compute.instance.create.end", "compute.instance.delete.end", "compute.instance.finish_resize.end"),
    *("compute.instance.resize.confirm.end", "compute.instance.power_off.end", "compute.instance.power_on.end"),
    *("compute.instance.live_migration.post.dest.end", "compute.instance.exists", "volume.create.end"),
    *("volume.delete.end", "volume.resize.end", "volume.transfer.accept.end", "volume.exists"),
)
CODES = {name: code for code, name in enumerate(EVENTS)}


@dataclass(frozen=True)
class Totals:
    """What the month adds up to: size × seconds."""

    vcpu_seconds: float
    gib_seconds: float


@dataclass(frozen=True)
class Cloud:
    """So many resources."""

    resources: int
    seed: int = 3

    @property
    def start(self) -> int:
        return times.micros(MONTH)

    @property
    def end(self) -> int:
        return self.start + DAYS * DAY

    @cached_property
    def instances(self) -> int:
        return self.resources * 2 // 5

    @cached_property
    def story(self) -> dict[str, Integers]:
        """By resource: when it is born and dies, when it changes (`NEVER`), and what it is before."""
        rng, count = np.random.default_rng(self.seed), self.resources

        def seconds(low: int, high: int) -> Integers:
            return rng.integers(low // SECOND, high // SECOND, count) * SECOND

        old = rng.random(count) < 0.6
        born = np.where(old, seconds(self.start - BEFORE * DAY, self.start), seconds(self.start, self.end))
        dies = np.where(rng.random(count) < 0.4, born + seconds(HOUR, 60 * DAY), NEVER)

        def change(share: float) -> Integers:
            at = born + seconds(HOUR, 40 * DAY)
            return np.where((rng.random(count) < share) & (at + 3 * HOUR < dies), at, NEVER)

        return {
            "born": born,
            "dies": dies,
            "resized": change(0.3),
            "stopped": change(0.3),
            "moved": change(0.3),
            "given": np.where(np.arange(count) < self.instances, NEVER, change(0.02)),  # instances never change hands
            "flavor": rng.integers(0, len(FLAVORS), count),
            "flavor_after": rng.integers(0, len(FLAVORS), count),
            "size": SIZES[rng.integers(0, len(SIZES), count)],
            "host": rng.integers(0, 400, count),
            "host_after": rng.integers(0, 400, count),
            "project": rng.integers(0, 100, count),
        }

    def totals(self) -> Totals:
        """The truth of the month."""
        story, split = self.story, self.instances
        begun, ended = np.maximum(story["born"], self.start), np.minimum(story["dies"], self.end)
        turn = np.clip(story["resized"], begun, np.maximum(begun, ended))
        before, after = np.maximum(turn - begun, 0), np.maximum(ended - turn, 0)
        vcpus = VCPUS[story["flavor"]] * before + VCPUS[story["flavor_after"]] * after
        gib = story["size"] * before + (story["size"] + GROWTH) * after
        return Totals(int((vcpus[:split] // SECOND).sum()), int((gib[split:] // SECOND).sum()))

    @cached_property
    def _events(self) -> tuple[Integers, Integers, Integers]:
        """All events in order of time: when, of which resource, and their code."""
        story, split = self.story, self.instances
        compute, volume = np.arange(split), np.arange(split, self.resources)
        kinds = (
            (compute, story["born"], "compute.instance.create.end"),
            (compute, story["dies"], "compute.instance.delete.end"),
            (compute, story["resized"], "compute.instance.finish_resize.end"),
            (compute, story["resized"] + HOUR, "compute.instance.resize.confirm.end"),
            (compute, story["stopped"], "compute.instance.power_off.end"),
            (compute, story["stopped"] + STOPPED, "compute.instance.power_on.end"),
            (compute, story["moved"], "compute.instance.live_migration.post.dest.end"),
            (volume, story["born"], "volume.create.end"),
            (volume, story["dies"], "volume.delete.end"),
            (volume, story["resized"], "volume.resize.end"),
            (volume, story["given"], "volume.transfer.accept.end"),
        )
        parts = []
        for who, at, name in kinds:
            happens = who[at[who] < self.end]
            parts.append((at[happens], happens, np.full(len(happens), CODES[name])))
        at, who, code = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(at, kind="stable")
        return at[order], who[order], code[order]

    def tables(self, first: int, last: int) -> Iterator[pa.Table]:
        """Landed notifications of some days of the month, a table a day; days before it are negative."""
        at, who, code = self._events
        for day in range(first, last):
            begun = self.start + day * DAY
            low, high = np.searchsorted(at, (begun, begun + DAY))
            parts = [(at[low:high], who[low:high], code[low:high])]
            if day >= 0:
                parts.append(self._audit(begun - DAY, begun))
            days = [np.concatenate(part) for part in zip(*parts, strict=True)]
            if len(days[0]):
                yield self._landed(begun, *days)

    def _audit(self, begun: int, ended: int) -> tuple[Integers, Integers, Integers]:
        """The audits of a day, in the minute after it."""
        story = self.story
        (who,) = np.nonzero((story["born"] < ended) & (story["dies"] > begun))
        at = ended + 5 * SECOND + np.arange(len(who)) * (40 * SECOND // max(1, len(who)))
        code = np.where(who < self.instances, CODES["compute.instance.exists"], CODES["volume.exists"])
        return at, who, code

    def _landed(self, day: int, at: Integers, who: Integers, code: Integers) -> pa.Table:
        story = self.story
        grown = story["resized"][who] <= at
        flavor = np.where(grown, story["flavor_after"][who], story["flavor"][who])
        size = story["size"][who] + GROWTH * grown
        host = np.where(story["moved"][who] <= at, story["host_after"][who], story["host"][who])
        stopped = (story["stopped"][who] <= at) & (at < story["stopped"][who] + STOPPED)
        gone = story["dies"][who] <= at
        pending = (story["resized"][who] <= at) & (at < story["resized"][who] + HOUR)
        project = (story["project"][who] + (story["given"][who] <= at)) % 100
        stamps, born, dies = _texts(at, " "), _texts(story["born"][who], "T"), _texts(story["dies"][who], "T")
        exists = (code == CODES["compute.instance.exists"]) | (code == CODES["volume.exists"])
        period = PERIOD % (*_texts(np.array([day - DAY, day]), " "), "")
        columns = [
            each.tolist() for each in (at, who, code, flavor, size, host, stopped, gone, pending, project, exists)
        ]
        bodies, ids, types, publishers = [], [], [], []
        for row, (_, one, kind, plan, gib, node, off, over, waits, owner, audit) in enumerate(
            zip(*columns, strict=True)
        ):
            message_id = f"{day // DAY:x}-{row:08x}-{one:08x}"
            name, tenant, more = EVENTS[kind], f"{owner:032x}", period if audit else ""
            user = f"{owner * 3 + one % 3:032x}"
            resource = resource_id(one)
            if one < self.instances:
                state = "deleted" if over else "stopped" if off else "resized" if waits else "active"
                label, vcpus, memory, root = FLAVORS[plan]
                ended = dies[row] if over else ""
                bodies.append(
                    INSTANCE
                    % (
                        *(name, message_id, node, stamps[row], tenant, tenant, user, resource, one, label, plan, plan),
                        *(memory, root, vcpus, root, node, node, born[row][:19], ended, ended, born[row], state, more),
                    )
                )
                publishers.append(f"compute.node-{node:03}")
            else:
                state = "deleted" if over and audit else "available"
                bodies.append(
                    VOLUME
                    % (
                        *(name, message_id, stamps[row], tenant, tenant, user, resource, one),
                        *(born[row], born[row][:19], state, gib, more),
                    )
                )
                publishers.append("volume.cinder-01@ceph#ceph")
            ids.append(message_id)
            types.append(name)
        received = at + SECOND // 2
        # of a day before the month, all in one file, which is quicker to make
        step = 1 if day >= self.start else 0
        hours = np.array(
            [times.arrival_hour(times.EPOCH + timedelta(microseconds=day + n * step * HOUR)) for n in range(25)]
        )
        table = pa.table(
            {
                "arrival_hour": pa.array(hours[(received - day) // HOUR]),
                "message_id": ids,
                "event_type": types,
                "publisher_id": publishers,
                "priority": pa.array(["info"] * len(ids)),
                "timestamp": pa.array(at, NOTIFICATIONS.field("timestamp").type),
                "received_at": pa.array(received, NOTIFICATIONS.field("received_at").type),
                "source": pa.array(["bench"] * len(ids)),
                "body": bodies,
            }
        )
        return table.cast(NOTIFICATIONS)


def _texts(at: Integers, between: str) -> list[str]:
    """Times as text, to the microsecond."""
    found = np.datetime_as_string(at.astype("datetime64[us]"))
    return [str(text).replace("T", between) for text in found]


def land(site: Site, cloud: Cloud, first: int, last: int) -> int:
    """Land the notifications of some days of the month, one commit a day; return how many."""
    made = 0
    for table in cloud.tables(first, last):
        site.lake.append("notifications", table)
        made += table.num_rows
    return made


POLLED = (
    *("cpu", "memory.usage", "memory.resident", "power.state", "instance"),
    *("volume", "volume.size"),
)
STEP = 600 * SECOND


def poll(site: Site, cloud: Cloud) -> int:
    """Write the series and the roll-ups by day of pollsters that ask for each resource; return how many series.

    Of instances there are five meters, of volumes two, or one if they grow, so three of a resource on average. Volumes
    that change hands have none.
    """
    from meterhouse.stores.bulk import bulk_insert
    from meterhouse.stores.lake_tables import ROLLUPS, TIME

    story, split = cloud.story, cloud.instances
    first = -(-np.maximum(story["born"], cloud.start) // STEP) * STEP
    last = (np.minimum(story["dies"], cloud.end - DAY) - SECOND) // STEP * STEP
    seen = (first < last) & (story["given"] >= cloud.end)
    who, meter = [], []
    for code, name in enumerate(POLLED):
        volumes = name.startswith("volume")
        chosen = seen & ((np.arange(cloud.resources) >= split) == volumes)
        if name == "volume.size":
            chosen &= story["resized"] >= cloud.end
        who.append(np.flatnonzero(chosen))
        meter.append(np.full(len(who[-1]), code))
    of, codes = np.concatenate(who), np.concatenate(meter)
    ids = np.arange(1, len(of) + 1)
    size = np.where(codes == POLLED.index("volume.size"), story["size"][of], 1).astype(np.float64)
    owners = story["project"][of].tolist()
    with site.warehouse.begin() as connection:
        bulk_insert(
            connection,
            "series",
            pa.table(
                {
                    "series_id": ids,
                    "source": pa.array(["bench"] * len(of)),
                    "meter": [POLLED[code] for code in codes.tolist()],
                    "type": pa.array(["gauge"] * len(of)),
                    "unit": ["GB" if POLLED[code] == "volume.size" else "1" for code in codes.tolist()],
                    "resource_id": [resource_id(one) for one in of.tolist()],
                    "project_id": [f"{owner:032x}" for owner in owners],
                    "user_id": [f"{owner * 3 + one % 3:032x}" for owner, one in zip(owners, of.tolist(), strict=True)],
                    "first_point_at": pa.array(first[of]).cast(TIME),
                    "last_point_at": pa.array(last[of]).cast(TIME),
                }
            ),
        )
    for day in range(DAYS - 1):
        begun = cloud.start + day * DAY
        since, until = np.maximum(first[of], begun), np.minimum(last[of], begun + DAY - STEP)
        there = np.flatnonzero(since <= until)
        since, until, volume = since[there], until[there], pa.array(size[there])
        count = (until - since) // STEP + 1
        known = {
            "granularity_s": pa.repeat(pa.scalar(86400, pa.int32()), len(there)),
            "event_day": pa.array(np.full(len(there), begun).astype("datetime64[us]").astype("datetime64[D]")),
            "series_id": pa.array(ids[there]),
            "bucket": pa.array(np.full(len(there), begun)).cast(TIME),
            "count": pa.array(count),
            **dict.fromkeys(("min", "max", "first", "last"), volume),
            "first_at": pa.array(since).cast(TIME),
            "last_at": pa.array(until).cast(TIME),
            "cadence_s": pa.repeat(600.0, len(there)),
        }
        columns = [known.get(each.name, pa.nulls(len(there), each.type)) for each in ROLLUPS]
        site.lake.append("rollups", pa.table(columns, schema=ROLLUPS))
    return len(of)


def resource_id(number: int) -> str:
    """The id of a resource."""
    return f"{number * 2_654_435_761 % 2**32:08x}-5ca1-4b1e-9a5e-{number:012x}"
