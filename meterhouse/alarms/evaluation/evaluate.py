"""Evaluates all alarms together. What one alarm does wrong affects no other one."""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from meterhouse import times
from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.delivery import heartbeat
from meterhouse.alarms.evaluation import by_type, loading, threshold
from meterhouse.alarms.evaluation.given import Cycle, Given
from meterhouse.alarms.evaluation.loading import STATES, Due, Loaded, States
from meterhouse.alarms.evaluation.outcomes import Change, Outcome, save
from meterhouse.alarms.evaluation.windows import Window, Windows, windows
from meterhouse.alarms.keeping import apply as applying
from meterhouse.alarms.keeping import cycles
from meterhouse.collection import stream_meters
from meterhouse.errors import DefinitionError, MeterhouseError, Unavailable
from meterhouse.sample_quality.series_table import Ints
from meterhouse.site import Site
from meterhouse.stores.leases import Lease
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
        with site.warehouse.read() as connection:
            loaded = loading.load(connection, site.settings.home_path)
        if at is None:
            _measure_stream(site, loaded.meters, lease)
        moment = at or times.now()
        due = loading.due(loaded, moment, by_type.DECIDE)
        found = _evaluated(site, loaded, due, moment)
        done.faults += _faults(loaded, found.outcomes)
        cycle = cycles.Cycle(moment, len(loaded), 0, _longest(due, loaded))
        saved = save(lease, _changes(loaded, found.outcomes), cycle, loaded.is_new)
        done.transitions, done.notifications = saved.transitions, saved.notifications
        done.alarms = len(loaded)
        counts = np.bincount(found.state, minlength=len(STATES)).tolist()
        done.states = Counter({name: count for name, count in zip(STATES, counts, strict=True) if count})
        done.seconds = time.monotonic() - clock
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


