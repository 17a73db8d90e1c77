"""Seconds of each report over a month of 10,000 resources, in SQLite and, if a server can be had, in PostgreSQL.

    python bench/reports.py [--resources N] [--only REPORT,…]

The warehouse has what a month of such a cloud leaves in it: periods, series, daily roll-ups and their hours' states, of
half as many instances, and of volumes, addresses and images. Each line is the least of three times by the clock, in one
process, after one that does not count. PostgreSQL's is METERHOUSE_TEST_POSTGRES_URL.
"""

import argparse
import itertools
import math
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from sqlalchemy import create_engine, text

from meterhouse import times
from meterhouse.queries import reports
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.warehouse_partitions import make_room
from meterhouse.stores.warehouse_tables import daily

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 31
PROJECTS = 200
TIME = pa.timestamp("us", "UTC")
SECOND = 1_000_000
COUNTERS = (
    ("cpu", "ns"),
    ("disk.device.read.bytes", "B"),
    ("disk.device.write.bytes", "B"),
    ("network.incoming.bytes", "B"),
    ("network.outgoing.bytes", "B"),
)
GAUGES = (("vcpus", "vcpu"), ("memory", "MiB"), ("memory.usage", "MiB"), ("disk.root.size", "GiB"), ("cpu_util", "%"))
SIZES = ((1, 2048, 20), (2, 4096, 40), (4, 8192, 80), (8, 16384, 160))


