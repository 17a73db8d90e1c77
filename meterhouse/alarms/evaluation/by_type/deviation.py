"""Decides a deviation from the same time of past weeks."""

import math
from collections.abc import Sequence

from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.definitions.rules.deviation import MIN_WEEKS, DeviationRule
from meterhouse.alarms.evaluation.by_type.compared import Verdict


def verdict(rule: DeviationRule, now: Sequence[float], past: Sequence[float]) -> tuple[Verdict, dict[str, float]]:
    """What the latest period says beside the same time of past weeks, and the figures: mean, spread and bounds.

    Args:
        rule: the rule.
        now: the value of the latest period; nothing without points.
        past: the values of the past weeks that have points.
    """
    if not now:
        return Verdict(UNKNOWN, None, (), 0, 1, "1 datapoints are unknown"), {}
    value = now[-1]
    if len(past) < MIN_WEEKS:
        lack = f"only {len(past)} of the past {rule.weeks} weeks have points at this time; {MIN_WEEKS} are needed"
        return Verdict(UNKNOWN, None, (value,), 0, 1, lack), {}
    mean = math.fsum(past) / len(past)
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in past) / (len(past) - 1))
    room = max(rule.deviations * spread, abs(mean) * rule.at_least / 100)
    low, high = mean - room, mean + room
    deviates = (value > high and rule.direction != "down") or (value < low and rule.direction != "up")
    figures = {"mean": mean, "standard_deviation": spread, "low": low, "high": high, "weeks": float(len(past))}
    return Verdict("alarm" if deviates else "ok", None, (value,), int(deviates), 1), figures
