"""Writes the statistics that data files of earlier releases lack, mostly without writing the files again.

The table's log names such a file once more, with full statistics. The commit changes no data, so followers skip it.
"""

import time
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.errors import Conflict
from meterhouse.site import Site
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake import SEAL
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_statistics import has_views, lacking, of_file
from meterhouse.stores.lake_tables import TABLES, columns_of_files

FILES_AT_ONCE = 200
"""Maximum number of files of one commit. If a step replaces files meanwhile, the commit fails."""


@dataclass
class Restated:
    """What a run did.

    Attributes:
        files: how many files got statistics.
        left: how many still lack them: the time was up, or files were replaced meanwhile.
        unreadable: the URIs of files that cannot be read, with the reason.
    """

    files: int = 0
    left: int = 0
    unreadable: list[str] = field(default_factory=list)


def restate(site: Site, max_seconds: float) -> Restated:
    """Write the statistics that files lack, for about `max_seconds`."""
    done = Restated()
    end = time.monotonic() + max_seconds
    _write_again(site, done)
    for table in TABLES:
        waiting = _lacking(site, table)["path"].to_pylist()
        while waiting and time.monotonic() < end:
            _restate_some(site, table, waiting[:FILES_AT_ONCE], done)
            del waiting[:FILES_AT_ONCE]
        done.left += len(waiting)
    return done


def _write_again(site: Site, done: Restated) -> None:
    """Write files again whose texts are string views, as delta-rs wrote them after a purge: pyarrow cannot filter them.

    Their names are those that delta-rs gives.
    """
    lake, table = site.lake, "dead_letters"
    swaps = lake.swaps(table)
    actions = lake.actions(table)
    for path in actions.filter(pc.match_substring(actions["path"], "/part-00000-"))["path"].to_pylist():
        uri = f"{lake.uri(table)}/{path}"
        try:
            if not has_views(uri, lake.object_store):
                continue
        except (OSError, pa.ArrowException) as error:
            done.unreadable.append(f"{uri}: {error}")
            continue
        with lake.connect() as duck:
            lake.view(duck, table, [uri])
            files = lake.write_files(table, arrow(duck, f"FROM {table}"))
        try:
            gone = actions.filter(pc.equal(actions["path"], path))
            lake.swap(table, gone, files, {SEAL: "no views"}, same_rows=True, after=swaps)
        except Conflict:
            lake.discard(table, files)
            return  # the next run continues
        swaps = lake.swaps(table)
        done.files += 1


def _lacking(site: Site, table: str) -> pa.Table:
    return lacking(site.lake.actions(table), columns_of_files(table))


def _restate_some(site: Site, table: str, paths: list[str], done: Restated) -> None:
    lake = site.lake
    swaps = lake.swaps(table)
    live = _lacking(site, table)
    files = []
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
        try:
            lake.swap(table, live.slice(0, 0), files, {SEAL: "statistics"}, same_rows=True, after=swaps)
        except Conflict:  # a step has replaced files meanwhile, maybe some of these
            done.left += len(files)
        else:
            done.files += len(files)
