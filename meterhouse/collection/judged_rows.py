"""Which rows of a piece are samples, of which series, and what is wrong with the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.collection.column_names import GRANULARITY
from meterhouse.collection.sample_rows import SampleRows, queue
from meterhouse.stores import duck
from meterhouse.stream import Raw

Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]

DIMENSIONS: Final = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")
"""What a series is, in the order of `identity.series_id`."""

TYPES: Final = ("gauge", "delta", "cumulative")

_FIRST, _END = 0, times.micros(times.parse("2261-12-31T23:59:59.999999")) + 1

# DuckDB also accepts words such as epoch, and names of time zones. It does not accept a time without minutes.
_TIME: Final = """
    epoch_us(CASE WHEN NOT regexp_matches(text, '[A-SU-Ya-su-y]') THEN try_cast(
        regexp_replace(text, '^(\\d{4}-\\d\\d-\\d\\d[ T]\\d\\d)(Z|[-+].*)?$', '\\1:00\\2') AS TIMESTAMPTZ
    ) END)
"""

METER_MISSING: Final = "the meter is missing"

_REASONS: Final = (
    "",
    "the timestamp is missing",
    "the timestamp is not ISO 8601",
    "the timestamp is outside 1970 to 2261",
    "the volume is missing",
    "the volume is no number",
    f"the type is none of {', '.join(TYPES)}",
    METER_MISSING,
)
"""By number, in the order in which they are looked for."""


@dataclass
class Judged:
    """What a piece of a file has.

    Attributes:
        series: by DIMENSIONS, the texts that series have, None for none; and the place of each series' text in them,
            shape (m,).
        codes: the place of each sample's series in `series`; shape (n,), as the next two, in the order of the file.
        micros: the times, µs since 1970, UTC.
        volumes: the volumes.
        letters: the rows and lines that are not samples, with the reason.
        granularities: the values of GRANULARITY.
        columns: those of TEXTS that the file names.
    """

    series: dict[str, tuple[list[str | None], Codes]]
    codes: Codes
    micros: Integers
    volumes: Floats
    letters: list[Raw]
    granularities: set[str]
    columns: set[str]


def judge(piece: SampleRows, path: Path, *, meter_needed: bool) -> Judged:
    """Judge the rows of a piece.

    Args:
        piece: the rows.
        path: the file.
        meter_needed: whether a row without a meter is not a sample.
    """
    rows = piece.rows
    micros, no_time, bad_time = _micros(rows)
    volumes, no_volume, bad_volume = _volumes(rows)
    texts = {name: _Texts.of(rows, name) for name in (*DIMENSIONS, GRANULARITY)}
    outside = (micros < _FIRST) | (micros >= _END)
    wrong = [no_time, bad_time, outside, no_volume, bad_volume, texts["type"].is_none_of(TYPES)]
    reason = np.zeros(len(micros), np.int8)
    for number in reversed(range(len(wrong))):  # the first one counts
        if np.any(wrong[number]):
            reason[wrong[number]] = number + 1
    granularities = texts[GRANULARITY].among(reason == 0)
    if meter_needed:
        reason[(reason == 0) & texts["meter"].missing()] = len(_REASONS) - 1
    bad = np.flatnonzero(reason)
    letters = piece.letters + [
        Raw(piece.text(place), queue(path, piece.line_of(place)), _REASONS[reason[place]]) for place in bad.tolist()
    ]
    if len(bad):
        good = np.flatnonzero(reason == 0)
        micros, volumes = micros[good], volumes[good]
        for each in texts.values():
            each.keep(good)
    codes, firsts = _combined([texts[name] for name in DIMENSIONS], len(micros))
    series = {name: (texts[name].values, texts[name].at(firsts)) for name in DIMENSIONS}
    return Judged(series, codes, micros, volumes, letters, granularities, piece.columns)


@dataclass
class _Texts:
    """A column of texts: the distinct values, and the place of each row's value among them; the last one is None."""

    values: list[str | None]
    codes: Codes | None
    """None if all rows have the last value."""

    @classmethod
    def of(cls, rows: pa.Table, name: str) -> "_Texts":
        """Spaces around a text are removed; an empty one is missing."""
        if name not in rows.column_names:
            return cls([None], None)
        column = rows[name].combine_chunks()
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        found: list[str | None] = _plain(column.dictionary, name)
        indices = column.indices
        codes = (
            (pc.fill_null(indices, len(found)) if indices.null_count else indices)
            .to_numpy()
            .astype(np.int32, copy=False)
        )
        place: dict[str | None, int] = {}
        for text in found:
            if text is not None:
                place.setdefault(text, len(place))
        values = [*place, None]
        renumbered = [len(place) if text is None else place[text] for text in found] + [len(place)]
        if renumbered != list(range(len(renumbered))):
            codes = np.array(renumbered, np.int32)[codes]
        return cls(values, codes)

    def is_none_of(self, wanted: Sequence[str]) -> Any:
        """Whether each row has a text that is none of these."""
        bad = np.array([value is not None and value not in wanted for value in self.values])
        return bad[self.codes] if self.codes is not None and bad.any() else False

    def missing(self) -> Any:
        """Whether each row has no text."""
        return True if self.codes is None else self.codes == len(self.values) - 1

    def among(self, some: npt.NDArray[np.bool_]) -> set[str]:
        """The distinct texts of some rows."""
        if self.codes is None:
            return set()
        found = (self.values[code] for code in np.unique(self.codes[some]).tolist())
        return {text for text in found if text is not None}

    def keep(self, places: npt.NDArray[np.intp]) -> None:
        """Keep these rows only."""
        if self.codes is not None:
            self.codes = self.codes[places]

    def at(self, places: npt.NDArray[np.intp]) -> Codes:
        """The places of these rows' texts."""
        return np.zeros(len(places), np.int32) if self.codes is None else self.codes[places]


