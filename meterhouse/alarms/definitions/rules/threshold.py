"""The rule of a threshold alarm, with the fields and defaults of Ceilometer's and Aodh's."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from meterhouse import filters
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
from meterhouse.alarms.definitions.wanted import Condition, Wanted, plain

STATISTICS = ("avg", "min", "max", "sum", "count")


@dataclass(frozen=True)
class ThresholdRule(OfOneWindow):
    """Compares `statistic` of the meter's good points over each `period` (seconds) with `threshold`."""

    TYPE: ClassVar = "threshold"
    MEANING: ClassVar = "Compares the statistic of a meter over a period with a threshold."

    meter_name: str
    threshold: float
    query: tuple[Condition, ...] = ()
    statistic: str = "avg"
    comparison_operator: str = "eq"
    period: int = 60
    evaluation_periods: int = 1
    exclude_outliers: bool = False
    where: str = ""

    @cached_property
    def window(self) -> Wanted:
        """The window that it looks at."""
        return Wanted(
            self.meter_name,
            self.query,
            self.where,
            self.statistic,
            self.period,
            self.evaluation_periods,
            self.evaluation_periods if self.exclude_outliers else 1,
            self.exclude_outliers,
        )

    @property
    def condition(self) -> filters.Condition:
        """What the points have to meet by `query` and `where` together."""
        return self.window.condition

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none, as Ceilometer words it."""
        return (
            f"Alarm when {self.meter_name} is {self.comparison_operator} a {self.statistic} of {self.threshold} over "
            f"{self.period} seconds"
        )

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        made = {name: getattr(self, name) for name in _FIELDS}
        made["query"] = [plain(list(vars(each).items())) for each in self.query]
        if not self.where:  # as releases stored it that had no `where`: the alarm has not changed
            del made["where"]
        return made

    @classmethod
    def read(cls, check: Checker) -> "ThresholdRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys(_FIELDS)
        rule = cls(
            meter_name=check.text("meter_name"),
            threshold=check.number("threshold"),
            query=query(check),
            statistic=check.one_of("statistic", STATISTICS, "avg"),
            comparison_operator=check.one_of("comparison_operator", tuple(COMPARE), "eq"),
            period=check.whole("period", 60, MAX_PERIOD),
            evaluation_periods=check.whole("evaluation_periods", 1, MAX_PERIODS),
            exclude_outliers=check.flag("exclude_outliers", False),
            where=where(check),
        )
        bounded(check, rule.window)
        return rule


_FIELDS = names(ThresholdRule)
