"""The rule of a rate of change: how fast a meter grows or falls, by period. Neither Ceilometer nor Aodh has it."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from meterhouse.alarms.definitions.checker import Checker, names
from meterhouse.alarms.definitions.rules.comparing import (
    COMPARE,
    MAX_PERIOD,
    MAX_PERIODS,
    OfOneWindow,
    bounded,
    query,
    where,
)
from meterhouse.alarms.definitions.wanted import Condition, Wanted


@dataclass(frozen=True)
class RateOfChangeRule(OfOneWindow):
    """Compares the change of a meter a second with a threshold.

    The change of a cumulative meter is its increase; where the counter was reset, its new value counts. The change of a
    gauge may be negative. The changes of all series are added.
    """

    TYPE: ClassVar = "rate_of_change"
    MEANING: ClassVar = "Compares the change of a meter a second with a threshold; resets of counters do not matter."

    meter_name: str
    threshold: float
    query: tuple[Condition, ...] = ()
    comparison_operator: str = "gt"
    period: int = 300
    evaluation_periods: int = 1
    where: str = ""

    @cached_property
    def window(self) -> Wanted:
        """The window that it looks at."""
        return Wanted(self.meter_name, self.query, self.where, "rate", self.period, self.evaluation_periods)

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none."""
        return (
            f"Alarm when {self.meter_name} changes by {self.comparison_operator} {self.threshold} a second over "
            f"{self.period} seconds"
        )

    @classmethod
    def read(cls, check: Checker) -> "RateOfChangeRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys(names(cls))
        rule = cls(
            meter_name=check.text("meter_name"),
            threshold=check.number("threshold"),
            query=query(check),
            comparison_operator=check.one_of("comparison_operator", tuple(COMPARE), "gt"),
            period=check.whole("period", 300, MAX_PERIOD),
            evaluation_periods=check.whole("evaluation_periods", 1, MAX_PERIODS),
            where=where(check),
        )
        bounded(check, rule.window)
        return rule
