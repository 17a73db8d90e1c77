"""Figures of the lake that several assets show."""

import pyarrow.compute as pc

from meterhouse import times
from meterhouse.site import Site


def of_table(site: Site, name: str) -> dict[str, int]:
    """A lake table's live files and bytes."""
    actions = site.lake.actions(name)
    return {"files_in_lake": actions.num_rows, "bytes_in_lake": int(pc.sum(actions["size_bytes"]).as_py() or 0)}


def lag_seconds(site: Site, name: str, column: str) -> int:
    """Seconds from the newest value of a time column, by the files' statistics, to now; 0 in an empty table.

    Values of the future are passed over: they say nothing about how far behind a table is.
    """
    actions = site.lake.actions(name)
    if f"max.{column}" not in actions.column_names:
        return 0
    newest = [value for value in actions[f"max.{column}"].to_pylist() if value is not None and value <= times.now()]
    return round((times.now() - max(newest)).total_seconds()) if newest else 0
