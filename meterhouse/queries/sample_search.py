"""Finds samples: reads raw points, newest first, judges those that may fulfil a condition, and keeps those that do."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from meterhouse import times
from meterhouse.corrections.recorded import Correction, active
from meterhouse.filters import And, Condition, on_lake
from meterhouse.filters.fields import METADATA
from meterhouse.queries.judged_points import Judged, Received, ids_of, judged
from meterhouse.queries.raw_points import DERIVED, SAMPLES, SERIES, RawPoints
from meterhouse.queries.sample_candidates import Candidates
from meterhouse.queries.sample_ids import POINT_KEY, SAMPLE_KEY, asks_for_ids, by_keys, sample_key
from meterhouse.queries.series_ids import Wanted, wanted_series
from meterhouse.queries.snapshots import IDS_AT_ONCE, Snapshots
from meterhouse.queries.time_bounds import bounds_of
from meterhouse.sample_quality.carrying import carried_points
from meterhouse.sample_quality.judging import rule_names
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import CUMULATIVE, DELTA, Flags, Ints, Places, SeriesTable
from meterhouse.sample_quality.verdicts import NOTHING_CARRIED
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import series as series_table
from meterhouse.times import Span

if TYPE_CHECKING:
    from meterhouse.stores.lake_order import Integers

AT_ONCE = 1_000
"""Minimum number of candidates that are judged together, to judge few times."""

MANY = 20_000
"""Of more series, the catalog is asked for all, and not for each."""

_MICROSECOND = timedelta(microseconds=1)
_LANDED = "landed"
"""The column that says whether points are of `samples`."""

FOUND = pa.schema(
    [
        ("series_id", pa.int64()),
        ("id", pa.string()),
        ("meter", pa.string()),
        ("type", pa.string()),
        ("unit", pa.string()),
        ("volume", pa.float64()),
        ("user_id", pa.string()),
        ("project_id", pa.string()),
        ("resource_id", pa.string()),
        ("source", pa.string()),
        ("timestamp", TIME),
        ("recorded_at", TIME),
        ("reasons", pa.list_(pa.string())),
        ("metadata_id", pa.int64()),
    ]
)
"""A sample, with the names of the quality rules that it breaks."""

Place = tuple[int, str]
"""A time, µs since 1970, and the id of a sample of it."""


@dataclass(frozen=True)
class Pairs:
    """Series and times, in order.

    Attributes:
        series: the different series, in order.
        moments: the different times, µs since 1970, in order.
        keys: of the pairs: the place of the series, times the number of times, and the place of the time.
    """

    series: Ints
    moments: Ints
    keys: Ints

    @classmethod
    def of(cls, points: pa.Table) -> "Pairs":
        """Those of points."""
        series, of_series = np.unique(plain(points["series_id"].combine_chunks()), return_inverse=True)
        moments, of_moment = np.unique(_micros(points), return_inverse=True)
        return cls(series, moments, np.unique(of_series * len(moments) + of_moment))

    def hold(self, points: pa.Table) -> Flags:
        """Which points are of these series and times."""
        return self.among(plain(points["series_id"].combine_chunks()), _micros(points))

    def among(self, series: Ints, moments: Ints) -> Flags:
        """Which series and times are among these."""
        at_series = np.minimum(np.searchsorted(self.series, series), len(self.series) - 1)
        at_moment = np.minimum(np.searchsorted(self.moments, moments), len(self.moments) - 1)
        known: Flags = (self.series[at_series] == series) & (self.moments[at_moment] == moments)
        return known & np.isin(at_series * len(self.moments) + at_moment, self.keys)


@dataclass
class Search:
    """Finds the samples of a span that fulfil a condition.

    Attributes:
        site: the site.
        meter: whose samples; None for those of all meters.
        condition: on samples, see `samples.MEASURES`; message ids among it.
        span: half-open, of event time.
        good_only: leave out the samples that the quality rules exclude.
        after: leave out what comes before this sample in order, newest first, and itself.

    Raises:
        UsageError: the condition asks for message ids that cannot be found, see `sample_ids`.
    """

    site: Site
    meter: str | None
    condition: Condition
    span: Span
    good_only: bool = False
    after: Place | None = None
    raw: RawPoints = field(init=False)
    parts: RawPoints = field(init=False)
    pairs: Pairs | None = field(init=False, default=None)
    wanted: Wanted = field(init=False)
    snapshots: Snapshots = field(init=False)
    corrections: Sequence[Correction] = field(init=False)

    def __post_init__(self) -> None:
        if self.after is not None:
            self.span = (self.span[0], min(self.span[1], _moment(self.after[0] + 1)))
        condition = self.condition
        if asks_for_ids(condition):
            condition = by_keys(self.site, condition, self.span)
        first, last = bounds_of(condition)
        start, end = (times.micros(moment) for moment in self.span)
        self.span = _moment(max(start, first)), _moment(max(min(end, last), max(start, first)))
        self.raw = self.parts = RawPoints(self.site.lake, self.meter, self.span)
        self.wanted = wanted_series(self.site, self.raw, self.meter, condition)
        self.snapshots = Snapshots(self.site)
        self.corrections = [
            each for each in active(self.site, [self.span]) if self.meter is None or each.meter == self.meter
        ]

    def newest(self, limit: int) -> pa.Table:
        """The newest of the samples: columns FOUND."""
        found: list[pa.Table] = []
        count = 0
        for begin, until in self.parts.newest_first(2 * limit, self.wanted.ids):
            if count >= limit:
                break
            points = self.read((begin, until), self.wanted.ids)
            rows = self.candidates(points)
            while len(rows) and count < limit:
                some, rows = _newest(points, rows, max(2 * (limit - count), AT_ONCE))
                since = _moment(int(_micros(points)[some].min())) if len(rows) else begin
                judging = _Judging(self, self._beside(points, some), begin)
                found.append(judging.newest((since, until), limit - count))
                count += len(found[-1])
                until = since
        return pa.concat_tables([FOUND.empty_table(), *found])

    def since(self, micros: int) -> "Search":
        """The same search, of what is of a time (µs since 1970) or later."""
        made = copy(self)
        made.parts = RawPoints(self.site.lake, self.meter, (max(self.span[0], _moment(micros)), self.span[1]))
        return made

    def among(self, points: pa.Table) -> "Search":
        """The same search, of what has series and time of some points alone."""
        made = self.since(int(_micros(points).min()))
        made.pairs = Pairs.of(points)
        made.wanted = replace(self.wanted, ids=made.pairs.series)
        return made

    @property
    def points(self) -> int:
        """About how many points there are at most."""
        return max(self.parts.rows, 1)

    def candidates(self, points: pa.Table) -> Ints:
        """The rows of the points that may be such samples."""
        if self.wanted.rest == And(()):
            found = np.arange(len(points))
        else:
            choosing = Candidates(self.wanted, self.snapshots, bool(self.corrections))
            found = np.flatnonzero(choosing.of(points)[0])
        return found if self.pairs is None else found[self.pairs.hold(points.take(pa.array(found)))]

    def _beside(self, points: pa.Table, rows: Ints) -> pa.Table:
        """The points of the series of some of them."""
        series = plain(points["series_id"].combine_chunks())
        return points.filter(pa.array(_is_among(series, np.unique(series[rows]))))

    def read(self, span: Span, ids: "Integers | None") -> pa.Table:
        """The points of a part, and whether each was landed: derived points follow their sources' corrections."""
        found = []
        for tables in ((SAMPLES,), (DERIVED,)) if self.corrections else ((SAMPLES, DERIVED),):
            points = self.raw.read(span, ids, metadata=True, tables=tables)
            landed = pa.repeat(pa.scalar(SAMPLES in tables, pa.bool_()), len(points))
            found.append(points.append_column(_LANDED, landed))
        return pa.concat_tables(found)

    def described(self, ids: Ints) -> pa.Table:
        """What series are made from, in the order of their ids: columns SERIES. Files have what the catalog lacks."""
        columns = series_table.c
        query = select(*(columns[name] for name in SERIES.names))
        if self.meter is not None:
            query = query.where(columns.meter == self.meter)
        rows: list[Any] = []
        with self.site.warehouse.read() as connection:
            if len(ids) > MANY:
                rows = list(connection.execute(query))
            else:
                for place in range(0, len(ids), IDS_AT_ONCE):
                    some = columns.series_id.in_(ids[place : place + IDS_AT_ONCE].tolist())
                    rows += connection.execute(query.where(some))
        texts = list(zip(*rows, strict=True)) or [()] * len(SERIES)
        known = pa.table([pa.array(each, of.type) for each, of in zip(texts, SERIES, strict=True)], schema=SERIES)
        known = known.filter(pc.is_in(known["series_id"], pa.array(ids)))
        if len(known) < len(ids):
            missing = np.setdiff1d(ids, plain(known["series_id"].combine_chunks()), assume_unique=True)
            known = pa.concat_tables([known, self.raw.series(missing)])
        return known.sort_by("series_id")


