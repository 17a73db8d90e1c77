"""Which series of new samples the catalog knows, and the times of their first and last points.

Mostly all series are known, and each has a further point a minute. So their texts are not sent to the warehouse, and
`last_point_at` is written once an hour: it is a time in the hour of the last point. Of the series of a meter that have
the newest point, one has its exact time, so that the latest of a meter is exact.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from meterhouse import sql_files
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.lake_tables import TIME

_HOUR = 3_600_000_000


def unknown(connection: Connection, runs: pa.Table) -> pa.Table:
    """The runs of series that are not in the catalog yet. Of the others, the times of the points are written.

    Args:
        connection: the warehouse, in a transaction that no other can add series beside.
        runs: of new samples, see `arrivals.runs`.
    """
    if not runs.num_rows:
        return runs
    for name, more in (("came", ""), ("outside", ", series_id AS unknown")):
        connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
        columns = f"series_id, first_point_at, last_point_at{more}"
        connection.execute(text(f"CREATE TEMP TABLE {name} AS SELECT {columns} FROM series WHERE 1 = 0"))
    bulk_insert(connection, "came", _came(runs))
    new: list[int] = []
    if connection.execute(text(sql_files.read("warehouse/catalog/outside.sql"))).rowcount:
        new += connection.execute(text("SELECT series_id FROM outside WHERE unknown = 1")).scalars()
        connection.execute(text(sql_files.read("warehouse/catalog/times.sql")))
    for name in ("came", "outside"):
        connection.execute(text(f"DROP TABLE {name}"))
    return runs.filter(pa.array(np.isin(np.asarray(runs["series_id"]), np.array(new, np.int64))))


def _came(runs: pa.Table) -> pa.Table:
    """The series of runs with the times of their first and last points.

    The last one is exact for a series of each meter that has the meter's newest point, and else the start of its hour.
    """
    spans = runs.group_by("series_id").aggregate([("first_at", "min"), ("last_at", "max")]).sort_by("series_id")
    series_id, last = np.asarray(spans["series_id"]), np.asarray(spans["last_at_max"].cast(pa.int64()))
    last = np.where(np.isin(series_id, _newest(runs)), last, last // _HOUR * _HOUR)
    columns = {"series_id": spans["series_id"], "first_point_at": spans["first_at_min"]}
    return pa.table({**columns, "last_point_at": pa.array(last).cast(TIME)})


def _newest(runs: pa.Table) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """A series of each meter that has the meter's newest point."""
    meter = runs["meter"].combine_chunks()
    codes = np.asarray((meter if pa.types.is_dictionary(meter.type) else meter.dictionary_encode()).indices)
    order = np.lexsort((np.asarray(runs["last_at"].cast(pa.int64())), codes))
    last = np.append(codes[order][1:] != codes[order][:-1], True)
    found: np.ndarray[Any, np.dtype[np.int64]] = np.asarray(runs["series_id"])[order[last]]
    return found
