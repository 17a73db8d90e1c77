"""The log of a Delta table: what of it nobody needs any more.

Delta's own clean-up goes by age only, and would take commits that a follower which is behind still has to read. So the
tables have it turned off, and this module deletes commits (Delta protocol, "Metadata Cleanup").
"""

import re
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.stores.lake import Lake

MAX_FILES = 100_000
"""Maximum number of files that one call deletes, oldest first."""

_NAME = re.compile(r"(\d{20})\.(json|crc|checkpoint\.parquet)")


def clean(lake: Lake, name: str, needed: int, until: datetime) -> int:
    """Delete the commits of a table from before a checkpoint, and what killed processes left; return how many files.

    Args:
        lake: the lake.
        name: the table.
        needed: the lowest version that has to stay in the log.
        until: commits from after this time stay, for readers of the table as it was then.
    """
    gone: list[tuple[int, str]] = []
    left_behind: list[tuple[int, str]] = []
    checkpoints: list[tuple[int, str]] = []
    for file, written in lake.listed(f"tables/{name}/_delta_log"):
        found = _NAME.fullmatch(file.rpartition("/")[2])
        if found:
            version = int(found[1])
            gone.append((version, file))
            if found[2] == "checkpoint.parquet" and version <= needed and written <= until:
                checkpoints.append((version, file))
        elif file.endswith(".tmp") and written <= until:
            left_behind.append((0, file))
    start = next((version for version, file in sorted(checkpoints, reverse=True) if _is_whole(lake, file)), 0)
    chosen = sorted(left_behind + [each for each in gone if each[0] < start])[:MAX_FILES]
    lake.remove([file for _, file in chosen])
    return len(chosen)


def _is_whole(lake: Lake, checkpoint: str) -> bool:
    """Whether a checkpoint can be read. After a power cut it may be empty, and the commits before it are needed."""
    try:
        with lake.filesystem.open(checkpoint) as handle:
            return bool(pq.read_metadata(handle).num_rows)
    except (OSError, pa.ArrowException):
        return False
