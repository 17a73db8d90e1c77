"""Landing: writes each message once to the lake's `notifications`, and what is not a notification to `dead_letters`.

A batch is one commit. Known messages are looked up in one version of the table, and the commit is made against that
version. If another process has landed messages meanwhile, the lookup is repeated. So no message is landed twice,
however many processes land, and they do not wait for each other.
"""

import itertools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from meterhouse import times
from meterhouse.collection.landed import Landed
from meterhouse.conversion.signatures import signed_again
from meterhouse.dead_letters import Letter, store_letters
from meterhouse.errors import Conflict
from meterhouse.stores import lake_erasures
from meterhouse.stores.lake import BYTES, Lake
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_tables import NOTIFICATIONS
from meterhouse.stream import Raw
from meterhouse.stream.envelope import BadMessage, Notification, unwrap
from meterhouse.stream.headers import headers

APP = "landing"
"""The application transaction that each landing raises by one. Of two at the same time, one repeats the lookup."""

NOTHING: Mapping[str, int] = {}


@dataclass
class Tally:
    """How many messages there were, and how many were landed, already known, or dead letters.

    `newest` has, by the place of each queue, the timestamp of the last message taken from it.
    """

    messages: int = 0
    landed: int = 0
    redelivered: int = 0
    dead_letters: int = 0
    dead_letters_known: int = 0
    bytes: int = 0
    newest: dict[str, datetime] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Add the counts of another run."""
        self.messages += other.messages
        self.landed += other.landed
        self.redelivered += other.redelivered
        self.dead_letters += other.dead_letters
        self.dead_letters_known += other.dead_letters_known
        self.bytes += other.bytes
        self.newest |= other.newest


class Landing:
    """Lands batches of messages. Use it from one thread.

    Args:
        lake: the lake.
        folder: where the index of landed message_ids is cached.
        redelivery_hours: hours of arrivals in which a message_id is landed once.
        source: the value of the column `source`.
        secret: METERHOUSE_TELEMETRY_SECRET, by which samples are signed again from which a user is erased.

    Attributes:
        known: the message_ids of the last batch that had been landed before.
    """

    def __init__(self, lake: Lake, folder: Path, redelivery_hours: int, source: str, secret: str) -> None:
        self._lake, self._source, self._secret = lake, source, secret
        self._hours = timedelta(hours=redelivery_hours)
        self._known = Landed(lake, folder, redelivery_hours)
        self.known: frozenset[str] = frozenset()

    def land(self, raws: Sequence[Raw], positions: Mapping[str, int] = NOTHING) -> Tally:
        """Append the messages that are not landed yet to the lake.

        Args:
            raws: messages as they came.
            positions: application transactions to record in the same commit, see `Batch`.

        Raises:
            MeterhouseError: the lake cannot be written. Some dead letters of the batch may be stored, so mark its
                messages as redelivered when you retry.
        """
        received = times.now()
        done = Tally(messages=len(raws), bytes=sum(len(raw.body) for raw in raws))
        fresh: dict[str, Notification] = {}
        letters: list[Letter] = []
        newest: dict[str, int] = {}
        for raw in raws:
            try:
                if raw.fault:
                    raise BadMessage(raw.fault)
                message = unwrap(raw.body)
            except BadMessage as fault:
                letters.append(
                    Letter(
                        received,
                        raw.queue,
                        str(fault),
                        raw.body,
                        headers=headers(raw.properties) if raw.properties else None,
                        redelivered=raw.redelivered,
                    )
                )
                continue
            fresh.setdefault(message.message_id, message)
            if message.timestamp is not None:
                newest[raw.place] = message.timestamp
        # A publisher's clock may be ahead. Then its time must not hide how long the next messages wait.
        done.newest = {
            place: min(times.EPOCH + timedelta(microseconds=moment), received) for place, moment in newest.items()
        }
        if letters:
            done.dead_letters = store_letters(self._lake, letters, times.arrival_hour(received - self._hours))
            done.dead_letters_known = len(letters) - done.dead_letters
        landed = self._append(fresh, received, positions) if fresh or positions else []
        done.landed = len(landed)
        self.known = frozenset(fresh.keys() - set(landed)) if len(landed) < len(fresh) else frozenset()
        done.redelivered = len(raws) - len(letters) - done.landed
        return done

    def close(self) -> None:
        """Save the index of landed message_ids for the next process."""
        self._known.save()

    def _append(self, messages: dict[str, Notification], received: datetime, positions: Mapping[str, int]) -> list[str]:
        """Append the messages that are not landed yet; return their ids."""
        ids = list(messages)
        files: list[DataFile] = []
        written: list[str] = []
        erased = 0  # the list by which users were erased from the messages
        for attempt in itertools.count():
            if attempt:
                time.sleep(
                    random.uniform(0, min(attempt, 10) * 0.02)
                )  # so that two processes do not overtake each other endlessly
            known = self._known.known(ids)
            if known.any():
                ids = [message_id for message_id, is_known in zip(ids, known.tolist(), strict=True) if not is_known]
            recorded = self._lake.table("notifications")
            if (newest := recorded.transaction_version(lake_erasures.APP) or 0) != erased:
                self._erase([messages[message_id] for message_id in ids], newest)
                erased, written = newest, []
            ahead = {name: at for name, at in positions.items() if at > (recorded.transaction_version(name) or -1)}
            if not ids and not ahead:
                break
            if written != ids:
                self._lake.discard("notifications", files)
                rows = _as_table([messages[message_id] for message_id in ids], received, self._source)
                files, written = self._lake.write_files("notifications", rows), ids
            if self._known.version != recorded.version():
                continue
            before = recorded.transaction_version(APP) or 0
            size = sum(len(messages[message_id].body) for message_id in ids)
            try:
                self._lake.commit(
                    "notifications",
                    files,
                    len(ids),
                    transactions={APP: before + 1, **ahead},
                    note={BYTES: str(size)},
                )
            except Conflict:
                continue
            for file in files:
                self._known.add(file.path, ids, file.partition["arrival_hour"])
            return ids
        self._lake.discard("notifications", files)
        return []

    def _erase(self, messages: Sequence[Notification], newest: int) -> None:
        """Erase the users of a list from messages."""
        users = lake_erasures.read(self._lake, newest)
        for message in messages:
            body = users.body(message.body)
            if body is not message.body:
                message.body = signed_again(message.body, body, self._secret)
                message.publisher_id = message.publisher_id and users.value(message.publisher_id)


def _as_table(messages: list[Notification], received: datetime, source: str) -> pa.Table:
    count = len(messages)
    columns = [
        [times.arrival_hour(received)] * count,
        [m.message_id for m in messages],
        [m.event_type for m in messages],
        [m.publisher_id for m in messages],
        [m.priority for m in messages],
        pa.array([m.timestamp for m in messages], pa.int64()).cast(NOTIFICATIONS.field("timestamp").type),
        [received] * count,
        [source] * count,
        [m.body for m in messages],
    ]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, NOTIFICATIONS, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=NOTIFICATIONS)
