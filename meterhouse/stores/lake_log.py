"""The log of a Delta table: keeps it short, and deletes what of it nobody needs any more.

delta-rs lists a folder's whole log when a table is opened, and three times for a commit, at 5 to 10 µs a file. So the
log of a table in a folder keeps its newest IN_LOG commits. Older ones are moved to a folder beside the tables, which is
a log itself (Delta protocol, "Checkpoints" and "Metadata Cleanup"): a reader of an older version finds it there. An
object store lists from a given name on, so its logs stay where they are.

An opening reads each commit since the last checkpoint, so checkpoints are written often. Most of them go when they are
moved, or when the log is cleaned.

Delta's own clean-up goes by age only, and needs a process that commits with it; the tables have it turned off.
"""

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

IN_LOG = 100
"""Minimum number of commits that stay in the log of a table in a folder."""

LONG = 1_000
"""Files of a log that was not kept short, as by an earlier release. It is shortened up to its newest checkpoint."""

EVERY = 100
"""A log is shortened after this many commits."""

CHECKPOINT = "checkpoint.parquet"
"""How the name of a checkpoint ends."""

MAX_FILES = 100_000
"""Maximum number of files that one call deletes, oldest first."""

_NAME = re.compile(r"(\d{20})\.(json|crc|checkpoint\.parquet)")


@dataclass(frozen=True, order=True)
class _File:
    version: int
    path: str
    is_checkpoint: bool
    written: datetime


def shorten(files: "AbstractFileSystem", log: str, older: str, in_log: int = IN_LOG) -> int:
    """Move the files of a folder's log from before a checkpoint to the folder of older ones; return how many.

    Args:
        files: the local file system.
        log: the log's folder.
        older: the folder that they are moved to.
        in_log: how many commits stay at least.

    Raises:
        OSError: they cannot be moved. The log can be read all the same, and so it can after a kill.
    """
    names = [(int(found[1]), found[0], found[2]) for found in map(_NAME.fullmatch, _names(log)) if found]
    newest = max((version for version, _, kind in names if kind == "json"), default=0)
    last = newest if len(names) > LONG else newest - in_log
    checkpoints = sorted((v, name) for v, name, kind in names if kind == CHECKPOINT and v <= last)
    start = next((v for v, name in reversed(checkpoints) if _is_whole(files, f"{log}/{name}")), 0)
    moved = sorted((version, name) for version, name, _ in names if version < start)
    needless = _needless(version for version, name in checkpoints if version < start)
    if moved:
        Path(older).mkdir(parents=True, exist_ok=True)
    for version, name in moved:  # oldest first, so that the log never has a gap
        with suppress(FileNotFoundError):  # another process has moved it
            if version in needless and name.endswith(CHECKPOINT):
                Path(log, name).unlink()
            else:
                Path(log, name).replace(Path(older, name))
    return len(moved)


