"""Compacted files of events: few events to a row group, those of one project and resource together.

Whoever looks for a resource, or for any value of a trait, then reads few of them: see `stores/trait_filters.py`.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import pyarrow as pa

from meterhouse.stores.group_reading import head_of
from meterhouse.stores.lake_tables import DICTIONARIES, columns_of_files
from meterhouse.stores.parquet_groups import GroupWriter, chunks_of
from meterhouse.stores.trait_filters import Hashes, Place, filters_of, hashes_of

if TYPE_CHECKING:
    from meterhouse.stores.lake import Lake

TABLE: Final = "events"

GROUP: Final = 256
"""Number of events of a row group."""

BOUNDED: Final = ["event_type", "generated"]
"""Columns of whose values a file's footer has the lowest and the highest."""


def _first(*names: str) -> str:
    """A DuckDB expression for the value of an event's first trait that has one of these names."""
    named = ", ".join(f"'{name}'" for name in names)
    return f"list_filter(traits, lambda trait: trait.name IN ({named}))[1].value"


ORDER: Final = (_first("project_id", "tenant_id"), _first("resource_id", "instance_id"), "generated", "message_id")
"""DuckDB expressions by which events are sorted. An event without such traits is found all the same."""


def write(lake: "Lake", path: str, batches: Iterable[pa.RecordBatch]) -> int:
    """Write events into a file of the table; return its size.

    Args:
        lake: the lake.
        path: the file's, below the table's folder.
        batches: the events, in ORDER.

    Raises:
        OSError: it cannot be written.
    """
    target = f"{lake.uri(TABLE)}/{path}"
    if lake.object_store is not None:
        buffer = io.BytesIO()
        _write(buffer, batches)
        lake.object_store.pipe_file(target, buffer.getvalue())
        return buffer.tell()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with Path(target).open("wb") as handle:
        _write(handle, batches)
        return handle.tell()


def _write(handle: IO[bytes], batches: Iterable[pa.RecordBatch]) -> None:
    writer = _Writer(GroupWriter(handle, columns_of_files(TABLE)))
    rest = writer.file.schema.empty_table()
    for batch in batches:
        rest = pa.concat_tables([rest, pa.table(batch).select(rest.column_names).cast(rest.schema)])
        whole = len(rest) // GROUP * GROUP
        writer.add(rest.slice(0, whole))
        rest = rest.slice(whole)
    writer.add(rest)
    writer.close()


@dataclass
class _Writer:
    """Writes row groups into a file, each with its head before it, and then the filters of their traits."""

    file: GroupWriter
    groups: list[tuple[Hashes, Place]] = field(default_factory=list)

    def add(self, rows: pa.Table) -> None:
        """Write events, in groups."""
        for start in range(0, len(rows), GROUP):
            group = rows.slice(start, GROUP).combine_chunks()
            chunks = chunks_of(group, use_dictionary=DICTIONARIES[TABLE], write_statistics=BOUNDED)
            head = head_of(chunks, len(group))
            at = self.file.append(head)
            self.file.add(chunks, len(group))
            # Whoever looks up events does not need their raw form, the last column, which may be large.
            pages = sum(chunk.pages.size for chunk in chunks[:-1])
            self.groups.append((hashes_of(group["traits"].combine_chunks()), Place(at, len(head), pages)))

    def close(self) -> None:
        """Write the filters and the footer."""
        self.file.append(filters_of(self.groups))
        self.file.close()
