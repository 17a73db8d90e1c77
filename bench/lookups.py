"""Look-ups in raw points and events of a month, each beside bare DuckDB over the same files in the same run.

    python bench/lookups.py [DAYS [SERIES]]

The site has compacted hours: so many series (default 10,000, of three meters) with a point a minute for so many days
(default 30), and 1,500 events an hour of 10,000 resources, each of which has one in every seventh hour. To make them
takes a minute: only the times of an hour are written anew, its volumes are those of one of four hours.

- newest: the newest 100 samples of a meter, judged
- day, month: all samples of one series in a day, in all days, judged; of noisy gauges, and of counters of even growth
- points: the raw points of that series in all days, not judged
- events: the events of one resource in all days; the floor reads all events

Prints milliseconds by the clock and of CPU: the first time, with tables that are open and nothing read; the best of
three times after that; then the same of the floor: a query of the same files with the same condition, by a connection
that stays open and keeps the files' footers. It judges nothing, and removes no copies.
"""

import json
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from _points import Fleet, land
from sqlalchemy import update

from meterhouse import times
from meterhouse.archive import sample_files
from meterhouse.archive.compaction import compact
from meterhouse.archive.sample_reading import SCHEMA, TEXTS
from meterhouse.catalog import catalog
from meterhouse.filters import EVENTS, Filter
from meterhouse.queries.events import events
from meterhouse.queries.raw_points import RawPoints
from meterhouse.queries.samples import samples
from meterhouse.scopes import ALL_EVENTS, EVERYTHING
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores import page_index
from meterhouse.stores.lake import SEAL, Lake
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_statistics import statistics
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.parquet_groups import GroupWriter, Runs, smallest
from meterhouse.stores.warehouse_tables import series

DAYS, SERIES = 30, 10_000
BASES = 4
START = times.parse("2026-10-01T00:00:00")
RESOURCES, EVENTS_AN_HOUR = 10_000, 1_500


@dataclass
class Base:
    """An hour whose columns are written once, and used for many.

    Attributes:
        groups: by row group, its columns, and what is written of them.
        statistics: Delta's of the file.
    """

    groups: list[tuple[dict[str, Any], dict[str, Any], int]]
    statistics: dict[str, Any]

    @classmethod
    def of(cls, rows: pa.Table) -> "Base":
        """From the samples of an hour."""
        names, schema = SCHEMA.names, SCHEMA
        rows = rows.select(names)
        texts = [
            (name, pa.dictionary(pa.int32(), pa.string())) if name in TEXTS else schema.field(name) for name in names
        ]
        rows = rows.cast(pa.schema(texts)).combine_chunks()
        groups = [dict(group) for group in sample_files._groups(rows, sample_files._turn(rows))]
        written = [(group, *sample_files._chunks(group)) for group in groups]
        return cls(written, json.loads(statistics([rows])))

    def moved(self, lake: Lake, hour: str, by: timedelta) -> DataFile:
        """Write a file of an arrival hour, with all times later by so much."""
        path = f"arrival_hour={hour}/compacted-{uuid.uuid4().hex}-0.zstd.parquet"
        target = Path(lake.uri("samples"), path)
        target.parent.mkdir(parents=True, exist_ok=True)
        pages = page_index.Pages()
        with target.open("wb") as handle:
            writer = GroupWriter(handle, SCHEMA)
            for group, chunks, page in self.groups:
                times_of = {name: pc.add(group[name], pa.scalar(by)) for name in ("timestamp", "recorded_at")}
                made = chunks | smallest(
                    times_of, sample_files._OTHERWISE, sample_files._BOUNDED, page_index.COLUMNS, page
                )
                places = writer.add([made[name] for name in SCHEMA.names], len(group["volume"]))
                columns = {
                    name: group[name].array() if isinstance(group[name], Runs) else group[name]
                    for name in page_index.COLUMNS
                }
                pages.add(pa.table(columns), made, dict(zip(SCHEMA.names, places, strict=True)), page)
            size = writer.close({page_index.KEY: pages.index().text()})
        known = json.loads(json.dumps(self.statistics))
        for bounds in (known["minValues"], known["maxValues"]):
            for name in ("timestamp", "recorded_at"):
                bounds[name] = times.text(times.parse(bounds[name]) + by)
        return DataFile(path, size, {"arrival_hour": hour}, json.dumps(known))


def fill_samples(site: Site, days: int, fleet: Fleet) -> None:
    """Make the samples of the month, in compacted files."""
    lake = site.lake
    land(site, fleet, START, range(60), 60)
    catalog(site)
    compact(site)
    bases = [Base.of(fleet.samples(START, range(hour * 60, hour * 60 + 60))) for hour in range(BASES)]
    files = [
        bases[hour % BASES].moved(
            lake, times.arrival_hour(START + timedelta(hours=hour)), timedelta(hours=hour - hour % BASES)
        )
        for hour in range(1, days * 24)
    ]
    lake.swap("samples", lake.actions("samples").slice(0, 0), files, {SEAL: "bench"}, same_rows=True)
    with site.warehouse.begin() as connection:
        connection.execute(update(series).values(last_point_at=START + timedelta(days=days, minutes=-1)))


def fill_events(site: Site, days: int) -> None:
    """Make the events of the month: the resources have theirs one after the other."""
    lake = site.lake
    for hour in range(days * 24):
        begin = START + timedelta(hours=hour)
        lake.append("events", events_of(times.arrival_hour(begin), begin, hour))
    compact(site)


