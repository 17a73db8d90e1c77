"""What the services of a simulated cloud send: notifications of Nova, Cinder, Glance and Neutron, and polled samples.

The forms are those of real messages: Nova's unversioned and versioned notifications, Cinder's without a time of
deletion, Neutron's whose deletion names only the id, samples of the compute agent and of the central one. Times are
microseconds since the epoch, UTC, whole seconds where a service sends whole seconds.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from meterhouse.times import EPOCH

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
GIB = 2**30

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Flavor:
    """Nova's flavor, or the type of a volume."""

    id: str
    name: str
    vcpus: int = 0
    memory_mib: int = 0
    root_gib: int = 0
    ephemeral_gib: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a resource is for a while. `size_gib` is that of storage."""

    project: str
    user: str
    name: str
    state: str
    flavor: Flavor | None = None
    host: str | None = None
    zone: str | None = None
    image: str | None = None
    size_gib: float | None = None
    parent: str | None = None
    """The volume of a snapshot; the instance that a volume is attached to."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The times of a resource in its service's database; 0 is none."""

    created_at: int
    launched_at: int = 0
    deleted_at: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way.

    Attributes:
        at: when it is sent, in true time.
        kind: "event", "audit" or "poll".
        service: "nova", "cinder", "glance", "neutron", or "polling".
        host: who sends it.
        of: the id of the resource that it is about; None of a batch of several.
        shape: what it says about the resource; None of batches, and where the resource is gone.
        message_id: its own.
        line: the message as JSON.
    """

    at: int
    kind: str
    service: str
    host: str
    of: str | None
    event_type: str
    shape: Shape | None
    message_id: str
    line: bytes


def moment(at: int) -> datetime:
    """The time of these microseconds."""
    return EPOCH + timedelta(microseconds=at)


def stamp(at: int) -> str:
    """`YYYY-MM-DD HH:MM:SS.ffffff`, the timestamp of a notification."""
    return f"{moment(at):%Y-%m-%d %H:%M:%S.%f}"


def iso(at: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS.ffffff`; empty for 0, as Nova sends it."""
    return f"{moment(at):%Y-%m-%dT%H:%M:%S.%f}" if at else ""


def seconds(at: int) -> str:
    """`YYYY-MM-DD HH:MM:SS`."""
    return f"{moment(at):%Y-%m-%d %H:%M:%S}"


def zulu(at: int) -> str | None:
    """`YYYY-MM-DDTHH:MM:SSZ`; None for 0, as versioned notifications have it."""
    return f"{moment(at):%Y-%m-%dT%H:%M:%SZ}" if at else None


def body(event_type: str, message_id: str, publisher: str, at: int, payload: Payload, priority: str = "INFO") -> bytes:
    """A notification as it lies on the wire, without the envelope."""
    return json.dumps(
        {
            "event_type": event_type,
            "message_id": message_id,
            "publisher_id": publisher,
            "priority": priority,
            "timestamp": stamp(at),
            "payload": payload,
        }
    ).encode()


# -- Nova ----------------------------------------------------------------------------------------------------------

VERSIONED = {
    "resize.prep": "resize_prep",
    "finish_resize": "resize_finish",
    "resize.confirm": "resize_confirm",
    "resize.revert": "resize_revert",
    "live_migration.pre": "live_migration_pre",
    "live_migration._post": "live_migration_post",
    "live_migration.post.dest": "live_migration_post_dest",
    "live_migration.rollback.dest": "live_migration_rollback_dest",
}
"""Unversioned operation → versioned one, where they differ."""


def nova_event(operation: str, phase: str) -> str:
    """The type of an unversioned notification of Nova's."""
    return f"compute.instance.{operation}.{phase}" if phase else f"compute.instance.{operation}"


def nova_versioned_event(operation: str, phase: str) -> str:
    """The type of the versioned notification of the same moment."""
    name = VERSIONED.get(operation, operation)
    return f"instance.{name}.{phase}" if phase else f"instance.{name}"


