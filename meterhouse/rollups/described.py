"""When the resource metadata of each series changed, by its good points: the rows of `metadata_changes`.

A good point that has metadata is a change if the one before it, of the same series, has other metadata, or is more than
the carry time older, or if there is none. The one before may lie in an hour that is not computed now: the hourly
roll-ups of the lake name the metadata of its last good point. So a change depends on the points alone, whatever came
first. If the last metadata of an hour changes, the next hour of the series is computed again, see
`sql/lake/metadata_changed.sql`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, delete

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


def record(connection: Connection, hours: Sequence[datetime], rows: pa.Table) -> None:
    """Replace the changes of these hours in the warehouse."""
    for start, end in times.spans(hours):
        connection.execute(
            delete(metadata_changes).where(metadata_changes.c.valid_from >= start, metadata_changes.c.valid_from < end)
        )
    bulk_insert(connection, "metadata_changes", rows)
