"""Where a webhook connects to: the addresses of a host, checked, each time that it is called.

A name is resolved once for a call, and the call connects to the very addresses that were checked. To check the name
alone would not do: who has a name can let it lead elsewhere at any time.
"""

import asyncio
import socket
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from meterhouse.alarms.definitions import actions, addresses
from meterhouse.alarms.delivery.threads import in_thread

MOST: Final = 6
"""How many addresses of a name are tried at most."""


class Forbidden(Exception):
    """The webhook must not reach this address."""


@dataclass(frozen=True)
class Target:
    """Where a URL leads to, and what to ask for there.

    Attributes:
        host: the name or address in ASCII, without brackets.
        port: the port.
        secure: whether to speak TLS.
        authority: host and port as the header `host` has them.
        resource: path and query, byte for byte as the URL has them.
    """

    host: str
    port: int
    secure: bool
    authority: str
    resource: str


def target(url: str) -> Target:
    """Read the URL of a webhook, without `trust+`, user and password.

    Raises:
        ValueError: it cannot be called.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"the scheme {parts.scheme!r} cannot be called")
    host = actions.ascii_host(parts)
    port = parts.port
    authority = f"[{host}]" if ":" in host else host
    if port is not None:
        authority = f"{authority}:{port}"
    # Not of `urlsplit`, which leaves an empty query out: a signed URL must arrive as it was signed.
    rest = url.partition("://")[2].partition("#")[0]
    start = min((place for place in map(rest.find, "/?") if place >= 0), default=len(rest))
    resource = rest[start:]
    if not resource.startswith("/"):
        resource = f"/{resource}"
    plain = "".join(
        each if "!" <= each <= "~" else "".join(f"%{byte:02X}" for byte in each.encode()) for each in resource
    )
    return Target(host, port or (443 if secure else 80), secure, authority, plain)


class Resolver:
    """Resolves the names of one run, each once. A lookup that hangs is left to its thread.

    Args:
        allowed: the networks of METERHOUSE_WEBHOOK_ALLOW.
    """

    def __init__(self, allowed: addresses.Allowed) -> None:
        self.allowed = allowed
        self._found: dict[tuple[str, int], asyncio.Future[list[Any]]] = {}

    async def addresses(self, host: str, port: int, origin: str) -> list[tuple[socket.AddressFamily, Any]]:
        """The family and socket address of each address that may be called.

        Args:
            host: the name or address.
            port: the port.
            origin: `file` for an alarm of `alarms.yaml`, else `outside`.

        Raises:
            OSError: the name cannot be resolved.
            Forbidden: no address may be called.
        """
        address = addresses.literal(host)
        if address is not None:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            found: list[tuple[socket.AddressFamily, Any]] = [(family, (str(address), port))]
        else:
            key = (host, port)
            if key not in self._found:
                self._found[key] = _looked_up(host, port)
            found = await asyncio.shield(self._found[key])
        open_to, why = [], ""
        for family, place in found:
            reason = addresses.refused(_address(place), origin, self.allowed)
            if reason is None:
                open_to.append((family, place))
            else:
                why = f"{place[0]} is {reason}"
        if not open_to:
            raise Forbidden(f"{why}, which this alarm's webhooks must not reach" if why else "the name has no address")
        return open_to[:MOST]


def _address(place: Any) -> addresses.Address:
    found = addresses.literal(str(place[0]))
    if found is None:
        raise Forbidden(f"{place[0]} is not an address")
    return found


def _looked_up(host: str, port: int) -> "asyncio.Future[list[Any]]":
    """The socket addresses of a name, by the system's resolver."""

    def resolve() -> list[Any]:
        kinds = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys((kind[0], kind[4]) for kind in kinds))

    return in_thread(resolve)
