"""The rule of a combination alarm: the states of other alarms, with the fields of Ceilometer's."""

from dataclasses import dataclass
from typing import Any, ClassVar

from meterhouse.alarms.definitions.checker import Checker
from meterhouse.alarms.definitions.ids import id_of
from meterhouse.alarms.definitions.wanted import Wanted

OPERATORS = ("and", "or")


@dataclass(frozen=True)
class CombinationRule:
    """Joins the states of the alarms `alarm_ids`.

    In `alarms.yaml`, `alarms` names them by name; the ids of alarms of that file are made from the names.
    """

    TYPE: ClassVar = "combination"
    MEANING: ClassVar = "Joins the states of other alarms with `and` or `or`."

    alarm_ids: tuple[str, ...]
    operator: str = "and"

    meters: ClassVar[tuple[str, ...]] = ()

    def wanted(self) -> tuple[Wanted, ...]:
        """It looks at no points."""
        return ()

    @property
    def sentence(self) -> str:
        """The description of an alarm that has none, as Ceilometer words it."""
        return f"Combined state of alarms {f' {self.operator} '.join(self.alarm_ids)}"

    def as_dict(self) -> dict[str, Any]:
        """The rule as a definition writes it."""
        return {"operator": self.operator, "alarm_ids": list(self.alarm_ids)}

    @classmethod
    def read(cls, check: Checker) -> "CombinationRule":
        """The rule that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        check.keys({"operator", "alarm_ids", "alarms"})
        named = [*check.texts("alarm_ids"), *map(id_of, check.texts("alarms"))]
        ids = tuple(dict.fromkeys(named))
        if len(ids) < 2:
            raise check.fault(
                f"combines {len(ids)} alarm{'s' * (not ids)}",
                "Name at least two different alarms: their ids in `alarm_ids`, or in alarms.yaml their names in "
                "`alarms`",
            )
        return cls(ids, check.one_of("operator", OPERATORS, "and"))
