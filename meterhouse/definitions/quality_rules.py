"""The quality rules of `quality/rules.yaml` or the site's own `quality.yaml`."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from meterhouse import yaml_lines
from meterhouse.errors import DefinitionError
from meterhouse.shipped import QUALITY_RULES

CHECKS = ("finite", "range", "future", "duplicate", "reset")
SEVERITIES = ("critical", "warning")
TYPES = ("gauge", "delta", "cumulative")
_KEYS = {
    "name",
    "description",
    "bit",
    "check",
    "severity",
    "meters",
    "types",
    "min",
    "max",
    "tolerance_seconds",
}


@dataclass(frozen=True)
class Rule:
    """One quality rule. `minimum` and `maximum` are in the meter's unit; infinite if there is no bound."""

    name: str
    description: str
    bit: int
    check: str
    severity: Literal["critical", "warning"]
    meters: tuple[str, ...] = ("*",)
    types: tuple[str, ...] = TYPES
    minimum: float = -math.inf
    maximum: float = math.inf
    tolerance_seconds: float = 300.0


@dataclass(frozen=True)
class Rules:
    """All rules of a site, and the file that they come from."""

    rules: tuple[Rule, ...]
    path: str

    @property
    def critical_bits(self) -> int:
        """The bits that exclude a point."""
        return sum(1 << rule.bit for rule in self.rules if rule.severity == "critical")

    def of(self, check: str) -> list[Rule]:
        """The rules of one kind of check."""
        return [rule for rule in self.rules if rule.check == check]


def load(config_dir: Path | None) -> Rules:
    """The site's rules: those of `quality.yaml` in its configuration folder, or the shipped ones.

    Raises:
        DefinitionError: a rule is invalid; the error has file, line, what is wrong and what to do.
    """
    own = config_dir / "quality.yaml" if config_dir else None
    path = own if own is not None and own.exists() else QUALITY_RULES
    return _parse(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _parse(path: Path, changed: int) -> Rules:
    content = yaml_lines.read(path)
    if not isinstance(content, dict) or not isinstance(content.get("rules"), list):
        raise DefinitionError("the file has no list `rules`", where=f"{path}:1", hint="Start the file with `rules:`")
    rules = tuple(_rule(entry, path) for entry in content["rules"])
    for what in ("name", "bit"):
        seen: dict[object, Rule] = {}
        for rule in rules:
            if getattr(rule, what) in seen:
                raise DefinitionError(
                    f"rules '{seen[getattr(rule, what)].name}' and '{rule.name}' have the same {what}",
                    where=str(path),
                    hint=f"Give each rule its own {what}",
                )
            seen[getattr(rule, what)] = rule
    return Rules(rules, str(path))


def _rule(entry: Any, path: Path) -> Rule:
    where = f"{path}:{getattr(entry, 'line', 1)}"

    def fault(what: str, hint: str) -> DefinitionError:
        return DefinitionError(what, where=where, hint=hint)

    if not isinstance(entry, dict):
        raise fault("a rule is not a mapping", "Write `- name: …` and its keys")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise fault("a rule has no name", "Add `name:`")
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise fault(
            f"rule '{name}' has unknown keys: {', '.join(map(str, unknown))}",
            f"Known: {', '.join(sorted(_KEYS))}",
        )
    for key, known in (("check", CHECKS), ("severity", SEVERITIES)):
        if entry.get(key) not in known:
            raise fault(f"rule '{name}': {key} is {entry.get(key)!r}", f"Write one of {', '.join(known)}")
    bit = entry.get("bit")
    if not isinstance(bit, int) or isinstance(bit, bool) or not 0 <= bit <= 30:
        raise fault(f"rule '{name}': bit is {bit!r}", "Write a whole number from 0 to 30 that no other rule has")
    meters = _texts(entry.get("meters", ["*"]))
    if not meters:
        raise fault(f"rule '{name}': meters is not a list of globs", 'Write e.g. meters: [cpu, "disk.*"]')
    types = _texts(entry.get("types", list(TYPES)))
    if not types or not set(types) <= set(TYPES):
        raise fault(f"rule '{name}': types is {entry.get('types')!r}", f"Write a list of {', '.join(TYPES)}")
    numbers: dict[str, float] = {}
    for key, default in (("min", -math.inf), ("max", math.inf), ("tolerance_seconds", 300.0)):
        value = entry.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            raise fault(f"rule '{name}': {key} is {value!r}", "Write a number")
        numbers[key] = float(value)
    if entry["check"] == "range" and not ("min" in entry or "max" in entry):
        raise fault(f"rule '{name}': a range needs min or max", "Set min, max or both")
    if numbers["min"] > numbers["max"]:
        raise fault(f"rule '{name}': min is above max", "Swap them")
    return Rule(
        name=name,
        description=str(entry.get("description", "")),
        bit=bit,
        check=entry["check"],
        severity=cast(Literal["critical", "warning"], entry["severity"]),
        meters=tuple(meters),
        types=tuple(types),
        minimum=numbers["min"],
        maximum=numbers["max"],
        tolerance_seconds=numbers["tolerance_seconds"],
    )


def _texts(value: Any) -> list[str]:
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else []
