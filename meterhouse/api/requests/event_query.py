"""Simple queries for events: by type, id, time and traits.

Source: Ceilometer 6.0.0, `ceilometer/api/controllers/v2/events.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from meterhouse.api.answers.faults import invalid
from meterhouse.api.requests.simple_query import TYPES, Query, checked_equal, compared
from meterhouse.filters import EVENTS, Condition, Field, Fields
from meterhouse.filters.fields import TRAITS

START, END = "start_timestamp", "end_timestamp"

_TRAITS: Final[Fields] = {f"{TRAITS}.": Field(TRAITS, "loose")}
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class EventQuery:
    """What a simple query asks for.

    Attributes:
        conditions: on EVENTS, all of which have to hold.
        start, end: the half-open span of `generated`; None where it is open.
    """

    conditions: Sequence[Condition]
    start: datetime | None = None
    end: datetime | None = None


def event_query(queries: Iterable[Query]) -> EventQuery:
    """What the conditions of a client ask for. A field that is not the event's own is the name of a trait.

    Raises:
        Fault: one cannot be used: status 400.
    """
    own: dict[str, Condition] = {}
    traits: list[Condition] = []
    start = end = None
    for each in queries:
        if each.field == START:
            _check_bound(each, "ge")
            start = each.moment()
        elif each.field == END:
            _check_bound(each, "le")
            end = each.moment() + _MICROSECOND  # it is within
        elif each.field in ("event_type", "message_id"):
            checked_equal(each)
            own[each.field] = compared(each, EVENTS)
        else:
            traits.append(_trait(each))
    return EventQuery([*own.values(), *traits], start, end)


def _check_bound(query: Query, op: str) -> None:
    """Make sure that a bound of time has the operator that Panko wants, or eq, which Ceilometer 6.0.0 wants."""
    if query.op not in (op, "eq"):
        raise invalid("op", query.op, f"Unimplemented operator for {query.field}. Write {op}")


def _trait(query: Query) -> Condition:
    if query.type == "boolean":
        others = ", ".join(each for each in TYPES if each != "boolean")
        raise invalid("type", query.type, f"Traits have the types {others}")
    name = query.field.removeprefix(f"{TRAITS}.")
    return compared(Query(f"{TRAITS}.{name}", query.op, query.value, query.type), _TRAITS)
