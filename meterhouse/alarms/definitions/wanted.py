"""What a rule asks of the points: the statistic of a meter, by periods, over a window that ends now."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from meterhouse import filters
from meterhouse.filters import SERIES, Filter, all_of, parse


@dataclass(frozen=True)
class Condition:
    """One condition on the series that an alarm evaluates; `field` is a name of `meterhouse.filters.SERIES`.

    `type` is what its client calls the value, and is shown to it again. Here values compare by what they are.
    """

    field: str
    op: str
    value: str
    type: str = ""


@dataclass(frozen=True)
class Wanted:
    """A window of a meter.

    Attributes:
        meter_name: the meter.
        query: conditions that the series, and the metadata of the points, have to meet.
        where: a further condition, in the language of filters; empty for none.
        statistic: one of STATISTICS.
        period: length of a period in seconds.
        evaluation_periods: how many periods decide: the last ones that have points.
        look_back: how many more periods the window has; they hide the delay of intake.
        exclude_outliers: whether periods with an unusual number of points are left out.
        aligned: whether the periods begin at multiples of their length since the UNIX epoch, as Gnocchi's do, in place
            of at the window's start, as Ceilometer's do. Then the window begins with a whole period.
        over_series: how the statistics of the series of a period are put together, one of STATISTICS, as Gnocchi does;
            empty: the statistic is that of all points, as Ceilometer's.
    """

    meter_name: str
    query: tuple[Condition, ...] = ()
    where: str = ""
    statistic: str = "avg"
    period: int = 60
    evaluation_periods: int = 1
    look_back: int = 1
    exclude_outliers: bool = False
    aligned: bool = False
    over_series: str = ""

    @property
    def window(self) -> timedelta:
        """How far the window reaches back."""
        return timedelta(seconds=self.period * (self.evaluation_periods + self.look_back))

    @cached_property
    def condition(self) -> filters.Condition:
        """What the points have to meet by `query` and `where` together.

        Raises:
            UsageError: `where` is no condition, or the two are too much together.
        """
        chosen = [parse(self.where, SERIES)] if self.where else []
        return all_of([*(Filter(each.field, each.op, each.value, SERIES) for each in self.query), *chosen])


def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The mapping of a dataclass of a rule, for `asdict`: without the type of a condition that has none."""
    return {name: value for name, value in pairs if name != "type" or value}


STATISTICS = ("avg", "min", "max", "sum", "count", "first", "last", "median", "stddev", "increase", "rate")
"""Statistics of a window's good points.

`stddev` is the sample deviation, which one point has not, as Gnocchi's `std`. `increase` is that of a cumulative
series, reset-aware; `rate` is the increase a second.
"""
