"""Arrival hours: the files of one become one, deduplicated, sorted and compressed.

What was written is read back, and compared with what it replaces. A file is named for the writing that made it. So an
hour whose files all come from one writing is in its final form, and holds each row once.
"""

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from meterhouse import catalog, history
from meterhouse.archive import event_files, sample_files, sample_reading
from meterhouse.conversion import step as conversion
from meterhouse.errors import MeterhouseError, Replaced
from meterhouse.site import Site
from meterhouse.stores import lake_cuts
from meterhouse.stores.duck import Connection, one, quoted, view_files
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_files import DataFile, by_partition
from meterhouse.stores.lake_statistics import of_file
from meterhouse.stores.lake_tables import GROWN, columns_of_files

_NAME = re.compile(r"arrival_hour=[^/]*/(compacted|sealed)-([0-9a-f]{32})(?:-\d+)?\.")


ROWS_AT_ONCE = 65_536
"""How many events are handed from DuckDB to their file together."""


@dataclass(frozen=True)
class Recipe:
    """How a table is sealed; samples are written by `sample_files`, which needs no more than the column to sum.

    Attributes:
        identity: the columns that identify a row; empty if equal rows are all kept.
        moment: the column with the time that a row came; of equal rows, the first is kept.
        order: the columns, or DuckDB expressions, to sort by.
        row_group: rows of a Parquet row group; few if rows are wide, because a group is built in memory.
        total: the column to sum.
    """

    identity: tuple[str, ...] = ()
    moment: str = ""
    order: tuple[str, ...] = ()
    row_group: int = 0
    total: str | None = None


RECIPES = {
    "notifications": Recipe(
        identity=("message_id",),
        moment="received_at",
        order=("event_type", "timestamp", "message_id"),
        row_group=2_048,
    ),
    "samples": Recipe(total="volume"),
    "events": Recipe(
        identity=("message_id",),
        moment="generated",
        order=event_files.ORDER,
        row_group=event_files.GROUP,
    ),
    "dead_letters": Recipe(
        identity=(),
        moment="received_at",
        order=("queue", "letter_id"),
        row_group=2_048,
    ),
}
"""The tables that are sealed."""


@dataclass(frozen=True)
class Unconverted:
    """The arrival hours whose files a step still has to read, by the step."""

    conversion: set[str]
    catalog: set[str]


def unconverted(site: Site) -> Unconverted:
    """The arrival hours whose messages wait for conversion, or whose samples are not in the catalog."""
    lake = site.lake
    converted = min(lake.transaction(table, conversion.APP) or 0 for table in conversion.TABLES)
    reached = history.check(site, catalog.FOLLOWER, catalog.TABLE, catalog.READER)
    return Unconverted(_appended(lake, "notifications", converted), _appended(lake, catalog.TABLE, reached.version))


def _appended(lake: Lake, table: str, after: int) -> set[str]:
    try:
        return lake.appended_hours(table, after)
    except Replaced:  # whoever is that far behind reads the live files
        return set()


def is_final(table: str, paths: Iterable[str]) -> bool:
    """Whether an hour's files come from one writing, and have the newest form."""
    found = [_NAME.match(path) for path in paths]
    writings = {name[2] if name is not None and _is_newest(table, name[1]) else None for name in found}
    return len(writings) == 1 and None not in writings


def _is_newest(table: str, prefix: str) -> bool:
    return prefix == "compacted" or table not in (sample_reading.TABLE, event_files.TABLE)


def files_by_hour(files: pa.Table) -> dict[str, pa.Table]:
    """Rows of `Lake.actions` by arrival hour, in order."""
    column = "partition.arrival_hour"
    return {values[column]: part for values, part in by_partition(files, [column])}