def periods(resources: int) -> pa.Table:
    """A period of each resource, and a second one of each fifth instance, which was resized."""
    chance = np.random.default_rng(13)
    begun, month = times.micros(START), (times.micros(END) - times.micros(START)) // SECOND
    rows: list[dict[str, object]] = []
    for number in range(resources):
        kind = ("instance", "volume", "instance", "volume", "floating_ip")[number % 5]
        started = begun + int(chance.integers(-month, month)) * SECOND + int(chance.integers(SECOND))
        ended = started + int(chance.integers(month)) * SECOND if number % 4 == 0 else None
        row: dict[str, object] = {
            "resource_type": kind,
            "resource_id": f"{kind}-{number}",
            "source": "openstack",
            "project_id": f"project-{number // 5 % PROJECTS}",
            "user_id": f"user-{number % 999}",
            "name": f"{kind} {number}",
            "zone": f"az{number % 3}",
            "state": "active" if kind == "instance" else "available",
            "unconfirmed": number % 50 == 0,
            "confirmed_by": "events" if number % 50 == 0 else "events,polls",
        }
        cuts = [started, ended]
        if kind == "instance" and number % 5 == 0:
            cuts.insert(1, started + ((ended or begun + month * SECOND) - started) // 2)
        for place, (since, until) in enumerate(itertools.pairwise(cuts)):
            vcpus, memory, root = SIZES[(number + place) % len(SIZES)]
            sizes = (
                {"flavor": f"m1.{vcpus}", "host": f"node-{number % 90}", "vcpus": vcpus, "memory_mib": memory}
                if kind == "instance"
                else {"size_gib": float(root)} | {"state": "in-use" if number % 3 else "available"}
            )
            rows.append(row | sizes | {"started_at": since, "ended_at": until})
    table = pa.Table.from_pylist(rows, schema=_periods_schema())
    witnessed = {
        "start_witness": pa.array(["event"] * len(table)),
        "start_earliest": table["started_at"],
        "start_latest": table["started_at"],
        "confirmed_until": pa.array([times.micros(END)] * len(table), TIME),
    }
    for name, column in witnessed.items():
        table = table.append_column(name, column)
    return table


def _periods_schema() -> pa.Schema:
    texts = (*("resource_type", "resource_id", "source", "project_id", "user_id", "name", "zone", "state"),)
    texts += ("confirmed_by", "flavor", "host")
    return pa.schema(
        [(name, pa.string()) for name in texts]
        + [("vcpus", pa.float64()), ("memory_mib", pa.float64()), ("size_gib", pa.float64())]
        + [("unconfirmed", pa.bool_()), ("started_at", TIME), ("ended_at", TIME)]
    )


def series(resources: int) -> pa.Table:
    """Counters and gauges of the instances, sizes of the volumes."""
    rows: list[dict[str, object]] = []
    for number in range(resources):
        shared = {
            "source": "openstack",
            "project_id": f"project-{number // 5 % PROJECTS}",
            "user_id": f"user-{number % 999}",
        }
        if number % 5 in (0, 2):
            for meter, unit in (*COUNTERS, *GAUGES):
                kind = "cumulative" if (meter, unit) in COUNTERS else "gauge"
                rows.append({**shared, "meter": meter, "unit": unit, "type": kind, "resource_id": f"instance-{number}"})
        elif number % 5 in (1, 3):
            rows.append(
                {**shared, "meter": "volume.size", "unit": "GiB", "type": "gauge", "resource_id": f"volume-{number}"}
            )
    table = pa.Table.from_pylist(rows)
    ids = np.random.default_rng(7).permutation(2**40 // max(len(rows), 1) * np.arange(len(rows), dtype=np.int64))
    table = table.append_column("series_id", pa.array(ids))
    for name, moment in (("first_point_at", START), ("last_point_at", END)):
        table = table.append_column(name, pa.array([moment] * len(table), TIME))
    return table


def days_of(listed: pa.Table, day: int) -> pa.Table:
    """The daily roll-ups of a day."""
    count = len(listed)
    chance = np.random.default_rng(day)
    order = np.argsort(np.asarray(listed["series_id"]))
    counter = np.asarray(listed["type"].to_pylist())[order] == "cumulative"
    is_cpu = np.asarray(listed["meter"].to_pylist())[order] == "cpu"
    values = chance.uniform(0, 100, count)
    increase = values * np.where(is_cpu, 1.5 * 86_400e9 / 100, 1e9)  # of the CPU, 1.5 vCPUs at most
    bucket = pa.array(np.full(count, times.micros(START) + day * 86_400 * SECOND), pa.int64()).cast(TIME)
    columns: dict[str, pa.Array] = {
        "bucket": bucket,
        "series_id": pa.array(np.asarray(listed["series_id"])[order]),
        "count": pa.array(np.full(count, 288)),
        "excluded": pa.array((chance.uniform(size=count) < 0.001).astype(np.int64)),
        "increase": pa.array(increase, mask=~counter),
        "resets": pa.array(np.zeros(count, np.int64), mask=~counter),
        "first_at": bucket,
        "last_at": bucket,
    }
    for name in ("sum", "min", "max", "sum_squares", "first", "last", "p50", "p95", "p99"):
        columns[name] = pa.array(values * (288 if name == "sum" else 1))
    return pa.table(columns)


def fill(site: Site, resources: int) -> None:
    """Fill an empty warehouse."""
    listed = series(resources)
    hours = pa.array([times.micros(START) + hour * 3600 * SECOND for hour in range(DAYS * 24)], pa.int64()).cast(TIME)
    ones, zeros = (pa.array(np.full(len(hours), value)) for value in (1, 0))
    with site.warehouse.begin() as connection:
        bulk_insert(connection, "resource_periods", periods(resources))
        bulk_insert(connection, "series", listed)
        states = {"marks": ones, "judged_marks": ones, "rolled_marks": ones, "late": zeros}
        bulk_insert(connection, "dirty_hours", pa.table({"hour": hours, "marked_at": hours, **states}))
        make_room(connection, daily, [START, END])
    for day in range(DAYS):
        with site.warehouse.begin() as connection:
            if site.warehouse.is_sqlite:
                rows = days_of(listed, day)
                for name in ("first_at", "last_at"):
                    rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(pa.int64()))
            else:
                rows = days_of(listed, day)
            bulk_insert(connection, "rollup_1d_rows", rows)


def measured(site: Site, names: list[str]) -> Iterator[tuple[str, float, int]]:
    """Report, least seconds, rows."""
    for name in names:
        best, rows = math.inf, 0
        for attempt in range(4):
            clock = time.perf_counter()
            found = reports.columns(site, name, START, END)
            if attempt:
                best = min(best, time.perf_counter() - clock)
            rows = len(next(iter(found.values()), []))
        yield name, best, rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resources", type=int, default=10_000)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else reports.names()
    urls = {"SQLite": ""}
    if server := os.environ.get("METERHOUSE_TEST_POSTGRES_URL"):
        urls["PostgreSQL"] = server
    for title, url in urls.items():
        with tempfile.TemporaryDirectory() as home:
            database = f"bench_reports_{os.getpid()}"
            engine = create_engine(url, isolation_level="AUTOCOMMIT") if url else None
            if engine is not None:
                with engine.connect() as connection:
                    connection.execute(text(f"CREATE DATABASE {database}"))
                url = url.rpartition("/")[0] + f"/{database}"
            try:
                site = Site.open(read_settings(home=Path(home), warehouse_url=url))
                if engine is not None:
                    site.warehouse.migrate()
                fill(site, asked.resources)
                if engine is not None:  # PostgreSQL's does this on its own
                    with site.warehouse._raw() as connection:
                        connection.execute(text("VACUUM ANALYZE"))
                for name, seconds, rows in measured(site, names):
                    print(f"{title:12}{name:32}{seconds:8.3f} s{rows:8} rows", flush=True)
            finally:
                site.warehouse.engine.dispose()
                if engine is not None:
                    with engine.connect() as connection:
                        connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))


if __name__ == "__main__":
    main()
