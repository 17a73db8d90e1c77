"""Converts arrival hours again: what they yield and `samples` or `events` lack is added, and nothing twice.

An event is recognised by its notification's message_id, and a sample by what identifies its point, because a compacted
hour has no ids of gauges and counters. So the rows that are there already are recognised, whichever conversion made
them.
"""

from collections.abc import Callable, Iterable

import pyarrow as pa

from meterhouse.conversion.convert import Converted, Converter
from meterhouse.site import Site
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.leases import Lease
from meterhouse.stores.point_identity import missing

NOTIFICATIONS_AT_ONCE = 20_000

_MISSING_EVENTS = """
SELECT min(_row) AS _row FROM numbered ANTI JOIN present USING (message_id) GROUP BY message_id
"""


def convert_hours(
    site: Site,
    lease: Lease,
    converter: Converter,
    hours: Iterable[str],
    tables: Iterable[str],
    keep: Callable[[pa.Table, Converted], None],
) -> dict[str, int]:
    """Convert the notifications of arrival hours, and append the rows that the tables lack.

    Args:
        site: the site.
        lease: that of the step `convert`.
        converter: the converter; its definitions are the present ones.
        hours: arrival hours.
        tables: `samples`, `events` or both.
        keep: called with each piece of notifications and what they yield, before it is appended.

    Returns:
        How many rows each table lacked.

    Raises:
        Damaged: a file of `notifications` or of a table cannot be read.
    """
    tables = list(tables)
    added = dict.fromkeys(tables, 0)
    for hour in sorted(hours):
        for notifications in site.lake.pieces("notifications", {"arrival_hour": [hour]}, NOTIFICATIONS_AT_ONCE):
            made = converter.convert(notifications)
            keep(notifications, made)
            for name, rows in (("samples", made.samples), ("events", made.events)):
                if name in tables:
                    missing = missing_rows(site.lake, name, hour, rows)
                    if missing.num_rows:
                        site.lake.append(name, missing, lease=lease)
                    added[name] += missing.num_rows
    return added


@retried
def missing_rows(lake: Lake, name: str, hour: str, rows: pa.Table) -> pa.Table:
    """The rows that an arrival hour of a table does not have yet, each once."""
    if rows.num_rows == 0:
        return rows
    with lake.connect() as duck:
        lake.view(duck, name, lake.files(name, partitions={"arrival_hour": [hour]}), view="present")
        duck.register("numbered", rows.append_column("_row", pa.array(range(rows.num_rows), pa.int64())))
        query = missing("numbered", "present") if name == "samples" else _MISSING_EVENTS
        found = arrow(duck, f"SELECT _row FROM ({query}) ORDER BY _row")
    return rows.take(found["_row"])
