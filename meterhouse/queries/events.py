"""Events of the lake, with their traits."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from meterhouse import times
from meterhouse.filters import Condition, all_of, on_lake
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried

if TYPE_CHECKING:
    import pyarrow as pa


@retried
def events(
    site: Site,
    *,
    event_type: str | None = None,
    query: Sequence[Condition] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
) -> "pa.Table":
    """Events of a half-open span, newest first; `event_type` is a glob, and all conditions of `query` have to hold."""
    condition, values = on_lake(all_of(query))
    conditions = [condition]
    if event_type:
        conditions.append("event_type GLOB ?")
        values.append(event_type)
    if start:
        conditions.append(f"generated >= '{times.text(start)}'")
    if end:
        conditions.append(f"generated < '{times.text(end)}'")
    with site.lake.connect() as duck:
        span = (start or datetime.min.replace(tzinfo=UTC), end or datetime.max.replace(tzinfo=UTC))
        site.lake.view(duck, "events", site.lake.files("events", overlapping=("generated", [span])))
        return duck.sql(
            "SELECT DISTINCT ON (generated, message_id) message_id, event_type, generated, traits FROM events "
            f"WHERE {' AND '.join(conditions)} ORDER BY generated DESC, message_id LIMIT {int(limit)}",
            params=values,
        ).to_arrow_table()