def nova(instance_id: str, shape: Shape, times: Recorded, task: str = "", **more: Any) -> Payload:
    """The payload of `compute.instance.*`."""
    flavor = shape.flavor
    assert flavor is not None
    return {
        "tenant_id": shape.project,
        "user_id": shape.user,
        "instance_id": instance_id,
        "display_name": shape.name,
        "reservation_id": f"r-{instance_id[:8]}",
        "hostname": shape.name,
        "instance_type": flavor.name,
        "instance_type_id": int(flavor.id),
        "instance_flavor_id": flavor.id,
        "architecture": "x86_64",
        "memory_mb": flavor.memory_mib,
        "disk_gb": flavor.root_gib + flavor.ephemeral_gib,
        "vcpus": flavor.vcpus,
        "root_gb": flavor.root_gib,
        "ephemeral_gb": flavor.ephemeral_gib,
        "host": shape.host,
        "node": shape.host,
        "availability_zone": shape.zone,
        "cell_name": "",
        "created_at": f"{seconds(times.created_at)}+00:00",
        "terminated_at": iso(times.deleted_at),
        "deleted_at": iso(times.deleted_at),
        "launched_at": iso(times.launched_at),
        "image_ref_url": f"http://glance.example.com:9292/images/{shape.image}",
        "os_type": "linux",
        "kernel_id": "",
        "ramdisk_id": "",
        "state": shape.state,
        "state_description": task,
        "progress": "",
        "access_ip_v4": None,
        "access_ip_v6": None,
        "image_meta": {"base_image_ref": shape.image, "container_format": "bare", "disk_format": "qcow2"},
        "metadata": {},
        **more,
    }


def nova_versioned(instance_id: str, shape: Shape, times: Recorded, task: str = "", **more: Any) -> Payload:
    """The payload of `instance.*`."""
    flavor = shape.flavor
    assert flavor is not None
    about = {
        "uuid": instance_id,
        "tenant_id": shape.project,
        "user_id": shape.user,
        "display_name": shape.name,
        "display_description": shape.name,
        "host_name": shape.name,
        "host": shape.host,
        "node": shape.host,
        "availability_zone": shape.zone,
        "image_uuid": shape.image,
        "architecture": "x86_64",
        "state": shape.state,
        "task_state": task or None,
        "power_state": "running",
        "created_at": zulu(times.created_at),
        "launched_at": zulu(times.launched_at),
        "deleted_at": zulu(times.deleted_at),
        "terminated_at": zulu(times.deleted_at),
        "metadata": {},
        "block_devices": [],
        "ip_addresses": [],
        "reservation_id": f"r-{instance_id[:8]}",
        "flavor": {
            "nova_object.name": "FlavorPayload",
            "nova_object.namespace": "nova",
            "nova_object.version": "1.4",
            "nova_object.data": {
                "flavorid": flavor.id,
                "name": flavor.name,
                "vcpus": flavor.vcpus,
                "memory_mb": flavor.memory_mib,
                "root_gb": flavor.root_gib,
                "ephemeral_gb": flavor.ephemeral_gib,
                "swap": 0,
            },
        },
    }
    if "audit_period_beginning" in more:
        more = {
            "audit_period": {
                "nova_object.name": "AuditPeriodPayload",
                "nova_object.namespace": "nova",
                "nova_object.version": "1.0",
                "nova_object.data": {
                    name: more[name].replace(" ", "T") + "Z"
                    for name in ("audit_period_beginning", "audit_period_ending")
                },
            },
            "bandwidth": [],
        }
    else:
        more = {}
    return {
        "nova_object.name": "InstanceExistsPayload" if more else "InstanceActionPayload",
        "nova_object.namespace": "nova",
        "nova_object.version": "1.8",
        "nova_object.data": {**about, **more},
    }


# -- Cinder --------------------------------------------------------------------------------------------------------


