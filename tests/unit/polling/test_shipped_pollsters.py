"""The shipped pollsters of OpenStack, on answers that have the form of its services' API references."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from meterhouse.polling.asking import Asking
from meterhouse.polling.definitions import load
from meterhouse.polling.polled import Piece, Polled
from meterhouse.settings import read_settings
from tests.dynamic_pollsters import keystone_routes, slot, source
from tests.web import Raw, Request, web

SERVER = {
    "id": "i1",
    "name": "web",
    "status": "ACTIVE",
    "tenant_id": "p1",
    "user_id": "u1",
    "hostId": "h",
    "metadata": {"tier": "front"},
    "image": {"id": "im1"},
    "flavor": {"vcpus": 2, "ram": 2048, "disk": 20, "ephemeral": 0, "swap": 0, "original_name": "m1.small"},
    "OS-EXT-SRV-ATTR:instance_name": "instance-1",
    "OS-EXT-SRV-ATTR:host": "compute-1",
    "OS-EXT-AZ:availability_zone": "nova",
    "OS-EXT-STS:vm_state": "active",
    "OS-EXT-STS:task_state": None,
    "OS-SRV-USG:launched_at": "2026-11-01T00:00:00.000000",
}
VOLUME = {
    "id": "v1",
    "name": "root",
    "status": "in-use",
    "size": 10,
    "user_id": "u1",
    "volume_type": "ssd",
    "availability_zone": "nova",
    "snapshot_id": None,
    "source_volid": None,
    "attachments": [{"server_id": "i1"}],
    "volume_image_metadata": {"image_id": "im1"},
    "os-vol-host-attr:host": "storage@lvm#pool",
    "os-vol-tenant-attr:tenant_id": "p1",
}
CAPABILITIES = {
    "total_capacity_gb": 100.0,
    "free_capacity_gb": 40.5,
    "allocated_capacity_gb": 30,
    "provisioned_capacity_gb": 50.0,
    "reserved_percentage": 15,
    "max_over_subscription_ratio": "2.0",
    "thin_provisioning_support": True,
    "pool_name": "pool",
}
SNAPSHOT = {
    "id": "s1",
    "name": "s",
    "volume_id": "v1",
    "status": "available",
    "size": 5,
    "user_id": "u1",
    "metadata": {},
    "description": "",
    "os-extended-snapshot-attributes:project_id": "p1",
    "os-extended-snapshot-attributes:progress": "100%",
}
BACKUP = {
    "id": "b1",
    "name": "b",
    "volume_id": "v1",
    "status": "available",
    "size": 7,
    "user_id": "u1",
    "description": None,
    "is_incremental": False,
    "object_count": 3,
    "container": "c",
    "os-backup-project-attr:project_id": "p1",
}
SERVICE = {"binary": "cinder-volume", "host": "storage@lvm", "zone": "nova", "status": "enabled", "state": "up"}
IMAGE = {
    "id": "im1",
    "name": "debian",
    "size": 1000,
    "owner": "p1",
    "status": "active",
    "visibility": "public",
    "container_format": "bare",
    "disk_format": "qcow2",
    "created_at": "x",
    "updated_at": "x",
    "min_disk": 0,
    "min_ram": 0,
    "checksum": "c",
    "tags": [],
    "protected": False,
}
ADDRESS = {
    "id": "f1",
    "tenant_id": "p1",
    "status": "DOWN",
    "router_id": None,
    "floating_network_id": "n",
    "fixed_ip_address": None,
    "port_id": None,
    "floating_ip_address": "192.0.2.1",
}
VPN = {
    "id": "vpn1",
    "tenant_id": "p1",
    "status": "PENDING_CREATE",
    "name": "",
    "description": "",
    "flavor_id": None,
    "admin_state_up": True,
    "subnet_id": None,
    "router_id": "r",
    "external_v4_ip": "",
    "external_v6_ip": "",
}
CONNECTION = {
    "id": "c1",
    "tenant_id": "p1",
    "psk": "secret",
    "name": "",
    "description": "",
    "status": "ACTIVE",
    "mtu": 1500,
    "admin_state_up": True,
    "peer_address": "",
    "peer_id": "",
    "peer_cidrs": [],
    "peer_ep_group_id": None,
    "initiator": "bi-directional",
    "ikepolicy_id": "",
    "ipsecpolicy_id": "",
    "vpnservice_id": "vpn1",
}
FIREWALL = {
    "id": "fw1",
    "tenant_id": "p1",
    "status": "ERROR",
    "name": "",
    "description": "",
    "admin_state_up": True,
    "ingress_firewall_policy_id": None,
    "egress_firewall_policy_id": None,
}
POLICY = {"id": "fp1", "tenant_id": "p1", "name": "", "description": "", "firewall_rules": [], "shared": False}
BALANCER = {
    "id": "lb1",
    "project_id": "p1",
    "name": "",
    "vip_address": "",
    "vip_port_id": "",
    "provider": "amphora",
    "operating_status": "DEGRADED",
    "provisioning_status": "ACTIVE",
    "flavor_id": None,
}
SHARE = {
    "id": "sh1",
    "project_id": "p1",
    "user_id": "u1",
    "size": 3,
    "status": "available",
    "name": "",
    "availability_zone": "nova",
    "share_proto": "NFS",
    "share_type": "t",
    "share_network_id": None,
    "host": "h",
    "is_public": False,
}
ZONE = {
    "id": "z1",
    "project_id": "p1",
    "status": "ACTIVE",
    "ttl": 3600,
    "serial": 17,
    "name": "example.org.",
    "email": "a@example.org",
    "description": None,
    "type": "PRIMARY",
    "action": "NONE",
    "pool_id": "x",
}
ACCOUNT = {"X-Account-Object-Count": "12", "X-Account-Bytes-Used": "3400", "X-Account-Container-Count": "2"}

# meter → the samples' resource, project, user and volume
EXPECTED: dict[str, list[tuple[str, str | None, str | None, float]]] = {
    "instance": [("i1", "p1", "u1", 1), ("i2", "p1", "u1", 1)],
    "usage.vcpu_hours": [("p1", "p1", None, 1.5)],
    "volume.size": [("v1", "p1", "u1", 10)],
    "volume.snapshot.size": [("s1", "p1", "u1", 5)],
    "volume.backup.size": [("b1", "p1", "u1", 7)],
    "volume.provider.pool.capacity.total": [("storage@lvm#pool", None, None, 100)],
    "volume.provider.pool.capacity.free": [("storage@lvm#pool", None, None, 40.5)],
    "volume.provider.pool.capacity.allocated": [("storage@lvm#pool", None, None, 30)],
    "volume.provider.pool.capacity.provisioned": [("storage@lvm#pool", None, None, 50)],
    "volume.provider.pool.capacity.virtual_free": [("storage@lvm#pool", None, None, 120)],
    "volume.service.health": [("cinder-volume@storage@lvm", None, None, 1)],
    "image.size": [("im1", "p1", None, 1000)],
    "ip.floating": [("f1", "p1", None, 3)],
    "network.services.vpn": [("vpn1", "p1", None, 2)],
    "network.services.vpn.connections": [("c1", "p1", None, 1)],
    "network.services.firewall": [("fw1", "p1", None, 7)],
    "network.services.firewall.policy": [("fp1", "p1", None, 1)],
    "loadbalancer.operating": [("lb1", "p1", None, 4)],
    "loadbalancer.provisioning": [("lb1", "p1", None, 1)],
    "manila.share.size": [("sh1", "p1", "u1", 3)],
    "manila.share.status": [("sh1", "p1", "u1", 1)],
    "dns.zone.status": [("z1", "p1", None, 1)],
    "dns.zone.ttl": [("z1", "p1", None, 3600)],
    "dns.zone.serial": [("z1", "p1", None, 17)],
    "storage.objects": [("p1", "p1", None, 12), ("p2", "p2", None, 12)],
    "storage.objects.size": [("p1", "p1", None, 3400), ("p2", "p2", None, 3400)],
    "storage.objects.containers": [("p1", "p1", None, 2), ("p2", "p2", None, 2)],
    "storage.containers.objects": [("p1/a", "p1", None, 4), ("p1/b", "p1", None, 8)],
    "storage.containers.objects.size": [("p1/a", "p1", None, 400), ("p1/b", "p1", None, 3000)],
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[dict[str, Polled]]:
    """What one poll of each shipped pollster of OpenStack gives."""
    with web({}) as server:

        def servers(request: Request) -> object:
            if "marker" in request.path:
                return {"servers": [{**SERVER, "id": "i2", "image": ""}]}
            link = {"rel": "next", "href": f"{server.url}/compute/servers/detail?all_tenants=true&marker=i1"}
            return {"servers": [SERVER], "servers_links": [link]}

        def usage(request: Request) -> object:
            asked = parse_qs(urlsplit(request.path).query)
            spent = {"tenant_id": "p1", "total_vcpus_usage": 1.5, "start": asked["start"][0], "stop": asked["end"][0]}
            return {"tenant_usages": [spent]}

        containers = [{"name": "a", "count": 4, "bytes": 400}, {"name": "b", "count": 8, "bytes": 3000}]
        pools = [
            {"name": "storage@lvm#pool", "capabilities": CAPABILITIES},
            {"name": "new", "capabilities": {"free_capacity_gb": "unknown"}},
        ]
        server.routes.update(
            {
                **keystone_routes(
                    compute=f"{server.url}/compute",
                    image=f"{server.url}/image",
                    dns=server.url,
                    **{"network": server.url, "load-balancer": server.url, "block-storage": f"{server.url}/v3/p0"},
                    **{"shared-file-system": f"{server.url}/share", "object-store": f"{server.url}/v1/AUTH_p0"},
                ),
                "/v3/projects": {"projects": [{"id": "p1"}, {"id": "p2"}], "links": {"next": None}},
                "/compute/servers/detail": servers,
                "/compute/os-simple-tenant-usage": usage,
                "/v3/p0/volumes/detail": {"volumes": [VOLUME]},
                "/v3/p0/snapshots/detail": {"snapshots": [SNAPSHOT]},
                "/v3/p0/backups/detail": {"backups": [BACKUP]},
                "/v3/p0/scheduler-stats/get_pools": {"pools": pools},
                "/v3/p0/os-services": {"services": [SERVICE]},
                "/image/v2/images": {"images": [IMAGE, {**IMAGE, "id": "queued", "size": None}], "first": "/v2/images"},
                "/v2.0/floatingips": {"floatingips": [ADDRESS]},
                "/v2.0/vpn/vpnservices": {"vpnservices": [VPN]},
                "/v2.0/vpn/ipsec-site-connections": {"ipsec_site_connections": [CONNECTION]},
                "/v2.0/fwaas/firewall_groups": {"firewall_groups": [FIREWALL]},
                "/v2.0/fwaas/firewall_policies": {"firewall_policies": [{**POLICY, "audited": False}]},
                "/v2.0/lbaas/loadbalancers": {"loadbalancers": [BALANCER], "loadbalancers_links": []},
                "/share/shares/detail": {"shares": [SHARE]},
                "/v2/zones": {"zones": [ZONE], "links": {"self": "x"}},
                "/v1/AUTH_p1?format=json": containers,
                "/v1/AUTH_p2?format=json": [],
                "/v1/AUTH_p1": Raw(204, headers=ACCOUNT),
                "/v1/AUTH_p2": Raw(204, headers=ACCOUNT),
            }
        )
        asking = Asking(
            read_settings(
                keystone_url=f"{server.url}/v3",
                keystone_username="meterhouse",
                keystone_password="secret",
                keystone_project="service",
            )
        )
        scheduled = [each for each in load(None).schedules({"central"}) if each.pollster.kind == "dynamic"]
        names = {each.name for each in load(None).pollsters if each.kind == "dynamic" and "central" in each.namespaces}
        assert {each.pollster.name for each in scheduled} <= names
        by_name = {each.name: each for each in load(None).pollsters}
        yield {name: by_name[name].poll.poll(asking, slot(), Piece(), source()) for name in sorted(names)}
        asking.close()


def test_each_gives_ceilometers_samples(cloud: dict[str, Polled]) -> None:
    found = {
        name: [
            (each["resource_id"], each["project_id"], each["user_id"], each["counter_volume"]) for each in made.samples
        ]
        for name, made in cloud.items()
    }
    assert found == EXPECTED
    assert {name: made.rests for name, made in cloud.items() if made.rests} == {}
    for name, made in cloud.items():
        assert {each["counter_name"] for each in made.samples} == {name}


def test_their_entries_leave_no_warnings(cloud: dict[str, Polled]) -> None:
    assert {name: made.warnings for name, made in cloud.items() if made.warnings} == {}


def test_usage_is_of_the_interval_that_has_ended(cloud: dict[str, Polled]) -> None:
    (sample,) = cloud["usage.vcpu_hours"].samples
    assert datetime.fromisoformat(sample["timestamp"]) < datetime.now(UTC).replace(tzinfo=None)
    assert (sample["counter_type"], sample["counter_unit"]) == ("delta", "h")


def test_metadata_has_the_names_that_usage_looks_for_and_no_secret(cloud: dict[str, Polled]) -> None:
    instance, other = (each["resource_metadata"] for each in cloud["instance"].samples)
    wanted: dict[str, Any] = {
        "display_name": "web",
        "name": "instance-1",
        "instance_type": "m1.small",
        "image_ref": "im1",
        "vcpus": 2,
        "memory_mb": 2048,
        "root_gb": 20,
        "ephemeral_gb": 0,
        "instance_host": "compute-1",
        "host": "h",
        "status": "ACTIVE",
        "state": "active",
        "task_state": None,
        "user_metadata": {"tier": "front"},
    }
    assert {key: instance[key] for key in wanted} == wanted
    assert other["image_ref"] is None
    volume = cloud["volume.size"].samples[0]["resource_metadata"]
    assert (volume["instance_id"], volume["image_id"], volume["volume_type"]) == ("i1", "im1", "ssd")
    pool = cloud["volume.provider.pool.capacity.free"].samples[0]["resource_metadata"]
    assert pool == {"pool_name": "pool", "provider": "storage@lvm"}
    assert "secret" not in str(cloud["network.services.vpn.connections"].samples)
