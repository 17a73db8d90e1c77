"""The meters of instances: Ceilometer's names, types, units and ids of resources."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from meterhouse.polling.kinds.libvirt.domains import SHUT_OFF, Disk, Domain, Interface


class Reading(NamedTuple):
    """A figure of a resource; None if libvirt does not tell it."""

    resource_id: str
    volume: float | None
    metadata: Mapping[str, Any]


Read = Callable[[Domain], Iterator[Reading]]


@dataclass(frozen=True)
class Meter:
    """A meter of instances.

    Attributes:
        kind: cumulative or gauge.
        unit: as samples have it.
        of_stopped: whether instances that are shut off have it: `never`, `always`, or if the pollster `asks` for it.
        read: its readings of a domain.
    """

    kind: Literal["cumulative", "gauge"]
    unit: str
    of_stopped: Literal["never", "asked", "always"]
    read: Read


def _of_instance(figure: Callable[[Domain], float | None]) -> Read:
    def read(domain: Domain) -> Iterator[Reading]:
        yield Reading(domain.instance.id, figure(domain), {})

    return read


def _cpu(domain: Domain) -> Iterator[Reading]:
    yield Reading(domain.instance.id, domain.cpu_ns, {"cpu_number": domain.vcpus})


def _of_disk(figure: Callable[[Disk], int | None]) -> Read:
    def read(domain: Domain) -> Iterator[Reading]:
        for disk in domain.disks:
            yield Reading(f"{domain.instance.id}-{disk.device}", figure(disk), {"disk_name": disk.device})

    return read


def _of_interface(figure: Callable[[Interface], int | None]) -> Read:
    def read(domain: Domain) -> Iterator[Reading]:
        for one in domain.interfaces:
            own = f"{domain.instance.domain}-{domain.instance.id}-{one.device}"
            about = {"name": one.device, "mac": one.mac, "fref": one.filter, "parameters": dict(one.parameters)}
            about["vnic_name"] = one.filter or one.device
            yield Reading(one.filter or own, figure(one), about)

    return read


def _mib(domain: Domain, key: str) -> float | None:
    kib = domain.memory.get(key)
    return None if kib is None else kib / 1024


def _used_mib(domain: Domain) -> float | None:
    """What the instance's system uses; None without the balloon driver in it."""
    available, usable = domain.memory.get("available"), domain.memory.get("usable")
    left = domain.memory.get("unused") if usable is None else usable
    return None if available is None or left is None else (available - left) / 1024


def _swap_mib(domain: Domain, key: str) -> float | None:
    return _mib(domain, key) if {"swap_in", "swap_out"} <= domain.memory.keys() else None


METERS: Final[Mapping[str, Meter]] = {
    "cpu": Meter("cumulative", "ns", "never", _cpu),
    "vcpus": Meter("gauge", "vcpu", "asked", _of_instance(lambda d: d.vcpus)),
    "power.state": Meter("gauge", "", "asked", _of_instance(lambda d: d.state)),
    "memory": Meter("gauge", "MiB", "asked", _of_instance(lambda d: _mib(d, "actual"))),
    "memory.available": Meter("gauge", "MiB", "never", _of_instance(lambda d: _mib(d, "available"))),
    "memory.usage": Meter("gauge", "MiB", "never", _of_instance(_used_mib)),
    "memory.resident": Meter("gauge", "MiB", "never", _of_instance(lambda d: _mib(d, "rss"))),
    "memory.swap.in": Meter("cumulative", "MiB", "never", _of_instance(lambda d: _swap_mib(d, "swap_in"))),
    "memory.swap.out": Meter("cumulative", "MiB", "never", _of_instance(lambda d: _swap_mib(d, "swap_out"))),
    "perf.cpu.cycles": Meter("gauge", "", "never", _of_instance(lambda d: d.perf.get("cpu_cycles"))),
    "perf.instructions": Meter("gauge", "", "never", _of_instance(lambda d: d.perf.get("instructions"))),
    "perf.cache.references": Meter("gauge", "", "never", _of_instance(lambda d: d.perf.get("cache_references"))),
    "perf.cache.misses": Meter("gauge", "", "never", _of_instance(lambda d: d.perf.get("cache_misses"))),
    "disk.root.size": Meter("gauge", "GiB", "always", _of_instance(lambda d: d.instance.metadata["root_gb"])),
    "disk.ephemeral.size": Meter("gauge", "GiB", "always", _of_instance(lambda d: d.instance.flavor["ephemeral"])),
    "disk.device.read.requests": Meter("cumulative", "request", "never", _of_disk(lambda disk: disk.read_requests)),
    "disk.device.read.bytes": Meter("cumulative", "B", "never", _of_disk(lambda disk: disk.read_bytes)),
    "disk.device.read.latency": Meter("cumulative", "ns", "never", _of_disk(lambda disk: disk.read_ns)),
    "disk.device.write.requests": Meter("cumulative", "request", "never", _of_disk(lambda disk: disk.write_requests)),
    "disk.device.write.bytes": Meter("cumulative", "B", "never", _of_disk(lambda disk: disk.write_bytes)),
    "disk.device.write.latency": Meter("cumulative", "ns", "never", _of_disk(lambda disk: disk.write_ns)),
    "disk.device.capacity": Meter("gauge", "B", "asked", _of_disk(lambda disk: disk.capacity)),
    "disk.device.allocation": Meter("gauge", "B", "asked", _of_disk(lambda disk: disk.allocation)),
    "disk.device.usage": Meter("gauge", "B", "asked", _of_disk(lambda disk: disk.physical)),
    "network.incoming.bytes": Meter("cumulative", "B", "never", _of_interface(lambda one: one.incoming.get("bytes"))),
    "network.incoming.packets": Meter(
        "cumulative", "packet", "never", _of_interface(lambda one: one.incoming.get("packets"))
    ),
    "network.incoming.packets.drop": Meter(
        "cumulative", "packet", "never", _of_interface(lambda one: one.incoming.get("drop"))
    ),
    "network.incoming.packets.error": Meter(
        "cumulative", "packet", "never", _of_interface(lambda one: one.incoming.get("error"))
    ),
    "network.outgoing.bytes": Meter("cumulative", "B", "never", _of_interface(lambda one: one.outgoing.get("bytes"))),
    "network.outgoing.packets": Meter(
        "cumulative", "packet", "never", _of_interface(lambda one: one.outgoing.get("packets"))
    ),
    "network.outgoing.packets.drop": Meter(
        "cumulative", "packet", "never", _of_interface(lambda one: one.outgoing.get("drop"))
    ),
    "network.outgoing.packets.error": Meter(
        "cumulative", "packet", "never", _of_interface(lambda one: one.outgoing.get("error"))
    ),
}
"""What libvirt tells of instances. Its deltas and rates are not here: whoever needs them makes them of the counters."""


def has(meter: Meter, domain: Domain, stopped: bool) -> bool:
    """Whether a domain has readings of a meter; `stopped`: the pollster asks for instances that are shut off too."""
    if domain.state != SHUT_OFF or meter.of_stopped == "always":
        return True
    return stopped and meter.of_stopped == "asked"
