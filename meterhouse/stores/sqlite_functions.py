"""Functions that a connection of SQLite gets: regular expressions that take time in proportion to the text, and time.

`epoch_us`, `utc_date` and `byte_order` are those of PostgreSQL's warehouse too, where a migration makes them. With
them, a report computes durations to the microsecond, and orders texts, in SQL that both databases run.
"""

import re
import sqlite3
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from meterhouse.definitions import patterns

_LENGTHS: Final = (32, 64, 128, 256)
"""Lengths of texts, in characters, up to which Python's engine is used, if the pattern is safe for that length."""

_STEPS: Final = 50_000
"""Maximum number of its steps on such a text: half a millisecond."""


def add_functions(connection: sqlite3.Connection) -> None:
    """Let `TEXT REGEXP PATTERN` search as DuckDB does, by RE2.

    SQLite has no regular expressions, and those that SQLAlchemy adds, Python's, may take for ever. Python's engine is
    used for short texts and for patterns that cannot cost it much: it is many times faster on these, because RE2
    compiles the pattern for each text. `epoch_us(TIME)` is the microseconds since 1970-01-01 of a time of the
    warehouse, and `utc_date(MICROSECONDS)` the day in which such a number lies.
    `byte_order(TEXT)` orders texts by their bytes, as SQLite does anyway.
    """
    connection.create_function("regexp", 2, _regexp, deterministic=True)
    connection.create_function("epoch_us", 1, _epoch_us, deterministic=True)
    connection.create_function("utc_date", 1, _utc_date, deterministic=True)
    connection.create_function("byte_order", 1, _same, deterministic=True)


_EPOCH: Final = datetime(1970, 1, 1)
_DAY_US: Final = 86_400_000_000


def _epoch_us(value: str | int | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    since = datetime.fromisoformat(value).replace(tzinfo=None) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _utc_date(microseconds: int | None) -> str | None:
    return None if microseconds is None else str(date(1970, 1, 1) + timedelta(days=microseconds // _DAY_US))


def _same(value: str | None) -> str | None:
    return value


def _regexp(pattern: str | None, value: object) -> bool | None:
    if pattern is None or value is None:
        return None
    text = str(value)
    length = next((each for each in _LENGTHS if len(text) <= each), None)
    if length is not None and not text.endswith("\n"):  # before which Python's $ matches
        quick = _quick(pattern, length)
        if quick is not None:
            return quick.search(text) is not None
    import pyarrow as pa
    import pyarrow.compute as pc

    return bool(pc.match_substring_regex(pa.scalar(text), pattern=pattern).as_py())


@lru_cache
def _quick(pattern: str, length: int) -> "re.Pattern[str] | None":
    return re.compile(pattern) if patterns.steps(pattern, length) <= _STEPS else None
