"""The series of resources that a query for resources is about, and when their samples fulfil it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import numpy as np
from sqlalchemy import Column, ColumnElement, CompoundSelect, Connection, Select, func, select

from meterhouse.filters import And, Condition, all_of, fields_of, on_warehouse
from meterhouse.filters.fields import METADATA
from meterhouse.filters.warehouse import metadata_value
from meterhouse.queries.seen_within import seen_within
from meterhouse.queries.snapshots import Snapshots
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import metadata_changes, resource_metadata, resources, series
from meterhouse.times import EPOCH

IDS_AT_ONCE: Final = 5_000
"""How many ids one query of the warehouse lists; databases bound the parameters of a query."""

_BEFORE, _AFTER = EPOCH, datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Owned:
    """Samples of a resource that have one source and one owner.

    Attributes:
        source, resource_id, project_id, user_id: of the samples.
        first, last: when the first and the last of them were measured.
        good: whether these are known to be good.
        metadata_id: of the last one, if it is known.
        series_id: of the last one, if it is known.
    """

    source: str
    resource_id: str
    project_id: str | None
    user_id: str | None
    first: datetime
    last: datetime
    good: bool = True
    metadata_id: int | None = None
    series_id: int | None = None

    @property
    def key(self) -> tuple[str, str, str | None, str | None]:
        """Whose samples they are."""
        return self.source, self.resource_id, self.project_id, self.user_id

    def since(self, first: datetime) -> "Owned":
        """These, with another first time."""
        return replace(self, first=first)


@dataclass
class Asked:
    """What samples a query for resources asks for.

    Attributes:
        site: the site.
        conditions: all of which have to hold.
        start, end: half-open span of event time; None where it is open.
    """

    site: Site
    conditions: Sequence[Condition]
    start: datetime | None = None
    end: datetime | None = None

    @property
    def bounded(self) -> bool:
        """Whether the times of a series' samples that fulfil it are not those of all of its samples."""
        return self.start is not None or self.end is not None or bool(self.of_metadata)

    @cached_property
    def of_metadata(self) -> list[Condition]:
        """Those of the conditions that are on metadata, and on nothing else."""
        return [each for each in self._parts if METADATA in {target.column for target in fields_of(each)}]

    @cached_property
    def _parts(self) -> list[Condition]:
        whole = all_of(self.conditions)
        return list(whole.parts) if isinstance(whole, And) else [whole]

    @cached_property
    def of_series(self) -> ColumnElement[bool]:
        """Which series fulfil the conditions on what they are made from."""
        parts = [each for each in self._parts if each not in self.of_metadata]
        return on_warehouse(all_of(parts), lambda target: series.c[target.column])

    @cached_property
    def met(self) -> ColumnElement[bool]:
        """Which rows of `resource_metadata` fulfil the conditions on metadata."""
        text, is_sqlite = resource_metadata.c.metadata, self.site.warehouse.is_sqlite
        whole = all_of(self.of_metadata)
        return on_warehouse(whole, lambda target: metadata_value(text, target.key, is_sqlite))

    def ids(self, after: str | None, limit: int) -> Select[Any]:
        """The ids of the resources that may have such samples, in order."""
        columns = series.c
        query = select(columns.resource_id).where(columns.resource_id.is_not(None), self.of_series)
        if after is not None:
            query = query.where(columns.resource_id > after)
        if self.start is not None:
            query = query.where(func.coalesce(columns.last_seen, columns.last_point_at) >= self.start)
        if self.end is not None:
            query = query.where(func.coalesce(columns.first_seen, columns.first_point_at) < self.end)
        if self.of_metadata:
            query = query.where(columns.resource_id.in_(self._described))
        return query.distinct().order_by(columns.resource_id).limit(limit)

    @property
    def such(self) -> ColumnElement[bool]:
        """Which rows of `metadata_changes` are of metadata that fulfils the conditions."""
        return metadata_changes.c.metadata_id.in_(self._such)

    @property
    def _such(self) -> Select[Any]:
        return select(resource_metadata.c.metadata_id).where(self.met)

    @property
    def _described(self) -> CompoundSelect[Any]:
        """The ids of resources that may have had such metadata."""
        other = series.alias("described")
        joint = metadata_changes.join(other, other.c.series_id == metadata_changes.c.series_id)
        past = select(other.c.resource_id).select_from(joint).where(self.such)
        return past.union(select(resources.c.resource_id).where(resources.c.metadata_id.in_(self._such)))

    @property
    def is_such(self) -> ColumnElement[bool]:
        """Whether the resource has such metadata, as it is known before anything is rolled up."""
        same = resources.c.source == series.c.source, resources.c.resource_id == series.c.resource_id
        described = resources.c.metadata_id.in_(self._such)
        return select(1).where(*same, described).correlate(series).exists()


@dataclass
class _Series:
    """A series, and when its samples are asked for.

    Attributes:
        of: whose it is, with the times of its first and last sample.
        spans: the half-open spans in which they are, in order, each with its metadata, if that is known.
        starts: whether each span starts with a sample.
    """

    of: Owned
    spans: list[tuple[datetime, datetime, int | None]] = field(default_factory=list)
    starts: list[bool] = field(default_factory=list)


