"""The metadata of the samples of series by time: that which each sample came with.

Roll-ups record when the metadata of a series changed, by its good points: in the table `metadata_changes`. Hours that
are not rolled up as their points are now are read from points.
"""

import numpy as np
import pyarrow as pa
from sqlalchemy import select

from meterhouse import times
from meterhouse.queries.raw_points import RawPoints
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import Ints, Places
from meterhouse.sample_quality.verdicts import HOUR
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import metadata_changes
from meterhouse.stores.warehouse_tables import series as series_table

Spans = tuple[Places, Ints, pa.Array]
"""The place of each span's series, when it starts (µs since 1970), and its metadata_id, or null."""

_BEFORE_ALL = np.iinfo(np.int64).min
_NONE = np.iinfo(np.int64).min
"""Stands for no metadata."""


def own_metadata(site: Site, meter: str, ids: Ints, hours: Ints, version: int) -> Spans:
    """Spans of time over which the samples of series have the same metadata, in order of place and time.

    The first span of each series starts before all times, without metadata. Of samples of one series and time, the one
    that arrived last counts. A sample without metadata, among others of its series that have some, counts as the one
    before it, unless it is in one of the hours.

    Args:
        site: the site.
        meter: of the series.
        ids: of the series, by place.
        hours: numbers of the event hours whose samples are read, in order.
        version: of the lake's samples.
    """
    place, time, metadata = _recorded(site, meter, ids)
    if len(hours):
        order = np.lexsort((time, place))
        recorded = place[order], time[order], metadata[order]
        inside = np.isin(time // HOUR, hours)
        read = _read(site, meter, ids, hours, version)
        back = _after(recorded, hours, np.unique(read[0]))
        parts = zip((place[~inside], time[~inside], metadata[~inside]), back, read, strict=True)
        place, time, metadata = (np.concatenate(columns) for columns in parts)
    count = np.arange(len(ids), dtype=np.int32)
    place = np.concatenate([count, place])
    time = np.concatenate([np.full(len(ids), _BEFORE_ALL), time])
    metadata = np.concatenate([np.full(len(ids), _NONE), metadata])
    order = np.lexsort((np.arange(len(place)), time, place))  # of one time, what comes later counts
    place, time, metadata = place[order], time[order], metadata[order]
    last = np.ones(len(place), np.bool_)
    last[:-1] = (place[1:] != place[:-1]) | (time[1:] != time[:-1])
    place, time, metadata = place[last], time[last], metadata[last]
    return place.astype(np.int32), time, pa.array(metadata, mask=metadata == _NONE)


def _recorded(site: Site, meter: str, ids: Ints) -> tuple[Ints, Ints, Ints]:
    """The recorded changes: places, times and metadata."""
    series, time, metadata = site.kept.of_warehouse(("metadata of a meter", meter), lambda: _changes(site, meter))
    place = _places(ids, series)
    known = place >= 0
    return place[known], time[known], metadata[known]


def _changes(site: Site, meter: str) -> tuple[Ints, Ints, Ints]:
    """The recorded changes of a meter: ids of series, times and metadata."""
    columns = metadata_changes.c
    query = (
        select(columns.series_id, columns.valid_from, columns.metadata_id)
        .join_from(metadata_changes, series_table, columns.series_id == series_table.c.series_id)
        .where(series_table.c.meter == meter)
    )
    with site.warehouse.read() as connection:
        rows = connection.execute(query).all()
    series = np.array([row[0] for row in rows], np.int64)
    time = np.array([times.micros(row[1]) for row in rows], np.int64)
    return series, time, np.array([row[2] for row in rows], np.int64)


def _read(site: Site, meter: str, ids: Ints, hours: Ints, version: int) -> tuple[Ints, Ints, Ints]:
    """What the samples of some hours have, by series and time, as far as it differs from the one before."""
    spans = Hours([times.of_hour(number) for number in hours.tolist()]).spans
    raw = RawPoints(site.lake, meter, (spans[0][0], spans[-1][1]), version)
    points = pa.concat_tables([raw.read(span, metadata=True) for span in spans])
    series, time, arrived = (
        plain(points[name].cast(pa.int64()).combine_chunks()) for name in ("series_id", "timestamp", "recorded_at")
    )
    metadata = plain(points["metadata_id"].fill_null(_NONE).combine_chunks())
    place = _places(ids, series)
    order = np.lexsort((arrived, time, place))
    place, time, metadata = place[order], time[order], metadata[order]
    last = np.ones(len(place), np.bool_)
    last[:-1] = (place[1:] != place[:-1]) | (time[1:] != time[:-1])
    place, time, metadata = place[last], time[last], metadata[last]
    new = np.ones(len(place), np.bool_)
    new[1:] = (place[1:] != place[:-1]) | (metadata[1:] != metadata[:-1]) | (time[1:] // HOUR != time[:-1] // HOUR)
    new &= place >= 0
    return place[new], time[new], metadata[new]


def _after(recorded: tuple[Ints, Ints, Ints], hours: Ints, places: Ints) -> tuple[Ints, Ints, Ints]:
    """What was recorded for the ends of some hours, of some series: there the recorded changes count again."""
    place, time, metadata = recorded
    ends = (hours[np.diff(hours, append=hours[-1] + 2) > 1] + 1) * HOUR
    of, moment = np.repeat(places, len(ends)), np.tile(ends, len(places))
    if not len(place):
        return of, moment, np.full(len(of), _NONE)
    starts = np.unique(np.concatenate([time, moment]))
    keys = place * np.int64(len(starts)) + np.searchsorted(starts, time)
    at = np.searchsorted(keys, of * np.int64(len(starts)) + np.searchsorted(starts, moment), side="right") - 1
    known = (at >= 0) & (place[np.maximum(at, 0)] == of)
    return of, moment, np.where(known, metadata[np.maximum(at, 0)], _NONE)


def _places(ids: Ints, series: Ints) -> Ints:
    """The place of each series among the ids, which may be in any order; -1 for others."""
    if not len(ids):
        return np.full(len(series), -1, np.int64)
    order = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids[order], series), len(ids) - 1)
    found: Ints = np.where(ids[order][at] == series, order[at], -1).astype(np.int64)
    return found
