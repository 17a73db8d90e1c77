"""Samples of what Meterhouse measures of itself, for alarms: gauges with the source `meterhouse`."""

import uuid
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from meterhouse import identity, times
from meterhouse.catalog import catalog
from meterhouse.site import Site
from meterhouse.stores.lake_tables import MEASURED, SAMPLES
from meterhouse.stores.leases import Lease

SOURCE = "meterhouse"
WAIT_SECONDS = 10.0
_DIMENSIONS = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")


class Measured(NamedTuple):
    """A value that was measured just now."""

    meter: str
    unit: str
    resource_id: str
    volume: float


def store(site: Site, values: Iterable[Measured], lease: Lease) -> int:
    """Add values to the samples and to the catalog; return how many.

    Args:
        site: the site.
        values: what was measured.
        lease: the lease of the step that needs them.

    Raises:
        MeterhouseError: the lake or the warehouse cannot be reached.
    """
    rows = _samples(values)
    if not rows.num_rows:
        return 0
    site.lake.fence(lease, "samples")
    site.lake.append("samples", rows, lease=lease)
    catalog(site, wait_seconds=WAIT_SECONDS)
    return int(rows.num_rows)


def _samples(values: Iterable[Measured]) -> pa.Table:
    moment = times.now()
    rows = []
    for value in values:
        dimensions = (SOURCE, value.meter, "gauge", value.unit, value.resource_id, None, None)
        rows.append(
            {
                "arrival_hour": times.arrival_hour(moment),
                "series_id": identity.series_id(*dimensions),
                "timestamp": moment,
                "volume": value.volume,
                "sample_id": uuid.uuid4().int >> 65,
                "recorded_at": moment,
                **dict(zip(_DIMENSIONS, dimensions, strict=True)),
                "metadata_id": None,
                "origin": MEASURED,
            }
        )
    return pa.Table.from_pylist(rows, schema=SAMPLES)
