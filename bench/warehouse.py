"""The warehouse that follows the lake's roll-ups, beside the same rows inserted into bare tables in the same run.

    python bench/warehouse.py [--only PART,…] [--series N] [--quick]

Parts, each in SQLite and, if a server can be had, in PostgreSQL:

- day: a day of 10,000 series into an empty warehouse: 240,000 hourly and 10,000 daily rows.
- live: an hour of 100,000 series and their day are replaced, because each series got one more point.

The floor inserts the same rows, ready in memory, in one transaction into two tables with the same columns and primary
key: by executemany in SQLite, by COPY in its binary format in PostgreSQL. In part `live` its tables have all rows, and
it deletes those of the hour and the day first. It reads no lake, makes no partitions, has no second index, and keeps no
times of series and resources and no position.

Each line is measured in a process of its own. Of several runs, in turn with the floor's, the least seconds are given.
The processes of a PostgreSQL server of this machine are in the CPU seconds, and apart in a column of their own. Times
the floor: by the clock, and by CPU seconds.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import _measured
import _processes
from _measured import Clock, Cost, best, copied, measured
from _parts import again_with, parsed
from _points import DAY_MINUTES, Fleet
from rollup import (
    DAY,
    LIVE_HOUR,
    NAMES,
    SERVERS,
    catalogue,
    database,
    filled,
    folder,
    live_point,
    machine,
    opened,
    roll,
    take_series,
)
from sqlalchemy import Connection, MetaData, text

from meterhouse import times
from meterhouse.rollups.following import follow
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import daily, hourly

POSTGRES = SERVERS["gnocchi"]
STEP = 5
"""Minutes between the points of a series: roll-ups have as many rows as with a point a minute."""


@dataclass(frozen=True)
class Sizes:
    """How much of each part is measured."""

    series: int = 10_000
    live_series: int = 100_000
    rounds: int = 3


QUICK = Sizes(series=30, live_series=60, rounds=1)


@dataclass(frozen=True)
class Written:
    """What a call wrote, and the CPU seconds that the server took for it: NaN if they cannot be known."""

    rows: int
    server: float


class Server:
    """The processes of a PostgreSQL server, if it is one of this machine; SQLite has none."""

    def __init__(self, site: Site) -> None:
        self._parent = 0 if site.warehouse.is_sqlite else _postmaster(site)
        self._before = self._seconds()

    def used(self) -> float:
        """The CPU seconds since this was made."""
        return self._seconds() - self._before

    def _seconds(self) -> float:
        if self._parent is None:
            return math.nan
        return _processes.seconds(*_processes.family(self._parent)) if self._parent else 0.0


def _postmaster(site: Site) -> int | None:
    """The parent of the server's processes; None if the server is not one of this machine."""
    with site.warehouse.engine.connect() as connection:
        process = Path(f"/proc/{connection.execute(text('SELECT pg_backend_pid()')).scalar()}")
        with suppress(OSError):
            if (process / "comm").read_text() == "postgres\n":
                return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return None


# -- what is measured, each in a process of its own ----------------------------------------------------------------


def followed(clock: Clock, home: Path, url: str) -> Written:
    """Bring the lake's roll-ups to the warehouse."""
    site = opened(home, url)
    server = Server(site)
    with clock:
        rows = follow(site).rows
    site.warehouse.engine.dispose()
    return Written(rows, server.used())


def bare(clock: Clock, home: Path, url: str, hour: datetime | None) -> Written:
    """Insert all rows into bare tables; with an hour, replace its rows and those of its day."""
    site = opened(home, url)
    engine, work, count = site.warehouse.engine, [], 0
    for table, bucket in ((hourly, hour), (daily, hour and times.day_start(hour.date()))):
        chosen = f"WHERE bucket = '{bucket:%Y-%m-%d %H:%M:%S.%f}'" if bucket else ""
        made = table.to_metadata(MetaData(), name=f"bare_{table.name}")
        made.indexes.clear()
        made.dialect_options["postgresql"]["partition_by"] = None
        with engine.begin() as connection:
            made.drop(connection, checkfirst=True)
            made.create(connection)
            if bucket:
                connection.execute(text(f"INSERT INTO {made.name} SELECT * FROM {table.name}"))
            count += connection.execute(text(f"SELECT count(*) FROM {table.name} {chosen}")).scalar_one()
            work.append(
                (made.name, chosen, bool(bucket), _taken_out(connection, f"SELECT * FROM {table.name} {chosen}"))
            )
    server = Server(site)
    with clock, engine.begin() as connection:
        for name, chosen, replaces, ready in work:
            if replaces:
                connection.execute(text(f"DELETE FROM {name} {chosen}"))
            _put_in(connection, name, ready)
    engine.dispose()
    return Written(count, server.used())


