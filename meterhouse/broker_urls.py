"""The URLs of brokers: hosts, account, virtual host, TLS."""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

SCHEMES = {"amqp": False, "amqps": True, "rabbit": False, "rabbits": True}
"""Scheme → whether it means TLS."""

HEARTBEAT_SECONDS = 20.0
"""A connection that is silent for twice as long is dead; `?heartbeat=SECONDS` in the URL for another."""


@dataclass(frozen=True)
class Host:
    """One host of a cluster, and the account there."""

    name: str
    port: int
    user: str
    password: str = field(repr=False)

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class Broker:
    """A broker: one host, or the hosts of a cluster of which any will do."""

    hosts: tuple[Host, ...]
    vhost: str
    tls: bool
    heartbeat: float

    @property
    def name(self) -> str:
        """Hosts and virtual host, as people and the record of positions know it; without account."""
        return f"{','.join(map(str, self.hosts))}/{'' if self.vhost == '/' else self.vhost}"

    def place(self, queue: str) -> str:
        """The name of a queue among those of all brokers."""
        return f"{self.name} {queue}"


def brokers(urls: str) -> list[Broker]:
    """The brokers of URLs parted by white space.

    A URL is `amqp://user:password@host:port/vhost`, `amqps://` with TLS, or `rabbit://` as oslo.messaging writes it,
    of one host or of several by commas, each with its account or that of the host before. The default virtual host is
    `/`, the default account guest, the default port 5672, with TLS 5671.

    Raises:
        ValueError: a URL cannot be used; the text says what it takes.
    """
    found = [_broker(url) for url in urls.split()]
    if len({broker.name for broker in found}) != len(found):
        raise ValueError("a broker is given twice")
    return found


def _broker(url: str) -> Broker:
    scheme, mark, rest = url.partition("://")
    if scheme not in SCHEMES or not mark:
        raise ValueError("must be file:///folder, amqp://user:password@host:port/vhost or amqps://…")
    rest, _, query = rest.partition("?")
    netloc, slash, path = rest.partition("/")
    if "@" in path + query or "#" in rest + query:
        raise ValueError("has a character that must be escaped in an account: / as %2F, ? as %3F, # as %23, @ as %40")
    if any(part.count("@") > 1 for part in netloc.split(",")):
        raise ValueError("has an @ in an account: write it as %40")
    options = parse_qs(query)
    tls = SCHEMES[scheme] or options.get("ssl", ["0"])[-1].lower() in ("1", "true", "yes")
    try:
        heartbeat = float(options.get("heartbeat", [HEARTBEAT_SECONDS])[-1])
    except ValueError:
        raise ValueError("has a heartbeat that is no number of seconds") from None
    if not 1 <= heartbeat <= 3600:
        raise ValueError("has a heartbeat that is not within 1 to 3600 seconds")
    hosts: list[Host] = []
    for part in netloc.split(","):
        try:
            address = urlsplit(f"//{part}")
            port = address.port or (5671 if tls else 5672)
        except ValueError:
            raise ValueError("has a port that is no number up to 65535") from None
        if not address.hostname:
            raise ValueError("names no host: write amqp://user:password@host:port/vhost")
        if address.username is not None:
            account = unquote(address.username), unquote(address.password or "")
        else:
            account = (hosts[-1].user, hosts[-1].password) if hosts else ("guest", "guest")
        hosts.append(Host(address.hostname, port, *account))
    vhost = unquote(path) if slash and path.strip("/") else "/"
    return Broker(tuple(hosts), vhost, tls, heartbeat)
