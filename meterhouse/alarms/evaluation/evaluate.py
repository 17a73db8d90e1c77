"""Evaluates all alarms together, each minute; minutes that were missed are evaluated afterwards, in order."""

import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import case, func, or_, select

from meterhouse import times
from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.delivery import heartbeat
from meterhouse.alarms.evaluation import by_type, loading
from meterhouse.alarms.evaluation.decisions import decide
from meterhouse.alarms.evaluation.intake import Intake
from meterhouse.alarms.evaluation.loading import STATES, Due, Loaded
from meterhouse.alarms.evaluation.outcomes import save
from meterhouse.alarms.evaluation.windows import has_points
from meterhouse.alarms.keeping import apply as applying
from meterhouse.alarms.keeping import cycles
from meterhouse.collection import stream_meters
from meterhouse.errors import DefinitionError, MeterhouseError
from meterhouse.polling import poll_meters
from meterhouse.site import Site
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import alarms

log = logging.getLogger(__name__)

EVERY: Final = timedelta(seconds=60)
"""How often alarms are evaluated."""

MISSED: Final = 10
"""How many missed minutes are evaluated at most, the latest ones: of what is longer ago, nobody wants to hear."""

_WAITED: Final = 0.05
"""Seconds after which a lease was not free at once."""


@dataclass
class Evaluated:
    """What an evaluation did.

    Attributes:
        alarms: how many alarms were evaluated.
        transitions: (alarm name, previous, current) of each.
        states: state → number of alarms.
        notifications: how many were put into the outbox.
        faults: what is wrong with alarms that could not be applied or evaluated, one text each.
        seconds: how long it took.
        cycles: how many minutes were evaluated: missed ones too; 0 if another process has just evaluated this one.
        held: how many alarms keep their state because intake is behind.
    """

    alarms: int = 0
    transitions: list[tuple[str, str, str]] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    notifications: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cycles: int = 0
    held: int = 0


def evaluate(site: Site, at: datetime | None = None) -> Evaluated:
    """Evaluate every enabled alarm. State, history and outbox of a cycle change in one transaction.

    Up to MISSED minutes since the last cycle are evaluated too, each with the points that are known now, so that an
    alarm that fired and ceased meanwhile is heard of.

    Args:
        site: the site.
        at: the end of the windows, UTC; default now. With a time, only this one is evaluated.

    Raises:
        AlreadyRunning: another process is still evaluating the alarms after WAIT_SECONDS.
        LeaseLost: this process was paused, and another one evaluates the alarms; nothing was written.
        MeterhouseError: the lake or the warehouse cannot be used; nothing was evaluated.
    """
    done = Evaluated()
    clock, asked = time.monotonic(), times.now()
    with site.warehouse.lease(applying.LEASE, wait_seconds=applying.WAIT_SECONDS) as lease:
        waited, moment = time.monotonic() - clock > _WAITED, asked
        done.faults += _apply(site, lease)
        with site.warehouse.read() as connection:
            last = cycles.last(connection)
        if at is None and waited and last is not None and abs(asked - last.evaluated_at) < EVERY / 2:
            _tell_states(site, done)  # the other process has evaluated this minute
        else:
            moment = _evaluate(site, lease, last, at, done)
    done.seconds = time.monotonic() - clock
    if done.cycles:
        heartbeat.beat(site.settings, _figures(done, moment))
    return done


def _figures(done: Evaluated, moment: datetime) -> dict[str, Any]:
    """What the heartbeat says of a cycle."""
    return {
        "evaluated_at": moment.isoformat(),
        "seconds": round(done.seconds, 3),
        "alarms": done.alarms,
        "states": dict(done.states),
        "transitions": len(done.transitions),
        "notifications": done.notifications,
        "faults": len(done.faults),
    }


def _evaluate(site: Site, lease: Lease, last: cycles.Cycle | None, at: datetime | None, done: Evaluated) -> datetime:
    """Evaluate a moment, or now and the minutes that were missed; return the last one."""
    if at is None:
        _measure_itself(site, last, lease)
    moments = [at] if at is not None else due_moments(None if last is None else last.evaluated_at, times.now())
    intake = Intake(site)
    for moment in moments:
        if last is None or not _is_idle(site, last, moment):
            last = _cycle(site, lease, moment, intake, done)
        else:
            with lease.begin() as connection:
                cycles.record(connection, last := last.again(moment))
            done.alarms, done.states, done.held = last.alarms, Counter({UNKNOWN: last.alarms} if last.alarms else {}), 0
        done.cycles += 1
    return moments[-1]


