"""The rules of Aodh's three Gnocchi alarms, as windows of our own points.

Gnocchi's periods begin at multiples of the granularity since the UNIX epoch. An aggregation over several metrics first
aggregates each metric by period, then these values over the metrics.

Source: Aodh 23, `aodh/evaluator/gnocchi.py`, and Gnocchi's documentation of aggregation methods.
"""

import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

from meterhouse.alarms.definitions.checker import Checker
from meterhouse.alarms.definitions.rules import gnocchi_search
from meterhouse.alarms.definitions.rules.comparing import COMPARE, MAX_PERIOD, OfOneWindow, bounded
from meterhouse.alarms.definitions.wanted import Condition, Wanted
from meterhouse.errors import UsageError

METHODS = {
    "mean": "avg",
    "min": "min",
    "max": "max",
    "sum": "sum",
    "count": "count",
    "first": "first",
    "last": "last",
    "median": "median",
    "std": "stddev",
    "rate:mean": "rate",
    "rate:last": "rate",
}
"""Gnocchi's aggregation method → the statistic of ours that it is.

`rate:` methods are the increase of the period. Gnocchi keeps the negative rate that a counter's reset makes; ours takes
the reset into account.
"""

MAX_GRANULARITY = MAX_PERIOD
MAX_PERIODS = 100
"""Aodh's bound of the evaluation periods."""


@dataclass(frozen=True)
class _Compared(OfOneWindow):
    TYPE: ClassVar[str]

    threshold: float
    aggregation_method: str
    comparison_operator: str = "eq"
    evaluation_periods: int = 1
    granularity: int = 60

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none, as Aodh words it."""
        return f"{self.TYPE} alarm rule"

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in super().as_dict().items()}


def _compared(check: Checker) -> dict[str, Any]:
    method = check.one_of("aggregation_method", tuple(METHODS), "")
    return {
        "threshold": check.number("threshold"),
        "aggregation_method": method,
        "comparison_operator": check.one_of("comparison_operator", tuple(COMPARE), "eq"),
        "evaluation_periods": check.whole("evaluation_periods", 1, MAX_PERIODS),
        "granularity": check.whole("granularity", 60, MAX_GRANULARITY),
    }


@dataclass(frozen=True)
class ResourcesRule(_Compared):
    """Compares the aggregate of one resource's metric with a threshold."""

    TYPE: ClassVar[str] = "gnocchi_resources_threshold"
    MEANING: ClassVar = "As Aodh's: the aggregate of a metric of one resource."

    metric: str = ""
    resource_id: str = ""
    resource_type: str = "generic"

    @cached_property
    def window(self) -> Wanted:
        """The window that it looks at."""
        return Wanted(
            self.metric,
            (Condition("resource_id", "eq", self.resource_id),),
            statistic=METHODS[self.aggregation_method],
            period=self.granularity,
            evaluation_periods=self.evaluation_periods,
            aligned=True,
        )

    @classmethod
    def read(cls, check: Checker) -> "ResourcesRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys({each.name for each in fields(cls)})
        rule = cls(
            **_compared(check),
            metric=check.text("metric"),
            resource_id=check.text("resource_id"),
            resource_type=check.text("resource_type", "generic"),
        )
        bounded(check, rule.window)
        return rule


@dataclass(frozen=True)
class MetricsRule(_Compared):
    """Compares the aggregate over several metrics with a threshold. A metric is written `RESOURCE_ID/METER`."""

    TYPE: ClassVar[str] = "gnocchi_aggregation_by_metrics_threshold"
    MEANING: ClassVar = "As Aodh's: the aggregate over several metrics of one meter."

    metrics: tuple[str, ...] = ()

    @cached_property
    def window(self) -> Wanted:
        """The window that it looks at."""
        resources = tuple(each.rpartition("/")[0] for each in self.metrics)
        return Wanted(
            self.metrics[0].rpartition("/")[2],
            where="resource in (" + ", ".join(gnocchi_search.quoted(each) for each in resources) + ")",
            statistic=METHODS[self.aggregation_method],
            period=self.granularity,
            evaluation_periods=self.evaluation_periods,
            aligned=True,
            over_series=over_series(self.aggregation_method),
        )

    @classmethod
    def read(cls, check: Checker) -> "MetricsRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys({each.name for each in fields(cls)})
        metrics = tuple(dict.fromkeys(check.texts("metrics")))
        if not metrics:
            raise check.fault("has no metrics", "Write a list of RESOURCE_ID/METER")
        for each in metrics:
            resource, _, meter = each.rpartition("/")
            if not resource or not meter:
                raise check.fault(f"has the metric '{each}'", "Write RESOURCE_ID/METER, such as web-01/cpu_util")
        meters = {each.rpartition("/")[2] for each in metrics}
        if len(meters) > 1:
            raise check.fault(
                f"reads several meters: {', '.join(sorted(meters)[:5])}",
                "Their values are of different kinds. Write an alarm for each, and combine these",
            )
        rule = cls(**_compared(check), metrics=metrics)
        bounded(check, rule.window)
        return rule


@dataclass(frozen=True)
class ResourcesSearchRule(_Compared):
    """Compares the aggregate of a metric over the resources that a search finds with a threshold."""

    TYPE: ClassVar[str] = "gnocchi_aggregation_by_resources_threshold"
    MEANING: ClassVar = "As Aodh's: the aggregate of a metric over the resources that a search finds."

    metric: str = ""
    query: str = ""
    resource_type: str = "generic"

    @cached_property
    def window(self) -> Wanted:
        """The window that it looks at."""
        return Wanted(
            self.metric,
            where=gnocchi_search.as_text(json.loads(self.query)),
            statistic=METHODS[self.aggregation_method],
            period=self.granularity,
            evaluation_periods=self.evaluation_periods,
            aligned=True,
            over_series=over_series(self.aggregation_method),
        )

    @classmethod
    def read(cls, check: Checker) -> "ResourcesSearchRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys({each.name for each in fields(cls)})
        text = check.prose("query")
        try:
            gnocchi_search.as_text(json.loads(text))
        except (ValueError, RecursionError):
            raise check.fault(
                f"has the query {text[:80]!r}, which is not JSON", 'Write JSON, such as {"=": {"project_id": "shop"}}'
            ) from None
        except UsageError as error:
            what = ": ".join(each for each in (error.where, error.what) if each)
            raise check.fault(f"has a query that cannot be used: {what}", error.hint) from None
        rule = cls(
            **_compared(check),
            metric=check.text("metric"),
            query=text,
            resource_type=check.text("resource_type", "generic"),
        )
        bounded(check, rule.window)
        return rule


GnocchiRule: TypeAlias = ResourcesRule | MetricsRule | ResourcesSearchRule


def over_series(method: str) -> str:
    """How the values of several metrics are put together: by the method itself; rates by their mean or last."""
    return METHODS[method.removeprefix("rate:")]
