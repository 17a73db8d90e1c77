"""Buckets as rows of the lake's `rollups`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from meterhouse.rollups.tiers import Made, percentile_maps
from meterhouse.sample_quality.series_table import CUMULATIVE, DELTA, Flags, Ints
from meterhouse.stores.lake_tables import TIME, columns_of_files

SCHEMA = columns_of_files("rollups")
"""The columns of the table's files."""

FOLDED = [name for name in SCHEMA.names if name not in ("p50", "p95", "p99", "percentiles")]
"""The columns that daily rows are made of."""

_USUAL = ("p50", "p95", "p99")


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


def _masked(values: Any, mask: Flags) -> pa.Array:
    return pa.array(values, mask=mask if mask.any() else None)


def _time(values: Ints, mask: Flags | None = None) -> pa.Array:
    made = pa.array(values, mask=mask if mask is not None and mask.any() else None)
    return made.view(TIME)
