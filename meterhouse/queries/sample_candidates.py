"""Which points may be samples that fulfil a condition, and which may be others.

Judging and describing a point takes many times as long as to compare its numbers. Only what corrections may change, and
what the catalog does not know yet, is left open here.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse import times
from meterhouse.filters import Filter, Leaf, OneOf, fields_of
from meterhouse.filters.fields import METADATA
from meterhouse.queries.partly_known import UNKNOWN, Both, known, weighed
from meterhouse.queries.sample_ids import POINT_KEY, SAMPLE_KEY, point_of
from meterhouse.queries.series_ids import Wanted, is_of_series
from meterhouse.queries.snapshots import Snapshots
from meterhouse.sample_quality.reading import plain
from meterhouse.sample_quality.series_table import Flags, Ints

_NOTHING = np.iinfo(np.int64).min


@dataclass
class Candidates:
    """Chooses points.

    Attributes:
        wanted: what is asked for.
        snapshots: the resource metadata.
        corrected: whether corrections may change volumes.
    """

    wanted: Wanted
    snapshots: Snapshots
    corrected: bool

    def of(self, points: pa.Table) -> Both:
        """Which of these points, columns of POINT, may be such samples; and which may be others."""
        rest, count = self.wanted.rest, len(points)
        columns = _Columns(points)
        both = weighed(rest, lambda leaf: self._meets(leaf, columns))
        may, may_fail = (np.broadcast_to(each, (count,)).copy() for each in both)
        unsure = np.flatnonzero(may & may_fail)
        if len(unsure) and any(each.column == METADATA for each in fields_of(rest)):
            columns = _Columns(points.take(pa.array(unsure)))
            may[unsure], may_fail[unsure] = weighed(rest, lambda leaf: self._described(leaf, columns))
        return may, may_fail

    def _described(self, leaf: Leaf, columns: "_Columns") -> Both:
        if leaf.target.column != METADATA:
            return self._meets(leaf, columns)
        distinct, of_row = np.unique(columns.ids("metadata_id"), return_inverse=True)
        return known(self.snapshots.meeting(leaf, distinct)[of_row])

    def _meets(self, leaf: Leaf, columns: "_Columns") -> Both:
        """Whether points meet a comparison, as far as it is known from their numbers."""
        match leaf.target.column:
            case "timestamp" | "recorded_at" as name:
                return known(_compared(leaf, columns.ids(name)))
            case "volume" if not self.corrected:
                return known(_compared(leaf, columns.volumes()))
            case column if column == POINT_KEY and isinstance(leaf, OneOf):
                return known(_among(leaf, columns))
            case column if column == SAMPLE_KEY and isinstance(leaf, OneOf):
                asked = [int(text, 16) for text in leaf.among]
                return known(np.isin(columns.ids("sample_id").view(np.uint64), np.array(asked, np.uint64)))
        return self.wanted.meets(leaf, columns.ids("series_id")) if is_of_series(leaf) else UNKNOWN


class _Columns:
    """The columns of points as arrays, each made once."""

    def __init__(self, points: pa.Table) -> None:
        self._points = points
        self._made: dict[str, Ints] = {}

    def ids(self, name: str) -> Ints:
        """A column of integers or times; _NOTHING for null."""
        if name not in self._made:
            self._made[name] = plain(self._points[name].cast(pa.int64()).combine_chunks().fill_null(_NOTHING))
        return self._made[name]

    def volumes(self) -> npt.NDArray[np.float64]:
        """The volumes; none is -0.0."""
        found: npt.NDArray[np.float64] = plain(self._points["volume"].combine_chunks()) + 0.0
        return found


def _compared(leaf: Leaf, values: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> Flags:
    """Which numbers or times meet a comparison, as DuckDB compares them: what is not a number equals itself."""
    match leaf:
        case OneOf(operands=operands):
            found: Flags = np.zeros(len(values), np.bool_)
            for each in operands:
                found |= _equal(values, _number(each))
            return found
        case Filter(op=op, operand=operand):
            number = _number(operand)
            match op:
                case "eq":
                    return _equal(values, number)
                case "ne":
                    return ~_equal(values, number)
                case "lt":
                    return np.asarray(values < number)
                case "le":
                    return np.asarray(values <= number)
                case "gt":
                    return np.asarray(values > number)
            return np.asarray(values >= number)
    raise TypeError(f"{leaf} does not compare numbers")


def _number(operand: object) -> float | int:
    match operand:
        case float():
            return operand
        case datetime():
            return times.micros(operand)
    raise TypeError(f"{operand} is neither a number nor a time")


def _equal(values: npt.NDArray[np.int64] | npt.NDArray[np.float64], number: float | int) -> Flags:
    return np.isnan(values) if number != number else np.asarray(values == number)


def _among(leaf: OneOf, columns: _Columns) -> Flags:
    found = np.zeros(len(columns.ids("series_id")), np.bool_)
    for text in leaf.among:
        if (point := point_of(text)) is not None:
            found |= (columns.ids("series_id") == point[0]) & (columns.ids("timestamp") == point[1])
    return found
