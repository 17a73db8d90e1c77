"""When series were first and last seen within a span, by roll-ups, and by points where a bucket is not wholly in it."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import ColumnElement, Connection, Table, and_, func, select

from meterhouse import times
from meterhouse.queries.raw_points import RawPoints
from meterhouse.sample_quality.reading import plain
from meterhouse.site import Site
from meterhouse.stores.lake_order import Integers
from meterhouse.stores.warehouse_tables import daily, dirty_hours, hourly
from meterhouse.times import DAY, HOUR, Span

Seen = dict[int, tuple[datetime, datetime]]
"""By series: the times of its first and its last point."""

IDS_AT_ONCE = 500
"""How many series one query of the warehouse lists, with its buckets; databases bound the parameters of a query."""

DIRTY_HOURS = 200
"""The points of so many hours, the newest, are read that are not rolled up yet."""


def seen_within(site: Site, ids: Integers, span: Span) -> Seen:
    """When series were first and last seen within a half-open span. Those that were not are not among them.

    Roll-ups know good points alone. In hours that are not rolled up, or not wholly in the span, all points count.

    Args:
        site: the site.
        ids: of the series, in order.
        span: of event time.
    """
    start, end = span
    found: Seen = {}
    if start >= end or not len(ids):
        return found
    first_hour, last_hour = _rounded_up(start, HOUR), times.hour_of(end)
    first_day, last_day = _rounded_up(start, DAY), times.day_start(end.date())
    days: list[Span] = [(first_day, last_day)] if first_day < last_day else []
    hours = _without([(first_hour, last_hour)] if first_hour < last_hour else [], days)
    with site.warehouse.read() as connection:
        for seen in (*_rolled(connection, daily, ids, days), *_rolled(connection, hourly, ids, hours)):
            _add(found, *seen)
        dirty = _dirty(connection, start, end)
    whole = [(first_hour, last_hour)] if first_hour < last_hour else []
    unrolled = [(max(first, start), min(last, end)) for first, last in times.spans(dirty)]
    for part in [*_without([span], whole), *unrolled]:
        points = RawPoints(site.lake, None, part).read(ids=ids)
        series, moments = (plain(points[name].combine_chunks().cast("int64")) for name in ("series_id", "timestamp"))
        if not len(series):
            continue
        order = np.lexsort((moments, series))
        series, moments = series[order], moments[order]
        heads = np.flatnonzero(np.diff(series, prepend=series[:1] - 1))
        tails = np.append(heads[1:], len(series)) - 1
        for of, first, last in zip(
            series[heads].tolist(), moments[heads].tolist(), moments[tails].tolist(), strict=True
        ):
            _add(found, of, *(times.EPOCH + timedelta(microseconds=each) for each in (first, last)))
    return found


def _rolled(
    connection: Connection, table: Table, ids: Integers, spans: Sequence[Span]
) -> Iterator[tuple[int, datetime, datetime]]:
    columns = table.c
    for start, end in spans:
        for place in range(0, len(ids), IDS_AT_ONCE):
            some = columns.series_id.in_(ids[place : place + IDS_AT_ONCE].tolist())
            within: ColumnElement[bool] = and_(columns.bucket >= start, columns.bucket < end)
            if table is hourly:  # whose key begins with the bucket
                within = columns.bucket.in_(times.hours_between(start, end))
            seen = func.min(columns.first_at), func.max(columns.last_at)
            query = select(columns.series_id, *seen).where(some, within, columns.first_at.is_not(None))
            rows = connection.execute(query.group_by(columns.series_id)).all()
            yield from ((series_id, first, last) for series_id, first, last in rows)


def _dirty(connection: Connection, start: datetime, end: datetime) -> list[datetime]:
    """The newest of the hours that touch a span and are not rolled up as their points are now."""
    columns = dirty_hours.c
    query = (
        select(columns.hour)
        .where(columns.hour > start - HOUR, columns.hour < end, columns.marks > columns.rolled_marks)
        .order_by(columns.hour.desc())
        .limit(DIRTY_HOURS)
    )
    return list(connection.execute(query).scalars())


def _add(found: Seen, series_id: int, first: datetime, last: datetime) -> None:
    known = found.get(series_id)
    found[series_id] = (first, last) if known is None else (min(known[0], first), max(known[1], last))


def _rounded_up(moment: datetime, step: timedelta) -> datetime:
    return times.EPOCH - (times.EPOCH - moment) // step * step


def _without(spans: Sequence[Span], inner: Sequence[Span]) -> list[Span]:
    """What is left of spans, at both sides of inner ones that they hold."""
    if not inner:
        return list(spans)
    ((first, last),) = inner
    parts = [part for start, end in spans for part in ((start, min(first, end)), (max(last, start), end))]
    return [(start, end) for start, end in parts if start < end]
