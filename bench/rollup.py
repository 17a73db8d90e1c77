"""Roll-up: points judged and rolled up, beside a bare DuckDB GROUP BY of the same files, Gnocchi and VictoriaMetrics.

    python bench/rollup.py [--only PART,…] [--series N] [--quick]

Parts, in this order:

- day: a day of points of 10,000 series, as landed and as compacted; the compaction; the warehouse that follows.
- live: one new point on each of 100,000 series while their hour is 59/60 full: landed, catalogued, rolled up.
- size: the cost of days of 1, 10 and 100 million points.
- gnocchi: Gnocchi 4.7 with a PostgreSQL indexer, files and the policy `medium`, two workers.
- victoria: VictoriaMetrics: import, then the hourly avg, min, max and count of all series.

The floor makes the same three granularities with count, sum, min, max and sum of squares. It judges nothing, removes no
duplicate, knows no counter, has no percentile and writes nothing. Each line is measured in a process of its own. Of
several runs, in turn with the floor's, the least seconds are given. Times the floor: by the clock, and by CPU seconds.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import _measured
import numpy as np
import pyarrow.parquet as pq
from _measured import Clock, Cost, best, copied, measured, together
from _parts import again_with, parsed
from _points import DAY_MINUTES, Fleet, land

from meterhouse import history, times
from meterhouse.catalog import FOLLOWER, TABLE, catalog, lock_catalog, mark_dirty
from meterhouse.rollups.step import roll_up
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resources
from meterhouse.stores.warehouse_tables import series as series_table

DAY = datetime(2026, 11, 1, tzinfo=UTC)
LIVE_HOUR = DAY + timedelta(days=1, hours=22)
SERVERS = {"gnocchi": "METERHOUSE_TEST_POSTGRES_URL", "victoria": "METERHOUSE_TEST_VICTORIA_URL"}
MICROS = 1_000_000
NAMES = 44
"""Characters of a line before its figures."""


@dataclass(frozen=True)
class Sizes:
    """How much of each part is measured."""

    series: int = 10_000
    live_series: int = 100_000
    points: tuple[int, ...] = (1_000_000, 10_000_000, 100_000_000)
    gnocchi_series: int = 1_000
    gnocchi_minutes: int = DAY_MINUTES
    rounds: int = 3
    at_once: int = 10
    """Minutes that land in one commit."""
    live_hours: int = 24
    """Hours with points before that of the new ones."""


QUICK = Sizes(
    series=60,
    live_series=150,
    points=(20_000, 40_000),
    gnocchi_series=9,
    gnocchi_minutes=120,
    rounds=1,
    at_once=60,
    live_hours=2,
)


# -- what is measured, each in a process of its own ----------------------------------------------------------------


def opened(home: Path, warehouse_url: str = "") -> Site:
    """The site in a folder, with its tables open, so that nothing of the set-up counts."""
    site = Site.open(read_settings(home=home, warehouse_url=warehouse_url))
    for table in ("samples", "rollups", "quarantine"):
        site.lake.table(table)
    return site


def land_hours(clock: Clock, home: Path, fleet: Fleet, first: datetime, minutes: list[int], at_once: int) -> int:
    """Land the points of these minutes; return how many."""
    site = opened(home)
    with clock:
        return land(site, fleet, first, minutes, at_once)


def take_first(clock: Clock, home: Path) -> None:
    """Catalog what has been landed."""
    catalog(opened(home))


def take_rest(clock: Clock, home: Path, hours: list[datetime]) -> None:
    """Do what the catalog does for hours of series that it knows, without reading their points."""
    site = opened(home)
    with site.warehouse.lease("catalog") as lease, lease.begin() as connection:
        lock_catalog(connection)
        connection.execute(series_table.update().values(last_point_at=max(hours) + timedelta(minutes=59)))
        mark_dirty(connection, hours, "new points")
        history.record_position(connection, FOLLOWER, history.position(site.lake, TABLE, site.lake.version(TABLE)))


def group_by(clock: Clock, home: Path, start: datetime, end: datetime) -> None:
    """The floor, over the files that hold points of this time, and no others."""
    site = opened(home)
    with site.lake.connect() as duck, clock:
        site.lake.view(duck, "samples", site.lake.files("samples", overlapping=("timestamp", [(start, end)])))
        for seconds in (300, 3_600, 86_400):
            duck.execute(
                "CREATE OR REPLACE TEMP TABLE made AS "
                f"SELECT series_id, epoch_us(timestamp) // {seconds * MICROS} AS bucket, "
                "count(*), sum(volume), min(volume), max(volume), sum(volume * volume) FROM samples GROUP BY ALL"
            )


def roll(clock: Clock, home: Path, now: datetime | None = None) -> dict[str, Any]:
    """Judge and roll up what is dirty, as if it were `now`."""
    site = opened(home)
    with mock.patch.object(times, "now", (lambda: now) if now else times.now), clock:
        return vars(roll_up(site))


def compacted(clock: Clock, home: Path) -> int:
    """Compact all arrival hours; return how many rows that were."""
    from meterhouse.archive.compaction import compact

    site = opened(home)
    with clock:
        return compact(site).rows


def followed(clock: Clock, home: Path, warehouse_url: str = "") -> int:
    """Bring the lake's roll-ups to the warehouse; return how many rows that were."""
    from meterhouse.rollups.following import follow

    site = opened(home, warehouse_url)
    with clock:
        rows = follow(site).rows
    site.warehouse.engine.dispose()
    return rows


