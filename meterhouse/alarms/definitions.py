"""Alarm definitions: `alarms.yaml`, with the fields of Ceilometer's and Aodh's alarm object."""

import json
import math
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from meterhouse import yaml_lines
from meterhouse.errors import DefinitionError
from meterhouse.filters import OPERATORS, SERIES
from meterhouse.shipped import DEFAULTS

TYPES = {"threshold": "Compares the statistic of a meter over a period with a threshold."}
"""Alarm type → what it does."""

UNKNOWN = "insufficient data"
SEVERITIES = ("low", "moderate", "critical")
STATISTICS = ("avg", "min", "max", "sum", "count")
SCHEMES = ("http", "https", "log")
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
_RULE_KEYS = {
    "meter_name",
    "query",
    "statistic",
    "comparison_operator",
    "threshold",
    "period",
    "evaluation_periods",
    "exclude_outliers",
}


@dataclass(frozen=True)
class Condition:
    """One condition on the series that an alarm evaluates."""

    field: str
    op: str
    value: str


@dataclass(frozen=True)
class ThresholdRule:
    """Compare `statistic` of the meter's good points over each `period` (seconds) with `threshold`."""

    meter_name: str
    threshold: float
    query: tuple[Condition, ...] = ()
    statistic: str = "avg"
    comparison_operator: str = "eq"
    period: int = 60
    evaluation_periods: int = 1
    exclude_outliers: bool = False


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
        return json.dumps(asdict(self), sort_keys=True)


def load(config_dir: Path | None) -> list[Alarm]:
    """The site's alarms: those of `alarms.yaml` in its configuration folder, or the shipped file, which has none.

    Raises:
        DefinitionError: an alarm is invalid; the error has file, line, what is wrong and what to do.
    """
    own = config_dir / "alarms.yaml" if config_dir else None
    path = own if own is not None and own.exists() else DEFAULTS / "alarms.yaml"
    content = yaml_lines.read(path)
    entries = content.get("alarms") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError("the file has no list `alarms`", where=f"{path}:1", hint="Start the file with `alarms:`")
    made: dict[str, Alarm] = {}
    for entry in entries:
        alarm = _alarm(entry, path)
        if alarm.name in made:
            raise DefinitionError(
                f"two alarms are named '{alarm.name}'", where=f"{path}:{entry.line}", hint="Give each its own name"
            )
        made[alarm.name] = alarm
    return list(made.values())


def _alarm(entry: Any, path: Path) -> Alarm:
    where = f"{path}:{getattr(entry, 'line', 1)}"
    check = _Checker(entry, where, "an alarm")
    name = check.text("name")
    check.label = f"alarm '{name}'"
    check.keys(_KEYS)
    type = check.one_of("type", tuple(TYPES), "threshold")
    rule = entry.get("threshold_rule")
    inner = _Checker(rule, f"{path}:{getattr(rule, 'line', getattr(entry, 'line', 1))}", f"threshold_rule of '{name}'")
    inner.keys(_RULE_KEYS)
    return Alarm(
        name=name,
        type=type,
        description=str(entry.get("description", "")),
        enabled=check.flag("enabled", True),
        severity=check.one_of("severity", SEVERITIES, "low"),
        repeat_actions=check.flag("repeat_actions", False),
        alarm_actions=check.urls("alarm_actions"),
        ok_actions=check.urls("ok_actions"),
        insufficient_data_actions=check.urls("insufficient_data_actions"),
        rule=ThresholdRule(
            meter_name=inner.text("meter_name"),
            threshold=inner.number("threshold"),
            query=inner.conditions("query"),
            statistic=inner.one_of("statistic", STATISTICS, "avg"),
            comparison_operator=inner.one_of("comparison_operator", tuple(OPERATORS), "eq"),
            period=inner.whole("period", 60),
            evaluation_periods=inner.whole("evaluation_periods", 1),
            exclude_outliers=inner.flag("exclude_outliers", False),
        ),
    )


class _Checker:
    """Reads typed values from a mapping. Its errors have the file and line."""

    def __init__(self, entry: Any, where: str, label: str) -> None:
        self.where, self.label = where, label
        if not isinstance(entry, dict):
            raise self.fault("is not a mapping", "Write its keys and values")
        self.entry = entry

    def fault(self, what: str, hint: str) -> DefinitionError:
        return DefinitionError(f"{self.label} {what}", where=self.where, hint=hint)

    def keys(self, known: set[str]) -> None:
        unknown = sorted(str(key) for key in set(self.entry) - known)
        if unknown:
            raise self.fault(f"has unknown keys: {', '.join(unknown)}", f"Known: {', '.join(sorted(known))}")

    def text(self, key: str) -> str:
        value = self.entry.get(key)
        if not isinstance(value, str) or not value:
            raise self.fault(f"has no {key}", f"Add `{key}: …`")
        return value

    def number(self, key: str) -> float:
        value = self.entry.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            raise self.fault(f"has {key} {value!r}", f"Write a number for {key}")
        return float(value)

    def whole(self, key: str, default: int) -> int:
        value = self.entry.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.fault(f"has {key} {value!r}", f"Write a whole number of at least 1 for {key}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.entry.get(key, default)
        if not isinstance(value, bool):
            raise self.fault(f"has {key} {value!r}", "Write true or false")
        return value

    def one_of(self, key: str, known: tuple[str, ...], default: str) -> str:
        value = self.entry.get(key, default)
        if value not in known:
            raise self.fault(f"has {key} {value!r}", f"Write one of {', '.join(known)}")
        return str(value)

    def urls(self, key: str) -> tuple[str, ...]:
        value = self.entry.get(key, [])
        if not isinstance(value, list):
            raise self.fault(f"has {key} that is not a list", "Write a list of URLs")
        for url in value:
            if not _is_action(url):
                raise self.fault(f"has the {key} {url!r}", "Write http://…, https://… or log://")
        return tuple(dict.fromkeys(value))

    def conditions(self, key: str) -> tuple[Condition, ...]:
        value = self.entry.get(key, [])
        if not isinstance(value, list):
            raise self.fault(f"has a {key} that is not a list", "Write a list of {field, op, value}")
        made = []
        for item in value:
            inner = _Checker(
                item, f"{self.where.rpartition(':')[0]}:{getattr(item, 'line', 1)}", f"{self.label}, query:"
            )
            inner.keys({"field", "op", "value", "type"})
            field = inner.one_of("field", tuple(SERIES), "")
            made.append(
                Condition(SERIES[field].column, inner.one_of("op", tuple(OPERATORS), "eq"), str(item.get("value", "")))
            )
        return tuple(made)


def _is_action(url: Any) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "log" or (parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0)
    except (ValueError, TypeError, AttributeError):
        return False


def from_json(text: str) -> Alarm:
    """Read a definition that the warehouse stores."""
    content = json.loads(text)
    rule = content.pop("rule")
    conditions = tuple(Condition(**item) for item in rule.pop("query"))
    for key in ("alarm_actions", "ok_actions", "insufficient_data_actions"):
        content[key] = tuple(content[key])
    return Alarm(rule=ThresholdRule(query=conditions, **rule), **content)
