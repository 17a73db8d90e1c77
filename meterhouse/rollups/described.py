"""When the resource metadata of each series changed, by its good points: the rows of `metadata_changes`.

`History` tells what the metadata of resources was at a time, by the changes of all their series.

A good point that has metadata is a change if the one before it, of the same series, has other metadata, or is more than
the carry time older, or if there is none. The one before may lie in an hour that is not computed now: the hourly
roll-ups of the lake name the metadata of its last good point. So a change depends on the points alone, whatever came
first. If the last metadata of an hour changes, the next hour of the series is computed again, see
`sql/lake/metadata_changed.sql`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, delete, select

from meterhouse import times
from meterhouse.sample_quality.carrying import newest_first
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import Flags, Ints, SeriesTable
from meterhouse.sample_quality.spans import reaching
from meterhouse.sample_quality.verdicts import HOUR, Good
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import metadata_changes
from meterhouse.stores.warehouse_tables import series as series_table

Resource = tuple[str, str]
"""Source and id of a resource."""

IDS_AT_ONCE = 5_000
"""How many ids a query has as parameters."""

NAMED = pa.schema(
    [
        ("series_id", pa.int64()),
        ("valid_from", TIME),
        ("metadata_id", pa.int64()),
        ("source", pa.string()),
        ("meter", pa.string()),
        ("resource_id", pa.string()),
    ]
)
"""Rows of `metadata_changes` with what their series are."""

CHANGES = pa.schema([NAMED.field(name) for name in ("series_id", "valid_from", "metadata_id")])
"""Rows of `metadata_changes`."""

FOREVER = times.micros(datetime(2262, 1, 1, tzinfo=UTC))
"""After all times of points, µs since 1970."""

_NEVER = -(1 << 40)
"""An hour before all others."""


@dataclass(frozen=True)
class Changes:
    """Good points with metadata that may be changes, ordered by series and time.

    Attributes:
        series: ids.
        time: µs since 1970.
        metadata: ids.
        before: the metadata of the point before, if there is one among the points that were read.
        hour_before: its hour since 1970; long ago if there is none.
    """

    series: Ints
    time: Ints
    metadata: Ints
    before: Ints
    hour_before: Ints

    @classmethod
    def together(cls, parts: "Sequence[Changes]") -> "Changes":
        """All of these."""
        none = np.zeros(0, np.int64)
        return cls(*(np.concatenate([none, *(getattr(p, name) for p in parts)]) for name in cls.__dataclass_fields__))

    def some(self, keep: Flags) -> "Changes":
        """Those for which `keep` is true."""
        return Changes(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def may_change(table: SeriesTable, good: Good, ids: Ints, known: Flags, wanted: Hours) -> Changes:
    """The points of the wanted hours at which the metadata may change.

    Args:
        table: the series.
        good: good points in order of place and time, also of other hours.
        ids: the metadata of each.
        known: whether it has some.
        wanted: the hours.
    """
    rows = slice(None) if known.all() else np.flatnonzero(known)
    place, time, found = good.place[rows], good.time[rows], ids[rows]
    last = np.ones(len(place), np.bool_)  # of deltas of one time, the last one counts
    last[:-1] = (place[1:] != place[:-1]) | (time[1:] != time[:-1])
    if not last.all():
        place, time, found = place[last], time[last], found[last]
    hour = time // HOUR
    head, keep = np.ones(len(place), np.bool_), np.ones(len(place), np.bool_)
    head[1:] = place[1:] != place[:-1]
    keep[1:] = head[1:] | (found[1:] != found[:-1]) | (hour[1:] - hour[:-1] > 1)
    at = np.flatnonzero(keep)
    at = at[wanted.hold(time[at])]
    before = np.where(head[at], 0, found[at - 1])
    hour_before = np.where(head[at], _NEVER, hour[at - 1])
    return Changes(table.ids[place[at]], time[at], found[at], before, hour_before)


def changes(lake: Lake, found: Changes, read: Hours, carry_hours: int) -> pa.Table:
    """Those that are changes, as rows of `metadata_changes`.

    Args:
        lake: the lake, for the hours that were not read.
        found: from `may_change`.
        read: the hours whose points were read.
        carry_hours: how far back the point before is looked for.
    """
    hour = found.time // HOUR
    before, hour_before = found.before.copy(), found.hour_before.copy()
    asked = np.flatnonzero(hour - hour_before > 1)
    if len(asked):
        series, number, metadata = _last_described(lake, found.series[asked], hour[asked], read, carry_hours)
        if len(series):
            known = np.unique(series)
            at = np.searchsorted(known, found.series[asked])
            there = at < len(known)
            there[there] &= known[at[there]] == found.series[asked][there]
            key = np.searchsorted(known, series) * (1 << 32) + number
            latest = np.searchsorted(key, at * (1 << 32) + hour[asked]) - 1
            there &= latest >= 0
            there[there] &= series[latest[there]] == found.series[asked][there]
            there[there] &= number[latest[there]] > hour_before[asked][there]
            before[asked[there]] = metadata[latest[there]]
            hour_before[asked[there]] = number[latest[there]]
    changed = (found.metadata != before) | (hour - hour_before > carry_hours)
    kept = found.some(changed)
    return pa.table(
        {
            "series_id": kept.series,
            "valid_from": pa.array(kept.time).cast(TIME),
            "metadata_id": kept.metadata,
        }
    )


def _last_described(lake: Lake, series: Ints, hour: Ints, read: Hours, carry_hours: int) -> tuple[Ints, Ints, Ints]:
    """Series, hour and metadata of the hourly rows that have some, of hours that were not read; in this order."""
    wanted = np.unique(series)
    first = times.of_hour(int(hour.min()))
    last = times.of_hour(int(hour.max()))
    reach = reaching([(first, first), (last, last)], back=carry_hours)
    files = lake.matching("rollups", overlapping=("bucket", reach), partitions={"granularity_s": [3600]})
    newest = np.full(len(wanted), _NEVER)
    alike = bool((hour == hour[0]).all())
    pieces = [(np.zeros(0, np.int64),) * 3]
    for path, latest in newest_first(files):
        if alike and (newest > latest // HOUR).all():
            break
        with lake.parquet("rollups", path) as file:
            if "metadata_id" not in file.schema_arrow.names:
                continue
            rows = file.read(["series_id", "bucket", "metadata_id"], use_threads=False)
        rows = rows.filter(rows["metadata_id"].is_valid())
        ids, bucket, metadata = (plain(rows[name].combine_chunks()) for name in rows.column_names)
        at = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
        keep = (wanted[at] == ids) & ~read.hold(bucket) & (bucket // HOUR < int(hour.max()))
        pieces.append((ids[keep], bucket[keep] // HOUR, metadata[keep]))
        np.maximum.at(newest, at[keep], bucket[keep] // HOUR)
    ids, number, metadata = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    order = np.lexsort((number, ids))
    return ids[order], number[order], metadata[order]


@dataclass(frozen=True)
class History:
    """When the metadata of some resources changed, in order of resource and time; of one time, the last change counts.

    Attributes:
        resource: a number for each.
        time: from when the metadata is valid, µs since 1970.
        metadata: ids.
    """

    resource: Ints
    time: Ints
    metadata: Ints

    @classmethod
    def nothing(cls) -> "History":
        """The history of no resource."""
        return cls(*(np.zeros(0, np.int64) for _ in range(3)))

    def some(self, keep: Flags) -> "History":
        """The changes for which `keep` is true."""
        return History(self.resource[keep], self.time[keep], self.metadata[keep])

    def at(self, resource: Ints, time: Ints) -> tuple[Ints, Flags]:
        """The metadata of each of these resources at a time (µs since 1970), and whether there is some."""
        count = len(self.time)
        if not count:
            return np.zeros(len(time), np.int64), np.zeros(len(time), np.bool_)
        of, when = np.concatenate((self.resource, resource)), np.concatenate((self.time, time))
        order = np.lexsort((when, of))  # stable: a change comes before what asks for its time
        latest = np.empty(len(order), np.int64)
        latest[order] = np.maximum.accumulate(np.where(order < count, order, -1))
        latest = latest[count:]
        known = latest >= 0
        known &= self.resource[latest] == resource
        return np.where(known, self.metadata[latest], 0), known

    def next(self, resource: Ints, time: Ints) -> Ints:
        """When the metadata of each of these resources changes after a time, µs since 1970; FOREVER if it does not."""
        count = len(self.time)
        if not count:
            return np.full(len(time), FOREVER)
        order = np.lexsort((np.concatenate((self.time, time)), np.concatenate((self.resource, resource))))
        later = np.empty(len(order), np.int64)
        later[order] = np.minimum.accumulate(np.where(order < count, order, count)[::-1])[::-1]
        later = later[count:]
        at = np.minimum(later, count - 1)
        return np.where((later < count) & (self.resource[at] == resource), self.time[at], FOREVER)


def history(connection: Connection, resources: Sequence[Resource], new: pa.Table, hours: Hours) -> History:
    """The history of these resources, whose numbers are their places in the sequence.

    As in the view `resource_history`, of changes of one time, that of the last meter counts, and of its first series.

    Args:
        connection: of the warehouse.
        resources: each once.
        new: the changes of some hours, in the columns of NAMED.
        hours: these hours; what the warehouse has of them does not count.
    """
    # PostgreSQL has no texts with NUL.
    numbers = {resource: number for number, resource in enumerate(resources) if "\0" not in resource[1]}
    ids = sorted({resource for _, resource in numbers})
    query = select(metadata_changes, series_table.c.source, series_table.c.meter, series_table.c.resource_id).join_from(
        metadata_changes, series_table, metadata_changes.c.series_id == series_table.c.series_id
    )
    parts = [new.select(NAMED.names).cast(NAMED)]
    for place in range(0, len(ids), IDS_AT_ONCE):
        found = connection.execute(query.where(series_table.c.resource_id.in_(ids[place : place + IDS_AT_ONCE]))).all()
        known = rows_as(NAMED, found)
        parts.append(known.filter(pa.array(~hours.hold(plain(known["valid_from"].combine_chunks())))))
    rows = pa.concat_tables(parts)
    number = _numbers_of(rows, numbers)
    rows, number = rows.filter(pa.array(number >= 0)), number[number >= 0]
    series_id, time, metadata = (plain(rows[name].combine_chunks()) for name in NAMED.names[:3])
    order = np.lexsort((~series_id, _ranks(rows["meter"]), time, number))
    return History(number[order], time[order], metadata[order])


def history_of_series(connection: Connection, ids: Ints) -> History:
    """The history of the metadata that came with the points of these series, whose numbers are their places.

    Args:
        connection: of the warehouse.
        ids: of the series, ascending, each once.
    """
    columns = metadata_changes.c.series_id, metadata_changes.c.valid_from, metadata_changes.c.metadata_id
    parts = [CHANGES.empty_table()]
    for place in range(0, len(ids), IDS_AT_ONCE):
        some = ids[place : place + IDS_AT_ONCE].tolist()
        found = connection.execute(select(*columns).where(metadata_changes.c.series_id.in_(some))).all()
        parts.append(rows_as(CHANGES, found))
    rows = pa.concat_tables(parts)
    series_id, time, metadata = (plain(rows[name].combine_chunks()) for name in CHANGES.names)
    number = np.searchsorted(ids, series_id)
    order = np.lexsort((time, number))
    return History(number[order], time[order], metadata[order])


def rows_as(schema: pa.Schema, rows: Sequence[Sequence[object]]) -> pa.Table:
    """Rows that a query found as a table of this schema."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(values, each.type) for values, each in zip(columns, schema, strict=True)], schema=schema)


