"""Writes the statistics that data files of earlier releases lack, without writing the files again.

The table's log names such a file once more, with full statistics. The commit changes no data, so followers skip it.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from meterhouse.site import Site
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_statistics import lacking, of_file
from meterhouse.stores.lake_tables import TABLES, columns_of_files

FILES_AT_ONCE = 200
"""Maximum number of files of one commit. Between two commits, other steps may take the leases."""

LEASES: dict[str, tuple[str, ...]] = {
    "notifications": ("archive",),
    "samples": ("archive",),
    "events": ("archive",),
    "dead_letters": ("archive", "dead_letters"),
    "rollups": ("rollups", "sample_quality"),
    "quarantine": ("sample_quality",),
}
"""By table: the leases under which its files are replaced."""

_WAIT_SECONDS = 10.0


@dataclass
class Restated:
    """The number of files that got statistics, and of those that still lack them."""

    files: int = 0
    left: int = 0


def restate(site: Site, max_seconds: float) -> Restated:
    """Write the statistics that files lack, for about `max_seconds`.

    Raises:
        AlreadyRunning: a step that replaces files of a table holds its lease.
        MeterhouseError: a file cannot be read.
    """
    done = Restated()
    end = time.monotonic() + max_seconds
    for table in TABLES:
        while count := _lacking(site, table).num_rows:
            if time.monotonic() >= end:
                done.left += count
                break
            done.files += _restate_some(site, table)
    return done


def _lacking(site: Site, table: str) -> pa.Table:
    return lacking(site.lake.actions(table), columns_of_files(table))


def _restate_some(site: Site, table: str) -> int:
    lake = site.lake
    with ExitStack() as held:
        for lease in LEASES[table]:
            held.enter_context(site.warehouse.lease(lease, wait_seconds=_WAIT_SECONDS))
        files = [
            DataFile(
                file["path"],
                file["size_bytes"],
                {column: _text(file[f"partition.{column}"]) for column in TABLES[table][1]},
                of_file(f"{lake.uri(table)}/{file['path']}", lake.object_store, columns_of_files(table)),
            )
            for file in _lacking(site, table).slice(0, FILES_AT_ONCE).to_pylist()
        ]
        if files:
            lake.restate(table, files, "statistics")
    return len(files)


def _text(value: date | int | str) -> str:
    """A partition's value as Delta writes it."""
    return str(value)
