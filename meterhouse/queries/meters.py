"""Meters: which ones there are, and from when to when they have points."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select

from meterhouse.errors import UnknownName
from meterhouse.filters import DIMENSIONS, SERIES, Condition, all_of, on_warehouse
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import series


def meter_list(site: Site, scope: Scope, query: Sequence[Condition] = ()) -> list[dict[str, Any]]:
    """A scope's meters by name: type, unit, number of series, and the times of the first and last good point.

    Args:
        site: the site.
        scope: whose meters.
        query: conditions on DIMENSIONS of the series that count; all of them have to hold.
    """
    listed = (
        select(
            series.c.meter,
            series.c.type,
            series.c.unit,
            func.count().label("series"),
            func.min(series.c.first_seen).label("first_seen"),
            func.max(series.c.last_seen).label("last_seen"),
        )
        .where(_met(scope.within(query, DIMENSIONS)))
        .group_by(series.c.meter, series.c.type, series.c.unit)
        .order_by(series.c.meter)
    )
    with site.warehouse.read() as connection:
        return [dict(row._mapping) for row in connection.execute(listed)]


def meter_span(site: Site, scope: Scope, meter: str) -> tuple[datetime, datetime]:
    """The times of a meter's first and last points, whether they are good or not.

    Raises:
        UnknownName: no series of the scope has this meter.
    """
    return site.kept.of_warehouse(("meter span", scope, meter), lambda: _span(site, scope, meter))


def _span(site: Site, scope: Scope, meter: str) -> tuple[datetime, datetime]:
    query = select(func.min(series.c.first_point_at), func.max(series.c.last_point_at)).where(
        series.c.meter == meter, _met(scope.owned(SERIES))
    )
    with site.warehouse.read() as connection:
        first, last = connection.execute(query).one()
        if first is None:
            listed = select(series.c.meter).where(_met(scope.within([], SERIES))).distinct()
            known = list(connection.execute(listed).scalars())
            raise UnknownName("meter", meter, known)
    return first, last


def _met(conditions: Sequence[Condition]) -> ColumnElement[bool]:
    return on_warehouse(all_of(conditions), lambda field: series.c[field.column])
