"""Data files of the lake's tables. They are written here; Delta only commits them.

delta-rs's own writer takes two to four times as long, and writes everything again if another process commits first.
"""

import io
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterhouse.stores.lake_statistics import statistics
from meterhouse.stores.lake_tables import DICTIONARIES, TABLES

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

ROW_GROUP = 1 << 18


@dataclass(frozen=True)
class DataFile:
    """A file of a table that is not committed yet. `path` is below the table's folder; `statistics` is Delta's JSON."""

    path: str
    size: int
    partition: dict[str, str]
    statistics: str


def write(uri: str, name: str, rows: pa.Table, filesystem: "AbstractFileSystem | None") -> list[DataFile]:
    """Write rows into files below the table's folder `uri`, one for each value of its partition column.

    Args:
        uri: the table's folder, or `s3://` URL.
        name: the table; it has one partition column.
        rows: columns as in its schema.
        filesystem: that of the object store; None for a folder.

    Raises:
        OSError: a file cannot be written; what was written of it is deleted.
    """
    schema, (column,) = TABLES[name]
    rows = rows.select(schema.names).cast(schema)
    made: list[DataFile] = []
    for value in pc.unique(rows[column]).to_pylist():
        part = rows.filter(pc.equal(rows[column], value)).drop_columns([column])
        text = str(value)
        path = f"{column}={text}/part-{uuid.uuid4().hex}.zstd.parquet"
        size = _store(f"{uri}/{path}", part, DICTIONARIES[name], filesystem)
        made.append(DataFile(path, size, {column: text}, statistics([part])))
    return made


def _store(target: str, rows: pa.Table, dictionaries: list[str], filesystem: "AbstractFileSystem | None") -> int:
    how: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": dictionaries,
        "write_statistics": dictionaries,
        "row_group_size": ROW_GROUP,
        "store_schema": False,
    }
    if filesystem is not None:
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, **how)
        filesystem.pipe_file(target, buffer.getvalue())
        return buffer.tell()
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        with Path(target).open("wb") as handle:
            pq.write_table(rows, handle, **how)
            return handle.tell()
    except BaseException:
        with suppress(OSError):
            Path(target).unlink()
        raise
