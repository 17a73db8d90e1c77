"""The points of some series in a span, of all their meters together, judged by the quality rules.

Files are chosen by the bounds of their times and meters, and row groups by those of their meters and series. Only the
columns are read that tell points of a series from each other, and the metadata's ids only if they matter.
"""

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.corrections.recorded import Correction
from meterhouse.queries.judged_points import NO_SAMPLE, Received, judged
from meterhouse.queries.raw_points import DERIVED, SAMPLES
from meterhouse.sample_quality.reading import plain
from meterhouse.sample_quality.series_table import CUMULATIVE, DELTA, GAUGE, Flags, Floats, Ints, Places, SeriesTable
from meterhouse.sample_quality.verdicts import NOTHING_CARRIED, Carried
from meterhouse.site import Site

THREADS: Final = 2

NO_METADATA: Final = int(np.iinfo(np.int64).min)
"""The metadata id of points that have none."""

_COLUMNS: Final = ["series_id", "timestamp", "volume", "recorded_at", "sample_id"]
_MOST_SPAN: Final = 1 << 43
_MOST_SERIES: Final = 1 << 19


@dataclass(frozen=True)
class Series:
    """Series by place.

    Attributes:
        table: the series.
        rows: what they are made from, in the order of their places.
    """

    table: SeriesTable
    rows: pa.Table

    def some(self, wanted: Flags) -> "Series":
        """Some of them, in the same order."""
        table = self.table
        return Series(
            SeriesTable(table.ids[wanted], table.kinds[wanted], table.meters[wanted], table.meter_names),
            self.rows.filter(pa.array(wanted)),
        )


@dataclass(frozen=True)
class Good:
    """Points that count, ordered by place and time.

    Attributes:
        place: of their series.
        time: µs since 1970, UTC.
        volume: in the meter's unit.
        increase: how much the meter changes by it: of a counter its increase, of a gauge the difference, since the good
            point before; NaN without one. Of a delta its volume. None if nobody asks.
        metadata: the ids of their metadata, NO_METADATA where they have none; None if these were not read.
        since: the time of the earliest point that `increase` rests on: of a gauge the point before, of others the point
            itself. None if nobody asks.
    """

    place: Places
    time: Ints
    volume: Floats
    increase: Floats | None
    metadata: Ints | None
    since: Ints | None = None


@dataclass(frozen=True)
class Excluded:
    """Points that the quality rules exclude, ordered by place and time; attributes as those of `Good`."""

    place: Places
    time: Ints
    metadata: Ints | None


def read(site: Site, series: Series, start: int, end: int, *, metadata: bool, version: int | None = None) -> Received:
    """All points of some series in a span, as they came, in order of place and time.

    Args:
        site: the site.
        series: the series.
        start: µs since 1970, UTC.
        end: the same; points at this time are in the span.
        metadata: whether their metadata matters.
        version: of the lake's samples; default the newest.

    Raises:
        Replaced: a file was replaced and deleted meanwhile.
        Damaged: a file cannot be read.
    """
    reading = _Reading(site, series.table, start, end, [*_COLUMNS, *(["metadata_id"] if metadata else [])])
    files = [
        (table, path)
        for table in (SAMPLES, DERIVED)
        for path in reading.files(table, version if table == SAMPLES else None)
    ]
    with ThreadPoolExecutor(THREADS, "alarms") as threads:
        run = threads.map if len(files) > 1 else map
        parts = [part for part in run(reading.part, files) if len(part)]
    if not parts:
        return reading.nothing()
    together = Received(
        np.concatenate([part.place for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.volume for part in parts]),
        np.concatenate([part.recorded for part in parts]),
        np.concatenate([part.sample for part in parts]),
        np.concatenate([part.identified for part in parts]),
        pa.concat_arrays([part.metadata for part in parts]),
        np.concatenate([part.landed for part in parts]),
    )
    order = _order(together.place, together.time - start, end - start)
    return together if order is None else together.some(order)


def _order(place: Places, time: Ints, span: int) -> Ints | None:
    """The order by place and time, which is that of runs that are in order already; None if `judged` has to find it."""
    if span >= _MOST_SPAN or (len(place) and int(place.max()) >= _MOST_SERIES):
        return None
    key = place.astype(np.int64) << 43 | time
    found: Ints = np.argsort(key, kind="stable")
    return found


def may_have(site: Site, meters: Sequence[str], start: int, end: int) -> bool:
    """Whether files may have points of some meters, which are in order, in a span; both ends in µs since 1970."""
    reading = _Reading(site, SeriesTable.coded(_NONE, _NONE, meters, _NONE, ()), start, end, _COLUMNS)
    return any(reading.files(table, None) for table in (SAMPLES, DERIVED))


