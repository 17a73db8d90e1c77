"""Takes damaged files out of a table's log, where nothing is lost by it. What is taken out is kept as a copy.

delta-rs writes a commit under another name and renames it, so a commit that is empty or cut is not in progress: it was
written when the power failed, and never reached the disk. At the end of the log, nothing stands on it.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.stores.lake_commits import parse

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def move_aside(files: "AbstractFileSystem", path: str, aside: str) -> str:
    """Move a file into the folder of damaged files, under a name that is free; return where it is now."""
    target = f"{aside}/{path.rpartition('/')[2]}.{time.time_ns()}"
    files.makedirs(aside, exist_ok=True)
    files.mv(path, target)
    return target


def log_files(files: "AbstractFileSystem", log: str, ending: str) -> list[str]:
    """The paths of the log's files with this ending, oldest first; none if there is no log."""
    with suppress(FileNotFoundError):
        return sorted(path for path in files.ls(log, detail=False) if path.endswith(ending))
    return []


def take_out_cut_end(files: "AbstractFileSystem", log: str, aside: str) -> list[str]:
    """Move the newest commits of a log aside if they are empty or cut; return where they are now."""
    moved: list[str] = []
    for path in reversed(log_files(files, log, ".json")):
        if parse(files.cat_file(path)) is not None:
            break
        target = move_aside(files, path, aside)
        if parse(files.cat_file(target)) is not None:  # another process did the same first, and has committed since
            files.mv(target, path)
            break
        moved.append(target)
    return moved


def take_out_checkpoints(files: "AbstractFileSystem", log: str, aside: str) -> list[str]:
    """Move checkpoints that cannot be read aside, with the pointer to the last one; return where they are now."""
    bad = list(_bad_checkpoints(files, log))
    pointer = f"{log}/_last_checkpoint"
    intact = [path for path in log_files(files, log, ".checkpoint.parquet") if path not in bad]
    if files.exists(pointer) and (bad or not intact):
        bad.append(pointer)
    return [move_aside(files, path, aside) for path in bad]


def _bad_checkpoints(files: "AbstractFileSystem", log: str) -> Iterator[str]:
    for path in log_files(files, log, ".parquet"):
        try:
            with files.open(path) as handle:
                pq.ParquetFile(handle).read()
        except (OSError, pa.ArrowException):
            yield path
