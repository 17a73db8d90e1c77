"""The rule of an absence: an event or a series' points did not come in time. Neither Ceilometer nor Aodh has it."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from meterhouse.alarms.definitions.checker import Checker, names
from meterhouse.alarms.definitions.rules.comparing import MAX_PERIOD, MAX_WINDOW, bounded, query, where
from meterhouse.alarms.definitions.rules.event import Trait, traits
from meterhouse.alarms.definitions.wanted import Condition, Wanted, plain

OF = ("all", "any")
KNOWN_FOR: Final = 86_400


@dataclass(frozen=True)
class AbsenceRule:
    """Fires if no matching event, or no good point of the series, came within the last `within` seconds.

    With `of: any` it fires if one of the series that had points within `known_for` seconds has none; with `of: all`,
    if none has one.
    """

    TYPE: ClassVar = "absence"
    MEANING: ClassVar = "Fires when an event, or the points of a series, did not come in time."

    within: int
    meter_name: str = ""
    event_type: str = ""
    query: tuple[Condition, ...] | tuple[Trait, ...] = ()
    where: str = ""
    of: str = "all"
    known_for: int = KNOWN_FOR

    def wanted(self) -> tuple[Wanted, ...]:
        """It asks when the last points and events came, not for statistics."""
        return ()

    @property
    def points(self) -> Wanted | None:
        """The series of which points must come; None if it waits for events."""
        if not self.meter_name:
            return None
        conditions = tuple(each for each in self.query if isinstance(each, Condition))
        return Wanted(self.meter_name, conditions, self.where, "count", self.within, 1, 0)

    @property
    def meters(self) -> tuple[str, ...]:
        """The meters that it reads."""
        return (self.meter_name,) if self.meter_name else ()

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none."""
        what = f"points of {self.meter_name}" if self.meter_name else f"{self.event_type} events"
        return f"Alarm when no {what} came within {self.within} seconds"

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        return {name: value for name, value in asdict(self).items() if value not in ("", ())} | {
            "query": [asdict(each, dict_factory=plain) for each in self.query]
        }

    @classmethod
    def read(cls, check: Checker) -> "AbsenceRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys(names(cls))
        of_points = bool(check.entry.get("meter_name"))
        if of_points == bool(check.entry.get("event_type")):
            raise check.fault(
                "names both a meter and an event type" if of_points else "names no meter and no event type",
                "Write one of meter_name and event_type",
            )
        rule = cls(
            within=check.whole("within", None, MAX_PERIOD),
            meter_name=check.text("meter_name") if of_points else "",
            event_type="" if of_points else check.text("event_type"),
            query=query(check) if of_points else traits(check),
            where=where(check) if of_points else "",
            of=check.one_of("of", OF, "all"),
            known_for=check.whole("known_for", KNOWN_FOR, MAX_WINDOW),
        )
        if rule.points is not None:
            bounded(check, rule.points)
        return rule
