"""Dead letters: messages and rows that could not be used, kept in the lake as they came, with the reason.

A row is identified by its letter_id and the time of its arrival. So equal letters that came together can only be
selected together.
"""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from meterhouse import times
from meterhouse.errors import Conflict, UnknownName
from meterhouse.personal_data import ErasedUsers
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow, one, quoted
from meterhouse.stores.lake import REPLACE, Lake
from meterhouse.stores.lake_erasures import NOBODY, erased_users
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_tables import DEAD_LETTERS
from meterhouse.stores.leases import Lease, LeaseLost
from meterhouse.stream.envelope import clean

TABLE: Final = "dead_letters"

LEASE: Final = "dead_letters"
"""The lease that a process holds while it removes letters."""

APP: Final = "dead_letters"
"""The application transaction that each call of `store_letters` raises by one. Of two at the same time, one retries."""

REASON_LENGTH: Final = 500

_ATTEMPTS = 100
_ROWS_AT_ONCE = 20_000
"""Maximum number of rows of a file that replaces another without the letters that are removed."""


def identity(queue: str, body: bytes, place: str = "") -> int:
    """A letter's id, the same on every run: the xxh3 hash (64 bits) of its queue, place and body."""
    parts = [queue.encode(), *([place.encode()] if place else []), body]
    return xxhash.xxh3_64_intdigest(b"\0".join(parts)) - (1 << 63)


def hex_id(letter_id: int) -> str:
    """A letter's id as shown to people, 16 hex digits: `printf('%016x', letter_id)` in the lake's SQL."""
    return f"{letter_id & (1 << 64) - 1:016x}"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    Attributes:
        received_at: when it came; its hour is the arrival hour.
        queue: the queue or file that it came from.
        reason: what is wrong and where; kept as one line of at most REASON_LENGTH characters.
        body: the message or row as it came.
        place: distinguishes equal parts of different messages; empty for whole messages.
        headers: the message's AMQP properties and headers, JSON text.
        redelivered: whether it may have come before, and been stored by a process that was killed before it
            acknowledged it. False only if the stream knows that this is its first delivery.
    """

    received_at: datetime
    queue: str
    reason: str
    body: bytes
    place: str = ""
    headers: str | None = None
    redelivered: bool = True

    @property
    def letter_id(self) -> int:
        """See `identity`."""
        return identity(clean(self.queue), self.body, self.place)


def store_letters(lake: Lake, letters: Sequence[Letter], since: str) -> int:
    """Append letters to `dead_letters`, each delivery once, and return how many rows are new.

    A first delivery always becomes a row. Of redelivered letters, only as many rows are added as are missing. Several
    processes may store letters at the same time.

    Args:
        lake: the lake.
        letters: the letters to store.
        since: the first arrival hour in which to look for letters that were stored before.

    Raises:
        Conflict: other processes kept committing first; nothing was appended.
    """
    ids = [letter.letter_id for letter in letters]
    for attempt in range(_ATTEMPTS):
        before = lake.transaction(TABLE, APP) or 0
        fresh = _missing(lake, letters, ids, since)
        if not fresh:
            return 0
        try:
            rows = _as_table([letters[n] for n in fresh], [ids[n] for n in fresh], erased_users(lake, TABLE) or NOBODY)
            lake.append(TABLE, rows, transaction=(APP, before + 1))
        except Conflict:
            _back_off(attempt)
        else:
            return len(fresh)
    raise Conflict("other processes keep writing dead letters", hint="Nothing is lost. Try again")


def _missing(lake: Lake, letters: Sequence[Letter], ids: Sequence[int], since: str) -> list[int]:
    """The indexes of the letters that have to be appended."""
    redelivered = {i for i, letter in zip(ids, letters, strict=True) if letter.redelivered}
    stored = _counts(lake, redelivered, since)
    fresh = []
    for n, (i, letter) in enumerate(zip(ids, letters, strict=True)):
        if letter.redelivered and stored[i]:
            stored[i] -= 1
        else:
            fresh.append(n)
    return fresh


@retried
def _counts(lake: Lake, ids: set[int], since: str) -> Counter[int]:
    """How many rows each letter has in the arrival hours from `since` on."""
    files = lake.files(TABLE, at_least={"arrival_hour": since}) if ids else []
    if not files:
        return Counter()
    with lake.connect() as duck:
        lake.view(duck, TABLE, files)
        duck.register("batch", pa.table({"letter_id": pa.array(ids, pa.int64())}))
        counted = f"SELECT letter_id, count(*) FROM {TABLE} SEMI JOIN batch USING (letter_id) GROUP BY letter_id"
        return Counter(dict(duck.execute(counted).fetchall()))


def _as_table(letters: list[Letter], ids: list[int], erased: ErasedUsers) -> pa.Table:
    """The rows of letters, without the data of erased users. An id stays that of the letter as it came."""
    columns = {
        "arrival_hour": [times.arrival_hour(letter.received_at) for letter in letters],
        "letter_id": ids,
        "received_at": [letter.received_at for letter in letters],
        "queue": [clean(erased.value(letter.queue)) for letter in letters],
        "reason": [" ".join(clean(erased.value(letter.reason)).split())[:REASON_LENGTH] for letter in letters],
        "body": [erased.raw(letter.body) for letter in letters],
        "headers": [None if letter.headers is None else erased.body(clean(letter.headers)) for letter in letters],
    }
    return pa.table(columns, schema=DEAD_LETTERS)


def _back_off(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.02 * min(attempt + 1, 10)))


# -- selection ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters to use: those that meet every condition that is set. Without a condition, all letters.

    Attributes:
        ids: the letter_ids.
        queue: a glob that the queue matches.
        reason: a glob that the reason matches.
        start: earliest received_at, inclusive.
        end: latest received_at, exclusive.
    """

    ids: tuple[int, ...] = ()
    queue: str | None = None
    reason: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    def view(self, duck: Connection, lake: Lake, version: int) -> None:
        """Create the DuckDB view `selected` with the selected rows of a version of `dead_letters`.

        Raises:
            UnknownName: no letter has one of the ids.
        """
        span = (self.start or times.EPOCH, self.end or datetime.max.replace(tzinfo=UTC))
        overlapping = None if self.ids else ("received_at", [span])
        lake.view(duck, TABLE, lake.files(TABLE, version=version, overlapping=overlapping))
        conditions = [f"received_at >= '{times.text(span[0])}' AND received_at < '{times.text(span[1])}'"]
        if self.ids:
            listed = ", ".join(str(i) for i in self.ids)
            conditions.append(f"letter_id IN ({listed})")
            known = duck.execute(f"SELECT DISTINCT letter_id FROM {TABLE} WHERE letter_id IN ({listed})").fetchall()
            for unknown in set(self.ids) - {row[0] for row in known}:
                raise UnknownName("dead letter", hex_id(unknown), [], hint="`meterhouse dead-letters` lists them")
        conditions += [
            f"{column} GLOB {quoted(glob)}"
            for column, glob in (("queue", self.queue), ("reason", self.reason))
            if glob is not None
        ]
        duck.execute(f"CREATE TEMP VIEW selected AS SELECT * FROM {TABLE} WHERE {' AND '.join(conditions)}")