def _taken_out(connection: Connection, query: str) -> Any:
    """The rows of a query: tuples of SQLite, bytes of PostgreSQL's binary format."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        return driver.execute(query).fetchall()
    with driver.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as copy:
        return b"".join(map(bytes, copy))


def _put_in(connection: Connection, table: str, ready: Any) -> None:
    """Insert what `_taken_out` gave."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(ready[0]))})", ready)
        return
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
        copy.write(ready)


# -- parts ---------------------------------------------------------------------------------------------------------


def title(text: str) -> None:
    """Print the head of a part's table."""
    print(f"\n{text}")
    names = f"{'rows':>9}{'wall s':>9}{'CPU s':>9}{'server':>9}{'rows/s':>10}{'× floor':>9}{'× CPU':>8}{'peak MB':>9}"
    print(f"{'':{NAMES}}{names}", flush=True)


def line(name: str, cost: Cost, floor: Cost | None = None) -> None:
    """Print a line of a table."""
    rows, server = cost.answer.rows, cost.answer.server
    ratios = f"{cost.wall / floor.wall:9.2f}{cost.cpu / floor.cpu:8.2f}" if floor else f"{'':17}"
    figures = f"{rows:9}{cost.wall:9.2f}{cost.cpu:9.2f}{server:9.2f}{rows / cost.wall:10.0f}"
    print(f"{name:{NAMES}}{figures}{ratios}{cost.peak_mb:9.0f}", flush=True)


def whole(cost: Cost) -> Cost:
    """The cost with the server's CPU seconds."""
    server = 0.0 if math.isnan(cost.answer.server) else cost.answer.server
    return Cost(cost.wall, cost.cpu + server, cost.peak_mb, cost.answer)


@contextmanager
def warehouse(kind: str, home: Path) -> Iterator[str]:
    """The URL of a warehouse of this kind, for a while: "" is the site's own SQLite; another one knows its series."""
    if kind == "SQLite":
        yield ""
        return
    with database(os.environ[POSTGRES]) as url:
        measured(take_series, home, url)
        yield url


def in_turn(rounds: int, home: Path, before: Path | None, hour: datetime | None) -> None:
    """Measure the following and the floor in turn, in warehouses that are where `before` is, or empty."""
    kinds = ["SQLite", "PostgreSQL"] if POSTGRES in os.environ else ["SQLite"]
    for kind in kinds:
        floors, ours = [], []
        for _ in range(rounds):
            spare = copied(home, home.with_name("spare"))
            with warehouse(kind, spare) as url:
                if before and url:
                    measured(followed, before, url)
                ours.append(whole(measured(followed, spare, url)))
                floors.append(whole(measured(bare, spare, url, hour)))
        floor = best(floors)
        line(f"floor: bare tables, {kind}", floor)
        line(f"the warehouse follows, {kind}", best(ours), floor)


def day(sizes: Sizes) -> None:
    """A day, for the first time."""
    title(f"A day of {sizes.series:,} series into an empty warehouse")
    with folder() as place:
        home = place / "home"
        filled(home, Fleet(sizes.series), DAY, list(range(0, DAY_MINUTES, STEP)), 60 // STEP)
        measured(roll, home)
        in_turn(sizes.rounds, home, None, None)


def live(sizes: Sizes) -> None:
    """An hour and its day, replaced."""
    title(f"An hour and the day of {sizes.live_series:,} series, replaced because each got one more point")
    fleet, first = Fleet(sizes.live_series), LIVE_HOUR - times.HOUR
    now = LIVE_HOUR + timedelta(minutes=59, seconds=20)
    with folder() as place:
        home = place / "home"
        filled(home, fleet, first, list(range(0, 120, STEP)), 30 // STEP)
        measured(roll, home, now - timedelta(minutes=1))
        measured(followed, home, "")
        before = copied(home, place / "before")
        measured(live_point, home, fleet, first, 119)
        measured(catalogue, home)
        measured(roll, home, now)
        in_turn(sizes.rounds, home, before, LIVE_HOUR)


PARTS: dict[str, Callable[[Sizes], None]] = {"day": day, "live": live}


def main(arguments: list[str]) -> None:
    given = parsed((__doc__ or "").split("\n")[0], PARTS, Sizes.series, arguments)
    if not given.quick:
        again_with("postgres", __file__, arguments)
    _measured.fresh = not given.quick
    sizes = QUICK if given.quick else Sizes(series=given.series)
    print(machine())
    for part in PARTS:
        if part in given.only:
            PARTS[part](sizes)


if __name__ == "__main__":
    main(sys.argv[1:])
