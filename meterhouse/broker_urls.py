"""URLs of brokers: hosts, account, virtual host, TLS."""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

SCHEMES = {"amqp": False, "amqps": True, "rabbit": False, "rabbits": True}
"""Scheme → whether it means TLS."""

HEARTBEAT_SECONDS = 20.0
"""A connection that is silent for twice this long is dead. `?heartbeat=SECONDS` in the URL changes it."""


@dataclass(frozen=True)
class Host:
    """One host of a cluster, and the account to use there."""

    name: str
    port: int
    user: str
    password: str = field(repr=False)

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class Broker:
    """A broker: one host, or a cluster of hosts, any of which can be used."""

    hosts: tuple[Host, ...]
    vhost: str
    tls: bool
    heartbeat: float

    @property
    def name(self) -> str:
        """Hosts and virtual host, without the account, as shown to people and recorded with positions."""
        return f"{','.join(map(str, self.hosts))}/{'' if self.vhost == '/' else self.vhost}"

    def place(self, queue: str) -> str:
        """The name of a queue that is unique among all brokers."""
        return f"{self.name} {queue}"


def brokers(urls: str) -> list[Broker]:
    """The brokers of URLs that are separated by white space.

    A URL is `amqp://user:password@host:port/vhost`, `amqps://` with TLS, or `rabbit://` as oslo.messaging writes it.
    It has one host, or several that are separated by commas. A host without an account uses that of the host before.
    The default virtual host is `/`, the default account guest, the default port 5672, with TLS 5671.

    Raises:
        ValueError: a URL cannot be used; the message says what to write.
    """
    found = [_broker(url) for url in urls.split()]
    if len({broker.name for broker in found}) != len(found):
        raise ValueError("a broker is named twice")
    return found


def _broker(url: str) -> Broker:
    scheme, mark, rest = url.partition("://")
    if scheme not in SCHEMES or not mark:
        raise ValueError("must be file:///folder, amqp://user:password@host:port/vhost or amqps://…")
    rest, _, query = rest.partition("?")
    netloc, slash, path = rest.partition("/")
    if "@" in path + query or "#" in rest + query:
        raise ValueError("has an account with a character to escape: write / as %2F, ? as %3F, # as %23, @ as %40")
    if any(part.count("@") > 1 for part in netloc.split(",")):
        raise ValueError("has an account with an @: write it as %40")
    options = parse_qs(query)
    tls = SCHEMES[scheme] or options.get("ssl", ["0"])[-1].lower() in ("1", "true", "yes")
    try:
        heartbeat = float(options.get("heartbeat", [HEARTBEAT_SECONDS])[-1])
    except ValueError:
        raise ValueError("has a heartbeat that is not a number of seconds") from None
    if not 1 <= heartbeat <= 3600:
        raise ValueError("has a heartbeat that is not between 1 and 3600 seconds")
    hosts: list[Host] = []
    for part in netloc.split(","):
        try:
            address = urlsplit(f"//{part}")
            port = address.port or (5671 if tls else 5672)
        except ValueError:
            raise ValueError("has a port that is not a number up to 65535") from None
        if not address.hostname:
            raise ValueError("has no host: write amqp://user:password@host:port/vhost")
        if address.username is not None:
            account = unquote(address.username), unquote(address.password or "")
        else:
            account = (hosts[-1].user, hosts[-1].password) if hosts else ("guest", "guest")
        hosts.append(Host(address.hostname, port, *account))
    vhost = unquote(path) if slash and path.strip("/") else "/"
    return Broker(tuple(hosts), vhost, tls, heartbeat)
