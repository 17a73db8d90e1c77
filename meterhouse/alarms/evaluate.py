"""Evaluates all threshold alarms together, as Aodh and Ceilometer define it.

The window ends now and is `period × (evaluation_periods + 1)` long; the extra period hides the delay of intake. With
`exclude_outliers` it is twice `evaluation_periods` long. The last `evaluation_periods` periods with good points decide:

- If there are fewer periods, the state is insufficient data.
- If all are over the threshold, it is alarm. If none is, it is ok.
- If only some are, the state stays, unless it was insufficient data. Then the last period decides.
"""

import json
import logging
import operator
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from string import Template
from typing import Any

import pyarrow as pa
from sqlalchemy import insert, select, update

from meterhouse import sql_files, times
from meterhouse.alarms.apply import apply
from meterhouse.alarms.definitions import UNKNOWN, Alarm, from_json
from meterhouse.collection import stream_meters
from meterhouse.errors import MeterhouseError
from meterhouse.sample_quality.judge import judge
from meterhouse.sample_quality.points import view_points
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import UtcTime, alarm_history, alarms, deliveries, series

log = logging.getLogger(__name__)

WAIT_SECONDS = 30.0
"""How long an evaluation waits for another one: the schedule and a roll-up may start one at the same time."""

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": operator.ge,
    "gt": operator.gt,
}


@dataclass
class Evaluated:
    """What an evaluation cycle did. `transitions` are (alarm name, previous, current)."""

    alarms: int = 0
    transitions: list[tuple[str, str, str]] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    notifications: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The result of an alarm's evaluation. `notify` says whether the actions of the state are due."""

    state: str
    reason: str
    reason_data: dict[str, Any]
    notify: bool


def evaluate(site: Site, at: datetime | None = None) -> Evaluated:
    """Evaluate every enabled alarm. State, history and outbox change in one transaction.

    Args:
        site: the site.
        at: the end of the windows, UTC; default now.

    Raises:
        AlreadyRunning: another process is still evaluating the alarms after WAIT_SECONDS.
        DefinitionError: alarms.yaml cannot be read; nothing was evaluated.
    """
    done = Evaluated()
    clock = time.monotonic()
    with site.warehouse.lease("alarm_evaluations", wait_seconds=WAIT_SECONDS):
        apply(site)
        with site.warehouse.read() as connection:
            rows = connection.execute(select(alarms).where(alarms.c.enabled).order_by(alarms.c.name)).all()
        known = [(from_json(row.definition), str(row.state)) for row in rows]
        if at is None:
            _measure_stream(site, [alarm for alarm, _ in known])
        moment = at or times.now()
        windows = window_values(site, [alarm for alarm, _ in known], moment) if known else []
        outcomes = [
            (alarm, state, decide(alarm, state, values)) for (alarm, state), values in zip(known, windows, strict=True)
        ]
        _save(site, outcomes, moment, done)
        done.alarms = len(known)
        done.states = Counter(outcome.state for _, _, outcome in outcomes)
        done.seconds = time.monotonic() - clock
    return done


def _measure_stream(site: Site, definitions: list[Alarm]) -> None:
    """Measure the stream's own meters, if an alarm uses one. A failure does not affect other alarms."""
    try:
        stream_meters.record(site, (alarm.rule.meter_name for alarm in definitions))
    except MeterhouseError as error:
        log.warning("the meters of the stream are not measured: %s", error)


