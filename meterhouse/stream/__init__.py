"""Where notifications come from. A source gives batches; a batch leaves the source only when it is acknowledged."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Raw:
    """One message as it came: its bytes, and where it came by (queue, or file and line)."""

    body: bytes
    queue: str
    fault: str = ""
    """Set where the source itself could not read on; the body then holds what it has."""


@dataclass(frozen=True)
class Batch:
    """Messages taken together, and how to tell the source that they are landed."""

    messages: list[Raw]
    acknowledge: Callable[[], None]


@dataclass(frozen=True)
class Backlog:
    """What waits in a source. `oldest` is UTC; None where nothing waits."""

    files: int
    bytes: int
    oldest: datetime | None

    def __bool__(self) -> bool:
        return self.files > 0
