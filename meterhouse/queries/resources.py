"""Resources, as the warehouse knows them."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, exists, func, select

from meterhouse.errors import UnknownName
from meterhouse.filters import RESOURCES, Condition, Filter, Leaf, Match, all_of, on_warehouse
from meterhouse.filters.warehouse import compared, joined, metadata_value
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_history, resource_metadata, resources, series

_KNOWN = 1_000
"""How many resources an error looks at for near misses."""


def resource_list(site: Site, scope: Scope, limit: int = 100, query: Sequence[Condition] = ()) -> list[dict[str, Any]]:
    """Resources as their newest good sample shows them, the latest first; `metadata` is an object, or None.

    A resource has no times until its points were rolled up, nor as long as all of them are excluded.

    Args:
        site: the site.
        scope: whose resources.
        limit: maximum number of resources.
        query: conditions on RESOURCES; all of them have to hold.
    """
    wanted = joined(all_of(scope.within(query, RESOURCES)), lambda leaf: _compared(leaf, site.warehouse.is_sqlite))
    return _resources(site, [wanted], limit)


def _resources(site: Site, conditions: Sequence[ColumnElement[bool]], limit: int) -> list[dict[str, Any]]:
    found = (
        select(resources, resource_metadata.c.metadata)
        .outerjoin(resource_metadata, resource_metadata.c.metadata_id == resources.c.metadata_id)
        .where(*conditions)
        .order_by(resources.c.last_sample_at.desc().nulls_last(), resources.c.resource_id)
        .limit(limit)
    )
    with site.warehouse.read() as connection:
        rows = [{k: v for k, v in row._mapping.items() if k != "metadata_id"} for row in connection.execute(found)]
    return [{**row, "metadata": json.loads(row["metadata"]) if row["metadata"] else None} for row in rows]


def _compared(leaf: Leaf, sqlite: bool) -> ColumnElement[bool]:
    """When a comparison is met by `resources` and `resource_metadata`.

    A resource has many meters: `ne` and `!~` mean that it has no such one, the others that it has such a one.
    """
    target = leaf.target
    if target.column == "metadata":
        return compared(leaf, metadata_value(resource_metadata.c.metadata, target.key, sqlite))
    if target.column != "meter":
        return compared(leaf, resources.c[target.column])
    same = (series.c.source == resources.c.source, series.c.resource_id == resources.c.resource_id)
    match leaf:
        case Filter(op="ne"):
            return ~exists().where(*same, series.c.meter == leaf.operand)
        case Match(found=False):
            return ~exists().where(*same, series.c.meter.regexp_match(leaf.expression))
    return exists().where(*same, compared(leaf, series.c.meter))


def resource(site: Site, scope: Scope, resource_id: str, source: str | None = None) -> dict[str, Any]:
    """A resource as its newest good sample shows it; its `meters` have meter, type, unit, first_seen and last_seen.

    Args:
        source: which one, if several sources have a resource of this id; None for the one with the newest sample.

    Raises:
        UnknownName: there is no such resource; names near misses.
    """
    own = _seen(scope, resources)
    wanted = [resources.c.resource_id == resource_id, own]
    if source is not None:
        wanted.append(resources.c.source == source)
    found = _resources(site, wanted, 1)
    if not found:
        near = _near(site, scope, resource_id)
        raise UnknownName("resource", resource_id, near, hint="" if near else "`meterhouse resources` lists them")
    columns = [series.c[name] for name in ("meter", "type", "unit")]
    query = (
        select(
            *columns, func.min(series.c.first_seen).label("first_seen"), func.max(series.c.last_seen).label("last_seen")
        )
        .where(series.c.resource_id == resource_id, series.c.source == found[0]["source"], _seen(scope, series))
        .group_by(*columns)
        .order_by(*columns)
    )
    with site.warehouse.read() as connection:
        meters = [dict(row._mapping) for row in connection.execute(query)]
    return {**found[0], "meters": meters}


def history_of(site: Site, scope: Scope, resource_id: str, source: str) -> list[dict[str, Any]]:
    """What a resource was by time, by its good points that are rolled up, the oldest first.

    Each row has valid_from, valid_to (UTC; the latter is not within, and None in the last row), project_id, user_id and
    metadata, an object.
    """
    columns = [resource_history.c[name] for name in ("valid_from", "valid_to", "project_id", "user_id")]
    query = (
        select(*columns, resource_metadata.c.metadata)
        .outerjoin_from(
            resource_history, resource_metadata, resource_metadata.c.metadata_id == resource_history.c.metadata_id
        )
        .where(
            resource_history.c.resource_id == resource_id,
            resource_history.c.source == source,
            _seen(scope, resource_history),
        )
        .order_by(resource_history.c.valid_from)
    )
    with site.warehouse.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query)]
    return [{**row, "metadata": json.loads(row["metadata"]) if row["metadata"] else None} for row in rows]


def _seen(scope: Scope, table: Table) -> ColumnElement[bool]:
    return on_warehouse(all_of(scope.owned(RESOURCES)), lambda field: table.c[field.column])


def _near(site: Site, scope: Scope, resource_id: str) -> list[str]:
    """Resources whose ids hold the given one, or start as it does."""
    column = resources.c.resource_id
    like = column.contains(resource_id, autoescape=True) | column.startswith(resource_id[:4], autoescape=True)
    with site.warehouse.read() as connection:
        return list(
            connection.execute(select(column).where(like, _seen(scope, resources)).distinct().limit(_KNOWN)).scalars()
        )
