"""What the footers of data files of points say: which row groups and pages may hold the points of some series.

Data files never change, so a footer is read once in a process. Points are in files by meter and series (see
`lake_order`), so few row groups of a file hold a series, and those of a compacted file mostly have one meter each.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from meterhouse.stores import page_index
from meterhouse.stores.lake_order import Integers
from meterhouse.stores.page_index import PageIndex, Run

PAGES: Final = 500_000
"""Of how many pages or row groups a process remembers where they are; one takes some 170 bytes."""

_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True)
class Footer:
    """The row groups of a file; what has no bounds may hold anything.

    Attributes:
        meters: the first and the last meter of each group, by code points; None where unknown.
        low, high: the bounds of `series_id` in each group; shape (groups,).
        pages: where the pages are; None in files that are not compacted, or were by an earlier release.
    """

    meters: list[tuple[str, str] | None]
    low: Integers
    high: Integers
    pages: PageIndex | None

    def groups(self, meter: str | None, ids: Integers | None) -> dict[int, bool]:
        """The groups that may hold points of a meter, and of these series; whether each has one meter alone.

        Args:
            meter: the meter; None for all.
            ids: of the wanted series, in order; None for all.
        """
        if meter is None:
            found = np.ones(len(self.meters), np.bool_)
        else:
            found = np.array([known is None or known[0] <= meter <= known[1] for known in self.meters], np.bool_)
        if ids is not None:
            found &= np.searchsorted(ids, self.low) < np.searchsorted(ids, self.high, side="right")
        return {number: self._has_one_meter(number) for number in np.flatnonzero(found).tolist()}

    def _has_one_meter(self, group: int) -> bool:
        known = self.meters[group]
        return known is not None and known[0] == known[1]

    def page_of(self, meter: str, series_id: int) -> Run | None:
        """The one page that may hold points of a series of a meter; None if it may be elsewhere, or in several."""
        found = None
        for number, known in enumerate(self.meters):
            if known is not None and not known[0] <= meter <= known[1]:
                continue
            low, high = self._bounds[number]
            if not low <= series_id <= high:
                continue
            if found is not None or known != (meter, meter) or self.pages is None:
                return None
            found = number
        return None if found is None or self.pages is None else self.pages.page_of(found, series_id)

    @cached_property
    def _bounds(self) -> list[tuple[int, int]]:
        return list(zip(self.low.tolist(), self.high.tolist(), strict=True))

    @property
    def size(self) -> int:
        """How much memory it takes, in pages."""
        return len(self.meters) + (0 if self.pages is None else self.pages.matrix.shape[1])


@dataclass
class Footers:
    """The footers that were read last, up to PAGES pages."""

    _known: "OrderedDict[str, Footer]" = field(default_factory=OrderedDict)
    _pages: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, path: str, read: Callable[[], pq.FileMetaData]) -> Footer:
        """The footer of a file, which `read` reads if it is not known."""
        with self._lock:
            known = self._known.get(path)
            if known is not None:
                self._known.move_to_end(path)
                return known
        footer = _footer(read())
        with self._lock:
            if path not in self._known:
                self._known[path] = footer
                self._pages += footer.size
                while self._pages > PAGES and len(self._known) > 1:
                    self._pages -= self._known.popitem(last=False)[1].size
        return footer


def as_dictionaries(metadata: pq.FileMetaData, columns: Sequence[str]) -> list[str]:
    """Those text columns that can be read as dictionaries: Arrow cannot do so with texts in a delta encoding."""
    places = {metadata.schema.column(n).path: n for n in range(metadata.num_columns)}
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [
        name
        for name in columns
        if not any("DELTA" in each for group in groups for each in group.column(places[name]).encodings)
    ]


def _footer(metadata: pq.FileMetaData) -> Footer:
    names = metadata.schema.names
    meter, series = names.index("meter"), names.index("series_id")
    meters: list[tuple[str, str] | None] = []
    low, high = [], []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        known = group.column(meter).statistics
        bounded = known is not None and known.has_min_max and known.has_null_count and not known.null_count
        meters.append((known.min, known.max) if bounded else None)
        known = group.column(series).statistics
        bounded = known is not None and known.has_min_max
        low.append(known.min if bounded else _LEAST)
        high.append(known.max if bounded else _MOST)
    text = (metadata.metadata or {}).get(page_index.KEY.encode())
    pages = None if text is None else PageIndex.of(text)
    return Footer(meters, np.array(low, np.int64), np.array(high, np.int64), pages)
