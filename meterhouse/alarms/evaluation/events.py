"""Evaluates event alarms, as Aodh defines them, on the events that came: each event once for each alarm, in order.

It follows the lake's table `events`. States, history, outbox and how far it has followed are written in one
transaction. So after a kill at any point, the next run goes on where the warehouse says. An alarm sees the events that
come from its creation on.

An event alarm only ever moves to `alarm`. It does not go back by itself. In that state, only one with `repeat_actions`
notifies of further events. An absence alarm that waits for an event goes back to `ok` at once when it comes.
"""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, delete, func, select

from meterhouse import history, times
from meterhouse.alarms.definitions.rules.event import Trait
from meterhouse.alarms.evaluation.by_type import absence
from meterhouse.alarms.evaluation.event_alarms import EventAlarms, Flags, Loader
from meterhouse.alarms.evaluation.event_matching import Ints, described
from meterhouse.alarms.evaluation.outcomes import Change, Outcome, write
from meterhouse.alarms.keeping import apply as applying
from meterhouse.alarms.keeping import cycles, watched_events
from meterhouse.alarms.keeping.watched_events import FOLLOWER
from meterhouse.errors import Replaced, WentBack
from meterhouse.history import Position
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_tables import EVENTS
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import alarm_history, deliveries, followed

TABLE: Final = "events"
READER: Final = "the evaluation of event alarms"

EVENTS_AT_ONCE: Final = 50_000
"""Files are taken together up to about this many events."""

FIRST_EVENTS: Final = 2_000
"""How many events are looked at first. Then four times as many, and so on."""

IDS_AT_ONCE: Final = 500
"""How many ids a query lists; databases bound the parameters of a query."""

COLUMNS: Final = ("arrival_hour", "message_id", "event_type", "generated", "traits")

_NAMESPACE: Final = uuid.UUID("5b8d9c0e-1f1c-4a53-9d57-0a3c6e1f2b77")


@dataclass
class Evaluated:
    """What was done.

    Attributes:
        events: how many events were looked at.
        alarms: for how many alarms.
        transitions: (alarm name, previous, current) of each.
        notifications: how many were put into the outbox.
        seconds: how long it took.
    """

    events: int = 0
    alarms: int = 0
    transitions: list[tuple[str, str, str]] = field(default_factory=list)
    notifications: int = 0
    seconds: float = 0.0


def evaluate_events(site: Site, loader: Loader | None = None, *, wait_seconds: float | None = None) -> Evaluated:
    """Evaluate the alarms that look at events on those that came since the last run.

    Args:
        site: the site.
        loader: what knows the definitions of the last run; default none.
        wait_seconds: how long to wait for another process that evaluates alarms; default WAIT_SECONDS of `apply`.

    Raises:
        AlreadyRunning: another process is still evaluating the alarms.
        LeaseLost: this process was paused, and another one evaluates the alarms; nothing was written.
        MeterhouseError: the lake or the warehouse cannot be used; the next run does what was not done.
    """
    done, clock = Evaluated(), time.monotonic()
    loader = loader or Loader()
    wait = applying.WAIT_SECONDS if wait_seconds is None else wait_seconds
    with site.warehouse.lease(applying.LEASE, wait_seconds=wait) as lease:
        with site.warehouse.read() as connection:
            given = loader.load(connection)
        done.alarms = len(given)
        if not len(given):
            _forget(site, lease)
        else:
            reached = _reached(site, given)
            while (found := _follow(site, lease, loader, reached, done)) is not None:
                reached = found
    done.seconds = time.monotonic() - clock
    return done


def _forget(site: Site, lease: Lease) -> None:
    """Forget how far events were followed: the next alarm sees what comes from its creation on."""
    with site.warehouse.read() as connection:
        if connection.execute(select(followed.c.version).where(followed.c.follower == FOLLOWER)).first() is None:
            return
    with lease.begin() as connection:
        connection.execute(delete(followed).where(followed.c.follower == FOLLOWER))


def _reached(site: Site, given: EventAlarms) -> Position:
    """The position from which on to follow."""
    with site.warehouse.read() as connection:
        known = connection.execute(select(followed.c.version).where(followed.c.follower == FOLLOWER)).first()
    if known is None:
        return _before(site.lake, min(row.timestamp for row in given.rows))
    try:
        return history.check(site, FOLLOWER, TABLE, READER)
    except WentBack:
        # What came after the table went back is new. An event that comes again fires nothing, see `event_id`.
        return _before(site.lake, history.followed_position(site, FOLLOWER).at or times.EPOCH)