def _numbers_of(rows: pa.Table, numbers: Mapping[Resource, int]) -> Ints:
    """The number of each row's resource; -1 for others."""
    sources, resources = (rows[name].combine_chunks().dictionary_encode() for name in ("source", "resource_id"))
    pairs, of = np.unique(
        plain(sources.indices.fill_null(0)).astype(np.int64) << 32 | plain(resources.indices.fill_null(0)),
        return_inverse=True,
    )
    known = sources.dictionary.to_pylist(), resources.dictionary.to_pylist()
    found = [numbers.get((known[0][pair >> 32], known[1][pair & 0xFFFFFFFF]), -1) for pair in pairs.tolist()]
    number = np.array(found, np.int64)[of]
    return np.where(plain(rows["resource_id"].combine_chunks().is_valid()), number, -1)


def _ranks(texts: pa.ChunkedArray) -> Ints:
    """The place of each text among all, in order of their code points."""
    encoded = texts.combine_chunks().dictionary_encode()
    ranks = np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist(), dtype=object)))
    found: Ints = ranks[plain(encoded.indices)]
    return found


def changed(connection: Connection, hours: Hours, new: pa.Table) -> pa.Table:
    """The rows of `metadata_changes` in these hours that come or go when `new` replaces them.

    Args:
        connection: of the warehouse.
        hours: the hours.
        new: their rows from now on.
    """
    columns = metadata_changes.c.series_id, metadata_changes.c.valid_from, metadata_changes.c.metadata_id
    found = [new]
    for start, end in hours.spans:
        within = select(*columns).where(metadata_changes.c.valid_from >= start, metadata_changes.c.valid_from < end)
        found.append(rows_as(new.schema, connection.execute(within).all()))
    rows = pa.concat_tables(found)
    keys = [plain(rows[name].combine_chunks()) for name in ("metadata_id", "valid_from", "series_id")]
    order = np.lexsort(keys)
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    alone = np.ones(len(order), np.bool_)
    alone[1:] &= ~same
    alone[:-1] &= ~same
    return rows.take(pa.array(order[alone]))


def record(connection: Connection, hours: Sequence[datetime], rows: pa.Table) -> None:
    """Replace the changes of these hours in the warehouse."""
    for start, end in times.spans(hours):
        connection.execute(
            delete(metadata_changes).where(metadata_changes.c.valid_from >= start, metadata_changes.c.valid_from < end)
        )
    bulk_insert(connection, "metadata_changes", rows)
