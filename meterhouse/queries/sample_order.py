"""Samples in another order than newest first: by times, volumes, what series are made from, or metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from meterhouse.definitions.derived_meters import path_of
from meterhouse.filters import Field
from meterhouse.filters.conditions import number_of
from meterhouse.filters.fields import METADATA
from meterhouse.queries.raw_points import POINT
from meterhouse.queries.sample_ids import MESSAGE_ID, sample_key
from meterhouse.queries.sample_search import AT_ONCE, FOUND, Search, in_order
from meterhouse.rollups.described_values import values_of
from meterhouse.sample_quality.reading import plain
from meterhouse.sample_quality.series_table import Floats, Ints

KEPT: Final = 50_000
"""About how many candidates are kept before most of them are dropped again."""

_TIMES: Final = ("timestamp", "recorded_at")


@dataclass(frozen=True)
class Order:
    """What samples are ordered by.

    Attributes:
        field: of samples.
        descending: whether the largest comes first.
    """

    field: Field
    descending: bool = False


def ordered(search: Search, order: Sequence[Order], limit: int) -> pa.Table:
    """The first samples that are searched for in an order: columns FOUND.

    What has no value comes last, and a number before a text. Those that are equal are newest first.
    """
    ranking = _Ranking(search, order)
    if not order or (order[0].field.column == "timestamp" and order[0].descending):
        found = search.newest(limit)
        if len(order) > 1 and len(found) == limit:  # others of the oldest one's time may come before it
            found = search.since(int(_integers(found, "timestamp").min())).newest(search.points)
        return ranking.ordered(found).slice(0, limit)
    size = limit + AT_ONCE
    while True:
        first, others = _first_candidates(search, ranking, size)
        found = ranking.ordered(search.among(first).newest(search.points)) if len(first) else FOUND.empty_table()
        if len(found) >= limit or not others:
            return found.slice(0, limit)
        size *= 8


def _first_candidates(search: Search, ranking: "_Ranking", size: int) -> tuple[pa.Table, bool]:
    """The first candidates in order, and whether there are others. If volumes may be corrected, they are all."""
    kept, others, drops = POINT.empty_table(), False, not search.corrections
    for begin, until in search.raw.newest_first(KEPT, search.wanted.ids):
        points = search.read((begin, until), search.wanted.ids).select(POINT.names)
        kept = pa.concat_tables([kept, points.take(pa.array(search.candidates(points)))])
        if drops and len(kept) > max(KEPT, 2 * size):
            kept, others = kept.take(pa.array(ranking.order_of(kept)[:size])), True
    if drops and len(kept) > size:
        kept, others = kept.take(pa.array(ranking.order_of(kept)[:size])), True
    return kept, others


class _Ranking:
    """Puts points in order."""

    def __init__(self, search: Search, order: Sequence[Order]) -> None:
        self._search, self._order = search, order

    def ordered(self, found: pa.Table) -> pa.Table:
        """Samples, columns FOUND, in order."""
        found = in_order(found)
        return found.take(pa.array(self.order_of(found)))

    def order_of(self, points: pa.Table) -> Ints:
        """The rows of points in order; those that are equal stay in theirs, but newest first."""
        keys: list[Any] = []
        for each in self._order:
            values = self._values(points, each.field)
            missing = np.isnan(values)
            keys += [missing, np.where(missing, 0.0, -values if each.descending else values)]
        keys.append(-_integers(points, "timestamp"))
        found: Ints = np.lexsort(keys[::-1])
        return found

    def _values(self, points: pa.Table, field: Field) -> Floats:
        """Numbers that are in the order of a field's values; NaN for none."""
        if field.column in _TIMES:
            return self._exact(_integers(points, field.column))
        if field.column == "volume":
            return np.asarray(plain(points["volume"].combine_chunks()), np.float64)
        if field.column == MESSAGE_ID:
            return _ranks(self._ids(points))
        name = "metadata_id" if field.column == METADATA else "series_id"
        column = points[name].combine_chunks()
        distinct, of_row = np.unique(plain(column.fill_null(0)), return_inverse=True)
        of_distinct = self._of_metadata if field.column == METADATA else self._of_series
        ranks = _ranks(of_distinct(distinct, field))[of_row]
        return np.where(plain(column.is_valid()), ranks, np.nan)

    @staticmethod
    def _exact(values: Ints) -> Floats:
        """Integers as numbers that are in the same order: a double does not hold all of them."""
        _, rank = np.unique(values, return_inverse=True)
        return rank.astype(np.float64)

    def _ids(self, points: pa.Table) -> list[str]:
        """The ids of points, as they are shown."""
        if "id" in points.column_names:
            shown: list[str] = points["id"].to_pylist()
            return shown
        series, moments = _integers(points, "series_id"), _integers(points, "timestamp")
        distinct, of_row = np.unique(series, return_inverse=True)
        is_delta = np.array(self._search.described(distinct)["type"].to_pylist()) == "delta"
        samples = points["sample_id"].to_pylist()
        return [
            sample_key(sample) if delta and sample is not None else f"{of}-{moment}"
            for of, moment, delta, sample in zip(
                series.tolist(), moments.tolist(), is_delta[of_row].tolist(), samples, strict=True
            )
        ]

    def _of_series(self, ids: Ints, field: Field) -> list[Any]:
        described = self._search.described(ids)
        found: list[Any] = described[field.column].to_pylist()
        return found

    def _of_metadata(self, ids: Ints, field: Field) -> list[Any]:
        parsed = self._search.snapshots.parsed(ids.tolist())
        return list(values_of(parsed, ids, path_of(f"{METADATA}.{field.key}")))


def _ranks(values: Sequence[Any]) -> Floats:
    """The place of each value among the different ones, numbers before texts; NaN for None."""
    keys = [None if each is None else _key(each) for each in values]
    place = {key: float(n) for n, key in enumerate(sorted({each for each in keys if each is not None}))}
    return np.array([np.nan if each is None else place[each] for each in keys], np.float64)


def _key(value: Any) -> tuple[bool, float, str]:
    text = value if isinstance(value, str) else str(value)
    number = float(value) if isinstance(value, int | float) else number_of(text)
    return (True, 0.0, text) if number is None else (False, number, "")


def _integers(points: pa.Table, name: str) -> Ints:
    found: Ints = plain(points[name].cast(pa.int64()).combine_chunks())
    return found
