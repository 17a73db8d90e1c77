"""Decides alarms of other types than threshold, whose rules are objects: a function for each kind."""

from collections.abc import Callable, Sequence

from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.definitions.rules.absence import AbsenceRule
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.definitions.rules.composite import KINDS, CompositeRule
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.evaluation.by_type import absence
from meterhouse.alarms.evaluation.by_type.combination import in_order
from meterhouse.alarms.evaluation.by_type.deciding import Moment, decide, deviations, pasts
from meterhouse.alarms.evaluation.given import Cycle, Given
from meterhouse.alarms.evaluation.outcomes import Outcome
from meterhouse.errors import Unavailable
from meterhouse.stream.envelope import clean

Decide = Callable[[Cycle, Given, Moment], Outcome | None]
"""What decides an alarm of a type; None: nothing happens."""


def _by_windows(cycle: Cycle, given: Given, moment: Moment) -> Outcome | None:
    return decide(given.alarm, given.state, given.windows, moment)


def _absence(cycle: Cycle, given: Given, moment: Moment) -> Outcome | None:
    return absence.outcomes(cycle, [given])[0]


DECIDE: dict[str, Decide] = {
    AbsenceRule.TYPE: _absence,
    **dict.fromkeys(set(KINDS) - {ThresholdRule.TYPE}, _by_windows),
    CompositeRule.TYPE: _by_windows,
    CombinationRule.TYPE: _by_windows,
}
"""Type of an alarm → what decides it. Alarms of other types are not part of a cycle."""

MAX_REASON = 500
"""How many characters of an error are kept as the reason of a state."""


def outcomes(cycle: Cycle, given: Sequence[Given]) -> list[Outcome | None]:
    """The outcomes of alarms, in their order; None: nothing happens. What goes wrong with one is its fault alone.

    Combinations come after the alarms that they combine.

    Args:
        cycle: the cycle.
        given: alarms whose types are in DECIDE.

    Raises:
        Unavailable, OSError: the lake or the warehouse cannot be used; no alarm is at fault.
    """
    states = dict(cycle.states)
    past = next(pasts(cycle.site, deviations(each.alarm for each in given), [cycle.moment], [cycle.known_at]))
    moment = Moment(cycle.moment, states, past, cycle.site.settings.alarm_quorum == "icehouse")
    by_id = {each.alarm_id: each for each in given}
    made = _absences(cycle, given)
    states.update((key, outcome.state) for key, outcome in made.items() if outcome is not None)
    combined = {key: each.alarm.rule for key, each in by_id.items() if isinstance(each.alarm.rule, CombinationRule)}
    for key in (*(key for key in by_id if key not in combined and key not in made), *in_order(combined)):
        each = by_id[key]
        try:
            made[key] = DECIDE[each.alarm.type](cycle, each, moment)
        except (Unavailable, OSError):  # the lake or the warehouse, not the alarm
            raise
        except Exception as error:
            made[key] = _failed(each, error)
        outcome = made[key]
        if outcome is not None:
            states[key] = outcome.state
    return [made[each.alarm_id] for each in given]


def _absences(cycle: Cycle, given: Sequence[Given]) -> dict[str, Outcome | None]:
    """The outcomes of all absence alarms together, by id; none if one of them fails, which is then found one by one."""
    some = [each for each in given if each.alarm.type == AbsenceRule.TYPE]
    try:
        return {each.alarm_id: made for each, made in zip(some, absence.outcomes(cycle, some), strict=True)}
    except (Unavailable, OSError):
        raise
    except Exception:
        return {}


def _failed(given: Given, error: Exception) -> Outcome:
    fault = clean(f"cannot be evaluated: {' '.join(str(error).split())}"[:MAX_REASON])
    data = {"type": given.alarm.type, "disposition": "unknown", "count": 0, "most_recent": None}
    return Outcome(UNKNOWN, f"The alarm {fault}", data, notify=given.state != UNKNOWN, fault=fault)
