"""Where notifications come from. A source gives batches; a batch leaves the source only when it is acknowledged."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol


class Raw(NamedTuple):
    """One message as it came.

    Attributes:
        body: its bytes.
        queue: where it came by: queue, or file and line.
        fault: set where the source itself could not read on; the body then holds what it has.
        properties: AMQP's properties and headers as they are on the wire, see `headers.headers`; empty where the
            source has none.
        redelivered: whether it may have been given out before. False only where the source knows that it was not.
        place: where the queue is, as `Waiting` has it.
    """

    body: bytes
    queue: str
    fault: str = ""
    properties: bytes = b""
    redelivered: bool = True
    place: str = ""


def nothing() -> None:
    """What is left to acknowledge where there is nothing."""


@dataclass(frozen=True)
class Batch:
    """Messages taken together, and how to tell the source that they are landed.

    A batch without messages says that the source lives and has nothing now.

    Attributes:
        messages: as they came.
        acknowledge: tells the source that they are landed.
        positions: for sources that keep what was read: how far they are read with this batch, by the name of the
            application transaction that keeps it in the lake.
        at_once: the source cannot go on before it is acknowledged.
    """

    messages: list[Raw]
    acknowledge: Callable[[], None] = nothing
    positions: Mapping[str, int] = field(default_factory=dict)
    at_once: bool = False


@dataclass(frozen=True)
class Waiting:
    """What waits in one queue or folder.

    Attributes:
        place: broker and queue, or folder.
        messages: how many; of a folder, how many files.
        bytes: how many, where the source tells.
        consumers: how many processes consume the queue, where the source tells.
        oldest: since when the oldest one waits, UTC, where the source tells.
        missing: there is no such queue.
    """

    place: str
    messages: int
    bytes: int | None = None
    consumers: int | None = None
    oldest: datetime | None = None
    missing: bool = False


@dataclass(frozen=True)
class Backlog:
    """What waits in a source. True where something does."""

    places: tuple[Waiting, ...]

    @property
    def messages(self) -> int:
        """How many messages wait, all places together; of folders, how many files."""
        return sum(place.messages for place in self.places)

    @property
    def bytes(self) -> int:
        """How many bytes wait, as far as is known."""
        return sum(place.bytes or 0 for place in self.places)

    @property
    def oldest(self) -> datetime | None:
        """Since when the oldest one waits, as far as the sources tell."""
        return min((place.oldest for place in self.places if place.oldest is not None), default=None)

    def __bool__(self) -> bool:
        return any(place.messages for place in self.places)


class Stream(Protocol):
    """A source of notifications."""

    @property
    def name(self) -> str:
        """What the lake's column `source` says."""

    def backlog(self, *, keep: bool = False) -> Backlog:
        """What waits, at a look; nothing is taken.

        Args:
            keep: there will be another look soon: keep what is connected for it, until `close`.

        Raises:
            MeterhouseError: the source cannot be reached.
        """

    def close(self) -> None:
        """Let go of what was kept."""

    def batches(self, most: int, *, quiet_seconds: float = 0.0, follow: bool = False) -> Generator[Batch]:
        """Batches of at most `most` messages, until nothing has come for `quiet_seconds`; for ever with `follow`.

        Batches may be taken on before earlier ones are acknowledged. Where nothing comes, a batch without messages is
        given each second or so.

        Raises:
            MeterhouseError: the source cannot be reached, and has not come back for a while; not with `follow`.
        """
