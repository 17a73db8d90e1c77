"""Where a compacted file of samples has the pages of each series: an index in its footer, of some bytes a page.

Parquet's own page index says so too, but pyarrow does not tell what it has. The key is KEY. The value is the base64 of
the size of what follows (8 bytes, little-endian) and a zstd frame: the number of pages, then the matrix of `PageIndex`,
row by row; 64-bit integers, little-endian.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from meterhouse.stores.lake_order import Integers, integers
from meterhouse.stores.parquet_groups import Chunk

KEY: Final = "meterhouse.pages"

COLUMNS: Final = ("series_id", "timestamp", "volume", "sample_id", "recorded_at", "metadata_id")
"""The columns whose pages are in the index: those in which the points of a series differ."""

_GROUP, _ROWS, _SERIES, _PLACES = 0, 1, 2, 3
_SIDES: Final[tuple[Literal["left"], Literal["right"]]] = ("left", "right")
_CODEC: Final = pa.Codec("zstd")


@dataclass(frozen=True)
class Run:
    """Neighbouring pages of a row group.

    Attributes:
        rows: how many rows they have.
        places: for each of COLUMNS that has values, where the dictionary's page is in the file, and its size, which is
            0 if there is none; then the same of the data pages.
        pages: how many data pages of each column.
    """

    rows: int
    places: dict[str, list[list[int]]]
    pages: int = 1


@dataclass(frozen=True)
class PageIndex:
    """The pages of a file.

    Attributes:
        matrix: a column for each page, in order; rows: its row group, its number of rows, the series of its first row;
            then for each of COLUMNS: where the page is in the file, its size, and the size of the dictionary, which is
            right before the group's first page. The size of a page is 0 if the column is null in the whole group.
    """

    matrix: Integers

    def runs(self, groups: Mapping[int, bool], ids: Integers) -> Iterator[Run]:
        """The pages of these groups that may hold points of series.

        Args:
            groups: number → whether the group is of one meter, so that its series are in order.
            ids: of the series, in order.
        """
        for group, ordered in groups.items():
            start, end = (int(place) for place in np.searchsorted(self.matrix[_GROUP], (group, group + 1)))
            if not ordered:
                yield self._run(start, start, end)
                continue
            first = self.matrix[_SERIES, start:end]
            # A series may have begun in the page before the first that begins with it.
            low = np.maximum(np.searchsorted(first, ids) - 1, 0)
            high = np.searchsorted(first, ids, side="right")
            wanted = np.zeros(end - start + 1, np.int64)
            np.add.at(wanted, low, 1)
            np.add.at(wanted, np.maximum(high, low), -1)
            among = np.concatenate([[False], np.cumsum(wanted)[:-1] > 0, [False]])
            edges = np.flatnonzero(among[1:] != among[:-1]) + start
            for a, b in edges.reshape(-1, 2).tolist():
                yield self._run(start, a, b)

    def _run(self, head: int, start: int, end: int) -> Run:
        """The pages from `start` to before `end`, of the group whose first page is `head`."""
        at, size, dictionary = self.matrix[_PLACES:].reshape(len(COLUMNS), 3, -1).transpose(1, 0, 2)
        first = [at[:, head] - dictionary[:, head], dictionary[:, head]]
        places = np.stack([*first, at[:, start], size[:, start:end].sum(axis=1)], 1).reshape(-1, 2, 2)
        known = zip(COLUMNS, places.tolist(), strict=True)
        there = {name: place for name, place in known if place[1][1]}
        return Run(int(self.matrix[_ROWS, start:end].sum()), there, end - start)

    def page_of(self, group: int, series_id: int) -> Run | None:
        """The page of a group that may hold points of a series; None if there are several, or none.

        Args:
            group: of one meter.
            series_id: of the series.
        """
        start, end = self._bounds[group], self._bounds[group + 1]
        first = self.matrix[_SERIES, start:end]
        low, high = (int(first.searchsorted(series_id, side=side)) for side in _SIDES)
        if high - max(low - 1, 0) != 1:
            return None
        head, page = self.matrix[:, start].tolist(), self.matrix[:, start + high - 1].tolist()
        places = {}
        for number, name in enumerate(COLUMNS):
            at = _PLACES + 3 * number
            if page[at + 1]:
                places[name] = [[head[at] - head[at + 2], head[at + 2]], page[at : at + 2]]
        return Run(page[_ROWS], places)

    @cached_property
    def _bounds(self) -> list[int]:
        """The first page of each group, and then the number of pages."""
        last = int(self.matrix[_GROUP, -1]) if self.matrix.shape[1] else -1
        found: list[int] = np.searchsorted(self.matrix[_GROUP], np.arange(last + 2)).tolist()
        return found

    def rows(self, groups: Iterable[int]) -> int:
        """How many rows the groups have."""
        return int(self.matrix[_ROWS, np.isin(self.matrix[_GROUP], list(groups))].sum())

    def text(self) -> str:
        """For the footer."""
        raw = np.concatenate([[self.matrix.shape[1]], self.matrix.ravel()]).astype("<i8").tobytes()
        size = len(raw).to_bytes(8, "little")
        return base64.b64encode(size + _CODEC.compress(raw, asbytes=True)).decode()

    @classmethod
    def of(cls, text: bytes) -> "PageIndex":
        """From the footer."""
        data = base64.b64decode(text)
        raw = _CODEC.decompress(data[8:], int.from_bytes(data[:8], "little"), asbytes=True)
        numbers = np.frombuffer(raw, "<i8")
        return cls(numbers[1:].reshape(_PLACES + 3 * len(COLUMNS), int(numbers[0])))


@dataclass
class Pages:
    """The pages of a file that is being written."""

    _groups: list[Integers] = field(default_factory=lambda: [np.zeros((_PLACES + 3 * len(COLUMNS), 0), np.int64)])

    def add(self, group: pa.Table, chunks: Mapping[str, Chunk], places: Mapping[str, int], page: int) -> None:
        """Add a row group.

        Args:
            group: its rows.
            chunks: by column.
            places: where each begins in the file.
            page: the number of rows of each page but the last.
        """
        first = np.arange(0, len(group), page)
        ids = integers(group["series_id"].take(pa.array(first)))
        rows = [np.full(len(first), len(self._groups) - 1), np.diff(np.append(first, len(group))), ids]
        for name in COLUMNS:
            if group[name].null_count == len(group):
                rows += [np.zeros(len(first), np.int64)] * 3
                continue
            sizes = np.array(chunks[name].page_sizes(), np.int64)
            dictionary = int(sizes[0]) if chunks[name].has_dictionary else 0
            sizes = sizes[1:] if dictionary else sizes
            at = places[name] + dictionary + np.cumsum(sizes) - sizes
            rows += [at, sizes, np.full(len(first), dictionary)]
        self._groups.append(np.stack(rows))

    def index(self) -> PageIndex:
        """The index of what was added."""
        return PageIndex(np.concatenate(self._groups, axis=1))
