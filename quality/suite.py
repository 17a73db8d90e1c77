"""The quality rules as a Great Expectations suite: the gate uses it, and the SQL in `judge.sql` is tested against it.

Great Expectations is only imported when a suite is made, because it takes seconds and hundreds of megabytes.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from meterhouse.definitions.quality_rules import Rule, Rules

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite

ID = "row"
"""The column with which a failed expectation identifies its rows."""


@dataclass
class Validation:
    """The result of a validation: for each rule, the rows (values of column `row`) that break it."""

    points: int
    broken: dict[str, list[int]] = field(default_factory=dict)

    def count(self, rules: Rules, severity: str) -> int:
        """The number of rows that break rules of a severity."""
        return sum(len(self.broken[rule.name]) for rule in rules.rules if rule.severity == severity)


def suite(rules: Rules) -> "ExpectationSuite":
    """The suite: one expectation for each rule, on the rule's column of `columns`."""
    import great_expectations as gx

    return gx.ExpectationSuite(name="quality_rules", expectations=[_expectation(rule) for rule in rules.rules])


def columns(points: "pd.DataFrame", rules: Rules) -> "pd.DataFrame":
    """One column for each rule, with the values that its expectation checks; missing if the rule does not apply.

    Args:
        points: `meter`, `type`, `series_id`, `timestamp`, `recorded_at`, `volume`, `previous` (a counter's previous
            good point; missing for other types).
        rules: the rules.
    """
    import numpy as np
    import pandas as pd

    made = pd.DataFrame({ID: np.arange(len(points))})
    volume = points["volume"].to_numpy(dtype=float)
    finite = np.isfinite(volume)
    for rule in rules.rules:
        applies = _applies(points, rule)
        values: Any
        match rule.check:
            case "finite":
                # If the rule does not apply, the value is finite, because the expectation is that none is missing.
                values = np.where(applies, np.where(finite, volume, np.nan), 0.0)
            case "range":
                values = np.where(applies & finite, volume, np.nan)
            case "future":
                ahead = (points["timestamp"] - points["recorded_at"]).dt.total_seconds().to_numpy(dtype=float)
                values = np.where(applies, ahead, np.nan)
            case "duplicate":
                keys = points["series_id"].astype(str) + "@" + points["timestamp"].astype(str)
                values = keys.where(pd.Series(applies, index=keys.index)).to_numpy()
            case _:
                values = np.where(applies, volume - points["previous"].to_numpy(dtype=float), np.nan)
        made[rule.name] = values
    return made


def validate(points: "pd.DataFrame", rules: Rules) -> Validation:
    """Validate points with the suite.

    Raises:
        RuntimeError: an expectation could not be evaluated. This is a fault of the rule, not bad data.
    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    frame = columns(points, rules)
    asset = context.data_sources.add_pandas("points").add_dataframe_asset("points")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": frame})
    found = batch.validate(
        suite(rules), result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [ID]}
    )
    validation = Validation(len(points))
    for rule, result in zip(rules.rules, _in_order(found.results, rules), strict=True):
        if result.exception_info and result.exception_info.get("raised_exception"):
            raise RuntimeError(f"rule '{rule.name}' cannot be evaluated: {result.exception_info['exception_message']}")
        listed = result.result.get("unexpected_index_list") or []
        validation.broken[rule.name] = sorted({int(entry[ID]) for entry in listed})
    return validation


def _in_order(results: Any, rules: Rules) -> list[Any]:
    by_column = {result.expectation_config.kwargs["column"]: result for result in results}
    return [by_column[rule.name] for rule in rules.rules]


def _applies(points: "pd.DataFrame", rule: Rule) -> Any:
    meters = {meter: any(fnmatchcase(meter, glob) for glob in rule.meters) for meter in points["meter"].unique()}
    return (points["meter"].map(meters).astype(bool) & points["type"].isin(rule.types)).to_numpy()


def _expectation(rule: Rule) -> Any:
    import math

    import great_expectations.expectations as gxe

    about: dict[str, Any] = {"column": rule.name, "severity": rule.severity, "notes": rule.description}
    match rule.check:
        case "finite":
            return gxe.ExpectColumnValuesToNotBeNull(**about)
        case "range":
            low = rule.minimum if rule.minimum > -math.inf else None
            high = rule.maximum if rule.maximum < math.inf else None
            return gxe.ExpectColumnValuesToBeBetween(**about, min_value=low, max_value=high)
        case "future":
            return gxe.ExpectColumnValuesToBeBetween(**about, max_value=rule.tolerance_seconds)
        case "duplicate":
            return gxe.ExpectColumnValuesToBeUnique(**about)
        case _:
            return gxe.ExpectColumnValuesToBeBetween(**about, min_value=0.0)
