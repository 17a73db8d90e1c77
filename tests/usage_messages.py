"""Notifications of instances, as Nova sends them, for tests of usage."""

from datetime import datetime
from typing import Any

from builders import at, drop, notification

from meterhouse.collection.collect import collect
from meterhouse.site import Site

_DAY_START = at(hours=-12)


def created(instance: str, when: datetime | None = None, /, **payload: Any) -> dict[str, Any]:
    """A new instance of 4 vCPUs and 8 GiB; its message has the id `create-INSTANCE`."""
    return _about(instance, "compute.instance.create.end", when or at(), f"create-{instance}", **payload)


def deleted(instance: str, when: datetime, /, **payload: Any) -> dict[str, Any]:
    """The end of an instance."""
    ended = {"state": "deleted", "deleted_at": when.isoformat()}
    return _about(instance, "compute.instance.delete.end", when, f"delete-{instance}", **{**ended, **payload})


def audit(instance: str, when: datetime | None = None, /, **payload: Any) -> dict[str, Any]:
    """The audit of the hour before a time."""
    end = (when or at(days=1)).replace(minute=0, second=0, microsecond=0)
    period = {
        "audit_period_beginning": str(end.replace(hour=0) if end.hour else end)[:19],
        "audit_period_ending": str(end)[:19],
    }
    name = f"audit-{instance}-{end:%d%H}"
    return _about(instance, "compute.instance.exists", end, name, **{**period, **payload})


def _about(instance: str, event_type: str, when: datetime, message_id: str, **payload: Any) -> dict[str, Any]:
    values = {
        "instance_id": instance,
        "tenant_id": "p1",
        "user_id": "u1",
        "display_name": instance,
        "host": "host1",
        "instance_type": "m1.large",
        "instance_flavor_id": "4",
        "state": "active",
        "vcpus": 4,
        "memory_mb": 8192,
        "disk_gb": 80,
        "root_gb": 80,
        "ephemeral_gb": 0,
        "created_at": "",
        "launched_at": "",
        "deleted_at": "",
    }
    if event_type.endswith("create.end"):
        values |= {"created_at": when.isoformat(), "launched_at": when.isoformat()}
    return notification(message_id, event_type, timestamp=str(when)[:26], payload=values | payload)


def land(site: Site, *messages: dict[str, Any]) -> None:
    """Land notifications in one commit."""
    drop(site.settings.spool, "messages.jsonl", messages)
    collect(site)
