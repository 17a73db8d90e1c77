"""Roll-up: a day of points judged and rolled up, beside a bare DuckDB GROUP BY of the same files in the same run.

Prints points/s. The bare query makes the same three granularities with count, sum, min, max and sum of squares, but
judges nothing, removes no duplicate, knows no counter and writes nothing.
"""

import sys
import tempfile
import time
from datetime import timedelta

import numpy as np
import pyarrow as pa

from meterhouse import times
from meterhouse.catalog import catalog
from meterhouse.rollups.step import GRANULARITIES, roll_up
from meterhouse.sample_quality.step import judge_hours
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_tables import SAMPLES

SERIES, CADENCE = 2_000, 60


def land(lake: Lake, hour: int, series: int) -> int:
    """Append an hour of points, half gauges and half counters, in order of arrival; return how many."""
    start = times.day_start(times.now().date()) - timedelta(days=1) + timedelta(hours=hour)
    steps = np.arange(3600 // CADENCE)
    number = np.tile(np.arange(series), len(steps))
    seconds = np.repeat(steps * CADENCE, series)
    counter = number % 2 == 1
    noise = np.random.default_rng(hour).uniform(0, 100, len(number)).round(2)
    volume = np.where(counter, (hour * 3600.0 + seconds) * 1e6 + number, noise)
    instants = pa.array((int(start.timestamp()) + seconds) * 1_000_000, pa.int64()).cast(
        SAMPLES.field("timestamp").type
    )
    count = len(number)

    def text(values: "np.ndarray[tuple[int], np.dtype[np.str_]]") -> pa.Array:
        return pa.array(values, pa.string())

    columns = {
        "arrival_hour": pa.array([times.arrival_hour(start)] * count),
        "series_id": pa.array(number, pa.int64()),
        "timestamp": instants,
        "volume": pa.array(volume, pa.float64()),
        "sample_id": pa.array(np.arange(count) + hour * count, pa.int64()),
        "recorded_at": instants,
        "source": pa.array(["openstack"] * count),
        "meter": text(np.where(counter, "cpu", "cpu_util")),
        "type": text(np.where(counter, "cumulative", "gauge")),
        "unit": text(np.where(counter, "ns", "%")),
        "resource_id": text(np.char.add("resource-", number.astype(str))),
        "project_id": text(np.char.add("project-", (number % 20).astype(str))),
        "user_id": pa.nulls(count, pa.string()),
        "metadata_id": pa.nulls(count, pa.int64()),
    }
    lake.append("samples", pa.table(columns))
    return count


def bare(lake: Lake) -> float:
    """Seconds of the bare query over the same files."""
    with lake.connect() as duck:
        lake.view(duck, "samples", lake.files("samples"))
        clock = time.perf_counter()
        for seconds in GRANULARITIES:
            duck.execute(
                "CREATE OR REPLACE TEMP TABLE made AS "
                f"SELECT series_id, epoch_us(timestamp) // {seconds * 1_000_000} AS bucket, "
                "count(*), sum(volume), min(volume), max(volume), sum(volume * volume) FROM samples GROUP BY ALL"
            )
        return time.perf_counter() - clock


def main(series: int = SERIES) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site.open(read_settings(home=folder))
        points = sum(land(site.lake, hour, series) for hour in range(24))
        catalog(site)
        floor = bare(site.lake)
        judged, rolled = judge_hours(site), roll_up(site)
    print(f"{points:,} points of {series:,} series, a day at {CADENCE} s; {rolled.rows:,} roll-ups")
    print(f"{'':28}{'seconds':>9}{'M points/s':>12}")
    whole = judged.seconds + rolled.seconds
    for name, seconds in (
        ("floor: bare GROUP BY", floor),
        ("judge", judged.seconds),
        ("roll up", rolled.seconds),
        ("quality and roll-ups", whole),
    ):
        print(f"{name:28}{seconds:9.2f}{points / seconds / 1e6:12.2f}")
    print(f"quality and roll-ups take {whole / floor:.1f} times the floor")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
