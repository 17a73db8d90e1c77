"""Values of the metadata of samples, for conditions on them."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sqlalchemy import ARRAY, BigInteger, ColumnElement, bindparam, func, select

from meterhouse.filters.lake import metadata_value
from meterhouse.garbage import gc_disabled
from meterhouse.sample_quality.series_table import Ints
from meterhouse.site import Site
from meterhouse.stores.bulk_read import raw_rows
from meterhouse.stores.duck import Connection, arrow
from meterhouse.stores.warehouse_tables import resource_metadata


def with_values(site: Site, duck: Connection, rows: pa.Table, ids: Ints, keys: Sequence[str]) -> pa.Table:
    """The rows with a column for each key, `k0`, `k1` and so on: the text of its value, null where there is none.

    Args:
        site: the site.
        duck: a connection.
        rows: any rows.
        ids: the id of the metadata of each, or one that the warehouse has not.
        keys: as conditions name them, without `metadata.`
    """
    distinct, of = np.unique(ids, return_inverse=True)
    duck.register("snapshots", _snapshots(site, distinct))
    values = ", ".join(f"{metadata_value(key)} AS k{number}" for number, key in enumerate(keys))
    found = arrow(duck, f"SELECT metadata_id, {values} FROM snapshots")
    duck.unregister("snapshots")
    known = found["metadata_id"].to_numpy()
    order = np.argsort(known)
    at = np.searchsorted(known[order], distinct)
    at = np.minimum(at, max(len(known) - 1, 0))
    there = known[order][at] == distinct if len(known) else np.zeros(len(distinct), np.bool_)
    place = order[at] if len(known) else at
    taken = pa.array(place[of], pa.int64(), mask=~there[of])
    for name in found.column_names[1:]:
        rows = rows.append_column(name, found[name].take(taken))
    return rows


def _snapshots(site: Site, ids: Ints) -> pa.Table:
    """Metadata by id: the columns metadata_id and metadata, JSON text."""
    columns = resource_metadata.c
    # A list of so many parameters takes longer to write and to parse than the answer.
    chosen: ColumnElement[bool]
    if site.warehouse.is_sqlite:
        wanted = select(func.json_each(json.dumps(ids.tolist())).table_valued("value").c.value)
        chosen = columns.metadata_id.in_(wanted)
    else:
        chosen = columns.metadata_id == func.any(bindparam("ids", ids.tolist(), ARRAY(BigInteger)))
    with site.warehouse.read() as connection, gc_disabled():
        rows = raw_rows(connection, select(columns.metadata_id, columns.metadata).where(chosen))
        known, texts = list(zip(*rows, strict=True)) or ((), ())
        return pa.table({"metadata_id": pa.array(known, pa.int64()), "metadata": pa.array(texts, pa.string())})