def take_series(clock: Clock, home: Path, warehouse_url: str) -> None:
    """Give another warehouse the series and resources of a site's own one."""
    engine = opened(home, warehouse_url).warehouse.engine
    with opened(home).warehouse.read() as own, engine.begin() as other:
        for table in (series_table, resources):
            other.execute(table.insert(), [dict(row) for row in own.execute(table.select()).mappings()])
    engine.dispose()


def live_point(clock: Clock, home: Path, fleet: Fleet, first: datetime, minute: int) -> None:
    """Land one new point on each series."""
    site = opened(home)
    rows = fleet.samples(first, [minute])
    with clock:
        site.lake.append("samples", rows)


def catalogue(clock: Clock, home: Path) -> None:
    """Add what was landed to the catalog."""
    site = opened(home)
    with clock:
        catalog(site)


def bytes_of(clock: Clock, home: Path, table: str) -> tuple[dict[str, int], dict[str, int], int]:
    """The bytes of a table's live files by partition and by column, and its rows."""
    lake = opened(home).lake
    files = lake.actions(table).to_pylist()
    parts: dict[str, int] = {}
    columns: dict[str, int] = {}
    for file in files:
        part = str(file.get("partition.granularity_s", ""))
        parts[part] = parts.get(part, 0) + file["size_bytes"]
        footer = pq.read_metadata(f"{lake.uri(table)}/{file['path']}")
        for group in range(footer.num_row_groups):
            for number in range(footer.num_columns):
                chunk = footer.row_group(group).column(number)
                columns[chunk.path_in_schema] = columns.get(chunk.path_in_schema, 0) + chunk.total_compressed_size
    return parts, columns, sum(file["num_records"] for file in files)


# -- set-up --------------------------------------------------------------------------------------------------------