def _needless(checkpoints: Iterable[int]) -> set[int]:
    """All but the first checkpoint of each EVERY versions: a reader of an older version finds one before it."""
    first: dict[int, int] = {}
    return {version for version in sorted(checkpoints) if first.setdefault(version // EVERY, version) != version}


def clean(files: "AbstractFileSystem", log: str, older: str, until: datetime, followed: Collection[int] = ()) -> int:
    """Delete the commits of a log, and of the folder of older ones, from before a time; return how many files.

    The state of the table at a version that a follower has reached stays, so that what came after it can be told from
    what was there: its commit, and those back to the checkpoint before it.

    Args:
        files: the lake's file system.
        log: the log's folder.
        older: the folder of older commits.
        until: the newest whole checkpoint from before this time is where the log begins then. If there is none, all
            stays.
        followed: the versions that followers have reached.

    Raises:
        OSError: a file cannot be deleted or moved.
    """
    deleted = 0
    for folder in (log, older):
        found, left_behind = _listed(files, folder)
        checkpoints = sorted((file for file in found if file.is_checkpoint), reverse=True)
        whole = (file.version for file in checkpoints if file.written <= until and _is_whole(files, file.path))
        start = next(whole, 0)
        needed: set[int] = set()
        for version in followed:
            if version < start:
                before = (file.version for file in checkpoints if file.version <= version)
                needed.update(range(next(before, 0), version + 1))
        if folder == log:
            _copy(files, (file.path for file in found if file.version in needed), older)
        end = max((file.version for file in found), default=0) - IN_LOG
        needless = _needless(file.version for file in checkpoints if file.version < end) - {start} - needed
        chosen = [file.path for file in left_behind if file.written <= until] + [
            file.path
            for file in sorted(found)
            if (file.is_checkpoint and file.version in needless)
            or (file.version < start and (folder == log or file.version not in needed))
        ]
        chosen = chosen[:MAX_FILES]
        _remove(files, chosen)
        deleted += len(chosen)
    return deleted


def forget(files: "AbstractFileSystem", log: str, older: str, version: int) -> int:
    """Delete the files of a log, and of the folder of older ones, from before a version; return how many.

    Args:
        files: the lake's file system.
        log: the log's folder.
        older: the folder of older commits.
        version: the version at which the log begins then; it has a checkpoint.

    Raises:
        OSError: a file cannot be deleted, or the checkpoint cannot be read: then all stays.
    """
    listed = _listed(files, log)
    if not any(_is_whole(files, each.path) for each in listed[0] if each.is_checkpoint and each.version == version):
        raise OSError(f"the checkpoint of version {version} cannot be read")
    chosen = [each.path for found, _ in (_listed(files, older), listed) for each in sorted(found)]
    kept = {each.path for each in listed[0] if each.version >= version}
    _remove(files, [path for path in chosen if path not in kept])
    return len(chosen) - len(kept)


def _names(folder: str) -> Iterable[str]:
    """The names in a local folder, without a look at each file."""
    with suppress(FileNotFoundError):  # nothing was moved there yet
        return [path.name for path in Path(folder).iterdir()]
    return []


def _listed(files: "AbstractFileSystem", folder: str) -> tuple[list[_File], list[_File]]:
    """The files of a log, and half-written ones that killed processes left."""
    found: list[_File] = []
    left_behind: list[_File] = []
    entries: dict[str, Any] = {}
    with suppress(FileNotFoundError):  # nothing was moved there yet
        entries = files.find(folder, detail=True)
    for path, entry in entries.items():
        moment = entry.get("LastModified", entry.get("mtime"))
        written = moment if isinstance(moment, datetime) else datetime.fromtimestamp(float(moment or 0), UTC)
        if name := _NAME.fullmatch(path.rpartition("/")[2]):
            found.append(_File(int(name[1]), path, name[2] == CHECKPOINT, written))
        elif path.endswith(".tmp"):
            left_behind.append(_File(0, path, False, written))
    return found, left_behind


def _copy(files: "AbstractFileSystem", paths: Iterable[str], folder: str) -> None:
    for path in paths:
        files.makedirs(folder, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has moved it
            files.cp_file(path, f"{folder}/{path.rpartition('/')[2]}")


def _remove(files: "AbstractFileSystem", paths: list[str]) -> None:
    """Delete files in this order. Those that are gone already do not matter."""
    if "file" in files.protocol:
        for path in paths:
            Path(path).unlink(missing_ok=True)
        return
    for start in range(0, len(paths), 1000):  # as many as a request of S3 takes
        with suppress(FileNotFoundError):  # another process has deleted them
            files.rm(paths[start : start + 1000])


def _is_whole(files: "AbstractFileSystem", checkpoint: str) -> bool:
    """Whether a checkpoint can be read. After a power cut it may be empty, and the commits before it are needed."""
    try:
        with files.open(checkpoint) as handle:
            return bool(pq.read_metadata(handle).num_rows)
    except (OSError, pa.ArrowException):
        return False
