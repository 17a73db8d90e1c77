"""What derived meters read of resource metadata: of the points themselves, or of their resource at the time."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from meterhouse.rollups.derived_points import Values
from meterhouse.rollups.described import History, Resource
from meterhouse.rollups.targets import RESOURCE, SOURCE, Targets
from meterhouse.sample_quality.series_table import Flags, Floats, Ints

Path = tuple[str, ...]
"""Keys within each other in the resource metadata."""

MetadataOf = Callable[[Ints, Path], Sequence[Any]]
"""Ids of metadata, and a path → the value there of each; None if it has none."""

HistoryOf = Callable[[Sequence[Resource]], History]
"""Resources → the changes of their metadata; a resource is its place among these."""


class DescribedValues:
    """Numbers and texts of resource metadata. Its methods may be called in several threads at once.

    Args:
        targets: the series by number.
        metadata_of: gives values of resource metadata.
        history_of: gives the changes of metadata of resources.
    """

    def __init__(self, targets: Targets, metadata_of: MetadataOf, history_of: HistoryOf) -> None:
        self._targets, self._metadata_of, self._history_of = targets, metadata_of, history_of
        self._lock = threading.Lock()

    def numbers(
        self, paths: Sequence[Path], series: npt.NDArray[np.int32], time: Ints, ids: Ints, there: Flags
    ) -> dict[Path, Floats]:
        """The numbers at these paths of the rows' own metadata, or if it has none of them, of their resource's.

        Args:
            paths: in the metadata.
            series: numbers of `Targets`.
            time: of the rows' points, µs.
            ids: of their own metadata.
            there: whether they have some.
        """
        columns = {path: self.numbers_of(path, ids, there) for path in paths}
        lacking = np.flatnonzero(without_any(columns)) if columns else np.zeros(0, np.int64)
        if len(lacking):

            def has(ids: Ints) -> Flags:
                return ~without_any({path: self.numbers_of(path, ids, np.ones(len(ids), np.bool_)) for path in paths})

            found, known = self._at(series[lacking], time[lacking], has)
            for path, column in columns.items():
                column[lacking] = self.numbers_of(path, found, known)
        return columns

    def _at(self, series: npt.NDArray[np.int32], time: Ints, has: Callable[[Ints], Flags]) -> tuple[Ints, Flags]:
        """The metadata of the resources of these series at a time, and whether there is some.

        Args:
            series: numbers of `Targets`.
            time: µs.
            has: tells of ids of metadata whether it is of use; other metadata does not count.
        """
        numbers, of = np.unique(series, return_inverse=True)
        keys = [(each[SOURCE], each[RESOURCE]) for each in self._targets.rows(numbers)]
        known: dict[Resource, int] = {}
        number = np.array([known.setdefault((s, r), len(known)) if s and r else -1 for s, r in keys], np.int64)[of]
        history = self._history_of(list(known))
        return history.some(has(history.metadata)).at(number, time)

    def numbers_of(self, path: Path, ids: Ints, there: Flags) -> Floats:
        """A number of the metadata with these ids; NaN if it has none."""
        if not len(ids):
            return np.zeros(0)
        heads = np.ones(len(ids), np.bool_)
        heads[1:] = ids[1:] != ids[:-1]  # points of a series mostly share theirs
        distinct, of_run = np.unique(ids[heads], return_inverse=True)
        with self._lock:
            values = self._metadata_of(distinct, path)
        numbers = np.array([_number(each) for each in values], np.float64)
        return np.where(there, numbers[of_run[np.cumsum(heads) - 1]], np.nan)

    def texts(self, path: Path, values: Values, rows: Ints) -> list[str | None]:
        """The text at a path of the rows' own metadata, or if it has none there, of their resource's."""
        texts = self.texts_of(path, values.metadata[rows], values.described[rows])
        lacking = np.flatnonzero(np.array([each is None for each in texts], np.bool_))
        if len(lacking):

            def has(ids: Ints) -> Flags:
                return np.array(
                    [each is not None for each in self.texts_of(path, ids, np.ones(len(ids), np.bool_))], np.bool_
                )

            found, known = self._at(values.series[rows[lacking]], values.last_at[rows[lacking]], has)
            for n, text in zip(lacking.tolist(), self.texts_of(path, found, known), strict=True):
                texts[n] = text
        return texts

    def texts_of(self, path: Path, ids: Ints, there: Flags) -> list[str | None]:
        distinct, of = np.unique(ids, return_inverse=True)
        with self._lock:
            values = self._metadata_of(distinct, path)
        texts = [None if each is None or isinstance(each, dict | list) else str(each) for each in values]
        return [texts[n] if has else None for n, has in zip(of.tolist(), there.tolist(), strict=True)]


def without_any(columns: Mapping[Path, Floats]) -> Flags:
    """The rows that have a number in none of the columns, of which there is at least one."""
    lacking: Flags = np.logical_and.reduce([np.isnan(column) for column in columns.values()])
    return lacking


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float | str) else float("nan")
    except (ValueError, OverflowError):
        return float("nan")


def values_of(texts: Mapping[int, Any], ids: Ints, path: Path) -> list[Any]:
    """The values at a path of the metadata with these ids, from parsed metadata by id; None if there is none."""
    return [_at(texts.get(int(each)), path) for each in ids.tolist()]


def _at(value: Any, path: Path) -> Any:
    """The value at a path; a key may hold the dots of several steps."""
    for length in range(len(path), 0, -1):
        if isinstance(value, dict) and ".".join(path[:length]) in value:
            return _at(value[".".join(path[:length])], path[length:])
    return value if not path else None
