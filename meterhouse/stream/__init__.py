"""Where notifications come from. A source yields batches. A batch leaves the source only when it is acknowledged."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Protocol

HEAD_BYTES: Final = 64 << 10
"""How much is kept of a message that is longer than METERHOUSE_MESSAGE_BYTES."""

LONGEST: Final = 32 << 20
"""Default of METERHOUSE_MESSAGE_BYTES."""


def too_long(size: int, longest: int) -> str:
    """Why a message of this many bytes is not taken; empty if it is."""
    if size <= longest:
        return ""
    return (
        f"it has {size:,} bytes, more than METERHOUSE_MESSAGE_BYTES allows ({longest:,}); "
        f"only the first {HEAD_BYTES:,} are kept"
    )


class Raw(NamedTuple):
    """One message as it came.

    Attributes:
        body: its bytes.
        queue: where it came from: the queue, or file and line.
        fault: why the source could not read the message, if it could not; the body then has what was read.
        properties: AMQP's properties and headers as on the wire, see `headers.headers`; empty if the source has
            none.
        redelivered: whether it may have been delivered before. False only if the source knows that it was not.
        place: the place of the queue, as in `Waiting`.
    """

    body: bytes
    queue: str
    fault: str = ""
    properties: bytes = b""
    redelivered: bool = True
    place: str = ""


def nothing() -> None:
    """The acknowledgement of a batch that needs none."""


@dataclass(frozen=True)
class Batch:
    """Messages taken together, and a function that acknowledges them.

    A batch without messages says that the source is alive, but has no messages now.

    Attributes:
        messages: the messages as they came.
        acknowledge: tells the source that they are landed.
        positions: for sources that keep messages after they were read: the position after this batch, by the name of
            the application transaction that records it in the lake.
        at_once: whether the source cannot continue before the batch is acknowledged.
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
        messages: the number of messages; for a folder, of files.
        bytes: the number of bytes, if the source reports it.
        consumers: the number of processes that consume the queue, if the source reports it.
        oldest: since when the oldest one waits, UTC, if the source reports it.
        missing: whether the queue does not exist.
    """

    place: str
    messages: int
    bytes: int | None = None
    consumers: int | None = None
    oldest: datetime | None = None
    missing: bool = False


@dataclass(frozen=True)
class Backlog:
    """What waits in a source. It is true if anything does."""

    places: tuple[Waiting, ...]

    @property
    def messages(self) -> int:
        """The number of messages that wait in all places; for folders, of files."""
        return sum(place.messages for place in self.places)

    @property
    def bytes(self) -> int:
        """The number of bytes that wait, as far as known."""
        return sum(place.bytes or 0 for place in self.places)

    @property
    def oldest(self) -> datetime | None:
        """Since when the oldest one waits, as far as known."""
        return min((place.oldest for place in self.places if place.oldest is not None), default=None)

    def __bool__(self) -> bool:
        return any(place.messages for place in self.places)


class Stream(Protocol):
    """A source of notifications."""

    @property
    def name(self) -> str:
        """The value of the lake's column `source`."""

    def backlog(self, *, keep: bool = False) -> Backlog:
        """What waits now. Nothing is taken.

        Args:
            keep: keep the connections open for the next call, until `close`.

        Raises:
            MeterhouseError: the source cannot be reached.
        """

    def close(self) -> None:
        """Close the connections that were kept open."""

    def batches(self, max_messages: int, *, quiet_seconds: float = 0.0, follow: bool = False) -> Generator[Batch]:
        """Batches of at most `max_messages`, until nothing has come for `quiet_seconds`; with `follow`, endlessly.

        You may take further batches before you acknowledge earlier ones. While nothing comes, a batch without messages
        is yielded about each second.

        Raises:
            MeterhouseError: the source cannot be reached, and has not come back for a while; not with `follow`.
        """
