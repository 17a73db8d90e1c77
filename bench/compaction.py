"""Compaction: hours of points that landed minute by minute, beside a plain copy of the same files in the same run.

    python bench/compaction.py [SERIES [HOURS]]

Prints points/s by the clock and by CPU, everything included (reading, sorting, writing, reading back, commit). The copy
reads all columns with pyarrow, and writes one file an hour. Then bytes a point by column: as landed, as earlier
releases sealed them, and compacted. A third of the series are noisy gauges of two decimals, a third flat, a third
counters, once of even growth, once of uneven growth. Points come with the ids of samples and jitter of their arrival.
"""

import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse import times
from meterhouse.archive.compaction import compact
from meterhouse.catalog import catalog
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_tables import SAMPLES, TIME

SERIES, HOURS = 10_000, 4

START = times.parse("2026-11-10T00:00:00")


def minute_of_points(at: datetime, series: int, counters: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> pa.Table:
    """A point of each series, as a minute's polling lands them."""
    number, rng = np.arange(series), np.random.default_rng(times.micros(at) // 60_000_000)
    kind, instant = number % 3, times.micros(at)
    noisy = rng.uniform(0, 100, series).round(2)
    volume = np.choose(kind, [noisy, (number % 9 + 1) * 1024.0, counters])
    ids = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, series)
    named = {
        "meter": ["cpu_util", "memory.usage", "cpu"],
        "type": ["gauge", "gauge", "cumulative"],
        "unit": ["%", "MB", "ns"],
    }
    columns: dict[str, pa.Array] = {
        "arrival_hour": pa.repeat(times.arrival_hour(at), series),
        "series_id": pa.array(ids),
        "timestamp": pa.array(np.full(series, instant)).cast(TIME),
        "volume": pa.array(volume),
        "sample_id": pa.array(rng.integers(-(2**63), 2**63 - 1, series)),
        "recorded_at": pa.array(np.full(series, instant + rng.integers(0, 3_000_000))).cast(TIME),
        "source": pa.repeat("openstack", series),
        **{name: pa.array(np.array(texts)[kind], pa.string()) for name, texts in named.items()},
        "resource_id": pa.array([f"resource-{n}" for n in number]),
        "project_id": pa.array([f"project-{n % 20}" for n in number]),
        "user_id": pa.nulls(series, pa.string()),
        "metadata_id": pa.nulls(series, pa.int64()),
        "origin": pa.repeat("notification", series),
    }
    return pa.table(columns, schema=SAMPLES)


def land(lake: Lake, series: int, hours: int, *, even: bool) -> int:
    """Append hours of points, a commit a minute; return how many points."""
    rng = np.random.default_rng(1)
    total = rng.integers(10**9, 10**12, series).astype(np.float64)
    for minute in range(hours * 60):
        total += 30e9 if even else rng.integers(0, 60_000_000_000, series)
        lake.append("samples", minute_of_points(START + timedelta(minutes=minute), series, total))
    return series * hours * 60


def copy(lake: Lake, target: str) -> None:
    """Read the files of each hour, and write their rows into one file."""
    for hour in sorted(set(lake.actions("samples")["partition.arrival_hour"].to_pylist())):
        files = lake.files("samples", partitions={"arrival_hour": [hour]})
        rows = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
        pq.write_table(rows, f"{target}/{hour}.parquet", compression="zstd", compression_level=3)


def sealed_before(lake: Lake, target: str) -> str:
    """Write the first hour as earlier releases sealed it; return the file's path."""
    files = lake.files("samples", partitions={"arrival_hour": [times.arrival_hour(START)]})
    made = f"{target}/sealed.parquet"
    with lake.connect() as duck:
        duck.execute(
            f"COPY (SELECT * FROM read_parquet({files}, hive_partitioning = false) "
            f"ORDER BY series_id, timestamp, sample_id) TO '{made}' "
            "(FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, ROW_GROUP_SIZE 1000000)"
        )
    return made


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


def sizes(files: list[str], points: int) -> dict[str, float]:
    """Bytes a point by column; of all files, with their footers, as `all`."""
    found = Counter[str]()
    for file in files:
        metadata = pq.read_metadata(file)
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            for place in range(group.num_columns):
                column = group.column(place)
                found[column.path_in_schema] += column.total_compressed_size
        with open(file, "rb") as handle:
            found["all"] += handle.seek(0, 2)
    return {name: size / points for name, size in found.items()}


def run(series: int, hours: int, *, even: bool) -> dict[str, dict[str, float]]:
    """Land, copy and compact; print points/s; return bytes a point by form and column."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site.open(read_settings(home=folder))
        points = land(site.lake, series, hours, even=even)
        catalog(site)
        found = {"landed": sizes(site.lake.files("samples"), points)}
        floor = cost(lambda: copy(site.lake, folder))
        found["sealed before"] = sizes([sealed_before(site.lake, folder)], points // hours)
        done = cost(lambda: compact(site))
        found["compacted"] = sizes(site.lake.files("samples"), points)
    growth = "even" if even else "uneven"
    print(f"{points:,} points of {series:,} series in {hours * 60} files, counters of {growth} growth")
    for name, (clock, cpu) in (("floor: copy", floor), ("compaction", done)):
        print(f"{name:14}{points / clock / 1e6:8.2f} M points/s{points / cpu / 1e6:8.2f} M points a CPU second")
    print(f"compaction takes {done[0] / floor[0]:.1f} times the floor by the clock, {done[1] / floor[1]:.1f} by CPU")
    return found


def main(series: int = SERIES, hours: int = HOURS) -> None:
    for even in (True, False):
        found = run(series, hours, even=even)
        print(f"{'bytes a point':16}" + "".join(f"{form:>15}" for form in found))
        for name in [*(name for name in SAMPLES.names if name != "arrival_hour"), "all"]:
            print(f"{name:16}" + "".join(f"{found[form].get(name, 0):15.3f}" for form in found))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
