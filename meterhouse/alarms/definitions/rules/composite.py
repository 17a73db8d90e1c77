"""The rule of a composite alarm: rules within `and` and `or`, with the fields of Aodh's."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias

from meterhouse.alarms.definitions.checker import Checker
from meterhouse.alarms.definitions.rules.deviation import DeviationRule
from meterhouse.alarms.definitions.rules.gnocchi import MetricsRule, ResourcesRule, ResourcesSearchRule
from meterhouse.alarms.definitions.rules.rate_of_change import RateOfChangeRule
from meterhouse.alarms.definitions.rules.ratio import RatioRule
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.errors import shown

MAX_DEPTH: Final = 16
MAX_RULES: Final = 100
"""Maximum number of rules of a composite alarm, counting each `and` and `or`."""

Part: TypeAlias = (
    ThresholdRule | ResourcesRule | MetricsRule | ResourcesSearchRule | RateOfChangeRule | RatioRule | DeviationRule
)
KINDS: dict[str, type[Part]] = {
    each.TYPE: each
    for each in (
        ThresholdRule,
        ResourcesRule,
        MetricsRule,
        ResourcesSearchRule,
        RateOfChangeRule,
        RatioRule,
        DeviationRule,
    )
}
"""Type → the rule that can be a part."""


@dataclass(frozen=True)
class Join:
    """Rules or joins, joined by `and` or `or`."""

    operator: Literal["and", "or"]
    parts: tuple["Join | Part", ...]


@dataclass(frozen=True)
class CompositeRule:
    """Joins rules with `and` and `or`, within each other."""

    TYPE: ClassVar = "composite"
    MEANING: ClassVar = "Joins rules with `and` and `or`, which may be nested."

    joined: Join

    @property
    def parts(self) -> list[Part]:
        """The rules, in the order in which they are written."""
        return list(_leaves(self.joined))

    def wanted(self) -> tuple[Wanted, ...]:
        """The windows that its rules look at, in order."""
        return tuple(each for part in self.parts for each in part.wanted())

    @property
    def meters(self) -> tuple[str, ...]:
        """The meters that it reads."""
        return tuple(dict.fromkeys(meter for part in self.parts for meter in part.meters))

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none, as Aodh words it."""
        return "composite alarm rule"

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        return _as_dict(self.joined)

    @classmethod
    def read(cls, check: Checker) -> "CompositeRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        made = _read(check, 0, iter(range(MAX_RULES)))
        if not isinstance(made, Join):
            raise check.fault("has no `and` and no `or`", "Write {and: [{type: threshold, …}, …]}")
        return cls(made)


def _read(check: Checker, depth: int, room: Iterator[int]) -> Join | Part:
    """What a mapping says.

    Args:
        check: the mapping.
        depth: how many joins are around it.
        room: yields as often as there is room for a further rule or join: aliases can stand for any number.
    """
    if next(room, None) is None:
        raise check.fault(f"has more than {MAX_RULES} rules", f"Write at most {MAX_RULES}")
    keys = set(check.entry)
    if depth > MAX_DEPTH:
        raise check.fault(f"is nested more than {MAX_DEPTH} levels", "Write it flatter")
    if len(keys) == 1 and keys <= {"and", "or"}:
        operator: Literal["and", "or"] = "and" if "and" in keys else "or"
        found = check.mappings(operator, "rules", check.label)
        if not found:
            raise check.fault(f"has an empty `{operator}`", "Write at least one rule")
        return Join(operator, tuple(_read(each, depth + 1, room) for each in found))
    kind = check.entry.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        what = "has a rule without a type" if kind is None else f"has a rule of the type {shown(kind)}"
        raise check.fault(what, f"Write `and` or `or` with a list, or a rule with one of: {', '.join(KINDS)}")
    inner = {key: value for key, value in check.entry.items() if key != "type"}
    return KINDS[kind].read(Checker(inner, check.where, f"{kind} rule of {check.label}", as_text=check.as_text))


def _leaves(one: "Join | Part") -> Iterator[Part]:
    if isinstance(one, Join):
        for part in one.parts:
            yield from _leaves(part)
    else:
        yield one


def _as_dict(one: "Join | Part") -> dict[str, Any]:
    if isinstance(one, Join):
        return {one.operator: [_as_dict(part) for part in one.parts]}
    return {"type": one.TYPE, **one.as_dict()}
