"""Dead letters: messages and rows that could not be used, kept in the lake as they came, with the reason.

A row is identified by its letter_id and the time of its arrival. So equal letters that came together can only be
selected together.
"""

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import xxhash

from meterhouse import times
from meterhouse.errors import Conflict, UnknownName
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow, one, quoted
from meterhouse.stores.lake import Lake
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
_KEYS_AT_ONCE = 1_000
"""Maximum number of rows that one predicate names: with about ten thousand, delta-rs overflows the stack."""


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
            rows = _as_table([letters[n] for n in fresh], [ids[n] for n in fresh])
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


def _as_table(letters: list[Letter], ids: list[int]) -> pa.Table:
    columns = {
        "arrival_hour": [times.arrival_hour(letter.received_at) for letter in letters],
        "letter_id": ids,
        "received_at": [letter.received_at for letter in letters],
        "queue": [clean(letter.queue) for letter in letters],
        "reason": [" ".join(clean(letter.reason).split())[:REASON_LENGTH] for letter in letters],
        "body": [letter.body for letter in letters],
        "headers": [None if letter.headers is None else clean(letter.headers) for letter in letters],
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
        Conflict: other processes keep changing the table; some rows may be deleted.
    """
    removed = attempt = 0
    while attempt < _ATTEMPTS:
        version = lake.version(TABLE)
        predicate = _predicate(lake, keys, version)
        if predicate is None:
            return removed
        try:
            removed += lake.delete(TABLE, predicate, version, lease)
        except LeaseLost:
            raise
        except Conflict:
            _back_off(attempt)
            attempt += 1
    raise Conflict("other processes keep changing the dead letters", hint="Nothing is lost. Try again")


def _predicate(lake: Lake, keys: pa.Table, version: int) -> str | None:
    """A short predicate that selects some of the keys' rows in a version, and no other rows. None if no rows are left.

    Naming every row would make the list too long after a flood of letters. So an hour without other rows is named as a
    whole, and an hour with few other rows is named with these as exceptions. The predicate is therefore valid only for
    its version. It has no casts: if another commit came in between, delta-rs turns the predicate into text, and cannot
    parse the text of a cast.
    """
    hours = keys["arrival_hour"].unique().to_pylist()
    with lake.connect() as duck:
        lake.view(duck, TABLE, lake.files(TABLE, version=version, partitions={"arrival_hour": hours}))
        duck.register("keys", keys)
        duck.execute(
            "CREATE TEMP TABLE rows AS SELECT d.arrival_hour, d.letter_id, d.received_at, keys.letter_id IS NOT NULL "
            f"AS goes FROM {TABLE} AS d LEFT JOIN keys USING (arrival_hour, letter_id, received_at)"
        )
        counted = duck.execute(
            "SELECT arrival_hour, count(*) FILTER (NOT goes), count(*) FILTER (goes AND letter_id NOT IN "
            "(SELECT letter_id FROM rows AS others WHERE NOT goes AND others.arrival_hour = rows.arrival_hour)) "
            "FROM rows GROUP BY arrival_hour HAVING bool_or(goes) ORDER BY arrival_hour"
        ).fetchall()
        if not counted:
            return None
        whole = [hour for hour, others, _ in counted if not others]
        if whole:
            return f"arrival_hour IN ({_quoted_list(whole[:_KEYS_AT_ONCE])})"
        for hour, others, unlike in counted:
            if unlike > _KEYS_AT_ONCE >= others:
                here = f"arrival_hour = {quoted(hour)}"
                stay = duck.execute(f"SELECT DISTINCT letter_id FROM rows WHERE NOT goes AND {here}").fetchall()
                return f"{here} AND letter_id NOT IN ({', '.join(str(i) for (i,) in stay)})"
        return _by_key(duck)


def _by_key(duck: Connection) -> str:
    """A predicate that names the first of the rows to delete by their keys."""
    duck.execute(
        "CREATE TEMP TABLE first AS SELECT DISTINCT arrival_hour, received_at, letter_id FROM rows WHERE goes "
        f"ORDER BY ALL LIMIT {_KEYS_AT_ONCE}"
    )
    (others,) = one(
        duck,
        "SELECT count(*) FROM rows WHERE NOT goes AND letter_id IN (SELECT letter_id FROM first) "
        "AND received_at IN (SELECT received_at FROM first)",
    )
    if others:  # the predicate would also match these: equal letters that came at the time of another letter
        duck.execute("DELETE FROM first WHERE received_at > (SELECT min(received_at) FROM first)")
    hours, instants, ids = one(
        duck, "SELECT list(DISTINCT arrival_hour), list(DISTINCT received_at), list(DISTINCT letter_id) FROM first"
    )
    return (
        f"arrival_hour IN ({_quoted_list(hours)}) "
        f"AND received_at IN ({_quoted_list(times.text(each) for each in instants)}) "
        f"AND letter_id IN ({', '.join(str(i) for i in ids)})"
    )


def _quoted_list(values: Iterable[str]) -> str:
    return ", ".join(quoted(value) for value in values)
