"""Resources in pages, ordered by id, and the meters of each."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select

from meterhouse.filters import Condition, Fields, Leaf, all_of, on_warehouse
from meterhouse.filters.fields import METADATA
from meterhouse.filters.warehouse import compared, joined, metadata_value
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_metadata, resources, series

IDS_AT_ONCE = 5_000
"""How many ids one query of the warehouse lists; databases bound the parameters of a query."""

_SHOWN = ("source", "resource_id", "project_id", "user_id", "first_sample_at", "last_sample_at")

Key = tuple[str, str]
"""A source and the id of a resource."""


@dataclass(frozen=True)
class Listed:
    """A resource, as its newest good sample shows it.

    Attributes:
        source, resource_id, project_id, user_id: whose it is.
        first_sample_at, last_sample_at: of its good samples; of all samples as long as none was rolled up.
        metadata: None if it has none.
        meters: the names of its meters, in order, if they were asked for.
    """

    source: str
    resource_id: str
    project_id: str | None
    user_id: str | None
    first_sample_at: datetime | None
    last_sample_at: datetime | None
    metadata: Mapping[str, Any] | None
    meters: Sequence[str] = ()


def resource_page(
    site: Site,
    scope: Scope,
    fields: Fields,
    *,
    query: Sequence[Condition] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
    after: str | None = None,
    meters: bool = True,
    listed: bool = True,
) -> list[Listed]:
    """Resources, ordered by id.

    Args:
        site: the site.
        scope: whose resources.
        fields: those of the conditions, of which `project_id` is one.
        query: conditions on what resources are now; all have to hold.
        start, end: only resources that have samples from before `end` on, and up to `start` or later.
        limit: about how many: those of one id, of several sources, are given together.
        after: the page starts after this id.
        meters: whether to list their meters.
        listed: whether it is a list, which leaves out what `meterhouse verify` has sent; or one resource by its id.
    """
    conditions = scope.within(query, fields) if listed else [*scope.owned(fields), *query]
    wanted = _wanted(site, conditions).where(*_within(start, end))
    if after is not None:
        wanted = wanted.where(resources.c.resource_id > after)
    found = wanted.order_by(resources.c.resource_id, resources.c.source).limit(limit + 1)
    with site.warehouse.read() as connection:
        rows = list(connection.execute(found).all())
        if len(rows) > limit:  # those of one id are given together
            last = rows[limit - 1].resource_id
            same = wanted.where(resources.c.resource_id == last).order_by(resources.c.source)
            rows = [*(row for row in rows[:limit] if row.resource_id != last), *connection.execute(same).all()]
        unseen = [row.resource_id for row in rows if row.last_sample_at is None]
        spans = {(source, of): (first, end) for source, of, first, end in _chunked(connection, _SPANS, unseen)}
        names = defaultdict[Key, list[str]](list)
        if meters:
            own = on_warehouse(all_of(scope.owned(fields)), lambda field: series.c[field.column])
            for source, of, meter in _chunked(connection, _METERS.where(own), [row.resource_id for row in rows]):
                names[source, of].append(meter)
    return [_listed(row, spans, names) for row in rows]


_SPANS = select(
    series.c.source, series.c.resource_id, func.min(series.c.first_point_at), func.max(series.c.last_point_at)
).group_by(series.c.source, series.c.resource_id)

_METERS = select(series.c.source, series.c.resource_id, series.c.meter).distinct()


def _chunked(connection: Connection, query: Select[Any], ids: Sequence[str]) -> Iterator[Any]:
    """The rows of a query of `series` for some resources; databases bound the parameters of a query."""
    for place in range(0, len(ids), IDS_AT_ONCE):
        yield from connection.execute(query.where(series.c.resource_id.in_(ids[place : place + IDS_AT_ONCE])))


def _listed(row: Any, spans: Mapping[Key, tuple[datetime, datetime]], names: Mapping[Key, list[str]]) -> Listed:
    key = (row.source, row.resource_id)
    first, last = spans.get(key, (row.first_sample_at, row.last_sample_at))
    metadata = json.loads(row.metadata) if row.metadata else None
    return Listed(*key, row.project_id, row.user_id, first, last, metadata, sorted(names.get(key, ())))


def _wanted(site: Site, conditions: Sequence[Condition]) -> Select[Any]:
    described = resource_metadata.c.metadata_id == resources.c.metadata_id

    def compare(leaf: Leaf) -> ColumnElement[bool]:
        target = leaf.target
        if target.column == METADATA:
            text = metadata_value(resource_metadata.c.metadata, target.key, site.warehouse.is_sqlite)
            return compared(leaf, text)
        return compared(leaf, resources.c[target.column])

    columns = [resources.c[name] for name in _SHOWN]
    joint = select(*columns, resource_metadata.c.metadata).outerjoin_from(resources, resource_metadata, described)
    return joint.where(joined(all_of(conditions), compare))


def _within(start: datetime | None, end: datetime | None) -> list[ColumnElement[bool]]:
    """Whether a resource has samples from both sides of a span, or in it."""
    of_resource, of_series = [], []
    if start is not None:
        of_resource.append(resources.c.last_sample_at >= start)
        of_series.append(series.c.last_point_at >= start)
    if end is not None:
        of_resource.append(resources.c.first_sample_at < end)
        of_series.append(series.c.first_point_at < end)
    if not of_resource:
        return []
    same = (series.c.source == resources.c.source, series.c.resource_id == resources.c.resource_id)
    unseen = and_(resources.c.last_sample_at.is_(None), exists().where(*same, *of_series))
    return [or_(and_(*of_resource), unseen)]
