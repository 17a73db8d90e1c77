"""Which rows each price is for. Conditions are compared with distinct values, not with rows."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from meterhouse.definitions.prices import UNITS, Condition, matcher

Codes = NDArray[np.int64]
"""A number for each row: the place of its value among the distinct values."""

Mask = NDArray[np.bool_]

_METADATA: Final = "metadata."
_PARSED_AT_ONCE: Final = 10_000

_MAX_CODES: Final = 1 << 40


class Column:
    """A column as distinct values in ascending order (None first), and the code of each row's value."""

    def __init__(self, codes: Codes, values: list[str | None]) -> None:
        self.codes, self.values = codes, values

    @classmethod
    def of(cls, array: pa.ChunkedArray) -> "Column":
        """A column of texts."""
        codes, dictionary = encoded(array)
        return cls.coded(codes, [*dictionary.to_pylist(), None])

    @classmethod
    def coded(cls, codes: Codes, values: Sequence[str | None]) -> "Column":
        """A column from a code for each row, and values, which may repeat."""
        texts = {each for each in values if each is not None}
        ordered: list[str | None] = [None] if None in values else []
        ordered += sorted(texts)
        place = {value: number for number, value in enumerate(ordered)}
        return cls(np.array([place[each] for each in values], np.int64)[codes], ordered)


def combined(columns: Iterable[Codes]) -> tuple[Codes, Codes]:
    """The code of each row's combination of values, in ascending order, and one row of each combination.

    Args:
        columns: codes of at least one row, the most significant first.
    """
    made: Codes | None = None
    for codes in columns:
        if made is None:
            made = codes
            continue
        count = int(codes.max(initial=0)) + 1
        if (int(made.max(initial=0)) + 1) * count > _MAX_CODES:
            made = np.unique(made, return_inverse=True)[1].reshape(-1)
        made = made * count + codes
    assert made is not None
    _, rows, codes = np.unique(made, return_index=True, return_inverse=True)
    return codes.reshape(-1).astype(np.int64), rows.astype(np.int64)


def encoded(array: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """The code of each row of a column of texts, and the texts; a null has the code after the last."""
    whole = array.combine_chunks()
    if not pa.types.is_dictionary(whole.type):
        whole = whole.cast(pa.string()).dictionary_encode()
    codes = whole.indices.cast(pa.int64()).fill_null(len(whole.dictionary)).to_numpy(zero_copy_only=False)
    return codes, whole.dictionary


class Documents:
    """A column of JSON objects. Each distinct text is parsed at each call, and none is kept: they may be large."""

    def __init__(self, array: pa.ChunkedArray) -> None:
        self.codes, self.texts = encoded(array)

    def _each(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self.texts), _PARSED_AT_ONCE):
            for text in self.texts.slice(start, _PARSED_AT_ONCE).to_pylist():
                yield _object(text)
        yield {}

    def columns(self, texts: Iterable[str], numbers: Iterable[str]) -> tuple[list[Column], list[NDArray[np.float64]]]:
        """The values at keys, or at paths with dots: as texts, None if there is none; as numbers, otherwise NaN."""
        of_texts, of_numbers = list(texts), list(numbers)
        found: list[list[str | None]] = [[] for _ in of_texts]
        counted: list[list[float]] = [[] for _ in of_numbers]
        for document in self._each():
            for values, path in zip(found, of_texts, strict=True):
                values.append(_text(at(document, path)))
            for figures, path in zip(counted, of_numbers, strict=True):
                figures.append(_number(at(document, path)))
        return (
            [Column.coded(self.codes, values) for values in found],
            [np.array(figures, np.float64)[self.codes] for figures in counted],
        )

    def only(self, paths: Sequence[str]) -> Column:
        """The objects with these keys alone, as texts; None for one that has none of them."""
        kept = []
        for document in self._each():
            part = {path: value for path in paths if (value := at(document, path)) is not None}
            kept.append(orjson.dumps(part, option=orjson.OPT_SORT_KEYS).decode() if part else None)
        return Column.coded(self.codes, kept)


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def at(document: Any, path: str) -> Any:
    """The value of an object at a key, or else at a path of keys with dots; None if there is none.

    The longest first key counts: `a.b` is the key `a.b` if the object has it.
    """
    if not isinstance(document, dict):
        return None
    if path in document:
        return document[path]
    for place in range(len(path) - 1, 0, -1):
        if path[place] == "." and path[:place] in document:
            return at(document[path[:place]], path[place + 1 :])
    return None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")