def _plain(texts: pa.Array, name: str) -> list[str | None]:
    plain = [text.replace("\0", "") if text else None for text in pc.utf8_trim_whitespace(texts).to_pylist()]
    return [text and text.lower() for text in plain] if name == "type" else plain


def _combined(columns: list[_Texts], rows: int) -> tuple[Codes, npt.NDArray[np.intp]]:
    """The code of each row's combination of texts, in order of appearance; by code, the place of its first row."""
    key: Integers | None = None
    size = 1
    for column in columns:
        if column.codes is None:
            continue
        if key is None:
            key, size = column.codes.astype(np.int64), len(column.values)
            continue
        if size * len(column.values) >= 1 << 62:
            encoded = pa.array(key).dictionary_encode()
            key, size = encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)
        key = key * len(column.values) + column.codes
        size *= len(column.values)
    if key is None:
        return np.zeros(rows, np.int32), np.zeros(min(rows, 1), np.intp)
    codes = pa.array(key).dictionary_encode().indices.to_numpy()
    if not len(codes):
        return codes, np.zeros(0, np.intp)
    highest = np.maximum.accumulate(codes)
    firsts = np.flatnonzero(np.diff(highest, prepend=-1))
    return codes, firsts


# -- times and volumes -------------------------------------------------------------------------------------------


def _micros(rows: pa.Table) -> tuple[Integers, Any, Any]:
    """The times in µs; which are missing, and which are no times."""
    column = rows["timestamp"].combine_chunks()
    if pa.types.is_timestamp(column.type):
        missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else False
        found = column.view(pa.int64())
        return (pc.fill_null(found, 0) if found.null_count else found).to_numpy(), missing, False
    return _understood(column, _TIME, np.int64)


def _volumes(rows: pa.Table) -> tuple[Floats, Any, Any]:
    """The volumes; which are missing, and which are no numbers."""
    column = rows["volume"].combine_chunks()
    if pa.types.is_floating(column.type):
        missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else False
        return (pc.fill_null(column, 0.0) if column.null_count else column).to_numpy(), missing, False
    return _understood(column, "try_cast(text AS DOUBLE)", np.float64)


def _understood(column: pa.Array, expression: str, kind: Any) -> tuple[Any, Any, Any]:
    """What DuckDB makes of texts; which are missing, and of which it makes nothing."""
    texts = pc.utf8_trim_whitespace(column)
    missing = pc.fill_null(pc.equal(texts, ""), True).to_numpy(zero_copy_only=False)
    if missing.all():
        nothing = np.zeros(len(missing), np.bool_)
        return np.zeros(len(missing), kind), missing, nothing
    with duck.SINGLE.connect() as connection:
        connection.execute("SET preserve_insertion_order = true")
        connection.register("given", pa.table({"text": texts}))
        found = duck.arrow(connection, f"SELECT {expression} AS found FROM given")["found"].combine_chunks()
    bad = found.is_null().to_numpy(zero_copy_only=False) & ~missing
    return pc.fill_null(found, 0).to_numpy().astype(kind), missing, bad
