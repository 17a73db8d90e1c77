"""Samples of the lake, with the quality rules that each breaks; the newest ones without a look at older files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from meterhouse import times
from meterhouse.corrections.recorded import Correction, active
from meterhouse.filters import SAMPLES as SAMPLE_FIELDS
from meterhouse.filters import And, Condition, all_of, fields_of, on_lake
from meterhouse.queries.described import OF_VERDICT, describe_points
from meterhouse.queries.judged_points import Judged, Received, ids_of, judged
from meterhouse.queries.meters import meter_span
from meterhouse.queries.raw_points import DERIVED, SAMPLES, SERIES, RawPoints
from meterhouse.queries.series_ids import wanted_series
from meterhouse.sample_quality.carrying import carried_points
from meterhouse.sample_quality.judging import rule_names
from meterhouse.sample_quality.reading import Hours, plain
from meterhouse.sample_quality.series_table import CUMULATIVE, DELTA, Ints, SeriesTable
from meterhouse.sample_quality.verdicts import NOTHING_CARRIED
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import series as series_table
from meterhouse.times import Span

if TYPE_CHECKING:
    from meterhouse.stores.lake_order import Integers

_AT_ONCE = 10_000
"""Minimum number of points that are judged together, to judge few times."""

_FEW = 500
"""Of so many series, the catalog is asked one by one; of more, for all of the meter."""

_MICROSECOND = timedelta(microseconds=1)

_OF_SAMPLES = pa.schema(
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
    ]
)


@retried
def samples(
    site: Site,
    scope: Scope,
    meter: str,
    *,
    query: Sequence[Condition] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
) -> pa.Table:
    """A meter's samples of a half-open span, newest first, with the names of the quality rules that each breaks.

    Only samples of the scope are given. `query` are conditions on SAMPLES, all of which have to hold; `metadata.KEY` is
    the sample's own metadata.

    Samples of a gauge or counter with the same series, time and volume are shown once. Those with different volumes
    share an id, and only the one that counts does not break the rule `duplicate`. Volumes are those as corrected.

    Returns:
        The columns id (of a delta, its sample_id; of others, series and time in microseconds since 1970), meter, type,
        unit, volume, user_id, project_id, resource_id, source, timestamp, recorded_at (UTC) and reasons.

    Raises:
        UnknownName: no series of the scope has this meter.
    """
    first, last = meter_span(site, scope, meter)
    span = (start or first, end or last + _MICROSECOND)
    condition = all_of(scope.within(query, SAMPLE_FIELDS))
    raw = RawPoints(site.lake, meter, span)
    wanted = wanted_series(site, raw, meter, condition)
    corrections = [each for each in active(site, [span]) if each.meter == meter]
    judging = _Judging(site, meter, raw, span, wanted.rest, corrections)
    found: list[pa.Table] = []
    count = 0
    for begin, until in raw.newest_first(2 * limit, wanted.ids):
        if count >= limit:
            break
        points = judging.read((begin, until), wanted.ids)
        while len(points) and count < limit:
            piece, points = _newest(points, max(2 * (limit - count), _AT_ONCE))
            part = (_earliest(piece) if len(points) else begin, until)
            found.append(judging.newest(piece, part, limit - count))
            count += len(found[-1])
            until = part[0]
    return pa.concat_tables([_OF_SAMPLES.empty_table(), *found]).drop_columns(["series_id"])


def _newest(points: pa.Table, size: int) -> tuple[pa.Table, pa.Table]:
    """The newest points, of which there are at least `size` if there are as many, and the others, which are older."""
    if len(points) <= size:
        return points, points.slice(0, 0)
    moments = points["timestamp"].cast(pa.int64()).to_numpy()
    newest = moments >= np.partition(moments, len(moments) - size)[len(moments) - size]
    return points.filter(pa.array(newest)), points.filter(pa.array(~newest))


def _earliest(points: pa.Table) -> datetime:
    return times.EPOCH + int(pc.min(points["timestamp"].cast(pa.int64())).as_py()) * _MICROSECOND


_LANDED = "landed"
"""The column that says whether points are of `samples`."""


@dataclass
class _Judging:
    """Judges the points of parts of a span, as if all points of the span were judged together.

    A verdict depends on the point, on others of its series and time, and, of a counter, on its good point before.
    """

    site: Site
    meter: str
    raw: RawPoints
    span: Span
    wanted: Condition
    corrections: Sequence[Correction]

    def newest(self, points: pa.Table, part: Span, limit: int) -> pa.Table:
        """The newest samples of a part that fulfil the query, with `series_id`.

        Args:
            points: all points of the wanted series in the part.
            part: a part of the span.
            limit: maximum number.
        """
        verdicts = self._judge(points, part[0])
        found = verdicts.newest(part, limit)
        first_ones = verdicts.first_of_counters(found) if part[0] > self.span[0] else np.zeros(0, np.int64)
        if not len(first_ones):
            return found
        verdicts = self._judged_with_previous(first_ones, part)
        others = found.filter(pc.invert(pc.is_in(found["series_id"], pa.array(first_ones))))
        return _in_order(pa.concat_tables([others, verdicts.newest(part, limit)])).slice(0, limit)

    def read(self, span: Span, ids: "Integers | None") -> pa.Table:
        """The points of a part, and whether each was landed: derived points follow their sources' corrections."""
        found = []
        for tables in ((SAMPLES,), (DERIVED,)) if self.corrections else ((SAMPLES, DERIVED),):
            points = self.raw.read(span, ids, metadata=self.by_metadata, tables=tables)
            found.append(
                points.append_column(_LANDED, pa.repeat(pa.scalar(SAMPLES in tables, pa.bool_()), len(points)))
            )
        return pa.concat_tables(found)

    @property
    def by_metadata(self) -> bool:
        """Whether the query asks for metadata of the samples."""
        return any(field.column == "metadata" for field in fields_of(self.wanted))

    def _judged_with_previous(self, ids: Ints, part: Span) -> "_Verdicts":
        """The verdicts on the points of counters together with what is before the part, as far back as is needed."""
        begin, hours = part[0], 1
        earliest = max(self.span[0], begin - self.site.settings.carry_hours * times.HOUR)
        while True:
            begin = max(earliest, part[0] - hours * times.HOUR)
            hours *= 4
            verdicts = self._judge(self.read((begin, part[1]), ids), begin)
            if begin <= earliest or verdicts.all_good_before(part[0]):
                return verdicts

    def _judge(self, points: pa.Table, begin: datetime) -> "_Verdicts":
        """The verdicts on all points of some series from `begin` on."""
        described = self._described(np.unique(plain(points["series_id"].combine_chunks())))
        table = SeriesTable.of(
            plain(described["series_id"].combine_chunks()),
            described["meter"].to_pylist(),
            described["type"].to_pylist(),
        )
        carried, carry_hours = NOTHING_CARRIED, self.site.settings.carry_hours
        if begin == self.span[0]:
            carried = carried_points(self.site.lake, table, Hours.of_span(self.span), carry_hours)
        received = Received.of(points, table, plain(points[_LANDED].combine_chunks()))
        found = judged(
            received,
            table,
            described,
            self.site.rules,
            corrections=self.corrections,
            carried=carried,
            carry_hours=carry_hours,
        )
        return _Verdicts(self, table, described, found)

    def _described(self, ids: Ints) -> pa.Table:
        """What series are made from, in the order of their ids: columns SERIES. Files have what the catalog lacks."""
        columns = series_table.c
        query = select(*(columns[name] for name in SERIES.names)).where(columns.meter == self.meter)
        if len(ids) <= _FEW:
            query = query.where(columns.series_id.in_(ids.tolist()))
        with self.site.warehouse.read() as connection:
            rows = list(zip(*connection.execute(query).all(), strict=True)) or [()] * len(SERIES)
        arrays = [pa.array(values, each.type) for values, each in zip(rows, SERIES, strict=True)]
        known = pa.table(arrays, schema=SERIES)
        known = known.filter(pc.is_in(known["series_id"], pa.array(ids)))
        if len(known) < len(ids):
            missing = np.setdiff1d(ids, plain(known["series_id"].combine_chunks()), assume_unique=True)
            known = pa.concat_tables([known, self.raw.series(missing)])
        return known.sort_by("series_id")


