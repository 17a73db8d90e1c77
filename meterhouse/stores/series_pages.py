"""Reads the points of one series from pages of compacted files: of each page, only its values.

pyarrow would decode all values of a page, which are mostly those of a hundred other series.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from meterhouse.stores.page_index import Run
from meterhouse.stores.page_reading import PageReader, Pages, Part
from meterhouse.stores.page_values import Dictionary, Page, Unreadable, Values

NEAR: Final = 1 << 13
"""Two pieces of a file are read together if so few bytes are between them."""


@dataclass(frozen=True)
class _Whole:
    """The values of some rows of a page that pyarrow has to decode as a whole; `number` is that of the page."""

    number: int
    start: int
    stop: int


@dataclass
class SeriesPages:
    """The points of a series, which are added page by page.

    Args:
        series_id: of the series.
        schema: of the columns to read, of 64 bits each, one of which is not null anywhere: `timestamp`.
    """

    series_id: int
    schema: pa.Schema
    _found: list[dict[str, Values | _Whole]] = field(default_factory=list)
    _parts: dict[str, list[Part]] = field(default_factory=dict)
    _dictionaries: dict[str, Dictionary] = field(default_factory=dict)
    _pages: dict[str, Page] = field(default_factory=dict)

    def add(self, handle: int, run: Run) -> bool:
        """Add the points in a page; return whether it can be read so. If not, nothing was added.

        Args:
            handle: of the file.
            run: of one page. If it has the series, its points are neighbours.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            ids, page, _ = self._read(handle, run, "series_id", "<i8")
            if ids is None:
                return False
            codes = np.flatnonzero(ids == self.series_id)
            start, stop = page.run_of(int(codes[0])) if len(codes) else (0, 0)
            found: dict[str, Values | _Whole] = {}
            parts: dict[str, Part] = {}
            for column in self.schema if start < stop else ():
                if column.name not in run.places:
                    continue
                kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
                known, page, raw = self._read(handle, run, column.name, kind)
                if page.is_coded:
                    found[column.name] = _Whole(len(self._parts.get(column.name, ())), start, stop)
                    parts[column.name] = Part(run.rows, [raw])
                else:
                    found[column.name] = page.values(start, stop, known, kind)
        except (Unreadable, IndexError):
            return False
        if found:
            self._found.append(found)
        for name, part in parts.items():
            self._parts.setdefault(name, []).append(part)
        return True

    def points(self) -> list[pa.Table]:
        """The points that were added, in tables of the columns that have values."""
        whole = {name: self._decoded(name, parts) for name, parts in self._parts.items()}
        alike: dict[tuple[str, ...], list[dict[str, Values | _Whole]]] = {}
        for found in self._found:
            alike.setdefault(tuple(found), []).append(found)
        tables = []
        for names, some in alike.items():
            columns = {}
            for name in names:
                pieces = [
                    whole[name][each.number][each.start : each.stop] if isinstance(each, _Whole) else each
                    for each in (found[name] for found in some)
                ]
                columns[name] = pa.array(np.concatenate(pieces)).cast(self.schema.field(name).type)
            tables.append(pa.table(columns))
        return tables

    def _decoded(self, name: str, parts: Sequence[Part]) -> list[Values]:
        """The values of each of the pages of a column."""
        column = PageReader(pa.schema([self.schema.field(name)])).read(parts)[name].combine_chunks()
        values: Any = (column if pa.types.is_floating(column.type) else column.cast(pa.int64())).to_numpy()
        return np.split(values, np.cumsum([part.rows for part in parts])[:-1])

    def _read(self, handle: int, run: Run, name: str, kind: str) -> tuple[Values | None, Page, Pages]:
        """The dictionary of a column, if it has one, and its page, decoded and as it is in the file.

        What a file has in common with the one before is decoded once.
        """
        (first, size), (at, length) = run.places[name]
        if size and at - first - size < NEAR:
            both = os.pread(handle, at + length - first, first)
            raw = Pages(both[:size], both[at - first :])
        else:
            raw = Pages(os.pread(handle, size, first) if size else b"", os.pread(handle, length, at))
        page = self._pages[name] = Page.after(self._pages.get(name), raw.data, run.rows)
        if not size:
            return None, page, raw
        known = self._dictionaries[name] = Dictionary.after(self._dictionaries.get(name), raw.dictionary, kind)
        return known.values, page, raw