def volume(volume_id: str, shape: Shape, times: Recorded, **more: Any) -> Payload:
    """The payload of `volume.*`. It has no time of deletion."""
    flavor = shape.flavor
    assert flavor is not None
    assert shape.size_gib is not None
    return {
        "tenant_id": shape.project,
        "user_id": shape.user,
        "host": shape.host,
        "availability_zone": shape.zone,
        "volume_id": volume_id,
        "volume_type": flavor.name,
        "display_name": shape.name,
        "launched_at": f"{iso(times.launched_at)}+00:00" if times.launched_at else "",
        "created_at": f"{moment(times.created_at):%Y-%m-%dT%H:%M:%S}+00:00",
        "status": shape.state,
        "snapshot_id": None,
        "size": int(shape.size_gib),
        "replication_status": None,
        "replication_extended_status": None,
        "replication_driver_data": None,
        "metadata": [],
        "volume_attachment": [{"instance_uuid": shape.parent, "device": "/dev/vdb"}] if shape.parent else [],
        **more,
    }


def snapshot(snapshot_id: str, shape: Shape, times: Recorded, **more: Any) -> Payload:
    """The payload of `snapshot.*`."""
    assert shape.size_gib is not None
    return {
        "tenant_id": shape.project,
        "user_id": shape.user,
        "availability_zone": shape.zone,
        "volume_id": shape.parent,
        "volume_size": int(shape.size_gib),
        "snapshot_id": snapshot_id,
        "display_name": shape.name,
        "created_at": f"{seconds(times.created_at)}+00:00",
        "status": shape.state,
        "deleted": "",
        "metadata": "",
        **more,
    }


# -- Glance, Neutron -----------------------------------------------------------------------------------------------


def image(image_id: str, shape: Shape, times: Recorded, updated_at: int) -> Payload:
    """The payload of `image.*`; its size is in bytes."""
    known = shape.state not in ("queued", "saving")
    assert shape.size_gib is not None
    return {
        "id": image_id,
        "name": shape.name,
        "status": shape.state,
        "created_at": zulu(times.created_at),
        "updated_at": zulu(updated_at),
        "min_disk": 0,
        "min_ram": 0,
        "protected": False,
        "checksum": "8a40c862b5735975d82605c1dd395796" if known else None,
        "owner": shape.project,
        "disk_format": "qcow2",
        "container_format": "bare",
        "size": int(shape.size_gib * GIB) if known else None,
        "virtual_size": None,
        "visibility": "shared",
        "is_public": False,
        "properties": {},
        "tags": [],
        "deleted": shape.state == "deleted",
        "deleted_at": zulu(times.deleted_at),
    }


def floating_ip(address_id: str, shape: Shape, times: Recorded) -> Payload:
    """The payload of `floatingip.create.end` and `.update.end`."""
    return {
        "floatingip": {
            "id": address_id,
            "tenant_id": shape.project,
            "project_id": shape.project,
            "floating_network_id": "5f7774a3-759f-4798-92f0-5ef59c88705c",
            "floating_ip_address": shape.name,
            "fixed_ip_address": "10.0.0.6" if shape.state == "ACTIVE" else None,
            "router_id": None,
            "port_id": "163da95e-740d-4fe0-a8ee-91b77bb5ae33" if shape.state == "ACTIVE" else None,
            "status": shape.state,
            "description": "",
            "dns_name": "",
            "dns_domain": "",
            "created_at": zulu(times.created_at),
            "revision_number": 0,
        }
    }


# -- polled samples ------------------------------------------------------------------------------------------------


def sample(
    meter: str, kind: str, unit: str, resource_id: str, project: str, user: str | None, metadata: Payload, source: str
) -> str:
    """A polled sample as JSON text with `%s` for its volume, time and message_id, in this order."""
    fixed = {
        "source": source,
        "counter_name": meter,
        "counter_type": kind,
        "counter_unit": unit,
        "resource_id": resource_id,
        "project_id": project,
        "user_id": user,
        "resource_metadata": metadata,
        "monotonic_time": None,
    }
    text = json.dumps(fixed).replace("%", "%%")
    return text[:-1] + ', "counter_volume": %s, "timestamp": "%s", "message_id": "%s"}'


