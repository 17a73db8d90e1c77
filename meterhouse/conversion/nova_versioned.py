"""Rewrites Nova's versioned notifications as the legacy ones that definitions are written for.

Nova sends notifications about an instance in two formats: the legacy one (`compute.instance.create.end`, a flat
payload) and the versioned one (`instance.create.end`, nested `nova_object.data`). Ceilometer and existing meters.yaml
files only know the legacy one. `legacy_twin` rewrites a versioned message as Nova would have sent it in the legacy
format. So a site may turn that format off and keep its meters and events.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Message = dict[str, Any]

_DATA: Final = "nova_object.data"
_METRICS: Final = "metrics.update"
_UPDATE: Final = "instance.update"
_EXISTS: Final = "instance.exists"


def _names() -> dict[str, str]:
    """Versioned event type → event type of its legacy twin."""
    renamed = {
        "live_migration_abort": "live.migration.abort",
        "live_migration_force_complete": "live.migration.force.complete",
        "live_migration_post": "live_migration._post",
        "live_migration_post_dest": "live_migration.post.dest",
        "live_migration_pre": "live_migration.pre",
        "live_migration_rollback": "live_migration._rollback",
        "live_migration_rollback_dest": "live_migration.rollback.dest",
        "resize_confirm": "resize.confirm",
        "resize_finish": "finish_resize",
        "resize_prep": "resize.prep",
        "resize_revert": "resize.revert",
    }
    # fmt: off
    same = (
        "create", "delete", "pause", "power_off", "power_on", "reboot", "rebuild", "rescue", "resize", "restore",
        "resume", "shelve", "shelve_offload", "shutdown", "snapshot", "soft_delete", "suspend", "trigger_crash_dump",
        "unpause", "unrescue", "unshelve",
    )
    # fmt: on
    names = {_METRICS: "compute.metrics.update"}
    for action, legacy in {**{action: action for action in same}, **renamed}.items():
        for phase in ("start", "end"):
            names[f"instance.{action}.{phase}"] = f"compute.instance.{legacy}.{phase}"
    for action in ("create", "reboot", "rebuild", "resize"):
        names[f"instance.{action}.error"] = f"compute.instance.{action}.error"
    for action in ("exists", "update", "evacuate"):
        names[f"instance.{action}"] = f"compute.instance.{action}"
    names["instance.rebuild_scheduled"] = "compute.instance.rebuild.scheduled"
    # The legacy format reports these once they are complete, without phases.
    names["instance.volume_attach.end"] = "compute.instance.volume.attach"
    names["instance.volume_detach.end"] = "compute.instance.volume.detach"
    return names


EVENT_TYPES: Final[Mapping[str, str]] = _names()
"""Versioned event type → event type of its legacy twin."""


def legacy_twin(message: Message) -> Message | None:
    """The legacy twin of one of Nova's versioned notifications; None for any other message.

    Message id, timestamp, priority and request context stay the same. If the context is missing, it is taken from the
    payload as far as possible. What the versioned payload does not have is left out: `instance_type_id`, the image's
    properties, addresses for access.

    Args:
        message: the notification, unwrapped; it is not changed.
    """
    event_type = message.get("event_type")
    legacy = EVENT_TYPES.get(event_type) if isinstance(event_type, str) else None
    if legacy is None:
        return None
    data = _inner(message.get("payload"))
    if data is None:
        return None
    if event_type == _METRICS:
        payload = _metrics(data)
        publisher = f"compute.{data.get('nodename')}"
    else:
        payload = _instance(data, event_type)
        publisher = _publisher(message.get("publisher_id"), event_type)
    if payload is None:
        return None
    twin = {**message, "event_type": legacy, "publisher_id": publisher, "payload": payload}
    for key, name in _CONTEXT:
        if key not in message and isinstance(value := data.get(name), str):
            twin[key] = value
    return twin


_CONTEXT: Final = (
    ("_context_request_id", "request_id"),
    ("_context_project_id", "action_initiator_project"),
    ("_context_user_id", "action_initiator_user"),
)


def _inner(wrapped: Any) -> dict[str, Any] | None:
    """The fields of a wrapped object."""
    data = wrapped.get(_DATA) if isinstance(wrapped, dict) else None
    return data if isinstance(data, dict) else None


def _each(wrapped: Any) -> list[dict[str, Any]]:
    """The fields of each wrapped object in a list."""
    if not isinstance(wrapped, list):
        return []
    return [data for each in wrapped if (data := _inner(each)) is not None]


def _publisher(publisher: Any, event_type: Any) -> Any:
    """`nova-compute:host` as `compute.host`.

    The conductor and the API also send an instance's legacy notifications as `compute`. Only updates name the real
    sender.
    """
    if not isinstance(publisher, str) or not publisher.startswith("nova-"):
        return publisher
    service, colon, host = publisher[5:].partition(":")
    if not colon:
        return publisher
    return f"{service if event_type == _UPDATE else 'compute'}.{host}"


# -- instances ---------------------------------------------------------------------------------------------------------

# fmt: off
_SAME: Final = (
    "tenant_id", "user_id", "display_name", "reservation_id", "architecture", "host", "node", "availability_zone",
    "os_type", "kernel_id", "ramdisk_id", "state",
)
# fmt: on


def _instance(data: Mapping[str, Any], event_type: Any) -> dict[str, Any] | None:
    uuid = data.get("uuid")
    if not isinstance(uuid, str):
        return None
    flavor = _inner(data.get("flavor")) or {}
    root, ephemeral = flavor.get("root_gb"), flavor.get("ephemeral_gb")
    image = data.get("image_uuid")
    payload: dict[str, Any] = {name: data.get(name) for name in _SAME}
    payload |= {
        "instance_id": uuid,
        "hostname": data.get("host_name"),
        "cell_name": "",
        "instance_type": flavor.get("name"),
        "instance_flavor_id": flavor.get("flavorid"),
        "memory_mb": flavor.get("memory_mb"),
        "vcpus": flavor.get("vcpus"),
        "disk_gb": root + ephemeral if type(root) is int and type(ephemeral) is int else None,
        "root_gb": root,
        "ephemeral_gb": ephemeral,
        "created_at": _spaced(data.get("created_at"), "+00:00"),
        "launched_at": _joined(data.get("launched_at")),
        "deleted_at": _joined(data.get("deleted_at")),
        "terminated_at": _joined(data.get("terminated_at")),
        "image_ref_url": image,
        "image_meta": {} if image is None else {"base_image_ref": image},
        "state_description": data.get("task_state") or "",
        "progress": data.get("progress") or "",
        "metadata": data.get("metadata"),
    }
    if isinstance(data.get("ip_addresses"), list):
        payload["fixed_ips"] = [_address(each) for each in _each(data["ip_addresses"])]
    if "volume_id" in data:
        payload["volume_id"] = data["volume_id"]
    if (new := _inner(data.get("new_flavor"))) is not None:
        payload["new_instance_type"] = new.get("name")
    if (fault := _inner(data.get("fault"))) is not None:
        payload["exception"] = fault.get("exception")
        payload["message"] = fault.get("exception_message")
    if event_type == _UPDATE:
        _add_audit(payload, data, _joined)
        _add_states(payload, data)
    elif event_type == _EXISTS:
        _add_audit(payload, data, _spaced)
    return payload


def _address(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "address": data.get("address"),
        "version": data.get("version"),
        "label": data.get("label"),
        "vif_mac": data.get("mac"),
        "meta": data.get("meta"),
        "type": "fixed",
        "floating_ips": [],
    }


def _add_audit(payload: dict[str, Any], data: Mapping[str, Any], form: Callable[[Any], Any]) -> None:
    period = _inner(data.get("audit_period")) or {}
    for name in ("audit_period_beginning", "audit_period_ending"):
        payload[name] = form(period.get(name))
    payload["bandwidth"] = {
        each["network_name"]: {"bw_in": each.get("in_bytes"), "bw_out": each.get("out_bytes")}
        for each in _each(data.get("bandwidth"))
        if isinstance(each.get("network_name"), str)
    }


def _add_states(payload: dict[str, Any], data: Mapping[str, Any]) -> None:
    states = _inner(data.get("state_update"))
    if states is not None:
        names = ("old_state", "state", "old_task_state", "new_task_state")
        payload |= {name: states[name] for name in names if name in states}
    if data.get("old_display_name"):
        payload["old_display_name"] = data["old_display_name"]


# Legacy dates have one of two forms, depending on the code that sends them: that of Python's str(), or ISO with
# microseconds. A date that is not set is empty. A date that does not have the versioned form is left as it is.


def _is_date(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 20 and value[10] == "T" and value[19] == "Z"


def _spaced(value: Any, offset: str = "") -> Any:
    """`2026-01-02T03:04:05Z` as `2026-01-02 03:04:05`."""
    if value is None:
        return ""
    return f"{value[:10]} {value[11:19]}{offset}" if _is_date(value) else value


def _joined(value: Any) -> Any:
    """`2026-01-02T03:04:05Z` as `2026-01-02T03:04:05.000000`."""
    if value is None:
        return ""
    return f"{value[:19]}.000000" if _is_date(value) else value


# -- processors of a node ----------------------------------------------------------------------------------------------


def _metrics(data: Mapping[str, Any]) -> dict[str, Any] | None:
    if not isinstance(data.get("metrics"), list) or not isinstance(data.get("nodename"), str):
        return None
    return {
        "host": data.get("host"),
        "host_ip": data.get("host_ip"),
        "nodename": data["nodename"],
        "metrics": [_metric(each) for each in _each(data["metrics"])],
    }


def _metric(data: Mapping[str, Any]) -> dict[str, Any]:
    name, value = data.get("name"), data.get("value")
    # Versioned shares are whole percents, legacy ones are from 0 to 1.
    if isinstance(name, str) and name.endswith("percent") and isinstance(value, (int, float)) and abs(value) < 1e15:
        value = value / 100
    metric = {"name": name, "value": value, "timestamp": _joined(data.get("timestamp")), "source": data.get("source")}
    if data.get("numa_membw_values") is not None:
        metric["numa_membw_values"] = data["numa_membw_values"]
    return metric
