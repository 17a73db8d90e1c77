"""Dead letters: what came and could not be used, kept in the lake as it came, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import xxhash

from meterhouse import times
from meterhouse.lake import Lake
from meterhouse.schema import DEAD_LETTERS


@dataclass(frozen=True, slots=True)
class Letter:
    """What is kept.

    Attributes:
        received_at: when it came; its hour is the arrival hour.
        queue: where it came by.
        reason: why it could not be used, in one line.
        body: what came.
        place: tells apart what came as parts of different messages, though it is equal; empty for whole messages.
    """

    received_at: datetime
    queue: str
    reason: str
    body: bytes
    place: str = ""

    @property
    def letter_id(self) -> int:
        """The identity, the same on every run: xxh3, 64 bits, of where it came by and what came."""
        parts = [self.queue.encode(), *([self.place.encode()] if self.place else []), self.body]
        return xxhash.xxh3_64_intdigest(b"\0".join(parts)) - (1 << 63)


def bury(lake: Lake, letters: Sequence[Letter], since: str) -> int:
    """Append letters to `dead_letters`, each once, and return how many are new.

    Args:
        lake: the lake.
        letters: what to keep.
        since: the arrival hour from which on letters are known that were kept before.
    """
    rows: dict[int, Letter] = {}
    for letter in letters:
        rows[letter.letter_id] = letter
    files = lake.files("dead_letters", at_least={"arrival_hour": since}) if rows else []
    if files:
        with lake.connect() as duck:
            lake.view(duck, "dead_letters", files)
            duck.register("batch", pa.table({"letter_id": pa.array(list(rows), pa.int64())}))
            for (known,) in duck.execute(
                "SELECT DISTINCT letter_id FROM batch SEMI JOIN dead_letters USING (letter_id)"
            ).fetchall():
                del rows[known]
    if rows:
        fresh = list(rows.values())
        columns = {
            "arrival_hour": [times.arrival_hour(letter.received_at) for letter in fresh],
            "letter_id": list(rows),
            "received_at": [letter.received_at for letter in fresh],
            "queue": [letter.queue for letter in fresh],
            "reason": [letter.reason for letter in fresh],
            "body": [letter.body for letter in fresh],
        }
        lake.append("dead_letters", pa.table(columns, schema=DEAD_LETTERS))
    return len(rows)