class _Judging:
    """Judges the points of parts of a span, as if all points of the span were judged together.

    A verdict depends on the point, on others of its series and time, and, of a counter, on its good point before.
    """

    def __init__(self, search: Search, points: pa.Table, begin: datetime) -> None:
        """Judge all points of some series from `begin` on, up to what is asked for."""
        self._search, self._begin = search, begin
        self._verdicts = _Verdicts.of(search, points, begin)

    def newest(self, part: Span, limit: int) -> pa.Table:
        """The newest samples of a part that are searched for: columns FOUND, in order."""
        found = self._verdicts.newest(part, limit)
        if self._begin <= self._search.span[0]:
            return found
        first_ones = self._verdicts.first_of_counters(found)
        if not len(first_ones):
            return found
        again = self._with_previous(first_ones, part[1])
        others = found.filter(pc.invert(pc.is_in(found["series_id"], pa.array(first_ones))))
        return in_order(pa.concat_tables([others, again.newest(part, limit)])).slice(0, limit)

    def _with_previous(self, ids: Ints, until: datetime) -> "_Verdicts":
        """The verdicts on the points of counters together with those before, as far back as is needed."""
        search, hours = self._search, 1
        earliest = max(search.span[0], self._begin - search.site.settings.carry_hours * times.HOUR)
        while True:
            begin = max(earliest, self._begin - hours * times.HOUR)
            hours *= 4
            verdicts = _Verdicts.of(search, search.read((begin, until), ids), begin)
            if begin <= earliest or verdicts.all_good_before(self._begin):
                return verdicts


