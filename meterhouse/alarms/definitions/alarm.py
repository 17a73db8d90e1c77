"""An alarm: its fields, which are those of Ceilometer's and Aodh's alarm object, and its stored form."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from meterhouse.alarms.definitions.checker import Checker, names
from meterhouse.alarms.definitions.ids import id_of
from meterhouse.alarms.definitions.rules.kinds import REFUSED, RULES, Rule
from meterhouse.alarms.definitions.time_constraints import TimeConstraint, read_all
from meterhouse.alarms.definitions.wanted import Condition, Wanted

TYPES = {name: rule.MEANING for name, rule in RULES.items()}
"""Alarm type → what it does."""

MAX_LEVELS = 64

UNKNOWN = "insufficient data"
STATES = ("ok", "alarm", UNKNOWN)
SEVERITIES = ("low", "moderate", "critical")

_KEYS = {
    "name",
    "type",
    "description",
    "enabled",
    "severity",
    "repeat_actions",
    "alarm_actions",
    "ok_actions",
    "insufficient_data_actions",
    "time_constraints",
}


@dataclass(frozen=True)
class Alarm:
    """One alarm definition. Actions are URLs.

    `only_project` is the project whose samples and events alone it sees: that of a tenant who created it. No file and
    no client sets it.
    """

    name: str
    rule: Rule
    type: str = "threshold"
    description: str = ""
    enabled: bool = True
    severity: str = "low"
    repeat_actions: bool = False
    alarm_actions: tuple[str, ...] = ()
    ok_actions: tuple[str, ...] = ()
    insufficient_data_actions: tuple[str, ...] = ()
    time_constraints: tuple[TimeConstraint, ...] = ()
    only_project: str = ""

    @cached_property
    def alarm_id(self) -> str:
        """The id of the alarm if it is declared in a file."""
        return id_of(self.name)

    def actions(self, state: str) -> tuple[str, ...]:
        """The URLs to notify about a state."""
        return {"ok": self.ok_actions, "alarm": self.alarm_actions}.get(state, self.insufficient_data_actions)

    def wanted(self) -> tuple[Wanted, ...]:
        """The windows that its rule looks at, of the points that it may see."""
        return tuple(map(self.scoped, self.rule.wanted()))

    def scoped(self, wanted: Wanted) -> Wanted:
        """A window of the points that it may see."""
        if not self.only_project:
            return wanted
        own = Condition("project_id", "eq", self.only_project)
        return wanted if own in wanted.query else replace(wanted, query=(*wanted.query, own))

    def as_json(self) -> str:
        """The definition as the warehouse stores it."""
        return self._json

    @cached_property
    def _json(self) -> str:
        definition = {name: value for name, value in vars(self).items() if name in _FIELDS}
        definition["rule"] = self.rule.as_dict()
        if self.time_constraints:
            definition["time_constraints"] = [asdict(each) for each in self.time_constraints]
        else:  # as releases stored it that had none: the alarm has not changed
            del definition["time_constraints"]
        if not self.only_project:
            del definition["only_project"]
        return json.dumps(definition, sort_keys=True)


_FIELDS = names(Alarm)


def from_json(text: str) -> Alarm:
    """Read a definition that the warehouse stores.

    Raises:
        DefinitionError: it cannot work: it is damaged, or of a release that allowed more.
    """
    where = "the warehouse"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and "rule" in content:
        content[f"{content.get('type')}_rule"] = content.pop("rule")
    only_project = content.pop("only_project", "") if isinstance(content, dict) else ""
    return replace(from_mapping(content, where), only_project=str(only_project))


def _without_nulls(value: Any, depth: int = 0) -> Any:
    if depth > MAX_LEVELS:
        return value
    if isinstance(value, dict):
        return {key: _without_nulls(each, depth + 1) for key, each in value.items() if each is not None}
    return [_without_nulls(each, depth + 1) for each in value] if isinstance(value, list) else value


def from_mapping(entry: Any, where: str, *, as_text: bool = False) -> Alarm:
    """The alarm that a mapping defines.

    Args:
        entry: what should be a mapping, with the rule as `TYPE_rule`.
        where: where it is, for errors.
        as_text: whether numbers and flags may be texts, and null stands for nothing, as clients of the API send them.

    Raises:
        DefinitionError: it cannot work; the error says what is wrong and what to do.
    """
    if as_text:
        entry = _without_nulls(entry)
    check = Checker(entry, where, "an alarm", as_text=as_text)
    name = check.text("name")
    check.label = f"alarm '{name}'"
    kind = check.entry.get("type", "threshold")
    if isinstance(kind, str) and kind in REFUSED:
        what, hint = REFUSED[kind]
        raise check.fault(f"has the type {kind}, which {what}", hint)
    kind = check.one_of("type", tuple(RULES), "threshold")
    own = f"{kind}_rule"
    others = sorted(f"{each}_rule" for each in RULES if f"{each}_rule" in check.entry and each != kind)
    if others:
        raise check.fault(f"has {others[0]} and the type {kind}", f"Write {own}, or the type that goes with the rule")
    check.keys({*_KEYS, own})
    return Alarm(
        name=name,
        type=kind,
        description=check.prose("description"),
        enabled=check.flag("enabled", True),
        severity=check.one_of("severity", SEVERITIES, "low"),
        repeat_actions=check.flag("repeat_actions", False),
        alarm_actions=check.urls("alarm_actions"),
        ok_actions=check.urls("ok_actions"),
        insufficient_data_actions=check.urls("insufficient_data_actions"),
        time_constraints=read_all(check),
        rule=RULES[kind].read(check.within(own, f"{own} of '{name}'")),
    )
