"""Data files that are missing, empty or cut: they are taken out of their tables, and their rows are looked for."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import update

from meterhouse import dead_letters, times
from meterhouse.collection import landing
from meterhouse.conversion import redefine
from meterhouse.conversion.again import missing_rows
from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.mending.findings import Findings
from meterhouse.mending.leases import held
from meterhouse.site import Site
from meterhouse.stores import lake_erasures
from meterhouse.stores.lake import REPLACE, Lake
from meterhouse.stores.lake_commits import parse
from meterhouse.stores.lake_repair import log_files, move_aside
from meterhouse.stores.warehouse_tables import dirty_hours

RECENT = timedelta(days=7)
"""Files that are younger are read as a whole. Of older ones, size and footer are checked."""

ATTEMPTS = 5

LEASES = {
    "rollups": ("rollups", "sample_quality"),
    "derived": ("rollups", "sample_quality"),
    "quarantine": ("sample_quality",),
    "evidence": ("periods",),
    "resource_states": ("periods",),
}
"""Computed table → the leases of the steps that write it."""

IDENTITY = {
    "notifications": ("message_id",),
    "events": ("message_id",),
    "dead_letters": ("letter_id", "received_at"),
}
"""Landed or converted table → the columns that identify a row. For samples, see `conversion/again.py`."""


TRANSACTIONS = {"notifications": landing.APP, "dead_letters": dead_letters.APP}
"""Landing table → the application transaction that each of its writers raises by one."""


@dataclass
class Lost:
    """What damaged files of a table held, by their statistics.

    Attributes:
        rows: arrival hour → number of rows.
        origins: the origin of samples → number of rows; UNKNOWN for files with several origins, or without the column.
        files: how many files.
        total: number of rows of all files.
    """

    rows: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    files: int = 0
    total: int = 0


UNKNOWN = "unknown"

UNKNOWN_ROWS = (redefine.PREFIX, lake_erasures.PREFIX)
"""How the names of files start that hold no rows that the table lacks, if a killed process has left them."""


def take_out(site: Site, name: str, findings: Findings) -> Lost:
    """Take the damaged files out of a table, in one commit, and mark the event hours of their points.

    What is left of the files is moved aside.
    """
    lake, lost = site.lake, Lost()
    with held(site, LEASES.get(name, ())):
        for attempt in range(1, ATTEMPTS + 1):
            after, actions = lake.swaps(name), lake.actions(name)
            bad = [not _intact(lake, name, action) for action in actions.to_pylist()]
            damaged = actions.filter(pa.array(bad, pa.bool_()))
            if not damaged.num_rows:
                return lost
            try:
                lake.swap(name, damaged, [], {REPLACE: "mend"}, same_rows=False, after=after)
                break
            except Conflict:
                if attempt == ATTEMPTS:
                    raise
    for action in damaged.to_pylist():
        lost.files += 1
        lost.total += action["num_records"] or 0
        if hour := action.get("partition.arrival_hour"):
            lost.rows[hour] += action["num_records"] or 0
            origin = action.get("min.origin")
            known = origin is not None and origin == action["max.origin"] and not action["null_count.origin"]
            lost.origins[origin if known else UNKNOWN] += action["num_records"] or 0
        where = f"{lake.uri(name)}/{action['path']}"
        if lake.filesystem.exists(where):
            move_aside(lake.filesystem, where, lake.aside(name))
        if name == "samples":
            _mark(site, action.get("min.timestamp"), action.get("max.timestamp"))
    findings.fixed("lake files", f"{name}: {lost.files} files were missing, empty or cut, and are taken out")
    return lost


def _intact(lake: Lake, name: str, action: dict[str, Any]) -> bool:
    where = f"{lake.uri(name)}/{action['path']}"
    try:
        if int(lake.filesystem.size(where)) != action["size_bytes"]:
            return False
        with lake.filesystem.open(where) as handle:
            file = pq.ParquetFile(handle)
            if times.EPOCH + timedelta(milliseconds=action["modification_time"]) >= times.now() - RECENT:
                for _ in file.iter_batches(100_000):
                    pass
    except (OSError, pa.ArrowException):
        return False
    return True


def _mark(site: Site, first: datetime | None, last: datetime | None) -> None:
    """Make the known event hours dirty in which the points of a lost file may be; all if that is unknown."""
    change = update(dirty_hours).values(marks=dirty_hours.c.marks + 1, marked_at=times.now(), why="a file was lost")
    if first is not None and last is not None:
        change = change.where(dirty_hours.c.hour >= times.hour_of(first), dirty_hours.c.hour <= last)
    with site.warehouse.begin() as connection:
        connection.execute(change)


def salvage(site: Site, name: str, *, suspect: bool) -> Counter[str]:
    """Add the rows that files of the table's folder have and the table lacks; return how many, by arrival hour.

    Such files are those of a commit that was lost, or of a process that was killed before its commit. Those of a
    redefinition or an erasure are left out: their rows were to take the place of others. If the table is suspect, also
    those that a seal has replaced and that are not deleted yet. A collector that is about to commit such a file looks
    its messages up again, because of the transaction. The caller holds the leases of the steps.
    """
    lake, found = site.lake, Counter[str]()
    marker = f"/tables/{name}/"
    out = lake.live(name) | {path for path, same_rows in _tombstones(lake, name).items() if not (same_rows and suspect)}
    for place in sorted(lake.filesystem.find(lake.uri(name))):
        path = place[place.index(marker) + len(marker) :]
        if not path.endswith(".parquet") or path.startswith("_") or path in out:
            continue
        if any(f"/{prefix}-" in path for prefix in UNKNOWN_ROWS):
            continue
        hour = path.partition("arrival_hour=")[2].partition("/")[0]
        try:
            rows = lake.rows_of(name, path, {"arrival_hour": hour})
        except MeterhouseError:  # damaged as well, or deleted meanwhile
            continue
        found[hour] += _add(site, name, hour, rows)
    return +found


def _add(site: Site, name: str, hour: str, rows: pa.Table) -> int:
    for attempt in range(1, ATTEMPTS + 1):
        app = TRANSACTIONS.get(name)
        before = 0 if app is None else site.lake.transaction(name, app) or 0
        missing = _missing(site, name, hour, rows)
        if not missing.num_rows:
            break
        try:
            site.lake.append(name, missing, transaction=None if app is None else (app, before + 1))
        except Conflict:
            if attempt == ATTEMPTS:
                raise
        else:
            return int(missing.num_rows)
    return 0


def _tombstones(lake: Lake, name: str) -> dict[str, bool]:
    """The files that commits in the log have removed, and whether their rows are in other files."""
    log, found = f"{lake.uri(name)}/_delta_log", dict[str, bool]()
    for path in log_files(lake.filesystem, log, ".checkpoint.parquet"):
        with lake.filesystem.open(path) as handle:
            removed = pq.ParquetFile(handle).read(["remove"])["remove"].combine_chunks().drop_null()
        found |= {each["path"]: not each["dataChange"] for each in removed.to_pylist()}
    for path in log_files(lake.filesystem, log, ".json"):
        for action in parse(lake.filesystem.cat_file(path)) or ():
            if "remove" in action:
                found[action["remove"]["path"]] = not action["remove"]["dataChange"]
    return found


def _missing(site: Site, name: str, hour: str, rows: pa.Table) -> pa.Table:
    """The rows that the table does not have. A message may have been landed again in a later hour."""
    lake = site.lake
    if name == "samples":
        return missing_rows(lake, name, hour, rows)
    keys, hours = IDENTITY[name], {hour}
    if name == "notifications":
        moment = times.parse(f"{hour}:00")
        around = range(-site.settings.redelivery_hours, site.settings.redelivery_hours + 1)
        hours = {times.arrival_hour(moment + number * times.HOUR) for number in around}
    with lake.connect() as duck:
        lake.view(duck, name, lake.files(name, partitions={"arrival_hour": hours}), view="present")
        duck.register("numbered", rows.append_column("_row", pa.array(range(rows.num_rows), pa.int64())))
        listed = ", ".join(keys)
        query = f"SELECT _row FROM numbered ANTI JOIN (SELECT {listed} FROM present) USING ({listed}) ORDER BY 1"
        wanted = duck.sql(query).to_arrow_table()["_row"]
    return rows.filter(pc.is_in(pa.array(range(rows.num_rows), pa.int64()), wanted.combine_chunks()))