def _before(lake: Lake, moment: datetime) -> Position:
    """The position of the last commit from before a moment; that of the first one that is known if none is older."""
    version = lake.version(TABLE)
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)  # as commits tell their time
    while version > 0:
        commit = lake.read_commit(TABLE, version)
        if commit is None or (commit.at is not None and commit.at < moment):
            break
        version -= 1
    return history.position(lake, TABLE, version)


@retried
def _follow(site: Site, lease: Lease, loader: Loader, reached: Position, done: Evaluated) -> Position | None:
    """Evaluate a bounded number of events; return the new position, or None if there are none."""
    lake = site.lake
    try:
        fresh = lake.appended_files(TABLE, reached.version, max_rows=EVENTS_AT_ONCE)
        if fresh is None:
            return None
        files = [(file["path"], file["partitionValues"], file["modificationTime"]) for file in fresh.files]
        came, at = _read(lake, files)
        now_at = history.position(lake, TABLE, fresh.version)
    except Replaced:
        now_at = history.position(lake, TABLE, lake.version(TABLE))
        came, at = _read(lake, _files_since(lake, reached, now_at))
    with site.warehouse.read() as connection:
        given = loader.load(connection)
        entry = cycles.newest_entry(connection)
        changes = _changes(connection, given, came, at, times.now())
    with lease.begin() as connection:
        other = set(connection.execute(cycles.defined_since(entry)).scalars())
        if connection.execute(watched_events.defined_since(entry)).first() is not None:  # nobody defines any now
            changes = _changes(connection, loader.load(connection), came, at, times.now())
        else:
            changes = [each for each in changes if each.alarm_id not in other]
        saved = write(connection, changes, times.now())
        history.record_position(connection, FOLLOWER, now_at)
    done.events += len(came)
    done.transitions += saved.transitions
    done.notifications += saved.notifications
    return now_at


def _files_since(lake: Lake, reached: Position, now_at: Position) -> list[tuple[str, dict[str, Any], int]]:
    """The files that hold anything newer than a position, as commits that are no longer there have added it.

    They were merged with earlier ones. Only arrival hours that had not ended then are taken.
    """
    actions = lake.actions(TABLE, now_at.version)
    before = lake.known_files(TABLE, reached.version)
    known = set() if before is None else set(before["path"].to_pylist())
    since = times.arrival_hour(reached.at) if reached.at is not None else ""
    found = actions.select(["path", "partition.arrival_hour", "modification_time"]).to_pylist()
    return [
        (each["path"], {"arrival_hour": each["partition.arrival_hour"]}, each["modification_time"])
        for each in sorted(found, key=lambda each: (each["partition.arrival_hour"], each["path"]))
        if each["path"] not in known and each["partition.arrival_hour"] >= since
    ]


def _read(lake: Lake, files: Sequence[tuple[str, dict[str, Any], int]]) -> tuple[pa.Table, Ints]:
    """The events of files, each message once, and when each was added to the lake, in ms since 1970."""
    pieces = [lake.rows_of(TABLE, path, partition, COLUMNS).select(COLUMNS) for path, partition, _ in files]
    if not pieces:
        return EVENTS.empty_table().select(COLUMNS), np.zeros(0, np.int64)
    at = np.repeat(np.array([moment for *_, moment in files], np.int64), [len(piece) for piece in pieces])
    return pa.concat_tables(pieces).combine_chunks(), at


def _changes(connection: Connection, given: EventAlarms, came: pa.Table, at: Ints, moment: datetime) -> list[Change]:
    """What the events change, in their order."""
    made: list[tuple[int, Change]] = []
    deciding = _Deciding(connection, given, came, at, moment)
    start, count = 0, FIRST_EVENTS
    while start < len(came) and deciding.active.any():  # most alarms need but the first event that they are about
        made += deciding.changes(start, count)
        start, count = start + count, count * 4
    return [change for _, change in sorted(made, key=lambda each: each[0])]


