"""Samples of the lake, with the quality rules that each breaks; the newest ones without a look at older files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.corrections.applying import corrected
from meterhouse.corrections.recorded import Correction, active
from meterhouse.filters import Condition, all_of, fields_of, on_lake
from meterhouse.queries.described import OF_VERDICT, describe_points
from meterhouse.queries.meters import meter_span
from meterhouse.queries.raw_points import DERIVED, POINT, SAMPLES, RawPoints
from meterhouse.queries.series_ids import wanted_series
from meterhouse.sample_quality.judge import judge, reason_names
from meterhouse.sample_quality.points import view_carried
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow
from meterhouse.stores.lake_faults import retried
from meterhouse.times import Span

if TYPE_CHECKING:
    from meterhouse.stores.lake_order import Integers

_ID = "coalesce(printf('%016x', v.sample_id), v.series_id || '-' || epoch_us(v.timestamp))"
"""Of a delta, its sample_id; of a gauge or counter, its series and its time in microseconds since 1970."""

_ORDER = "ORDER BY timestamp DESC, id, recorded_at DESC, volume DESC, series_id"

_AT_ONCE = 10_000
"""Minimum number of points that are judged together: to judge takes as long as to judge some ten thousand of them."""

_LANDED = "landed"
"""The column that says whether points are of `samples`, if there are corrections."""

_MICROSECOND = timedelta(microseconds=1)


@retried
def samples(
    site: Site,
    meter: str,
    *,
    query: Sequence[Condition] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
) -> pa.Table:
    """A meter's samples of a half-open span, newest first, with the names of the quality rules that each breaks.

    `query` are conditions on SAMPLES, all of which have to hold; `metadata.KEY` is the sample's own metadata.

    Samples of a gauge or counter with the same series, time and volume are shown once. Those with different volumes
    share an id, and only the one that counts does not break the rule `duplicate`. Volumes are those as corrected.

    Raises:
        UnknownName: no series has this meter.
    """
    first, last = meter_span(site, meter)
    span = (start or first, end or last + _MICROSECOND)
    wanted = all_of(query)
    raw = RawPoints(site.lake, meter, span)
    ids = wanted_series(site, raw, meter, wanted)
    with site.lake.connect() as duck:
        corrections = [each for each in active(site, [span]) if each.meter == meter]
        judging = _Judging(site, duck, raw, span, wanted, corrections)
        found: list[pa.Table] = []
        count = 0
        for begin, until in raw.newest_first(2 * limit, ids):
            if count >= limit:
                break
            points = judging.read((begin, until), ids)
            while len(points) and count < limit:
                piece, points = _newest(points, max(2 * (limit - count), _AT_ONCE))
                part = (_earliest(piece) if len(points) else begin, until)
                found.append(judging.newest(piece, part, limit - count))
                count += len(found[-1])
                until = part[0]
        # Without any points, the answer has its columns all the same.
        found = found or [judging.newest(POINT.empty_table(), span, 0)]
        return pa.concat_tables(found).drop_columns(["series_id"])


def _newest(points: pa.Table, size: int) -> tuple[pa.Table, pa.Table]:
    """The newest points, of which there are at least `size` if there are as many, and the others, which are older."""
    if len(points) <= size:
        return points, points.slice(0, 0)
    moments = points["timestamp"].cast(pa.int64()).to_numpy()
    newest = moments >= np.partition(moments, len(moments) - size)[len(moments) - size]
    return points.filter(pa.array(newest)), points.filter(pa.array(~newest))


def _earliest(points: pa.Table) -> datetime:
    return times.EPOCH + int(pc.min(points["timestamp"].cast(pa.int64())).as_py()) * _MICROSECOND


@dataclass
class _Judging:
    """Judges the points of parts of a span, as if all points of the span were judged together.

    A verdict depends on the point, on others of its series and time, and, of a counter, on its good point before.
    """

    site: Site
    duck: Connection
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
        self._judge(points, part[0])
        found = self._samples(part, limit)
        first_ones = self._first_of_counters(found) if part[0] > self.span[0] else []
        if not first_ones:
            return found
        ids = np.array(sorted(first_ones), np.int64)
        self._judge_with_previous(ids, part)
        others = found.filter(pc.invert(pc.is_in(found["series_id"], pa.array(ids))))
        self.duck.register("either", pa.concat_tables([others, self._samples(part, limit)]))
        return arrow(self.duck, f"FROM either {_ORDER} LIMIT {limit}")

    def read(self, span: Span, ids: "Integers | None") -> pa.Table:
        """The points of a part; with corrections, also whether each was landed: derived points follow their sources."""
        if not self.corrections:
            return self.raw.read(span, ids, metadata=self.by_metadata)
        found = []
        for table in (SAMPLES, DERIVED):
            points = self.raw.read(span, ids, metadata=self.by_metadata, tables=(table,))
            found.append(points.append_column(_LANDED, pa.repeat(table == SAMPLES, len(points))))
        return pa.concat_tables(found)

    @property
    def by_metadata(self) -> bool:
        """Whether the query asks for metadata of the samples."""
        return any(field.column == "metadata" for field in fields_of(self.wanted))

    @property
    def _good(self) -> str:
        return f"(bits & {self.site.rules.critical_bits}) = 0"

    def _first_of_counters(self, found: pa.Table) -> list[int]:
        """The counters of which a sample was found that may be below a point from before the part."""
        self.duck.register("found", found.select(["series_id", "timestamp"]))
        rows = self.duck.execute(
            "SELECT DISTINCT series_id FROM (SELECT series_id, min(timestamp) AS timestamp FROM verdicts "
            f"WHERE type = 'cumulative' AND {self._good} GROUP BY series_id) "
            "SEMI JOIN found USING (series_id, timestamp)"
        )
        return [row[0] for row in rows.fetchall()]

    def _judge_with_previous(self, ids: "Integers", part: Span) -> None:
        """Judge the points of counters together with what is before the part, as far back as is needed."""
        begin, hours = part[0], 1
        earliest = max(self.span[0], begin - self.site.settings.carry_hours * times.HOUR)
        while begin > earliest:
            begin = max(earliest, part[0] - hours * times.HOUR)
            hours *= 4
            self._judge(self.read((begin, part[1]), ids), begin)
            ((known,),) = self.duck.execute(
                f"SELECT count(DISTINCT series_id) FROM verdicts WHERE timestamp < ? AND {self._good}", [part[0]]
            ).fetchall()
            if known == len(ids):
                return

    def _judge(self, points: pa.Table, begin: datetime) -> None:
        """Create `verdicts` of all points of some series from `begin` on."""
        self.duck.register("given", points)
        self.duck.register("series_of_points", self.raw.series(np.unique(points["series_id"].to_numpy())))
        query = "FROM given JOIN series_of_points USING (series_id)"
        if accepts := _LANDED in points.column_names:
            landed = corrected(self.duck, f"({query} WHERE {_LANDED})", self.corrections)
            query = f"{landed} UNION ALL BY NAME (SELECT *, false AS accepted {query} WHERE NOT {_LANDED})"
        self.duck.execute(f"CREATE OR REPLACE TEMP VIEW points AS {query}")
        if begin == self.span[0]:
            view_carried(self.duck, self.site.lake, [self.span], self.site.settings.carry_hours)
        else:
            self.duck.execute(
                "CREATE OR REPLACE TEMP TABLE carried (series_id BIGINT, timestamp TIMESTAMPTZ, volume DOUBLE)"
            )
        judge(self.duck, self.site.rules, self.site.settings.carry_hours, accepts=accepts)

    def _samples(self, part: Span, limit: int) -> pa.Table:
        condition, values = on_lake(self.wanted)
        metadata, described = "NULL", ""
        if self.by_metadata:
            describe_points(self.site, self.duck)
            metadata, described = "d.metadata", f"LEFT JOIN described AS d ON {OF_VERDICT}"
        return self.duck.sql(
            "SELECT * EXCLUDE (metadata) "
            f"FROM (SELECT v.series_id, {_ID} AS id, meter, p.type, unit, volume, user_id, project_id, resource_id, "
            f"source, v.timestamp, recorded_at, {reason_names(self.site.rules, 'bits')} AS reasons, "
            f"{metadata} AS metadata "
            f"FROM verdicts AS v JOIN series_of_points AS p ON v.series_id = p.series_id {described}) "
            "WHERE timestamp >= ? AND timestamp < ? AND "
            f"{condition} {_ORDER} LIMIT {int(limit)}",
            params=[*part, *values],
        ).to_arrow_table()
