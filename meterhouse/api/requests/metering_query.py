"""Simple queries for samples, meters, resources and statistics: what can be queried, and the span of time.

Source: Ceilometer 6.0.0, `ceilometer/api/controllers/v2/utils.py`. Of conditions on one field, the last counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from meterhouse.api.access.identity import Identity
from meterhouse.api.answers.faults import invalid, not_authorized, unknown_argument
from meterhouse.api.requests.simple_query import Query, checked_equal, equal, latest, with_field
from meterhouse.filters import Condition, Field, Fields
from meterhouse.filters.fields import METADATA
from meterhouse.times import EPOCH

OWNERS: Final[Fields] = {
    "user": Field("user_id"),
    "user_id": Field("user_id"),
    "project": Field("project_id"),
    "project_id": Field("project_id"),
    "resource": Field("resource_id"),
    "resource_id": Field("resource_id"),
    "source": Field("source"),
    f"{METADATA}.": Field(METADATA, "loose"),
    f"resource_{METADATA}.": Field(METADATA, "loose"),
}
"""What meters and resources can be queried by."""

MEASURES: Final[Fields] = {**OWNERS, "meter": Field("meter"), "message_id": Field("message_id")}
"""What samples and statistics can be queried by."""

TIMESTAMP, OFFSET = "timestamp", "search_offset"

MAX_OFFSET: Final = 10 * 366 * 24 * 60
"""Maximum search_offset, in minutes."""

Asked = tuple[datetime | None, datetime | None]
"""The start and the end that were asked for."""

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Metering:
    """What a simple query asks for.

    Attributes:
        conditions: all of which have to hold.
        start, end: the half-open span of event time, UTC; None where it is open. It is widened by `search_offset`.
        anchor: its start as it was asked for, widened: a period starts there.
        asked: its start and end as they were asked for, not widened.
    """

    conditions: Sequence[Condition]
    start: datetime | None = None
    end: datetime | None = None
    anchor: datetime | None = None
    asked: Asked = (None, None)


def metering_query(queries: Iterable[Query], identity: Identity, fields: Fields, *, timed: bool = True) -> Metering:
    """What the conditions of a client ask for.

    Args:
        queries: in order.
        identity: who asks.
        fields: those that can be queried.
        timed: whether there is a time to query by.

    Raises:
        Fault: one cannot be used (status 400), or names a project that the caller may not see (401).
    """
    plain: list[Query] = []
    span = _Span()
    for each in queries:
        if each.field not in (TIMESTAMP, OFFSET):
            plain.append(each)
        elif timed:
            span.add(each)
        else:
            raise unknown_argument(each.field, "not valid for this resource. Query samples or statistics by time")
    others = (TIMESTAMP, OFFSET) if timed else ()
    for each in plain:
        check_project(each, with_field(each.field, fields, others), identity)
    return Metering([equal(each, fields) for each in latest(plain, partial(_name, fields=fields))], *span.found())


def check_project(query: Query, target: Field, identity: Identity) -> None:
    """Make sure that a condition names no other project than the caller's own.

    Raises:
        Fault: it does: status 401.
    """
    own = identity.scope.project_id
    if target.column == "project_id" and own is not None and query.value != own:
        raise not_authorized(query.value)


def _name(name: str, fields: Fields) -> str:
    target = with_field(name, fields)
    return f"{target.column}.{target.key}"


@dataclass
class _Span:
    """The span of time that conditions say; of several starts or ends, the last one counts."""

    first: Query | None = None
    last: Query | None = None
    minutes: int = 0

    def add(self, query: Query) -> None:
        if query.field == OFFSET:
            self.minutes = _minutes(query)
        elif query.op in ("gt", "ge"):
            self.first = query
        elif query.op in ("lt", "le"):
            self.last = query
        else:
            raise invalid("op", query.op, "Unimplemented operator for timestamp. Write lt, le, gt or ge")

    def found(self) -> tuple[datetime | None, datetime | None, datetime | None, Asked]:
        """The attributes of `Metering` but the conditions."""
        first, last = (None if each is None else each.moment() for each in (self.first, self.last))
        asked = (first, last)
        if self.minutes and first is None and last is None:
            raise invalid("field", OFFSET, "It cannot be used without timestamp. Query by timestamp too")
        first = None if first is None else _moved(first, -self.minutes)
        last = None if last is None else _moved(last, self.minutes)
        start = first + _MICROSECOND if first is not None and self.first and self.first.op == "gt" else first
        end = last + _MICROSECOND if last is not None and self.last and self.last.op == "le" else last
        return start, end, first, asked


def _minutes(query: Query) -> int:
    checked_equal(query)
    text = query.value.strip()
    if not (text.isascii() and text.isdecimal()) or int(text[:12]) > MAX_OFFSET:
        raise invalid(OFFSET, query.value, f"Write 0 to {MAX_OFFSET:,} minutes")
    return int(text)


def _moved(moment: datetime, minutes: int) -> datetime:
    """A time some minutes later; the first or the last one that there is if it would be beyond."""
    try:
        return max(moment + timedelta(minutes=minutes), EPOCH)
    except OverflowError:
        return moment
