"""The archive: seals arrival days.

Each arrival hour of the day is brought into its final form (`meterhouse.archive.hours`) if it was not compacted before,
in one commit that changes no data. The manifest lists the files, with their count of rows and a hash of all of them.
Replaced files are deleted later, when no reader can be using them.
"""

import json
import math
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from meterhouse import times
from meterhouse.archive import hours
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores import lake_cuts
from meterhouse.stores.bulk import upsert
from meterhouse.stores.lake import SEAL
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import archive_manifest

COMPACTION_SECONDS = 300.0
"""How long to wait for a compaction that is running."""


@dataclass
class Sealed:
    """A table's manifest entry for a day.

    `digest` is the XOR of the rows' MD5 hashes. `volume_sum` is the sum of the finite volumes, None if it overflows.
    """

    day: date
    table_name: str
    rows: int = 0
    duplicates: int = 0
    volume_sum: float | None = None
    digest: str = ""
    files_before: int = 0
    bytes_before: int = 0
    files: list[str] = field(default_factory=list)
    bytes: int = 0
    version: int = 0
    day_over: bool = True


@dataclass
class Archived:
    """What an archive run did. `unchanged` tables were already sealed, or have no rows of the day."""

    day: date
    sealed: list[Sealed] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    deleted_files: int = 0
    seconds: float = 0.0


def archive(site: Site, day: date) -> Archived:
    """Seal an arrival day.

    A day that is not over may be sealed too. The next run seals what comes later, and the manifest has
    `day_over: false`.

    Raises:
        AlreadyRunning: another process is archiving.
        Conflict: another process has taken the step over, because this one was paused.
        MeterhouseError: messages of the day wait for conversion, or a sealed file differs from the files that it
            should replace; they were not replaced.
    """
    done = Archived(day)
    started, clock = times.now(), time.monotonic()
    with (
        site.warehouse.lease("archive") as lease,
        site.warehouse.lease("compact", wait_seconds=COMPACTION_SECONDS),
    ):
        site.lake.fence(lease, *hours.RECIPES)
        _must_be_converted(site, day)
        for table in hours.RECIPES:
            sealed = _seal(site, table, day, lease)
            if sealed is None:
                done.unchanged.append(table)
            else:
                done.sealed.append(sealed)
        if done.sealed:
            _write_manifest(site, day)
        for table in TABLES:
            done.deleted_files += site.lake.vacuum(table, site.settings.vacuum_hours)
        done.seconds = time.monotonic() - clock
        if done.sealed:
            figures = {"day": day, "rows": sum(s.rows for s in done.sealed), "bytes": sum(s.bytes for s in done.sealed)}
            site.warehouse.record_run("archive", started, figures)
    return done


def seal_again(site: Site, table: str, days: Collection[date] | None = None) -> list[Sealed]:
    """Seal days of a table again whose files were replaced since they were sealed.

    Args:
        site: the site.
        table: the table.
        days: which of the days that were over when they were sealed; default all.

    Raises:
        AlreadyRunning: another process is archiving or compacting for longer than COMPACTION_SECONDS.
        Conflict: another process has taken the step over, because this one was paused.
        MeterhouseError: as of `archive`.
    """
    columns = archive_manifest.c
    query = select(columns.day, columns.files).where(columns.table_name == table, columns.day_over)
    with site.warehouse.read() as connection:
        rows = connection.execute(query if days is None else query.where(columns.day.in_(days))).all()
    listed = {row.day: set(json.loads(row.files)) for row in rows}
    actions = site.lake.actions(table)
    by_day = pc.utf8_slice_codeunits(actions["partition.arrival_hour"], 0, 10)
    of_days = pc.is_in(by_day, pa.array(map(str, listed), pa.string()))
    live: dict[date, set[str]] = {day: set() for day in listed}
    for day, path in zip(by_day.filter(of_days).to_pylist(), actions["path"].filter(of_days).to_pylist(), strict=True):
        live[date.fromisoformat(day)].add(path)
    due = sorted(day for day, files in listed.items() if files != live[day])
    sealed: list[Sealed] = []
    if not due:
        return sealed
    with (
        site.warehouse.lease("archive", wait_seconds=COMPACTION_SECONDS) as lease,
        site.warehouse.lease("compact", wait_seconds=COMPACTION_SECONDS),
    ):
        site.lake.fence(lease, table)
        for day in due:
            _must_be_converted(site, day)
            if (entry := _seal(site, table, day, lease)) is not None:
                sealed.append(entry)
                _write_manifest(site, day)
    return sealed


