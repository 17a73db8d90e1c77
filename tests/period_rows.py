"""Rows of `resource_periods` for tests of what reads them, as if events had told of everything."""

from datetime import datetime
from typing import Any

from builders import NOON
from sqlalchemy import insert

from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_periods


def put_period(
    site: Site,
    resource: str,
    start: datetime = NOON,
    end: datetime | None = None,
    *,
    type: str = "instance",
    project: str | None = "p1",
    **more: Any,
) -> None:
    """Insert a period; further columns are keywords."""
    row: dict[str, Any] = {
        "resource_type": type,
        "resource_id": resource,
        "started_at": start,
        "ended_at": end,
        "source": "openstack",
        "project_id": project,
        "state": "active",
        "start_witness": "event",
        "start_earliest": start,
        "start_latest": start,
        "end_earliest": end,
        "end_latest": end,
        "confirmed_until": end or start,
        "confirmed_by": "events",
        "unconfirmed": end is None,
    }
    with site.warehouse.begin() as connection:
        connection.execute(insert(resource_periods).values(**row | more))
