"""Events of the lake, with their traits. Of compacted files, only the row groups are read that may have them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterhouse import times
from meterhouse.filters import Condition, all_of, on_lake
from meterhouse.scopes import EventScope
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.times import Span

if TYPE_CHECKING:
    import pyarrow as pa

    from meterhouse.stores.lake import Lake

ALWAYS: Final[Span] = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@retried
def events(
    site: Site,
    scope: EventScope,
    *,
    event_type: str | None = None,
    query: Sequence[Condition] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
) -> "pa.Table":
    """Events of a scope and a half-open span, newest first. All conditions of `query` hold; `event_type` is a glob.

    Returns:
        The columns message_id, event_type, generated (UTC) and traits: a list of name, dtype and value.
    """
    extra = Extra("event_type GLOB ?", (event_type,)) if event_type else NOTHING_EXTRA
    span = (start or ALWAYS[0], end or ALWAYS[1])
    return read_events(site.lake, all_of(scope.within(query, event_type)), span, extra, limit, newest_first=True)


class Extra(NamedTuple):
    """A condition of DuckDB's SQL, and the values of its parameters (`?`)."""

    sql: str
    values: Sequence[Any] = ()


NOTHING_EXTRA: Final = Extra("true")


def read_events(
    lake: "Lake", wanted: Condition, span: Span, extra: Extra, limit: int, *, newest_first: bool
) -> "pa.Table":
    """Events of a half-open span, in order of time and then of message_id; of each, the columns of `events`.

    Args:
        lake: the lake.
        wanted: a condition on EVENTS.
        span: of `generated`.
        extra: a further condition.
        limit: maximum number.
        newest_first: otherwise the oldest come first.

    Raises:
        Replaced: a file was replaced and deleted meanwhile.
        Damaged: a file cannot be read.
    """
    from meterhouse.queries.event_groups import COLUMNS, TABLE, look_up

    condition, values = on_lake(wanted)
    conditions = [condition, extra.sql]
    if span[0] > ALWAYS[0]:
        conditions.append(f"generated >= '{times.text(span[0])}'")
    if span[1] < ALWAYS[1]:
        conditions.append(f"generated < '{times.text(span[1])}'")
    columns = ", ".join(COLUMNS)
    found = look_up(lake, wanted, span)
    with lake.connect() as duck:
        sources = []
        if found.whole or found.events is None:
            lake.view(duck, TABLE, [f"{lake.uri(TABLE)}/{path}" for path in found.whole])
            sources.append(f"SELECT {columns} FROM {TABLE}")
        if found.events is not None:
            duck.register("events_of_groups", found.events)
            sources.append(f"SELECT {columns} FROM events_of_groups")
        order = f"generated {'DESC' if newest_first else 'ASC'}, message_id"
        return duck.sql(
            f"SELECT DISTINCT ON (generated, message_id) {columns} FROM ({' UNION ALL '.join(sources)}) "
            f"WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT {int(limit)}",
            params=[*values, *extra.values],
        ).to_arrow_table()