@dataclass
class _Verdicts:
    """The points of some series with their verdicts.

    Attributes:
        search: what they are judged for.
        table: the series.
        described: what these are made from, by place.
        found: the verdicts.
    """

    search: Search
    table: SeriesTable
    described: pa.Table
    found: Judged

    @classmethod
    def of(cls, search: Search, points: pa.Table, begin: datetime) -> "_Verdicts":
        """Judge all points of some series from `begin` on."""
        described = search.described(np.unique(plain(points["series_id"].combine_chunks())))
        ids = plain(described["series_id"].combine_chunks())
        table = SeriesTable.of(ids, described["meter"].to_pylist(), described["type"].to_pylist())
        described = described.take(pa.array(np.searchsorted(ids, table.ids)))
        carried, carry_hours = NOTHING_CARRIED, search.site.settings.carry_hours
        if begin == search.span[0]:
            carried = carried_points(search.site.lake, table, Hours.of_span(search.span), carry_hours)
        found = judged(
            Received.of(points, table, plain(points[_LANDED].combine_chunks())),
            table,
            described,
            search.site.rules,
            corrections=search.corrections,
            carried=carried,
            carry_hours=carry_hours,
        )
        return cls(search, table, described, found)

    def all_good_before(self, moment: datetime) -> bool:
        """Whether each series has a good point before a moment."""
        good = self.found.distinct[self.found.good]
        before = good[self.found.points.time[good] < times.micros(moment)]
        return len(np.unique(self.found.points.place[before])) == len(self.table)

    def first_of_counters(self, samples: pa.Table) -> Ints:
        """The counters of which one of the samples has the time of their first good point."""
        points, good = self.found.points, self.found.distinct[self.found.good]
        place = points.place[good]
        heads = good[np.flatnonzero(np.diff(place, prepend=-1))]
        heads = heads[self.table.kinds[points.place[heads]] == CUMULATIVE]
        ids = self.table.ids[points.place[heads]]
        times_of = dict(zip(ids.tolist(), points.time[heads].tolist(), strict=True))
        shown = zip(samples["series_id"].to_pylist(), _micros(samples).tolist(), strict=True)
        return np.array(sorted({each for each, time in shown if times_of.get(each) == time}), np.int64)

    def newest(self, part: Span, limit: int) -> pa.Table:
        """The newest samples of a part that are searched for: columns FOUND, in order."""
        points = self.found.points
        time = points.time[self.found.distinct]
        wanted = (time >= times.micros(part[0])) & (time < times.micros(part[1]))
        if self.search.good_only:
            wanted &= self.found.good
        of_part = np.flatnonzero(wanted)
        if self.search.pairs is not None:
            rows = self.found.distinct[of_part]
            of_part = of_part[self.search.pairs.among(self.table.ids[points.place[rows]], points.time[rows])]
        if self.search.after is not None:
            of_part = of_part[self._come_after(of_part, self.search.after)]
        if self.search.wanted.rest != And(()):
            of_part = of_part[self._fulfil(self.found.distinct[of_part])]
        if len(of_part) > limit > 0:
            time = time[of_part]
            of_part = of_part[time >= np.partition(time, len(time) - limit)[len(time) - limit]]
        return in_order(self._samples(of_part)).slice(0, limit)

    def _come_after(self, chosen: Ints, place: Place) -> Flags:
        """Which of the distinct points come after a place."""
        rows = self.found.distinct[chosen]
        after: Flags = self.found.points.time[rows] < place[0]
        same = np.flatnonzero(self.found.points.time[rows] == place[0])
        ids = ids_of(self.found.points, self.table, rows[same]).to_pylist()
        after[same] = [each > place[1] for each in ids]
        return after

    def _samples(self, chosen: Ints) -> pa.Table:
        """Some of the distinct points, as samples."""
        points, rows = self.found.points, self.found.distinct[chosen]
        of_series = self.described.take(pa.array(points.place[rows]))
        bits, of_row = np.unique(self.found.bits[chosen], return_inverse=True)
        names = pa.array([rule_names(self.search.site.rules, each) for each in bits.tolist()], pa.list_(pa.string()))
        columns = {
            **{name: of_series[name] for name in SERIES.names},
            "id": ids_of(points, self.table, rows),
            "volume": pa.array(points.volume[rows] + 0.0),  # no volume is -0.0
            "timestamp": pa.array(points.time[rows]).cast(TIME),
            "recorded_at": pa.array(points.recorded[rows]).cast(TIME),
            "reasons": names.take(pa.array(of_row)),
            "metadata_id": points.metadata.take(pa.array(rows)),
        }
        return pa.table([columns[name] for name in FOUND.names], schema=FOUND)

    def _fulfil(self, rows: Ints) -> Flags:
        """Which of some points fulfil the condition."""
        search, points = self.search, self.found.points
        place = points.place[rows]
        is_delta = self.table.kinds[place] == DELTA
        given = pa.table(
            {
                "series_id": pa.array(self.table.ids[place]),
                "timestamp": pa.array(points.time[rows]).cast(TIME),
                "volume": pa.array(points.volume[rows] + 0.0),
                "sample_id": pa.array(points.sample[rows], mask=~(is_delta & points.identified[rows])),
                "recorded_at": pa.array(points.recorded[rows]).cast(TIME),
                "metadata_id": points.metadata.take(pa.array(rows)),
            }
        )
        may, may_fail = Candidates(search.wanted, search.snapshots, corrected=False).of(given)
        unsure = np.flatnonzero(may & may_fail)
        if len(unsure):
            may[unsure] = self._exactly(given.take(pa.array(unsure)), place[unsure], rows[unsure])
        return may

    def _exactly(self, given: pa.Table, place: Places, rows: Ints) -> Flags:
        """Which points fulfil the condition, of series that the catalog may not know."""
        of_series = self.described.take(pa.array(place)).drop_columns(["series_id"])
        for name, column in zip(of_series.column_names, of_series.columns, strict=True):
            given = given.append_column(name, column)
        metadata = given["metadata_id"].to_pylist()
        texts = self.search.snapshots.texts(each for each in metadata if each is not None)
        keys = [None if each is None else sample_key(each) for each in given["sample_id"].to_pylist()]
        for name, values in {
            METADATA: [texts.get(each) for each in metadata],
            POINT_KEY: [f"{a}-{b}" for a, b in zip(given["series_id"].to_pylist(), _micros(given), strict=True)],
            SAMPLE_KEY: keys,
        }.items():
            given = given.append_column(name, pa.array(values, pa.string()))
        given = given.append_column("number", pa.array(np.arange(len(given))))
        condition, values = on_lake(self.search.wanted.rest)
        with self.search.site.lake.connect() as duck:
            duck.register("points", given)
            found = duck.execute(f"SELECT number FROM points WHERE {condition}", values).fetchnumpy()["number"]
        met = np.zeros(len(given), np.bool_)
        met[np.asarray(found, np.int64)] = True
        return met


