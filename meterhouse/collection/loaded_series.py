"""The series of a file, each once, with a number by which its points name it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse import identity
from meterhouse.collection.judged_rows import DIMENSIONS, Codes, Integers, Judged
from meterhouse.personal_data import ErasedUsers
from meterhouse.stores.lake_order import ranks

USERS = ("user_id", "resource_id")
"""The dimensions that may name a user."""


@dataclass
class LoadedSeries:
    """The series seen so far.

    Args:
        defaults: by dimension, the value of series that have none.
    """

    defaults: Mapping[str, str]
    _texts: dict[str, dict[str | None, int]] = field(default_factory=lambda: {name: {} for name in DIMENSIONS})
    _numbers: dict[bytes, int] = field(default_factory=dict)
    _codes: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._numbers)

    def numbers(self, piece: Judged) -> Codes:
        """The number of each sample's series; shape (n,)."""
        columns = []
        for name, (texts, places) in piece.series.items():
            known, default = self._texts[name], self.defaults.get(name)
            numbered = [known.setdefault(default if text is None else text, len(known)) for text in texts]
            columns.append(np.array(numbered, np.int32)[places])
        texts_of_series = np.stack(columns, axis=1)
        rows = texts_of_series.view(f"V{4 * len(DIMENSIONS)}").ravel().tolist()
        numbers, new = self._numbers, len(self._numbers)
        found = list(map(numbers.get, rows))
        if None in found:
            found = [numbers.setdefault(row, len(numbers)) for row in rows]
        by_place = np.array(found, np.int32)
        if len(numbers) > new:
            _, first = np.unique(by_place, return_index=True)
            self._codes.append(texts_of_series[first[by_place[first] >= new]])
        return by_place[piece.codes]

    def lack(self, name: str) -> bool:
        """Whether a series has no value of this dimension."""
        none = self._texts[name].get(None, -1)
        return any((codes[:, DIMENSIONS.index(name)] == none).any() for codes in self._codes)

    def ordered(self, defaults: Mapping[str, str], erased: ErasedUsers | None = None) -> "OrderedSeries":
        """All series, in the order of points in files.

        Args:
            defaults: further ones, which no other value of the dimension may equal.
            erased: users whose pseudonyms come in place of their ids.
        """
        codes = np.concatenate(self._codes) if self._codes else np.empty((0, len(DIMENSIONS)), np.int32)
        columns = {name: self._column(name, codes[:, place], defaults, erased) for place, name in enumerate(DIMENSIONS)}
        rows = zip(*(column.to_pylist() for column in columns.values()), strict=True)
        ids = np.array([identity.series_id(*row) for row in rows], np.int64)
        order = np.lexsort((ids, ranks(columns["meter"].cast(pa.string()))))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        sorted_columns = {name: column.take(pa.array(order)) for name, column in columns.items()}
        return OrderedSeries(place, ids[order], sorted_columns)

    def _column(
        self, name: str, codes: npt.NDArray[np.int32], defaults: Mapping[str, str], erased: ErasedUsers | None
    ) -> pa.DictionaryArray:
        known, default = self._texts[name], defaults.get(name)
        missing = codes == known.get(None, -1) if default is None else None
        texts = [text if text is not None else default or "" for text in known]
        if erased is not None and name in USERS:
            texts = [erased.value(text) for text in texts]
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=missing), pa.array(texts, pa.string()))


@dataclass(frozen=True)
class OrderedSeries:
    """All series of a file in the order of points in files; shape (m,) each.

    Attributes:
        place: by number, the place of a series in this order.
        ids: series_id.
        columns: by DIMENSIONS, dictionaries of texts; a missing value is null.
    """

    place: npt.NDArray[np.int32]
    ids: Integers
    columns: dict[str, pa.DictionaryArray]
