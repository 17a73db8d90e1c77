"""Evaluates all alarms together. What one alarm does wrong affects no other one."""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from meterhouse import times
from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.evaluation import loading, others, threshold
from meterhouse.alarms.evaluation.loading import STATES, Loaded, Thresholds
from meterhouse.alarms.evaluation.outcomes import Change, Outcome, save
from meterhouse.alarms.evaluation.windows import Windows, windows
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
            loaded = loading.load(connection)
        if at is None:
            _measure_stream(site, loaded.meters, lease)
        moment = at or times.now()
        given = loading.thresholds(loaded, moment)
        changes, states, faults = _evaluated(site, loaded, given, moment)
        done.faults += faults
        cycle = cycles.Cycle(moment, len(loaded.watched), 0, _longest(given, loaded))
        saved = save(lease, changes, cycle, bool(loaded.watched.is_new.any()))
        done.transitions, done.notifications = saved.transitions, saved.notifications
        done.alarms = len(loaded.watched)
        done.states = states
        done.seconds = time.monotonic() - clock
    return done


def _longest(given: Thresholds, loaded: Loaded) -> dict[str, int] | None:
    """The meters that alarms read, and the longest window of each, in seconds; None if more than points decides."""
    if loaded.others or not len(given):
        return None
    meters = pa.array(given.requests.meters).dictionary_encode()
    longest = np.zeros(len(meters.dictionary), np.int64)
    np.maximum.at(longest, meters.indices.to_numpy(), given.requests.length // 1_000_000)
    return dict(zip(meters.dictionary.to_pylist(), longest.tolist(), strict=True))


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


def _evaluated(
    site: Site, loaded: Loaded, given: Thresholds, moment: datetime
) -> tuple[list[Change], Counter[str], list[str]]:
    """What changes, by name; the number of alarms by new state; and what is wrong with alarms."""
    outcomes = {place: _failed(_state(loaded, place), fault) for place, fault in loaded.faults.items()}
    states: Counter[str] = Counter()
    for numbers, found in _windows(site, given, moment, outcomes, loaded):
        _decide(loaded, given, numbers, found, outcomes, states)
    _others(site, loaded, moment, outcomes, states)
    states.update(outcome.state for place, outcome in outcomes.items() if outcome.fault and place in loaded.faults)
    return _changes(loaded, outcomes), states, _faults(loaded, outcomes)


def _others(site: Site, loaded: Loaded, moment: datetime, outcomes: dict[int, Outcome], states: Counter[str]) -> None:
    """Decide the alarms of other types: note the outcomes with which something happens, and count all states."""
    if not loaded.others:
        return
    watched = loaded.watched
    places = {watched.alarm_id[place]: place for place in loaded.others}
    given = {key: (loaded.others[place], _state(loaded, place)) for key, place in places.items()}
    now = {key: STATES[state] for key, state in zip(watched.alarm_id, watched.state.tolist(), strict=True)}
    now |= {watched.alarm_id[place]: outcome.state for place, outcome in outcomes.items()}
    icehouse = site.settings.alarm_quorum == "icehouse"
    found, errors = others.outcomes(site, given, now, moment, icehouse=icehouse)
    for key, error in errors.items():
        fault = f"cannot be evaluated: {' '.join(str(error).split())}"
        loaded.faults[places[key]] = fault
        outcomes[places[key]] = _failed(_state(loaded, places[key]), fault)
    for key, place in places.items():
        if key in found:
            outcomes[place] = found[key]
        if key not in errors:
            states[found[key].state if key in found else _state(loaded, place)] += 1


def _decide(
    loaded: Loaded,
    given: Thresholds,
    numbers: Ints,
    found: Windows,
    outcomes: dict[int, Outcome],
    states: Counter[str],
) -> None:
    """Decide some threshold alarms: note the outcomes of those with which something happens, and count all states."""
    watched, at = loaded.watched, given.at[numbers]
    state = watched.state[at]
    rules = threshold.Rules(
        given.threshold[numbers], given.operator[numbers], given.requests.keep[numbers], given.repeat[numbers]
    )
    decided = threshold.decide(rules, state, found)
    matters = decided.notify | decided.mixed
    still = np.flatnonzero(~matters & (decided.state == threshold.UNKNOWN))
    lacking = threshold.reasons_of_lacking(decided, still)
    matters[[n for n, reason in zip(still.tolist(), lacking, strict=True) if watched.reason[at[n]] != reason]] = True
    chosen = np.flatnonzero(matters).tolist()
    made = threshold.outcomes(decided, state, found, chosen)
    outcomes.update(zip(at[chosen].tolist(), made, strict=True))
    for code, count in enumerate(np.bincount(decided.state, minlength=len(STATES)).tolist()):
        if count:
            states[STATES[code]] += count


def _windows(
    site: Site, given: Thresholds, moment: datetime, outcomes: dict[int, Outcome], loaded: Loaded
) -> list[tuple[Ints, Windows]]:
    """The windows of all threshold alarms by one query; if it fails, by as few as find the alarms that make it fail.

    Those get their outcome.

    Raises:
        Exception: it fails whichever alarms are in it, so no alarm is at fault.
    """
    tries = 0
    errors: dict[int, Exception] = {}

    def attempt(numbers: Ints) -> list[tuple[Ints, Windows]]:
        nonlocal tries
        tries += 1
        try:
            some = given.requests if len(numbers) == len(given) else given.requests.some(numbers)
            return [(numbers, windows(site, some, moment))]
        except (Unavailable, OSError):  # the lake or the warehouse, not an alarm
            raise
        except Exception as error:
            if tries > MAX_TRIES:
                raise
            if len(numbers) == 1:
                errors[int(given.at[numbers[0]])] = error
                return []
            half = len(numbers) // 2
            return attempt(numbers[:half]) + attempt(numbers[half:])

    found = attempt(np.arange(len(given))) if len(given) else []
    if errors and len(errors) == len(given):
        raise next(iter(errors.values()))
    for place, error in errors.items():
        fault = f"cannot be evaluated: {' '.join(str(error).split())}"
        loaded.faults[place] = fault
        outcomes[place] = _failed(_state(loaded, place), fault)
    return found


def _state(loaded: Loaded, place: int) -> str:
    return STATES[loaded.watched.state[place]]


def _changes(loaded: Loaded, outcomes: dict[int, Outcome]) -> list[Change]:
    """The alarms with which something happens, by name."""
    watched = loaded.watched
    return [
        Change(
            watched.alarm_id[place],
            watched.name[place],
            watched.severity[place],
            _state(loaded, place),
            watched.definition[place],
            outcomes[place],
        )
        for place in sorted(outcomes, key=lambda place: watched.name[place])
        if outcomes[place].notify or outcomes[place].reason != watched.reason[place]
    ]


def _faults(loaded: Loaded, outcomes: dict[int, Outcome]) -> list[str]:
    names = loaded.watched.name
    found = sorted((names[place], outcome.fault) for place, outcome in outcomes.items() if outcome.fault)
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
