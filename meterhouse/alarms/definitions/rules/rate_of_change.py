"""The rule of a rate of change: how fast a meter grows or falls, by period. Neither Ceilometer nor Aodh has it."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from meterhouse.alarms.definitions.checker import Checker, names
from meterhouse.alarms.definitions.rules.comparing import COMPARE, MAX_PERIOD, MAX_PERIODS, bounded, query, where
from meterhouse.alarms.definitions.wanted import Condition, Wanted


@dataclass(frozen=True)
class RateOfChangeRule:
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
    def _wanted(self) -> Wanted:
        return Wanted(self.meter_name, self.query, self.where, "rate", self.period, self.evaluation_periods)

    def wanted(self) -> tuple[Wanted, ...]:
        """The window that it looks at."""
        return (self._wanted,)

    @property
    def meters(self) -> tuple[str, ...]:
        """The meters that it reads."""
        return (self.meter_name,)

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none."""
        return (
            f"Alarm when {self.meter_name} changes by {self.comparison_operator} {self.threshold} a second over "
            f"{self.period} seconds"
        )

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        return asdict(self)

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
        bounded(check, rule._wanted)
        return rule