def filled(home: Path, fleet: Fleet, first: datetime, minutes: list[int], at_once: int) -> int:
    """Land the points of these minutes with two processes, and mark their hours dirty; return how many."""
    by_hour: dict[int, list[int]] = {}
    for minute in minutes:
        by_hour.setdefault(minute // 60, []).append(minute)
    made: int = measured(land_hours, home, fleet, first, minutes[:1], 1).answer
    measured(take_first, home)
    halves = [[minute for hour in list(by_hour)[half::2] for minute in by_hour[hour]] for half in range(2)]
    halves[0] = halves[0][1:]
    with ThreadPoolExecutor(2) as pool:
        costs = pool.map(lambda half: measured(land_hours, home, fleet, first, half, at_once), filter(None, halves))
        made += sum(cost.answer for cost in costs)
    measured(take_rest, home, [first + hour * times.HOUR for hour in by_hour])
    return made


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for a while."""
    with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as name:
        yield Path(name)


# -- the table -----------------------------------------------------------------------------------------------------


def machine() -> str:
    """What is measured on, and with what."""
    names = ("duckdb", "numpy", "pyarrow", "deltalake")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}, {versions}"


def title(text: str) -> None:
    """Print the head of a part's table."""
    print(f"\n{text}")
    print(
        f"{'':{NAMES}}{'M points':>9}{'wall s':>9}{'CPU s':>9}{'M/s':>8}{'× floor':>9}{'× CPU':>8}{'peak MB':>9}",
        flush=True,
    )


def line(name: str, points: int, cost: Cost, floor: Cost | None = None) -> None:
    """Print a line of a table."""
    ratios = f"{cost.wall / floor.wall:9.2f}{cost.cpu / floor.cpu:8.2f}" if floor else f"{'':17}"
    rate = points / cost.wall / 1e6
    peak = f"{cost.peak_mb:9.0f}" if cost.peak_mb else ""
    print(f"{name:{NAMES}}{points / 1e6:9.2f}{cost.wall:9.2f}{cost.cpu:9.2f}{rate:8.2f}{ratios}{peak}", flush=True)


def note(name: str, value: str) -> None:
    """Print a figure that is not a time."""
    print(f"{name:{NAMES + 2}}{value}", flush=True)


def note_bytes(name: str, home: Path, table: str, points: int) -> None:
    """Print the bytes a raw point that a table takes, in all and by column."""
    parts, columns, _ = measured(bytes_of, home, table).answer
    note(f"bytes a raw point: {name}", f"{sum(parts.values()) / points:.2f}")
    if len(parts) > 1:
        note(
            "",
            ", ".join(f"{part} s {size / points:.2f}" for part, size in sorted(parts.items(), key=lambda x: int(x[0]))),
        )
    widest = sorted(columns.items(), key=lambda column: -column[1])
    note("", ", ".join(f"{column} {size / points:.2f}" for column, size in widest if size / points >= 0.005))


# -- parts ---------------------------------------------------------------------------------------------------------


def in_turn(home: Path, spare: Path, rounds: int, start: datetime, end: datetime) -> tuple[Cost, Cost]:
    """The floor and the roll-up of all that is dirty, in turn, the latter on copies of which the last one stays."""
    floors, ours = [], []
    for _ in range(rounds):
        floors.append(measured(group_by, home, start, end))
        ours.append(measured(roll, copied(home, spare)))
    return best(floors), best(ours)


def day(sizes: Sizes) -> None:
    """A day of points."""
    fleet, end = Fleet(sizes.series), DAY + times.DAY
    with folder() as place:
        landed, spare = place / "landed", place / "spare"
        points = filled(landed, fleet, DAY, list(range(DAY_MINUTES)), sizes.at_once)
        title(f"A day of {sizes.series:,} series, a point a minute")
        floor, ours = in_turn(landed, spare, sizes.rounds, DAY, end)
        line("floor: three bare GROUP BYs, landed files", points, floor)
        line("judge and roll up, landed files", points, ours, floor)
        note_bytes("landed", landed, "samples", points)
        note_bytes("roll-ups, all tiers", spare, "rollups", points)
        compaction(sizes, place, points)
        following(spare)


def compaction(sizes: Sizes, place: Path, points: int) -> None:
    """The day's files compacted, and rolled up from these."""
    packed, spare = copied(place / "landed", place / "packed"), place / "packed-spare"
    title("The same day, compacted")
    line("compact", points, measured(compacted, packed))
    floor, ours = in_turn(packed, spare, sizes.rounds, DAY, DAY + times.DAY)
    line("floor: three bare GROUP BYs, compacted files", points, floor)
    line("judge and roll up, compacted files", points, ours, floor)
    note_bytes("compacted", packed, "samples", points)
    fleet, uneven = Fleet(sizes.series // 5, uneven=True), place / "uneven"
    points = filled(uneven, fleet, DAY, list(range(DAY_MINUTES)), sizes.at_once)
    measured(compacted, uneven)
    note_bytes("compacted, uneven counters", uneven, "samples", points)


def following(home: Path) -> None:
    """The day's hourly and daily roll-ups, written to the warehouse."""
    title("The warehouse follows the day's roll-ups (rows of 1 h and 1 d in place of points)")
    if server := os.environ.get(SERVERS["gnocchi"]):
        with database(server) as url:
            measured(take_series, home, url)
            cost = measured(followed, home, url)
            line("PostgreSQL (without the server's CPU)", cost.answer, cost)
    cost = measured(followed, home)
    line("SQLite", cost.answer, cost)


@contextmanager
def database(server: str) -> Iterator[str]:
    """The URL of a new database of a PostgreSQL server, for a while."""
    from psycopg import connect

    name = "meterhouse_bench"
    with connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def live(sizes: Sizes) -> None:
    """One new point on each series of an hour that is 59/60 full."""
    fleet, first = Fleet(sizes.live_series), LIVE_HOUR - sizes.live_hours * times.HOUR
    full = sizes.live_hours * 60
    minute = full + 59
    now = first + timedelta(minutes=minute, seconds=20)
    before = [*range(0, full, 10), *range(full, minute)]
    with folder() as home:
        filled(home, fleet, first, before[:-14], 45)
        measured(compacted, home)  # files as tidying leaves them
        measured(land_hours, home, fleet, first, before[-14:], 1)
        measured(take_rest, home, [LIVE_HOUR])
        measured(roll, home, now - timedelta(minutes=1))
        title(
            f"One new point on each of {sizes.live_series:,} series, their hour 59/60 full, {sizes.live_hours} h before"
        )
        landing = measured(live_point, home, fleet, first, minute)
        catalogued = measured(catalogue, home)
        floor = measured(group_by, home, LIVE_HOUR, LIVE_HOUR + times.HOUR)
        ours = measured(roll, home, now)
        total = together(landing, catalogued, ours)
        line("floor, over the hour's files", fleet.series * 60, floor)
        for name, cost in (("land", landing), ("catalog", catalogued), ("judge and roll up", ours)):
            line(name, fleet.series, cost, floor)
        line("all three", fleet.series, total, floor)
        cost = measured(followed, home)
        line("the warehouse follows (SQLite)", cost.answer, cost)


def size(sizes: Sizes) -> None:
    """Days of several sizes."""
    title("Cost against size: days of more and more series")
    found = []
    for points in sizes.points:
        fleet = Fleet(-(-points // DAY_MINUTES))
        with folder() as place:
            made = filled(place / "landed", fleet, DAY, list(range(DAY_MINUTES)), sizes.at_once)
            cost = best([measured(roll, copied(place / "landed", place / "spare")) for _ in range(sizes.rounds)])
        line(f"judge and roll up {fleet.series:,} series", made, cost)
        found.append((made, cost.cpu))
    logarithms = np.log(np.array(found))
    exponent = float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0])
    note("CPU seconds grow with the points to the power", f"{exponent:.3f}")


def gnocchi(sizes: Sizes) -> None:
    """Gnocchi on the same points."""
    import _gnocchi

    fleet = Fleet(sizes.gnocchi_series)
    with folder() as place:
        found = _gnocchi.measure(os.environ[SERVERS["gnocchi"]], place / "gnocchi", fleet, DAY, sizes.gnocchi_minutes)
    title(f"Gnocchi {_gnocchi.VERSION}: PostgreSQL indexer, files, policy medium, two workers")
    for figures in found:
        name = "one new point on each" if figures.what == "live" else f"{sizes.gnocchi_minutes} minutes"
        cost = Cost(figures.seconds, figures.cpu, 0.0, None)
        line(f"aggregate {name}, {fleet.series:,} series", figures.points, cost)
        note("", f"{figures.points / figures.seconds:,.0f} points/s; posted in {figures.posted:.1f} s")
    note("bytes a point", f"{found[0].bytes / found[0].points:.2f}")


def victoria(sizes: Sizes) -> None:
    """VictoriaMetrics on the same points."""
    import _victoria

    figures = _victoria.Victoria(os.environ[SERVERS["victoria"]]).measure(Fleet(sizes.series), DAY)
    title(f"VictoriaMetrics: a day of {sizes.series:,} series, a point a minute")
    line("import of JSON lines", figures.points, Cost(*figures.imported, figures.peak_mb, None))
    line("hourly avg, min, max, count of all", figures.points, Cost(*figures.queried, figures.peak_mb, None))
    note("bytes a point", f"{figures.bytes / figures.points:.2f}")


PARTS: dict[str, Callable[[Sizes], None]] = {
    "day": day,
    "live": live,
    "size": size,
    "gnocchi": gnocchi,
    "victoria": victoria,
}


def main(arguments: list[str]) -> None:
    given = parsed((__doc__ or "").split("\n")[0], PARTS, Sizes.series, arguments)
    if set(given.only) & set(SERVERS):
        again_with("postgres,victoria", __file__, arguments)
    _measured.fresh = not given.quick
    sizes = QUICK if given.quick else Sizes(series=given.series)
    print(machine())
    for part in PARTS:
        if part not in given.only:
            continue
        if part in SERVERS and SERVERS[part] not in os.environ:
            print(f"\n{part}: not measured, because its server cannot be had ({SERVERS[part]} is not set)")
            continue
        try:
            PARTS[part](sizes)
        except (ImportError, RuntimeError, subprocess.CalledProcessError) as error:
            print(f"\n{part}: not measured: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