def _newest(points: pa.Table, rows: Ints, size: int) -> tuple[Ints, Ints]:
    """The newest rows, of which there are at least `size` if there are as many, and the others, which are older."""
    if len(rows) <= size:
        return rows, rows[:0]
    moments = _micros(points)[rows]
    newest = moments >= np.partition(moments, len(moments) - size)[len(moments) - size]
    return rows[newest], rows[~newest]


def _is_among(ids: Ints, wanted: Ints) -> Flags:
    """Which ids are among others, which are in order."""
    at = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    return np.asarray(wanted[at] == ids)


def _micros(table: pa.Table) -> Ints:
    found: Ints = plain(table["timestamp"].cast(pa.int64()).combine_chunks())
    return found


def _moment(micros: int) -> datetime:
    return times.EPOCH + micros * _MICROSECOND


def in_order(samples: pa.Table) -> pa.Table:
    """Samples, the newest first; of one time, by id, the one that arrived last, and the larger volume first."""
    volume = samples["volume"].to_numpy()
    unknown = np.isnan(volume)
    keys = samples.select(["timestamp", "id", "recorded_at", "series_id"])
    keys = keys.append_column("unknown", pa.array(unknown)).append_column(
        "volume", pa.array(np.where(unknown, 0, volume))
    )
    order = pc.sort_indices(
        keys,
        [
            *(("timestamp", "descending"), ("id", "ascending"), ("recorded_at", "descending")),
            *(("unknown", "descending"), ("volume", "descending"), ("series_id", "ascending")),
        ],
    )
    return samples.take(order)
