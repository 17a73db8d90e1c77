"""The order of points in data files: by meter, series and time; of equal times, by sample.

Whoever reads points by series then reads neighbours, skips row groups by their bounds, and does not sort again. The
wide columns cost next to nothing in this order. Meters are in the order of their UTF-8 bytes, series in that of their
ids as signed numbers, nulls last.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]

_LAST = np.iinfo(np.int64).max


def ordered(rows: pa.Table) -> pa.Table:
    """Points (columns of `samples`, some may be missing) in order; their columns of texts are dictionaries."""
    order = order_of_points(rows)
    columns: dict[str, pa.Array] = {}
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        if pa.types.is_string(column.type):
            column = column.dictionary_encode()
        columns[name] = column if order is None else column.take(pa.array(order))
    return pa.table(columns)


def order_of_points(rows: pa.Table) -> Places | None:
    """The places of the rows in order; None if they are in order already."""
    place, moment, sample = _places(rows), integers(rows["timestamp"]), integers(rows["sample_id"])
    if _in_order(place, moment, sample):
        return None
    low, width = int(moment.min()), int(moment.max()) - int(moment.min()) + 1
    if (int(place.max()) + 1) * width >= _LAST:  # the key would not fit
        return np.lexsort((sample, moment, place))
    key = place * width + (moment - low)
    order = np.argsort(key, kind="stable")
    in_turn = key[order]
    if (in_turn[1:] == in_turn[:-1]).any():
        return np.lexsort((sample, key))
    return order


def _in_order(place: Integers, moment: Integers, sample: Integers) -> bool:
    if len(place) < 2:
        return True
    a, b = slice(None, -1), slice(1, None)
    same = place[a] == place[b]
    later = (moment[a] < moment[b]) | ((moment[a] == moment[b]) & (sample[a] <= sample[b]))
    return bool(((place[a] < place[b]) | (same & later)).all())


def _places(rows: pa.Table) -> Integers:
    """For each row, the place of its series among those of the rows."""
    codes, ids, meters = series_of(rows)
    place = np.empty(len(ids), np.int64)
    place[np.lexsort((ids, ranks(meters)))] = np.arange(len(ids))
    by_row: Integers = place[codes]
    return by_row


def series_of(rows: pa.Table) -> tuple[npt.NDArray[np.int32], Integers, pa.Array]:
    """The code of each row's series; by code, the series' id and the meter that its first row names."""
    encoded = rows["series_id"].combine_chunks().fill_null(_LAST).dictionary_encode()
    codes = encoded.indices.to_numpy()
    highest = np.maximum.accumulate(codes)  # codes are in order of appearance
    first = np.flatnonzero(highest[1:] != highest[:-1]) + 1
    first = np.concatenate([[0], first]) if len(codes) else first
    meters = rows["meter"].combine_chunks().take(pa.array(first))
    return codes, encoded.dictionary.to_numpy(), meters


def ranks(texts: pa.Array) -> Integers:
    """The rank of each text among the distinct texts."""
    encoded = texts.dictionary_encode()
    names: list[Any] = encoded.dictionary.to_pylist()
    rank = np.full(len(names) + 1, len(names), np.int64)  # the last one is that of nulls
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    by_row: Integers = rank[encoded.indices.fill_null(len(names)).to_numpy()]
    return by_row


def integers(column: pa.ChunkedArray) -> Integers:
    """A column of integers or times as 64-bit integers; null is the largest."""
    numbers = column.cast(pa.int64())
    values: Integers = (pc.fill_null(numbers, _LAST) if column.null_count else numbers).to_numpy()
    return values


def row_groups(rows: pa.Table, size: int) -> Iterator[pa.Table]:
    """Slices of at most `size` rows, whose dictionaries have only the values that the slice has."""
    for start in range(0, max(len(rows), 1), size):
        part = rows.slice(start, size)
        if len(part) < len(rows):
            for number, column in enumerate(part.columns):
                if pa.types.is_dictionary(column.type):
                    part = part.set_column(number, part.column_names[number], compact(column.combine_chunks()))
        yield part


def compact(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same values with a dictionary of those that occur, in its order."""
    codes = column.indices
    if len(column.dictionary) == 1 and not codes.null_count:
        return column
    used = np.zeros(len(column.dictionary), np.bool_)
    used[codes.drop_null().to_numpy()] = True
    renumbered = pa.array((np.cumsum(used) - 1).astype(np.int32))
    return pa.DictionaryArray.from_arrays(renumbered.take(codes), column.dictionary.filter(pa.array(used)))
