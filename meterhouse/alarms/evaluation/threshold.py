"""Evaluates all threshold alarms together, as Aodh and Ceilometer define it.

The window ends now and is `period × (evaluation_periods + 1)` long; the extra period hides the delay of intake. With
`exclude_outliers` it is twice `evaluation_periods` long. The last `evaluation_periods` periods with good points decide:

- If there are fewer periods, the state is insufficient data.
- If all are over the threshold, it is alarm. If none is, it is ok.
- If only some are, the state stays, unless it was insufficient data. Then the last period decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from string import Template
from typing import Any

import pyarrow as pa
from sqlalchemy import BigInteger, Text, select

from meterhouse import sql_files, times
from meterhouse.alarms.definitions import units
from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm
from meterhouse.alarms.definitions.rules.comparing import COMPARE
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.evaluation.outcomes import Outcome
from meterhouse.filters import DIMENSIONS, And, Condition, Filter, all_of, on_lake, parse
from meterhouse.sample_quality.judge import judge
from meterhouse.sample_quality.points import view_all_points
from meterhouse.site import Site
from meterhouse.stores.duck import Connection
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import series


@dataclass(frozen=True)
class Window:
    """What an alarm's window has.

    Attributes:
        values: the statistic of the last evaluation periods with good points, oldest first.
        units: the first and the last of the units of these points, by name; the same if there is one. Empty: no unit.
    """

    values: tuple[float, ...] = ()
    units: tuple[str, str] = ("", "")


def rule_of(alarm: Alarm) -> ThresholdRule:
    """The rule of a threshold alarm."""
    assert isinstance(alarm.rule, ThresholdRule)
    return alarm.rule


def outcomes(site: Site, given: Sequence[tuple[Alarm, str]], moment: datetime) -> list[Outcome]:
    """The outcome for each alarm in its state."""
    found = windows(site, [alarm for alarm, _ in given], moment)
    return [decide(alarm, state, window) for (alarm, state), window in zip(given, found, strict=True)]


@retried
def windows(site: Site, definitions: Sequence[Alarm], moment: datetime) -> list[Window]:
    """The window of each alarm that ends at a moment."""
    starts = [moment - rule_of(alarm).wanted()[0].window for alarm in definitions]
    with site.warehouse.read() as connection:
        meters = sorted({rule_of(alarm).meter_name for alarm in definitions})
        wanted = [c for c in series.columns if isinstance(c.type, BigInteger | Text)]
        found = connection.execute(
            select(*wanted).where(series.c.meter.in_(meters), series.c.last_point_at >= times.hour_of(min(starts)))
        ).all()
    dims = pa.table(
        {
            column.name: pa.array([row[n] for row in found], pa.int64() if column.name == "series_id" else pa.string())
            for n, column in enumerate(wanted)
        }
    )
    with site.lake.connect() as duck:
        duck.register("dims", dims)
        duck.register("rules", _rules(definitions, starts, moment))
        duck.register("conditions", _conditions(definitions))
        _find_chosen(duck, definitions)
        span = (min(starts), moment + timedelta(microseconds=1))
        duck.execute("CREATE TEMP TABLE watched AS SELECT series_id FROM dims")
        accepts = view_all_points(
            duck, site, site.lake.version("samples"), [span], "series_id IN (SELECT series_id FROM watched)"
        )
        duck.execute("CREATE TEMP TABLE carried (series_id BIGINT, timestamp TIMESTAMPTZ, volume DOUBLE)")
        judge(duck, site.rules, site.settings.carry_hours, accepts=accepts)
        query = Template(sql_files.read("lake/alarm_windows.sql")).substitute(critical=site.rules.critical_bits)
        rows = duck.execute(query).fetchall()
    made = {number: Window(tuple(values), (one, other)) for number, values, one, other in rows}
    return [made.get(number, Window()) for number in range(len(definitions))]


def _rules(definitions: Sequence[Alarm], starts: list[datetime], moment: datetime) -> pa.Table:
    count, numbers = len(definitions), _numbers(definitions)
    return pa.table(
        {
            "number": pa.array(range(count), pa.int64()),
            "meter": [rule_of(alarm).meter_name for alarm in definitions],
            "statistic": [rule_of(alarm).statistic for alarm in definitions],
            "start": pa.array(starts, TIME),
            "until": pa.array([moment] * count, TIME),
            "period": pa.array([rule_of(alarm).period for alarm in definitions], pa.int64()),
            "keep": pa.array([rule_of(alarm).evaluation_periods for alarm in definitions], pa.int64()),
            "exclude_outliers": [rule_of(alarm).exclude_outliers for alarm in definitions],
            "resource_id": pa.array([_equal_to(rule_of(alarm), "resource_id") for alarm in definitions], pa.string()),
            "project_id": pa.array([_equal_to(rule_of(alarm), "project_id") for alarm in definitions], pa.string()),
            "chosen_by": pa.array([numbers.get(rule_of(alarm).where) for alarm in definitions], pa.int64()),
        }
    )


def _equal_to(rule: ThresholdRule, column: str) -> str | None:
    """What the query or `where` demand that a dimension equals."""
    chosen = _chosen(rule)
    parts = chosen.parts if isinstance(chosen, And) else (chosen,)
    demanded = [(each.field, each.op, each.value) for each in rule.query]
    demanded += [(each.target.column, each.op, each.value) for each in parts if isinstance(each, Filter)]
    return next((value for name, op, value in demanded if name == column and op == "eq"), None)


def _chosen(rule: ThresholdRule) -> Condition:
    return parse(rule.where, DIMENSIONS) if rule.where else all_of(())


def _numbers(definitions: Sequence[Alarm]) -> dict[str, int]:
    """The texts of `where`, numbered: alarms often share one."""
    texts = dict.fromkeys(rule_of(alarm).where for alarm in definitions if rule_of(alarm).where)
    return {text: number for number, text in enumerate(texts)}


def _find_chosen(duck: Connection, definitions: Sequence[Alarm]) -> None:
    """Create the table `chosen`: by the number of a `where`, the series that meet it, of the meters of its alarms."""
    duck.execute("CREATE TEMP TABLE chosen (number BIGINT, series_id BIGINT)")
    rules: dict[str, list[ThresholdRule]] = {}
    for alarm in definitions:
        rules.setdefault(rule_of(alarm).where, []).append(rule_of(alarm))
    for text, number in _numbers(definitions).items():
        condition, values = on_lake(_chosen(rules[text][0]))
        meters = list({rule.meter_name for rule in rules[text]})
        duck.execute(
            f"INSERT INTO chosen SELECT ?, series_id FROM dims WHERE list_contains(?, meter) AND {condition}",
            [number, meters, *values],
        )


def _conditions(definitions: Sequence[Alarm]) -> pa.Table:
    rows = [(number, c.field, c.op, c.value) for number, alarm in enumerate(definitions) for c in rule_of(alarm).query]
    return pa.table(
        {
            "number": pa.array([row[0] for row in rows], pa.int64()),
            **{
                name: pa.array([row[n] for row in rows], pa.string())
                for n, name in ((1, "field"), (2, "op"), (3, "value"))
            },
        }
    )


def decide(alarm: Alarm, state: str, window: Window) -> Outcome:
    """The outcome for an alarm in a state, from its window."""
    rule, values = rule_of(alarm), window.values
    if window.units[0] != window.units[1]:
        what, hint = units.mixed(*window.units)
        data = _reason_data("unknown", rule.evaluation_periods, ())
        return Outcome(UNKNOWN, f"The alarm {what}. {hint}", data, notify=state != UNKNOWN, fault=f"{what}. {hint}")
    if len(values) < rule.evaluation_periods:
        reason = f"{rule.evaluation_periods} datapoints are unknown"
        data = _reason_data("unknown", rule.evaluation_periods, values)
        return Outcome(UNKNOWN, reason, data, notify=state != UNKNOWN)
    over = [COMPARE[rule.comparison_operator](value, rule.threshold) for value in values]
    if all(over) or not any(over) or state == UNKNOWN:
        current = "alarm" if over[-1] else "ok"
    else:
        current = state
        if not alarm.repeat_actions:
            return Outcome(current, "", {}, notify=False)
    disposition = "outside" if current == "alarm" else "inside"
    count = sum(over) if current == "alarm" else len(over) - sum(over)
    happened = "Transition to" if current != state else "Remaining as"
    reason = f"{happened} {current} due to {count} samples {disposition} threshold, most recent: {values[-1]}"
    return Outcome(
        current,
        reason,
        _reason_data(disposition, count, values),
        notify=current != state or alarm.repeat_actions,
    )


def _reason_data(disposition: str, count: int, values: Sequence[float]) -> dict[str, Any]:
    most_recent = values[-1] if values else None
    return {"type": "threshold", "disposition": disposition, "count": count, "most_recent": most_recent}
