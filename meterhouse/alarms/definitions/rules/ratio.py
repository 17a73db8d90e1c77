"""The rule of a ratio of two meters. Neither Ceilometer nor Aodh has it."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from meterhouse.alarms.definitions.checker import Checker, names
from meterhouse.alarms.definitions.rules.comparing import COMPARE, MAX_PERIOD, MAX_PERIODS, bounded, query, where
from meterhouse.alarms.definitions.wanted import STATISTICS, Condition, Wanted, plain


@dataclass(frozen=True)
class Measure:
    """One of the two: a statistic of a meter."""

    meter_name: str
    query: tuple[Condition, ...] = ()
    statistic: str = "avg"
    where: str = ""

    @classmethod
    def read(cls, check: Checker) -> "Measure":
        """The measure that a mapping defines."""
        check.keys(names(cls))
        return cls(check.text("meter_name"), query(check), check.one_of("statistic", STATISTICS, "avg"), where(check))


@dataclass(frozen=True)
class RatioRule:
    """Compares one meter divided by another, by periods in which both have points, with a threshold.

    A period whose divisor is 0 does not count.
    """

    TYPE: ClassVar = "ratio"
    MEANING: ClassVar = "Compares the ratio of two meters with a threshold."

    numerator: Measure
    denominator: Measure
    threshold: float
    comparison_operator: str = "gt"
    period: int = 60
    evaluation_periods: int = 1

    @cached_property
    def _wanted(self) -> tuple[Wanted, ...]:
        # Periods with points of one meter only must not push those with both out of what is looked at.
        return tuple(
            Wanted(each.meter_name, each.query, each.where, each.statistic, self.period, self.evaluation_periods)
            for each in (self.numerator, self.denominator)
        )

    def wanted(self) -> tuple[Wanted, ...]:
        """The windows that it looks at: that of the numerator, then that of the denominator."""
        return self._wanted

    @property
    def meters(self) -> tuple[str, ...]:
        """The meters that it reads."""
        return (self.numerator.meter_name, self.denominator.meter_name)

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none."""
        return (
            f"Alarm when {self.numerator.meter_name} divided by {self.denominator.meter_name} is "
            f"{self.comparison_operator} {self.threshold} over {self.period} seconds"
        )

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        return asdict(self, dict_factory=plain)

    @classmethod
    def read(cls, check: Checker) -> "RatioRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys(names(cls))
        rule = cls(
            numerator=Measure.read(check.within("numerator", f"numerator of {check.label}")),
            denominator=Measure.read(check.within("denominator", f"denominator of {check.label}")),
            threshold=check.number("threshold"),
            comparison_operator=check.one_of("comparison_operator", tuple(COMPARE), "gt"),
            period=check.whole("period", 60, MAX_PERIOD),
            evaluation_periods=check.whole("evaluation_periods", 1, MAX_PERIODS),
        )
        for wanted in rule._wanted:
            bounded(check, wanted)
        return rule
