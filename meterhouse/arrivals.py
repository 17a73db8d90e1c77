"""Samples that came, summed up for the catalog: neighbours of one series, event hour and octave of lateness are a run.

Files are in the order of series and time, so there are few runs; whatever the order, runs say what their samples say.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.in_order import in_order, processors
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_cuts import MICROS
from meterhouse.stores.lake_tables import TIME

Integers = npt.NDArray[np.int64]

BATCH_ROWS: Final = 1 << 19

_TEXTS: Final = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")
_COLUMNS: Final = ("series_id", "timestamp", "recorded_at", "metadata_id", *_TEXTS)

_NEVER: Final = np.iinfo(np.int64).min


def runs(lake: Lake, paths: Sequence[str], lateness_seconds: int) -> pa.Table:
    """The runs of files of samples.

    Args:
        lake: the lake.
        paths: the files', as Delta has them.
        lateness_seconds: how long after its time a sample may come without being late.

    Returns:
        One row a run: `series_id` and its seven dimensions; `hour`, the start of the event hour; `octave`, see
        `catalog_lateness.sql`; `ahead`: whether its times are more than an hour after their arrival, by a wrong clock;
        `samples` and `belated`, how many and how many of them late; `seconds` and `max_seconds`, the sum and maximum
        of how long after their times they came; `first_at` and `last_at`; `metadata_id` of the newest sample that has
        one, and `described_at`, the time of it.

    Raises:
        Replaced: a file is no longer in the table, and was deleted.
        Damaged: a file cannot be read.
    """

    def of_file(path: str) -> list[pa.Table]:
        return [_runs(part, lateness_seconds) for part in _parts(lake, path)]

    if len(paths) > 1:
        with ThreadPoolExecutor(processors(), "arrivals") as pool:
            parts = [part for found in in_order(pool, (partial(of_file, path) for path in paths)) for part in found]
    else:
        parts = [part for path in paths for part in of_file(path)]
    return pa.concat_tables(parts or [_runs(_READ.empty_table(), lateness_seconds)]).unify_dictionaries()


def _parts(lake: Lake, path: str) -> Iterator[pa.Table]:
    with lake.parquet("samples", path, dictionaries=_TEXTS) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(_COLUMNS)):
            yield pa.table(batch)


_CODED: Final = pa.dictionary(pa.int32(), pa.string())
_READ: Final = pa.schema(
    [
        *[("series_id", pa.int64()), ("timestamp", TIME), ("recorded_at", TIME), ("metadata_id", pa.int64())],
        *[(name, _CODED) for name in _TEXTS],
    ]
)


def _runs(rows: pa.Table, lateness_seconds: int) -> pa.Table:
    series, moment, recorded = (_integers(rows[name]) for name in ("series_id", "timestamp", "recorded_at"))
    hour, waited = moment // MICROS, recorded - moment
    seconds = np.maximum(waited, 0) / 1e6
    octave = np.zeros(len(rows), np.int32)
    some = seconds > 1
    octave[some] = np.ceil(np.log2(seconds[some]))
    ahead = waited < -MICROS
    changes = np.zeros(len(rows), np.bool_)
    changes[:1] = True
    for column in (series, hour, octave, ahead):
        changes[1:] |= column[1:] != column[:-1]
    starts = np.flatnonzero(changes)
    first = pa.array(starts)
    described, described_at = _described(rows["metadata_id"], moment, starts)
    return pa.table(
        {
            "series_id": pa.array(series[starts]),
            **{name: rows[name].combine_chunks().take(first).cast(_CODED) for name in _TEXTS},
            "hour": pa.array(hour[starts] * MICROS).cast(TIME),
            "octave": pa.array(octave[starts]),
            "ahead": pa.array(ahead[starts]),
            "samples": pa.array(np.diff(np.append(starts, len(rows)))),
            "belated": pa.array(_reduced(np.add, (waited > lateness_seconds * 1_000_000).astype(np.int64), starts)),
            "seconds": pa.array(_reduced(np.add, seconds, starts)),
            "max_seconds": pa.array(_reduced(np.maximum, seconds, starts)),
            "first_at": pa.array(_reduced(np.minimum, moment, starts)).cast(TIME),
            "last_at": pa.array(_reduced(np.maximum, moment, starts)).cast(TIME),
            "metadata_id": described,
            "described_at": described_at,
        }
    )


def _described(column: pa.ChunkedArray, moment: Integers, starts: npt.NDArray[np.intp]) -> tuple[pa.Array, pa.Array]:
    """By run, the metadata_id of the newest sample that has one, and its time; null if none has."""
    if column.null_count == len(column):
        return pa.nulls(len(starts), pa.int64()), pa.nulls(len(starts), TIME)
    there = column.is_valid().to_numpy()
    known = np.where(there, moment, _NEVER)
    newest = np.maximum.reduceat(known, starts)
    lengths = np.diff(np.append(starts, len(known)))
    places = np.flatnonzero(known == np.repeat(newest, lengths))
    place = places[np.searchsorted(places, starts)]
    return column.combine_chunks().take(pa.array(place)), pa.array(newest, mask=newest == _NEVER).cast(TIME)


def _reduced(
    function: np.ufunc, values: npt.NDArray[np.generic], starts: npt.NDArray[np.intp]
) -> npt.NDArray[np.generic]:
    reduced: npt.NDArray[np.generic] = function.reduceat(values, starts) if len(starts) else values
    return reduced


def _integers(column: pa.ChunkedArray) -> Integers:
    numbers = column.cast(pa.int64())
    values: Integers = (pc.fill_null(numbers, 0) if column.null_count else numbers).to_numpy()
    return values
