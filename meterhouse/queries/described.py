"""Resource metadata of points: the lake has its id, the warehouse the metadata itself."""

from string import Template
from typing import TYPE_CHECKING

from sqlalchemy import select

from meterhouse import sql_files
from meterhouse.site import Site
from meterhouse.stores.duck import Connection
from meterhouse.stores.point_identity import identified
from meterhouse.stores.warehouse_tables import resource_metadata

if TYPE_CHECKING:
    import pyarrow as pa

IDS_AT_ONCE = 5_000
"""How many ids one query of the warehouse lists; databases bound the parameters of a query."""

OF_VERDICT = (
    "d.series_id = v.series_id AND d.timestamp = v.timestamp "
    "AND d.delta_id = CASE WHEN v.type = 'delta' THEN coalesce(v.sample_id, 0) ELSE 0 END "
    "AND d.level = CASE WHEN v.type = 'delta' THEN 0.0 ELSE v.volume END"
)
"""Which row `d` of `described` is that of the row `v` of `verdicts`."""


def describe_points(site: Site, duck: Connection) -> None:
    """Create the view `described`: each point of the view `points` that has resource metadata, with it.

    Its columns are series_id, timestamp, delta_id, level (see `sql/lake/described_points.sql`), metadata_id, and
    metadata (JSON text).
    """
    query = Template(sql_files.read("lake/described_points.sql")).substitute(points=identified("points"))
    duck.execute(f"CREATE OR REPLACE TEMP TABLE points_described AS {query}")
    distinct = duck.execute("SELECT DISTINCT metadata_id FROM points_described").fetchall()
    duck.register("snapshots", _snapshots(site, [row[0] for row in distinct]))
    duck.execute("CREATE OR REPLACE TEMP VIEW described AS FROM points_described JOIN snapshots USING (metadata_id)")


def _snapshots(site: Site, ids: list[int]) -> "pa.Table":
    """Metadata by id: the columns metadata_id and metadata."""
    import pyarrow as pa

    known: list[int] = []
    texts: list[str] = []
    with site.warehouse.read() as connection:
        for place in range(0, len(ids), IDS_AT_ONCE):
            some = resource_metadata.c.metadata_id.in_(ids[place : place + IDS_AT_ONCE])
            for metadata_id, text in connection.execute(select(resource_metadata).where(some)):
                known.append(metadata_id)
                texts.append(text)
    return pa.table({"metadata_id": pa.array(known, pa.int64()), "metadata": pa.array(texts, pa.string())})
