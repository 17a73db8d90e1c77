"""Raw points of a meter, judged: the distinct ones, with the quality rules that each breaks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.corrections.applying import change
from meterhouse.corrections.recorded import Correction
from meterhouse.definitions.quality_rules import Rules
from meterhouse.queries.raw_points import POINT
from meterhouse.sample_quality.reading import plain
from meterhouse.sample_quality.series_table import DELTA, Flags, Floats, Ints, Places, SeriesRules, SeriesTable
from meterhouse.sample_quality.verdicts import NOTHING_CARRIED, Carried, Points, Verdicts, judge, order_of

NO_SAMPLE = 0
"""The sample id of points that have none, where `identified` is false."""


@dataclass(frozen=True)
class Received:
    """Points of series as they were received, in any order: columns of the same length.

    Attributes:
        place: of their series.
        time: µs since 1970, UTC.
        volume: in the meter's unit.
        recorded: when they arrived, µs since 1970.
        sample: their sample ids, NO_SAMPLE where there is none.
        identified: whether they have a sample id.
        metadata: their metadata ids, if these were read; else null.
        landed: whether they are samples, which corrections change, and not derived points.
    """

    place: Places
    time: Ints
    volume: Floats
    recorded: Ints
    sample: Ints
    identified: Flags
    metadata: pa.Array
    landed: Flags

    @classmethod
    def of(cls, points: pa.Table, table: SeriesTable, landed: Flags) -> "Received":
        """Rows with the columns of POINT, all of whose series are in the table."""
        columns = {name: points[name].combine_chunks() for name in POINT.names}
        sample = columns["sample_id"]
        return cls(
            table.places(plain(columns["series_id"])),
            plain(columns["timestamp"]),
            plain(columns["volume"]),
            plain(columns["recorded_at"]),
            plain(sample.fill_null(NO_SAMPLE) if sample.null_count else sample),
            plain(sample.is_valid()),
            columns["metadata_id"],
            landed,
        )

    def __len__(self) -> int:
        return len(self.place)

    def some(self, rows: npt.NDArray[Any]) -> "Received":
        """Those at these places."""
        return Received(
            self.place[rows],
            self.time[rows],
            self.volume[rows],
            self.recorded[rows],
            self.sample[rows],
            self.identified[rows],
            self.metadata.take(pa.array(rows)),
            self.landed[rows],
        )


@dataclass(frozen=True)
class Judged:
    """Points with their verdicts.

    Attributes:
        points: all of them as corrected, copies included, ordered by place and time.
        distinct: the rows of those that are no copies of others, ascending.
        bits: of the rules that each of the distinct ones breaks.
        good: whether each of the distinct ones breaks no critical rule.
        verdicts: what was found, in the order of the good points.
    """

    points: Received
    distinct: Ints
    bits: npt.NDArray[np.int32]
    good: Flags
    verdicts: Verdicts


def judged(
    points: Received,
    table: SeriesTable,
    dimensions: pa.Table,
    rules: Rules,
    *,
    corrections: Sequence[Correction] = (),
    carried: Carried = NOTHING_CARRIED,
    carry_hours: int,
) -> Judged:
    """Judge points, as `sql/lake/judge.sql` does.

    Args:
        points: the points.
        table: their series.
        dimensions: what corrections choose series by, by place.
        rules: the site's.
        corrections: that may change points, in the order in which they take effect.
        carried: earlier good points of counters.
        carry_hours: a counter's previous point counts up to this many hours.
    """
    points, accepted = _corrected(points, table, dimensions, corrections)
    order = order_of(points.place, points.time)
    if order is not None:
        points = points.some(order)
        accepted = None if accepted is None else accepted[order]
    found = judge(
        table,
        SeriesRules.of(rules, table),
        Points(
            points.place,
            points.time,
            points.volume,
            points.recorded,
            lambda rows: (points.sample[rows], points.identified[rows]),
            accepted,
        ),
        carried,
        carry_hours,
    )
    bits, is_distinct = np.zeros(len(points), np.int32), np.zeros(len(points), np.bool_)
    bits[found.flagged] = found.bits
    is_distinct[slice(None) if found.good.rows is None else found.good.rows] = True
    is_distinct[found.flagged] = True
    distinct = np.flatnonzero(is_distinct)
    return Judged(points, distinct, bits[distinct], (bits[distinct] & rules.critical_bits) == 0, found)


def _corrected(
    points: Received, table: SeriesTable, dimensions: pa.Table, corrections: Sequence[Correction]
) -> tuple[Received, Flags | None]:
    """The points as corrections leave them, and which of them are accepted; None if none is."""
    at = np.flatnonzero(points.landed) if corrections else np.zeros(0, np.int64)
    if not len(at):
        return points, None
    place = points.place[at]

    def of_meter(name: str) -> Flags:
        return np.array([each == name for each in table.meter_names], np.bool_)[table.meters[place]]

    def describe(rows: Ints) -> pa.Table:
        return dimensions.take(pa.array(place[rows]))

    changed = change(corrections, of_meter, points.time[at], points.volume[at], describe)
    if changed is None:
        return points, None
    volume, kept, accepted = points.volume.copy(), np.ones(len(points), np.bool_), np.zeros(len(points), np.bool_)
    volume[at], kept[at], accepted[at] = changed.volume, changed.kept, changed.accepted
    rows = np.flatnonzero(kept)
    return replace(points, volume=volume).some(rows), accepted[rows] if accepted.any() else None


def ids_of(points: Received, table: SeriesTable, rows: Ints) -> pa.Array:
    """The ids of some points, as text: a delta's sample id; else its series and its time in microseconds since 1970."""
    place = points.place[rows]
    texts = pc.binary_join_element_wise(
        pa.array(table.ids).cast(pa.string()).take(pa.array(place)),
        pa.array(points.time[rows]).cast(pa.string()),
        pa.scalar("-", pa.string()),
    )
    own = (table.kinds[place] == DELTA) & points.identified[rows]
    if not own.any():
        return texts
    samples = pa.array([f"{each & 0xFFFFFFFFFFFFFFFF:016x}" for each in points.sample[rows[own]].tolist()], pa.string())
    return pc.replace_with_mask(texts, pa.array(own), samples)
