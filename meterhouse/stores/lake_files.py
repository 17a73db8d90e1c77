"""Data files of the lake's tables. They are written here; Delta only commits them.

delta-rs's own writer takes two to four times as long, and writes everything again if another process commits first.
"""

import io
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterhouse.stores.lake_cuts import divided
from meterhouse.stores.lake_order import ordered, row_groups
from meterhouse.stores.lake_statistics import statistics
from meterhouse.stores.lake_tables import DICTIONARIES, ENCODINGS, TABLES, columns_of_files

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ROW_GROUP = 1 << 18

PART = "part"
"""How the name of a data file starts."""

POINTS_IN_GROUP = 1 << 16
"""Maximum number of points of a row group: whoever reads some series reads few others."""


@dataclass(frozen=True)
class DataFile:
    """A file of a table that is not committed yet. `path` is below the table's folder; `statistics` is Delta's JSON."""

    path: str
    size: int
    partition: dict[str, str]
    statistics: str


def write(
    uri: str, name: str, rows: pa.Table, filesystem: "AbstractFileSystem | None", prefix: str = PART
) -> list[DataFile]:
    """Write rows into files below the table's folder `uri`, one for each combination of its partition columns' values.

    Rows of `samples` and `events` whose time is far from their arrival are in files of their own. Samples are in the
    order of `meterhouse.stores.lake_order`.

    Args:
        uri: the table's folder, or `s3://` URL.
        name: the table.
        rows: columns as in its schema.
        filesystem: that of the object store; None for a folder.
        prefix: how the names of the files start; PART but for a reason.

    Raises:
        OSError: a file cannot be written; what was written of it is deleted.
    """
    schema, columns = TABLES[name]
    made: list[DataFile] = []
    for partition, part in by_partition(rows.select(schema.names).cast(schema), columns):
        values = {column: str(value) for column, value in partition.items()}
        folder = "/".join(f"{column}={value}" for column, value in values.items())
        for piece in divided(name, part.drop_columns(columns), values.get("arrival_hour", "")):
            path = f"{folder}/{prefix}-{uuid.uuid4().hex}.zstd.parquet"
            size = _store(f"{uri}/{path}", name, piece, filesystem)
            made.append(DataFile(path, size, values, statistics([piece])))
    return made


def write_part(
    uri: str,
    name: str,
    values: Mapping[str, Any],
    rows: pa.Table,
    filesystem: "AbstractFileSystem | None",
    prefix: str,
    *,
    in_order: bool = False,
) -> DataFile:
    """Write rows of one partition into one file, in their order.

    Args:
        uri: the table's folder, or `s3://` URL.
        name: the table.
        values: of the partition columns.
        rows: columns as in the table's files; texts may be dictionaries, which takes less time and room.
        filesystem: that of the object store; None for a folder.
        prefix: how the file's name starts; PART but for a reason.
        in_order: whether samples are known to be in the order of points, with texts as dictionaries. Otherwise they
            are put in order.

    Raises:
        OSError: as `write`.
    """
    schema = columns_of_files(name)
    coded = {each.name for each in rows.schema if pa.types.is_dictionary(each.type)}
    rows = rows.cast(pa.schema([rows.schema.field(each.name) if each.name in coded else each for each in schema]))
    partition = {column: str(value) for column, value in values.items()}
    folder = "/".join(f"{column}={value}" for column, value in partition.items())
    path = f"{folder}/{prefix}-{uuid.uuid4().hex}.zstd.parquet"
    size = _store(f"{uri}/{path}", name, rows, filesystem, in_order)
    return DataFile(path, size, partition, statistics([rows]))


def by_partition(rows: pa.Table, columns: list[str]) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """The rows of each combination of values of the columns, in the order in which they are in the table."""
    keys = [(column, "ascending") for column in columns]
    counted = rows.select(columns).group_by(columns, use_threads=False).aggregate([([], "count_all")]).sort_by(keys)
    if counted.num_rows > 1:
        rows = rows.take(pc.sort_indices(rows, keys))
    place = 0
    for values in counted.to_pylist():
        number = values.pop("count_all")
        yield values, rows.slice(place, number)
        place += number


def _store(
    target: str, name: str, rows: pa.Table, filesystem: "AbstractFileSystem | None", in_order: bool = False
) -> int:
    if filesystem is not None:
        buffer = io.BytesIO()
        _write_rows(buffer, name, rows, in_order)
        filesystem.pipe_file(target, buffer.getvalue())
        return buffer.tell()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        with Path(target).open("wb") as handle:
            _write_rows(handle, name, rows, in_order)
            return handle.tell()
    except BaseException:
        with suppress(OSError):  # there may be no file, and the error on its way says more
            Path(target).unlink()
        raise


def _write_rows(handle: IO[bytes], name: str, rows: pa.Table, in_order: bool) -> None:
    size = ROW_GROUP
    if name == "samples":
        rows, size = rows if in_order else ordered(rows), POINTS_IN_GROUP
    dictionaries = DICTIONARIES.get(name, [])
    how: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": dictionaries,
        "column_encoding": ENCODINGS.get(name),
        "write_statistics": dictionaries,
        "store_schema": False,
    }
    with pq.ParquetWriter(handle, rows.schema, **how) as writer:
        for group in row_groups(rows, size):
            writer.write_table(group, size)
