"""Replaces a lake table's rows of some event hours, whatever their number and however far they lie apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.stores.lake import REPLACE, Lake
from meterhouse.stores.lake_commits import SPANS, spans_text
from meterhouse.stores.lake_files import PART, DataFile, by_partition
from meterhouse.stores.lake_tables import TABLES, columns_of_files
from meterhouse.times import Span

if TYPE_CHECKING:
    from meterhouse.stores.leases import Lease

ATTEMPTS = 5

SMALL_BYTES = 256 << 10
"""Files up to this size are merged when their partition is rewritten."""

_HOUR = 3_600_000_000

_DAY = 86_400
"""The granularity of days, the first partition value of their rows."""

Place = tuple[Any, ...]
"""The values of a table's partition columns."""


@dataclass
class Part:
    """What comes in place of the rows of some hours of a partition.

    Attributes:
        hours: which, event hours.
        rows: new rows in order, which are written with the rows of small files; columns as in the table's files.
        files: further new rows, in files that are written already.
        prefix: how the names of the partition's new files start.
    """

    hours: Sequence[datetime]
    rows: list[pa.Table] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)
    prefix: str = PART


def replace_spans(
    lake: Lake,
    name: str,
    rows: pa.Table,
    column: str,
    spans: Sequence[Span],
    lease: "Lease | None" = None,
) -> None:
    """Replace all rows of these spans of a table that is partitioned by `event_day` only; see `replace`.

    Args:
        lake: the lake.
        name: the table.
        rows: the new rows, columns as in the table's schema.
        column: the time that the spans refer to.
        spans: whole hours of event time, in order.
        lease: the lease that the step holds.
    """
    parts: dict[Place, Part] = {}
    hours: dict[date, list[datetime]] = {}
    for start, end in spans:
        for hour in times.hours_between(start, end):
            hours.setdefault(hour.date(), []).append(hour)
    for day, of_day in hours.items():
        parts[(day,)] = Part(of_day)
    for values, part in by_partition(rows, ["event_day"]):
        parts[(values["event_day"],)].rows.append(part.drop_columns(["event_day"]))
    replace(lake, name, column, parts, lease)


def replace(lake: Lake, name: str, column: str, parts: Mapping[Place, Part], lease: "Lease | None" = None) -> bool:
    """Replace a table's rows of some hours, in one commit; in none, if there are neither old nor new rows.

    One partition after the other is rewritten, so that memory holds the rows of one. A file that lies wholly in hours
    that are replaced is not read. Small files become one: if each hour had its own, whoever reads a few days would open
    hundreds. Large files without rows of the hours stay.

    Args:
        lake: the lake.
        name: the table, which is partitioned by `event_day`, perhaps among others.
        column: the time that the hours refer to.
        parts: what is new, by the values of the partition columns. All rows of a part lie in its hours.
        lease: the lease that the step holds.

    Returns:
        Whether there was a commit.

    Raises:
        Conflict: another process has taken the lease over, or keeps replacing rows of the table.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _replace(lake, name, column, parts, lease)
        except Conflict:
            # Of a process that has lost the lease, one commit may still have come first.
            if lease is not None:
                with lease.begin():
                    pass
            if attempt == ATTEMPTS:
                lake.discard(name, [file for part in parts.values() for file in part.files])
                raise
    return False


def _replace(lake: Lake, name: str, column: str, parts: Mapping[Place, Part], lease: "Lease | None") -> bool:
    keys = TABLES[name][1]
    after = lake.swaps(name)
    found = lake.matching(name, partitions={key: {place[n] for place in parts} for n, key in enumerate(keys)})
    old: dict[Place, list[dict[str, Any]]] = {}
    for action in found.to_pylist():
        old.setdefault(tuple(action[f"partition.{key}"] for key in keys), []).append(action)
    gone: list[str] = []
    added: list[DataFile] = []
    try:
        for place, part in sorted(parts.items()):
            made, dropped = _rewritten(lake, name, column, place, part, old.get(place, []))
            added += made
            gone += dropped
        written = [*added, *(file for part in parts.values() for file in part.files)]
        if written or gone:
            removed = found.filter(pc.is_in(found["path"], pa.array(gone, pa.string())))
            note = {REPLACE: column, SPANS: _spans_note(parts)}
            lake.swap(name, removed, written, note, same_rows=False, after=after, lease=lease)
        return bool(written or gone)
    except MeterhouseError as error:
        # An object store may still be processing the commit. On a full disk, each attempt would leave more files.
        if isinstance(error, Conflict) or not lake.storage_options:
            lake.discard(name, added)
        raise


def _rewritten(
    lake: Lake, name: str, column: str, place: Place, part: Part, old: list[dict[str, Any]]
) -> tuple[list[DataFile], list[str]]:
    """Write a partition's new rows and what stays of its files; return the new files, and the old ones that go."""
    hours = np.array(sorted(times.micros(hour) // _HOUR for hour in part.hours), np.int64)
    values = dict(zip(TABLES[name][1], place, strict=True))
    columns = columns_of_files(name).names
    pieces: list[pa.Table] = []  # of the old files
    gone: list[str] = []
    added: list[DataFile] = []
    small: list[str] = []
    for action in old:
        within = _within(action, column, hours)
        if within is None:
            before = lake.rows_of(name, action["path"], values)
            inside = pc.is_in(pc.divide(before[column].cast(pa.int64()), _HOUR), pa.array(hours))
            if pc.any(inside, min_count=0).as_py() or not before.num_rows:
                gone.append(action["path"])
                rest = before.filter(pc.invert(inside)).select(columns)
                if action["size_bytes"] <= SMALL_BYTES:
                    pieces.append(rest)
                elif rest.num_rows:
                    added.append(lake.write_part(name, values, rest, part.prefix))
                continue
            within = False
        if within:
            gone.append(action["path"])
        elif action["size_bytes"] <= SMALL_BYTES:
            small.append(action["path"])
    if gone or part.rows or part.files:
        pieces += [lake.rows_of(name, path, values).select(columns) for path in small]
        gone += small
    merged = pa.concat_tables([columns_of_files(name).empty_table(), *part.rows, *pieces])
    if pieces:
        merged = merged.sort_by([("series_id", "ascending"), (column, "ascending")])
    if merged.num_rows:
        added.append(lake.write_part(name, values, merged, part.prefix))
    return added, gone


def _within(action: Mapping[str, Any], column: str, hours: "np.ndarray[Any, Any]") -> bool | None:
    """Whether all rows of a file lie in the hours, or none; None if it has to be read to know.

    Args:
        action: of `Lake.actions`.
        column: the time that the hours refer to.
        hours: numbers of hours since 1970, in order.
    """
    low, high = action.get(f"min.{column}"), action.get(f"max.{column}")
    if low is None or high is None:
        return None
    # Delta truncates bounds of times to milliseconds, the upper bound too: the hours stay.
    first, last = times.micros(low) // _HOUR, times.micros(high) // _HOUR
    count = int(np.searchsorted(hours, last, side="right") - np.searchsorted(hours, first))
    if not count:
        return False
    return True if count == last - first + 1 else None


def _spans_note(parts: Mapping[Place, Part]) -> str:
    """What the commit says of the hours that it replaces; see `SPANS`. Rows of days are replaced with some hours."""
    hours = {hour for place, part in parts.items() if place[0] != _DAY for hour in part.hours}
    return spans_text(hours or {hour for part in parts.values() for hour in part.hours})
