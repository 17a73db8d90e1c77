"""Values of the metadata of samples, for conditions on them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sqlalchemy import select

from meterhouse.filters.lake import metadata_value
from meterhouse.sample_quality.series_table import Ints
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow
from meterhouse.stores.warehouse_tables import resource_metadata

IDS_AT_ONCE = 5_000
"""How many ids one query of the warehouse lists; databases bound the parameters of a query."""


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
    known: list[int] = []
    texts: list[str] = []
    columns = resource_metadata.c
    with site.warehouse.read() as connection:
        for place in range(0, len(ids), IDS_AT_ONCE):
            some = columns.metadata_id.in_(ids[place : place + IDS_AT_ONCE].tolist())
            for metadata_id, text in connection.execute(select(resource_metadata).where(some)):
                known.append(metadata_id)
                texts.append(text)
    return pa.table({"metadata_id": pa.array(known, pa.int64()), "metadata": pa.array(texts, pa.string())})
