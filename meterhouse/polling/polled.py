"""What is to be polled, and what came of it: the shapes that pollsters, the record and the members share.

A *slot* is one interval of one pollster of one source: it starts at a multiple of the interval since 1970 (UTC). A
*piece* is the part of the pollster's resources that one task polls in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meterhouse.errors import MeterhouseError

WireSample = dict[str, Any]
"""A sample as `telemetry.polling` has it, without message_id and signature: source, counter_name, counter_type,
counter_unit, counter_volume, user_id, project_id, resource_id, timestamp (ISO 8601, UTC, without offset),
resource_metadata."""


@dataclass(frozen=True)
class Slot:
    """One interval of one pollster of one source.

    Attributes:
        source, pollster: their names.
        start, end: UTC; the slot is from `start` to before `end`.
        host: of whose own resources the pollster tells (namespaces `compute`, `ipmi`); empty: any member can poll it.
    """

    source: str
    pollster: str
    start: datetime
    end: datetime
    host: str = ""


@dataclass(frozen=True)
class Piece:
    """The part of a pollster's resources that a task polls.

    Attributes:
        shard, shards: the resources whose hash, modulo `shards`, is `shard` (from 0).
        page: the URL of the page to begin with, if the pages before it are polled by other tasks.
        resources: these resources only, if the others are polled by other tasks.
        by_entry: whether `shard` is a part of the entries of each of these resources, in place of whole resources.
    """

    shard: int = 0
    shards: int = 1
    page: str | None = None
    resources: tuple[str, ...] | None = None
    by_entry: bool = False


@dataclass(frozen=True)
class Rest:
    """A part of a piece that is left to do.

    Attributes:
        piece: it.
        error: why it was not polled; None if it is a further page that any member may poll at once.
    """

    piece: Piece
    error: str | None = None


@dataclass
class Polled:
    """What came of a piece.

    Attributes:
        samples: in the order of the answers.
        resources: number of resources that were polled: entries of lists, or targets.
        rests: what is left of the piece.
        warnings: about entries that gave no sample, at most a few, without secrets.
    """

    samples: list[WireSample] = field(default_factory=list)
    resources: int = 0
    rests: list[Rest] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class PollError(MeterhouseError):
    """Nothing of a piece could be polled, for now: the task is retried. The text has no secrets."""


class Permanent(PollError):
    """A piece that cannot be polled before a person changes something: it is not retried in this slot."""


Placeholders = Mapping[str, object]
"""Variables of expressions, such as `slot_start` and `slot_end` (ISO 8601, UTC)."""
