"""The rule of a threshold alarm, with the fields and defaults of Ceilometer's and Aodh's."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Final

from meterhouse import filters
from meterhouse.alarms.definitions.checker import Checker
from meterhouse.errors import UsageError
from meterhouse.filters import DIMENSIONS, Filter, all_of, parse

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": operator.ge,
    "gt": operator.gt,
}
"""Operator → how it compares; SQL expressions too."""

STATISTICS = ("avg", "min", "max", "sum", "count")

MAX_PERIOD: Final = 31 * 24 * 3600
"""Maximum length of a period in seconds."""

MAX_PERIODS: Final = 10_000
"""Maximum number of evaluation periods."""

MAX_WINDOW: Final = 2 * MAX_PERIOD
"""Maximum length of a window in seconds: each evaluation reads all points of the window."""

_KEYS = {
    "meter_name",
    "query",
    "where",
    "statistic",
    "comparison_operator",
    "threshold",
    "period",
    "evaluation_periods",
    "exclude_outliers",
}


@dataclass(frozen=True)
class Condition:
    """One condition on the series that an alarm evaluates."""

    field: str
    op: str
    value: str


@dataclass(frozen=True)
class ThresholdRule:
    """Compare `statistic` of the meter's good points over each `period` (seconds) with `threshold`."""

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
    def chosen(self) -> filters.Condition:
        """What the series have to meet by `where`."""
        return parse(self.where, DIMENSIONS) if self.where else all_of(())

    @property
    def condition(self) -> filters.Condition:
        """What the series have to meet by `query` and `where` together."""
        return self.joined()

    def joined(self) -> filters.Condition:
        """See `condition`.

        Raises:
            UsageError: `where` is no condition, or the two are too much together.
        """
        return all_of([*(Filter(each.field, each.op, each.value, DIMENSIONS) for each in self.query), self.chosen])

    @property
    def window(self) -> timedelta:
        """How far the window reaches back; the extra periods hide the delay of intake."""
        look_back = self.evaluation_periods if self.exclude_outliers else 1
        return timedelta(seconds=self.period * (self.evaluation_periods + look_back))

    @classmethod
    def read(cls, check: Checker) -> "ThresholdRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys(_KEYS)
        rule = cls(
            meter_name=check.text("meter_name"),
            threshold=check.number("threshold"),
            query=tuple(
                _condition(item) for item in check.mappings("query", "{field, op, value}", f"{check.label}, query:")
            ),
            statistic=check.one_of("statistic", STATISTICS, "avg"),
            comparison_operator=check.one_of("comparison_operator", tuple(COMPARE), "eq"),
            period=check.whole("period", 60, MAX_PERIOD),
            evaluation_periods=check.whole("evaluation_periods", 1, MAX_PERIODS),
            exclude_outliers=check.flag("exclude_outliers", False),
            where=check.prose("where"),
        )
        if rule.where:
            try:
                rule.joined()
            except UsageError as error:
                what = ": ".join(each for each in (error.where, error.what) if each)
                raise check.fault(f"has a `where` that is not a condition: {what}", error.hint) from None
        seconds = int(rule.window.total_seconds())
        if seconds > MAX_WINDOW:
            raise check.fault(
                f"has a window of {seconds:,} seconds: period {rule.period:,}, evaluation_periods "
                f"{rule.evaluation_periods:,}",
                f"Make it at most {MAX_WINDOW:,} seconds, which is {MAX_WINDOW // 86400} days",
            )
        return rule


def _condition(check: Checker) -> Condition:
    check.keys({"field", "op", "value", "type"})
    field = check.one_of("field", tuple(DIMENSIONS), "")
    return Condition(DIMENSIONS[field].column, check.one_of("op", tuple(COMPARE), "eq"), check.operand("value"))
