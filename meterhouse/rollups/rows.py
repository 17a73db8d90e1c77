"""Buckets as rows of the lake's `rollups`, and rows as buckets."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.rollups.buckets import MICROS, Buckets, Tier, fold
from meterhouse.rollups.tiers import Made, day_cadences, percentile_maps
from meterhouse.sample_quality.reading import plain
from meterhouse.sample_quality.series_table import CUMULATIVE, DELTA, GAUGE, Flags, Ints, Places, SeriesTable
from meterhouse.stores.lake_tables import TIME, columns_of_files

SCHEMA = columns_of_files("rollups")
"""The columns of the table's files."""

FOLDED = [name for name in SCHEMA.names if name not in ("p50", "p95", "p99", "percentiles")]
"""The columns that daily rows are made of."""

_DAY = Tier(86_400)
_USUAL = ("p50", "p95", "p99")
_COUNTS = ("count", "resets", "excluded")
_FLOATS = ("sum", "min", "max", "sum_squares", "first", "last", "increase")


@dataclass(frozen=True)
class Metadata:
    """The metadata_id of each bucket's last good point that has one, and whether there is one."""

    ids: Ints
    known: Flags


def rows_of(rolled: Made, ids: Ints, kinds: "np.ndarray[Any, Any]", metadata: Metadata | None = None) -> pa.Table:
    """The rows of buckets, in their order, with the columns of the table's files.

    Args:
        rolled: the buckets, with percentiles and cadence.
        ids: the ids of the series, by place.
        kinds: their kinds, by place.
        metadata: by bucket; None if there is none.
    """
    made = rolled.buckets
    kind = kinds[made.place]
    none = made.count == 0
    columns: dict[str, pa.Array] = {
        "series_id": pa.array(ids[made.place]),
        "bucket": _time(made.start),
        "count": pa.array(made.count),
        "excluded": pa.array(made.excluded),
        **{name: _masked(getattr(made, name), none) for name in ("sum", "min", "max", "sum_squares")},
        **{name: _masked(getattr(made, name), none | (kind == DELTA)) for name in ("first", "last")},
        **{name: _masked(getattr(made, name), none | (kind != CUMULATIVE)) for name in ("increase", "resets")},
        **{name: _time(getattr(made, name), none) for name in ("first_at", "last_at")},
        **{name: _masked(values, np.isnan(values)) for name, values in zip(_USUAL, made.quantiles, strict=False)},
        "percentiles": percentile_maps(rolled),
    }
    if rolled.cadence is not None:
        columns["cadence_s"] = _masked(rolled.cadence, np.isnan(rolled.cadence))
    if metadata is not None:
        columns["metadata_id"] = pa.array(metadata.ids, mask=~metadata.known)
    missing = {field.name: pa.nulls(len(made), field.type) for field in SCHEMA if field.name not in columns}
    return pa.table([{**missing, **columns}[name] for name in SCHEMA.names], schema=SCHEMA)


def last_described(starts: Ints, ids: Ints, known: Flags) -> Metadata:
    """Of each run of rows, the metadata of the last one that has some.

    Args:
        starts: where each run begins.
        ids: the metadata of each row.
        known: whether it has some.
    """
    if not len(starts):
        return Metadata(np.zeros(0, np.int64), np.zeros(0, np.bool_))
    last = np.maximum.reduceat(np.where(known, np.arange(len(ids)), -1), starts)
    there = last >= starts
    return Metadata(np.where(there, ids[last], 0), there)


def days_of(hourly: pa.Table, table: SeriesTable) -> pa.Table:
    """The daily rows, without percentiles, of hourly ones, which may be in any order.

    Args:
        hourly: rows of the table's files of an hour each.
        table: series; those that it does not have come last.
    """
    encoded = hourly["series_id"].combine_chunks().dictionary_encode()
    ids, of_row = plain(encoded.dictionary), plain(encoded.indices)
    known = table.places(ids)
    ranked = np.lexsort((ids, np.where(known < 0, len(table), known)))
    place_of = np.empty(len(ids), np.int32)
    place_of[ranked] = np.arange(len(ids), dtype=np.int32)
    place, start = place_of[of_row], plain(hourly["bucket"].combine_chunks())
    order = _order(place, start)
    finer = _buckets(hourly, place[order], start[order], order)
    kinds = np.full(len(ids), GAUGE, np.int8)
    there = plain(hourly["count"].combine_chunks())[order] > 0
    kinds[finer.place[there & _null(hourly, "first", order)]] = DELTA
    kinds[finer.place[there & ~_null(hourly, "increase", order)]] = CUMULATIVE
    made = fold(finer, _DAY)
    day = finer.start // (_DAY.seconds * MICROS)
    new = np.ones(len(day), np.bool_)
    new[1:] = (day[1:] != day[:-1]) | (finer.place[1:] != finer.place[:-1])
    metadata = None
    if "metadata_id" in hourly.column_names:
        column = hourly["metadata_id"].combine_chunks()
        column = hourly["metadata_id"].combine_chunks()
        described = ~_null(hourly, "metadata_id", order)
        metadata = last_described(np.flatnonzero(new), plain(pc.fill_null(column, 0))[order], described)
    cadence = plain(hourly["cadence_s"].combine_chunks().cast(pa.float64()).fill_null(np.nan))[order]
    return rows_of(Made(made, cadence=day_cadences(finer, cadence)), ids[ranked], kinds, metadata)


def _order(place: Places, start: Ints) -> Ints:
    """The order of hourly rows by place and time. Plain integers are sorted several times as fast as keys of two."""
    hour = start // (3600 * MICROS)
    hour -= hour.min(initial=np.iinfo(np.int64).max)
    if len(hour) < 1 << 27 and hour.max(initial=0) < 1 << 5 and place.max(initial=0) < 1 << 31:
        return np.sort(place.astype(np.int64) << 32 | hour << 27 | np.arange(len(hour))) & ((1 << 27) - 1)
    return np.lexsort((start, place))


def _buckets(hourly: pa.Table, place: Places, start: Ints, order: Ints) -> Buckets:
    """The buckets of rows in this order."""

    def column(name: str) -> Any:
        values = hourly[name].combine_chunks()
        return plain(values.fill_null(0) if values.null_count else values)[order]

    def time(name: str) -> Any:
        values = hourly[name].combine_chunks().cast(TIME).view(pa.int64())
        return plain(values.fill_null(0))[order]

    columns: dict[str, Any] = {name: column(name) for name in (*_COUNTS, *_FLOATS)}
    return Buckets(3600, place, start, first_at=time("first_at"), last_at=time("last_at"), **columns)


def _null(rows: pa.Table, name: str, order: Ints) -> Flags:
    found: Flags = plain(rows[name].combine_chunks().is_null())[order]
    return found


def _masked(values: Any, mask: Flags) -> pa.Array:
    return pa.array(values, mask=mask if mask.any() else None)


def _time(values: Ints, mask: Flags | None = None) -> pa.Array:
    made = pa.array(values, mask=mask if mask is not None and mask.any() else None)
    return made.view(TIME)
