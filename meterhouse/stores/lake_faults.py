"""Faults of the lake's files: which file an error is about, and readers whose files are replaced meanwhile."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from meterhouse.errors import Replaced

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS = 3
"""How often a reading is tried whose files are replaced meanwhile."""

_FILE = re.compile(r"tables/(\w+)/([^\"'\n]+?\.parquet)")


def file_of(error: Exception) -> tuple[str, str] | None:
    """The table and the path of the lake's file that could not be read; None if the error is about something else."""
    import duckdb

    if not isinstance(error, duckdb.IOException | duckdb.InvalidInputException | OSError):
        return None
    found = _FILE.search(str(error))
    return None if found is None else (found[1], found[2])


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def retried(reading: Callable[P, R]) -> Callable[P, R]:
    """Repeat a function if a seal and a vacuum replaced the files that it was reading."""

    @functools.wraps(reading)
    def repeat(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(ATTEMPTS - 1):
            try:
                return reading(*args, **kwargs)
            except Replaced:
                pass
        return reading(*args, **kwargs)

    return repeat
