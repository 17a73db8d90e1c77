"""Network addresses that a webhook may reach.

An alarm from the outside belongs to a tenant, and its webhook must not reach what a tenant cannot reach himself: the
control plane. An alarm of `alarms.yaml` is the operator's own. Its webhook may reach everything but the addresses by
which clouds tell an instance its credentials.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA: Final = frozenset(
    ipaddress.ip_address(each)
    for each in (
        "169.254.169.254",  # OpenStack, AWS, Azure, Google
        "169.254.170.2",  # AWS: credentials of containers
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
        "fe80::a9fe:a9fe",  # OpenStack
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    )
)
"""Addresses of metadata services."""

_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_TRANSLATED: Final = ipaddress.IPv6Network("::ffff:0:0:0/96")
_IPV4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

_REFUSED: Final[Sequence[tuple[str, Network]]] = tuple(
    (kind, ipaddress.ip_network(network))
    for kind, network in (
        ("an unspecified address", "0.0.0.0/8"),
        ("an unspecified address", "::/128"),
        ("a loopback address", "127.0.0.0/8"),
        ("a loopback address", "::1/128"),
        ("a link-local address", "169.254.0.0/16"),
        ("a link-local address", "fe80::/10"),
        ("a private address", "10.0.0.0/8"),
        ("a private address", "172.16.0.0/12"),
        ("a private address", "192.168.0.0/16"),
        ("a private address", "fc00::/7"),
        ("a private address", "fec0::/10"),
        ("an address of a provider's own network", "100.64.0.0/10"),
        ("a multicast address", "224.0.0.0/4"),
        ("a multicast address", "ff00::/8"),
        ("a reserved address", "192.0.0.0/24"),
        ("a reserved address", "192.0.2.0/24"),
        ("a reserved address", "192.88.99.0/24"),
        ("a reserved address", "198.18.0.0/15"),
        ("a reserved address", "198.51.100.0/24"),
        ("a reserved address", "203.0.113.0/24"),
        ("a reserved address", "240.0.0.0/4"),
        ("a reserved address", "100::/64"),
        ("a reserved address", "2001:db8::/32"),
        ("a reserved address", "3fff::/20"),
        ("a reserved address", "5f00::/16"),
    )
)
"""Networks that the Internet does not reach, by the IANA's registries of special-purpose addresses."""

Allowed = tuple[Network, ...]
"""Networks that METERHOUSE_WEBHOOK_ALLOW names."""


def literal(host: str) -> Address | None:
    """The address that a host is, in any spelling that a resolver takes for one; None if it is a name.

    `127.0.0.1`, `127.1`, `0x7f.1`, `0177.0.0.1` and `2130706433` are the same address.
    """
    host = host.strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not host or not host.isascii() or not host[0].isdigit():
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return None


def refused(address: Address, origin: str, allowed: Allowed) -> str | None:
    """Why a webhook may not reach an address, such as "a loopback address"; None if it may.

    Args:
        address: the address to connect to.
        origin: `file` for an alarm of `alarms.yaml`, else `outside`.
        allowed: networks that are allowed in any case. A metadata address is allowed only if it is named itself.
    """
    meant = _meant(address)
    named = {network for network in allowed if network.num_addresses == 1}
    for each in meant:
        if each in METADATA and ipaddress.ip_network(each) not in named:
            return "the address of a metadata service"
    if origin == "file":
        return None
    for each in meant:
        if any(each in network for network in allowed if network.version == each.version):
            continue
        for kind, network in _REFUSED:
            if network.version == each.version and each in network:
                return kind
    return None


def _meant(address: Address) -> list[Address]:
    """The address, and the IPv4 address that a translator or tunnel would make of it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    address = ipaddress.IPv6Address(int(address))  # without the zone
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    inner = [address.sixtofour, address.teredo[1] if address.teredo else None]
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if any(address in network for network in _NAT64) or int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        inner.append(low)
    if address in _TRANSLATED or (address in _IPV4_COMPATIBLE and int(address) > 1):
        inner.append(low)
    return [address, *(each for each in inner if each is not None)]
