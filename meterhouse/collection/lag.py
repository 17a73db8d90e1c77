"""The lag of collection: how much waits, for how long, and how long it takes to drain.

A broker reports how many messages a queue has, but not how old they are. But a queue is first in, first out: what waits
came after the last message that was taken, and after the last time that the queue was seen empty. If neither is recent,
the first message is read and returned to the queue, once for each first message.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects import postgresql, sqlite

from meterhouse import times
from meterhouse.collection.landing import Tally
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import runs, stream_queues
from meterhouse.stream import Waiting
from meterhouse.stream.amqp import AmqpStream

RECENT = timedelta(seconds=60)
"""If the newest known bound is older than this, the first message is read."""


@dataclass(frozen=True)
class QueueLag:
    """What waits in one place.

    Attributes:
        place: broker and queue, or folder.
        messages: the number of messages; for a folder, of files.
        age_seconds: the maximum time that the oldest one has waited; None if nothing waits, or it has no timestamp.
        consumers: the number of processes that consume the queue, if the broker reports it.
        missing: whether the queue does not exist.
    """

    place: str
    messages: int
    age_seconds: float | None
    consumers: int | None
    missing: bool


@dataclass(frozen=True)
class Lag:
    """How far collection is behind.

    Attributes:
        queues: the lag of each place.
        rate: messages a second of the last collecting run; None before the first run.
        bytes: the number of bytes that wait, if the source reports it.
    """

    queues: tuple[QueueLag, ...]
    rate: float | None
    bytes: int

    @property
    def messages(self) -> int:
        """The number of messages that wait."""
        return sum(queue.messages for queue in self.queues)

    @property
    def age_seconds(self) -> float:
        """How long the oldest one has waited; 0 if none waits."""
        return max((queue.age_seconds or 0.0 for queue in self.queues), default=0.0)

    @property
    def drain_seconds(self) -> float | None:
        """Seconds until what waits is taken, at the last run's rate; None if no rate is known."""
        if not self.messages:
            return 0.0
        return self.messages / self.rate if self.rate else None

    def keeps_up(self, late_seconds: float) -> bool:
        """Whether nothing has waited for longer than `late_seconds`, and at least one queue exists."""
        return self.age_seconds <= late_seconds and not (self.queues and all(queue.missing for queue in self.queues))

    def verdict(self, late_seconds: float) -> str:
        """A summary in one sentence."""
        if self.queues and all(queue.missing for queue in self.queues):
            return f"no queue exists: {', '.join(queue.place for queue in self.queues)}"
        if not self.messages:
            return "nothing waits"
        text = f"{self.messages} wait, the oldest for {self.age_seconds:.0f} s"
        if self.drain_seconds is not None:
            text += f", drained in {self.drain_seconds:.0f} s at the last run's rate"
        return text if self.keeps_up(late_seconds) else f"{text}; the limit is {late_seconds:.0f} s"


def measure(site: Site) -> Lag:
    """Measure the lag, and record what was seen.

    Raises:
        MeterhouseError: the stream or the warehouse cannot be reached.
    """
    backlog = site.stream.backlog()
    moment = times.now()
    with site.warehouse.read() as connection:
        known = {row.place: row for row in connection.execute(select(stream_queues))}
        last = connection.execute(
            select(runs.c.figures).where(runs.c.step == "collect").order_by(runs.c.sequence.desc()).limit(1)
        ).scalar()
    queues, seen = [], []
    for waiting in backlog.places:
        before = known.get(waiting.place)
        oldest = _oldest(site, waiting, before, moment)
        age = (moment - oldest).total_seconds() if oldest is not None and waiting.messages else None
        queues.append(
            QueueLag(
                waiting.place,
                waiting.messages,
                None if age is None else max(age, 0.0),
                waiting.consumers,
                waiting.missing,
            )
        )
        row: dict[str, Any] = {"place": waiting.place, "looked_at": moment, "messages": waiting.messages}
        if not waiting.messages:
            row |= {"empty_at": moment, "oldest_at": None}
        elif before is None or before.oldest_at != oldest:  # otherwise, do not undo a run that took it meanwhile
            row["oldest_at"] = oldest
        seen.append(row)
    _save(site, seen)
    return Lag(tuple(queues), _rate(last), backlog.bytes)


def record(site: Site, taken: Tally) -> None:
    """Record what a collecting run took: what waits now is newer.

    Raises:
        MeterhouseError: the warehouse cannot be reached.
    """
    _save(
        site,
        [{"place": place, "newest_at": moment, "oldest_at": None} for place, moment in taken.newest.items() if place],
    )


def _oldest(site: Site, waiting: Waiting, known: "Row[Any] | None", moment: datetime) -> datetime | None:
    """The earliest time since when the oldest message can have waited."""
    if waiting.oldest is not None or not waiting.messages:
        return waiting.oldest
    peeked: datetime | None = None if known is None else known.oldest_at
    if peeked is not None:
        return peeked
    seen: list[datetime | None] = [] if known is None else [known.newest_at, known.empty_at]
    bounds = [at for at in seen if at is not None]
    if bounds and moment - max(bounds) < RECENT:
        return max(bounds)
    first = site.stream.oldest(waiting.place) if isinstance(site.stream, AmqpStream) else None
    if first is None:
        return max(bounds, default=moment)
    # The timestamp is the message's own and may be anything. The message came after the queue was last empty.
    return first if known is None or known.empty_at is None else max(first, known.empty_at)


def _rate(figures: str | None) -> float | None:
    found: Mapping[str, Any] = json.loads(figures) if figures else {}
    busy = found.get("seconds", 0.0) - found.get("idle_seconds", 0.0)
    return found["messages"] / busy if busy > 0 else None


def _save(site: Site, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    insert = sqlite.insert if site.warehouse.is_sqlite else postgresql.insert
    with site.warehouse.begin() as connection:
        for row in rows:
            statement = insert(stream_queues).values(**row)
            changed = {name: value for name, value in row.items() if name != "place"}
            connection.execute(statement.on_conflict_do_update(index_elements=["place"], set_=changed))