def owned_spans(asked: Asked, ids: Sequence[str]) -> list[Owned]:
    """For each series of resources: its samples that are asked for, if there are any."""
    columns = series.c
    query: Select[Any] = select(
        *(columns.series_id, columns.source, columns.resource_id, columns.project_id, columns.user_id),
        *(columns.first_seen, columns.last_seen, columns.first_point_at, columns.last_point_at),
    ).where(asked.of_series)
    with asked.site.warehouse.read() as connection:
        rows = list(in_chunks(connection, query, columns.resource_id, ids))
        found = {
            row.series_id: _Series(
                Owned(
                    row.source,
                    row.resource_id,
                    row.project_id,
                    row.user_id,
                    row.first_seen or row.first_point_at,
                    row.last_seen or row.last_point_at,
                    good=row.last_seen is not None,
                    series_id=row.series_id,
                )
            )
            for row in rows
        }
        if asked.of_metadata:
            _add_described(connection, asked, found)
        else:
            for each in found.values():
                _add(each, asked, _BEFORE, _AFTER, None, starts=False)
    return [owned for each in _resolved(asked.site, list(found.values())) if (owned := each) is not None]


def _add(each: _Series, asked: Asked, since: datetime, until: datetime, metadata_id: int | None, starts: bool) -> None:
    start, end = max(since, asked.start or _BEFORE), min(until, asked.end or _AFTER)
    if start < end and start <= each.of.last and end > each.of.first:
        each.spans.append((start, end, metadata_id))
        each.starts.append(starts and start == since)


def _add_described(connection: Connection, asked: Asked, found: dict[int, _Series]) -> None:
    """Add the spans in which series have such metadata."""
    changes, columns = metadata_changes.c, series.c
    query: Select[Any] = select(changes.series_id, changes.valid_from, changes.metadata_id, asked.such)
    of_series = defaultdict[int, list[Any]](list)
    for row in in_chunks(connection, query, changes.series_id, list(found)):
        of_series[row[0]].append(tuple(row[1:]))
    unknown = [series_id for series_id in found if series_id not in of_series]
    such: Select[Any] = select(columns.series_id).where(asked.is_such)
    for (series_id,) in in_chunks(connection, such, columns.series_id, unknown):
        _add(found[series_id], asked, _BEFORE, _AFTER, None, starts=False)
    for series_id, rows in of_series.items():
        rows.sort()
        ends = [*(row[0] for row in rows[1:]), _AFTER]
        for (since, metadata_id, met), until in zip(rows, ends, strict=True):
            if met:
                _add(found[series_id], asked, since, until, metadata_id, starts=True)


def _resolved(site: Site, found: Sequence[_Series]) -> Iterator[Owned | None]:
    """What the samples are in the spans of each series."""
    open_ones = defaultdict[tuple[datetime, datetime], list[int]](list)
    for each in found:
        for n in sorted({0, len(each.spans) - 1} & set(range(len(each.spans)))):
            start, end, _ = each.spans[n]
            known_first = each.starts[n] or start <= each.of.first < end
            if (n == 0 and not known_first) or (n == len(each.spans) - 1 and not start <= each.of.last < end):
                open_ones[start, end].append(each.of.series_id or 0)
    seen = {
        span: seen_within(site, np.unique(np.array(ids, np.int64)), (span[0], min(span[1], _AFTER)))
        for span, ids in open_ones.items()
    }
    for each in found:
        yield _of_spans(each, seen)


def _of_spans(each: _Series, seen: dict[tuple[datetime, datetime], Any]) -> Owned | None:
    firsts: list[datetime] = []
    lasts: list[tuple[datetime, int | None]] = []
    for n, (start, end, metadata_id) in enumerate(each.spans):
        moments = [moment for moment in (each.of.first, each.of.last) if start <= moment < end]
        moments += [start] if each.starts[n] else []
        moments += seen.get((start, end), {}).get(each.of.series_id, ())
        if moments:
            firsts.append(min(moments))
            lasts.append((max(moments), metadata_id))
    if not firsts:
        return None
    last, metadata_id = max(lasts, key=lambda pair: pair[0])
    return replace(each.of, first=min(firsts), last=last, metadata_id=metadata_id)


def metadata_of(site: Site, found: Sequence[Owned]) -> dict[str, str | None]:
    """The metadata (JSON text) of the last samples of resources, by the resource's id; of some it is not known."""
    known = {each.resource_id: each.metadata_id for each in found if each.metadata_id is not None}
    others = {each.resource_id: each for each in found if each.metadata_id is None}
    columns, changes = series.c, metadata_changes.c
    joint = metadata_changes.join(series, columns.series_id == changes.series_id)
    keys = [columns[name] for name in ("source", "resource_id", "project_id", "user_id")]
    query: Select[Any] = select(*keys, changes.series_id, changes.valid_from, changes.metadata_id).select_from(joint)
    latest: dict[str, datetime] = {}
    with site.warehouse.read() as connection:
        for *key, series_id, since, metadata_id in in_chunks(connection, query, columns.resource_id, list(others)):
            each = others[key[1]]
            of_it = series_id == each.series_id if each.series_id is not None else tuple(key) == each.key
            if of_it and since <= each.last and since >= latest.get(each.resource_id, since):
                latest[each.resource_id] = since
                known[each.resource_id] = metadata_id
    texts = Snapshots(site).texts(known.values())
    return {resource_id: texts[metadata_id] for resource_id, metadata_id in known.items()}


def in_chunks(connection: Connection, query: Select[Any], column: Column[Any], ids: Sequence[Any]) -> Iterator[Any]:
    """The rows of a query with one of these ids in a column."""
    for place in range(0, len(ids), IDS_AT_ONCE):
        yield from connection.execute(query.where(column.in_(ids[place : place + IDS_AT_ONCE])))