_NONE: Final = np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Reading:
    site: Site
    table: SeriesTable
    start: int
    end: int
    columns: list[str]

    def files(self, table: str, version: int | None) -> list[str]:
        """The files that may have points."""
        span = _moment(self.start), _moment(self.end + 1)
        found = self.site.lake.matching(table, version=version, overlapping=("timestamp", [span]))
        if "min.meter" not in found.column_names:
            return list(found["path"].to_pylist())
        bounds = (found[f"{bound}.meter"].to_pylist() for bound in ("min", "max"))
        return [
            path
            for path, low, high in zip(found["path"].to_pylist(), *bounds, strict=True)
            if low is None or high is None or self._holds(low, high)
        ]

    def _holds(self, low: str, high: str) -> bool:
        """Whether one of the meters is between two names."""
        names = self.table.meter_names
        at = bisect_left(names, low)
        return at < len(names) and names[at] <= high

    def part(self, file: tuple[str, str]) -> Received:
        """The points of a file."""
        table, path = file
        lake = self.site.lake
        footer = lake.footer(table, path)
        ids = self._ids
        may = np.searchsorted(ids, footer.low) < np.searchsorted(ids, footer.high, side="right")
        groups = [
            number
            for number in np.flatnonzero(may).tolist()
            if (known := footer.meters[number]) is None or self._holds(*known)
        ]
        if not groups:
            return self.nothing()
        with lake.parquet(table, path) as opened:
            rows = opened.read_row_groups(groups, self.columns, use_threads=False)
        columns = {name: rows[name].combine_chunks() for name in self.columns}
        time = plain(columns["timestamp"])
        place = self.table.places(plain(columns["series_id"]))
        inside = (place >= 0) & (time >= self.start) & (time <= self.end)
        sample = columns["sample_id"]
        metadata = columns.get("metadata_id")
        received = Received(
            place,
            time,
            plain(columns["volume"]),
            plain(columns["recorded_at"]),
            plain(sample.fill_null(NO_SAMPLE) if sample.null_count else sample),
            plain(sample.is_valid()) if sample.null_count else np.ones(len(place), np.bool_),
            pa.nulls(len(place), pa.int64()) if metadata is None else metadata,
            np.full(len(place), table == SAMPLES),
        )
        return received if inside.all() else received.some(np.flatnonzero(inside))

    @property
    def _ids(self) -> Ints:
        return np.sort(self.table.ids)

    def nothing(self) -> Received:
        """No points."""
        none = np.zeros(0, np.int64)
        flags = np.zeros(0, np.bool_)
        return Received(np.zeros(0, np.int32), none, np.zeros(0), none, none, flags, pa.array([], pa.int64()), flags)


def judge(
    site: Site,
    series: Series,
    points: Received,
    corrections: Sequence[Correction],
    carried: Carried = NOTHING_CARRIED,
    *,
    metadata: bool,
    changes: bool = False,
) -> tuple[Good, Excluded]:
    """The points that count, and those that do not.

    Args:
        site: the site.
        series: their series.
        points: from `read`.
        corrections: that may change them.
        carried: earlier good points of counters.
        metadata: whether their metadata was read.
        changes: whether it is asked how much a meter changes.
    """
    found = judged(
        points,
        series.table,
        series.rows,
        site.rules,
        corrections=corrections,
        carried=carried,
        carry_hours=site.settings.carry_hours,
    )
    good, bad = found.verdicts.good, found.distinct[~found.good]
    ids = plain(pc.fill_null(found.points.metadata, NO_METADATA)) if metadata else None
    of_good = None if ids is None else ids if good.rows is None else ids[good.rows]
    increase, since = _changes(series.table.kinds[good.place], good) if changes else (None, None)
    return (
        Good(good.place, good.time, good.volume, increase, of_good, since),
        Excluded(found.points.place[bad], found.points.time[bad], None if ids is None else ids[bad]),
    )


def _changes(kinds: Any, good: Any) -> tuple[Floats, Ints]:
    """How much each good point changes its meter, and since when: a gauge, which may fall, since the point before."""
    gauge = np.full(len(good.volume), np.nan)
    gauge[1:] = np.where(good.place[1:] == good.place[:-1], good.volume[1:] - good.volume[:-1], np.nan)
    counter = gauge if good.increase is None else good.increase
    found: Floats = np.where(kinds == CUMULATIVE, counter, np.where(kinds == DELTA, good.volume, gauge))
    since: Ints = good.time.copy()
    since[1:] = np.where((kinds[1:] == GAUGE) & (good.place[1:] == good.place[:-1]), good.time[:-1], good.time[1:])
    return found, since


def _moment(micros: int) -> datetime:
    return times.EPOCH + timedelta(microseconds=micros)
