"""Replaces a lake table's rows of some event hours, whatever their number and however far they lie apart."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.stores.lake import REPLACE, SPANS, Lake
from meterhouse.stores.lake_files import DataFile, by_partition
from meterhouse.stores.lake_tables import TABLES
from meterhouse.times import Span

if TYPE_CHECKING:
    from meterhouse.stores.leases import Lease

ATTEMPTS = 5

SMALL_BYTES = 256 << 10
"""Files up to this size are merged when their partition is rewritten."""

_HOUR = 3_600_000_000


def replace_spans(
    lake: Lake,
    name: str,
    rows: pa.Table,
    column: str,
    spans: Sequence[Span],
    partitions: Mapping[str, Any] | None = None,
    lease: "Lease | None" = None,
) -> None:
    """Replace a table's rows of these spans, in one commit; in none, if there are neither old nor new rows.

    One partition after the other is rewritten, so that memory holds the rows of one. Its small files become one: if
    each hour had its own, whoever reads a few days would open hundreds. Large files without rows of the spans stay.

    Args:
        lake: the lake.
        name: the table, which is partitioned by `event_day`.
        rows: the new rows, columns as in the table's schema.
        column: the time that the spans refer to.
        spans: whole hours of event time, in order.
        partitions: partition column → the only value to replace.
        lease: the lease that the step holds.

    Raises:
        Conflict: another process has taken the lease over, or keeps replacing rows of the table.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _replace(lake, name, rows, column, spans, partitions or {}, lease)
            return
        except Conflict:
            # Of a process that has lost the lease, one commit may still have come first.
            if lease is not None:
                with lease.begin():
                    pass
            if attempt == ATTEMPTS:
                raise


def _replace(
    lake: Lake,
    name: str,
    rows: pa.Table,
    column: str,
    spans: Sequence[Span],
    partitions: Mapping[str, Any],
    lease: "Lease | None",
) -> None:
    hours = [hour for start, end in spans for hour in times.hours_between(start, end)]
    numbers = pa.array([times.micros(hour) // _HOUR for hour in hours], pa.int64())
    wanted = {"event_day": {hour.date() for hour in hours}, **{key: [value] for key, value in partitions.items()}}
    keys = TABLES[name][1]
    after = lake.swaps(name)
    old: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    found = lake.matching(name, partitions=wanted)
    overlapping = set(lake.matching(name, overlapping=(column, spans), partitions=wanted)["path"].to_pylist())
    for action in found.to_pylist():
        old[tuple(action[f"partition.{key}"] for key in keys)].append(action)
    new = {tuple(values[key] for key in keys): part for values, part in by_partition(rows, keys)}
    gone: set[str] = set()
    added: list[DataFile] = []
    try:
        for place in sorted(old.keys() | new.keys()):
            pieces = [new[place]] if place in new else []
            values = dict(zip(keys, place, strict=True))
            small = []
            for action in old.get(place, []):
                if action["path"] in overlapping:
                    before = lake.rows_of(name, action["path"], values)
                    inside = pc.is_in(pc.divide(before[column].cast(pa.int64()), _HOUR), numbers)
                    if pc.any(inside).as_py() or not before.num_rows:
                        gone.add(action["path"])
                        pieces.append(before.filter(pc.invert(inside)))
                        continue
                if action["size_bytes"] <= SMALL_BYTES:
                    small.append(action["path"])
            if not pieces:
                continue
            pieces += [lake.rows_of(name, path, values) for path in small]
            gone.update(small)
            merged = pa.concat_tables(pieces)
            added += lake.write_files(name, merged.sort_by([("series_id", "ascending"), (column, "ascending")]))
        if added or gone:
            removed = found.filter(pc.is_in(found["path"], pa.array(list(gone), pa.string())))
            note = {REPLACE: column, SPANS: spans_note(spans)}
            lake.swap(name, removed, added, note, same_rows=False, after=after, lease=lease)
    except MeterhouseError as error:
        # An object store may still be processing the commit. On a full disk, each attempt would leave more files.
        if isinstance(error, Conflict) or not lake.storage_options:
            lake.discard(name, added)
        raise


def spans_note(spans: Sequence[Span]) -> str:
    """What a commit says of the hours that it replaces; see `SPANS`."""
    return json.dumps(
        [[times.micros(start) // _HOUR, (end - start) // times.HOUR] for start, end in spans], separators=(",", ":")
    )
