"""Figures of the lake and the stream for the metadata of several assets."""

from typing import Any

import dagster as dg
import pyarrow.compute as pc
from sqlalchemy import select

from meterhouse import plots, times
from meterhouse.collection.lag import Lag
from meterhouse.definitions import derived_meters
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import derived_meters as made_of


def of_table(site: Site, name: str) -> dict[str, int]:
    """The number and total bytes of a lake table's live files."""
    actions = site.lake.actions(name)
    return {"files_in_lake": actions.num_rows, "bytes_in_lake": int(pc.sum(actions["size_bytes"]).as_py() or 0)}


def lag_seconds(site: Site, name: str, column: str) -> int:
    """Seconds from the newest value of a time column, by the files' statistics, to now; 0 for an empty table.

    Values in the future are ignored, because they do not show how far behind a table is.
    """
    actions = site.lake.actions(name)
    if f"max.{column}" not in actions.column_names:
        return 0
    newest = [value for value in actions[f"max.{column}"].to_pylist() if value is not None and value <= times.now()]
    return round((times.now() - max(newest)).total_seconds()) if newest else 0


def of_derived_meters(site: Site) -> str:
    """Markdown of what the derived meters of the site's file are made of, by the last points of each."""
    definitions = derived_meters.load(site.settings.config_dir).definitions
    query = select(made_of.c.meter, made_of.c.kind, made_of.c.made_of).order_by(made_of.c.meter)
    with site.warehouse.read() as connection:
        found = connection.execute(query).all()
    rows = [
        [f"`{text}`".replace("|", "\\|") for text in row]
        for row in found
        if any(each.may_make(row.meter) for each in definitions)
    ]
    return plots.table(["meter", "kind", "made of"], rows)


def of_lag(found: Lag) -> dict[str, Any]:
    """How far collection is behind: how much waits, for how long, and how long it takes to drain."""
    queues = [
        [queue.place, queue.messages, "" if queue.age_seconds is None else round(queue.age_seconds)]
        for queue in found.queues
    ]
    metadata: dict[str, Any] = {
        "messages_waiting": found.messages,
        "bytes_waiting": found.bytes,
        "oldest_waiting_seconds": round(found.age_seconds),
        "queues": dg.MetadataValue.md(plots.table(["queue", "messages", "oldest, s"], queues)),
    }
    if found.rate is not None:
        metadata["messages_per_second_taken"] = round(found.rate, 3)
    if found.drain_seconds is not None:
        metadata["seconds_to_drain"] = round(found.drain_seconds, 1)
    return metadata
