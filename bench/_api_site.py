"""The site of the API's benchmark: a month of hourly roll-ups, raw points of its last days, many resources."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from _measured import Clock, measured
from _points import CADENCE, Fleet, land

from meterhouse import history, times
from meterhouse.archive.compaction import compact
from meterhouse.catalog import FOLLOWER, TABLE, catalog, lock_catalog, mark_dirty
from meterhouse.rollups.following import follow
from meterhouse.rollups.step import roll_up
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.bulk import upsert
from meterhouse.stores.lake import SEAL
from meterhouse.stores.lake_tables import SAMPLES
from meterhouse.stores.warehouse_tables import resource_metadata
from meterhouse.stores.warehouse_tables import series as series_table

START = datetime(2026, 10, 25, tzinfo=UTC)
IMAGES = "image.size"
"""The meter of the resources of which there are many."""

HOUR_MINUTES = 3_600 // CADENCE
DAY_MINUTES = 24 * HOUR_MINUTES


@dataclass(frozen=True)
class Sizes:
    """How much there is.

    Attributes:
        series: a third of them of each of three meters.
        days: of roll-ups.
        raw_days: of points a minute apart, at the end; before, there was a point an hour.
        resources: with one point each.
    """

    series: int = 10_000
    days: int = 30
    raw_days: int = 2
    resources: int = 100_000

    @property
    def raw_start(self) -> datetime:
        """From when on there are raw points."""
        return START + (self.days - self.raw_days) * times.DAY

    @property
    def end(self) -> datetime:
        """When the points end."""
        return START + self.days * times.DAY


def build(home: Path, sizes: Sizes, warehouse_url: str = "") -> None:
    """Make the site, unless the folder has it already."""
    done = home / "built"
    if done.exists():
        return
    measured(_land, home, sizes, warehouse_url)
    measured(_compute, home, sizes, warehouse_url)
    done.touch()


def opened(home: Path, warehouse_url: str = "") -> Site:
    """The site in a folder."""
    return Site.open(read_settings(home=home, warehouse_url=warehouse_url))


def _land(clock: Clock, home: Path, sizes: Sizes, warehouse_url: str) -> None:
    site, fleet = opened(home, warehouse_url), Fleet(sizes.series)
    last = sizes.days * DAY_MINUTES
    raw = last - sizes.raw_days * DAY_MINUTES
    land(site, fleet, START, [0], 1)
    catalog(site)
    land(site, fleet, START, range(HOUR_MINUTES, raw, HOUR_MINUTES), 1)
    land(site, fleet, START, range(raw, last), HOUR_MINUTES)
    hours = [START + hour * times.HOUR for hour in range(sizes.days * 24)]
    with site.warehouse.lease("catalog") as lease, lease.begin() as connection:
        lock_catalog(connection)
        connection.execute(series_table.update().values(last_point_at=sizes.end - timedelta(seconds=CADENCE)))
        mark_dirty(connection, hours, "new points")
        history.record_position(connection, FOLLOWER, history.position(site.lake, TABLE, site.lake.version(TABLE)))
        ids = range(max(sizes.series // 3 + 1, sizes.resources))
        upsert(
            connection,
            resource_metadata,
            pa.table({"metadata_id": pa.array(ids, pa.int64()), "metadata": [_metadata(number) for number in ids]}),
        )
    site.lake.append(TABLE, _images(sizes))
    catalog(site)


def _metadata(number: int) -> str:
    flavor = ("m1.tiny", "m1.small", "m1.large")[number % 3]
    return orjson.dumps(
        {
            "display_name": f"server-{number}",
            "flavor": {"name": flavor, "vcpus": 1 << number % 3},
            "host": f"compute-{number % 50:02}",
            "status": "active",
            "server_group": f"group-{number % 20}",
        }
    ).decode()


def _images(sizes: Sizes) -> pa.Table:
    """A point of each of many resources, spread over the last raw hour."""
    from meterhouse import identity

    numbers = np.arange(sizes.resources)
    resources = [f"{number * 2_654_435_761 % 2**32:08x}-1111-4b1e-9a5e-{number:012x}" for number in numbers.tolist()]
    projects = [f"{number % 200:032x}" for number in numbers.tolist()]
    users = [f"{number % 500:032x}" for number in numbers.tolist()]
    moments = times.micros(sizes.end - times.HOUR) + numbers * (3_600_000_000 // sizes.resources)
    keys = zip(resources, projects, users, strict=True)
    columns = {
        "arrival_hour": [times.arrival_hour(sizes.end - times.HOUR)] * len(numbers),
        "series_id": [identity.series_id("openstack", IMAGES, "gauge", "B", *key) for key in keys],
        "timestamp": pa.array(moments, SAMPLES.field("timestamp").type),
        "volume": (numbers * 1_000.0),
        "sample_id": numbers,
        "recorded_at": pa.array(moments + 3_000_000, SAMPLES.field("recorded_at").type),
        "source": ["openstack"] * len(numbers),
        "meter": [IMAGES] * len(numbers),
        "type": ["gauge"] * len(numbers),
        "unit": ["B"] * len(numbers),
        "resource_id": resources,
        "project_id": projects,
        "user_id": users,
        "metadata_id": numbers,
        "origin": ["notification"] * len(numbers),
    }
    return pa.table({name: pa.array(columns[name], SAMPLES.field(name).type) for name in SAMPLES.names})


def _compute(clock: Clock, home: Path, sizes: Sizes, warehouse_url: str) -> None:
    site = opened(home, warehouse_url)
    roll_up(site)
    follow(site)
    lake = site.lake
    old = lake.matching(TABLE, overlapping=("timestamp", [(START, sizes.raw_start - times.HOUR)]))
    lake.swap(TABLE, old, [], {SEAL: "benchmark"}, same_rows=True)
    compact(site)
    catalog(site)