def window_values(site: Site, definitions: list[Alarm], moment: datetime) -> list[list[float]]:
    """For each alarm, the statistic of its last evaluation periods with good points, oldest first."""
    starts = [moment - timedelta(seconds=_window(alarm)) for alarm in definitions]
    with site.warehouse.read() as connection:
        meters = sorted({alarm.rule.meter_name for alarm in definitions})
        wanted = [c for c in series.columns if not isinstance(c.type, UtcTime)]
        found = connection.execute(
            select(*wanted).where(series.c.meter.in_(meters), series.c.last_point_at >= min(starts))
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
        span = (min(starts), moment + timedelta(microseconds=1))
        duck.execute("CREATE TEMP TABLE watched AS SELECT series_id FROM dims")
        view_points(
            duck, site.lake, site.lake.version("samples"), [span], "series_id IN (SELECT series_id FROM watched)"
        )
        duck.execute("CREATE TEMP TABLE carried (series_id BIGINT, timestamp TIMESTAMPTZ, volume DOUBLE)")
        judge(duck, site.rules, site.settings.carry_hours)
        query = Template(sql_files.read("lake/alarm_windows.sql")).substitute(critical=site.rules.critical_bits)
        values = dict(duck.execute(query).fetchall())
    return [list(values.get(number, [])) for number in range(len(definitions))]


def _window(alarm: Alarm) -> int:
    rule = alarm.rule
    look_back = rule.evaluation_periods if rule.exclude_outliers else 1
    return rule.period * (rule.evaluation_periods + look_back)


def _rules(definitions: list[Alarm], starts: list[datetime], moment: datetime) -> pa.Table:
    def equal_to(alarm: Alarm, field: str) -> str | None:
        return next((c.value for c in alarm.rule.query if c.field == field and c.op == "eq"), None)

    count = len(definitions)
    return pa.table(
        {
            "number": pa.array(range(count), pa.int64()),
            "meter": [alarm.rule.meter_name for alarm in definitions],
            "statistic": [alarm.rule.statistic for alarm in definitions],
            "start": pa.array(starts, TIME),
            "until": pa.array([moment] * count, TIME),
            "period": pa.array([alarm.rule.period for alarm in definitions], pa.int64()),
            "keep": pa.array([alarm.rule.evaluation_periods for alarm in definitions], pa.int64()),
            "exclude_outliers": [alarm.rule.exclude_outliers for alarm in definitions],
            "resource_id": pa.array([equal_to(alarm, "resource_id") for alarm in definitions], pa.string()),
            "project_id": pa.array([equal_to(alarm, "project_id") for alarm in definitions], pa.string()),
        }
    )


def _conditions(definitions: list[Alarm]) -> pa.Table:
    rows = [(number, c.field, c.op, c.value) for number, alarm in enumerate(definitions) for c in alarm.rule.query]
    return pa.table(
        {
            "number": pa.array([row[0] for row in rows], pa.int64()),
            **{
                name: pa.array([row[n] for row in rows], pa.string())
                for n, name in ((1, "field"), (2, "op"), (3, "value"))
            },
        }
    )


def decide(alarm: Alarm, state: str, values: list[float]) -> Outcome:
    """The outcome for an alarm in a state, from its window's values."""
    rule = alarm.rule
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


def _reason_data(disposition: str, count: int, values: list[float]) -> dict[str, Any]:
    most_recent = values[-1] if values else None
    return {"type": "threshold", "disposition": disposition, "count": count, "most_recent": most_recent}


def _save(site: Site, outcomes: list[tuple[Alarm, str, Outcome]], moment: datetime, done: Evaluated) -> None:
    with site.warehouse.begin() as connection:
        for alarm, previous, outcome in outcomes:
            if not outcome.notify:
                continue
            event_id = str(uuid.uuid4())
            if outcome.state != previous:
                connection.execute(
                    update(alarms)
                    .where(alarms.c.alarm_id == alarm.alarm_id)
                    .values(state=outcome.state, state_reason=outcome.reason, state_timestamp=moment)
                )
                connection.execute(
                    insert(alarm_history).values(
                        event_id=event_id,
                        alarm_id=alarm.alarm_id,
                        type="state transition",
                        detail=json.dumps({"state": outcome.state, "transition_reason": outcome.reason}),
                        timestamp=moment,
                    )
                )
                done.transitions.append((alarm.name, previous, outcome.state))
            body = {
                "alarm_name": alarm.name,
                "alarm_id": alarm.alarm_id,
                "severity": alarm.severity,
                "previous": previous,
                "current": outcome.state,
                "reason": outcome.reason,
                "reason_data": outcome.reason_data,
            }
            for url in alarm.actions(outcome.state):
                connection.execute(
                    insert(deliveries).values(
                        delivery_id=str(uuid.uuid4()),
                        alarm_id=alarm.alarm_id,
                        event_id=event_id,
                        url=url,
                        body=json.dumps(body),
                        state="pending",
                        attempts=0,
                        next_attempt_at=moment,
                        created_at=moment,
                    )
                )
                done.notifications += 1
        connection.execute(update(alarms).where(alarms.c.enabled).values(evaluate_timestamp=moment))
