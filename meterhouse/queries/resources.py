"""Resources, as the warehouse knows them."""

from typing import Any

from sqlalchemy import select

from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_metadata, resources


def resource_list(site: Site, limit: int = 100) -> list[dict[str, Any]]:
    """Resources as their newest sample shows them, the latest first."""
    query = (
        select(resources, resource_metadata.c.metadata)
        .outerjoin(resource_metadata, resource_metadata.c.metadata_id == resources.c.metadata_id)
        .order_by(resources.c.last_sample_at.desc(), resources.c.resource_id)
        .limit(limit)
    )
    with site.warehouse.read() as connection:
        return [{k: v for k, v in row._mapping.items() if k != "metadata_id"} for row in connection.execute(query)]
