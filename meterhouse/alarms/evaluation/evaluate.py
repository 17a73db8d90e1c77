"""Evaluates all alarms together. What one alarm does wrong affects no other one."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import func, select

from meterhouse import times
from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm, from_json
from meterhouse.alarms.evaluation import threshold
from meterhouse.alarms.evaluation.outcomes import Outcome, Watched, save
from meterhouse.alarms.keeping import apply as applying
from meterhouse.alarms.keeping.origin import FILE
from meterhouse.collection import stream_meters
from meterhouse.errors import DefinitionError, MeterhouseError, Unavailable
from meterhouse.site import Site
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import alarm_history, alarms
from meterhouse.stream.envelope import clean

log = logging.getLogger(__name__)

MAX_TRIES: Final = 200
"""How many queries an evaluation makes at most to find the alarms that make the query for all alarms fail."""

MAX_REASON: Final = 500
"""How many characters of an error are kept as the reason of a state."""


@dataclass
class Evaluated:
    """What an evaluation cycle did.

    Attributes:
        alarms: how many alarms were evaluated.
        transitions: (alarm name, previous, current) of each.
        states: state → number of alarms.
        notifications: how many were put into the outbox.
        faults: what is wrong with alarms that could not be applied or evaluated, one text each.
        seconds: how long it took.
    """

    alarms: int = 0
    transitions: list[tuple[str, str, str]] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    notifications: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


Given = Sequence[tuple[Alarm, str]]
"""Alarms, each with its state."""


def evaluate(site: Site, at: datetime | None = None) -> Evaluated:
    """Evaluate every enabled alarm. State, history and outbox change in one transaction.

    Args:
        site: the site.
        at: the end of the windows, UTC; default now.

    Raises:
        AlreadyRunning: another process is still evaluating the alarms after WAIT_SECONDS.
        LeaseLost: this process was paused, and another one evaluates the alarms; nothing was written.
        MeterhouseError: the lake or the warehouse cannot be used; nothing was evaluated.
    """
    done = Evaluated()
    clock = time.monotonic()
    with site.warehouse.lease(applying.LEASE, wait_seconds=applying.WAIT_SECONDS) as lease:
        done.faults += _apply(site, lease)
        watched = _watched(site)
        watched = [each for each in watched if each.alarm is None or each.alarm.type == "threshold"]
        usable = [(each.alarm, each.state) for each in watched if each.alarm is not None]
        if at is None:
            _measure_stream(site, [alarm for alarm, _ in usable], lease)
        moment = at or times.now()
        outcomes = iter(_outcomes(lambda given: threshold.outcomes(site, given, moment), usable))
        found = [
            (each, next(outcomes) if each.alarm is not None else _failed(each.state, each.fault)) for each in watched
        ]
        done.faults += [f"alarm '{each.name}' {outcome.fault}" for each, outcome in found if outcome.fault]
        saved = save(lease, found, moment)
        done.transitions, done.notifications = saved.transitions, saved.notifications
        done.alarms = len(watched)
        done.states = Counter(outcome.state for _, outcome in found)
        done.seconds = time.monotonic() - clock
    return done


def _apply(site: Site, lease: Lease) -> list[str]:
    """Bring the warehouse in line with the file; what is wrong with the file or with alarms of it."""
    try:
        return [str(fault) for fault in applying.apply_under(site, lease).faults]
    except DefinitionError as error:  # the warehouse's alarms are evaluated all the same
        return [str(error)]


def _watched(site: Site) -> list[Watched]:
    """The enabled alarms, by name."""
    with site.warehouse.read() as connection:
        rows = connection.execute(select(alarms).where(alarms.c.enabled).order_by(alarms.c.name)).all()
    made = []
    for row in rows:
        alarm, fault = None, ""
        try:
            alarm = from_json(row.definition)
            if row.origin == FILE and alarm.alarm_id != row.alarm_id:
                alarm, fault = None, "has the definition of another alarm"
        except DefinitionError as error:
            fault = f"has a definition that cannot work: {error}"
        owner = (row.origin, row.project_id)
        made.append(Watched(row.alarm_id, row.name, row.severity, row.state, row.state_reason, alarm, fault, *owner))
    return made


def _measure_stream(site: Site, definitions: list[Alarm], lease: Lease) -> None:
    """Measure the stream's own meters, if an alarm uses one. A failure does not affect other alarms."""
    try:
        stream_meters.record(site, (meter for alarm in definitions for meter in alarm.rule.meters), lease)
    except MeterhouseError as error:
        log.warning("the meters of the stream are not measured: %s", error)


def _outcomes(query: Callable[[Given], list[Outcome]], given: Given) -> list[Outcome]:
    """The outcomes of all alarms by one query; if it fails, by as few as find the alarms that make it fail.

    Raises:
        Exception: it fails whichever alarms are in it, so no alarm is at fault.
    """
    tries = 0

    def attempt(some: Given) -> list[Outcome | Exception]:
        nonlocal tries
        tries += 1
        try:
            return list(query(some))
        except (Unavailable, OSError):  # the lake or the warehouse, not an alarm
            raise
        except Exception as error:
            if tries > MAX_TRIES:
                raise
            if len(some) == 1:
                return [error]
            half = len(some) // 2
            return attempt(some[:half]) + attempt(some[half:])

    found = attempt(given) if given else []
    errors = [each for each in found if isinstance(each, Exception)]
    if errors and len(errors) == len(found):
        raise errors[0]
    return [
        _failed(state, f"cannot be evaluated: {' '.join(str(each).split())}") if isinstance(each, Exception) else each
        for each, (_, state) in zip(found, given, strict=True)
    ]


def _failed(state: str, fault: str) -> Outcome:
    """The outcome of an alarm in a state that could not be evaluated."""
    fault = clean(fault[:MAX_REASON])
    data = {"type": "threshold", "disposition": "unknown", "count": 0, "most_recent": None}
    return Outcome(UNKNOWN, f"The alarm {fault}", data, notify=state != UNKNOWN, fault=fault)


def last_transition(site: Site) -> int:
    """The sequence number of the newest entry of the alarms' history; 0 without any."""
    with site.warehouse.read() as connection:
        return int(connection.execute(select(func.max(alarm_history.c.sequence))).scalar() or 0)
