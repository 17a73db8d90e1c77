"""Meters of the stream itself, for alarms on the lag of collection.

They are measured with each evaluation of alarms, if an alarm uses one of them. A site without such an alarm has none.
"""

from collections.abc import Iterable, Iterator

from meterhouse.collection.lag import Lag, measure
from meterhouse.collection.measured_samples import Measured, store
from meterhouse.site import Site
from meterhouse.stores.leases import Lease

METERS = {
    "meterhouse.stream.messages": ("message", "Messages that wait in a queue; for a spool folder, files."),
    "meterhouse.stream.age": ("s", "How long the oldest message of a queue has waited; 0 if none waits."),
    "meterhouse.stream.rate": ("message/s", "Messages a second of the last collecting run, over all queues."),
    "meterhouse.stream.drain_time": ("s", "Time that it takes to drain all waiting messages at this rate."),
}
"""Meter → unit and description. All are gauges. The resource is the queue, or `stream` for all queues together."""

ALL_QUEUES = "stream"


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
    return store(site, _values(measure(site)), lease)


def _values(found: Lag) -> Iterator[Measured]:
    for queue in found.queues:
        yield _of("meterhouse.stream.messages", queue.place, float(queue.messages))
        yield _of("meterhouse.stream.age", queue.place, queue.age_seconds or 0.0)
    for meter, value in (
        ("meterhouse.stream.rate", found.rate),
        ("meterhouse.stream.drain_time", found.drain_seconds),
    ):
        if value is not None:
            yield _of(meter, ALL_QUEUES, value)


def _of(meter: str, resource_id: str, value: float) -> Measured:
    return Measured(meter, METERS[meter][0], resource_id, value)
