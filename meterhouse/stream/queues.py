"""How a broker is consumed: queues, TLS, the size of a batch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

QueueType = Literal["classic", "quorum", "stream"]


@dataclass(frozen=True)
class Queues:
    """The queues to consume of each broker.

    Attributes:
        topics: the names of existing queues; with exchanges, the routing keys that own queues are bound by.
        exchanges: the services' exchanges; empty if existing queues are consumed.
        pool: the prefix of the names of own queues.
        kind: the type of own queues; with `stream`, existing queues are streams too.
        prefetch: the maximum number of messages of a queue that are taken and not acknowledged.
    """

    topics: tuple[str, ...]
    exchanges: tuple[str, ...] = ()
    pool: str = "meterhouse"
    kind: QueueType = "quorum"
    prefetch: int = 20_000

    @property
    def names(self) -> dict[str, str]:
        """Queue → routing key."""
        return {f"{self.pool}.{topic}" if self.exchanges else topic: topic for topic in self.topics}

    def position(self, place: str) -> str:
        """The name by which the lake records how far a stream queue is read."""
        return f"stream {place}"


@dataclass(frozen=True)
class Tls:
    """The files for TLS. None means the system's certificates, or no client certificate."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Pace:
    """When a batch is full: at `max_bytes`, or when its first message has waited for `wait_seconds`."""

    max_bytes: int = 64 << 20
    wait_seconds: float = 2.0
