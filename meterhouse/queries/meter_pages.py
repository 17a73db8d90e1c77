"""The meters of resources, in pages: each meter, type, unit and resource once, as its newest good sample shows it."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from meterhouse.filters import Condition, Fields, Leaf, all_of, fields_of
from meterhouse.filters.fields import METADATA
from meterhouse.filters.warehouse import compared, joined, metadata_value
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import metadata_changes, resource_metadata, series

Place = tuple[str, str | None]
"""A meter and the resource that has it; of no resource, None."""

_SHOWN = ("meter", "type", "unit", "resource_id", "project_id", "user_id", "source")


def meter_page(
    site: Site,
    scope: Scope,
    fields: Fields,
    *,
    query: Sequence[Condition] = (),
    limit: int = 100,
    after: Place | None = None,
) -> list[dict[str, Any]]:
    """Meters of resources, ordered by meter and resource; those without a resource come last.

    Args:
        site: the site.
        scope: whose series.
        fields: those of the conditions, of which `project_id` is one.
        query: conditions that all have to hold: each on columns of `series`, or on metadata. The metadata is what came
            with any good sample that is rolled up; it meets all conditions on metadata.
        limit: about how many: all of one meter and resource are given together.
        after: the page starts after these.

    Returns:
        meter, type, unit, resource_id, project_id, user_id and source of each. If several series are of one meter,
        type, unit and resource, such as those of two owners, it is the one with the newest good point.
    """
    wanted = _wanted(site, scope.within(query, fields))
    found: list[dict[str, Any]] = []
    if after is None or after[1] is not None:
        found = _page(site, wanted.where(series.c.resource_id.is_not(None)), limit, after)
    if len(found) < limit:
        since = after if after is not None and after[1] is None else None
        found += _page(site, wanted.where(series.c.resource_id.is_(None)), limit - len(found), since)
    return found


def distinct_meters(
    site: Site,
    scope: Scope,
    fields: Fields,
    *,
    query: Sequence[Condition] = (),
    limit: int = 100,
    after: str | None = None,
) -> list[dict[str, Any]]:
    """The different meters, types and units, ordered by them; arguments as of `meter_page`.

    Returns:
        meter, type and unit of each.
    """
    columns = (series.c.meter, series.c.type, series.c.unit)
    wanted = _wanted(site, scope.within(query, fields)).with_only_columns(*columns).distinct()
    if after is not None:
        wanted = wanted.where(series.c.meter > after)
    with site.warehouse.read() as connection:
        rows = connection.execute(wanted.order_by(*columns).limit(limit + 1)).all()
        if len(rows) > limit:  # all of one meter are given together
            last = rows[limit - 1].meter
            rest = connection.execute(wanted.where(series.c.meter == last).order_by(*columns)).all()
            rows = [*(row for row in rows[:limit] if row.meter != last), *rest]
    return [dict(row._mapping) for row in rows]


def _wanted(site: Site, conditions: Sequence[Condition]) -> Select[Any]:
    def compare(leaf: Leaf) -> ColumnElement[bool]:
        target = leaf.target
        if target.column == METADATA:
            text = metadata_value(resource_metadata.c.metadata, target.key, site.warehouse.is_sqlite)
            return compared(leaf, text)
        return compared(leaf, series.c[target.column])

    by_metadata = [each for each in conditions if METADATA in {field.column for field in fields_of(each)}]
    others = [each for each in conditions if each not in by_metadata]
    wanted = select(*(series.c[name] for name in _SHOWN)).where(joined(all_of(others), compare))
    if not by_metadata:
        return wanted
    met = select(resource_metadata.c.metadata_id).where(joined(all_of(by_metadata), compare))
    came = select(metadata_changes.c.series_id).where(metadata_changes.c.metadata_id.in_(met))
    return wanted.where(series.c.series_id.in_(came))


def _page(site: Site, wanted: Select[Any], limit: int, after: Place | None) -> list[dict[str, Any]]:
    columns = series.c
    if after is not None:
        meter, resource_id = after
        later = and_(columns.meter == meter, columns.resource_id > resource_id) if resource_id is not None else None
        wanted = wanted.where(columns.meter > meter if later is None else or_(columns.meter > meter, later))
    # Whatever of them the index has in order is read as far as it is needed.
    ordered = wanted.order_by(
        columns.meter,
        columns.resource_id,
        columns.type,
        columns.unit,
        columns.last_seen.desc().nulls_last(),
        columns.last_point_at.desc(),
        columns.series_id,
    )
    size = 2 * limit + 20
    while True:
        with site.warehouse.read() as connection:
            rows = connection.execute(ordered.limit(size)).all()
        found = list(_first_ones(rows, limit))
        if len(rows) < size or (found and rows[-1][:4] != found[-1][0] and len(found) >= limit):
            break
        size *= 4
    return [dict(zip(_SHOWN, row, strict=True)) for _, row in found]


def _first_ones(rows: Sequence[Any], limit: int) -> Iterator[tuple[Any, Any]]:
    """The first row of each meter, type, unit and resource, and which these are; up to a whole meter and resource."""
    count = 0
    for _, of_place in groupby(rows, lambda row: (row.meter, row.resource_id)):
        if count >= limit:
            return
        for key, some in groupby(of_place, lambda row: row[:4]):
            count += 1
            yield key, next(some)
