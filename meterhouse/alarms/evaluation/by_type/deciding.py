"""What becomes of an alarm of any type, given the windows that its rule looks at.

The minute's cycle and a back-test decide by the same function.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from meterhouse.alarms.definitions import units
from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.definitions.rules.composite import CompositeRule, Part
from meterhouse.alarms.definitions.rules.deviation import DeviationRule
from meterhouse.alarms.definitions.rules.gnocchi import MetricsRule, ResourcesRule, ResourcesSearchRule
from meterhouse.alarms.definitions.rules.rate_of_change import RateOfChangeRule
from meterhouse.alarms.definitions.rules.ratio import RatioRule
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.alarms.evaluation.by_type import combination, compared, composite, deviation, ratio
from meterhouse.alarms.evaluation.by_type.compared import Verdict
from meterhouse.alarms.evaluation.outcomes import Outcome
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.windows import Window, windows_at
from meterhouse.site import Site

WEEK: Final = timedelta(weeks=1)

_EXPECTED: Final = (ThresholdRule, ResourcesRule, MetricsRule, ResourcesSearchRule, RateOfChangeRule)


@dataclass(frozen=True)
class Moment:
    """A moment at which alarms are decided.

    Attributes:
        at: the end of the windows, UTC.
        states: by id, the states of the alarms that combinations join.
        past: what `pasts` found for deviations.
        icehouse: whether Ceilometer 2014.1 decides in place of Aodh.
    """

    at: datetime
    states: Mapping[str, str] = field(default_factory=dict)
    past: Mapping[Wanted, Sequence[float | None]] = field(default_factory=dict)
    icehouse: bool = False


def decide(alarm: Alarm, state: str, found: Sequence[Window], moment: Moment) -> Outcome | None:
    """What becomes of an alarm in a state; None if nothing happens.

    Args:
        alarm: of any type but event and absence.
        state: its state.
        found: the windows of `alarm.wanted()`, in order.
        moment: when, with what else decides.
    """
    rule = alarm.rule
    if isinstance(rule, CombinationRule):
        return combination.decide(rule, state, alarm.repeat_actions, moment.states, icehouse=moment.icehouse)
    for window in found:
        if window.units[0] != window.units[1]:
            what, hint = units.mixed(*window.units)
            data = {"type": alarm.type, "disposition": "unknown", "count": 0, "most_recent": None}
            return Outcome(UNKNOWN, f"The alarm {what}. {hint}", data, state != UNKNOWN, f"{what}. {hint}")
    waiting = iter(zip(alarm.wanted(), found, strict=True))
    if isinstance(rule, CompositeRule):
        verdicts = [_verdict(part, waiting, moment)[0] for part in rule.parts]
        return composite.decide(rule, state, alarm.repeat_actions, verdicts)
    assert isinstance(rule, Part)
    verdict, figures = _verdict(rule, waiting, moment)
    kind = "threshold" if isinstance(rule, _EXPECTED) and not isinstance(rule, RateOfChangeRule) else alarm.type
    made = compared.outcome(verdict, state, alarm.repeat_actions, kind)
    if made is not None:
        made.reason_data.update(figures)
    return made


def _verdict(rule: Part, waiting: Iterator[tuple[Wanted, Window]], moment: Moment) -> tuple[Verdict, Mapping[str, Any]]:
    """What a rule's windows say, which are taken from those that wait, and further figures for the reason."""
    wanted, window = next(waiting)
    if isinstance(rule, DeviationRule):
        past = [value for value in moment.past.get(wanted, ())[: rule.weeks] if value is not None]
        return deviation.verdict(rule, window.values, past)
    values: Sequence[float] = window.values
    if isinstance(rule, RatioRule):
        values = ratio.values(window, next(waiting)[1])
    icehouse = moment.icehouse and isinstance(rule, ThresholdRule)
    return compared.verdict(
        values, rule.comparison_operator, rule.threshold, rule.evaluation_periods, icehouse=icehouse
    ), {}


def deviations(alarms: Iterable[Alarm]) -> dict[Wanted, int]:
    """The windows that are compared with those of past weeks, and how many weeks."""
    found: dict[Wanted, int] = {}
    for alarm in alarms:
        parts = alarm.rule.parts if isinstance(alarm.rule, CompositeRule) else (alarm.rule,)
        for part in parts:
            if isinstance(part, DeviationRule):
                for wanted in map(alarm.scoped, part.wanted()):
                    found[wanted] = max(part.weeks, found.get(wanted, 0))
    return found


def pasts(
    site: Site, wanted: Mapping[Wanted, int], moments: Sequence[datetime], known: Sequence[datetime | None]
) -> Iterator[dict[Wanted, list[float | None]]]:
    """For each moment, the values that windows had at the same time of the weeks before, the latest week first.

    A week without points has None.

    Args:
        site: the site.
        wanted: the windows, and how many weeks.
        moments: in order, UTC.
        known: for each moment, until when points had arrived that count; None for all.
    """
    if not wanted:
        yield from ({} for _ in moments)
        return
    weeks = []
    for back in range(1, max(wanted.values()) + 1):
        given = [each for each, number in wanted.items() if number >= back]
        shifted = [moment - back * WEEK for moment in moments]
        weeks.append((given, windows_at(site, requests_of(given), shifted, known)))
    for _ in moments:
        found: dict[Wanted, list[float | None]] = {each: [] for each in wanted}
        for given, answers in weeks:
            answer = next(answers)
            for number, each in enumerate(given):
                values = answer.of(number).values
                found[each].append(values[-1] if values else None)
        yield found
