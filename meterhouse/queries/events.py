"""Events of the lake, with their traits. Of compacted files, only the row groups are read that may have them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from meterhouse import times
from meterhouse.filters import Condition, all_of, on_lake
from meterhouse.scopes import EventScope
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried

if TYPE_CHECKING:
    import pyarrow as pa


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
    from meterhouse.queries.event_groups import COLUMNS, TABLE, look_up

    wanted = all_of(scope.within(query, event_type))
    condition, values = on_lake(wanted)
    conditions = [condition]
    if event_type:
        conditions.append("event_type GLOB ?")
        values.append(event_type)
    if start:
        conditions.append(f"generated >= '{times.text(start)}'")
    if end:
        conditions.append(f"generated < '{times.text(end)}'")
    span = (start or datetime.min.replace(tzinfo=UTC), end or datetime.max.replace(tzinfo=UTC))
    lake, columns = site.lake, ", ".join(COLUMNS)
    found = look_up(lake, wanted, span)
    with lake.connect() as duck:
        sources = []
        if found.whole or found.events is None:
            lake.view(duck, TABLE, [f"{lake.uri(TABLE)}/{path}" for path in found.whole])
            sources.append(f"SELECT {columns} FROM {TABLE}")
        if found.events is not None:
            duck.register("events_of_groups", found.events)
            sources.append(f"SELECT {columns} FROM events_of_groups")
        return duck.sql(
            f"SELECT DISTINCT ON (generated, message_id) {columns} FROM ({' UNION ALL '.join(sources)}) "
            f"WHERE {' AND '.join(conditions)} ORDER BY generated DESC, message_id LIMIT {int(limit)}",
            params=values,
        ).to_arrow_table()
