"""The archive: seals arrival days.

For each table and arrival hour, the many small files are replaced with one that is deduplicated, sorted and compressed.
Rows whose time is far from their arrival are in files of their own (`meterhouse.stores.lake_cuts`). What was written is
read back, and its count and hash are compared with those of the files that it replaces. Only then are they
replaced, in one commit that changes no data, and the manifest lists the new file. The replaced files are deleted later,
when no reader can be using them.
"""

import json
import math
import time
import uuid
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select

from meterhouse import catalog, history, times
from meterhouse.conversion import step as conversion
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores import lake_cuts
from meterhouse.stores.bulk import upsert
from meterhouse.stores.duck import Connection, one, quoted, view_files
from meterhouse.stores.lake import SEAL
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_statistics import of_file
from meterhouse.stores.lake_tables import GROWN, TABLES, columns_of_files
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import archive_manifest


@dataclass(frozen=True)
class Recipe:
    """How a table is sealed.

    Attributes:
        identity: the columns that identify a row; empty if equal rows are all kept.
        moment: the column with the time that a row came; of equal rows, the first is kept.
        order: the columns to sort by.
        row_group: rows of a Parquet row group; few if rows are wide, because a group is built in memory.
        total: the column to sum.
    """

    identity: tuple[str, ...]
    moment: str
    order: tuple[str, ...]
    row_group: int
    total: str | None = None


RECIPES = {
    "notifications": Recipe(
        identity=("message_id",),
        moment="received_at",
        order=("event_type", "timestamp", "message_id"),
        row_group=2_048,
    ),
    "samples": Recipe(
        identity=("series_id", "timestamp", "sample_id"),
        moment="recorded_at",
        order=("series_id", "timestamp", "sample_id"),
        row_group=1_000_000,
        total="volume",
    ),
    "events": Recipe(
        identity=("message_id",),
        moment="generated",
        order=("event_type", "generated", "message_id"),
        row_group=65_536,
    ),
    "dead_letters": Recipe(
        identity=(),
        moment="received_at",
        order=("queue", "letter_id"),
        row_group=2_048,
    ),
}
"""The tables that are sealed."""


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
    with site.warehouse.lease("archive") as lease:
        site.lake.fence(lease, *RECIPES)
        _must_be_converted(site, day)
        for table in RECIPES:
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


def manifest(site: Site, day: date | None = None) -> list[dict[str, Any]]:
    """The manifest's entries, of one day or of all days, oldest first."""
    query = select(archive_manifest).order_by(archive_manifest.c.day, archive_manifest.c.table_name)
    if day is not None:
        query = query.where(archive_manifest.c.day == day)
    with site.warehouse.read() as connection:
        return [{**row._mapping, "files": json.loads(row.files)} for row in connection.execute(query)]


def _must_be_converted(site: Site, day: date) -> None:
    """Raise if rows of the day are not converted and catalogued: the steps still have to read the files to replace."""
    for table in ("samples", "events"):
        after = site.lake.transaction(table, conversion.APP) or 0
        if any(hour.startswith(day.isoformat()) for hour in site.lake.appended_hours("notifications", after)):
            raise MeterhouseError(
                f"messages that arrived on {day} wait for conversion, so the day cannot be sealed yet",
                hint="Run `meterhouse collect`, which converts them, and archive the day again",
            )
    reached = history.check(site, catalog.FOLLOWER, catalog.TABLE, catalog.READER)
    if any(hour.startswith(day.isoformat()) for hour in site.lake.appended_hours("samples", reached.version)):
        raise MeterhouseError(
            f"samples that arrived on {day} are not in the catalog yet, so the day cannot be sealed",
            hint="Run `meterhouse rollup`, which adds them, and archive the day again",
        )


def _seal(site: Site, table: str, day: date, lease: Lease) -> Sealed | None:
    actions = site.lake.actions(table)
    of_day = actions.filter(pc.starts_with(actions["partition.arrival_hour"], day.isoformat()))
    known = manifest_files(site, day, table)
    if set(of_day["path"].to_pylist()) == known and not lake_cuts.stretched(table, of_day):
        return None
    sealed = Sealed(day, table, day_over=times.now() >= times.day_start(day) + times.DAY)
    sealed.files_before = of_day.num_rows
    sealed.bytes_before = pc.sum(of_day["size_bytes"]).as_py() or 0
    digest, total = 0, 0.0
    added: list[DataFile] = []
    for hour in sorted(set(of_day["partition.arrival_hour"].to_pylist())):
        replaced = of_day.filter(pc.equal(of_day["partition.arrival_hour"], hour))
        written = _write_hour(site, table, hour, replaced)
        added += written.files
        sealed.rows += written.rows
        sealed.duplicates += written.duplicates
        digest ^= written.digest
        total += written.total
    sealed.digest = f"{digest:032x}"
    sealed.volume_sum = total if RECIPES[table].total and math.isfinite(total) else None
    sealed.files = [file.path for file in added]
    sealed.bytes = sum(file.size for file in added)
    sealed.version = site.lake.swap(table, of_day, added, {SEAL: f"sealed {day}"}, same_rows=True, lease=lease)
    _record(sealed, lease)
    return sealed


