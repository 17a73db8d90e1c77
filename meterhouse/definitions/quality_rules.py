"""The quality rules of `quality/rules.yaml` or the site's own `quality.yaml`.

Whatever the file says, points whose volume cannot be computed with are excluded: the shipped rules `not_finite` and
`too_large` are added to a file that does not exclude them.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, cast

from meterhouse import yaml_lines
from meterhouse.definitions.meanings import Meaning, of_parts
from meterhouse.definitions.site_files import in_use, once_a_change
from meterhouse.errors import DefinitionError, shown
from meterhouse.shipped import QUALITY_RULES
from meterhouse.untrusted import is_plain

CHECKS = ("finite", "range", "future", "duplicate", "reset")
SEVERITIES = ("critical", "warning")
TYPES = ("gauge", "delta", "cumulative")
LARGEST_VOLUME = 1e150
"""The largest volume that counts: the sum of the squares of 100 million of them does not overflow."""

BITS = 31
"""How many rules a file may have: `reasons` is a signed integer of 32 bits."""

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


MAX_NAME: Final = 255
"""Maximum number of characters of a name or glob."""

MAX_GLOBS: Final = 1_000
"""Maximum number of globs of a rule."""

MAX_TOLERANCE: Final = 366 * 86_400
"""Maximum tolerance in seconds."""


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

    @cached_property
    def meaning(self) -> Meaning:
        """All that decides on verdicts. Descriptions and the order of the file do not."""
        parts = (
            (Path(self.path).name, f"rule {rule.name}", {**asdict(rule), "description": None})
            for rule in sorted(self.rules, key=lambda rule: rule.bit)
        )
        return of_parts(parts)

    @property
    def critical_bits(self) -> int:
        """The bits that exclude a point."""
        return sum(1 << rule.bit for rule in self.rules if rule.severity == "critical")

    @property
    def excludes_infinite(self) -> bool:
        """Whether every infinite volume, and every one that is not a number, is excluded."""
        return any(rule.check == "finite" and _excludes_everywhere(rule) for rule in self.rules)

    @property
    def excludes_too_large(self) -> bool:
        """Whether every finite volume beyond LARGEST_VOLUME is excluded."""
        bounding = [rule for rule in self.rules if rule.check == "range" and _excludes_everywhere(rule)]
        return any(rule.minimum >= -LARGEST_VOLUME for rule in bounding) and any(
            rule.maximum <= LARGEST_VOLUME for rule in bounding
        )

    def of(self, check: str) -> list[Rule]:
        """The rules of one kind of check."""
        return [rule for rule in self.rules if rule.check == check]


def differ(before: str, now: str) -> Callable[[str], bool]:
    """Whether two meanings of rules, by `Meaning.text`, differ for a meter, by its name."""
    rules = [[json.loads(content) for _, content in json.loads(text)] for text in (before, now)]

    def of(meter: str, among: list[dict[str, Any]]) -> list[dict[str, Any]]:
        applying = (rule for rule in among if any(fnmatchcase(meter, glob) for glob in rule["meters"]))
        return [{**rule, "meters": None} for rule in applying]

    return lambda meter: of(meter, rules[0]) != of(meter, rules[1])


def _excludes_everywhere(rule: Rule) -> bool:
    return rule.severity == "critical" and "*" in rule.meters and set(rule.types) == set(TYPES)


def load(config_dir: Path | None) -> Rules:
    """The site's rules: those of `quality.yaml` in its configuration folder, or the shipped ones.

    If the site's own rules do not exclude all points whose volume cannot be computed with, the shipped rules that do so
    are added, with their own bit or, if it is taken, the highest free one. They replace a weaker rule of their name.

    Raises:
        DefinitionError: a rule is invalid; the error has file, line, what is wrong and what to do.
    """
    path = in_use(config_dir, "quality.yaml", QUALITY_RULES)
    given = _current(path)
    return given if path == QUALITY_RULES else _completed(given)


def _completed(given: Rules) -> Rules:
    """These rules and those of the shipped ones that always hold; a weaker rule of the same name gives way."""
    shipped = {rule.name: rule for rule in load(None).rules}
    rules = given.rules
    for name, holds in (("not_finite", given.excludes_infinite), ("too_large", given.excludes_too_large)):
        if holds:
            continue
        weaker = [rule.bit for rule in rules if rule.name == name]
        rules = tuple(rule for rule in rules if rule.name != name)
        free = sorted(set(range(BITS)) - {rule.bit for rule in rules})
        if not free:
            raise DefinitionError(
                f"there is no free bit for the rule '{name}', which always holds",
                where=given.path,
                hint=f"Write at most {BITS - 2} rules",
            )
        wanted = weaker[0] if weaker else shipped[name].bit
        rules = (*rules, replace(shipped[name], bit=wanted if wanted in free else free[-1]))
    return Rules(rules, given.path)


@once_a_change
def _current(path: Path) -> Rules:
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
    if len(name) > MAX_NAME or not is_plain(name):
        raise fault(f"a rule has the name {shown(name)}", f"Write at most {MAX_NAME} characters, all of them printable")
    unknown = sorted(shown(key).strip("'") for key in set(entry) - _KEYS)
    if unknown:
        raise fault(f"rule '{name}' has unknown keys: {', '.join(unknown)}", f"Known: {', '.join(sorted(_KEYS))}")
    for key, known in (("check", CHECKS), ("severity", SEVERITIES)):
        if entry.get(key) not in known:
            raise fault(f"rule '{name}': {key} is {shown(entry.get(key))}", f"Write one of {', '.join(known)}")
    description = entry.get("description", "")
    if not isinstance(description, str) or not is_plain(description, lines=True):
        raise fault(
            f"rule '{name}': description is {shown(description)}", "Write a text, in quotes if it is not a word"
        )
    bit = entry.get("bit")
    if not isinstance(bit, int) or isinstance(bit, bool) or not 0 <= bit < BITS:
        raise fault(
            f"rule '{name}': bit is {shown(bit)}", f"Write a whole number from 0 to {BITS - 1} that no other rule has"
        )
    meters = _texts(entry.get("meters", ["*"]))
    if not meters:
        raise fault(
            f"rule '{name}': meters is not a list of at most {MAX_GLOBS:,} globs", 'Write e.g. meters: [cpu, "disk.*"]'
        )
    types = _texts(entry.get("types", list(TYPES)))
    if not types or not set(types) <= set(TYPES):
        raise fault(f"rule '{name}': types is {shown(entry.get('types'))}", f"Write a list of {', '.join(TYPES)}")
    numbers: dict[str, float] = {}
    for key, default in (("min", -math.inf), ("max", math.inf), ("tolerance_seconds", 300.0)):
        number = _number(entry.get(key, default))
        if number is None:
            raise fault(f"rule '{name}': {key} is {shown(entry.get(key))}", "Write a number")
        numbers[key] = number
    if not 0 <= numbers["tolerance_seconds"] <= MAX_TOLERANCE:
        raise fault(
            f"rule '{name}': tolerance_seconds is {shown(entry['tolerance_seconds'])}",
            f"Write a number from 0 to {MAX_TOLERANCE:,}",
        )
    if entry["check"] == "range" and not ("min" in entry or "max" in entry):
        raise fault(f"rule '{name}': a range needs min or max", "Set min, max or both")
    if numbers["min"] == math.inf or numbers["max"] == -math.inf:
        raise fault(f"rule '{name}': no volume is within min and max", "Write finite bounds, or leave one out")
    if numbers["min"] > numbers["max"]:
        raise fault(f"rule '{name}': min is above max", "Swap them")
    return Rule(
        name=name,
        description=description,
        bit=bit,
        check=entry["check"],
        severity=cast(Literal["critical", "warning"], entry["severity"]),
        meters=tuple(meters),
        types=tuple(types),
        minimum=numbers["min"],
        maximum=numbers["max"],
        tolerance_seconds=numbers["tolerance_seconds"],
    )


def _number(value: Any) -> float | None:
    """A number that is not NaN; None if it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return None if math.isnan(number) else number


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_GLOBS:
        return []
    return value if all(isinstance(item, str) and len(item) <= MAX_NAME and is_plain(item) for item in value) else []
