"""The last good point of series before the hours of a computation, from the hourly roll-ups."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse import times
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import CUMULATIVE, Flags, Ints, SeriesTable
from meterhouse.sample_quality.spans import reaching
from meterhouse.sample_quality.verdicts import HOUR, NOTHING_CARRIED, Carried
from meterhouse.stores.lake import Lake

_COLUMNS = ["series_id", "bucket", "last", "last_at"]
_NEVER = np.iinfo(np.int64).min


def carried_points(
    lake: Lake, table: SeriesTable, hours: Hours, carry_hours: int, wanted: Flags | None = None
) -> Carried:
    """The last good point of each wanted series before each span of the hours, ordered by place and time.

    It is at most `carry_hours` hours earlier, and outside all spans: between two spans, points are carried over gaps.

    Args:
        lake: the lake.
        table: the series.
        hours: of the computation.
        carry_hours: how far back a point is looked for.
        wanted: which series are, by place; default counters.

    Raises:
        Replaced: a file was replaced and deleted meanwhile.
        Damaged: a file cannot be read.
    """
    wanted = table.kinds == CUMULATIVE if wanted is None else wanted
    if not wanted.any() or not hours.spans:
        return NOTHING_CARRIED
    starts = np.array([times.micros(start) for start, _ in hours.spans], np.int64)
    before = reaching([(start, start) for start, _ in hours.spans], back=carry_hours)
    files = lake.matching("rollups", overlapping=("bucket", before), partitions={"granularity_s": [3600]})
    newest = np.full(len(table), _NEVER)  # the bucket that was found, if there is one span
    pieces: list[tuple[Any, ...]] = []
    for path, last in newest_first(files):
        if len(starts) == 1 and (newest[wanted] > last).all():
            break
        place, bucket, volume, time = _rows(lake, path, table, wanted)
        at = np.searchsorted(starts, bucket, side="right")
        keep = np.flatnonzero((at < len(starts)) & ~hours.hold(bucket))
        keep = keep[bucket[keep] >= starts[at[keep]] - carry_hours * HOUR]
        place, bucket, volume, time, at = place[keep], bucket[keep], volume[keep], time[keep], at[keep]
        np.maximum.at(newest, place, bucket)
        pieces.append((place, at, time, volume))
    if not pieces:
        return NOTHING_CARRIED
    place, at, time, volume = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    order = np.lexsort((time, at, place))
    place, at, time, volume = place[order], at[order], time[order], volume[order]
    final = np.ones(len(place), np.bool_)
    final[:-1] = (place[1:] != place[:-1]) | (at[1:] != at[:-1])
    return Carried(place[final], time[final], volume[final])


def carried_to(carried: Carried, places: npt.NDArray[np.int32]) -> Carried:
    """The carried points of series from the first to the last of these places, which are in order."""
    if not len(carried.place) or not len(places):
        return NOTHING_CARRIED
    first, last = np.searchsorted(carried.place, (places[0], places[-1] + 1)).tolist()
    return Carried(carried.place[first:last], carried.time[first:last], carried.volume[first:last])


def newest_first(files: pa.Table) -> list[tuple[str, int]]:
    """The files with the latest bucket that each may have, µs."""
    if not files.num_rows:
        return []
    latest = files["max.bucket"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    unknown = np.iinfo(np.int64).max
    listed = [
        (path, unknown if last is None else last) for path, last in zip(files["path"].to_pylist(), latest, strict=True)
    ]
    return sorted(listed, key=lambda each: each[1], reverse=True)


def _rows(lake: Lake, path: str, table: SeriesTable, wanted: Flags) -> tuple[Any, Ints, Any, Ints]:
    """The rows of wanted series that have good points: place, bucket, volume and time of the last one."""
    with lake.parquet("rollups", path) as file:
        rows = file.read(_COLUMNS, use_threads=False)
    place = table.places(plain(rows["series_id"].combine_chunks()))
    keep = (place >= 0) & wanted[place] & plain(rows["last_at"].combine_chunks().is_valid())
    rows, place = rows.filter(pa.array(keep)), place[keep]
    bucket, volume, time = (plain(rows[name].combine_chunks()) for name in _COLUMNS[1:])
    return place, bucket, volume, time
