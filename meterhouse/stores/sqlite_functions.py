"""Functions that a connection of SQLite gets: regular expressions that take time in proportion to the text."""

import re
import sqlite3
from functools import lru_cache
from typing import Final

from meterhouse.definitions import patterns

_SHORT: Final = 256
"""Length of texts, in characters, that Python's engine is used for."""

_STEPS: Final = 50_000
"""Maximum number of its steps on such a text: half a millisecond."""


def add_functions(connection: sqlite3.Connection) -> None:
    """Let `TEXT REGEXP PATTERN` search as DuckDB does, by RE2.

    SQLite has no regular expressions, and those that SQLAlchemy adds, Python's, may take for ever. Python's engine is
    used for short texts and for patterns that cannot cost it much: it is many times faster on these, because RE2
    compiles the pattern for each text.
    """
    connection.create_function("regexp", 2, _regexp, deterministic=True)


def _regexp(pattern: str | None, value: object) -> bool | None:
    if pattern is None or value is None:
        return None
    text = str(value)
    if len(text) <= _SHORT and not text.endswith("\n"):  # before which Python's $ matches
        quick = _quick(pattern)
        if quick is not None:
            return quick.search(text) is not None
    import pyarrow as pa
    import pyarrow.compute as pc

    return bool(pc.match_substring_regex(pa.scalar(text), pattern=pattern).as_py())


@lru_cache
def _quick(pattern: str) -> "re.Pattern[str] | None":
    return re.compile(pattern) if patterns.steps(pattern, _SHORT) <= _STEPS else None