def due_moments(last: datetime | None, now: datetime) -> list[datetime]:
    """When to evaluate: now, and before that the minutes since the last cycle that were missed, at most MISSED."""
    if last is None or last > now:  # the clock was set back
        return [now]
    missed = (now - last) // EVERY
    first = max(missed - MISSED, 0) + 1
    moments = [last + n * EVERY for n in range(first, missed + 1)]
    return [*(moment for moment in moments if now - moment > EVERY / 2), now]


def _cycle(site: Site, lease: Lease, moment: datetime, intake: Intake, done: Evaluated) -> cycles.Cycle:
    """Evaluate all alarms at a moment, and write what comes of it."""
    with site.warehouse.read() as connection:
        loaded = loading.load(connection, site.settings.home_path)
        entry = cycles.newest_entry(connection)
    due = loading.due(loaded, moment, by_type.DECIDE)
    made = decide(site, loaded, due, moment, intake)
    cycle = cycles.Cycle(moment, len(loaded), entry, None if made.faults else _longest(due, loaded))
    saved = save(lease, made.changes(), cycle, loaded.is_new, made.holds())
    done.faults += [fault for fault in made.faults if fault not in done.faults]
    done.transitions += saved.transitions
    done.notifications += saved.notifications
    done.alarms, done.held = len(loaded), len(made.held)
    counts = np.bincount(made.state, minlength=len(STATES)).tolist()
    done.states = Counter({name: count for name, count in zip(STATES, counts, strict=True) if count})
    assert saved.cycle is not None
    return saved.cycle


def _longest(due: Due, loaded: Loaded) -> dict[str, int] | None:
    """The meters that alarms read, and the longest window of each, in seconds; None if more than points decides."""
    if loaded.others or loaded.rules.constraints:
        return None
    requests = due.requests
    longest = np.zeros(len(requests.names), np.int64)
    np.maximum.at(longest, requests.meter, requests.length // 1_000_000)
    return dict(zip(requests.names, longest.tolist(), strict=True))


def _is_idle(site: Site, last: cycles.Cycle, moment: datetime) -> bool:
    """Whether nothing can happen: no alarm has changed, all lack points, and none has come."""
    if last.watched is None:
        return False
    columns = alarms.c
    others = or_(columns.state != UNKNOWN, columns.held_since.is_not(None), columns.evaluate_timestamp.is_(None))
    counted = select(func.count(), func.count(case((others, 1)))).where(columns.enabled)
    with site.warehouse.read() as connection:
        if cycles.newest_entry(connection) != last.history:
            return False
        if tuple(connection.execute(counted).one()) != (last.alarms, 0):
            return False
    return not last.watched or not has_points(site, last.watched, moment)


def _tell_states(site: Site, done: Evaluated) -> None:
    columns = alarms.c
    query = select(columns.state, func.count()).where(columns.enabled).group_by(columns.state)
    with site.warehouse.read() as connection:
        done.states = Counter({row[0]: row[1] for row in connection.execute(query)})
    done.alarms = sum(done.states.values())


def _apply(site: Site, lease: Lease) -> list[str]:
    """Bring the warehouse in line with the file; what is wrong with the file or with alarms of it."""
    try:
        return [str(fault) for fault in applying.apply_under(site, lease).faults]
    except DefinitionError as error:  # the warehouse's alarms are evaluated all the same
        return [str(error)]


def _measure_itself(site: Site, last: cycles.Cycle | None, lease: Lease) -> None:
    """Measure the stream and polling, if an alarm uses one of their meters. A failure does not affect other alarms."""
    for what, record in (("the stream", stream_meters.record), ("polling", poll_meters.record)):
        try:
            record(site, _meters(site, last), lease)
        except MeterhouseError as error:
            log.warning("the meters of %s are not measured: %s", what, error)


def _meters(site: Site, last: cycles.Cycle | None) -> Iterable[str]:
    """The meters that alarms read."""
    with site.warehouse.read() as connection:
        if last is not None and last.watched is not None and cycles.newest_entry(connection) == last.history:
            return last.watched
        return loading.load(connection, site.settings.home_path).meters


def last_transition(site: Site) -> int:
    """The sequence number of the newest entry of the alarms' history; 0 without any."""
    with site.warehouse.read() as connection:
        return cycles.newest_entry(connection)
