"""Functions that a connection of SQLite gets: it has no regular expressions, and those of Python may never end."""

import sqlite3
from functools import lru_cache
from typing import Final

KEPT: Final = 10_000
"""How many answers a process remembers: the texts of metadata repeat."""

_LONG: Final = 1_000
"""Answers for longer texts, in characters, are not remembered."""


def add_functions(connection: sqlite3.Connection) -> None:
    """Let `TEXT REGEXP PATTERN` search by RE2, as DuckDB does: it takes time in proportion to the text."""
    connection.create_function("regexp", 2, _regexp, deterministic=True)


def _regexp(pattern: str | None, text: object) -> bool | None:
    if pattern is None or text is None:
        return None
    given = str(text)
    return _found(pattern, given) if len(given) <= _LONG else _search(pattern, given)


def _search(pattern: str, text: str) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    return bool(pc.match_substring_regex(pa.scalar(text), pattern=pattern).as_py())


_found = lru_cache(KEPT)(_search)
