"""Writes the statistics that data files of earlier releases lack, without writing the files again.

The table's log names such a file once more, with full statistics. The commit changes no data, so followers skip it.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

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
    """What a run did.

    Attributes:
        files: how many files got statistics.
        left: how many still lack them because the time was up.
        unreadable: the URIs of files that cannot be read, with the reason.
    """

    files: int = 0
    left: int = 0
    unreadable: list[str] = field(default_factory=list)


def restate(site: Site, max_seconds: float) -> Restated:
    """Write the statistics that files lack, for about `max_seconds`.

    Raises:
        AlreadyRunning: a step that replaces files of a table holds its lease.
    """
    done = Restated()
    end = time.monotonic() + max_seconds
    for table in TABLES:
        waiting = _lacking(site, table)["path"].to_pylist()
        while waiting and time.monotonic() < end:
            _restate_some(site, table, waiting[:FILES_AT_ONCE], done)
            del waiting[:FILES_AT_ONCE]
        done.left += len(waiting)
    return done


def _lacking(site: Site, table: str) -> pa.Table:
    return lacking(site.lake.actions(table), columns_of_files(table))


def _restate_some(site: Site, table: str, paths: list[str], done: Restated) -> None:
    lake = site.lake
    with ExitStack() as held:
        leases = [held.enter_context(site.warehouse.lease(name, wait_seconds=_WAIT_SECONDS)) for name in LEASES[table]]
        for lease in leases:
            lake.fence(lease, table)
        after = lake.swaps(table)
        files = []
        live = _lacking(site, table)
        for file in live.filter(pc.is_in(live["path"], pa.array(paths, pa.string()))).to_pylist():
            uri = f"{lake.uri(table)}/{file['path']}"
            try:
                statistics = of_file(uri, lake.object_store, columns_of_files(table))
            except (OSError, pa.ArrowException) as error:
                done.unreadable.append(f"{uri}: {error}")
                continue
            values = {column: str(file[f"partition.{column}"]) for column in TABLES[table][1]}
            files.append(DataFile(file["path"], file["size_bytes"], values, statistics))
        if files:
            lake.restate(table, files, "statistics", after=after, leases=leases)
        done.files += len(files)
