"""Reads what libvirt tells of a domain: times, memory, disks and interfaces.

Most of it comes with one call for all domains (virConnectGetAllDomainStats). What a driver leaves out there is asked
for domain by domain.
https://libvirt.org/html/libvirt-libvirt-domain.html#virConnectGetAllDomainStats
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from meterhouse.polling.kinds.libvirt.instances import Instance, instance

SHUT_OFF: Final = 5
"""VIR_DOMAIN_SHUTOFF"""


@dataclass
class Disk:
    """A disk of a domain: counters since the domain started (bytes, requests, ns), and sizes in bytes.

    A figure is None if the driver does not tell it.
    """

    device: str
    read_requests: int | None = None
    read_bytes: int | None = None
    read_ns: int | None = None
    write_requests: int | None = None
    write_bytes: int | None = None
    write_ns: int | None = None
    capacity: int | None = None
    allocation: int | None = None
    physical: int | None = None


@dataclass
class Interface:
    """An interface of a domain: who it is, and counters since the domain started, seen from the domain."""

    device: str
    mac: str
    filter: str | None
    parameters: Mapping[str, str | None]
    incoming: Mapping[str, int] = field(default_factory=dict)
    outgoing: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Domain:
    """What libvirt tells of a domain that Nova made.

    Attributes:
        instance: of Nova's.
        state: virDomainState.
        cpu_ns: processor time since the domain started.
        vcpus: virtual processors at the moment.
        memory: KiB, by libvirt's names: `actual`, `available`, `usable`, `unused`, `rss`, `swap_in`, `swap_out`.
        perf: events of the processor, by libvirt's names.
        disks: those that have a source.
        interfaces: those that have a device on the host.
    """

    instance: Instance
    state: int
    cpu_ns: int | None = None
    vcpus: int | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    perf: Mapping[str, int] = field(default_factory=dict)
    disks: list[Disk] = field(default_factory=list)
    interfaces: list[Interface] = field(default_factory=list)


def read(domain: Any, stats: Mapping[str, Any], host: str, attempt: Callable[..., Any]) -> Domain | None:
    """Read a domain; None if Nova did not make it.

    Args:
        domain: libvirt's.
        stats: of this domain, of virConnectGetAllDomainStats.
        host: that it runs on.
        attempt: calls a function of libvirt's; None if the driver does not support it.

    Raises:
        ValueError: its XML cannot be read.
    """
    uuid = domain.UUIDString()
    try:
        xml = ElementTree.fromstring(domain.XMLDesc(0))
    except ElementTree.ParseError as error:
        raise ValueError(f"its XML cannot be read: {error}") from None
    of_nova = instance(xml, domain.name(), uuid, host)
    if of_nova is None:
        return None
    state, max_memory, _, vcpus, cpu_ns = domain.info()
    found = Domain(of_nova, state)
    found.disks = [Disk(device) for device in _disks(xml)]
    if state == SHUT_OFF:
        found.vcpus, found.memory = vcpus, {"actual": max_memory}
    else:
        found.cpu_ns = _cpu_ns(stats, cpu_ns)
        found.vcpus = stats.get("vcpu.current", vcpus)
        found.memory = _memory(stats) or attempt(domain.memoryStats) or {}
        found.perf = {key.removeprefix("perf."): value for key, value in stats.items() if key.startswith("perf.")}
        found.interfaces = _interfaces(xml)
    _count_disks(found, domain, stats, attempt)
    _count_interfaces(found, domain, stats, attempt)
    return found


def _cpu_ns(stats: Mapping[str, Any], total: int) -> int:
    """The time that all virtual processors ran or waited; if libvirt does not tell of all, the domain's."""
    current = stats.get("vcpu.current")
    if not current:
        return int(stats.get("cpu.time", total))
    times = [
        stats[f"vcpu.{number}.time"] + stats[f"vcpu.{number}.wait"]
        for number in range(stats.get("vcpu.maximum", 0))
        if f"vcpu.{number}.time" in stats and f"vcpu.{number}.wait" in stats
    ]
    return int(sum(times) if len(times) == current else stats.get("cpu.time", total))


