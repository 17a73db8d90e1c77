"""The log of a Delta table: what of it nobody needs any more.

Delta's own clean-up goes by age only, and would take commits that a follower which is behind still has to read. So the
tables have it turned off, and this module deletes commits (Delta protocol, "Metadata Cleanup").
"""

import re
from datetime import datetime

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
    checkpoints: list[int] = []
    for file, written in lake.listed(f"tables/{name}/_delta_log"):
        found = _NAME.fullmatch(file.rpartition("/")[2])
        if found:
            version = int(found[1])
            gone.append((version, file))
            if found[2] == "checkpoint.parquet" and version <= needed and written <= until:
                checkpoints.append(version)
        elif file.endswith(".tmp") and written <= until:
            left_behind.append((0, file))
    start = max(checkpoints, default=0)
    chosen = sorted(left_behind + [each for each in gone if each[0] < start])[:MAX_FILES]
    lake.remove([file for _, file in chosen])
    return len(chosen)
