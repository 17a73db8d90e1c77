"""The meter `poll.late`, for alarms on polling that does not keep up.

It is measured with each evaluation of alarms, if an alarm uses it. So no member has to be alive for it. A site without
such an alarm has none.
"""

from collections.abc import Iterable

from meterhouse.collection.measured_samples import Measured, store
from meterhouse.polling.lateness import lateness
from meterhouse.site import Site
from meterhouse.stores.leases import Lease

LATE = "poll.late"

METERS = {LATE: ("interval", "Whole intervals since the last slot that was completely polled; 0 if polling keeps up.")}
"""Meter → unit and description. The resource is `source/pollster`; for pollsters of hosts `source/pollster/host`."""


def record(site: Site, meters: Iterable[str], lease: Lease) -> int:
    """Measure the lateness of polling if `meters` contains its meter; return the number of new samples.

    Args:
        site: the site.
        meters: the meters that are needed.
        lease: the lease of the step that needs them.

    Raises:
        MeterhouseError: the lake or the warehouse cannot be reached.
    """
    if LATE not in set(meters):
        return 0
    unit, _ = METERS[LATE]
    return store(site, (Measured(LATE, unit, each.name, float(each.intervals)) for each in lateness(site)), lease)
