"""Tools for tests of the record of polling: members, schedules, and a clock that tests set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from sqlalchemy import select, text

from meterhouse import times
from meterhouse.polling.asking import Asking
from meterhouse.polling.polled import Piece, Polled, Slot
from meterhouse.polling.pollster import Pollster, Scheduled, Source
from meterhouse.polling.record import Member, join, sync
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_tasks

START = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
"""The start of a slot of any interval of the tests."""


class Nothing:
    """Polls nothing: the record's tests do not poll."""

    def poll(self, asking: Asking, slot: Slot, piece: Piece, source: Source) -> Polled:
        return Polled()

    def size(self, asking: Asking, source: Source) -> int:
        return 0


def scheduled(
    source: str = "cloud",
    pollster: str = "cpu",
    interval: int = 60,
    *,
    shards: int = 1,
    history: int = 0,
    namespace: str = "central",
    of_host: bool = False,
    digest: str = "1",
) -> Scheduled:
    """A pollster of a source."""
    return Scheduled(
        Source(source, interval, ("*",), shards=shards),
        Pollster(pollster, frozenset([namespace]), "dynamic", history, "", Nothing(), digest, "pollsters.yaml:1"),
        of_host,
        digest,
    )


def member(name: str, *, host: str = "controller", namespace: str = "central", files: str = "1") -> Member:
    """A member on a host that is not this one."""
    return Member(f"{host}:1:1:{name}", frozenset([namespace]), 10, files, 0.0, host)


def joined(warehouse: Warehouse, name: str, *schedules: Scheduled, **how: Any) -> Member:
    """A member that has joined, with these files."""
    made = member(name, **how)
    join(warehouse, made)
    sync(warehouse, schedules, made)
    return made


def rows(warehouse: Warehouse, *columns: str) -> list[Any]:
    """Columns of all tasks, in the order of slots and shards."""
    chosen = select(*(poll_tasks.c[name] for name in columns)).order_by(
        poll_tasks.c.source, poll_tasks.c.pollster, poll_tasks.c.slot_at, poll_tasks.c.shard
    )
    with warehouse.read() as connection:
        found = connection.execute(chosen)
        return list(found.scalars()) if len(columns) == 1 else [tuple(row) for row in found]


class SetClock:
    """The warehouse's clock, which stands still until it is set."""

    def __init__(self) -> None:
        self.now = START

    def go(self, seconds: float) -> None:
        """Set it forward, or back."""
        self.now += timedelta(seconds=seconds)


@contextmanager
def set_clock(warehouse: Warehouse) -> Iterator[SetClock]:
    """Let a test set the warehouse's clock: in PostgreSQL by a function of that name that is found first."""
    clock = SetClock()
    if warehouse.is_sqlite:
        with patch.object(times, "now", lambda: clock.now):
            yield clock
        return
    yield _PostgresClock(warehouse)


class _PostgresClock(SetClock):
    """`clock_timestamp()` of the schema `set_clock`, which comes first in the database's search path."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._set: Callable[[datetime], None] = lambda instant: _execute(
            warehouse, f"UPDATE set_clock.instant SET at = '{instant.isoformat()}'"
        )
        _execute(
            warehouse,
            "CREATE SCHEMA set_clock; CREATE TABLE set_clock.instant (at timestamptz);"
            f"INSERT INTO set_clock.instant VALUES ('{START.isoformat()}');"
            "CREATE FUNCTION set_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
            " AS 'SELECT at FROM set_clock.instant';"
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = set_clock, public, pg_catalog',"
            " current_database()); END $$",
        )
        warehouse.engine.dispose()
        super().__init__()

    def go(self, seconds: float) -> None:
        super().go(seconds)
        self._set(self.now)


def _execute(warehouse: Warehouse, statements: str) -> None:
    with warehouse.begin() as connection:
        connection.execute(text(statements))
