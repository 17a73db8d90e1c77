"""Meters of the stream itself, for alarms on the lag of collection.

They are measured with each evaluation of alarms, if an alarm uses one of them. A site without such an alarm has none.
"""

import uuid
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from meterhouse import identity, times
from meterhouse.catalog import catalog
from meterhouse.collection.lag import Lag, measure
from meterhouse.site import Site
from meterhouse.stores.lake_tables import MEASURED, SAMPLES
from meterhouse.stores.leases import Lease

SOURCE = "meterhouse"

METERS = {
    "meterhouse.stream.messages": ("message", "Messages that wait in a queue; for a spool folder, files."),
    "meterhouse.stream.age": ("s", "How long the oldest message of a queue has waited; 0 if none waits."),
    "meterhouse.stream.rate": ("message/s", "Messages a second of the last collecting run, over all queues."),
    "meterhouse.stream.drain_time": ("s", "Time that it takes to drain all waiting messages at this rate."),
}
"""Meter → unit and description. All are gauges. The resource is the queue, or `stream` for all queues together."""

ALL_QUEUES = "stream"
WAIT_SECONDS = 10.0


def record(site: Site, meters: Iterable[str], lease: Lease) -> int:
    """Measure the stream if `meters` contains one of its meters; return the number of new samples.

    Args:
        site: the site.
        meters: the meters that are needed.
        lease: the lease of the step that needs them.

    Raises:
        MeterhouseError: the stream, the lake or the warehouse cannot be reached.
    """
    if not METERS.keys() & set(meters):
        return 0
    rows = _samples(measure(site))
    site.lake.fence(lease, "samples")
    site.lake.append("samples", rows, lease=lease)
    catalog(site, wait_seconds=WAIT_SECONDS)
    return int(rows.num_rows)


def _samples(found: Lag) -> pa.Table:
    values: list[tuple[str, str, float]] = []
    for queue in found.queues:
        values.append(("meterhouse.stream.messages", queue.place, float(queue.messages)))
        values.append(("meterhouse.stream.age", queue.place, queue.age_seconds or 0.0))
    for meter, value in (
        ("meterhouse.stream.rate", found.rate),
        ("meterhouse.stream.drain_time", found.drain_seconds),
    ):
        if value is not None:
            values.append((meter, ALL_QUEUES, value))
    moment = times.now()
    rows: list[dict[str, Any]] = []
    for meter, resource, value in values:
        dimensions = (SOURCE, meter, "gauge", METERS[meter][0], resource, None, None)
        rows.append(
            {
                "arrival_hour": times.arrival_hour(moment),
                "series_id": identity.series_id(*dimensions),
                "timestamp": moment,
                "volume": value,
                "sample_id": uuid.uuid4().int >> 65,
                "recorded_at": moment,
                **dict(
                    zip(
                        ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id"),
                        dimensions,
                        strict=True,
                    )
                ),
                "metadata_id": None,
                "origin": MEASURED,
            }
        )
    return pa.Table.from_pylist(rows, schema=SAMPLES)