def manifest(site: Site, day: date | None = None) -> list[dict[str, Any]]:
    """The manifest's entries, of one day or of all days, oldest first."""
    query = select(archive_manifest).order_by(archive_manifest.c.day, archive_manifest.c.table_name)
    if day is not None:
        query = query.where(archive_manifest.c.day == day)
    with site.warehouse.read() as connection:
        return [{**row._mapping, "files": json.loads(row.files)} for row in connection.execute(query)]


def _must_be_converted(site: Site, day: date) -> None:
    """Raise if rows of the day are not converted and catalogued: the steps still have to read the files to replace."""
    waiting = hours.unconverted(site)
    if any(hour.startswith(day.isoformat()) for hour in waiting.conversion):
        raise MeterhouseError(
            f"messages that arrived on {day} wait for conversion, so the day cannot be sealed yet",
            hint="Run `meterhouse collect`, which converts them, and archive the day again",
        )
    if any(hour.startswith(day.isoformat()) for hour in waiting.catalog):
        raise MeterhouseError(
            f"samples that arrived on {day} are not in the catalog yet, so the day cannot be sealed",
            hint="Run `meterhouse rollup`, which adds them, and archive the day again",
        )


def _seal(site: Site, table: str, day: date, lease: Lease) -> Sealed | None:
    """Seal a table's day. Hours that are in their final form are only listed and hashed."""
    actions = site.lake.actions(table)
    of_day = actions.filter(pc.starts_with(actions["partition.arrival_hour"], day.isoformat()))
    by_hour = hours.files_by_hour(of_day)
    due = {
        hour: files
        for hour, files in by_hour.items()
        if not hours.is_final(table, files["path"].to_pylist()) or lake_cuts.stretched(table, files)
    }
    if not due and set(of_day["path"].to_pylist()) == manifest_files(site, day, table):
        return None
    sealed = Sealed(day, table, day_over=times.now() >= times.day_start(day) + times.DAY)
    sealed.files_before = of_day.num_rows
    sealed.bytes_before = pc.sum(of_day["size_bytes"]).as_py() or 0
    added: list[DataFile] = []
    digest, total = 0, 0.0
    for hour, files in by_hour.items():
        paths = files["path"].to_pylist()
        if hour in due:
            written = hours.write_hour(site.lake, table, hour, paths)
            added += written.files
            sealed.duplicates += written.duplicates
            sealed.bytes += sum(file.size for file in written.files)
            paths = [file.path for file in written.files]
        else:
            sealed.bytes += pc.sum(files["size_bytes"]).as_py()
        found = hours.fingerprint(site.lake, table, paths)
        sealed.files += paths
        sealed.rows += found.rows
        digest ^= found.digest
        total += found.total
    sealed.digest = f"{digest:032x}"
    sealed.volume_sum = total if hours.RECIPES[table].total and math.isfinite(total) else None
    if added:
        gone = of_day.filter(pc.is_in(of_day["partition.arrival_hour"], pa.array(list(due), pa.string())))
        sealed.version = site.lake.swap(table, gone, added, {SEAL: f"sealed {day}"}, same_rows=True, lease=lease)
    else:
        sealed.version = site.lake.version(table)
    _record(sealed, lease)
    return sealed


def listed_files(site: Site, days: set[date]) -> dict[str, set[str]]:
    """By table, the files of those of the days that were over when they were sealed."""
    found: dict[str, set[str]] = {}
    columns = archive_manifest.c
    with site.warehouse.read() as connection:
        query = select(columns.table_name, columns.files).where(columns.day_over, columns.day.in_(days))
        for table, files in connection.execute(query):
            found.setdefault(table, set()).update(json.loads(files))
    return found


def manifest_files(site: Site, day: date, table: str) -> set[str]:
    """The files that the manifest lists for a table's day."""
    return {path for entry in manifest(site, day) if entry["table_name"] == table for path in entry["files"]}


def _record(sealed: Sealed, lease: Lease) -> None:
    entry = {**asdict(sealed), "files": json.dumps(sealed.files), "sealed_at": times.now()}
    types = {
        "day": pa.date32(),
        "volume_sum": pa.float64(),
        "sealed_at": pa.timestamp("us", tz="UTC"),
        "day_over": pa.bool_(),
    }
    row = pa.table({name: pa.array([value], types.get(name)) for name, value in entry.items()})
    updates = [f"{name} = excluded.{name}" for name in entry if name not in ("day", "table_name")]
    with lease.begin() as connection:
        upsert(connection, archive_manifest, row, updates)


def _write_manifest(site: Site, day: date) -> None:
    """Write the day's manifest beside the tables, for readers that can only use the object store."""
    entries = manifest(site, day)
    content = json.dumps({"day": day.isoformat(), "tables": entries}, default=_json, indent=2)
    site.lake.put(f"archive/{day}.json", content.encode())


def _json(value: Any) -> str:
    return times.text(value) if isinstance(value, datetime) else str(value)
