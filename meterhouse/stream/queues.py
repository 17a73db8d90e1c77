"""What is consumed of a broker, and how: queues, TLS, the size of a batch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

QueueType = Literal["classic", "quorum", "stream"]


@dataclass(frozen=True)
class Queues:
    """What is consumed of each broker, and how.

    Attributes:
        topics: the queues' names; with exchanges, the routing keys that own queues are bound by.
        exchanges: the services' exchanges; empty where given queues are consumed.
        pool: what the names of the own queues begin with.
        kind: the own queues' type; `stream` says that given ones are streams too.
        prefetch: most messages of a queue that are taken and not acknowledged.
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
        """The name by which the lake keeps how far a stream queue is read."""
        return f"stream {place}"


@dataclass(frozen=True)
class Tls:
    """The files that TLS takes; None for the system's certificates, and for no certificate of one's own."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Pace:
    """When a batch is full: at so many bytes, or when its first message has waited so many seconds."""

    most_bytes: int = 64 << 20
    wait_seconds: float = 2.0