class Rows:
    """The rows of a table of periods, or of hours of counters, as conditions and quantities need them.

    Args:
        table: the rows; columns that are missing are not known for any row.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._columns: dict[str, Column] = {}
        self._numbers: dict[str, NDArray[np.float64]] = {}
        self._carried: dict[tuple[str, ...] | None, tuple[Codes, pa.Array]] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def look_up(self, texts: Iterable[str], numbers: Iterable[str]) -> None:
        """Read what will be asked for in the metadata, at once: keys or paths after `metadata.`."""
        wanted = [sorted(each for each in names if each.startswith(_METADATA)) for names in (texts, numbers)]
        if any(wanted):
            paths = [[each.removeprefix(_METADATA) for each in names] for names in wanted]
            columns, figures = self.metadata.columns(*paths)
            self._columns |= zip(wanted[0], columns, strict=True)
            self._numbers |= zip(wanted[1], figures, strict=True)

    def column(self, name: str) -> Column:
        """A column of texts, or `metadata.` and a path."""
        if name not in self._columns:
            if name.startswith(_METADATA):
                self.look_up([name], [])
            elif name in self.table.column_names:
                self._columns[name] = Column.of(self.table[name])
            else:
                self._columns[name] = Column(np.zeros(len(self), np.int64), [None])
        return self._columns[name]

    def carried(self, keys: tuple[str, ...] | None) -> tuple[Codes, pa.Array]:
        """The metadata that lines carry: the code of each row, and the texts, of which the last is null.

        Args:
            keys: the keys that they carry; None for all of it.
        """
        if keys not in self._carried:
            if keys is None:
                codes, texts = self.metadata.codes, self.metadata.texts
            else:
                only = self.metadata.only(keys)
                codes, texts = only.codes, pa.array(only.values, pa.string())
            self._carried[keys] = codes, pa.concat_arrays([texts.cast(pa.string()), pa.nulls(1, pa.string())])
        return self._carried[keys]

    @cached_property
    def metadata(self) -> Documents:
        """The metadata of each row."""
        return self._documents("metadata")

    @cached_property
    def _measures(self) -> Documents:
        return self._documents("measures")

    def _documents(self, name: str) -> Documents:
        known = name in self.table.column_names
        return Documents(self.table[name] if known else pa.chunked_array([pa.nulls(len(self), pa.string())]))

    def measure(self, name: str) -> NDArray[np.float64]:
        """A measure of each row, NaN if it has none.

        `count` is 1. Others are columns, keys of `measures`, or `metadata.` and a path.
        """
        if name not in self._numbers:
            if name.startswith(_METADATA):
                self.look_up([], [name])
            else:
                self._numbers[name] = self._measure(name)
        return self._numbers[name]

    def _measure(self, name: str) -> NDArray[np.float64]:
        if name == "count":
            return np.ones(len(self))
        if name in UNITS and name in self.table.column_names:
            found: NDArray[np.float64] = pc.fill_null(self.table[name].cast(pa.float64()), float("nan")).to_numpy()
            return found
        return self._measures.columns([], [name])[1][0]


class Classes:
    """Rows that are the same to all conditions, as one.

    Args:
        rows: the rows, at least one.
        conditions: all conditions that they will be compared with.
    """

    def __init__(self, rows: Rows, conditions: Sequence[Condition]) -> None:
        texts = {key for each in conditions for key, _ in each.texts}
        texts |= {f"metadata.{key}" for each in conditions for key, _ in each.metadata}
        numbers = {key for each in conditions for key, _, _ in each.ranges}
        rows.look_up(texts, numbers)
        columns = {key: rows.column(key) for key in sorted(texts)}
        codes = [column.codes for column in columns.values()]
        ranged = {}
        for key in sorted(numbers):
            values, places = np.unique(rows.measure(key), return_inverse=True)
            ranged[key] = ([Decimal(repr(each)) for each in values.tolist()], places.reshape(-1))
            codes.append(ranged[key][1])
        self.codes, first = combined([np.zeros(len(rows), np.int64), *codes])
        self.count = len(first)
        self._texts = {key: (column.values, column.codes[first]) for key, column in columns.items()}
        self._numbers = {key: (values, places[first]) for key, (values, places) in ranged.items()}
        self._found: dict[tuple[str, tuple[str, ...]], Mask] = {}

    def of(self, condition: Condition) -> Mask:
        """Whether a condition holds, for each class."""
        made = np.ones(self.count, np.bool_)
        for key, globs in (*condition.texts, *((f"metadata.{key}", globs) for key, globs in condition.metadata)):
            made &= self._holds(key, globs)
        for key, low, high in condition.ranges:
            values, places = self._numbers[key]
            inside = [
                not each.is_nan() and (low is None or each >= low) and (high is None or each < high) for each in values
            ]
            made &= np.array(inside, np.bool_)[places]
        return made

    def _holds(self, key: str, globs: tuple[str, ...]) -> Mask:
        found = self._found.get((key, globs))
        if found is None:
            values, places = self._texts[key]
            holds = matcher(globs)
            found = self._found[key, globs] = np.array([holds(each) for each in values], np.bool_)[places]
        return found
