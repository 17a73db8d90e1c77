"""The warehouse's alarms as an evaluation needs them: in columns, without an object for each threshold alarm."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta
from sqlalchemy import Connection, case, select

from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm, from_json
from meterhouse.alarms.definitions.rules.comparing import COMPARE, MAX_PERIOD, MAX_PERIODS, MAX_WINDOW
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.time_constraints import TimeConstraint, in_force
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.alarms.evaluation.requests import Conditions, Requests, gathered
from meterhouse.errors import DefinitionError, UsageError
from meterhouse.stores.warehouse_tables import alarms

STATES: Final = (UNKNOWN, "ok", "alarm")
"""The states; elsewhere they are places in this list."""

OPERATORS: Final = tuple(COMPARE)
"""The comparisons; elsewhere they are places in this list."""

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


_ONE: Final = msgspec.json.Decoder(_Threshold)
_MANY: Final = msgspec.json.Decoder(list[_Threshold])


@dataclass(frozen=True)
class Watched:
    """The enabled alarms, in columns of the same length, in no order.

    Attributes:
        alarm_id: their ids.
        name: their names.
        type: their types.
        severity: their severities.
        origin: where they come from.
        project_id: whose they are; empty for the operators'.
        definition: as the warehouse stores them, JSON.
        state: before the evaluation, places in STATES.
        reason: of those whose state is insufficient data, the reason for it; else None.
        is_new: which of them were never evaluated.
    """

    alarm_id: Sequence[str]
    name: Sequence[str]
    type: Sequence[str]
    severity: Sequence[str]
    origin: Sequence[str]
    project_id: Sequence[str]
    definition: Sequence[str]
    state: States
    reason: Sequence[str | None]
    is_new: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.alarm_id)


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
        at: the places of threshold alarms among all alarms; the first requests are theirs, in the same order.
        requests: the windows that all of them need.
        threshold: of threshold alarms, in columns.
        operator: places in OPERATORS.
        repeat: whether their actions are repeated.
        others: the alarms of other types.
    """

    at: npt.NDArray[np.int64]
    requests: Requests
    threshold: npt.NDArray[np.float64]
    operator: npt.NDArray[np.int8]
    repeat: npt.NDArray[np.bool_]
    others: Sequence[Other]

    def place_of(self, number: int) -> int:
        """The place of the alarm that a request is for."""
        if number < len(self.at):
            return int(self.at[number])
        return next(each.place for each in self.others if number in each.windows)


@dataclass(frozen=True)
class Loaded:
    """The alarms of a cycle.

    Attributes:
        watched: all enabled ones.
        rules: of threshold alarms, what was read of their definitions, by place; None of others.
        others: the alarms of other types, by place.
        faults: what is wrong with alarms that cannot be evaluated, by place.
    """

    watched: Watched
    rules: Sequence[Any]
    others: dict[int, Alarm]
    faults: dict[int, str]

    @property
    def meters(self) -> set[str]:
        """The meters that alarms read."""
        found = {rule.rule.meter_name for rule in self.rules if rule is not None}
        return found.union(*(alarm.rule.meters for alarm in self.others.values()))


def load(connection: Connection) -> Loaded:
    """The enabled alarms of the warehouse."""
    columns = alarms.c
    unknown = case((columns.state == UNKNOWN, columns.state_reason))
    query = select(
        *(columns.alarm_id, columns.name, columns.type, columns.severity, columns.origin, columns.project_id),
        *(columns.definition, columns.state, unknown),
        columns.evaluate_timestamp.is_(None),
    ).where(columns.enabled)
    rows = connection.execute(query).all()
    taken: list[Any] = list(zip(*rows, strict=True)) or [()] * 10
    codes = {name: code for code, name in enumerate(STATES)}
    watched = Watched(
        taken[0],
        taken[1],
        taken[2],
        taken[3],
        taken[4],
        taken[5],
        taken[6],
        np.array([codes.get(each, 0) for each in taken[7]], np.int8),
        taken[8],
        np.array(taken[9], np.bool_),
    )
    return _read(watched)


def _read(watched: Watched) -> Loaded:
    rules: list[Any] = [None] * len(watched)
    others: dict[int, Alarm] = {}
    faults: dict[int, str] = {}
    places = [place for place, type_ in enumerate(watched.type) if type_ == ThresholdRule.TYPE]
    for place, rule in zip(places, _decoded([watched.definition[place] for place in places]), strict=True):
        rules[place] = rule
    if len(places) < len(watched):
        for place in set(range(len(watched))).difference(places):
            _read_other(watched, place, others, faults)
    for place in places:
        rule = rules[place]
        if rule is None:
            faults[place] = _fault_of(watched.definition[place])
        elif rule.name != watched.name[place]:
            rules[place] = None
            faults[place] = "has the definition of another alarm"
        elif _window(rule.rule) > MAX_WINDOW:
            rules[place] = None
            faults[place] = _fault_of(watched.definition[place])
    return Loaded(watched, rules, others, faults)


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


def _read_other(watched: Watched, place: int, others: dict[int, Alarm], faults: dict[int, str]) -> None:
    try:
        alarm = from_json(watched.definition[place])
    except DefinitionError as error:
        faults[place] = f"has a definition that cannot work: {error}"
        return
    if alarm.name == watched.name[place]:
        others[place] = alarm
    else:
        faults[place] = "has the definition of another alarm"


class _InForce:
    """Which alarms are evaluated at a moment, by their time constraints."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment
        self._known: dict[tuple[TimeConstraint, ...], bool] = {}

    def hold(self, constraints: Sequence[TimeConstraint]) -> bool:
        """Whether an alarm with these constraints is."""
        key = tuple(constraints)
        if key not in self._known:
            self._known[key] = in_force(key, self._moment)
        return self._known[key]


def due(loaded: Loaded, moment: datetime, types: Container[str] = ()) -> Due:
    """The alarms to evaluate at a moment; those whose conditions are none become faults of `loaded`.

    Args:
        loaded: all alarms.
        moment: the end of the windows, UTC.
        types: of other alarms than those of thresholds, which ones are evaluated.
    """
    in_force = _InForce(moment)
    conditions = Conditions()
    places: list[int] = []
    rules: list[_Rule] = []
    repeat: list[bool] = []
    for place, definition in enumerate(loaded.rules):
        if definition is None or (definition.time_constraints and not in_force.hold(definition.time_constraints)):
            continue
        rule = definition.rule
        try:
            conditions.add(len(places), rule.query, rule.where)
        except UsageError as error:
            loaded.faults[place] = f"has a definition that cannot work: {error}"
            continue
        places.append(place)
        rules.append(rule)
        repeat.append(definition.repeat_actions)
    wanted: list[Wanted] = []
    others = []
    for place, alarm in loaded.others.items():
        if alarm.type in types and in_force.hold(alarm.time_constraints):
            first = len(rules) + len(wanted)
            for each in alarm.wanted():
                conditions.add(len(rules) + len(wanted), each.query, each.where)
                wanted.append(each)
            others.append(Other(place, alarm, range(first, len(rules) + len(wanted))))
    of_operator = {name: code for code, name in enumerate(OPERATORS)}
    return Due(
        np.array(places, np.int64),
        gathered(rules, wanted, conditions),
        np.array([rule.threshold for rule in rules], np.float64),
        np.array([of_operator[rule.comparison_operator] for rule in rules], np.int8),
        np.array(repeat, np.bool_),
        others,
    )
