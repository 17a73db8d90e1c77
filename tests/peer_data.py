"""A small fixed set of samples and events: what real peers were asked about, to compare their answers with ours.

The answers in `data/peer_answers/` are of these samples and events, loaded in their order into Ceilometer 8.1.5 and
Panko 10.0.0. They name samples and events by their place in these lists, so neither order nor content may change.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from hashlib import md5
from typing import Any

START = datetime(2026, 11, 20, 10)
SERVERS = [
    ("vm-1", "p1", "u1", "web-1", "m1.small"),
    ("vm-2", "p1", "u2", "web-2", "m1.large"),
    ("vm-3", "p2", "u3", "db-1", "m1.small"),
    ("vm-4", "p3", "u1", "db-2", "m1.tiny"),
]
"""Resource, project, user, name and flavor of each server."""

TRAIT_TYPES = {"memory_mb": "int", "disk_gb": "int", "severity": "int", "size": "int", "load": "float"} | dict.fromkeys(
    ("launched_at", "deleted_at"), "datetime"
)
"""The type of each trait that is not text."""


def after(minutes: float = 0, seconds: float = 0) -> str:
    """A time after the start, as the peers write it."""
    return (START + timedelta(minutes=minutes, seconds=seconds)).isoformat()


def message_id(*parts: Any) -> str:
    """An id in the form of a UUID that depends on the parts alone."""
    text = md5("|".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def samples() -> list[dict[str, Any]]:
    """All samples, as a polling agent writes them, ordered by their time."""
    return sorted(_samples(), key=lambda each: each["timestamp"])


def _sample(
    meter: str,
    type: str,
    unit: str,
    volume: float,
    owner: tuple[str, str | None, str | None],
    when: str,
    metadata: dict[str, Any],
    source: str = "openstack",
) -> dict[str, Any]:
    resource, project, user = owner
    return {
        "source": source,
        "counter_name": meter,
        "counter_type": type,
        "counter_unit": unit,
        "counter_volume": volume,
        "resource_id": resource,
        "project_id": project,
        "user_id": user,
        "timestamp": when,
        "resource_metadata": metadata,
        "message_id": message_id(meter, *owner, when, volume, source),
    }


def _server_metadata(name: str, flavor: str, **more: Any) -> dict[str, Any]:
    return {
        "display_name": name,
        "host": "h1" if name.startswith("web") else "h2",
        "instance_type": flavor,
        "flavor": {"name": flavor, "ram": 2048, "extra": {"hw": {"cpu": "pin"}}},
        "user_metadata": {"stack": "s1" if name.startswith("web") else "s2"},
        "active": True,
        "vcpus": 2,
        "load": 0.5,
        "tags": ["a", "b"],
        **more,
    }


def _samples() -> Iterator[dict[str, Any]]:
    for number, (resource, project, user, name, flavor) in enumerate(SERVERS):
        yield from _server_samples(number, (resource, project, user), name, flavor)
    first, second = ("img-1", "p1", "u1"), ("img-2", "p2", "u3")
    cirros = {
        "name": "cirros",
        "status": "active",
        "size": 13287936,
        "properties": {"os": "linux", "arch": "x86_64"},
    }
    fedora = {"name": "fedora", "status": "saving", "size": 5, "is_public": False}
    for k in range(6):
        yield _sample("image.download", "delta", "B", 100 * (k + 1), first, after(7 * k, 5), cirros)
    for k in range(3):
        yield _sample("image.download", "delta", "B", 7.25, second, after(20 * k, 15), fedora)
    for k in range(4):  # its unit changes
        unit, metadata = "B" if k < 2 else "kB", {"display_name": "web-1"}
        yield _sample("disk.write", "gauge", unit, 1000 * (k + 1), ("vm-1", "p1", "u1"), after(12 * k, 40), metadata)
    for k in range(4):  # its owner changes
        owner = ("vol-1", "p1", "u1") if k < 2 else ("vol-1", "p2", "u3")
        status = "in-use" if k % 2 else "available"
        metadata = {"status": status, "a.b": "dotted", "x": {"y": {"z": {"w": 1}}}}
        yield _sample("volume.size", "gauge", "GB", 10 + k, owner, after(13 * k, 50), metadata)
    fan = ("node/1:fan", None, None)
    yield _sample("hw.temp", "gauge", "C", 21.5, fan, after(3, 1), {"rack": "r 1", "n": None, "empty": ""})
    yield _sample("hw.temp", "gauge", "C", 22.5, fan, after(33, 1), {"rack": "r 1"})
    yield _sample("hw.größe", "gauge", "m²", 3, ("rés ☃+&?", "p1", "u1"), after(4, 2), {"näme": "ü"})
    for when, volume in ((after(1, 0.123456), -1.5), (after(2), 0), (after(3), 1e18), (after(4), 1e-9)):
        yield _sample("odd.values", "gauge", "x", volume, ("o-1", "p2", "u3"), when, {})
    for k, (type, user) in enumerate((("gauge", "u1"), ("delta", "u1"), ("cumulative", "u2"))):
        yield _sample("two.types", type, "x", k + 1, ("o-2", "p1", user), after(5 + k), {"v": str(k + 1)})
    for k in range(3):
        yield _sample("same.time", "gauge", "u", k + 1, (f"e-{k + 1}", "p1", "u1"), after(8), {"k": k})
    for k in range(120):
        owner = (f"many-{k:03d}", "p1" if k % 2 else "p2", "u1")
        metadata = {"k": k, "kind": "odd" if k % 2 else "even"}
        yield _sample("many", "gauge", "u", k, owner, after(k // 2, 10), metadata)
    for k in range(5):  # on the boundaries of periods
        yield _sample("edges", "gauge", "u", k, ("edge-1", "p1", "u1"), after(10 * k), {"k": f"k{k}"})


def _server_samples(
    number: int, owner: tuple[str, str | None, str | None], name: str, flavor: str
) -> Iterator[dict[str, Any]]:
    metadata = _server_metadata(name, flavor)
    for k in range(12):
        yield _sample("cpu_util", "gauge", "%", 10.0 * (number + 1) + k * 1.5, owner, after(5 * k, number), metadata)
    for k in range(7):  # the counter of the first server starts again
        volume = 10**9 * (k - 4) if number == 0 and k >= 4 else 6 * 10**10 * (number + 1) * k
        resized = _server_metadata(name, flavor, vcpus=4 if k >= 5 else 2)
        yield _sample("cpu", "cumulative", "ns", volume, owner, after(10 * k, number), resized)
    for k in range(4):
        source = "dc2" if number == 3 else "openstack"
        volume = 512 + number * 100 + k
        yield _sample("memory.usage", "gauge", "MB", volume, owner, after(15 * k, 30), metadata, source)


def events() -> list[dict[str, Any]]:
    """All events: message_id, event_type, generated, and traits by their names, as values of their types."""
    return list(_events())


def _event(number: int, type: str, when: str, **traits: Any) -> dict[str, Any]:
    return {
        "message_id": message_id("event", number),
        "event_type": type,
        "generated": when,
        "traits": traits,
    }


def _events() -> Iterator[dict[str, Any]]:
    for k in range(10):
        project, user = ("p2", "u3") if k % 2 else ("p1", "u1")
        yield _event(
            k,
            "compute.instance.exists" if k % 2 else "compute.instance.create.end",
            after(6 * k, 3),
            service=f"compute.h{k % 3}",
            project_id=project,
            user_id=user,
            tenant_id=project,
            resource_id=f"vm-{k % 4 + 1}",
            memory_mb=512 * (k + 1),
            disk_gb=k,
            load=0.25 * k,
            launched_at=after(6 * k),
            state="active" if k < 5 else "error",
        )
    for k in range(3):
        yield _event(100 + k, "hardware.fault", after(9 * k, 30), service="hw", severity=k, host=f"h{k}")
    image = {"service": "glance", "tenant_id": "p1", "project_id": "p1"}
    yield _event(200, "image.upload", after(20), **image, user_id="u2", name="ümläut", size=12345)
    yield _event(201, "image.upload", after(21), **image, user_id="u1", name="cirros", size=1)
    image |= {"tenant_id": "p2", "project_id": "p2"}
    deleted = after(22)
    yield _event(202, "image.delete", after(22, 5e-6), **image, user_id="u3", name="cirros", deleted_at=deleted)


def messages() -> Iterable[dict[str, Any]]:
    """The samples and events as they come by the stream: batches of polled samples, and notifications."""
    polled = samples()
    for k in range(0, len(polled), 50):
        yield {
            "event_type": "telemetry.polling",
            "message_id": f"batch-{k}",
            "publisher_id": "telemetry.polling",
            "priority": "SAMPLE",
            "timestamp": polled[k]["timestamp"],
            "payload": {"samples": polled[k : k + 50]},
        }
    for event in events():
        yield {
            "event_type": event["event_type"],
            "message_id": event["message_id"],
            "publisher_id": event["traits"]["service"],
            "priority": "INFO",
            "timestamp": event["generated"],
            "payload": {name: value for name, value in event["traits"].items() if name != "service"},
        }


def event_definitions() -> str:
    """Definitions by which the notifications become the events, as YAML."""
    names = sorted({name for event in events() for name in event["traits"]} - {"service"})
    lines = [f"    {name}: {{fields: payload.{name}, type: {TRAIT_TYPES.get(name, 'text')}}}\n" for name in names]
    return "- event_type: '*'\n  traits:\n" + "".join(lines)