@dataclass
class _Verdicts:
    """The points of some series with their verdicts.

    Attributes:
        judging: what they are judged for.
        table: the series.
        described: what these are made from, by place.
        found: the verdicts.
    """

    judging: _Judging
    table: SeriesTable
    described: pa.Table
    found: Judged

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
        shown = zip(
            samples["series_id"].to_pylist(), plain(samples["timestamp"].combine_chunks()).tolist(), strict=True
        )
        return np.array(sorted({each for each, time in shown if times_of.get(each) == time}), np.int64)

    def newest(self, part: Span, limit: int) -> pa.Table:
        """The newest samples of a part that fulfil the query: columns _OF_SAMPLES, in order."""
        points = self.found.points
        time = points.time[self.found.distinct]
        of_part = np.flatnonzero((time >= times.micros(part[0])) & (time < times.micros(part[1])))
        if self.judging.wanted != And(()):
            of_part = of_part[self._fulfil(of_part)]
        if len(of_part) > limit > 0:
            time = time[of_part]
            of_part = of_part[time >= np.partition(time, len(time) - limit)[len(time) - limit]]
        return _in_order(self._samples(of_part)).slice(0, limit)

    def _samples(self, chosen: Ints) -> pa.Table:
        """Some of the distinct points, as samples."""
        points, rows = self.found.points, self.found.distinct[chosen]
        of_series = self.described.take(pa.array(points.place[rows]))
        bits, of_row = np.unique(self.found.bits[chosen], return_inverse=True)
        names = pa.array([rule_names(self.judging.site.rules, each) for each in bits.tolist()], pa.list_(pa.string()))
        columns = {
            **{name: of_series[name] for name in SERIES.names},
            "id": ids_of(points, self.table, rows),
            "volume": pa.array(points.volume[rows] + 0.0),  # no volume is -0.0
            "timestamp": pa.array(points.time[rows]).cast(TIME),
            "recorded_at": pa.array(points.recorded[rows]).cast(TIME),
            "reasons": names.take(pa.array(of_row)),
        }
        return pa.table([columns[name] for name in _OF_SAMPLES.names], schema=_OF_SAMPLES)

    def _fulfil(self, chosen: Ints) -> Ints:
        """Which of some of the distinct points fulfil the query, in order."""
        points, rows = self.found.points, self.found.distinct[chosen]
        condition, values = on_lake(self.judging.wanted)
        place = pa.array(points.place[rows])
        is_delta = self.table.kinds[points.place[rows]] == DELTA
        given = self.described.take(place)
        own = {
            "number": pa.array(np.arange(len(rows))),
            "timestamp": pa.array(points.time[rows]).cast(TIME),
            "volume": pa.array(points.volume[rows] + 0.0),
            "recorded_at": pa.array(points.recorded[rows]).cast(TIME),
            "sample_id": pa.array(points.sample[rows], mask=~(is_delta & points.identified[rows])),
        }
        for name, column in own.items():
            given = given.append_column(name, column)
        with self.judging.site.lake.connect() as duck:
            duck.register("verdicts", given)
            metadata, described = "NULL", ""
            if self.judging.by_metadata:
                duck.register("points", self._received())
                describe_points(self.judging.site, duck)
                metadata, described = "d.metadata", f"LEFT JOIN described AS d ON {OF_VERDICT}"
            query = (
                f"SELECT number FROM (SELECT v.*, {metadata} AS metadata FROM verdicts AS v {described}) "
                f"WHERE {condition}"
            )
            found = np.asarray(duck.execute(query, values).fetchnumpy()["number"], np.int64)
        return np.sort(found)

    def _received(self) -> pa.Table:
        """All points, copies included, as corrected."""
        points = self.found.points
        own = {
            "timestamp": pa.array(points.time).cast(TIME),
            "volume": pa.array(points.volume),
            "recorded_at": pa.array(points.recorded).cast(TIME),
            "sample_id": pa.array(points.sample, mask=~points.identified),
            "metadata_id": points.metadata,
        }
        of_series = self.described.take(pa.array(points.place))
        for name, column in own.items():
            of_series = of_series.append_column(name, column)
        return of_series


def _in_order(samples: pa.Table) -> pa.Table:
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
