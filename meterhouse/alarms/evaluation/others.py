"""Evaluates the alarms of a cycle whose type is not threshold: all their windows by one query, then each on its own."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from meterhouse.alarms.definitions.alarm import Alarm
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.definitions.rules.event import EventRule
from meterhouse.alarms.definitions.time_constraints import in_force
from meterhouse.alarms.evaluation.by_type.combination import in_order
from meterhouse.alarms.evaluation.by_type.deciding import Moment, decide, deviations, pasts
from meterhouse.alarms.evaluation.outcomes import Outcome
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.windows import Window, windows
from meterhouse.errors import Unavailable
from meterhouse.site import Site

NOT_HERE: Final = (EventRule,)
"""Rules of alarms that are not evaluated each minute, but when something comes."""


def outcomes(
    site: Site, given: Mapping[str, tuple[Alarm, str]], states: Mapping[str, str], at: datetime, *, icehouse: bool
) -> tuple[dict[str, Outcome], dict[str, Exception]]:
    """What becomes of alarms, by id, and the errors of those that cannot be evaluated. Without an entry: nothing.

    Args:
        site: the site.
        given: the alarms and their states, by id.
        states: the states of all alarms as far as they are known now, by id.
        at: the end of the windows, UTC.
        icehouse: whether Ceilometer 2014.1 decides.

    Raises:
        Unavailable, OSError: the lake or the warehouse cannot be used; no alarm is at fault.
    """
    due = {
        key: (alarm, state)
        for key, (alarm, state) in given.items()
        if not isinstance(alarm.rule, NOT_HERE) and in_force(alarm.time_constraints, at)
    }
    combined = {key: alarm.rule for key, (alarm, _) in due.items() if isinstance(alarm.rule, CombinationRule)}
    made: dict[str, Outcome] = {}
    errors: dict[str, Exception] = {}
    found = _windows(site, {key: alarm for key, (alarm, _) in due.items() if key not in combined}, at, errors)
    now = dict(states)
    past = next(pasts(site, deviations(due[key][0] for key in found), [at], [None]))
    moment = Moment(at, now, past, icehouse)
    for key in (*found, *in_order(combined)):
        alarm, state = due[key]
        outcome = decide(alarm, state, found.get(key, ()), moment)
        if outcome is not None:
            made[key] = outcome
            now[key] = outcome.state
    return made, errors


def _windows(
    site: Site, alarms: Mapping[str, Alarm], at: datetime, errors: dict[str, Exception]
) -> dict[str, Sequence[Window]]:
    """The windows of alarms, by id; by one query, and if that fails by one for each alarm."""
    wanted = {key: alarm.wanted() for key, alarm in alarms.items()}
    try:
        found = windows(site, requests_of([each for of in wanted.values() for each in of]), at)
    except (Unavailable, OSError):
        raise
    except Exception as error:
        if len(alarms) < 2:
            errors.update(dict.fromkeys(alarms, error))
            return {}
        made: dict[str, Sequence[Window]] = {}
        for key, alarm in alarms.items():
            made |= _windows(site, {key: alarm}, at, errors)
        return made
    numbers = iter(range(len(found)))
    return {key: [found.of(next(numbers)) for _ in of] for key, of in wanted.items()}