@retried
def find(lake: Lake, selection: Selection, limit: int) -> list[dict[str, Any]]:
    """The rows of the selected letters, newest first.

    Raises:
        UnknownName: no letter has one of the ids.
    """
    with lake.connect() as duck:
        selection.view(duck, lake, lake.version(TABLE))
        rows = arrow(
            duck,
            "SELECT printf('%016x', letter_id) AS id, letter_id, received_at, queue, reason, headers, body "
            f"FROM selected ORDER BY received_at DESC, queue, letter_id LIMIT {int(limit)}",
        )
    return list(rows.to_pylist())


# -- removal ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge removed, or would remove: the number of letters, the bytes of their bodies, and when they came."""

    letters: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None


def purge(site: Site, selection: Selection, *, dry_run: bool = False) -> Purged:
    """Delete the selected letters, among those stored now. With `dry_run`, only report what would be deleted.

    Raises:
        AlreadyRunning: another process is removing letters.
        Conflict: other processes keep changing the letters.
        UnknownName: no letter has one of the ids; nothing was deleted.
    """
    with site.warehouse.lease(LEASE) as lease:
        site.lake.fence(lease, TABLE)
        with site.lake.connect() as duck:
            selection.view(duck, site.lake, site.lake.version(TABLE))
            letters, size, oldest, newest = one(
                duck,
                "SELECT count(*), coalesce(sum(octet_length(body)), 0), min(received_at), max(received_at) "
                "FROM selected",
            )
            keys = arrow(duck, "SELECT DISTINCT arrival_hour, letter_id, received_at FROM selected")
        if not dry_run:
            letters = remove(site.lake, keys, lease)
    return Purged(letters, int(size), oldest, newest)


def remove(lake: Lake, keys: pa.Table, lease: Lease) -> int:
    """Delete the rows with the arrival_hour, letter_id and received_at of the keys, and return how many there were.

    Raises:
        LeaseLost: another process has taken the lease over, because this one was paused.
        Conflict: other processes keep changing the table; no row was deleted.
    """
    hours = keys["arrival_hour"].unique().to_pylist()
    for attempt in range(_ATTEMPTS):
        after = lake.swaps(TABLE)
        found = lake.matching(TABLE, partitions={"arrival_hour": hours})
        gone, added, removed = _without(lake, keys, found)
        if not removed:
            return 0
        try:
            lake.swap(TABLE, gone, added, {REPLACE: "letters"}, same_rows=False, after=after, lease=lease)
        except Conflict as error:
            lake.discard(TABLE, added)
            if isinstance(error, LeaseLost):
                raise
            _back_off(attempt)
        else:
            return removed
    raise Conflict("other processes keep changing the dead letters", hint="Nothing is lost. Try again")


def _without(lake: Lake, keys: pa.Table, found: pa.Table) -> tuple[pa.Table, list[DataFile], int]:
    """The files that have rows of the keys, files with their other rows in place of them, and how many rows go."""
    same = "USING (arrival_hour, letter_id, received_at)"
    gone: list[str] = []
    added: list[DataFile] = []
    removed = 0
    with lake.connect() as duck:
        duck.register("keys", keys)
        for path in found["path"].to_pylist():
            lake.view(duck, TABLE, [f"{lake.uri(TABLE)}/{path}"])
            (count,) = one(duck, f"SELECT count(*) FROM {TABLE} SEMI JOIN keys {same}")
            if not count:
                continue
            gone.append(path)
            removed += count
            staying = duck.sql(f"SELECT * FROM {TABLE} ANTI JOIN keys {same}").to_arrow_reader(_ROWS_AT_ONCE)
            for batch in staying:
                added += lake.write_files(TABLE, pa.Table.from_batches([batch]))
    return found.filter(pc.is_in(found["path"], pa.array(gone, pa.string()))), added, removed
