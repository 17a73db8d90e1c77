"""The rule of a deviation from the same time of past weeks. Neither Ceilometer nor Aodh has it."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

from meterhouse.alarms.definitions.checker import Checker, names
from meterhouse.alarms.definitions.rules.comparing import MAX_PERIOD, OfOneWindow, bounded, query, where
from meterhouse.alarms.definitions.wanted import STATISTICS, Condition, Wanted

DIRECTIONS = ("either", "up", "down")
MAX_WEEKS: Final = 26
MIN_WEEKS: Final = 2
"""Minimum number of past weeks that must have points: of one week alone, nobody knows how much is usual."""


@dataclass(frozen=True)
class DeviationRule(OfOneWindow):
    """Compares the latest period of a meter with the same time of past weeks.

    It deviates if it is further from the mean of the past weeks than `deviations` times their standard deviation, and
    further than `at_least` percent of the mean.
    """

    TYPE: ClassVar = "deviation"
    MEANING: ClassVar = "Compares a meter with the same hour of past weeks."

    meter_name: str
    query: tuple[Condition, ...] = ()
    statistic: str = "avg"
    period: int = 3600
    weeks: int = 4
    deviations: float = 3.0
    at_least: float = 10.0
    direction: str = "either"
    where: str = ""

    @cached_property
    def window(self) -> Wanted:
        """The window that it looks at."""
        return Wanted(self.meter_name, self.query, self.where, self.statistic, self.period, 1)

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none."""
        return f"Alarm when {self.meter_name} deviates from the same time of the past {self.weeks} weeks"

    @classmethod
    def read(cls, check: Checker) -> "DeviationRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys(names(cls))
        rule = cls(
            meter_name=check.text("meter_name"),
            query=query(check),
            statistic=check.one_of("statistic", STATISTICS, "avg"),
            period=check.whole("period", 3600, MAX_PERIOD),
            weeks=check.whole("weeks", 4, MAX_WEEKS, MIN_WEEKS),
            deviations=check.number("deviations", 3.0),
            at_least=check.number("at_least", 10.0),
            direction=check.one_of("direction", DIRECTIONS, "either"),
            where=where(check),
        )
        for name, value in (("deviations", rule.deviations), ("at_least", rule.at_least)):
            if value < 0:
                raise check.fault(f"has {name} {value}", f"Write 0 or more for {name}")
        bounded(check, rule.window)
        return rule
