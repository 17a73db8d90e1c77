"""Polls the instances of this host from libvirt: one meter of all of them."""

from pathlib import Path
from typing import Any, Final

from meterhouse.definitions.entries import Faults
from meterhouse.errors import near_misses
from meterhouse.polling.asking import Asking
from meterhouse.polling.kinds.libvirt.domains import Domain
from meterhouse.polling.kinds.libvirt.hypervisor import Hypervisor
from meterhouse.polling.kinds.libvirt.instances import states
from meterhouse.polling.kinds.libvirt.meters import METERS, Meter, Reading, has
from meterhouse.polling.kinds.shares import share
from meterhouse.polling.polled import Piece, Polled, Slot, WireSample
from meterhouse.polling.pollster import Source

KEYS: Final = frozenset({"libvirt", "timeout"})
"""Of an entry of pollsters.d, beside those that all kinds have."""

OPTIONS: Final = frozenset({"uri", "stopped"})
"""Of the key `libvirt`."""

TIMEOUT_SECONDS: Final = 30.0

_hypervisors: dict[str, Hypervisor] = {}
"""URI → the connection that all pollsters of this process share."""


class Instances:
    """Polls a meter of the instances on this host.

    Args:
        name: of the meter.
        meter: it.
        hypervisor: whom to ask.
        stopped: whether instances that are shut off are polled too, as far as they have the meter.
        timeout: seconds that libvirt has to answer.
    """

    def __init__(self, name: str, meter: Meter, hypervisor: Hypervisor, stopped: bool, timeout: float) -> None:
        self.name = name
        self.meter = meter
        self.hypervisor = hypervisor
        self.stopped = stopped
        self.timeout = timeout

    def size(self, asking: Asking, source: Source) -> int:
        """One: this host's libvirt, which answers for all instances at once."""
        return 1

    def poll(self, asking: Asking, slot: Slot, piece: Piece, source: Source) -> Polled:
        """Poll the instances of this piece.

        Raises:
            PollError: libvirt cannot be asked.
        """
        told = self.hypervisor.told(slot.host, asking.seconds(slot, self.timeout), asking.now)
        by_id = {domain.instance.id: domain for domain in told.domains}
        chosen = [domain for each in share(by_id, piece) if has(self.meter, domain := by_id[each], self.stopped)]
        received = told.received.replace(tzinfo=None).isoformat()
        polled = Polled(resources=len(chosen), warnings=list(told.warnings))
        untold = 0
        for domain in chosen:
            for reading in self.meter.read(domain):
                if reading.volume is None:
                    untold += 1
                    continue
                polled.samples.append(self._sample(domain, reading, received, asking.settings.sample_source))
        if told.others:
            polled.warnings.append(f"{told.others:,} domains were not made by Nova: no samples")
        if untold:
            polled.warnings.append(f"libvirt does not tell {self.name} of {untold:,} resources: no samples")
        return polled

    def _sample(self, domain: Domain, reading: Reading, received: str, source: str) -> WireSample:
        return {
            "source": source,
            "counter_name": self.name,
            "counter_type": self.meter.kind,
            "counter_unit": self.meter.unit,
            "counter_volume": reading.volume,
            "user_id": domain.instance.user_id,
            "project_id": domain.instance.project_id,
            "resource_id": reading.resource_id,
            "timestamp": received,
            "resource_metadata": {**domain.instance.metadata, **states(domain.state), **reading.metadata},
        }


def compile_poll(entry: dict[str, Any], faults: Faults, folder: Path | None) -> Instances:
    """Compile the keys of an entry of pollsters.d that are this kind's.

    Args:
        entry: its content. Its name says which meter it polls.
        faults: where faults go.
        folder: the configuration folder, which this kind does not need.
    """
    options = entry["libvirt"] or {}
    if not isinstance(options, dict):
        faults.add(("libvirt",), f"{options!r} is not a mapping of {', '.join(sorted(OPTIONS))}")
        options = {}
    for key in options.keys() - OPTIONS:
        faults.add(("libvirt", str(key)), f"is not an option of libvirt; those are {', '.join(sorted(OPTIONS))}")
    uri, stopped = options.get("uri", ""), options.get("stopped", False)
    if not isinstance(uri, str):
        faults.add(("libvirt", "uri"), f"{uri!r} is not a URI of libvirt, such as qemu:///system")
        uri = ""
    if not isinstance(stopped, bool):
        faults.add(("libvirt", "stopped"), f"{stopped!r} is neither true nor false")
    name = str(entry.get("name"))
    meter = METERS.get(name)
    if meter is None:
        near = ", ".join(near_misses(name, list(METERS)) or METERS)
        faults.add(("name",), f"libvirt has no meter '{name}'; it has {near}")
        meter = METERS["cpu"]
    timeout = entry.get("timeout", TIMEOUT_SECONDS)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        faults.add(("timeout",), f"{timeout!r} is not a number of seconds above 0")
        timeout = TIMEOUT_SECONDS
    hypervisor = _hypervisors.setdefault(uri, Hypervisor(uri))
    return Instances(name, meter, hypervisor, stopped is True, float(timeout))
