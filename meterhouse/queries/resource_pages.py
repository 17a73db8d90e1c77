"""Resources in pages, ordered by id, as those of their samples show them that a query asks for."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, func, select

from meterhouse.filters import Condition, Fields
from meterhouse.queries.resource_series import Asked, Owned, in_chunks, metadata_of, owned_spans
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_metadata, resources, series


@dataclass(frozen=True)
class Listed:
    """A resource, by its samples that a query asks for.

    Attributes:
        source, project_id, user_id: of the newest of them.
        resource_id: its id.
        first_sample_at, last_sample_at: when the first and the newest of them were measured; of good ones, if there
            are some.
        metadata: of the newest of them; None if it has none.
        meters: the names of its meters, in order, if they were asked for.
    """

    source: str
    resource_id: str
    project_id: str | None
    user_id: str | None
    first_sample_at: datetime
    last_sample_at: datetime
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
        scope: whose samples.
        fields: those of the conditions, of which `project_id` is one.
        query: conditions on samples; all have to hold. Metadata is that of the sample.
        start, end: half-open span of the samples.
        limit: maximum number of resources.
        after: the page starts after this id.
        meters: whether to list their meters.
        listed: whether it is a list, which leaves out what `meterhouse verify` has sent; or one resource by its id.
    """
    conditions = scope.within(query, fields) if listed else [*scope.owned(fields), *query]
    asked = Asked(site, conditions, start, end)
    found: list[Owned] = []
    while len(found) < limit:
        count = limit - len(found)
        with site.warehouse.read() as connection:
            ids = list(connection.execute(asked.ids(after, count)).scalars())
        found += _newest(asked, ids)
        if len(ids) < count:
            break
        after = ids[-1]
    return _listed(asked, scope.owned(fields), found, meters)


def _newest(asked: Asked, ids: Sequence[str]) -> list[Owned]:
    """The newest samples of resources, with the time of the first; those without any are left out."""
    owned = owned_spans(asked, ids) if asked.bounded else _owned(asked, ids)
    of_resource = defaultdict[str, list[Owned]](list)
    for each in owned:
        of_resource[each.resource_id].append(each)
    found = []
    for resource_id in ids:
        some = of_resource.get(resource_id, [])
        good = [each for each in some if each.good] or some
        if good:
            newest = max(good, key=lambda each: each.last)
            found.append(newest.since(min(each.first for each in good)))
    return found


_GROUPS: Final = ("source", "resource_id", "project_id", "user_id")


def _owned(asked: Asked, ids: Sequence[str]) -> list[Owned]:
    """The samples of resources by source and owner."""
    columns = series.c
    moments = (
        *(func.min(columns.first_seen), func.max(columns.last_seen)),
        *(func.min(columns.first_point_at), func.max(columns.last_point_at)),
    )
    keys = [columns[name] for name in _GROUPS]
    query: Select[Any] = select(*keys, *moments).where(asked.of_series).group_by(*keys)
    with asked.site.warehouse.read() as connection:
        rows = list(in_chunks(connection, query, columns.resource_id, ids))
    return [
        Owned(source, resource_id, project_id, user_id, first or first_point, last or last_point, last is not None)
        for source, resource_id, project_id, user_id, first, last, first_point, last_point in rows
    ]


def _listed(asked: Asked, seen: Sequence[Condition], found: Sequence[Owned], meters: bool) -> list[Listed]:
    """What resources are by their newest samples, with their meters that may be seen."""
    ids = [each.resource_id for each in found]
    now: Select[Any] = select(*(resources.c[name] for name in _GROUPS), resource_metadata.c.metadata).outerjoin_from(
        resources, resource_metadata, resource_metadata.c.metadata_id == resources.c.metadata_id
    )
    names = defaultdict[str, list[str]](list)
    with asked.site.warehouse.read() as connection:
        known = {tuple(row[:4]): row[4] for row in in_chunks(connection, now, resources.c.resource_id, ids)}
        if meters:
            own = Asked(asked.site, seen).of_series
            query: Select[Any] = select(series.c.resource_id, series.c.meter).where(own).distinct()
            for resource_id, meter in in_chunks(connection, query, series.c.resource_id, ids):
                names[resource_id].append(meter)
    past = [each for each in found if each.metadata_id is not None or asked.end is not None or each.key not in known]
    texts = metadata_of(asked.site, past)
    return [
        Listed(
            each.source,
            each.resource_id,
            each.project_id,
            each.user_id,
            each.first,
            each.last,
            json.loads(text) if (text := texts.get(each.resource_id, known.get(each.key))) else None,
            sorted(set(names[each.resource_id])),
        )
        for each in found
    ]
