"""Asks for windows and decisions of single alarms, as an evaluation does for many."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from meterhouse.alarms.definitions.alarm import Alarm
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.alarms.evaluation import threshold
from meterhouse.alarms.evaluation.loading import OPERATORS, STATES
from meterhouse.alarms.evaluation.outcomes import Outcome
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.windows import Window, Windows, windows
from meterhouse.site import Site


def windows_of(site: Site, asked: Sequence[Alarm | Wanted], moment: datetime) -> list[Window]:
    """The windows of alarms, or of what is wanted."""
    found = windows(
        site,
        requests_of([each for some in asked for each in (some.rule.wanted() if isinstance(some, Alarm) else (some,))]),
        moment,
    )
    return [found.of(number) for number in range(len(asked))]


def decided(given: Alarm, state: str, values: Sequence[float]) -> Outcome:
    """The outcome for an alarm in a state whose window has these values."""
    assert isinstance(given.rule, ThresholdRule)
    rule, count = given.rule, len(values)
    some = np.arange(count)
    unit = np.zeros(1, np.int64)
    found = Windows(np.array([0, count]), some, np.array(values, np.float64), some + 1, some * 0, ["u"], unit, unit)
    rules = threshold.Rules(
        np.array([rule.threshold]),
        np.array([OPERATORS.index(rule.comparison_operator)], np.int8),
        np.array([rule.evaluation_periods]),
        np.array([given.repeat_actions]),
    )
    before = np.array([STATES.index(state)], np.int8)
    (made,) = threshold.outcomes(threshold.decide(rules, before, found), before, found, [0])
    return made