def events_of(arrival: str, begin: Any, hour: int) -> pa.Table:
    number = np.arange(EVENTS_AN_HOUR)
    resource = (number + hour * EVENTS_AN_HOUR) % RESOURCES
    made = []
    for n, r in zip(number.tolist(), resource.tolist(), strict=True):
        traits = {
            "resource_id": resource_name(r), "tenant_id": f"{r % 100:032x}", "user_id": f"{r % 300:032x}",
            "service": "compute", "state": "active", "memory_mb": "2048", "vcpus": "2", "disk_gb": "20",
            "host": f"compute-{r % 40}", "request_id": f"req-{hour:08x}-{n:012x}",
        }  # fmt: skip
        made.append({
            "arrival_hour": arrival,
            "message_id": f"{hour:08x}-0000-4000-8000-{n:012x}",
            "event_type": "compute.instance.exists" if n % 3 else "compute.instance.update",
            "generated": begin + timedelta(seconds=2 * n),
            "traits": [{"name": name, "dtype": "text", "value": value} for name, value in traits.items()],
        })  # fmt: skip
    return pa.Table.from_pylist(made, schema=TABLES["events"][0])


def resource_name(number: int) -> str:
    return f"{number * 2_654_435_761 % 2**32:08x}-5ca1-4b1e-9a5e-{number:012x}"


def cost(work: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds by the clock, and of CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - clock) * 1e3, (time.process_time() - cpu) * 1e3


def measure(name: str, work: Callable[[], Any], floor: Callable[[], Any]) -> None:
    """Print a line; both have to find as many rows."""
    first = cost(work)
    again = [cost(work) for _ in range(3)]
    cold = cost(floor)
    floors = [cost(floor) for _ in range(3)]
    rows = len(work())
    if rows != len(floor()):
        raise SystemExit(f"{name}: {rows} rows, but the floor has {len(floor())}")
    shown = [first, min(again), cold, min(floors)]
    print(f"{name:12}{rows:8,}" + "".join(f"{clock:12,.0f}{cpu:8,.0f}" for clock, cpu in shown), flush=True)


def main(days: int = DAYS, count: int = SERIES) -> None:
    fleet = Fleet(count)
    with tempfile.TemporaryDirectory() as folder:
        site = Site.open(read_settings(home=folder))
        clock = time.perf_counter()
        fill_samples(site, days, fleet)
        fill_events(site, days)
        site = Site.open(read_settings(home=folder))
        size = sum(site.lake.actions("samples")["size_bytes"].to_pylist())
        points, took = count * days * 1440, time.perf_counter() - clock
        print(f"{points:,} points in {days * 24} files, {size / points:.2f} bytes each; made in {took:.0f} s")
        end = START + timedelta(days=days)
        span, day = (START, end), (end - timedelta(days=1), end)
        bare = Bare()
        files = site.lake.files("samples")
        site.lake.actions("events")
        print(
            f"{'ms':12}{'rows':>8}"
            + f"{'first':>12}{'CPU':>8}{'again':>12}{'CPU':>8}" * 2
            + "  (the second four: floor)"
        )
        last = site.lake.files("samples", overlapping=("timestamp", [(end - times.HOUR, end)]))
        newest = "ORDER BY timestamp DESC, series_id LIMIT 100"
        measure("newest", lambda: samples(site, EVERYTHING, "cpu"), bare.query(last, ALL, "meter = 'cpu'", newest))
        for place, meter in ((0, "cpu_util"), (2, "cpu")):
            number = count // 6 * 3 + place
            one = int(fleet.ids[number])
            query = [Filter("resource", "eq", fleet.dimensions["resource_id"][number])]
            condition = f"series_id = {one}"

            def asked(of: Any, meter: str = meter, query: Any = query) -> Callable[[], pa.Table]:
                return lambda: samples(site, EVERYTHING, meter, query=query, start=of[0], end=of[1], limit=10**6)

            raw = partial(_raw, site, meter, span, one)
            print(meter)
            of_day = site.lake.files("samples", overlapping=("timestamp", [day]))
            measure("  day", asked(day), bare.query(of_day, ALL, condition))
            measure("  points", raw, bare.query(files, POINTS, condition))
            measure("  month", asked(span), bare.query(files, ALL, condition))
        name = resource_name(7)
        one_resource = [Filter("traits.resource_id", "eq", name, EVENTS)]
        found = f"list_contains(traits, {{name: 'resource_id', dtype: 'text', value: '{name}'}})"
        measure(
            "events",
            lambda: events(site, ALL_EVENTS, query=one_resource, start=span[0], end=span[1], limit=10**6),
            bare.query(site.lake.files("events"), "message_id, event_type, generated, traits", found),
        )


def _raw(site: Site, meter: str, span: Any, series_id: int) -> pa.Table:
    return RawPoints(site.lake, meter, span).read(ids=np.array([series_id]))


POINTS = "series_id, timestamp, volume, sample_id, recorded_at"
ALL = f"{POINTS}, meter, type, unit, resource_id, project_id, user_id, source"


class Bare:
    """The floor: DuckDB, which keeps the footers of the files."""

    def __init__(self) -> None:
        self.duck = duckdb.connect()
        self.duck.execute("SET TimeZone = 'UTC'")
        self.duck.execute("SET parquet_metadata_cache = true")
        self.duck.execute("SET enable_progress_bar = false")

    def query(self, files: list[str], columns: str, where: str, order: str = "") -> Callable[[], pa.Table]:
        """A query of files, to be run."""
        given = ", ".join(f"'{file}'" for file in files)
        text = f"SELECT {columns} FROM read_parquet([{given}], hive_partitioning = false) WHERE {where} {order}"
        return lambda: self.duck.sql(text).to_arrow_table()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
