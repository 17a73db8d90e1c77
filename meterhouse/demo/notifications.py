"""The payloads of the simulated cloud's notifications: those of legacy Nova, Cinder, Glance and Neutron.

All times are microseconds since the epoch, UTC. The payloads have the form of real messages of these services.
"""

from datetime import datetime, timedelta
from typing import Any

from meterhouse.demo.inventory import Image, Instance, Project, Volume
from meterhouse.times import EPOCH

Payload = dict[str, Any]


def moment(at: int) -> datetime:
    """The time of these microseconds, UTC."""
    return EPOCH + timedelta(microseconds=at)


def stamp(at: int) -> str:
    """`YYYY-MM-DD HH:MM:SS.ffffff`, UTC without an offset: the timestamp of a notification."""
    return f"{moment(at):%Y-%m-%d %H:%M:%S.%f}"


def iso(at: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS.ffffff`, UTC without an offset; empty, as Nova sends it, for 0."""
    return f"{moment(at):%Y-%m-%dT%H:%M:%S.%f}" if at else ""


def instance(what: Instance, state: str, task: str, deleted_at: int = 0, **more: Any) -> Payload:
    """The payload of `compute.instance.*`."""
    flavor = what.flavor
    return {
        "tenant_id": what.project.id,
        "user_id": what.project.user_id,
        "instance_id": what.id,
        "display_name": what.display_name,
        "reservation_id": what.reservation_id,
        "hostname": what.display_name,
        "instance_type": flavor.name,
        "instance_type_id": int(flavor.flavor_id),
        "instance_flavor_id": flavor.flavor_id,
        "architecture": "x86_64",
        "memory_mb": flavor.memory_mb,
        "disk_gb": flavor.root_gb + flavor.ephemeral_gb,
        "vcpus": flavor.vcpus,
        "root_gb": flavor.root_gb,
        "ephemeral_gb": flavor.ephemeral_gb,
        "host": what.host,
        "node": f"{what.host}.example.com",
        "availability_zone": "nova",
        "cell_name": "",
        "created_at": f"{moment(what.created_at):%Y-%m-%d %H:%M:%S}+00:00",
        "terminated_at": iso(deleted_at),
        "deleted_at": iso(deleted_at),
        "launched_at": iso(what.launched_at),
        "image_ref_url": f"http://glance.example.com:9292/images/{what.image.id}",
        "os_type": "linux",
        "kernel_id": "",
        "ramdisk_id": "",
        "state": state,
        "state_description": task,
        "progress": "",
        "access_ip_v4": None,
        "access_ip_v6": None,
        "image_meta": {"base_image_ref": what.image.id, "container_format": "bare", "disk_format": "qcow2"},
        "metadata": {"metering.server_group": what.role.name},
        **more,
    }


def fixed_ips(what: Instance) -> list[Payload]:
    """The `fixed_ips` of `compute.instance.create.end`."""
    return [
        {
            "address": what.address,
            "type": "fixed",
            "version": 4,
            "label": f"{what.project.name}-net",
            "vif_mac": what.mac,
            "floating_ips": [],
            "meta": {},
        }
    ]


def audit_period(at: int) -> Payload:
    """The hour before this one, as an `exists` notification gives it."""
    end = moment(at).replace(minute=0, second=0, microsecond=0)
    return {
        "audit_period_beginning": f"{end - timedelta(hours=1):%Y-%m-%d %H:%M:%S}",
        "audit_period_ending": f"{end:%Y-%m-%d %H:%M:%S}",
    }


def volume(what: Volume, status: str, **more: Any) -> Payload:
    """The payload of `volume.*`; size in GiB."""
    attached = what.instance is not None and status != "creating"
    return {
        "tenant_id": what.project.id,
        "user_id": what.project.user_id,
        "host": f"cinder-01@{what.volume_type}#{what.volume_type}",
        "availability_zone": "nova",
        "volume_id": what.id,
        "volume_type": what.volume_type,
        "display_name": what.name,
        "launched_at": "" if status == "creating" else f"{moment(what.created_at):%Y-%m-%d %H:%M:%S}",
        "created_at": f"{moment(what.created_at):%Y-%m-%d %H:%M:%S}",
        "status": status,
        "snapshot_id": None,
        "size": what.size,
        "replication_status": None,
        "replication_extended_status": None,
        "replication_driver_data": None,
        "metadata": [],
        "volume_attachment": [{"instance_uuid": what.instance.id, "device": "/dev/vdb"}]
        if attached and what.instance
        else [],
        **more,
    }


def image(what: Image, status: str, created_at: int, updated_at: int) -> Payload:
    """The payload of `image.*`; size in bytes."""
    return {
        "id": what.id,
        "name": what.name,
        "status": status,
        "created_at": f"{moment(created_at):%Y-%m-%dT%H:%M:%SZ}",
        "updated_at": f"{moment(updated_at):%Y-%m-%dT%H:%M:%SZ}",
        "min_disk": 0,
        "min_ram": 0,
        "protected": False,
        "checksum": None if status == "queued" else what.checksum,
        "owner": what.owner,
        "disk_format": "qcow2",
        "container_format": "bare",
        "size": None if status == "queued" else what.size,
        "virtual_size": None,
        "visibility": "shared",
        "is_public": False,
        "properties": {},
        "tags": [],
        "deleted": False,
        "deleted_at": None,
        "location": None,
    }


def port(what: Instance, status: str) -> Payload:
    """The payload of `port.create.end`: the port of an instance."""
    return {
        "port": {
            "id": what.port_id,
            "name": "",
            "network_id": what.project.network_id,
            "tenant_id": what.project.id,
            "mac_address": what.mac,
            "admin_state_up": True,
            "status": status,
            "device_id": what.id,
            "device_owner": "compute:nova",
            "fixed_ips": [{"subnet_id": what.project.subnet_id, "ip_address": what.address}],
            "binding:host_id": what.host,
            "binding:vif_type": "ovs",
            "binding:vnic_type": "normal",
            "port_security_enabled": True,
            "security_groups": [],
            "extra_dhcp_opts": [],
        }
    }


def floating_ip(id: str, what: Instance, number: int, attached: bool) -> Payload:
    """The payload of `floatingip.create.end`, or of its association with an instance's port."""
    return {
        "floatingip": {
            "id": id,
            "floating_network_id": what.project.network_id,
            "floating_ip_address": f"203.0.113.{number % 250 + 2}",
            "fixed_ip_address": what.address if attached else None,
            "port_id": what.port_id if attached else None,
            "router_id": None,
            "tenant_id": what.project.id,
            "status": "ACTIVE" if attached else "DOWN",
            "description": "",
        }
    }


def network(id: str, project: Project, name: str) -> Payload:
    """The payload of `network.create.end`."""
    return {
        "network": {
            "id": id,
            "name": name,
            "tenant_id": project.id,
            "admin_state_up": True,
            "status": "ACTIVE",
            "shared": False,
            "mtu": 1450,
            "subnets": [],
            "port_security_enabled": True,
            "provider:network_type": "vxlan",
            "provider:physical_network": None,
            "provider:segmentation_id": 800 + project.number,
            "router:external": False,
        }
    }


def subnet(id: str, network_id: str, project: Project) -> Payload:
    """The payload of `subnet.create.end`."""
    prefix = f"10.{100 + project.number}.0"
    return {
        "subnet": {
            "id": id,
            "name": "",
            "network_id": network_id,
            "tenant_id": project.id,
            "cidr": f"{prefix}.0/24",
            "gateway_ip": f"{prefix}.1",
            "ip_version": 4,
            "enable_dhcp": True,
            "dns_nameservers": [],
            "host_routes": [],
            "allocation_pools": [{"start": f"{prefix}.2", "end": f"{prefix}.254"}],
        }
    }


def router(id: str, project: Project, name: str) -> Payload:
    """The payload of `router.create.end`."""
    return {
        "router": {
            "id": id,
            "name": name,
            "tenant_id": project.id,
            "admin_state_up": True,
            "status": "ACTIVE",
            "distributed": False,
            "ha": False,
            "routes": [],
            "external_gateway_info": None,
        }
    }