def _memory(stats: Mapping[str, Any]) -> dict[str, int]:
    found = {key.removeprefix("balloon."): value for key, value in stats.items() if key.startswith("balloon.")}
    if "current" in found:
        found["actual"] = found["current"]
    return found


def _disks(xml: Element) -> list[str]:
    disks = [disk for disk in xml.findall("devices/disk") if disk.find("source") is not None]
    targets = [disk.find("target") for disk in disks]
    return [device for target in targets if target is not None and (device := target.get("dev"))]


def _interfaces(xml: Element) -> list[Interface]:
    found = []
    for each in xml.findall("devices/interface"):
        target, mac = each.find("target"), each.find("mac")
        if target is None or mac is None or not target.get("dev"):
            continue
        of_filter, source = each.find("filterref"), each.find("source")
        port = each.find("virtualport/parameters")
        parameters: dict[str, str | None] = {
            one.get("name", "").lower(): one.get("value") for one in each.findall("filterref/parameter")
        }
        parameters["interfaceid"] = port.get("interfaceid") if port is not None else None
        parameters["bridge"] = source.get("bridge") if source is not None else None
        name = of_filter.get("filter") if of_filter is not None else None
        found.append(Interface(target.get("dev", ""), mac.get("address", ""), name, parameters))
    return found


def _groups(stats: Mapping[str, Any], group: str) -> dict[str, str]:
    """Device → the beginning of its keys: `block.0.`"""
    return {
        str(stats[key]): f"{group}.{number}."
        for number in range(int(stats.get(f"{group}.count", 0)))
        if (key := f"{group}.{number}.name") in stats
    }


def _count_disks(found: Domain, domain: Any, stats: Mapping[str, Any], attempt: Callable[..., Any]) -> None:
    groups = _groups(stats, "block")
    for disk in found.disks:
        at = groups.get(disk.device)
        if at is not None:
            disk.read_requests, disk.write_requests = stats.get(f"{at}rd.reqs"), stats.get(f"{at}wr.reqs")
            disk.read_bytes, disk.write_bytes = stats.get(f"{at}rd.bytes"), stats.get(f"{at}wr.bytes")
            disk.read_ns, disk.write_ns = stats.get(f"{at}rd.times"), stats.get(f"{at}wr.times")
            disk.capacity, disk.physical = stats.get(f"{at}capacity"), stats.get(f"{at}physical")
            disk.allocation = stats.get(f"{at}allocation")
        elif found.state != SHUT_OFF and (counters := attempt(domain.blockStats, disk.device)):
            disk.read_requests, disk.read_bytes, disk.write_requests, disk.write_bytes = counters[:4]
            more = attempt(domain.blockStatsFlags, disk.device, 0) or {}
            disk.read_ns, disk.write_ns = more.get("rd_total_times"), more.get("wr_total_times")
        if disk.physical is None and (sizes := attempt(domain.blockInfo, disk.device)):
            disk.capacity, disk.allocation, disk.physical = sizes
        if disk.capacity is not None and disk.physical is not None:
            disk.capacity = max(disk.capacity, disk.physical)  # libvirt rounds that of a CD down


def _count_interfaces(found: Domain, domain: Any, stats: Mapping[str, Any], attempt: Callable[..., Any]) -> None:
    groups = _groups(stats, "net")
    for one in found.interfaces:
        at = groups.get(one.device)
        if at is not None and f"{at}rx.bytes" in stats:
            both = [{name: stats.get(f"{at}{way}.{key}", 0) for name, key in _COUNTERS.items()} for way in ("rx", "tx")]
        elif counters := attempt(domain.interfaceStats, one.device):
            both = [dict(zip(_COUNTERS, counters[at : at + 4], strict=True)) for at in (0, 4)]
        else:
            continue
        one.incoming, one.outgoing = both


_COUNTERS: Final = {"bytes": "bytes", "packets": "pkts", "error": "errs", "drop": "drop"}
"""Meterhouse's name of a counter → libvirt's, in the order of virDomainInterfaceStats."""
