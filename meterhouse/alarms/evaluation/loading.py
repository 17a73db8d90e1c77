"""The warehouse's alarms as an evaluation needs them: in columns, without an object for each threshold alarm.

What definitions say changes seldom, so it is kept in a file below METERHOUSE_HOME, see `rule_cache`. Of each cycle, the
warehouse is asked only for the states of alarms that are not ok.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta
from sqlalchemy import Connection, func, or_, select

from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm, from_json
from meterhouse.alarms.definitions.rules.comparing import COMPARE, MAX_PERIOD, MAX_PERIODS, MAX_WINDOW
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.time_constraints import TimeConstraint, in_force
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.alarms.evaluation import rule_cache
from meterhouse.alarms.evaluation.requests import Conditions, Requests, gathered
from meterhouse.alarms.evaluation.rule_cache import Alarms, Rules
from meterhouse.errors import DefinitionError, UsageError
from meterhouse.garbage import gc_disabled
from meterhouse.stores.bulk_read import raw_rows
from meterhouse.stores.warehouse_tables import alarms

STATES: Final = (UNKNOWN, "ok", "alarm")
"""The states; elsewhere they are places in this list."""

OPERATORS: Final = tuple(COMPARE)
"""The comparisons; elsewhere they are places in this list."""

USUAL: Final = STATES.index("ok")
"""The state of the alarms that the warehouse is not asked for one by one."""

States = npt.NDArray[np.int8]


class _Condition(msgspec.Struct, gc=False):
    field: str
    op: str
    value: str


class _Rule(msgspec.Struct, gc=False):
    meter_name: str
    threshold: float
    query: list[_Condition] = []
    statistic: Literal["avg", "min", "max", "sum", "count"] = "avg"
    comparison_operator: Literal["lt", "le", "eq", "ne", "ge", "gt"] = "eq"
    period: Annotated[int, Meta(ge=1, le=MAX_PERIOD)] = 60
    evaluation_periods: Annotated[int, Meta(ge=1, le=MAX_PERIODS)] = 1
    exclude_outliers: bool = False
    where: str = ""


class _Threshold(msgspec.Struct, gc=False):
    """What an evaluation needs of the definition of a threshold alarm."""

    name: str
    rule: _Rule
    repeat_actions: bool = False
    time_constraints: list[TimeConstraint] = []
    only_project: str = ""


_ONE: Final = msgspec.json.Decoder(_Threshold)
_MANY: Final = msgspec.json.Decoder(list[_Threshold])


@dataclass(frozen=True)
class Loaded:
    """The enabled alarms of a cycle, in columns; a place is that of an alarm in them.

    Attributes:
        alarms: what does not change with a cycle.
        rules: the threshold alarms whose definitions can be used.
        others: the alarms of other types, by place.
        faults: what is wrong with alarms that cannot be evaluated, by place.
        state: before the evaluation, places in STATES.
        reason: of alarms whose state is insufficient data, the reason, by place.
        held: whether the state is kept because intake is behind.
        is_new: whether some were never evaluated.
    """

    alarms: Alarms
    rules: Rules
    others: dict[int, Alarm]
    faults: dict[int, str]
    state: States
    reason: dict[int, str]
    held: npt.NDArray[np.bool_]
    is_new: bool

    def __len__(self) -> int:
        return len(self.alarms)

    @property
    def meters(self) -> set[str]:
        """The meters that alarms read."""
        return {*self.rules.requests.meters}.union(*(alarm.rule.meters for alarm in self.others.values()))

    def state_of(self, place: int) -> str:
        """The state of an alarm before the evaluation."""
        return STATES[self.state[place]]


@dataclass(frozen=True)
class Other:
    """An alarm that is no threshold alarm.

    Attributes:
        place: among all alarms.
        alarm: its definition.
        windows: the numbers of the requests for its windows.
    """

    place: int
    alarm: Alarm
    windows: range


@dataclass(frozen=True)
class Due:
    """The alarms to evaluate.

    Attributes:
        rules: the threshold alarms; the first requests are theirs, in the same order.
        requests: the windows that all of them need.
        others: the alarms of other types.
    """

    rules: Rules
    requests: Requests
    others: Sequence[Other]

    def place_of(self, number: int) -> int:
        """The place of the alarm that a request is for."""
        if number < len(self.rules):
            return int(self.rules.at[number])
        return next(each.place for each in self.others if number in each.windows)


def load(connection: Connection, home: Path) -> Loaded:
    """The enabled alarms of the warehouse.

    Args:
        connection: of the warehouse.
        home: the folder in which what definitions say is kept.
    """
    with gc_disabled():
        known = rule_cache.read(home, connection)
        found = None if known is None else _with_states(connection, known.alarms, known.rules, known.faults)
        if found is None:
            key = rule_cache.key(connection)
            alarms_, definitions = _alarms(connection)
            rules, faults = _rules(alarms_, definitions)
            rule_cache.write(home, key, rule_cache.Known(alarms_, rules, faults))
            found = _with_states(connection, alarms_, rules, faults)
            assert found is not None
        return found


def _alarms(connection: Connection) -> tuple[Alarms, list[str]]:
    """The enabled alarms, and their definitions."""
    names = list(Alarms.__dataclass_fields__)
    query = select(*(alarms.c[name] for name in names), alarms.c.definition).where(alarms.c.enabled)
    rows = raw_rows(connection, query)
    taken: list[Any] = list(zip(*rows, strict=True)) or [()] * (len(names) + 1)
    return Alarms(*(pa.array(values, pa.string()) for values in taken[:-1])), list(taken[-1])


def _with_states(connection: Connection, known: Alarms, rules: Rules, faults: dict[int, str]) -> Loaded | None:
    """The alarms with their states; None if the warehouse has others."""
    columns = alarms.c
    if connection.execute(select(func.count()).where(columns.enabled)).scalar() != len(known):
        return None
    usual = STATES[USUAL]
    query = select(
        *(columns.alarm_id, columns.state, columns.state_reason),
        columns.held_since.is_not(None),
        columns.evaluate_timestamp.is_(None),
    ).where(
        columns.enabled,
        or_(columns.state != usual, columns.held_since.is_not(None), columns.evaluate_timestamp.is_(None)),
    )
    state = np.full(len(known), USUAL, np.int8)
    held = np.zeros(len(known), np.bool_)
    reason: dict[int, str] = {}
    rows = raw_rows(connection, query)
    is_new = False
    if rows:
        ids, states, reasons, holds, new = zip(*rows, strict=True)
        found = pc.index_in(pa.array(ids, pa.string()), known.alarm_id)
        if found.null_count:
            return None
        at = found.to_numpy()
        codes = {name: code for code, name in enumerate(STATES)}
        state[at] = [codes.get(each, 0) for each in states]
        held[at] = np.array(holds, np.bool_)
        is_new = any(new)
        unknown = STATES[0]
        reason = {
            place: text for place, each, text in zip(at.tolist(), states, reasons, strict=True) if each == unknown
        }
    others = _others(connection, known, faults)
    if others is None:
        return None
    return Loaded(known, rules, others[0], {**faults, **others[1]}, state, reason, held, is_new)


def _others(
    connection: Connection, known: Alarms, faults: dict[int, str]
) -> tuple[dict[int, Alarm], dict[int, str]] | None:
    """The alarms of other types by place, and what is wrong with some; None if the warehouse has others."""
    if pc.all(pc.equal(known.type, ThresholdRule.TYPE), min_count=0).as_py():
        return {}, {}
    columns = alarms.c
    query = select(columns.alarm_id, columns.definition).where(columns.enabled, columns.type != ThresholdRule.TYPE)
    made: dict[int, Alarm] = {}
    wrong: dict[int, str] = {}
    rows = raw_rows(connection, query)
    found = pc.index_in(pa.array([row[0] for row in rows], pa.string()), known.alarm_id)
    if found.null_count:
        return None
    for place, (_, definition) in zip(found.to_pylist(), rows, strict=True):
        try:
            alarm = from_json(definition)
        except DefinitionError as error:
            wrong[place] = f"has a definition that cannot work: {error}"
            continue
        if alarm.name == known.name[place].as_py():
            made[place] = alarm
        else:
            wrong[place] = OF_ANOTHER
    return made, wrong


OF_ANOTHER: Final = "has the definition of another alarm"


def _rules(known: Alarms, definitions: Sequence[str]) -> tuple[Rules, dict[int, str]]:
    """The threshold alarms whose definitions can be used, and what is wrong with the others, by place."""
    at = np.flatnonzero(pc.equal(known.type, ThresholdRule.TYPE).to_numpy(zero_copy_only=False)).tolist()
    names = known.name.to_pylist()
    faults: dict[int, str] = {}
    conditions = Conditions()
    places: list[int] = []
    rules: list[_Rule] = []
    repeat: list[bool] = []
    constraints: dict[tuple[TimeConstraint, ...], int] = {}
    constrained: dict[int, int] = {}
    for place, definition in zip(at, _decoded([definitions[place] for place in at]), strict=True):
        if definition is None or _window(definition.rule) > MAX_WINDOW:
            faults[place] = _fault_of(definitions[place])
            continue
        if definition.name != names[place]:
            faults[place] = OF_ANOTHER
            continue
        rule = definition.rule
        query: Sequence[Any] = rule.query
        if definition.only_project:
            query = [*query, _Condition("project_id", "eq", definition.only_project)]
        try:
            conditions.add(len(places), query, rule.where)
        except UsageError as error:
            faults[place] = f"has a definition that cannot work: {error}"
            continue
        if definition.time_constraints:
            constrained[len(places)] = constraints.setdefault(tuple(definition.time_constraints), len(constraints))
        places.append(place)
        rules.append(rule)
        repeat.append(definition.repeat_actions)
    of_operator = {name: code for code, name in enumerate(OPERATORS)}
    constraint = np.full(len(places), -1, np.int32)
    constraint[list(constrained)] = list(constrained.values())
    made = Rules(
        np.array(places, np.int64),
        gathered(rules, (), conditions),
        np.array([rule.threshold for rule in rules], np.float64),
        np.array([of_operator[rule.comparison_operator] for rule in rules], np.int8),
        np.array(repeat, np.bool_),
        constraint,
        list(constraints),
    )
    return made, faults


def _window(rule: _Rule) -> int:
    return rule.period * (rule.evaluation_periods + (rule.evaluation_periods if rule.exclude_outliers else 1))


def _decoded(texts: Sequence[str]) -> list[Any]:
    """The definitions, None for those that cannot be used: all at once, or if one of them is damaged, one by one."""
    try:
        found = _MANY.decode(f"[{','.join(texts)}]")
        if len(found) == len(texts):
            return list(found)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        pass
    return [_one(text) for text in texts]


def _one(text: str) -> Any:
    try:
        return _ONE.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def _fault_of(definition: str) -> str:
    try:
        from_json(definition)
    except DefinitionError as error:
        return f"has a definition that cannot work: {error}"
    return "has a definition that cannot be read"


def due(loaded: Loaded, moment: datetime, types: Container[str] = ()) -> Due:
    """The alarms to evaluate at a moment.

    Args:
        loaded: all alarms.
        moment: the end of the windows, UTC.
        types: of other alarms than those of thresholds, which ones are evaluated.
    """
    rules = loaded.rules.in_force([in_force(each, moment) for each in loaded.rules.constraints])
    wanted: list[Wanted] = []
    others = []
    for place, alarm in loaded.others.items():
        if alarm.type in types and in_force(alarm.time_constraints, moment):
            first = len(rules) + len(wanted)
            wanted += alarm.wanted()
            others.append(Other(place, alarm, range(first, len(rules) + len(wanted))))
    requests = rules.requests
    if wanted:
        conditions = Conditions(requests.keys)
        for number, each in enumerate(wanted):
            conditions.add(number, each.query, each.where)
        requests = requests.followed_by(gathered((), wanted, conditions))
    return Due(rules, requests, others)