class _Deciding:
    """Decides what events change."""

    def __init__(self, connection: Connection, given: EventAlarms, came: pa.Table, at: Ints, moment: datetime) -> None:
        self._connection, self._given, self._came, self._at, self._moment = connection, given, came, at, moment
        self._state = [row.state for row in given.rows]
        self._created: dict[int, datetime | None] = {}
        self._repeat = np.array([each.repeat for each in given.read], np.bool_)
        self._present = times.micros(moment)
        state = np.array(self._state)
        settled = np.where(given.is_absence, state == "ok", (state == "alarm") & ~self._repeat)
        self.active = given.in_force(moment) & ~settled

    def changes(self, start: int, count: int) -> Iterator[tuple[int, Change]]:
        """What some of the events change, with the place of the event."""
        events, of = self._given.matcher.pairs(self._came.slice(start, count), self.active)
        events += start
        absence = self._given.is_absence[of]
        yield from self._returned(events[absence], of[absence])
        yield from self._fired(events[~absence], of[~absence])

    def _fired(self, events: Ints, of: Ints) -> Iterator[tuple[int, Change]]:
        """The alarms that events fire: once for each event, or once at all."""
        came = self._since_creation(events, of)
        events, of = events[came], of[came]
        ids = self._came["message_id"].combine_chunks().take(pa.array(events)).to_pylist()
        again = self._repeat[of]
        while len(events):
            # Of an alarm that does not repeat, the next event is looked at only if this one has fired it before.
            first = np.zeros(len(of), np.bool_)
            first[np.unique(of, return_index=True)[1]] = True
            chosen = np.flatnonzero(first | again)
            own = [event_id(self._given.rows[of[n]].alarm_id, ids[n]) for n in chosen.tolist()]
            known = _known(self._connection, own)
            for n, its_id in zip(chosen.tolist(), own, strict=True):
                if its_id not in known:
                    known.add(its_id)
                    place = int(of[n])
                    yield int(events[n]), self._fires(place, int(events[n]), its_id)
                    self._state[place] = "alarm"
                    self.active[place] = again[n]
            left = np.flatnonzero(~first & ~again & self.active[of])
            events, of, again, ids = events[left], of[left], again[left], [ids[n] for n in left.tolist()]

    def _fires(self, place: int, event: int, its_id: str) -> Change:
        told = described(self._came, event)
        reason = (
            f"Event <id={told['message_id']},event_type={told['event_type']}> "
            f"hits the query <query={_query(self._given.read[place].query)}>."
        )
        outcome = Outcome("alarm", reason, {"type": "event", "event": told}, notify=True, evidence={"event": told})
        return self._change(place, outcome, its_id)

    def _returned(self, events: Ints, of: Ints) -> Iterator[tuple[int, Change]]:
        """The absence alarms that go back to `ok`, because what they waited for came in time."""
        if not len(events):
            return
        at = absence.counted_at(self._came.take(pa.array(events)), self._present)
        within = np.array([self._given.read[place].within for place in of.tolist()], np.int64) * 1_000_000
        in_time = np.flatnonzero(at >= self._present - within)
        for place in np.unique(of[in_time]).tolist():
            own = in_time[of[in_time] == place]
            newest = own[np.argmax(at[own])]
            seen = absence.Seen(int(at[newest]), described(self._came, int(events[newest])))
            self.active[place] = False
            yield int(events[newest]), self._change(place, absence.came(self._state[place], seen))
            self._state[place] = "ok"

    def _change(self, place: int, outcome: Outcome, its_id: str = "") -> Change:
        row = self._given.rows[place]
        return Change(row.alarm_id, row.name, row.severity, self._state[place], outcome, its_id)

    def _since_creation(self, events: Ints, of: Ints) -> Flags:
        """Which of the events came when the alarm was there already."""
        lacking = [place for place in np.unique(of).tolist() if place not in self._created]
        if lacking:
            self._created.update(_created(self._connection, self._given, lacking))
        hours = self._came["arrival_hour"].combine_chunks().take(pa.array(events)).to_pylist()
        found = [
            created is None or (at >= times.micros(created) // 1000 and hour >= times.arrival_hour(created))
            for at, hour, created in zip(
                self._at[events].tolist(), hours, map(self._created.__getitem__, of.tolist()), strict=True
            )
        ]
        return np.array(found, np.bool_)


def _created(connection: Connection, given: EventAlarms, places: Sequence[int]) -> dict[int, datetime | None]:
    """When alarms were created, by place; None if the history no longer says."""
    of = {given.rows[place].alarm_id: place for place in places}
    found: dict[int, datetime | None] = dict.fromkeys(places)
    for some in _batches(list(of)):
        query = (
            select(alarm_history.c.alarm_id, func.max(alarm_history.c.timestamp))
            .where(alarm_history.c.alarm_id.in_(some), alarm_history.c.type == "creation")
            .group_by(alarm_history.c.alarm_id)
        )
        found.update((of[alarm_id], moment) for alarm_id, moment in connection.execute(query))
    return found


def event_id(alarm_id: str, message_id: str) -> str:
    """The id of what an event does to an alarm: the same whenever it comes."""
    return str(uuid.uuid5(_NAMESPACE, f"{alarm_id} {message_id}"))


def _known(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are in the history or in the outbox."""
    found: set[str] = set()
    for some in _batches(ids):
        for column in (alarm_history.c.event_id, deliveries.c.event_id):
            found |= set(connection.execute(select(column).where(column.in_(some))).scalars())
    return found


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), IDS_AT_ONCE):
        yield ids[start : start + IDS_AT_ONCE]


def _query(query: Sequence[Trait]) -> str:
    return json.dumps([asdict(each) for each in query], sort_keys=True)
