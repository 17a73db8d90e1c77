"""What the metadata of resources was by time: of all series of a resource together.

A resource is measured by several series, and a pollster says other things of it than a notification. So the newest
snapshot of each series counts, and where two say something of the same key, the newer one. A key is gone only if the
series that had it no longer has it.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import func, or_, select

from meterhouse.site import Site
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import metadata_changes, resource_metadata, resource_periods, series
from meterhouse.verification import VERIFY

HISTORY: Final = pa.schema([("resource_id", pa.string()), ("valid_from", TIME), ("metadata_id", pa.int64())])
TEXTS: Final = pa.schema([("metadata_id", pa.int64()), ("metadata", pa.string())])

NOTHING: Final = (HISTORY.empty_table(), TEXTS.empty_table())


def of_resources(site: Site, start: datetime, end: datetime) -> tuple[pa.Table, pa.Table]:
    """What the resources were that existed in a span or have series of that time.

    Returns:
        A table of schema HISTORY, from when a resource was which; and one of schema TEXTS, what that is, as JSON.
        The ids are of these two tables alone.
    """
    p, s, c = resource_periods.c, series.c, metadata_changes.c
    existed = select(p.resource_id).where(p.started_at < end, or_(p.ended_at.is_(None), p.ended_at > start))
    counted = s.type.in_(["cumulative", "delta"]) & (s.last_point_at >= start) & (s.first_point_at < end)
    # What a series was at the start is its newest change before it; what it was earlier is of no use.
    before = metadata_changes.alias("before")
    at_start = (
        select(func.max(before.c.valid_from))
        .where(before.c.series_id == c.series_id, before.c.valid_from <= start)
        .scalar_subquery()
    )
    changes = (
        select(s.resource_id, c.valid_from, c.series_id, c.metadata_id)
        .join_from(metadata_changes, series, c.series_id == s.series_id)
        .where(s.source != VERIFY, c.valid_from < end, s.resource_id.in_(existed) | counted)
        .where((c.valid_from > start) | (c.valid_from == at_start))
        .order_by(s.resource_id, c.valid_from, c.series_id)
    )
    with site.warehouse.read() as connection:
        rows = connection.execute(changes).all()
        known = {row.metadata_id for row in rows}
        texts = _texts(connection, known)
    numbers: dict[tuple[int, ...], int] = {}
    found: list[tuple[str, datetime, int]] = []
    for resource_id, of_resource in groupby(rows, key=itemgetter(0)):
        newest: dict[int, int] = {}  # series -> its snapshot, those that changed last at the end
        for moment, at_once in groupby(of_resource, key=itemgetter(1)):
            for _, _, series_id, metadata_id in at_once:
                newest.pop(series_id, None)
                newest[series_id] = metadata_id
            state = _distinct(newest.values())
            found.append((resource_id, moment, numbers.setdefault(state, len(numbers))))
    columns: Sequence[Any] = list(zip(*found, strict=True)) if found else [(), (), ()]
    history = pa.table([pa.array(each, field.type) for each, field in zip(columns, HISTORY, strict=True)], HISTORY)
    merged = [_merged([texts.get(each, "{}") for each in state]) for state in numbers]
    return history, pa.table([pa.array(numbers.values(), pa.int64()), pa.array(merged, pa.string())], TEXTS)


def _texts(connection: Any, ids: set[int]) -> dict[int, str]:
    wanted, texts = sorted(ids), dict[int, str]()
    for at in range(0, len(wanted), 10_000):
        chosen = resource_metadata.c.metadata_id.in_(wanted[at : at + 10_000])
        texts.update(
            (row.metadata_id, row.metadata) for row in connection.execute(select(resource_metadata).where(chosen))
        )
    return texts


def _distinct(ids: Iterable[int]) -> tuple[int, ...]:
    """Each id once, where it comes last."""
    return tuple(reversed(dict.fromkeys(reversed(list(ids)))))


def _merged(texts: Sequence[str]) -> str:
    """Snapshots as one: of a key that several have, the last one's value."""
    if len(texts) == 1:
        return texts[0]
    merged: dict[str, Any] = {}
    for text in texts:
        read = json.loads(text)
        if isinstance(read, dict):
            merged |= read
    return json.dumps(merged, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
