"""The order of what happens to alarms: by a sequence, never by a clock, which can be set back."""

import itertools
from collections.abc import Iterator

from sqlalchemy import Connection, ScalarSelect, Table, func, select


def following(connection: Connection, table: Table) -> Iterator[int]:
    """The next numbers of a table's column `sequence`.

    Args:
        connection: a writing transaction that has checked the lease of the evaluations, so that nobody else numbers.
        table: `alarm_history` or `deliveries`.
    """
    last = connection.execute(select(func.max(table.c.sequence))).scalar()
    return itertools.count((last or 0) + 1)


def next_of(table: Table) -> ScalarSelect[int]:
    """The same for a statement that inserts one row."""
    return select(func.coalesce(func.max(table.c.sequence), 0) + 1).scalar_subquery()
