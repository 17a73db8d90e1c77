"""The series that derived points are made of and belong to, by number; see `Targets`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import identity
from meterhouse.sample_quality.series_table import Flags, Ints, SeriesTable

DIMENSIONS = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")

SOURCE, METER, TYPE, UNIT, RESOURCE, PROJECT, USER = range(len(DIMENSIONS))
"""The columns of DIMENSIONS."""

Dimensions = tuple[str | None, ...]
"""Of a series, in the order of DIMENSIONS."""

Codes = npt.NDArray[np.int32]


class Texts:
    """The texts of a column by code, from 1; the code of null is 0. Its array is replaced, never changed."""

    def __init__(self) -> None:
        self._texts: pa.Array = pa.array([], pa.string())

    def fork(self) -> "Texts":
        """The same texts, to which others can be added."""
        made = Texts()
        made._texts = self._texts
        return made

    def code(self, text: str | None) -> int:
        """The code of a text; a new one gets the next."""
        return int(self.codes(pa.array([text], pa.string()))[0])

    def codes(self, column: pa.Array | pa.ChunkedArray) -> Codes:
        """The codes of a column of texts; each distinct text is looked up once."""
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        texts = encoded.dictionary.cast(pa.string())
        places = pc.index_in(texts, value_set=self._texts)
        new = texts.filter(places.is_null()).drop_null().unique()
        if len(new):
            self._texts = pa.concat_arrays([self._texts, new])
            places = pc.index_in(texts, value_set=self._texts)
        codes = np.asarray(places.fill_null(-1), np.int32) + np.int32(1)
        rows = encoded.indices
        if not rows.null_count:
            return np.asarray(codes[np.asarray(rows)])
        return np.asarray(np.append(codes, np.int32(0))[np.asarray(rows.fill_null(len(codes)))])

    def of(self, codes: "Codes | Ints") -> pa.Array:
        """The texts with these codes."""
        return self._texts.take(pa.array(codes.astype(np.int64) - 1, mask=codes == 0))

    def among(self, wanted: "set[str]") -> Flags:
        """By code, whether the text is one of some."""
        found = pc.is_in(self._texts, value_set=pa.array(sorted(wanted), pa.string()))
        return np.append(False, found.to_numpy(zero_copy_only=False))


class _Numbers:
    """A number for each distinct integer, from 0. Its arrays are replaced, never changed."""

    def __init__(self) -> None:
        self._keys: Ints = np.zeros(0, np.int64)
        self._numbers: Ints = np.zeros(0, np.int64)

    def fork(self) -> "_Numbers":
        """The same numbers, to which others can be added."""
        made = _Numbers()
        made._keys, made._numbers = self._keys, self._numbers
        return made

    def of(self, keys: Ints) -> Ints:
        """The numbers of these integers; new ones get the next."""
        found, new = np.zeros(len(keys), np.int64), np.ones(len(keys), np.bool_)
        if len(self._keys):
            at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            new = self._keys[at] != keys
            found = self._numbers[at]
        if new.any():
            added, which = np.unique(keys[new], return_inverse=True)
            numbers = len(self._keys) + np.arange(len(added))
            found[new] = numbers[which]
            joined = np.concatenate((self._keys, added))
            order = np.argsort(joined, kind="stable")
            self._keys, self._numbers = joined[order], np.concatenate((self._numbers, numbers))[order]
        return found


@dataclass(frozen=True)
class NewTargets:
    """What a fork of `Targets` has beyond its base. It can be pickled.

    Attributes:
        base: how many series the base had.
        dimensions: of the further ones, in the order of their numbers.
        numbers: of series whose ids were not known.
        ids: these ids.
    """

    base: int
    dimensions: list[Dimensions]
    numbers: Ints
    ids: Ints


class Targets:
    """Series by number, as they are met: their dimensions, as codes of `texts`, and ids.

    Attributes:
        texts: of each column of DIMENSIONS.
        codes: a row for each series, a column for each of DIMENSIONS.
    """

    def __init__(self) -> None:
        self.texts = [Texts() for _ in DIMENSIONS]
        self.codes: Codes = np.zeros((0, len(DIMENSIONS)), np.int32)
        self._pairs = [_Numbers() for _ in DIMENSIONS[1:]]
        self._ids, self._known = np.zeros(0, np.int64), np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self.codes)

    def fork(self) -> "Targets":
        """The same series, to which others can be added."""
        made = Targets()
        made.texts, made._pairs = [each.fork() for each in self.texts], [each.fork() for each in self._pairs]
        made.codes, made._ids, made._known = self.codes, self._ids.copy(), self._known.copy()
        return made

    def since(self, base: "Targets") -> NewTargets:
        """The series and ids that a fork has beyond what its base had."""
        new = self._known.copy()
        new[: len(base._known)] &= ~base._known
        numbers = np.flatnonzero(new)
        return NewTargets(len(base), self.rows(np.arange(len(base), len(self))), numbers, self._ids[numbers])

    def join(self, new: NewTargets) -> Codes:
        """Add the series and ids of a fork; return the number here of each number there."""
        numbers = np.concatenate(
            (np.arange(new.base, dtype=np.int32), self.numbers(self.coded(new.dimensions)))
        ).astype(np.int32)
        self._ids[numbers[new.numbers]], self._known[numbers[new.numbers]] = new.ids, True
        return numbers

    def coded(self, rows: "Sequence[Dimensions] | pa.Table") -> Codes:
        """Rows of dimensions, or columns of this name, as codes."""
        if isinstance(rows, pa.Table):
            columns: list[Any] = [rows[name] for name in DIMENSIONS]
        else:
            columns = [pa.array([row[n] for row in rows], pa.string()) for n in range(len(DIMENSIONS))]
        return np.stack([texts.codes(column) for texts, column in zip(self.texts, columns, strict=True)], axis=1)

    def numbers(self, codes: Codes) -> Codes:
        """The numbers of series with these codes; new series get the next."""
        key = codes[:, 0].astype(np.int64)
        for pairs, column in zip(self._pairs, codes.T[1:], strict=True):
            key = pairs.of(key << 32 | column)
        added, first = np.unique(key[key >= len(self)], return_index=True)
        if len(added):
            rows = np.flatnonzero(key >= len(self))[first]
            self.codes = np.concatenate((self.codes, codes[rows]))
            self._ids = np.concatenate((self._ids, np.zeros(len(added), np.int64)))
            self._known = np.concatenate((self._known, np.zeros(len(added), np.bool_)))
        return key.astype(np.int32)

    def rows(self, numbers: "Codes | Ints") -> list[Dimensions]:
        """The dimensions of some series."""
        columns = (texts.of(self.codes[numbers, n]).to_pylist() for n, texts in enumerate(self.texts))
        return list(zip(*columns, strict=True))

    def column(self, dimension: int, numbers: "Codes | Ints") -> pa.Array:
        """One of the DIMENSIONS of some series, as a dictionary of the texts that occur."""
        return self.texts[dimension].of(self.codes[numbers, dimension]).dictionary_encode()

    def distinct(self, dimension: int, numbers: "Codes | Ints") -> tuple[list[str | None], Ints]:
        """The different texts of some series in one of the DIMENSIONS, and the place of each one's among them."""
        found, of = np.unique(self.codes[numbers, dimension], return_inverse=True)
        return self.texts[dimension].of(found).to_pylist(), of

    def resources(self, numbers: "Codes | Ints") -> Ints:
        """A number for the meter and the resource of some series; no resource is the same as an empty one."""
        return self.resource_numbers(self.codes[numbers, METER], self.codes[numbers, RESOURCE])

    def resource_numbers(self, meters: Codes, resources: Codes) -> Ints:
        """As `resources`, from codes."""
        empty = np.int32(self.texts[RESOURCE].code(""))
        return meters.astype(np.int64) << 32 | np.where(resources == 0, empty, resources)

    def ids(self, numbers: "Codes | Ints") -> Ints:
        """The ids of some series."""
        missing: Ints = np.unique(numbers[~self._known[numbers]]).astype(np.int64)
        if len(missing):
            self._ids[missing] = [
                identity.series_id(source, meter or "", type or "gauge", unit, resource, project, user)
                for source, meter, type, unit, resource, project, user in self.rows(missing)
            ]
            self._known[missing] = True
        return np.asarray(self._ids[numbers])

    def describe(self, ids: Ints) -> pa.Table:
        """The dimensions of series whose ids were asked for before, by id."""
        known = np.flatnonzero(self._known)
        known = known[np.argsort(self._ids[known])]
        numbers = known[np.searchsorted(self._ids[known], ids)]
        return pa.table([self.column(n, numbers) for n in range(len(DIMENSIONS))], names=DIMENSIONS)

    def table(self, numbers: Codes) -> tuple[SeriesTable, Codes]:
        """The table of these distinct series, and the number of each by its place."""
        ids = self.ids(numbers)
        meters, types = (self.distinct(n, numbers) for n in (METER, TYPE))
        table = SeriesTable.coded(
            ids, meters[1], [name or "" for name in meters[0]], types[1], [name or "" for name in types[0]]
        )
        by_place = np.empty(len(numbers), np.int32)
        by_place[table.places(ids)] = numbers
        return table, by_place
