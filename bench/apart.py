"""Event hours that lie apart: hours of one point a day, judged and rolled up, beside as many hours in a row.

Prints hours/s of both, in the same run. Each hour has one point of each series, half of them counters.
"""

import resource
import sys
import tempfile
import time
from datetime import datetime, timedelta

import pyarrow as pa

from meterhouse import identity, times
from meterhouse.catalog import catalog
from meterhouse.rollups.step import roll_up
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES

HOURS, SERIES = 365, 4


def land(site: Site, moments: list[datetime]) -> None:
    """Append a point of each series at each moment, as one file that arrives now."""
    arrival, made = times.now(), []
    for number in range(SERIES):
        meter, kind = ("cpu", "cumulative") if number % 2 else ("cpu_util", "gauge")
        series_id = identity.series_id("openstack", meter, kind, "u", f"r{number}", "p", "u")
        for n, moment in enumerate(moments):
            made.append(
                {
                    "arrival_hour": times.arrival_hour(arrival),
                    "series_id": series_id,
                    "timestamp": moment,
                    "volume": float(n % 90),
                    "sample_id": n * SERIES + number,
                    "recorded_at": arrival,
                    "source": "openstack",
                    "meter": meter,
                    "type": kind,
                    "unit": "u",
                    "resource_id": f"r{number}",
                    "project_id": "p",
                    "user_id": "u",
                    "metadata_id": None,
                }
            )
    site.lake.append("samples", pa.Table.from_pylist(made, schema=SAMPLES))
    catalog(site)


def seconds(hours: int, apart: timedelta) -> float:
    """How long quality and roll-ups take for hours at this distance."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site.open(read_settings(home=folder))
        last = times.hour_of(times.now()) - timedelta(days=3)
        land(site, [last - n * apart for n in range(hours)])
        clock = time.perf_counter()
        roll_up(site)
        return time.perf_counter() - clock


def main(hours: int = HOURS) -> None:
    seconds(2, times.HOUR)  # the first run of a process loads what all need
    row = seconds(hours, times.HOUR)
    apart = seconds(hours, times.DAY)
    print(f"{hours} event hours of {SERIES} points, judged and rolled up")
    print(f"{'':24}{'seconds':>9}{'hours/s':>10}")
    for name, taken in (("floor: hours in a row", row), ("one hour a day", apart)):
        print(f"{name:24}{taken:9.2f}{hours / taken:10.0f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"hours that lie apart take {apart / row:.1f} times as long; at most {peak:,.0f} MB")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
