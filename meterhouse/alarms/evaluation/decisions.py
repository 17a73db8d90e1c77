"""Decides the alarms of a cycle: by what, and with what outcome. What one alarm does wrong affects no other one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.evaluation import by_type, threshold
from meterhouse.alarms.evaluation.given import Cycle, Given
from meterhouse.alarms.evaluation.intake import Intake
from meterhouse.alarms.evaluation.loading import STATES, Due, Loaded, States
from meterhouse.alarms.evaluation.outcomes import Change, Holds, Outcome
from meterhouse.alarms.evaluation.windows import Windows, windows
from meterhouse.errors import Unavailable
from meterhouse.sample_quality.series_table import Ints
from meterhouse.site import Site
from meterhouse.stream.envelope import clean

MAX_TRIES: Final = 200
"""How many queries an evaluation makes at most to find the alarms that make the query for all alarms fail."""

MAX_REASON: Final = 500
"""How many characters of an error are kept as the reason of a state."""


@dataclass
class Decisions:
    """What a cycle decides; alarms are named by their places among those that were loaded.

    Attributes:
        loaded: the alarms.
        outcomes: of the alarms with which something happens.
        state: the new state of each alarm, places in STATES.
        held: why the states of alarms are kept although their windows have too few periods.
    """

    loaded: Loaded
    outcomes: dict[int, Outcome]
    state: States
    held: dict[int, Outcome] = field(default_factory=dict)

    def note(self, place: int, outcome: Outcome) -> None:
        """Take the outcome of an alarm."""
        self.outcomes[place] = outcome
        self.state[place] = STATES.index(outcome.state)

    def changes(self) -> list[Change]:
        """The alarms with which something happens, by name."""
        loaded = self.loaded
        return self._changes(
            {
                place: outcome
                for place, outcome in self.outcomes.items()
                if outcome.notify
                or (outcome.state == loaded.state_of(place) == UNKNOWN and outcome.reason != loaded.reason.get(place))
            }
        )

    def holds(self) -> Holds:
        """The alarms that begin or cease to be held."""
        was = self.loaded.held
        ended = [place for place in np.flatnonzero(was).tolist() if place not in self.held]
        begun = {place: outcome for place, outcome in self.held.items() if not was[place]}
        ids = self.loaded.alarms.alarm_id.take(pa.array(ended, pa.int64())).to_pylist()
        return Holds(self._changes(begun), ids)

    def _changes(self, outcomes: Mapping[int, Outcome]) -> list[Change]:
        known = self.loaded.alarms
        rows = pa.array(outcomes.keys(), pa.int64())
        columns = (known.alarm_id, known.name, known.severity, known.project_id)
        made = [
            Change(alarm_id, name, severity, self.loaded.state_of(place), outcome, project_id=project_id)
            for (place, outcome), alarm_id, name, severity, project_id in zip(
                outcomes.items(), *(column.take(rows).to_pylist() for column in columns), strict=True
            )
        ]
        return sorted(made, key=lambda change: (change.name, change.alarm_id))

    @property
    def faults(self) -> list[str]:
        """What is wrong with alarms, by their names."""
        name = self.loaded.alarms.name
        found = sorted((name[place].as_py(), each.fault) for place, each in self.outcomes.items() if each.fault)
        return [f"alarm '{name}' {fault}" for name, fault in found]


def decide(site: Site, loaded: Loaded, due: Due, moment: datetime, intake: Intake) -> Decisions:
    """Decide the alarms that are due.

    Args:
        site: the site.
        loaded: all enabled alarms.
        due: those to evaluate.
        moment: the end of the windows, UTC.
        intake: tells whether windows may lack points.

    Raises:
        Exception: the lake or the warehouse cannot be used, or what fails is no alarm's fault.
    """
    made = Decisions(loaded, {}, loaded.state.copy())
    for place, fault in loaded.faults.items():
        made.note(place, _failed(loaded.state_of(place), fault))
    others: dict[int, tuple[Windows, int]] = {}
    for numbers, some in _windows(site, due, moment, made):
        count = int(np.searchsorted(numbers, len(due.rules)))
        if count:
            _decide(due, numbers[:count], some.head(count), made, icehouse=site.settings.alarm_quorum == "icehouse")
        others.update((int(number), (some, count + n)) for n, number in enumerate(numbers[count:]))
    _hold(made, intake)
    _decide_others(Cycle(site, moment, {}), due, others, made)
    _hold(made, intake)
    return made


def _decide(due: Due, numbers: Ints, found: Windows, made: Decisions, *, icehouse: bool) -> None:
    """Decide some threshold alarms: note the states of all, and the outcomes of those with which something happens."""
    own, loaded = due.rules, made.loaded
    at = own.at[numbers]
    state = loaded.state[at]
    rules = threshold.Rules(
        own.threshold[numbers], own.operator[numbers], own.requests.keep[numbers], own.repeat[numbers]
    )
    decided = threshold.decide(rules, state, found, icehouse=icehouse)
    made.state[at] = decided.state
    matters = decided.notify | decided.mixed
    still = np.flatnonzero(~matters & (decided.state == threshold.UNKNOWN))
    lacking = threshold.reasons_of_lacking(decided, still)
    news = [n for n, reason in zip(still.tolist(), lacking, strict=True) if loaded.reason.get(int(at[n])) != reason]
    matters[news] = True
    chosen = np.flatnonzero(matters).tolist()
    outcomes = threshold.outcomes(decided, state, found, chosen)
    for number, place, outcome in zip(chosen, at[chosen].tolist(), outcomes, strict=True):
        moved = decided.state[number] != state[number]
        made.outcomes[place] = replace(outcome, evidence=_evidence([(found, number)])) if moved else outcome


def _decide_others(cycle: Cycle, due: Due, found: Mapping[int, tuple[Windows, int]], made: Decisions) -> None:
    """Decide the alarms of other types, which may look at the states of those that were decided before."""
    others = [each for each in due.others if all(number in found for number in each.windows)]
    if not others:
        return
    known, loaded = made.loaded.alarms, made.loaded
    states = {alarm_id: STATES[code] for alarm_id, code in zip(known.alarm_id.to_pylist(), made.state, strict=True)}
    behind = [[found[number] for number in each.windows] for each in others]
    given = [
        Given(
            known.alarm_id[each.place].as_py(),
            each.alarm,
            known.project_id[each.place].as_py(),
            loaded.state_of(each.place),
            tuple(some.of(number) for some, number in of_alarm),
        )
        for each, of_alarm in zip(others, behind, strict=True)
    ]
    outcomes = by_type.outcomes(replace(cycle, states=states), given)
    for each, of_alarm, outcome in zip(others, behind, outcomes, strict=True):
        if outcome is not None:
            made.note(each.place, replace(outcome, evidence={**_evidence(of_alarm), **outcome.evidence}))


def _evidence(found: list[tuple[Windows, int]]) -> dict[str, Any]:
    """What the history says of the windows that decided; nothing of those of an alarm that looks at no points."""
    return {"windows": [some.evidence(number) for some, number in found]} if found else {}


def _hold(made: Decisions, intake: Intake) -> None:
    """Keep the states of alarms whose windows have too few periods, if intake is behind: it may be its fault."""
    loaded = made.loaded
    lacking = [
        place
        for place, outcome in made.outcomes.items()
        if outcome.state == UNKNOWN
        and loaded.state[place] != threshold.UNKNOWN
        and not outcome.fault
        and outcome.reason_data.get("type") != "combination"
    ]
    if not lacking or intake.behind is None:
        return
    for place in lacking:
        outcome = made.outcomes.pop(place)
        kept = loaded.state_of(place)
        made.state[place] = loaded.state[place]
        reason = f"Remaining as {kept}: {outcome.reason}, and {intake.behind.text}"
        made.held[place] = replace(outcome, state=kept, reason=reason, notify=False)


def _windows(site: Site, due: Due, moment: datetime, made: Decisions) -> list[tuple[Ints, Windows]]:
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

    found = attempt(np.arange(len(requests))) if len(requests) else []
    if errors and len(errors) == len(requests):
        raise next(iter(errors.values()))
    for number, error in errors.items():
        place = due.place_of(number)
        fault = f"cannot be evaluated: {' '.join(str(error).split())}"
        made.note(place, _failed(made.loaded.state_of(place), fault))
    return found


def _failed(state: str, fault: str) -> Outcome:
    """The outcome of an alarm in a state that could not be evaluated."""
    fault = clean(fault[:MAX_REASON])
    data = {"type": "threshold", "disposition": "unknown", "count": 0, "most_recent": None}
    return Outcome(UNKNOWN, f"The alarm {fault}", data, notify=state != UNKNOWN, fault=fault)
