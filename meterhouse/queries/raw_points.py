"""The raw points of meters or series in a span: as landed, not judged, copies and conflicts included.

Files are chosen by the bounds of their times and meters; of a file, row groups by those of their series; of a compacted
file's row group, the pages that may hold the wanted series; of such a page, if one series is wanted, its values. Only
the columns are read in which the points of a series differ. What the series are made of is read apart.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import cancelling, costs, times
from meterhouse.stores import page_index
from meterhouse.stores.lake_footers import as_dictionaries
from meterhouse.stores.lake_order import Integers
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.page_index import Run
from meterhouse.stores.page_reading import PageReader, Pages, Part
from meterhouse.stores.series_pages import SeriesPages
from meterhouse.times import Span

if TYPE_CHECKING:
    from meterhouse.stores.lake import Lake

SAMPLES, DERIVED = "samples", "derived"

POINT: Final = pa.schema([TABLES[SAMPLES][0].field(name) for name in page_index.COLUMNS])
"""The columns in which the points of a series differ."""

SERIES: Final = pa.schema(
    [
        TABLES[SAMPLES][0].field(name)
        for name in ("series_id", "source", "meter", "type", "unit", "resource_id", "project_id", "user_id")
    ]
)
"""The id of a series, and what it is made from."""

THREADS: Final = 2

T = TypeVar("T")

AT_ONCE: Final = 32
"""Of so many files, pages are read together: each reading costs as much as some thousand points."""

POINTS_AT_ONCE: Final = 4_000_000
"""About how many points are read together at most, if not all are wanted: one takes 48 bytes."""

POINTS_A_FILE: Final = 3_600
"""How many points of a series are expected in a file at most: one a second."""

POINTS_AN_HOUR: Final = 60
"""How many are expected in the files of an hour."""

MANY: Final = 4
"""If more than one in so many pages of a file are wanted, its row groups are read as a whole."""

_MILLISECOND: Final = 1_000
_FIRST, _LAST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class _File:
    """A data file; `first` and `last` bound its times, in µs since 1970."""

    table: str
    path: str
    rows: int
    first: int
    last: int


@dataclass(frozen=True)
class _Chosen:
    """What is to be read of a file: row groups (number → whether of one meter), or pages, if there are any.

    `rows` is about how many rows that is.
    """

    file: _File
    groups: dict[int, bool]
    pages: list[Run]
    rows: int


class RawPoints:
    """The points of a meter in a span, at one state of the lake.

    Args:
        lake: the lake.
        meter: the meter; None for all.
        span: half-open, of event time.
        version: of `samples`; default the newest.
        tables: SAMPLES, DERIVED or both.
    """

    def __init__(
        self,
        lake: "Lake",
        meter: str | None,
        span: Span,
        version: int | None = None,
        tables: Sequence[str] = (SAMPLES, DERIVED),
    ) -> None:
        self._lake, self._meter, self._span = lake, meter, span
        self._series = SERIES.empty_table()
        self._files = [
            file
            for table in tables
            for file in _listed(lake, table, meter, span, version if table == SAMPLES else None)
        ]

    def read(
        self,
        span: Span | None = None,
        ids: Integers | None = None,
        *,
        metadata: bool = False,
        tables: Collection[str] = (SAMPLES, DERIVED),
    ) -> pa.Table:
        """The points, in no order: columns POINT.

        Args:
            span: of a part of the span; default all of it.
            ids: of these series, in order and each once; default all of the meter's.
            metadata: whether to read `metadata_id`; otherwise it is null.
            tables: from which tables.

        Raises:
            Replaced: a file was replaced and deleted meanwhile.
            Damaged: a file cannot be read.
        """
        start, end = (times.micros(moment) for moment in span or self._span)
        columns = POINT.names if metadata else [name for name in POINT.names if name != "metadata_id"]
        reading = _Reading(self._lake, self._meter, ids, start, end, columns)
        within = [file for file in self._files if file.first < reading.end and file.last >= reading.start]
        files = [file for file in within if file.table in tables]
        with ThreadPoolExecutor(THREADS, "points", cancelling.taken_over, (cancelling.current(),)) as threads:
            run: Any = threads.map if len(files) > 1 else map
            found = [POINT.empty_table()]
            if self._meter is not None and ids is not None and len(ids) == 1 and self._lake.object_store is None:
                points, files = reading.of_one(self._meter, files)  # threads would mostly wait for each other
                found.append(points)
            # To hand a file to a thread takes longer than to choose its pages.
            chosen = [each for some in run(reading.chosen, _batches(files)) for each in some if each.groups]
            costs.expect(sum(each.rows for each in chosen))
            found += run(reading.groups, [each for each in chosen if not each.pages])
            found += run(reading.pages, _alike([each for each in chosen if each.pages], columns))
        return pa.concat_tables(found)

    @property
    def files(self) -> int:
        """How many files may have points."""
        return len(self._files)

    @property
    def rows(self) -> int:
        """How many rows the files have that may have points."""
        return sum(file.rows for file in self._files)

    def series(self, ids: Integers) -> pa.Table:
        """The series that have these ids, in order and each once: columns SERIES, in the order of the ids.

        Raises:
            Replaced, Damaged: as `read`.
        """
        missing = np.setdiff1d(ids, _integers(self._series["series_id"]), assume_unique=True)
        for file in sorted(self._files, key=lambda file: file.last, reverse=True):
            if not len(missing):
                break
            found = _described(self._lake, file, self._meter, missing)
            self._series = pa.concat_tables([self._series, found])
            missing = np.setdiff1d(missing, _integers(found["series_id"]), assume_unique=True)
        known = self._series.sort_by("series_id")
        return known.filter(pa.array(_among(_integers(known["series_id"]), ids)))

    def ids(self, paths: Collection[str]) -> Integers:
        """The ids of the meter's series that some files of samples have, in order."""
        found = [np.zeros(0, np.int64)]
        for file in self._files:
            if file.table == SAMPLES and file.path in paths:
                reading = _Reading(self._lake, self._meter, None, _FIRST, _LAST, POINT.names)
                (chosen,) = reading.chosen([file])
                found.append(_integers(reading.groups(chosen)["series_id"]) if chosen.groups else found[0])
        return np.unique(np.concatenate(found))

    def newest_first(self, count: int, ids: Integers | None = None) -> Iterator[Span]:
        """The span in parts, the newest first: of the newest files, of four times as many, and so on.

        A part begins after the last point that a file can have which it does not need. So the parts that follow have
        all points that are older, however late they came. It has about POINTS_AT_ONCE points at most, or is one file's.

        Args:
            count: about how many points are looked for.
            ids: of the wanted series; None for all.
        """
        start, end = (times.micros(moment) for moment in self._span)
        files = sorted(self._files, key=lambda file: file.last, reverse=True)
        place, size = 0, 1 if ids is None else max(count // (POINTS_AN_HOUR * max(len(ids), 1)), 1)
        while start < end:
            first, rows = place, 0
            while place < len(files) and place < first + size and (rows <= POINTS_AT_ONCE or place == first):
                rows += files[place].rows if ids is None else min(files[place].rows, POINTS_A_FILE * len(ids))
                place += 1
            begin = max(start, files[place].last + 1) if place < len(files) and files[place].last < _LAST else start
            if begin < end:
                yield _moment(begin), _moment(end)
                end = begin
            size *= 4


@dataclass(frozen=True)
class _Reading:
    """Reads points of files.

    Attributes:
        ids: of the wanted series, in order; None for all.
        start, end: of the span, in µs since 1970.
        columns: those of POINT that are read; the others are null.
    """

    lake: "Lake"
    meter: str | None
    ids: Integers | None
    start: int
    end: int
    columns: list[str]

    def chosen(self, files: list[_File]) -> list[_Chosen]:
        """What to read of files."""
        return [self._chosen(file) for file in files]

    def _chosen(self, file: _File) -> _Chosen:
        footer = self.lake.footer(file.table, file.path)
        groups = footer.groups(self.meter, self.ids)
        # From an object store, many small pieces take longer than one large one.
        if footer.pages is None or self.ids is None or self.lake.object_store is not None:
            return _Chosen(file, groups, [], file.rows * len(groups) // max(len(footer.meters), 1))
        pages = list(footer.pages.runs(groups, self.ids))
        rows, of_pages = footer.pages.rows(groups), sum(run.rows for run in pages)
        few = MANY * of_pages <= rows
        return _Chosen(file, groups, pages if few else [], of_pages if few else rows)

    def of_one(self, meter: str, files: list[_File]) -> tuple[pa.Table, list[_File]]:
        """The points of the wanted series, if it is one, in files that have it in one page; and the other files."""
        series_id, others = int(np.asarray(self.ids)[0]), []
        pages = SeriesPages(series_id, pa.schema([POINT.field(name) for name in self.columns if name != "series_id"]))
        for file in files:
            cancelling.check()
            run = self.lake.footer(file.table, file.path).page_of(meter, series_id)
            if run is None or not self._added(pages, file, run):
                others.append(file)
        tables = [POINT.empty_table()]
        for points in pages.points():
            column = pa.repeat(pa.scalar(series_id, pa.int64()), len(points))
            tables.append(_whole(self._inside(points.append_column("series_id", column))))
        return pa.concat_tables(tables), others

    def _added(self, pages: SeriesPages, file: _File, run: Run) -> bool:
        try:
            handle = os.open(f"{self.lake.uri(file.table)}/{unquote(file.path)}", os.O_RDONLY)
            try:
                return pages.add(handle, run)
            finally:
                os.close(handle)
        except OSError as error:
            raise self.lake.file_fault(file.table, file.path, error) from error

    def _inside(self, points: pa.Table) -> pa.Table:
        """The points of the span."""
        moments = _integers(points["timestamp"])
        return points.filter(pa.array((moments >= self.start) & (moments < self.end)))

    def groups(self, chosen: _Chosen) -> pa.Table:
        """The points in row groups of a file."""
        columns = self.columns
        if self.meter is not None and self.ids is None and not all(chosen.groups.values()):
            columns = [*columns, "meter"]
        with self.lake.parquet(chosen.file.table, chosen.file.path) as opened:
            read = opened.read_row_groups(list(chosen.groups), columns, use_threads=False)
        if "meter" in columns:
            read = read.filter(pc.equal(read["meter"], pa.scalar(self.meter, pa.string())))
        return _whole(self._wanted(read.select(self.columns)))

    def pages(self, alike: tuple[tuple[str, ...], list[_Chosen]]) -> pa.Table:
        """The points in pages of files, of which the same columns have values."""
        cancelling.check()
        columns, chosen = alike
        parts = [part for each in chosen for part in self._parts(each, columns)]
        return _whole(self._wanted(_reader(columns).read(parts)))

    def _parts(self, chosen: _Chosen, columns: tuple[str, ...]) -> list[Part]:
        file = chosen.file
        try:
            handle = os.open(f"{self.lake.uri(file.table)}/{unquote(file.path)}", os.O_RDONLY)
            try:
                return [
                    Part(
                        run.rows,
                        [
                            Pages(*(os.pread(handle, size, at) for at, size in column))
                            for column in map(run.places.__getitem__, columns)
                        ],
                    )
                    for run in chosen.pages
                ]
            finally:
                os.close(handle)
        except OSError as error:
            raise self.lake.file_fault(file.table, file.path, error) from error

    def _wanted(self, points: pa.Table) -> pa.Table:
        """The points of the wanted series and span."""
        moments = _integers(points["timestamp"])
        wanted = (moments >= self.start) & (moments < self.end)
        if self.ids is not None:
            wanted &= _among(_integers(points["series_id"]), self.ids)
        rows = np.flatnonzero(wanted)
        if len(rows) and len(rows) == rows[-1] - rows[0] + 1:
            return points.slice(rows[0], len(rows))
        return points.take(pa.array(rows))


def _alike(chosen: list[_Chosen], columns: list[str]) -> list[tuple[tuple[str, ...], list[_Chosen]]]:
    """Pages that can be read together: the same columns have values. At most those of AT_ONCE files."""
    found: dict[tuple[str, ...], list[_Chosen]] = {}
    for each in chosen:
        for run in each.pages:
            there = tuple(name for name in columns if name in run.places)
            found.setdefault(there, []).append(replace(each, pages=[run]))
    return [(there, batch) for there, some in found.items() for batch in _batches(some)]


def _batches(items: list[T]) -> list[list[T]]:
    return [items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE)]


@cache
def _reader(columns: tuple[str, ...]) -> PageReader:
    return PageReader(pa.schema([POINT.field(name) for name in columns]))


def _whole(points: pa.Table) -> pa.Table:
    """The points with all columns of POINT, null where they were not read."""
    there = set(points.column_names)
    columns = [points[each.name] if each.name in there else pa.nulls(len(points), each.type) for each in POINT]
    return pa.table(columns, names=POINT.names).cast(POINT)


def _listed(lake: "Lake", table: str, meter: str | None, span: Span, version: int | None) -> list[_File]:
    found = lake.matching(table, version=version, overlapping=("timestamp", [span]))
    if meter is not None and "min.meter" in found.column_names:
        name = pa.scalar(meter, pa.string())  # to find the type of a value, Arrow loads dateutil
        outside = pc.or_(pc.greater(found["min.meter"], name), pc.less(found["max.meter"], name))
        found = found.filter(pc.invert(pc.fill_null(outside, False)))
    bounds = (_micros(found, f"{bound}.timestamp", unknown) for bound, unknown in (("min", _FIRST), ("max", _LAST)))
    return [
        _File(table, path, rows or 0, first, last if last == _LAST else last + _MILLISECOND)  # Delta cuts bounds
        for path, rows, first, last in zip(
            found["path"].to_pylist(), found["num_records"].to_pylist(), *bounds, strict=True
        )
    ]


def _micros(actions: pa.Table, column: str, unknown: int) -> list[int]:
    if column not in actions.column_names:
        return [unknown] * len(actions)
    moments = actions[column].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    values: list[int] = pc.fill_null(moments, unknown).to_pylist()
    return values


def _described(lake: "Lake", file: _File, meter: str | None, ids: Integers) -> pa.Table:
    """Those of the series that a file has."""
    groups = list(lake.footer(file.table, file.path).groups(meter, ids))
    if not groups:
        return SERIES.empty_table()
    with lake.parquet(file.table, file.path) as opened:
        texts = as_dictionaries(opened.metadata, SERIES.names[1:])
        series = _integers(opened.read_row_groups(groups, ["series_id"], use_threads=False)["series_id"])
        heads = np.flatnonzero(np.diff(series, prepend=_LAST))
        found, first = np.unique(series[heads], return_index=True)
        rows = heads[first[_among(found, ids)]]
        if not len(rows):
            return SERIES.empty_table()
    with lake.parquet(file.table, file.path, dictionaries=texts) as opened:
        read = opened.read_row_groups(groups, SERIES.names, use_threads=False)
    return read.take(pa.array(rows)).cast(SERIES)


def _among(ids: Integers, wanted: Integers) -> npt.NDArray[np.bool_]:
    """Which of the ids are wanted ones, which are in order."""
    if len(wanted) == 1:
        return np.asarray(ids == wanted[0])
    if not len(wanted):
        return np.zeros(len(ids), np.bool_)
    at = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[at] == ids)


def _integers(column: pa.ChunkedArray) -> Integers:
    values: Integers = pc.fill_null(column.cast(pa.int64()), _LAST).to_numpy()
    return values


def _moment(micros: int) -> Any:
    return times.EPOCH + timedelta(microseconds=micros)
