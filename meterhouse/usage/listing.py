"""Periods of resources, listed."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_periods
from meterhouse.verification import VERIFY

COLUMNS = tuple(resource_periods.c.keys())


def listed(
    site: Site,
    *,
    resource_id: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    types: Collection[str] = (),
    projects: Collection[str] = (),
    unconfirmed: bool = False,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """The periods that overlap a span, as rows of `resource_periods`, by type, resource and time; times are UTC.

    Args:
        site: the site.
        resource_id: only those of this resource.
        start, end: the span; None for no bound.
        types, projects: only these; none for all.
        unconfirmed: only those of resources that are known by events alone and have not ended.
        limit: at most this many.
    """
    p = resource_periods.c
    wanted = select(resource_periods).where(p.source != VERIFY)
    if resource_id is not None:
        wanted = wanted.where(p.resource_id == resource_id)
    if end is not None:
        wanted = wanted.where(p.started_at < end)
    if start is not None:
        wanted = wanted.where(or_(p.ended_at.is_(None), p.ended_at > start))
    if types:
        wanted = wanted.where(p.resource_type.in_(list(types)))
    if projects:
        wanted = wanted.where(p.project_id.in_(list(projects)))
    if unconfirmed:
        wanted = wanted.where(p.unconfirmed)
    wanted = wanted.order_by(p.resource_type, p.resource_id, p.started_at)
    with site.warehouse.read() as connection:
        return [dict(row) for row in connection.execute(wanted.limit(limit)).mappings()]
