"""Addresses of clients, and the networks that they are in."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Networks = tuple[IPv4Network | IPv6Network, ...]


@lru_cache(maxsize=4096)
def is_within(text: str, networks: Networks) -> bool:
    """Whether a text is an address in one of the networks. IPv4 in the form of IPv6 is IPv4."""
    found = address(text)
    return found is not None and any(found in network for network in networks)


def address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is; None if it is none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
