"""What Nova wrote into a domain: name, flavor, image, project and user.

The metadata are those of Ceilometer's compute pollsters with `instance_discovery_method = libvirt_metadata`.
https://docs.openstack.org/nova/latest/admin/libvirt-misc.html
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

NAMESPACES: Final = (
    "http://openstack.org/xmlns/libvirt/nova/1.1",
    "http://openstack.org/xmlns/libvirt/nova/1.0",
)
"""Of Nova's elements in a domain's XML, the newest first."""

_STATES: Final = {
    0: ("building", "pending"),
    1: ("active", "running"),
    2: ("active", "running"),
    3: ("paused", "paused"),
    4: ("stopped", "shutdown"),
    5: ("stopped", "shutdown"),
    6: ("error", "crashed"),
    7: ("suspended", "suspended"),
}
"""virDomainState → Nova's status and state, as far as libvirt can know."""

_SPECIAL_IMAGE_KEYS: Final = {
    "containerFormat": "container_format",
    "diskFormat": "disk_format",
    "minDisk": "min_disk",
    "minRam": "min_ram",
}


@dataclass(frozen=True)
class Instance:
    """An instance of Nova's on this host.

    Attributes:
        id: the instance's, which is the domain's UUID.
        domain: the domain's name: `instance-0000002a`.
        user_id, project_id: whose it is.
        flavor: id, name, vcpus, ram (MiB), disk, ephemeral (GiB), swap (MiB), and extra_specs if Nova wrote them.
        metadata: of its samples, without the state.
    """

    id: str
    domain: str
    user_id: str
    project_id: str
    flavor: Mapping[str, Any]
    metadata: Mapping[str, Any]


def instance(domain: Element, name: str, uuid: str, host: str) -> Instance | None:
    """The instance that a domain is; None if Nova did not make it.

    Args:
        domain: its XML.
        name: of the domain.
        uuid: of the domain.
        host: that it runs on.

    Raises:
        ValueError: Nova's metadata lack what each instance has.
    """
    for namespace in NAMESPACES:
        nova = domain.find(f"metadata/{{{namespace}}}instance")
        if nova is not None:
            return _read(domain, nova, f"{{{namespace}}}", name, uuid, host)
    return None


def states(state: int) -> dict[str, str]:
    """Nova's status and state, of virDomainState."""
    status, vm_state = _STATES.get(state, ("", ""))
    return {"status": status, "state": vm_state}


def _read(domain: Element, nova: Element, at: str, name: str, uuid: str, host: str) -> Instance:
    owner, kind = nova.find(f"{at}owner"), domain.find("os/type")
    flavor = nova.find(f"{at}flavor")
    user = owner.find(f"{at}user") if owner is not None else None
    project = owner.find(f"{at}project") if owner is not None else None
    if flavor is None or user is None or project is None or kind is None:
        raise ValueError("its metadata have no flavor, user or project, or it has no type of system")
    project_id = project.get("uuid", "")
    of_flavor = _flavor(flavor, at)
    root = nova.find(f"{at}root[@type='image']")
    image = {"id": root.get("uuid", "")} if root is not None else None
    metadata: dict[str, Any] = {
        "display_name": nova.findtext(f"{at}name"),
        "name": name,
        "instance_id": uuid,
        "instance_type": of_flavor["name"],
        # As Nova's API makes it: it tells projects apart, and does not name the host.
        "host": hashlib.sha224(f"{project_id}{host}".encode()).hexdigest(),
        "instance_host": host,
        "flavor": of_flavor,
        "task_state": "",
        "image": image,
        "image_ref": image["id"] if image else None,
        "image_ref_url": None,
        "architecture": kind.get("arch", ""),
        "os_type": kind.text,
        "vcpus": of_flavor["vcpus"],
        "memory_mb": of_flavor["ram"],
        "disk_gb": of_flavor["disk"],
        "ephemeral_gb": of_flavor["ephemeral"],
        "root_gb": of_flavor["disk"] - of_flavor["ephemeral"],
    }
    if of_image := _image(nova.find(f"{at}image"), at):
        metadata["image_meta"] = of_image
    return Instance(uuid, name, user.get("uuid", ""), project_id, of_flavor, metadata)


def _flavor(flavor: Element, at: str) -> dict[str, Any]:
    name = flavor.get("name", "")
    found: dict[str, Any] = {"id": flavor.get("id") or name, "name": name}
    for key in ("vcpus", "ram", "disk", "ephemeral", "swap"):
        found[key] = int(flavor.findtext(f"{at}{'memory' if key == 'ram' else key}") or 0)
    specs = flavor.find(f"{at}extraSpecs")
    if specs is not None:
        found["extra_specs"] = {each.get("name", ""): each.text for each in specs.findall(f"{at}extraSpec")}
    return found


def _image(image: Element | None, at: str) -> dict[str, Any]:
    if image is None:
        return {}
    found: dict[str, Any] = {}
    if base := image.get("uuid"):
        found["base_image_ref"] = base
    for tag, key in _SPECIAL_IMAGE_KEYS.items():
        one = image.find(f"{at}{tag}")
        if one is not None:
            found[key] = one.text
    for each in image.findall(f"{at}properties/{at}property"):
        found[each.get("name", "")] = each.text
    return found
