"""Whose data a query may see. Each query takes a scope, so that none can be asked without one.

What `meterhouse verify` sent is seen by a query that names it, see `verification`. All others leave it out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from meterhouse.filters import EVENTS, Condition, Field, Fields, Filter, Not, OneOf, Or, all_of
from meterhouse.filters.conditions import leaves_of, uncounted
from meterhouse.filters.fields import TRAITS
from meterhouse.verification import VERIFY, VERIFY_EVENT

_NEVER: Condition = uncounted(Or(()))

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
        return uncounted(Filter("project_id", "eq", self.project_id, fields)) if self.project_id else _NEVER

    def owned(self, fields: Fields) -> list[Condition]:
        """The conditions for what is asked for by its name or id."""
        own = self.condition(fields)
        return [own] if own is not None else []

    def within(self, query: Iterable[Condition], fields: Fields) -> list[Condition]:
        """The conditions of a query and those of this scope before them, for a list or a figure made of many."""
        asked = list(query)
        left_out = [] if names_verify(asked) else [uncounted(Not(Filter("source", "eq", VERIFY, fields)))]
        return [*self.owned(fields), *left_out, *asked]


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
            own = [Or((all_of(own), Not(Filter(f"{TRAITS}.project_id", "ge", "", _TRAITS))))]
        return [uncounted(each) for each in own]

    def within(self, query: Iterable[Condition], event_type: str | None = None) -> list[Condition]:
        """The conditions of a query and those of this scope before them.

        Args:
            query: conditions on EVENTS.
            event_type: the glob that the query has for event types, if any.
        """
        asked = list(query)
        named = (event_type or "").startswith(VERIFY_EVENT) or _names_event(asked)
        left_out = [] if named else [uncounted(Not(Filter("event_type", "eq", VERIFY_EVENT, EVENTS)))]
        return [*self.conditions(), *left_out, *asked]


ALL_EVENTS = EventScope(None)


def names_verify(query: Iterable[Condition]) -> bool:
    """Whether a query compares the source with that of `meterhouse verify`."""
    return any(VERIFY in _compared_with(condition, "source") for condition in query)


def leaves_out_verify(condition: Condition) -> bool:
    """Whether a condition does nothing but leave out what `meterhouse verify` sent."""
    return isinstance(condition, Not) and condition.part == _OF_VERIFY


_OF_VERIFY: Condition = Filter("source", "eq", VERIFY)


def _names_event(query: Iterable[Condition]) -> bool:
    """Whether a query on EVENTS names the type of the event of `meterhouse verify`, or the id of one event."""
    conditions = list(query)
    types = (VERIFY_EVENT in _compared_with(each, "event_type") for each in conditions)
    return any(types) or any(isinstance(each, Filter) and each.target.column == "message_id" for each in conditions)


def _compared_with(condition: Condition, column: str) -> set[str]:
    """The texts that a condition compares a column with."""
    found: set[str] = set()
    for leaf in leaves_of(condition):
        if leaf.target.column == column:
            match leaf:
                case Filter(value=value):
                    found.add(value)
                case OneOf(among=among):
                    found.update(among)
    return found


def _trait(name: str, value: str) -> Condition:
    return Filter(f"{TRAITS}.{name}", "eq", value, _TRAITS)
