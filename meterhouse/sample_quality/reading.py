"""Reads the points of some event hours from the lake's files, in order of their series and times.

Texts are read once a series, and ids once a run of equal ones. The points are read in passes over ranges of series, so
that memory holds a bounded number of them; of a sorted file, a pass reads only the row groups that have some. A pass is
cut into shards. Files may be sorted (by meter, series and time) or not, and may overlap in time.

`Reading` finds out what there is, and divides it into passes. `Loader` reads the points of a pass, perhaps in another
process: a `Pass` has all that it needs to know of the files.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.corrections.applying import COLUMNS, change
from meterhouse.corrections.recorded import Correction
from meterhouse.sample_quality.series_table import Flags, Floats, Ints, Places, SeriesTable
from meterhouse.sample_quality.verdicts import HOUR, Points
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_footers import as_dictionaries
from meterhouse.times import Span

POINTS_A_PASS = 6_000_000
"""About how many points memory holds; one takes some 40 bytes."""

POINTS_A_SHARD = 130_000
"""About how many points are computed together: their columns fit into a processor's cache."""

ROWS_AT_ONCE = 1 << 18
"""About how many rows of a file are decoded together."""

NAME = "samples"

_DAY = 24 * HOUR

_MAX_DAY = 1 << 27
"""More days than a time in µs can be from 1970."""

READERS = 8
"""Files of an object store that are read at the same time."""

_SOLE = ("series_id", "timestamp", "volume", "recorded_at")

METADATA = "metadata_id"


