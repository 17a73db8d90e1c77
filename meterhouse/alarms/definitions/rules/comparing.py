"""What all rules have in common that compare values with a threshold."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from meterhouse.alarms.definitions.checker import Checker
from meterhouse.alarms.definitions.rules.value_types import VALUE_TYPES, typed
from meterhouse.alarms.definitions.wanted import Condition, Wanted, plain
from meterhouse.errors import UnknownKeyword, UsageError, shown
from meterhouse.filters import SERIES, Filter, parse

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": operator.ge,
    "gt": operator.gt,
}
"""Operator → how it compares; SQL expressions too."""

MAX_PERIOD: Final = 31 * 24 * 3600
"""Maximum length of a period in seconds."""

MAX_PERIODS: Final = 10_000
"""Maximum number of evaluation periods."""

MAX_WINDOW: Final = 2 * MAX_PERIOD
"""Maximum length of a window in seconds: each evaluation reads all points of the window."""

RESOURCE_METADATA: Final = "resource_metadata."
"""How Ceilometer also spells `metadata.`, for a field of a query."""


@dataclass(frozen=True)
class OfOneWindow(ABC):
    """A rule that looks at one window."""

    @cached_property
    @abstractmethod
    def window(self) -> Wanted:
        """The window that it looks at."""

    def wanted(self) -> tuple[Wanted, ...]:
        """The windows that it looks at."""
        return (self.window,)

    @property
    def meters(self) -> tuple[str, ...]:
        """The meters that it reads."""
        return (self.window.meter_name,)

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        return asdict(self, dict_factory=plain)


def query(check: Checker) -> tuple[Condition, ...]:
    """The conditions of the key `query`, with the fields' own names.

    A condition's `type` says how Ceilometer compares its value. Here the values do: as numbers if both are numbers.
    What a client calls a number has to be one.

    Raises:
        DefinitionError: a condition cannot be used.
    """
    return tuple(_condition(item) for item in check.mappings("query", "{field, op, value}", f"{check.label}, query:"))


def _condition(check: Checker) -> Condition:
    check.keys({"field", "op", "value", "type"})
    name = check.text("field")
    if name.startswith(RESOURCE_METADATA):
        name = name.removeprefix("resource_")
    if name in ("timestamp", "start_timestamp", "end_timestamp"):
        raise check.fault(f"has the field {name}", "Leave it out: the window of an alarm ends at its evaluation")
    op = "eq" if check.as_text and check.entry.get("op") == "" else check.one_of("op", tuple(COMPARE), "eq")
    value = check.operand("value")
    try:
        known = Filter(name, op, value, SERIES).target
    except UnknownKeyword as error:
        raise check.fault(f"has an {error.what}", error.hint) from None
    except UsageError as error:
        raise check.fault(f"has a condition that cannot be used: {error.what}", error.hint) from None
    kind = _kind(check, value) if check.as_text else ""
    return Condition(f"{known.column}.{known.key}" if known.key else known.column, op, value, kind)


def _kind(check: Checker, value: str) -> str:
    """What a client calls a value; empty if it does not."""
    kind = check.one_of("type", ("", *VALUE_TYPES), "")
    if kind in VALUE_TYPES:
        try:
            typed(value, kind)
        except (ValueError, UsageError):
            what = f"has the value {shown(value)}, which is no {kind}"
            raise check.fault(what, "Correct the value or its type") from None
    return kind


def where(check: Checker) -> str:
    """The text of the key `where`.

    Raises:
        DefinitionError: it is not a condition.
    """
    text = check.prose("where")
    if text:
        _refuse_unusable(check, lambda: parse(text, SERIES))
    return text


def bounded(check: Checker, wanted: Wanted) -> None:
    """Check that a window is one that can be asked for.

    Raises:
        DefinitionError: it is too long, or its conditions are too much together.
    """
    if wanted.where:  # the conditions of a query alone were looked at, and are few
        _refuse_unusable(check, lambda: wanted.condition)
    seconds = int(wanted.window.total_seconds())
    if seconds > MAX_WINDOW:
        raise check.fault(
            f"has a window of {seconds:,} seconds: period {wanted.period:,}, evaluation_periods "
            f"{wanted.evaluation_periods:,}",
            f"Make it at most {MAX_WINDOW:,} seconds, which is {MAX_WINDOW // 86400} days",
        )


def _refuse_unusable(check: Checker, condition: Callable[[], object]) -> None:
    try:
        condition()
    except UsageError as error:
        what = ": ".join(each for each in (error.where, error.what) if each)
        raise check.fault(f"has a `where` that is not a condition: {what}", error.hint) from None
