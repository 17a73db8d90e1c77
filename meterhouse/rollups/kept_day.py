"""The hours of a running day so far, kept on this machine from one run to the next.

The day is folded again with each run, but its last hour alone has other rows than before. What is kept is named by the
files of its hours, which never change: if an hour has other files now, it does not count. So it may be lost, old, or of
another machine's run at any time: then the hours are read again.
"""

import json
import logging
import os
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from xxhash import xxh3_128_digest

from meterhouse.private_files import make_file, make_folder

Hours = list[tuple[int, tuple[str, ...]]]
"""Hours since 1970 in order, each with the files that have its rows, in order."""

_FORMAT: Final = "1"
_DIGEST: Final = 16
_NAME: Final = "day-{}.arrow"

logger = logging.getLogger(__name__)


def load(folder: Path, day: date, hours: Hours) -> tuple[int, pa.Table | None]:
    """What is kept of a day, if it is of the first of these hours; how many hours that is, and the columns."""
    try:
        content = memoryview((folder / _NAME.format(day)).read_bytes())
    except OSError:
        return 0, None
    if xxh3_128_digest(content[_DIGEST:]) != content[:_DIGEST]:  # a power failure may leave anything
        return 0, None
    found = pa.ipc.open_file(pa.py_buffer(content[_DIGEST:])).read_all()
    about: dict[bytes, bytes] = found.schema.metadata
    if about[b"format"].decode() != _FORMAT:
        return 0, None
    known: Hours = [(number, tuple(paths)) for number, paths in json.loads(about[b"hours"])]
    return (len(known), found) if known == hours[: len(known)] else (0, None)


def save(folder: Path, day: date, hours: Hours, columns: dict[str, Any]) -> None:
    """Keep these columns of the hours of a day, in place of what was kept of it and of days before."""
    table = pa.table(columns).replace_schema_metadata({"format": _FORMAT, "hours": json.dumps(hours)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    content = sink.getvalue()
    target = folder / _NAME.format(day)
    part = target.with_suffix(f".{os.getpid()}")
    try:
        make_folder(folder)
        make_file(part)
        with part.open("wb") as file:
            file.write(xxh3_128_digest(content))
            file.write(content)
        part.replace(target)
        for other in folder.glob(_NAME.format("*")):
            if other.name < target.name:
                other.unlink(missing_ok=True)
    except OSError as error:  # the next run reads these hours again
        logger.warning("the hours of %s so far cannot be kept: %s", day, error)
        with suppress(OSError):
            part.unlink()


def forget(folder: Path) -> None:
    """Delete what is kept of any day, half-written files too. The caller holds the lease of `rollups`.

    Raises:
        OSError: a file cannot be deleted.
    """
    for path in folder.glob("day-*"):
        path.unlink(missing_ok=True)