class Hours:
    """A set of event hours, to find the times that lie in them."""

    def __init__(self, hours: Sequence[datetime]) -> None:
        self.spans = times.spans(hours)
        self.numbers: Ints = np.unique(np.array([times.micros(hour) // HOUR for hour in hours], np.int64))
        self._starts, self._ends = (np.array([times.micros(span[n]) for span in self.spans], np.int64) for n in (0, 1))

    @classmethod
    def of_span(cls, span: Span) -> "Hours":
        """A span that may start and end within an hour. Its hours have no numbers."""
        made = cls([])
        made.spans = [span]
        made._starts, made._ends = (np.array([times.micros(moment)], np.int64) for moment in span)
        return made

    def __len__(self) -> int:
        return len(self.numbers)

    def hold(self, time: Ints) -> Flags:
        """Which of the times (µs since 1970) are in one of the hours."""
        if len(self.spans) == 1:
            return np.asarray((time >= self._starts[0]) & (time < self._ends[0]))
        if not self.spans:
            return np.zeros(len(time), np.bool_)
        at = np.searchsorted(self._starts, time, side="right") - 1
        return np.asarray((at >= 0) & (time < self._ends[at]))

    def counted(self, time: Ints) -> Ints:
        """How many of the times are in each of the hours, in order of `numbers`."""
        hours = time // HOUR
        starts = heads(hours)
        counts = np.zeros(len(self.numbers), np.int64)
        at = np.searchsorted(self.numbers, hours[starts])
        lengths = np.diff(np.append(starts, len(hours)))
        inside = at < len(counts)
        inside[inside] = self.numbers[at[inside]] == hours[starts[inside]]
        np.add.at(counts, at[inside], lengths[inside])
        return counts


@dataclass(frozen=True)
class _Named:
    """What the lake's log says of a data file.

    Attributes:
        path: in the table's folder.
        size: in bytes.
        described: whether any of its points has metadata.
        day: since 1970, of all its points; None if they are of several days, or nobody knows.
    """

    path: str
    size: int
    described: bool
    day: int | None


@dataclass
class _File:
    """A data file: its runs of rows of one series.

    Attributes:
        named: it.
        rows: how many it has.
        groups: the first row of each row group, and the number of rows.
        starts: the first row of each run.
        ids: of the runs' series; emptied when their places are known.
        places: of the runs' series.
        ordered: whether the runs are in order of place.
    """

    named: _Named
    rows: int
    groups: Ints
    starts: Ints
    ids: Ints
    places: Places = field(default_factory=lambda: np.zeros(0, np.int32))
    ordered: bool = True

    def lengths(self) -> Ints:
        """The number of rows of each run."""
        return np.diff(np.append(self.starts, self.rows))


@dataclass(frozen=True)
class _Piece:
    """The runs of a file that a pass takes.

    Attributes:
        named: the file.
        groups: the first row of each of its row groups, and the number of its rows.
        starts: the first row of each run.
        stop: the row after the last run, if the runs are next to each other and in order of place.
        lengths: the number of rows of each run, if they are not; otherwise None.
        places: of the runs' series.
    """

    named: _Named
    groups: Ints
    starts: Ints
    stop: int
    lengths: Ints | None
    places: Places


@dataclass(frozen=True)
class Pass:
    """A range of series and where their points are. It is small beside the points, and can be pickled.

    Attributes:
        edges: the first place of each shard, and the place after the last one.
        pieces: of the files that have some of the points, in the order of the files.
    """

    edges: Places
    pieces: list[_Piece]


@dataclass
class _Loaded:
    """The points of a file that a pass has in memory, ordered by place.

    Attributes:
        file: where they are from.
        groups: the row groups that were read.
        rows: which rows of these groups they are; None for all of a slice that starts at `start`.
        start: see `rows`.
        accepted: which of them a correction accepts; None for none.
    """

    file: _Piece
    groups: list[int]
    start: int
    rows: Ints | None
    place: Places
    time: Ints
    volume: Floats
    recorded: Ints
    accepted: Flags | None = None
    more: dict[str, tuple[Ints, Flags]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


Slices = list[tuple[_Loaded, int, int]]
"""Loaded points, and the first and the last row of each (exclusive)."""


class _Columns:
    """Columns of the points of a shard that are read when they are needed; they know nothing of the shard."""

    def __init__(self, loader: "Loader", sources: Slices, order: Ints | None) -> None:
        self._loader, self._sources, self._order = loader, sources, order

    def of(self, name: str, rows: Ints | None) -> tuple[Ints, Flags]:
        """See `Shard.column`."""
        parts = [self._loader.more(loaded, name) for loaded, _, _ in self._sources]
        values, there = (
            np.concatenate([part[n][first:last] for part, (_, first, last) in zip(parts, self._sources, strict=True)])
            for n in (0, 1)
        )
        if self._order is not None:
            rows = self._order if rows is None else self._order[rows]
        return (values, there) if rows is None else (values[rows], there[rows])


class Shard:
    """The points of a range of series.

    Attributes:
        points: ordered by place and time.
        described: whether any of them may have metadata.
    """

    def __init__(self, loader: "Loader", sources: Slices) -> None:
        """Put slices of loaded points together; each is ordered by place, and mostly by time."""

        def joined(name: str) -> Any:
            return np.concatenate([getattr(_NOTHING, name), *(getattr(each, name)[a:b] for each, a, b in sources)])

        place, time = joined("place"), joined("time")
        order = _order_of_runs(place)
        if order is not None:
            place, time = place[order], time[order]
        mended = _order_of_times(place, time)
        if mended is not None:
            time = time[mended]
            order = mended if order is None else order[mended]
        volume, recorded = joined("volume"), joined("recorded")
        if order is not None:
            volume, recorded = volume[order], recorded[order]
        # No circle of references: the points go as soon as nobody needs them, not when Python looks for circles.
        self._columns = _Columns(loader, sources, order)
        accepted = _accepted(sources)
        if accepted is not None and order is not None:
            accepted = accepted[order]
        self.points = Points(place, time, volume, recorded, partial(self._columns.of, "sample_id"), accepted)
        self.described = any(loaded.file.named.described for loaded, _, _ in sources)

    def column(self, name: str, rows: Ints | None) -> tuple[Ints, Flags]:
        """Integers that are read when they are needed, of some rows of the points (None: all), and which are there.

        Args:
            name: `sample_id` or `metadata_id`.
            rows: in any order.
        """
        return self._columns.of(name, rows)


class Reading:
    """The points of some event hours in a version of the lake's `samples`.

    Args:
        lake: the lake.
        version: of `samples`.
        hours: the hours.
        threads: how many to use.

    Raises:
        Replaced: a file was replaced and deleted meanwhile.
        Damaged: a file cannot be read.
    """

    def __init__(self, lake: Lake, version: int, hours: Hours, threads: ThreadPoolExecutor) -> None:
        self._lake = lake
        self._hours = hours
        self._threads = threads
        found = lake.matching(NAME, version=version, overlapping=("timestamp", hours.spans)) if len(hours) else None
        listed = found.sort_by("min.timestamp") if found is not None and found.num_rows else None
        named = [] if listed is None else _named(listed)
        lake.know_sizes(NAME, {each.path: each.size for each in named})
        with _readers(lake, threads) as readers:
            self._files = list(readers.map(self._scanned, named))
        _share(self._files)
        self.table = self._table()
        placed: dict[int, tuple[Places, bool]] = {}
        for file in self._files:
            if id(file.ids) not in placed:
                places = self.table.places(file.ids)
                placed[id(file.ids)] = places, bool((places[1:] > places[:-1]).all())
            file.places, file.ordered = placed[id(file.ids)]
        for file in self._files:
            file.ids = file.ids[:0]

    @property
    def number_of_points(self) -> int:
        """How many points the files have of these series; some may be in other hours."""
        return sum(file.rows for file in self._files)

    def passes(self, at_once: int = 1) -> Iterator[Pass]:
        """The points in passes of about as many points each, in order of place.

        Args:
            at_once: how many passes run at once; the number of passes is a multiple of it, if there are enough series.
        """
        number = max(round(self.number_of_points / POINTS_A_PASS / at_once), 1) * at_once
        counts = np.zeros(len(self.table), np.int64)
        for file in self._files:
            np.add.at(counts, file.places, file.lengths())
        for first, last in _cuts(counts, self.number_of_points / number, 0, len(counts)):
            edges = [cut[0] for cut in _cuts(counts, POINTS_A_SHARD, first, last)]
            yield Pass(np.array([*edges, last], np.int32), list(_pieces(self._files, first, last)))

    def describe(self, ids: Ints, columns: Sequence[str]) -> pa.Table:
        """Columns of the series with these ids, in their order, from one of each series' points.

        They are looked up by place if `self.table` is there already.
        """
        return self._described(ids, [file.places for file in self._files], self.table.places(ids), columns)

    def days(self, wanted: Flags) -> tuple[Ints, Ints]:
        """The places of some series, and the days since 1970 of their points, whether excluded or not; each pair once.

        Points outside of the hours may be among them. Times are read only of files that have several days.

        Args:
            wanted: by place.
        """
        alike = {(id(file.places), file.named.day): file for file in self._files if file.named.day is not None}
        files = [*alike.values(), *(file for file in self._files if file.named.day is None)]
        keys = np.unique(np.concatenate([_INTS, *self._threads.map(lambda file: self._days(file, wanted), files)]))
        return keys // (2 * _MAX_DAY), keys % (2 * _MAX_DAY) - _MAX_DAY

    def _days(self, file: _File, wanted: Flags) -> Ints:
        """Numbers of places and days, see `days`."""
        runs = np.flatnonzero(wanted[file.places])
        if not len(runs):
            return _INTS
        places: Ints = file.places[runs].astype(np.int64) * (2 * _MAX_DAY) + _MAX_DAY
        if file.named.day is not None:
            return places + file.named.day
        with self._lake.parquet(NAME, file.named.path) as opened:
            time = plain(opened.read(["timestamp"], use_threads=False)["timestamp"].combine_chunks())
        lengths = file.lengths()[runs]
        rows = np.repeat(file.starts[runs] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        keys: Ints = np.repeat(places, lengths) + time[rows] // _DAY
        return keys[heads(keys)]

    def _scanned(self, named: _Named) -> _File:
        with self._lake.parquet(NAME, named.path) as file:
            meta = file.metadata
            counts = [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]
            groups = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
            starts, ids = [_INTS], [_INTS]
            for block, rows in _blocks(list(range(len(counts))), groups):
                of_block = plain(whole(file.read_row_groups(block, ["series_id"], use_threads=False)["series_id"]))
                at = heads(of_block)
                if len(at) and len(ids[-1]) and of_block[0] == ids[-1][-1]:  # a run goes on
                    at = at[1:]
                if len(at):
                    starts.append(at + rows)
                    ids.append(of_block[at])
        return _File(named, int(groups[-1]), groups, np.concatenate(starts), np.concatenate(ids))

    def _table(self) -> SeriesTable:
        """The table of all series that the files have."""
        different = {id(file.ids): file.ids for file in self._files}
        ids = np.unique(np.concatenate([_INTS, *different.values()]))
        found = self._described(ids, [file.ids for file in self._files], ids, ["meter", "type"])
        (meters, names), (types, known) = (_coded(found[name]) for name in ("meter", "type"))
        return SeriesTable.coded(ids, meters, names, types, known)

    def _described(self, ids: Ints, keys: Sequence[Any], wanted: Any, columns: Sequence[str]) -> pa.Table:
        """Columns of series: `keys` has a key of each run's series for each file, `wanted` those of `ids`."""
        order = np.argsort(wanted)
        sorted_keys = wanted[order]
        missing = np.ones(len(ids), np.bool_)
        pieces: list[pa.Table] = []
        of_rows: list[Ints] = []
        # Texts are in blocks of rows: files with few rows of a series have the least to read.
        dense = sorted(range(len(self._files)), key=lambda n: self._files[n].rows / max(len(self._files[n].starts), 1))
        for file, keys_of_file in ((self._files[n], keys[n]) for n in dense):
            if not missing.any():
                break
            at = np.minimum(np.searchsorted(sorted_keys, keys_of_file), len(order) - 1)
            hit = np.flatnonzero((sorted_keys[at] == keys_of_file) & missing[order[at]])
            if not len(hit):
                continue
            found, first = np.unique(order[at[hit]], return_index=True)
            pieces.append(_texts(self._lake, file, file.starts[hit[first]], columns))
            of_rows.append(found)
            missing[found] = False
        if not pieces:
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        return pa.concat_tables(pieces).take(pa.array(np.argsort(np.concatenate(of_rows))))


class Loader:
    """Reads the points of passes.

    Args:
        lake: the lake.
        table: all series.
        hours: points of other hours are left out.
        corrections: of these hours, in the order in which they take effect.
        threads: how many to use.
        described: whether the points' metadata is needed: then it is read with them.

    Raises:
        Replaced: a file was replaced and deleted meanwhile; here, in all methods.
        Damaged: a file cannot be read.
    """

    def __init__(
        self,
        lake: Lake,
        table: SeriesTable,
        hours: Hours,
        corrections: Sequence[Correction],
        threads: ThreadPoolExecutor,
        *,
        described: bool,
    ) -> None:
        self._lake, self._table, self._hours = lake, table, hours
        self._corrections, self._threads = corrections, threads
        self._described = described

    def shards(self, one: Pass) -> list[Slices]:
        """What makes each `Shard` of a pass, in order of place."""
        self._lake.know_sizes(NAME, {piece.named.path: piece.named.size for piece in one.pieces})
        with _readers(self._lake, self._threads) as readers:
            loaded = [each for each in readers.map(self._load, one.pieces) if each is not None]
        bounds = [np.searchsorted(each.place, one.edges).tolist() for each in loaded]
        return [
            [(each, at[n], at[n + 1]) for each, at in zip(loaded, bounds, strict=True) if at[n] < at[n + 1]]
            for n in range(len(one.edges) - 1)
        ]

    def _load(self, piece: _Piece) -> _Loaded | None:
        """The points of a piece that are in the hours."""
        rows: Ints | None = None
        starts, places = piece.starts, piece.places
        if piece.lengths is None:
            place = np.repeat(places, np.diff(np.append(starts, piece.stop)))
            groups = list(range(*_overlapping(piece.groups, int(starts[0]), piece.stop)))
            start = int(starts[0] - piece.groups[groups[0]])
        else:
            order = np.argsort(places, kind="stable")
            lengths = piece.lengths[order]
            place = np.repeat(places[order], lengths)
            rows = np.repeat(starts[order] - (np.cumsum(lengths) - lengths), lengths) + np.arange(len(place))
            groups = list(range(*_overlapping(piece.groups, int(rows.min()), int(rows.max()) + 1)))
            rows -= piece.groups[groups[0]]
            start = 0
        columns = [*_SOLE[1:], *([METADATA] if self._described and piece.named.described else [])]
        (time, _), (volume, _), (recorded, _), *more = self._columns(piece, groups, columns, start, len(place), rows)
        inside = self._hours.hold(time)
        if not inside.all():
            kept = np.flatnonzero(inside)
            rows = start + kept if rows is None else rows[kept]
            place, time, volume, recorded = place[kept], time[kept], volume[kept], recorded[kept]
            more = [(values[kept], there if there is None else there[kept]) for values, there in more]
        found = _Loaded(piece, groups, start, rows, place, time, volume, recorded)
        for name, (values, there) in zip(columns[3:], more, strict=True):
            found.more[name] = values, _known(values, there)
        if self._corrections:
            self._correct(found)
        return found if len(found.place) else None

    def _correct(self, loaded: _Loaded) -> None:
        """Apply the corrections to loaded points."""
        rows = np.arange(loaded.start, loaded.start + len(loaded.place)) if loaded.rows is None else loaded.rows
        first = int(loaded.file.groups[loaded.groups[0]])

        def of_meter(name: str) -> Flags:
            known = [code for code, meter in enumerate(self._table.meter_names) if meter == name]
            return np.isin(self._table.meters[loaded.place], known)

        changed = change(
            self._corrections,
            of_meter,
            loaded.time,
            loaded.volume,
            lambda at: _texts(self._lake, loaded.file, rows[at] + first, COLUMNS),
        )
        if changed is None:
            return
        loaded.volume = changed.volume
        loaded.accepted = changed.accepted if changed.accepted.any() else None
        if not changed.kept.all():
            kept = changed.kept
            loaded.rows = rows[kept]
            loaded.place, loaded.time = loaded.place[kept], loaded.time[kept]
            loaded.volume, loaded.recorded = loaded.volume[kept], loaded.recorded[kept]
            loaded.accepted = None if loaded.accepted is None else loaded.accepted[kept]
            loaded.more = {name: (values[kept], there[kept]) for name, (values, there) in loaded.more.items()}

    def more(self, loaded: _Loaded, name: str) -> tuple[Ints, Flags]:
        """A further column of loaded points, and where it has values."""
        with loaded.lock:
            if name not in loaded.more:
                loaded.more[name] = self._more(loaded, name)
            return loaded.more[name]

    def _more(self, loaded: _Loaded, name: str) -> tuple[Ints, Flags]:
        ((values, there),) = self._columns(
            loaded.file, loaded.groups, [name], loaded.start, len(loaded.place), loaded.rows
        )
        return values, _known(values, there)

    def _columns(
        self, piece: _Piece, groups: list[int], names: Sequence[str], start: int, length: int, rows: Ints | None
    ) -> list[tuple[Any, Flags | None]]:
        """Columns of numbers and times of a file, and where they have values (None: everywhere); times in µs.

        They are read a few row groups at a time: to take large new memory from the system costs more than to decode.

        Args:
            piece: of the file.
            groups: its row groups that have the rows, one after the other.
            names: of the columns.
            start: the first row in these groups.
            length: how many rows.
            rows: which rows of these groups; None for `length` rows from `start`.
        """
        number = length if rows is None else int(rows.max(initial=-1)) + 1
        before = start if rows is None else 0
        made: list[Any] = []
        there: list[Flags | None] = [None] * len(names)
        with self._lake.parquet(NAME, piece.named.path) as opened:
            for block, offset in _blocks(groups, piece.groups):
                read = opened.read_row_groups(block, list(names), use_threads=False)
                at = offset - int(piece.groups[groups[0]]) - before
                low, high = max(at, 0), min(at + len(read), number)
                if low >= high:
                    continue
                for n, name in enumerate(names):
                    column = whole(read[name])
                    values = plain(pc.fill_null(column, 0) if column.null_count else column)
                    if n == len(made):
                        made.append(_room(number, values.dtype))
                    made[n][low:high] = values[low - at : high - at]
                    if column.null_count:
                        flags = there[n]
                        if flags is None:
                            flags = there[n] = np.ones(number, np.bool_)
                        flags[low:high] = plain(column.is_valid())[low - at : high - at]
        found = list(zip(made, there, strict=True))
        return (
            found
            if rows is None
            else [(values[rows], flags if flags is None else flags[rows]) for values, flags in found]
        )


def _known(values: Ints, there: Flags | None) -> Flags:
    """Where there are values, of flags that are None if they are everywhere."""
    return np.ones(len(values), np.bool_) if there is None else there


@contextmanager
def _readers(lake: Lake, threads: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """The threads that read files: more of an object store, whose answers they mostly wait for."""
    if not lake.storage_options:
        yield threads
        return
    with ThreadPoolExecutor(READERS, "reading") as readers:
        yield readers


def _pieces(files: Sequence[_File], first: int, last: int) -> Iterator[_Piece]:
    """The pieces with the places from `first` to before `last`, of the files that have some of them."""
    known: dict[tuple[int, int, int], Any] = {}  # files of a poll share arrays, and so do their pieces

    def part(array: Any, start: int, stop: int) -> Any:
        return known.setdefault((id(array), start, stop), array[start:stop])

    for file in files:
        if file.ordered:
            run, end = np.searchsorted(file.places, (first, last)).tolist()
            if run < end:
                stop = int(file.starts[end]) if end < len(file.starts) else file.rows
                starts, places = part(file.starts, run, end), part(file.places, run, end)
                yield _Piece(file.named, file.groups, starts, stop, None, places)
        else:
            mine = np.flatnonzero((file.places >= first) & (file.places < last))
            if len(mine):
                starts, lengths, places = file.starts[mine], file.lengths()[mine], file.places[mine]
                yield _Piece(file.named, file.groups, starts, file.rows, lengths, places)


def _texts(lake: Lake, file: _File | _Piece, rows: Ints, columns: Sequence[str]) -> pa.Table:
    """Text columns of some rows of a file."""
    of_group = np.searchsorted(file.groups, rows, side="right") - 1
    groups = np.unique(of_group)
    with lake.parquet(NAME, file.named.path) as opened:
        dictionaries = as_dictionaries(opened.metadata, columns)
    with lake.parquet(NAME, file.named.path, dictionaries=dictionaries) as opened:
        found = opened.read_row_groups(groups.tolist(), list(columns), use_threads=False)
    sizes = np.diff(file.groups)[groups]
    offset = np.cumsum(sizes) - sizes
    taken = found.take(pa.array(rows - file.groups[of_group] + offset[np.searchsorted(groups, of_group)]))
    return taken.cast(pa.schema([(name, pa.string()) for name in columns]))


def _accepted(sources: Slices) -> Flags | None:
    """Which points of some slices, one after the other, are accepted; None for none."""
    if all(loaded.accepted is None for loaded, _, _ in sources):
        return None
    parts = [
        np.zeros(last - first, np.bool_) if loaded.accepted is None else loaded.accepted[first:last]
        for loaded, first, last in sources
    ]
    return np.concatenate(parts)


def _share(files: Sequence[_File]) -> None:
    """Let files with the same series in the same order, as those of a poll are, share the array of their ids.

    If they have as many rows of each, they share the array of these too.
    """
    known: list[_File] = []
    for file in files:
        for other in known[-3:]:
            if np.array_equal(other.ids, file.ids):
                file.ids = other.ids
                if np.array_equal(other.starts, file.starts):
                    file.starts = other.starts
                break
        else:
            known.append(file)


def _order_of_runs(place: Places) -> Ints | None:
    """A stable order by place, which consists of runs; None if it is in order."""
    starts = heads(place)
    of_run = place[starts]
    if (of_run[1:] > of_run[:-1]).all():
        return None
    order = np.argsort(of_run, kind="stable")
    lengths = np.diff(np.append(starts, len(place)))[order]
    return np.repeat(starts[order] - (np.cumsum(lengths) - lengths), lengths) + np.arange(len(place))


def _order_of_times(place: Places, time: Ints) -> Ints | None:
    """An order by time within each place; None if it is in order. Only series that are not in order are sorted."""
    wrong = np.flatnonzero((time[1:] < time[:-1]) & (place[1:] == place[:-1]))
    if not len(wrong):
        return None
    order = np.arange(len(place))
    rows = np.flatnonzero(np.isin(place, np.unique(place[wrong])))
    order[rows] = rows[np.lexsort((time[rows], place[rows]))]
    return order


def _cuts(counts: Ints, size: float, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges of the places from `first` to `last` that have about `size` points each."""
    if first == last:
        return
    before = np.cumsum(counts[first:last]) - counts[first:last]
    parts = max(round(float(counts[first:last].sum()) / size), 1)
    wanted = np.arange(1, parts) * (float(counts[first:last].sum()) / parts)
    edges = np.unique(np.concatenate(([0], np.searchsorted(before, wanted), [last - first])))
    yield from pairwise((first + edges).tolist())


def _blocks(groups: Sequence[int], starts: Ints) -> Iterator[tuple[list[int], int]]:
    """Row groups, one after the other, in blocks of about ROWS_AT_ONCE rows, and the first row of each block.

    Args:
        groups: which.
        starts: the first row of each of the file's row groups, and the number of rows.
    """
    block: list[int] = []
    for group in groups:
        if block and starts[group + 1] - starts[block[0]] > ROWS_AT_ONCE:
            yield block, int(starts[block[0]])
            block = []
        block.append(group)
    if block:
        yield block, int(starts[block[0]])


def _overlapping(groups: Ints, start: int, stop: int) -> tuple[int, int]:
    """The first row group that has one of the rows, and the one after the last."""
    return int(np.searchsorted(groups, start, side="right")) - 1, int(np.searchsorted(groups, stop, side="left"))


def heads(values: Any) -> Ints:
    """Where each run of equal values begins."""
    new = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return np.flatnonzero(new)


def _room(number: int, kind: Any) -> Any:
    """An array to be filled. NumPy asks for huge pages, which Linux may have to make first, by moving others."""
    return np.frombuffer(pa.allocate_buffer(number * kind.itemsize), kind)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array: `combine_chunks` also copies a single one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def plain(column: pa.Array) -> Any:
    """A column without nulls as NumPy; times as µs."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz)).view(pa.int64())
    return column.to_numpy(zero_copy_only=False)


def _coded(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """A column of texts as places in a list of the distinct ones."""
    encoded = column.combine_chunks().dictionary_encode()
    return plain(encoded.indices), encoded.dictionary.to_pylist()


def _named(actions: pa.Table) -> list[_Named]:
    """The files of rows of `Lake.actions`."""
    counted = "null_count.metadata_id"
    nulls = actions[counted] if counted in actions.column_names else pa.nulls(actions.num_rows, pa.int64())
    described = pc.fill_null(pc.not_equal(nulls, actions["num_records"]), True)
    # Delta truncates bounds of times to milliseconds: their days stay.
    first, last = (pc.cast(actions[f"{each}.timestamp"], pa.date32(), safe=False) for each in ("min", "max"))
    day = pc.if_else(pc.equal(first, last), first, None).cast(pa.int32())
    columns = (actions["path"], actions["size_bytes"], described, day)
    return [_Named(*each) for each in zip(*(column.to_pylist() for column in columns), strict=True)]


_INTS: Ints = np.zeros(0, np.int64)
_PLACES: Places = np.zeros(0, np.int32)
_NOWHERE = _Piece(_Named("", 0, False, None), _INTS, _INTS, 0, None, _PLACES)
_NOTHING = _Loaded(_NOWHERE, [], 0, None, _PLACES, _INTS, np.zeros(0), _INTS)
