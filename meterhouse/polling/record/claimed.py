"""A task that a member has claimed, as a row of `poll_tasks` has it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from meterhouse.polling.polled import Piece, Rest, Slot
from meterhouse.polling.record import shards


@dataclass(frozen=True)
class Claimed:
    """A task that is this member's until its lease runs out.

    Attributes:
        task_id: of the row.
        generation: of this claim.
        slot, piece: what is polled.
        shard: name of the piece within the slot.
        message_id: of the batch with the samples.
        until: when it is too late to begin: the end of the slot; later if the service keeps its past.
        attempts: how often it was claimed, with this time.
        uncertain: whether an owner before lost its lease, and may have landed samples, or may still.
        error: why it was not polled before, if it was tried.
    """

    task_id: int
    generation: int
    slot: Slot
    piece: Piece
    shard: str
    message_id: str
    until: datetime
    attempts: int
    uncertain: bool
    error: str | None

    def __str__(self) -> str:
        slot = self.slot
        host = f" of {slot.host}" if slot.host else ""
        return f"{slot.source}/{slot.pollster}{host}, slot {slot.start:%Y-%m-%dT%H:%M:%SZ}, shard {self.shard}"


def of_row(row: Row[Any]) -> Claimed:
    """The task of a row of `poll_tasks`."""
    return Claimed(
        task_id=row.task_id,
        generation=row.generation,
        slot=Slot(row.source, row.pollster, row.slot_at, row.end_at, row.host),
        piece=piece(row.shard, row.part),
        shard=row.shard,
        message_id=row.message_id,
        until=row.until,
        attempts=row.attempts,
        uncertain=row.uncertain,
        error=row.error,
    )


def piece(shard: str, part: str | None) -> Piece:
    """The piece of a task: its place among the shards, and JSON of what it is of that place."""
    which, many = shards.place(shard)
    if part is None:
        return Piece(which, many)
    of_json = json.loads(part)
    resources = of_json.get("resources")
    named = None if resources is None else tuple(resources)
    return Piece(which, many, of_json.get("page"), named, of_json.get("by_entry", False))


def part(piece: Piece) -> str | None:
    """What a piece is of its place among the shards, as JSON."""
    kept: dict[str, Any] = {}
    if piece.page is not None:
        kept["page"] = piece.page
    if piece.resources is not None:
        kept["resources"] = list(piece.resources)
    if piece.by_entry:
        kept["by_entry"] = True
    return json.dumps(kept, ensure_ascii=False) if kept else None


def rest_as_json(rest: Rest) -> dict[str, Any]:
    """A rest as values of JSON, as batches keep it beside their samples."""
    piece = rest.piece
    return {
        "shard": piece.shard,
        "shards": piece.shards,
        "page": piece.page,
        "resources": None if piece.resources is None else list(piece.resources),
        "by_entry": piece.by_entry,
        "error": rest.error,
    }


def rest_of_json(values: dict[str, Any]) -> Rest:
    """The rest of `rest_as_json`."""
    resources = values.get("resources")
    named = None if resources is None else tuple(resources)
    piece = Piece(values["shard"], values["shards"], values["page"], named, values.get("by_entry", False))
    return Rest(piece, values["error"])
