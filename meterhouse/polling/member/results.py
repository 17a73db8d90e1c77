"""What comes of a task, on its way from the worker that polled it to the record."""

from dataclasses import dataclass

from meterhouse.polling.batches import SlotNote
from meterhouse.polling.record import Claimed, Finished, Missed, rest_of_json


@dataclass(frozen=True)
class Ready:
    """A task whose batch is to be stored: its samples, or none if it is given up (`note.missed`).

    Attributes:
        claim: the task.
        note: what came of it.
        batch: the notification, see `batches.batch`.
    """

    claim: Claimed
    note: SlotNote
    batch: bytes


def stored(claim: Claimed, note: SlotNote, member: str) -> Finished | Missed:
    """What is to be recorded of a task whose batch is stored.

    Args:
        claim: the task.
        note: what the stored batch says of it.
        member: this member; another one may have stored it.
    """
    if note.missed:
        return Missed(claim, note.missed)
    rests = tuple(map(rest_of_json, note.rests))
    polled_by = note.member if note.member != member else None
    return Finished(claim, note.samples, note.resources, note.seconds, rests, polled_by, note.warning or None)