def _longest(due: Due, loaded: Loaded) -> dict[str, int] | None:
    """The meters that alarms read, and the longest window of each, in seconds; None if more than points decides."""
    if loaded.others or loaded.rules.constraints:
        return None
    requests = due.requests
    longest = np.zeros(len(requests.names), np.int64)
    np.maximum.at(longest, requests.meter, requests.length // 1_000_000)
    return dict(zip(requests.names, longest.tolist(), strict=True))


def _apply(site: Site, lease: Lease) -> list[str]:
    """Bring the warehouse in line with the file; what is wrong with the file or with alarms of it."""
    try:
        return [str(fault) for fault in applying.apply_under(site, lease).faults]
    except DefinitionError as error:  # the warehouse's alarms are evaluated all the same
        return [str(error)]


def _measure_stream(site: Site, meters: set[str], lease: Lease) -> None:
    """Measure the stream's own meters, if an alarm uses one. A failure does not affect other alarms."""
    try:
        stream_meters.record(site, meters, lease)
    except MeterhouseError as error:
        log.warning("the meters of the stream are not measured: %s", error)


@dataclass
class _Found:
    """What a cycle finds.

    Attributes:
        outcomes: of the alarms with which something happens, by place.
        state: the new state of each alarm, places in STATES.
    """

    outcomes: dict[int, Outcome]
    state: States


def _evaluated(site: Site, loaded: Loaded, due: Due, moment: datetime) -> _Found:
    """Decide the alarms that are due."""
    found = _Found({}, loaded.state.copy())
    for place, fault in loaded.faults.items():
        _note(found, place, _failed(loaded.state_of(place), fault))
    made: dict[int, Window] = {}
    for numbers, some in _windows(site, due, moment, loaded, found):
        count = int(np.searchsorted(numbers, len(due.rules)))
        if count:
            _decide(loaded, due, numbers[:count], some.head(count), found)
        made.update((int(number), some.of(count + n)) for n, number in enumerate(numbers[count:]))
    _decide_others(Cycle(site, moment, {}), loaded, due, made, found)
    return found


def _note(found: _Found, place: int, outcome: Outcome) -> None:
    found.outcomes[place] = outcome
    found.state[place] = STATES.index(outcome.state)


def _decide(loaded: Loaded, due: Due, numbers: Ints, windows: Windows, found: _Found) -> None:
    """Decide some threshold alarms: note the states of all, and the outcomes of those with which something happens."""
    own = due.rules
    at = own.at[numbers]
    state = loaded.state[at]
    rules = threshold.Rules(
        own.threshold[numbers], own.operator[numbers], own.requests.keep[numbers], own.repeat[numbers]
    )
    decided = threshold.decide(rules, state, windows)
    found.state[at] = decided.state
    matters = decided.notify | decided.mixed
    still = np.flatnonzero(~matters & (decided.state == threshold.UNKNOWN))
    lacking = threshold.reasons_of_lacking(decided, still)
    matters[
        [n for n, reason in zip(still.tolist(), lacking, strict=True) if loaded.reason.get(int(at[n])) != reason]
    ] = True
    chosen = np.flatnonzero(matters).tolist()
    made = threshold.outcomes(decided, state, windows, chosen)
    found.outcomes.update(zip(at[chosen].tolist(), made, strict=True))


def _decide_others(cycle: Cycle, loaded: Loaded, due: Due, made: Mapping[int, Window], found: _Found) -> None:
    """Decide the alarms of other types, which may look at the states of those that were decided before."""
    known = loaded.alarms
    others = [each for each in due.others if all(number in made for number in each.windows)]
    if not others:
        return
    states = {
        alarm_id: STATES[code] for alarm_id, code in zip(known.alarm_id.to_pylist(), found.state.tolist(), strict=True)
    }
    given = [
        Given(
            known.alarm_id[each.place].as_py(),
            each.alarm,
            known.project_id[each.place].as_py(),
            loaded.state_of(each.place),
            tuple(made[number] for number in each.windows),
        )
        for each in others
    ]
    outcomes = by_type.outcomes(replace(cycle, states=states), given)
    for each, outcome in zip(others, outcomes, strict=True):
        if outcome is not None:
            _note(found, each.place, outcome)


def _windows(site: Site, due: Due, moment: datetime, loaded: Loaded, found: _Found) -> list[tuple[Ints, Windows]]:
    """The windows of all alarms by one query; if it fails, by as few as find the alarms that make it fail.

    Those get their outcome.

    Raises:
        Exception: it fails whichever alarms are in it, so no alarm is at fault.
    """
    tries = 0
    errors: dict[int, Exception] = {}
    requests = due.requests

    def attempt(numbers: Ints) -> list[tuple[Ints, Windows]]:
        nonlocal tries
        tries += 1
        try:
            some = requests if len(numbers) == len(requests) else requests.some(numbers)
            return [(numbers, windows(site, some, moment))]
        except (Unavailable, OSError):  # the lake or the warehouse, not an alarm
            raise
        except Exception as error:
            if tries > MAX_TRIES:
                raise
            if len(numbers) == 1:
                errors[int(numbers[0])] = error
                return []
            half = len(numbers) // 2
            return attempt(numbers[:half]) + attempt(numbers[half:])

    made = attempt(np.arange(len(requests))) if len(requests) else []
    if errors and len(errors) == len(requests):
        raise next(iter(errors.values()))
    for number, error in errors.items():
        place = due.place_of(number)
        fault = f"cannot be evaluated: {' '.join(str(error).split())}"
        loaded.faults[place] = fault
        _note(found, place, _failed(loaded.state_of(place), fault))
    return made


def _changes(loaded: Loaded, outcomes: dict[int, Outcome]) -> list[Change]:
    """The alarms with which something happens, by name."""
    places = [
        place
        for place, outcome in outcomes.items()
        if outcome.notify
        or (outcome.state == loaded.state_of(place) == UNKNOWN and outcome.reason != loaded.reason.get(place))
    ]
    rows = pa.array(places, pa.int64())
    columns = (loaded.alarms.alarm_id, loaded.alarms.name, loaded.alarms.severity)
    taken = zip(places, *(column.take(rows).to_pylist() for column in columns), strict=True)
    made = [
        Change(alarm_id, name, severity, loaded.state_of(place), outcomes[place])
        for place, alarm_id, name, severity in taken
    ]
    return sorted(made, key=lambda change: (change.name, change.alarm_id))


def _faults(loaded: Loaded, outcomes: dict[int, Outcome]) -> list[str]:
    names = loaded.alarms.name
    found = sorted((names[place].as_py(), outcome.fault) for place, outcome in outcomes.items() if outcome.fault)
    return [f"alarm '{name}' {fault}" for name, fault in found]


def _failed(state: str, fault: str) -> Outcome:
    """The outcome of an alarm in a state that could not be evaluated."""
    fault = clean(fault[:MAX_REASON])
    data = {"type": "threshold", "disposition": "unknown", "count": 0, "most_recent": None}
    return Outcome(UNKNOWN, f"The alarm {fault}", data, notify=state != UNKNOWN, fault=fault)


def last_transition(site: Site) -> int:
    """The sequence number of the newest entry of the alarms' history; 0 without any."""
    with site.warehouse.read() as connection:
        return cycles.newest_entry(connection)
