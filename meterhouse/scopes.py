"""Whose data a query may see. Each query takes a scope, so that none can be asked without one."""

from collections.abc import Iterable
from dataclasses import dataclass

from meterhouse.filters import Condition, Field, Fields, Filter, Match, Not, Or, all_of
from meterhouse.filters.fields import TRAITS

_NEVER: Condition = Or(())

_TRAITS: Fields = {f"{TRAITS}.": Field(TRAITS)}
"""Traits as texts: an id that looks like a number is no number."""


@dataclass(frozen=True)
class Scope:
    """Whose samples, meters and resources may be seen.

    Attributes:
        project_id: the project; None for all; empty for none at all.
    """

    project_id: str | None

    def condition(self, fields: Fields) -> Condition | None:
        """What has to hold of whatever may be seen; None if all may."""
        if self.project_id is None:
            return None
        return Filter("project_id", "eq", self.project_id, fields) if self.project_id else _NEVER

    def within(self, query: Iterable[Condition], fields: Fields) -> list[Condition]:
        """The conditions of a query, and that of this scope before them."""
        own = self.condition(fields)
        return [*([own] if own is not None else []), *query]


EVERYTHING = Scope(None)
"""What whoever can run commands on the site may see."""


@dataclass(frozen=True)
class EventScope:
    """Whose events may be seen: those whose traits `project_id` and `user_id` say so, as in Ceilometer 6.0.0.

    Attributes:
        project_id: the project; None for all; empty for none at all.
        user_id: the user; None for all of the project.
        without_project: whether events of no project may be seen as well.
    """

    project_id: str | None
    user_id: str | None = None
    without_project: bool = False

    def conditions(self) -> list[Condition]:
        """What has to hold of an event that may be seen."""
        if self.project_id is None:
            return []
        own = [_trait("project_id", self.project_id)] if self.project_id else [_NEVER]
        if self.user_id is not None:
            own.append(_trait("user_id", self.user_id) if self.user_id else _NEVER)
        if self.without_project:
            return [Or((all_of(own), Not(Match(f"{TRAITS}.project_id", "", fields=_TRAITS))))]
        return own


ALL_EVENTS = EventScope(None)


def _trait(name: str, value: str) -> Condition:
    return Filter(f"{TRAITS}.{name}", "eq", value, _TRAITS)
