"""Percentiles of many short runs of values at once, with linear interpolation between the closest ranks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from meterhouse.sample_quality.series_table import Floats, Ints

CLASSES = 64
"""Runs are sorted together with those of the same length. With more lengths than this, they are filled up to a few."""


def quantiles(values: Floats, starts: Ints, counts: Ints, wanted: Sequence[float]) -> list[Floats]:
    """The quantiles of consecutive runs of finite values, as DuckDB's `quantile_cont` and pandas give them.

    Args:
        values: all runs, one after the other.
        starts: where each begins.
        counts: how many values each has, at least one.
        wanted: quantiles from 0 to 1.

    Returns:
        For each quantile, its value in each run.
    """
    found = [np.empty(len(starts)) for _ in wanted]
    if not len(starts) or not wanted:
        return found
    lengths = np.flatnonzero(np.bincount(counts))
    if len(lengths) == 1 and len(values) == len(starts) * lengths[0]:
        _equal(values.reshape(len(starts), -1).copy(), slice(None), wanted, found)
    elif len(lengths) <= CLASSES:
        for length in lengths.tolist():
            rows = np.flatnonzero(counts == length)
            runs = np.lib.stride_tricks.sliding_window_view(values, length)[starts[rows]]
            _equal(runs, rows, wanted, found)
    else:
        _filled(values, starts, counts, wanted, found)
    return found


def _equal(runs: Floats, rows: "slice | Ints", wanted: Sequence[float], found: list[Floats]) -> None:
    """Fill in the quantiles of runs of one length, a row each; they are sorted in place."""
    runs.sort(axis=1)
    for quantile, values in zip(wanted, found, strict=True):
        rank = (runs.shape[1] - 1) * quantile
        low = int(rank)
        values[rows] = _between(runs[:, low], runs[:, min(low + 1, runs.shape[1] - 1)], rank - low)


def _filled(values: Floats, starts: Ints, counts: Ints, wanted: Sequence[float], found: list[Floats]) -> None:
    """Fill in the quantiles of runs of many lengths: those of similar ones are filled up with infinity."""
    classes = np.ceil(np.log2(counts) * 4).astype(np.int64)
    for size in np.unique(classes):
        rows = np.flatnonzero(classes == size)
        count = counts[rows]
        offsets = np.arange(int(count.max()))
        runs = values[np.minimum(starts[rows][:, None] + offsets, len(values) - 1)]
        runs[offsets >= count[:, None]] = np.inf
        runs.sort(axis=1)
        each = np.arange(len(rows))
        for quantile, into in zip(wanted, found, strict=True):
            rank = (count - 1) * quantile
            low = rank.astype(np.int64)
            into[rows] = _between(runs[each, low], runs[each, np.minimum(low + 1, count - 1)], rank - low)


def _between(low: Floats, high: Floats, share: Any) -> Floats:
    """The value this share of the way from low to high; exactly these two at its ends, and never beyond."""
    distance = high - low
    if np.ndim(share) == 0:
        return np.asarray(low + distance * share if share < 0.5 else high - distance * (1 - share))
    return np.asarray(np.where(np.asarray(share) < 0.5, low + distance * share, high - distance * (1 - share)))
