"""FOCUS's categories of services, by the types of OpenStack's resources.

Source: FOCUS 1.2, allowed values of ServiceCategory and ServiceSubcategory.
"""

import re
from typing import Final

OTHER: Final = ("Other", "Other (Other)")

_BY_WORD: Final = {
    "instance": ("Compute", "Virtual Machines"),
    "server": ("Compute", "Virtual Machines"),
    "compute": ("Compute", "Virtual Machines"),
    "baremetal": ("Compute", "Virtual Machines"),
    "node": ("Compute", "Virtual Machines"),
    "cluster": ("Compute", "Containers"),
    "kubernetes": ("Compute", "Containers"),
    "snapshot": ("Storage", "Backup Storage"),
    "backup": ("Storage", "Backup Storage"),
    "volume": ("Storage", "Block Storage"),
    "block": ("Storage", "Block Storage"),
    "share": ("Storage", "File Storage"),
    "object": ("Storage", "Object Storage"),
    "container": ("Storage", "Object Storage"),
    "bucket": ("Storage", "Object Storage"),
    "image": ("Storage", "Other (Storage)"),
    "storage": ("Storage", "Other (Storage)"),
    "loadbalancer": ("Networking", "Application Networking"),
    "balancer": ("Networking", "Application Networking"),
    "firewall": ("Networking", "Network Security"),
    "router": ("Networking", "Network Routing"),
    "vpn": ("Networking", "Network Connectivity"),
    "bandwidth": ("Networking", "Network Connectivity"),
    "traffic": ("Networking", "Network Connectivity"),
    "ip": ("Networking", "Network Infrastructure"),
    "floatingip": ("Networking", "Network Infrastructure"),
    "port": ("Networking", "Network Infrastructure"),
    "subnet": ("Networking", "Network Infrastructure"),
    "network": ("Networking", "Other (Networking)"),
    "networking": ("Networking", "Other (Networking)"),
    "database": ("Databases", "Other (Databases)"),
    "secret": ("Security", "Secret Management"),
    "zone": ("Networking", "Other (Networking)"),
}
"""A word of a resource's type or of a service's name → category and subcategory. Earlier words count first."""


def category(resource_type: str | None, service: str) -> tuple[str, str]:
    """The category and subcategory of a service, by the type of the resource, otherwise by the service's name."""
    for text in (resource_type, service):
        words = set(re.findall("[a-z]+", (text or "").lower()))
        words |= {word.removesuffix("s") for word in words}
        for word, found in _BY_WORD.items():
            if word in words:
                return found
    return OTHER
