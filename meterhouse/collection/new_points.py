"""Of the points of a file, those that the lake does not have yet, as rows of its files."""

import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.collection.judged_rows import DIMENSIONS, Floats, Integers
from meterhouse.collection.loaded_points import Points
from meterhouse.collection.loaded_series import OrderedSeries
from meterhouse.equal_points import volume_bits
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_order import compact
from meterhouse.stores.lake_tables import LOADED, TIME, columns_of_files
from meterhouse.stores.parquet_groups import Runs
from meterhouse.stores.point_identity import missing

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

_one_at_a_time: Final = threading.Lock()
"""Holds while points are looked up: DuckDB takes all processors, and memory up to its limit."""


def new_points(lake: Lake, points: Points, series: OrderedSeries, moment: datetime, files: Sequence[str]) -> pa.Table:
    """The points that are not in the lake, each once, in the order of points in files.

    Of several rows of one series and time, the later ones are recorded later, by a microsecond each: the last line
    counts. Equal samples of a gauge or counter are one point; a delta's id is made from its content and its position
    among equal ones.

    Args:
        lake: the lake.
        points: all that a file has of these series and times, those of each series and time in the file's order.
        series: the series of the file.
        moment: when the file is loaded.
        files: the lake's files of samples that may have some of these points.

    Returns:
        A table with the columns of the lake's files of samples. Texts are dictionaries.
    """
    place, points = _sorted(points, series)
    is_delta = pc.equal(series.columns["type"].cast(pa.string()), "delta").to_numpy(zero_copy_only=False)[place]
    behind, ordinal, counts = _equal_times(place, points, is_delta, times.micros(moment))
    sample = np.zeros(len(place), np.int64)
    deltas = np.flatnonzero(is_delta)
    sample[deltas] = content_ids(
        series.ids[place[deltas]], points.micros[deltas], points.volumes[deltas], ordinal[deltas]
    )
    if not counts.all():
        place, points, is_delta = place[counts], points.take(counts), is_delta[counts]
        behind, sample = behind[counts], sample[counts]
    rows = _rows(place, points, series, times.micros(moment) + behind, pa.array(sample, mask=~is_delta))
    return _unknown(lake, rows, files) if files else rows


def _sorted(points: Points, series: OrderedSeries) -> tuple[npt.NDArray[np.int32], Points]:
    """The points by the places of their series, which come first, and time; of equal ones, in the order they have."""
    place = series.place[points.series]
    if not (place[1:] >= place[:-1]).all():
        order = order_of(place, len(series.ids))
        place, points = place[order], points.take(order)
    same = place[1:] == place[:-1]
    if (same & (points.micros[1:] < points.micros[:-1])).any():
        order = np.lexsort((points.micros, place))
        place, points = place[order], points.take(order)
    return place, points


def order_of(numbers: npt.NDArray[np.int32], end: int) -> Places:
    """A stable order of numbers from 0 to `end`, by counting: NumPy counts numbers of 16 bits only."""
    order = np.argsort(numbers.astype(np.uint16), kind="stable")  # the lower 16 bits
    if end <= 1 << 16:
        return order
    return order[np.argsort((numbers >> 16).astype(np.uint16)[order], kind="stable")]


def _equal_times(
    place: npt.NDArray[np.int32], points: Points, is_delta: Flags, moment: int
) -> tuple[Integers, Integers, Flags]:
    """For sorted points: how many of the same series and time are before each; of deltas, the position, from 1, among
    equal ones; and which are a point's copy that counts, see `meterhouse.equal_points`.
    """
    rows = len(place)
    behind, ordinal, counts = np.zeros(rows, np.int64), np.ones(rows, np.int64), np.ones(rows, np.bool_)
    again = np.zeros(rows, np.bool_)  # as the one before
    again[1:] = (place[1:] == place[:-1]) & (points.micros[1:] == points.micros[:-1])
    if not again.any():
        return behind, ordinal, counts
    group = np.cumsum(~again)
    behind = np.arange(rows) - np.flatnonzero(~again)[group - 1]
    some = np.flatnonzero(again | np.append(again[1:], False))
    bits = volume_bits(points.volumes[some])
    recorded, micros = moment + behind[some], points.micros[some]
    early = recorded < micros
    arrival = np.where(is_delta[some], recorded, np.where(early, -recorded, recorded))
    order = np.lexsort((arrival, early & ~is_delta[some], bits, group[some]))
    some = some[order]
    equal = np.zeros(len(some), np.bool_)  # as the one before
    equal[1:] = (group[some][1:] == group[some][:-1]) & (bits[order][1:] == bits[order][:-1])
    starts = np.flatnonzero(~equal)
    ordinal[some] = np.arange(len(some)) - starts[np.cumsum(~equal) - 1] + 1
    counts[some] = ~equal | is_delta[some]
    return behind, ordinal, counts


def _rows(
    place: npt.NDArray[np.int32], points: Points, series: OrderedSeries, recorded: Integers, sample: pa.Array
) -> pa.Table:
    """Sorted points as rows of a file."""
    rows = len(place)
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    lengths = np.diff(np.append(starts, rows))
    of_runs = pa.array(place[starts])
    columns: dict[str, Any] = {
        "series_id": np.repeat(series.ids[place[starts]], lengths),
        "timestamp": pa.array(points.micros).cast(TIME),
        "volume": points.volumes,
        "sample_id": sample,
        "recorded_at": pa.array(recorded).cast(TIME),
        "metadata_id": pa.nulls(rows, pa.int64()),
        "origin": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [LOADED]),
    }
    for name in DIMENSIONS:
        columns[name] = Runs(compact(series.columns[name].take(of_runs)), lengths).array()
    return pa.table({name: columns[name] for name in columns_of_files("samples").names})


def _unknown(lake: Lake, rows: pa.Table, files: Sequence[str]) -> pa.Table:
    """The rows whose points are not in these files of the lake."""
    needed = rows.select(["series_id", "timestamp", "volume", "sample_id", "recorded_at", "type", "metadata_id"])
    bounds = pc.min_max(rows["timestamp"].cast(pa.int64()))
    with _one_at_a_time, lake.connect() as duck:
        duck.register("offered", needed.append_column("_row", pa.array(np.arange(len(rows)))))
        lake.view(duck, "samples", list(files))
        span = f"epoch_us(timestamp) BETWEEN {bounds['min']} AND {bounds['max']}"
        duck.execute(f"CREATE TEMP VIEW present AS FROM samples WHERE {span}")
        found = arrow(duck, missing("offered", "present"))["_row"].to_numpy()
    return rows if len(found) == len(rows) else rows.take(pa.array(np.sort(found)))


def content_ids(series: Integers, micros: Integers, volumes: Floats, ordinal: Integers) -> Integers:
    """64-bit ids from (series_id, timestamp, volume, ordinal). Equal content has equal ids on every machine."""
    mixed = series.astype(np.uint64)
    for part in (micros, volumes.view(np.int64), ordinal):  # splitmix64's finalizer, after each part
        mixed = mixed ^ part.astype(np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed.view(np.int64)