def write_hour(lake: Lake, table: str, hour: str, paths: list[str]) -> sample_files.Written:
    """Write an arrival hour's rows anew, read them back, and compare them with the files that they replace.

    Args:
        lake: the lake.
        table: the table.
        hour: the arrival hour.
        paths: of the hour's files, as Delta has them.

    Raises:
        MeterhouseError: a file cannot be read or written, or what was read back is not what was to be written.
    """
    if table == sample_reading.TABLE:
        return sample_files.rewrite(lake, hour, paths, f"compacted-{uuid.uuid4().hex}")
    return _write_sorted(lake, table, hour, paths)


def _write_sorted(lake: Lake, table: str, hour: str, paths: list[str]) -> sample_files.Written:
    recipe = RECIPES[table]
    columns = ", ".join(columns_of_files(table).names)
    files: list[DataFile] = []
    with lake.connect() as duck:
        _view_once(duck, table, columns, [f"{lake.uri(table)}/{old}" for old in paths])
        (before,) = one(duck, "SELECT count(*) FROM old")
        writing = uuid.uuid4().hex
        for number, condition in enumerate(_divided(duck, table, hour)):
            rows = f"SELECT * FROM once WHERE {condition} ORDER BY {', '.join(recipe.order)}"
            if table == event_files.TABLE:
                path = f"arrival_hour={hour}/compacted-{writing}-{number}.zstd.parquet"
                size = event_files.write(lake, path, duck.sql(rows).to_arrow_reader(ROWS_AT_ONCE))
            else:
                path = f"arrival_hour={hour}/sealed-{writing}-{number}.zstd.parquet"
                duck.execute(
                    f"COPY ({rows}) TO {quoted(f'{lake.uri(table)}/{path}')} "
                    f"(FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE {recipe.row_group})"
                )
                size = int(lake.filesystem.size(f"{lake.uri(table)}/{path}"))
            target = f"{lake.uri(table)}/{path}"
            statistics = of_file(target, lake.object_store, columns_of_files(table))
            files.append(DataFile(path, size, {"arrival_hour": hour}, statistics))
        targets = ", ".join(quoted(f"{lake.uri(table)}/{file.path}") for file in files)
        duck.execute(f"CREATE TEMP VIEW sealed AS SELECT * FROM read_parquet([{targets}], hive_partitioning = false)")
        expected = _fingerprint(duck, "once", columns, recipe)
        found = _fingerprint(duck, "sealed", columns, recipe)
        # The sums are not compared: they depend on the order of addition, and the digest covers every volume exactly.
        if (expected.rows, expected.digest) != (found.rows, found.digest):
            raise MeterhouseError(
                f"the sealed file differs from the files that it should replace: it has {found.rows} rows with digest "
                f"{found.digest:032x}, expected {expected.rows} with {expected.digest:032x}; nothing was replaced",
                where=f"{lake.uri(table)}/{files[0].path}",
                hint="Check the disk or object store, and archive the day again",
            )
    return sample_files.Written(files, found.rows, before - found.rows)


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


@dataclass(frozen=True)
class Fingerprint:
    """The number of rows, the XOR of the rows' MD5 hashes, and the sum of the finite volumes to nine digits."""

    rows: int
    digest: int
    total: float


def fingerprint(lake: Lake, table: str, paths: list[str]) -> Fingerprint:
    """The fingerprint of the rows of files."""
    columns = columns_of_files(table)
    with lake.connect() as duck:
        files = [f"{lake.uri(table)}/{path}" for path in paths]
        view_files(duck, "rows_of_files", columns, {None if table in GROWN else (): files}, "hive_partitioning = false")
        return _fingerprint(duck, "rows_of_files", ", ".join(columns.names), RECIPES[table])


def _fingerprint(duck: Connection, view: str, columns: str, recipe: Recipe) -> Fingerprint:
    total = f"coalesce(fsum({recipe.total}) FILTER (isfinite({recipe.total})), 0.0)" if recipe.total else "0.0"
    row = one(
        duck,
        f"SELECT count(*), coalesce(bit_xor(md5_number({_text(columns)})), 0)::VARCHAR, {total} FROM {view}",
    )
    return Fingerprint(int(row[0]), int(row[1]) & ((1 << 128) - 1), float(f"{row[2]:.9g}"))
