"""The rule of an event alarm, with the fields of Aodh's."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from meterhouse.alarms.definitions.checker import Checker, names
from meterhouse.alarms.definitions.rules.comparing import COMPARE
from meterhouse.alarms.definitions.rules.value_types import VALUE_TYPES, typed
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.errors import UsageError


@dataclass(frozen=True)
class Trait:
    """A condition on a trait (`traits.NAME`) or on a field of an event; `type` is that of the value."""

    field: str
    op: str = "eq"
    value: str = ""
    type: str = "string"


@dataclass(frozen=True)
class EventRule:
    """Fires for each event whose type matches the glob `event_type`, and that meets `query`."""

    TYPE: ClassVar = "event"
    MEANING: ClassVar = "Fires when a matching event comes."

    event_type: str = "*"
    query: tuple[Trait, ...] = ()

    meters: ClassVar[tuple[str, ...]] = ()

    def wanted(self) -> tuple[Wanted, ...]:
        """It looks at no points."""
        return ()

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none, as Aodh words it."""
        return f"Alarm when {self.event_type} event occurred."

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        return asdict(self)

    @classmethod
    def read(cls, check: Checker) -> "EventRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys(names(cls))
        return cls(check.text("event_type", "*"), traits(check))


def traits(check: Checker) -> tuple[Trait, ...]:
    """The conditions of the key `query` on events.

    Raises:
        DefinitionError: a condition cannot be used.
    """
    return tuple(_trait(each) for each in check.mappings("query", "{field, op, value}", f"{check.label}, query:"))


def _trait(check: Checker) -> Trait:
    check.keys({"field", "op", "value", "type"})
    field = check.text("field")
    if field not in ("event_type", "message_id", "generated") and not field.removeprefix("traits.") != field:
        raise check.fault(f"has the field {field!r}", "Write traits.NAME, event_type, message_id or generated")
    kind = check.entry.get("type") or ("datetime" if field == "generated" else "string")
    if kind not in VALUE_TYPES:
        raise check.fault(f"has the type {kind!r}", f"Write one of {', '.join(VALUE_TYPES)}")
    made = Trait(field, check.one_of("op", tuple(COMPARE), "eq"), check.operand("value"), kind)
    try:
        typed(made.value, made.type)
    except (ValueError, UsageError):
        what = f"has the value {made.value!r}, which is no {made.type}"
        raise check.fault(what, "Correct the value or its type") from None
    return made