def manifest_files(site: Site, day: date, table: str) -> set[str]:
    """The files that the manifest lists for a table's day."""
    return {path for entry in manifest(site, day) if entry["table_name"] == table for path in entry["files"]}


@dataclass(frozen=True)
class _Written:
    files: list[DataFile]
    rows: int
    duplicates: int
    digest: int
    total: float


def _write_hour(site: Site, table: str, hour: str, replaced: pa.Table) -> _Written:
    """Write an hour's sealed files, read them back, and compare them with the files that they replace."""
    recipe = RECIPES[table]
    columns = ", ".join(columns_of_files(table).names)
    files: list[DataFile] = []
    with site.lake.connect() as duck:
        _view_once(duck, table, columns, [f"{site.lake.uri(table)}/{old}" for old in replaced["path"].to_pylist()])
        (before,) = one(duck, "SELECT count(*) FROM old")
        for condition in _divided(duck, table, hour):
            path = f"arrival_hour={hour}/sealed-{uuid.uuid4().hex}.zstd.parquet"
            target = f"{site.lake.uri(table)}/{path}"
            duck.execute(
                f"COPY (SELECT * FROM once WHERE {condition} ORDER BY {', '.join(recipe.order)}) TO {quoted(target)} "
                f"(FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE {recipe.row_group})"
            )
            size = int(site.lake.filesystem.size(target))
            statistics = of_file(target, site.lake.object_store, columns_of_files(table))
            files.append(DataFile(path, size, {"arrival_hour": hour}, statistics))
        targets = ", ".join(quoted(f"{site.lake.uri(table)}/{file.path}") for file in files)
        duck.execute(f"CREATE TEMP VIEW sealed AS SELECT * FROM read_parquet([{targets}], hive_partitioning = false)")
        expected = _fingerprint(duck, "once", columns, recipe)
        found = _fingerprint(duck, "sealed", columns, recipe)
        # The sums are not compared: they depend on the order of addition, and the digest covers every volume exactly.
        if expected[:2] != found[:2]:
            raise MeterhouseError(
                f"the sealed file differs from the files that it should replace: {found[:2]}, expected {expected[:2]} "
                "(rows, digest); nothing was replaced",
                where=f"{site.lake.uri(table)}/{files[0].path}",
                hint="Check the disk or object store, and archive the day again",
            )
        rows, digest, total = found
    return _Written(files, rows, before - rows, digest, total)


def _divided(duck: Connection, table: str, hour: str) -> list[str]:
    """Conditions that divide an hour's rows into those of each file, so that far rows are apart."""
    column = lake_cuts.EVENT_TIMES.get(table)
    if column is None:
        return ["true"]
    hours = f"epoch_us({column}) // 3600000000 - (epoch_us({column}) % 3600000000 < 0)::INTEGER"
    found = duck.execute(f"SELECT DISTINCT {hours} FROM old WHERE {column} IS NOT NULL").fetchall()
    return lake_cuts.conditions(table, lake_cuts.cuts(hour, np.array([row[0] for row in found], np.int64)))


def _view_once(duck: Connection, table: str, columns: str, files: list[str]) -> None:
    """Create the views `old`, with the files' rows, and `once`, with the same rows without repeats.

    Of equal rows, the one that came first is kept, whatever the order of reading. Only rows that have a repeat are
    compared as a whole, because bodies are wide and memory is limited.
    """
    recipe = RECIPES[table]
    how = "filename = true, file_row_number = true, hive_partitioning = false"
    schema = pa.schema([*columns_of_files(table), ("filename", pa.string()), ("file_row_number", pa.int64())])
    view_files(duck, "old", schema, {None if table in GROWN else (): files}, how)
    if not recipe.identity:
        duck.execute(f"CREATE TEMP VIEW once AS SELECT {columns} FROM old")
        return
    identity = ", ".join(recipe.identity)
    duck.execute(
        "CREATE TEMP TABLE repeats AS SELECT filename, file_row_number FROM old "
        f"SEMI JOIN (SELECT {identity} FROM old GROUP BY {identity} HAVING count(*) > 1) USING ({identity}) "
        f"QUALIFY row_number() OVER (PARTITION BY {identity} "
        f"ORDER BY {recipe.moment}, md5({_text(columns)})) > 1"
    )
    duck.execute(
        f"CREATE TEMP VIEW once AS SELECT {columns} FROM old ANTI JOIN repeats USING (filename, file_row_number)"
    )


def _text(columns: str) -> str:
    """A SQL expression for a row as one text, in which a null differs from an empty text."""
    return f"concat_ws('|', {', '.join(f'coalesce({name}::VARCHAR, chr(1))' for name in columns.split(', '))})"


def _fingerprint(duck: Connection, view: str, columns: str, recipe: Recipe) -> tuple[int, int, float]:
    """The number of rows, the XOR of the rows' MD5 hashes, and the sum of the finite volumes to nine digits."""
    total = f"coalesce(fsum({recipe.total}) FILTER (isfinite({recipe.total})), 0.0)" if recipe.total else "0.0"
    row = one(
        duck,
        f"SELECT count(*), coalesce(bit_xor(md5_number({_text(columns)})), 0)::VARCHAR, {total} FROM {view}",
    )
    return int(row[0]), int(row[1]) & ((1 << 128) - 1), float(f"{row[2]:.9g}")


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