POLLED_STATES = {
    "active": ("active", "running"),
    "resized": ("active", "running"),
    "rescued": ("active", "running"),
    "stopped": ("shutoff", "shutdown"),
    "shelved": ("shutoff", "shutdown"),
    "paused": ("paused", "paused"),
    "suspended": ("suspended", "suspended"),
}
"""Nova's vm_state → the status and state that the compute agent reads from libvirt. Others are not on a hypervisor."""


def polled_instance(instance_id: str, shape: Shape) -> Payload:
    """The metadata of a sample of the compute agent's. `host` is Nova's hash of the host."""
    flavor = shape.flavor
    assert flavor is not None
    status, state = POLLED_STATES[shape.state]
    return {
        "display_name": shape.name,
        "name": f"instance-{instance_id[:8]}",
        "instance_id": instance_id,
        "instance_type": flavor.name,
        "host": f"{hash_of(shape.project, shape.host):056x}",
        "instance_host": shape.host,
        "flavor": {
            "id": flavor.id,
            "name": flavor.name,
            "vcpus": flavor.vcpus,
            "ram": flavor.memory_mib,
            "disk": flavor.root_gib,
            "ephemeral": flavor.ephemeral_gib,
            "swap": 0,
        },
        "status": status,
        "state": state,
        "task_state": "",
        "image": {"id": shape.image},
        "image_ref": shape.image,
        "image_ref_url": None,
        "architecture": "x86_64",
        "OS-EXT-AZ:availability_zone": shape.zone,
        "os_type": "hvm",
        "vcpus": flavor.vcpus,
        "memory_mb": flavor.memory_mib,
        "disk_gb": flavor.root_gib + flavor.ephemeral_gib,
        "ephemeral_gb": flavor.ephemeral_gib,
        "root_gb": flavor.root_gib,
    }


def polled_volume(volume_id: str, shape: Shape, times: Recorded) -> Payload:
    """The metadata of a sample of `volume.size`."""
    flavor = shape.flavor
    assert flavor is not None
    return {
        "id": volume_id,
        "name": shape.name,
        "status": shape.state,
        "volume_type": flavor.name,
        "availability_zone": shape.zone,
        "os-vol-host-attr:host": shape.host,
        "migration_status": None,
        "attachments": [{"server_id": shape.parent}] if shape.parent else [],
        "snapshot_id": None,
        "source_volid": None,
        "created_at": f"{moment(times.created_at):%Y-%m-%dT%H:%M:%S.%f}",
        "user_id": shape.user,
        "os-vol-tenant-attr:tenant_id": shape.project,
    }


def polled_snapshot(shape: Shape, times: Recorded) -> Payload:
    """The metadata of a sample of `volume.snapshot.size`."""
    return {
        "name": shape.name,
        "volume_id": shape.parent,
        "status": shape.state,
        "description": None,
        "created_at": f"{moment(times.created_at):%Y-%m-%dT%H:%M:%S.%f}",
        "metadata": {},
    }


def polled_image(image_id: str, shape: Shape, times: Recorded) -> Payload:
    """The metadata of a sample of `image.size`."""
    return {
        "id": image_id,
        "name": shape.name,
        "status": shape.state,
        "created_at": zulu(times.created_at),
        "disk_format": "qcow2",
        "container_format": "bare",
        "visibility": "shared",
    }


def polled_floating_ip(shape: Shape) -> Payload:
    """The metadata of a sample of `ip.floating`."""
    return {
        "router_id": None,
        "status": shape.state,
        "floating_network_id": "5f7774a3-759f-4798-92f0-5ef59c88705c",
        "fixed_ip_address": None,
        "port_id": None,
        "floating_ip_address": shape.name,
    }


def hash_of(*words: str | None) -> int:
    """A number that is the same on every machine."""
    import hashlib

    return int.from_bytes(hashlib.sha224("/".join(map(str, words)).encode()).digest(), "big")
