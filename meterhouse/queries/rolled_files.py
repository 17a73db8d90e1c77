"""The data files of roll-ups: their columns as NumPy has them, and which of their rows are of which series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from meterhouse.sample_quality.reading import heads, plain, whole
from meterhouse.sample_quality.series_table import Ints, Places, SeriesTable
from meterhouse.site import Site

Rows = slice | Ints
"""Rows of a file: all from one to another, or an index."""

TABLE = "rollups"

_RUNS = ("runs.ids", "runs.starts", "runs.order")
"""The runs of rows of one series: its ids, where each begins and the last one ends, and an order of the ids."""

_NUMBERS = frozenset(("p50", "p95", "p99", "cadence_s"))
"""Columns of which null is NaN."""

_FEW = 16
"""If so many times more runs than series are in a file, each series is looked up among the runs."""

_BYTES_A_ROW = 100


@dataclass(frozen=True)
class RolledFile:
    """A data file of roll-ups.

    Attributes:
        columns: by name. In place of null is NaN in percentiles and the cadence, and 0 in others.
        rows: how many rows it has.
    """

    columns: Mapping[str, Any]
    rows: int

    def column(self, name: str, rows: Rows) -> Any:
        """Some rows of a column."""
        return self.columns[name][rows]

    def rows_of(self, table: SeriesTable) -> tuple[Places, Rows]:
        """The rows of the series of a table, in order, and the place of each row's series."""
        ids, starts, order = (self.columns[name] for name in _RUNS)
        if _FEW * len(table) < len(ids):
            runs = _runs_of(table.ids, ids, order)
            places = table.places(ids[runs])
        else:
            places = table.places(ids)
            runs = np.flatnonzero(places >= 0)
            if len(runs) < len(places):
                places = places[runs]
        if not len(runs):
            return places, slice(0, 0)
        begin, count = starts[runs], starts[runs + 1] - starts[runs]
        of_row = places if (count == 1).all() else np.repeat(places, count)
        if runs[-1] - runs[0] + 1 == len(runs):
            return of_row, slice(int(begin[0]), int(begin[0]) + len(of_row))
        return of_row, np.repeat(begin - np.cumsum(count) + count, count) + np.arange(len(of_row))


def _runs_of(wanted: Ints, ids: Ints, order: Ints) -> Ints:
    """The runs of some series, in order."""
    listed = ids[order]
    first, end = (np.searchsorted(listed, wanted, side=side) for side in ("left", "right"))
    count = end - first
    return np.sort(order[np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())])


def opened(site: Site, path: str, rows: int, names: Sequence[str], *, keep: bool) -> RolledFile:
    """A data file with some columns.

    Args:
        site: the site.
        path: the file's, as Delta has it.
        rows: how many it has.
        names: of the columns, without the series; of those that the file lacks, all rows are null.
        keep: whether what is read may be kept.

    Raises:
        Replaced, Damaged: as `Lake.parquet`.
    """

    def read(missing: list[str]) -> dict[str, Any]:
        wanted = [name for name in missing if name not in _RUNS]
        with_runs = len(wanted) < len(missing)
        found: dict[str, Any] = {}
        with site.lake.parquet(TABLE, path) as file:
            there = {name for name in wanted if name in file.schema_arrow.names}
            read = file.read([*there, *(["series_id"] if with_runs else [])], use_threads=False)
        for name in wanted:
            column = whole(read[name]) if name in there else pa.nulls(read.num_rows, pa.float64())
            found[name] = _as_array(name, column)
        if with_runs:
            series = plain(whole(read["series_id"]))
            begin = heads(series)
            found |= zip(
                _RUNS,
                (series[begin], np.append(begin, len(series)), np.argsort(series[begin], kind="stable")),
                strict=True,
            )
        return found

    kept = site.kept.files.of(f"{TABLE}/{path}", [*names, *_RUNS], read, keep=keep)
    return RolledFile(kept, rows)


def may_keep(site: Site, rows: int) -> bool:
    """Whether the columns of so many rows leave room for those of other questions."""
    return site.kept.files.has_room_for(rows * _BYTES_A_ROW)


def _as_array(name: str, column: pa.Array) -> Any:
    if pa.types.is_map(column.type):
        return column
    if name in _NUMBERS:
        column = column.cast(pa.float64())
    if column.null_count:
        column = column.fill_null(np.nan if name in _NUMBERS else 0)
    return plain(column)
