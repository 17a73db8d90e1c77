"""Events in pages, oldest or newest first; one event; the types of events, and their traits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import cancelling
from meterhouse.filters import EVENTS, Condition, Filter, all_of, fields_of, on_lake
from meterhouse.filters.fields import TRAITS
from meterhouse.queries.event_groups import TABLE
from meterhouse.queries.events import ALWAYS, NOTHING_EXTRA, Extra, read_events
from meterhouse.scopes import EventScope
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_faults import retried
from meterhouse.times import Span

ROWS_AT_ONCE: Final = 200_000
"""About how many events are read together at first, if the order tells which are enough."""

_MILLISECOND: Final = timedelta(milliseconds=1)

Place = tuple[datetime, str]
"""When an event was generated, and its message_id."""


@dataclass(frozen=True)
class EventPage:
    """What is asked for.

    Attributes:
        scope: whose events.
        query: conditions on EVENTS; all of them have to hold.
        start, end: half-open span of `generated`.
        limit: maximum number of events.
        newest_first: otherwise the oldest come first; of one time, they are in order of message_id.
        after: leave out what comes before this event in the order, and itself.
    """

    scope: EventScope
    query: Sequence[Condition] = ()
    start: datetime | None = None
    end: datetime | None = None
    limit: int = 100
    newest_first: bool = False
    after: Place | None = None

    @property
    def span(self) -> Span:
        """The span in which its events are."""
        start, end = self.start or ALWAYS[0], self.end or ALWAYS[1]
        if self.after is None:
            return start, end
        if self.newest_first:
            return start, min(end, self.after[0] + timedelta(microseconds=1))
        return max(start, self.after[0]), end

    @property
    def extra(self) -> Extra:
        """That an event comes after `after`, of those of its time."""
        return NOTHING_EXTRA if self.after is None else Extra("(generated != ? OR message_id > ?)", self.after)


@retried
def event_page(site: Site, page: EventPage) -> pa.Table:
    """Events of a page: the columns message_id, event_type, generated (UTC), traits (name, dtype, value) and raw."""
    wanted = all_of(page.scope.within(page.query))
    found: list[pa.Table] = []
    count = 0
    for span in _parts(site.lake, page, wanted):
        if count >= page.limit:
            break
        cancelling.check()
        limit = page.limit - count
        found.append(read_events(site.lake, wanted, span, page.extra, limit, newest_first=page.newest_first))
        count += len(found[-1])
    return _with_raw(site.lake, pa.concat_tables(found)) if found else _with_raw(site.lake, _NONE)


def event_by_id(site: Site, scope: EventScope, message_id: str) -> dict[str, Any] | None:
    """An event, as a row of `event_page`; None if there is none."""
    page = EventPage(scope, [Filter("message_id", "eq", message_id, EVENTS)], limit=1)
    rows = event_page(site, page).to_pylist()
    return rows[0] if rows else None


_NONE: Final = pa.table(
    {
        "message_id": pa.array([], pa.string()),
        "event_type": pa.array([], pa.string()),
        "generated": pa.array([], pa.timestamp("us", "UTC")),
        "traits": pa.array([], pa.list_(pa.struct([(name, pa.string()) for name in ("name", "dtype", "value")]))),
    }
)


def _parts(lake: Lake, page: EventPage, wanted: Condition) -> Iterator[Span]:
    """The span in parts, in order, so that the first ones often suffice; whole if traits say which events they are."""
    start, end = page.span
    if any(field.column == TRAITS for field in fields_of(wanted)):
        yield start, end
        return
    files = lake.matching(TABLE, overlapping=("generated", [(start, end)]))
    if "min.generated" not in files.column_names:
        yield start, end
        return
    side = "max.generated" if page.newest_first else "min.generated"
    order = pc.sort_indices(files, [(side, "descending" if page.newest_first else "ascending")])
    edges, rows = files[side].take(order).to_pylist(), files["num_records"].take(order).to_pylist()
    if None in edges:
        yield start, end
        return
    begun, size, count = (end if page.newest_first else start), ROWS_AT_ONCE, 0
    for edge, more in zip(edges, rows, strict=True):
        if count >= size:
            if page.newest_first and start < edge + _MILLISECOND < begun:  # Delta cuts bounds
                yield edge + _MILLISECOND, begun
                begun, size, count = edge + _MILLISECOND, size * 4, 0
            elif not page.newest_first and begun < edge < end:
                yield begun, edge
                begun, size, count = edge, size * 4, 0
        count += more or 0
    yield (start, begun) if page.newest_first else (begun, end)


def _with_raw(lake: Lake, events: pa.Table) -> pa.Table:
    """The events with the column raw: the notification, JSON text, if it is kept; otherwise null."""
    texts: dict[str, str] = {}
    if len(events):
        bounds = pc.min_max(events["generated"]).as_py()
        files = lake.matching(TABLE, overlapping=("generated", [(bounds["min"], bounds["max"] + _MILLISECOND)]))
        if "null_count.raw" in files.column_names:
            kept = pc.less(files["null_count.raw"].cast(pa.int64()), files["num_records"].cast(pa.int64()))
            files = files.filter(pc.fill_null(kept, True))
        if len(files):
            ids = events["message_id"].to_pylist()
            with lake.connect() as duck:
                lake.view(duck, TABLE, [f"{lake.uri(TABLE)}/{path}" for path in files["path"].to_pylist()])
                query = (
                    f"SELECT message_id, raw FROM {TABLE} WHERE raw IS NOT NULL AND message_id IN (SELECT unnest(?))"
                )
                texts = dict(duck.execute(query, [ids]).fetchall())
    raw = [texts.get(each) for each in events["message_id"].to_pylist()]
    return events.append_column("raw", pa.array(raw, pa.string()))


@retried
def event_types(site: Site, scope: EventScope) -> list[str]:
    """The different types of events, in order."""
    return [row[0] for row in _asked(site, scope, "SELECT DISTINCT event_type FROM events WHERE {} ORDER BY 1")]


@retried
def traits_of(site: Site, scope: EventScope, event_type: str) -> list[tuple[str, str]]:
    """The different traits of the events of a type: names and dtypes, in order."""
    of_type = Filter("event_type", "eq", event_type, EVENTS)
    query = "SELECT DISTINCT t.name, t.dtype FROM (SELECT unnest(traits) AS t FROM events WHERE {}) ORDER BY ALL"
    return _asked(site, scope, query, of_type)


@retried
def trait_values(site: Site, scope: EventScope, event_type: str, name: str, limit: int) -> list[tuple[str, str, str]]:
    """A trait of the events of a type, oldest first: name, dtype and value of each."""
    of_type = Filter("event_type", "eq", event_type, EVENTS)
    query = (
        "SELECT t.name, t.dtype, t.value FROM (SELECT generated, message_id, unnest(traits) AS t FROM "
        "(SELECT DISTINCT ON (generated, message_id) generated, message_id, traits FROM events WHERE {})) "
        f"WHERE t.name = ? ORDER BY generated, message_id LIMIT {int(limit)}"
    )
    return _asked(site, scope, query, of_type, name)


def _asked(site: Site, scope: EventScope, query: str, *more: Any) -> list[Any]:
    """The rows of a query of `events`; `{}` stands for the conditions, and texts that follow them are parameters."""
    condition, values = on_lake(all_of(scope.within([each for each in more if not isinstance(each, str)])))
    with site.lake.connect() as duck:
        site.lake.view(duck, TABLE, site.lake.files(TABLE))
        texts = [each for each in more if isinstance(each, str)]
        return duck.execute(query.format(condition), [*values, *texts]).fetchall()
