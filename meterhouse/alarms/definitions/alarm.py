"""Alarm definitions: `alarms.yaml`, with the fields of Ceilometer's and Aodh's alarm object."""

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from meterhouse import yaml_lines
from meterhouse.alarms.definitions.checker import Checker
from meterhouse.alarms.definitions.threshold_rule import ThresholdRule
from meterhouse.definitions.site_files import in_use
from meterhouse.errors import DefinitionError
from meterhouse.shipped import DEFAULTS

TYPES = {"threshold": "Compares the statistic of a meter over a period with a threshold."}
"""Alarm type → what it does."""

UNKNOWN = "insufficient data"
SEVERITIES = ("low", "moderate", "critical")

MAX_ALARMS: Final = 200_000
"""Maximum number of alarms of a site."""

_NAMESPACE = uuid.UUID("6b3f2f0e-8a0f-5d4e-9d51-0d6c7c1b7a10")
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
    "threshold_rule",
}


@dataclass(frozen=True)
class Alarm:
    """One alarm definition. Actions are URLs."""

    name: str
    rule: ThresholdRule
    type: str = "threshold"
    description: str = ""
    enabled: bool = True
    severity: str = "low"
    repeat_actions: bool = False
    alarm_actions: tuple[str, ...] = ()
    ok_actions: tuple[str, ...] = ()
    insufficient_data_actions: tuple[str, ...] = ()

    @property
    def alarm_id(self) -> str:
        """A UUID made from the name, the same on every machine."""
        return str(uuid.uuid5(_NAMESPACE, self.name))

    def actions(self, state: str) -> tuple[str, ...]:
        """The URLs to notify about a state."""
        return {"ok": self.ok_actions, "alarm": self.alarm_actions}.get(state, self.insufficient_data_actions)

    def as_json(self) -> str:
        """The definition as the warehouse stores it."""
        definition = asdict(self)
        if not self.rule.where:  # as releases stored it that had no `where`: the alarm has not changed
            del definition["rule"]["where"]
        return json.dumps(definition, sort_keys=True)


@dataclass(frozen=True)
class Defined:
    """What a file defines.

    Attributes:
        alarms: the alarms that can be evaluated, each with its file and line.
        faults: what is wrong with each of the others.
        names: the names of all alarms, if every one has a name; otherwise None.
    """

    alarms: tuple[tuple[Alarm, str], ...]
    faults: tuple[DefinitionError, ...]
    names: frozenset[str] | None


def read(config_dir: Path | None) -> Defined:
    """The site's alarms: those of `alarms.yaml` in its configuration folder, or the shipped file, which has none.

    An alarm that cannot work affects no other one.

    Raises:
        DefinitionError: the file has no alarms that could be told from each other.
    """
    path = in_use(config_dir, "alarms.yaml", DEFAULTS / "alarms.yaml")
    content = yaml_lines.read(path)
    entries = content.get("alarms") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError("the file has no list `alarms`", where=f"{path}:1", hint="Start the file with `alarms:`")
    if len(entries) > MAX_ALARMS:
        raise DefinitionError(f"the file has {len(entries):,} alarms", where=str(path), hint=f"At most {MAX_ALARMS:,}")
    made: dict[str, tuple[Alarm, str]] = {}
    faults: list[DefinitionError] = []
    for entry in entries:
        where = f"{path}:{getattr(entry, 'line', 1)}"
        try:
            alarm = _alarm(entry, where)
            if alarm.name in made:
                raise DefinitionError(
                    f"two alarms are named '{alarm.name}'", where=where, hint="Give each its own name"
                )
        except DefinitionError as error:
            faults.append(error)
        else:
            made[alarm.name] = (alarm, where)
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    all_named = all(isinstance(name, str) and name for name in names)
    return Defined(tuple(made.values()), tuple(faults), frozenset(map(str, names)) if all_named else None)


def load(config_dir: Path | None) -> list[Alarm]:
    """The site's alarms, if all of them can work.

    Raises:
        DefinitionError: an alarm is invalid; the error has file, line, what is wrong and what to do.
    """
    found = read(config_dir)
    for fault in found.faults:
        raise fault
    return [alarm for alarm, _ in found.alarms]


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
    return _alarm(content, where)


def _alarm(entry: Any, where: str) -> Alarm:
    check = Checker(entry, where, "an alarm")
    name = check.text("name")
    check.label = f"alarm '{name}'"
    check.keys(_KEYS)
    type = check.one_of("type", tuple(TYPES), "threshold")
    return Alarm(
        name=name,
        type=type,
        description=check.prose("description"),
        enabled=check.flag("enabled", True),
        severity=check.one_of("severity", SEVERITIES, "low"),
        repeat_actions=check.flag("repeat_actions", False),
        alarm_actions=check.urls("alarm_actions"),
        ok_actions=check.urls("ok_actions"),
        insufficient_data_actions=check.urls("insufficient_data_actions"),
        rule=ThresholdRule.read(check.within("threshold_rule", f"threshold_rule of '{name}'")),
    )
