"""Nova's versioned notifications: each is converted as the legacy one that Nova would have sent."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.conversion.convert import Converter
from meterhouse.conversion.nova_versioned import EVENT_TYPES, legacy_twin
from meterhouse.definitions.events import DEFAULT_TRAITS
from meterhouse.definitions.loading import load

SHARED = Path(__file__).parents[4] / "shared" / "data" / "notifications"
CONVERTER = Converter(load(None))

PHASED = {
    "create": "create",
    "delete": "delete",
    "live_migration_abort": "live.migration.abort",
    "live_migration_force_complete": "live.migration.force.complete",
    "live_migration_post": "live_migration._post",
    "live_migration_post_dest": "live_migration.post.dest",
    "live_migration_pre": "live_migration.pre",
    "live_migration_rollback": "live_migration._rollback",
    "live_migration_rollback_dest": "live_migration.rollback.dest",
    "pause": "pause",
    "power_off": "power_off",
    "power_on": "power_on",
    "reboot": "reboot",
    "rebuild": "rebuild",
    "rescue": "rescue",
    "resize": "resize",
    "resize_confirm": "resize.confirm",
    "resize_finish": "finish_resize",
    "resize_prep": "resize.prep",
    "resize_revert": "resize.revert",
    "restore": "restore",
    "resume": "resume",
    "shelve": "shelve",
    "shelve_offload": "shelve_offload",
    "shutdown": "shutdown",
    "snapshot": "snapshot",
    "soft_delete": "soft_delete",
    "suspend": "suspend",
    "trigger_crash_dump": "trigger_crash_dump",
    "unpause": "unpause",
    "unrescue": "unrescue",
    "unshelve": "unshelve",
}
ERRORS = ["create", "reboot", "rebuild", "resize"]
OTHERS = {
    "evacuate": "evacuate",
    "exists": "exists",
    "rebuild_scheduled": "rebuild.scheduled",
    "update": "update",
    "volume_attach.end": "volume.attach",
    "volume_detach.end": "volume.detach",
}
PHASES = ("start", "end")
PAIRS = sorted(
    [(f"instance.{new}.{phase}", f"compute.instance.{PHASED[new]}.{phase}") for new in PHASED for phase in PHASES]
    + [(f"instance.{name}.error", f"compute.instance.{name}.error") for name in ERRORS]
    + [(f"instance.{new}", f"compute.instance.{old}") for new, old in OTHERS.items()]
)

CONTEXT = {
    "_context_request_id": "req-1c0e5b7a",
    "_context_project_id": "project-of-admin",
    "_context_user_id": "admin",
    "_context_tenant": "project-of-admin",
    "_context_roles": ["admin"],
}


def wrapped(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "nova_object.name": name,
        "nova_object.namespace": "nova",
        "nova_object.version": "1.8",
        "nova_object.data": data,
    }


def flavor(**fields: Any) -> dict[str, Any]:
    about = {
        "flavorid": "f-2",
        "name": "m1.medium",
        "memory_mb": 4096,
        "vcpus": 2,
        "root_gb": 40,
        "ephemeral_gb": 10,
        "swap": 0,
        "rxtx_factor": 1.0,
        "extra_specs": {"hw:cpu_policy": "shared"},
        "is_public": True,
    }
    return wrapped("FlavorPayload", {**about, **fields})


def versioned(event_type: str = "instance.power_on.end", **fields: Any) -> dict[str, Any]:
    data = {
        "uuid": "5fb1a8a4-6a2a-4b67-8f07-4c5f8a4e3f10",
        "display_name": "web-1",
        "display_description": "first web server",
        "host_name": "web-1",
        "host": "rack4.example",
        "node": "rack4-node",
        "tenant_id": "shop",
        "user_id": "ada",
        "reservation_id": "r-77",
        "architecture": "x86_64",
        "availability_zone": "az-2",
        "os_type": "linux",
        "kernel_id": "",
        "ramdisk_id": "",
        "state": "active",
        "task_state": None,
        "power_state": "running",
        "progress": 0,
        "created_at": "2026-01-02T03:04:05Z",
        "launched_at": "2026-01-02T03:05:35Z",
        "deleted_at": None,
        "terminated_at": None,
        "updated_at": "2026-01-02T03:05:36Z",
        "image_uuid": "0d7ae2a4-5a0c-4b39-9a3e-2b7dd3a1a0b4",
        "metadata": {"metering.team": "web", "note": "blue"},
        "locked": False,
        "key_name": "ada",
        "flavor": flavor(),
        "ip_addresses": [
            wrapped(
                "IpPayload",
                {
                    "address": "10.0.0.7",
                    "version": 4,
                    "label": "private",
                    "mac": "fa:16:3e:00:00:07",
                    "meta": {},
                    "port_uuid": "p-1",
                    "device_name": "tap1",
                },
            )
        ],
        "block_devices": [],
        "request_id": "req-1c0e5b7a",
        "action_initiator_user": "admin",
        "action_initiator_project": "project-of-admin",
    }
    return {
        "event_type": event_type,
        "message_id": "m-1",
        "publisher_id": "nova-compute:rack4.example",
        "priority": "ERROR" if event_type.endswith(".error") else "INFO",
        "timestamp": "2026-01-02 03:05:37.123456",
        "payload": wrapped("InstanceActionPayload", {**data, **fields}),
        **CONTEXT,
    }


def legacy(event_type: str = "compute.instance.power_on.end", **fields: Any) -> dict[str, Any]:
    """As Nova sends it, except `instance_type_id` and the image's properties, which the versioned format lacks."""
    payload = {
        "instance_id": "5fb1a8a4-6a2a-4b67-8f07-4c5f8a4e3f10",
        "display_name": "web-1",
        "hostname": "web-1",
        "host": "rack4.example",
        "node": "rack4-node",
        "tenant_id": "shop",
        "user_id": "ada",
        "reservation_id": "r-77",
        "architecture": "x86_64",
        "availability_zone": "az-2",
        "cell_name": "",
        "os_type": "linux",
        "kernel_id": "",
        "ramdisk_id": "",
        "state": "active",
        "state_description": "",
        "progress": "",
        "instance_type": "m1.medium",
        "instance_flavor_id": "f-2",
        "memory_mb": 4096,
        "vcpus": 2,
        "disk_gb": 50,
        "root_gb": 40,
        "ephemeral_gb": 10,
        "created_at": "2026-01-02 03:04:05+00:00",
        "launched_at": "2026-01-02T03:05:35.000000",
        "deleted_at": "",
        "terminated_at": "",
        "image_ref_url": "http://images.example:9292/images/0d7ae2a4-5a0c-4b39-9a3e-2b7dd3a1a0b4",
        "image_meta": {"base_image_ref": "0d7ae2a4-5a0c-4b39-9a3e-2b7dd3a1a0b4"},
        "metadata": {"metering.team": "web", "note": "blue"},
        "access_ip_v4": None,
        "access_ip_v6": None,
    }
    return {
        "event_type": event_type,
        "message_id": "m-1",
        "publisher_id": "compute.rack4.example",
        "priority": "ERROR" if event_type.endswith(".error") else "INFO",
        "timestamp": "2026-01-02 03:05:37.123456",
        "payload": {**payload, **fields},
        **CONTEXT,
    }


def twin(message: dict[str, Any]) -> dict[str, Any]:
    made = legacy_twin(message)
    assert made is not None
    return made


def assert_same(message: dict[str, Any], wanted: dict[str, Any]) -> None:
    """The versioned message, its twin and the legacy message yield the same samples and the same event."""
    samples, event = CONVERTER.samples_line(wanted), CONVERTER.event_line(wanted)
    assert event["error"] is None
    for each in (message, twin(message)):
        assert CONVERTER.samples_line(each)["samples"] == samples["samples"]
        assert CONVERTER.event_line(each) == event


# -- instances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("new", "old"), PAIRS, ids=[new for new, _ in PAIRS])
def test_a_versioned_notification_yields_what_its_legacy_twin_yields(new: str, old: str) -> None:
    assert EVENT_TYPES[new] == old
    assert_same(versioned(new), legacy(old))


def test_every_twin_is_tested() -> None:
    assert dict(PAIRS) | {"metrics.update": "compute.metrics.update"} == EVENT_TYPES


def test_an_instance_has_its_meters_and_traits() -> None:
    message = versioned("instance.create.end")
    samples = {sample["name"]: sample for sample in CONVERTER.samples_line(message)["samples"]}
    assert {name: sample["volume"] for name, sample in samples.items()} == {
        "memory": 4096,
        "vcpus": 2,
        "disk.root.size": 40,
        "disk.ephemeral.size": 10,
        "compute.instance.booting.time": 90.0,
    }
    assert samples["memory"]["project_id"] == "shop"
    assert samples["memory"]["metadata"]["user_metadata"] == {"team": "web"}
    event = CONVERTER.event_line(message)["event"]
    assert event["event_type"] == "compute.instance.create.end"
    traits = {name: value for name, _, value in event["traits"]}
    assert traits["host"] == "rack4.example"
    assert traits["service"] == "compute"
    assert traits["disk_gb"] == 50
    assert traits["availability_zone"] == "az-2"
    assert traits["request_id"] == "req-1c0e5b7a"


def test_what_identifies_a_message_stays() -> None:
    message = versioned()
    made = twin(message)
    for key in ("message_id", "timestamp", "priority", *CONTEXT):
        assert made[key] == message[key]


def test_a_message_is_not_changed() -> None:
    message = versioned("instance.update")
    before = copy.deepcopy(message)
    legacy_twin(message)
    assert message == before


def test_a_missing_context_is_taken_from_the_payload() -> None:
    message = versioned()
    for key in CONTEXT:
        del message[key]
    made = twin(message)
    assert {key: value for key, value in made.items() if key.startswith("_context_")} == {
        "_context_request_id": "req-1c0e5b7a",
        "_context_project_id": "project-of-admin",
        "_context_user_id": "admin",
    }
    assert_same(message, legacy())


def test_dates_that_are_not_set_are_empty_and_states_that_are_not_null_stay() -> None:
    message = versioned("instance.create.start", launched_at=None, task_state="scheduling", host=None, node=None)
    wanted = legacy(
        "compute.instance.create.start", launched_at="", state_description="scheduling", host=None, node=None
    )
    assert_same(message, wanted)
    payload = twin(message)["payload"]
    assert payload["launched_at"] == payload["deleted_at"] == payload["terminated_at"] == ""
    assert payload["state_description"] == "scheduling"
    assert {name: payload[name] for name in wanted["payload"] if name in payload and name != "image_ref_url"} == {
        name: value
        for name, value in wanted["payload"].items()
        if name not in ("image_ref_url", "access_ip_v4", "access_ip_v6")
    }


def test_a_deleted_instance_has_its_date() -> None:
    assert_same(
        versioned("instance.delete.end", state="deleted", deleted_at="2026-01-03T00:00:00Z", terminated_at=None),
        legacy("compute.instance.delete.end", state="deleted", deleted_at="2026-01-03T00:00:00.000000"),
    )


def test_an_instance_that_starts_from_a_volume_has_no_image() -> None:
    assert_same(versioned(image_uuid=""), legacy(image_meta={"base_image_ref": ""}))


def test_an_audit_has_its_period_and_bandwidth() -> None:
    message = versioned(
        "instance.exists",
        audit_period=wrapped(
            "AuditPeriodPayload",
            {"audit_period_beginning": "2026-01-01T00:00:00Z", "audit_period_ending": "2026-01-02T00:00:00Z"},
        ),
        bandwidth=[wrapped("BandwidthPayload", {"network_name": "private", "in_bytes": 5, "out_bytes": 7})],
    )
    wanted = legacy(
        "compute.instance.exists",
        audit_period_beginning="2026-01-01 00:00:00",
        audit_period_ending="2026-01-02 00:00:00",
        bandwidth={"private": {"bw_in": 5, "bw_out": 7}},
    )
    assert_same(message, wanted)
    for name in ("audit_period_beginning", "audit_period_ending", "bandwidth"):
        assert twin(message)["payload"][name] == wanted["payload"][name]
    traits = {name for name, _, _ in CONVERTER.event_line(message)["event"]["traits"]}
    assert {"audit_period_beginning", "audit_period_ending"} <= traits


def test_an_update_has_the_states_before_and_after() -> None:
    states = {"old_state": "building", "state": "active", "old_task_state": "spawning", "new_task_state": None}
    message = versioned(
        "instance.update",
        state="building",
        state_update=wrapped("InstanceStateUpdatePayload", states),
        audit_period=wrapped(
            "AuditPeriodPayload",
            {"audit_period_beginning": "2026-01-01T00:00:00Z", "audit_period_ending": "2026-01-02T03:04:05Z"},
        ),
        bandwidth=[],
        old_display_name="web-0",
    )
    message["publisher_id"] = "nova-api:control-1"
    wanted = legacy("compute.instance.update", **states, old_display_name="web-0", bandwidth={})
    wanted["payload"]["audit_period_beginning"] = "2026-01-01T00:00:00.000000"
    wanted["payload"]["audit_period_ending"] = "2026-01-02T03:04:05.000000"
    wanted["publisher_id"] = "api.control-1"
    assert_same(message, wanted)
    payload = twin(message)["payload"]
    for name in (*states, "old_display_name", "bandwidth", "audit_period_beginning", "audit_period_ending"):
        assert payload[name] == wanted["payload"][name]


@pytest.mark.parametrize("service", ["nova-compute", "nova-api", "nova-conductor"])
def test_legacy_actions_come_from_compute_whoever_sends_them(service: str) -> None:
    message = versioned("instance.delete.start")
    message["publisher_id"] = f"{service}:control.1"
    assert twin(message)["publisher_id"] == "compute.control.1"


@pytest.mark.parametrize("publisher", [None, "", "compute.host", "nova-compute", 7, ["nova-compute:a"]])
def test_a_publisher_of_another_form_stays(publisher: Any) -> None:
    message = versioned()
    message["publisher_id"] = publisher
    assert twin(message)["publisher_id"] == publisher


def test_the_end_of_an_attachment_names_the_volume_and_its_start_has_no_twin() -> None:
    assert twin(versioned("instance.volume_attach.end", volume_id="v-1"))["payload"]["volume_id"] == "v-1"
    assert legacy_twin(versioned("instance.volume_attach.start", volume_id="v-1")) is None


def test_the_preparation_of_a_resize_names_the_new_flavour() -> None:
    message = versioned("instance.resize_prep.start", new_flavor=flavor(name="m1.large", memory_mb=8192))
    payload = twin(message)["payload"]
    assert payload["new_instance_type"] == "m1.large"
    assert payload["memory_mb"] == 4096


def test_an_error_has_its_message() -> None:
    fault = wrapped("ExceptionPayload", {"exception": "NoValidHost", "exception_message": "No host has room."})
    message = versioned("instance.create.error", fault=fault)
    payload = twin(message)["payload"]
    assert (payload["exception"], payload["message"]) == ("NoValidHost", "No host has room.")
    assert CONVERTER.samples_line(message)["samples"] == []
    assert CONVERTER.event_line(message)["event"] is not None


def test_an_instance_has_its_addresses() -> None:
    (address,) = twin(versioned())["payload"]["fixed_ips"]
    assert (address["address"], address["version"], address["label"]) == ("10.0.0.7", 4, "private")


# -- processors of a node ---------------------------------------------------------------------------------------------

VALUES = {
    "cpu.frequency": (2400, 2400),
    "cpu.user.time": (26728850000000, 26728850000000),
    "cpu.kernel.time": (5664160000000, 5664160000000),
    "cpu.idle.time": (1592705190000000, 1592705190000000),
    "cpu.iowait.time": (6121490000000, 6121490000000),
    "cpu.user.percent": (7, 0.07),
    "cpu.kernel.percent": (0, 0.0),
    "cpu.idle.percent": (91, 0.91),
    "cpu.iowait.percent": (2, 0.02),
    "cpu.percent": (9, 0.09),
}


def test_metrics_of_a_node_yield_what_their_legacy_twin_yields() -> None:
    def metric(name: str, value: Any) -> dict[str, Any]:
        return {"name": name, "value": value, "timestamp": "2026-01-02T03:05:00Z", "source": "libvirt.LibvirtDriver"}

    message = versioned("metrics.update")
    message["payload"] = wrapped(
        "MetricsPayload",
        {
            "host": "rack4",
            "host_ip": "10.1.0.4",
            "nodename": "rack4.example",
            "metrics": [
                wrapped("MetricPayload", {**metric(name, value), "numa_membw_values": None})
                for name, (value, _) in VALUES.items()
            ],
        },
    )
    message["publisher_id"] = "nova-compute:rack4"
    wanted = legacy("compute.metrics.update")
    wanted["publisher_id"] = "compute.rack4.example"
    wanted["payload"] = {
        "host": "rack4",
        "host_ip": "10.1.0.4",
        "nodename": "rack4.example",
        "metrics": [
            {**metric(name, value), "timestamp": "2026-01-02T03:05:00.000000"} for name, (_, value) in VALUES.items()
        ],
    }
    assert_same(message, wanted)
    samples = {sample["name"]: sample for sample in CONVERTER.samples_line(message)["samples"]}
    assert len(samples) == len(VALUES)
    assert samples["compute.node.cpu.idle.percent"]["volume"] == pytest.approx(91)
    assert samples["compute.node.cpu.idle.percent"]["resource_id"] == "rack4_rack4.example"


# -- everything else --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event_type",
    [
        "instance.lock",
        "instance.unlock",
        "instance.interface_attach.end",
        "instance.volume_swap.error",
        "instance.pause.error",
        "service.update",
        "flavor.create",
        "compute.instance.create.end",
        "telemetry.polling",
        "",
    ],
)
def test_a_message_without_a_twin_returns_none(event_type: str) -> None:
    assert legacy_twin(versioned(event_type)) is None


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "text",
        {},
        {"nova_object.data": None},
        {"nova_object.data": []},
        {"nova_object.data": {}},
        {"nova_object.data": {"uuid": None}},
        {"nova_object.data": {"uuid": ["a"]}},
        {"nova_object.data": {"metrics": {}, "nodename": "a"}},
        {"nova_object.data": {"metrics": []}},
        {"instance_id": "legacy payload"},
    ],
)
@pytest.mark.parametrize("event_type", ["instance.create.end", "instance.update", "metrics.update"])
def test_garbage_returns_none(event_type: str, payload: Any) -> None:
    assert legacy_twin({"event_type": event_type, "payload": payload}) is None


def test_what_is_missing_in_a_payload_is_missing_in_the_twin() -> None:
    made = twin({"event_type": "instance.exists", "payload": {"nova_object.data": {"uuid": "a"}}})
    assert made["payload"]["memory_mb"] is None
    assert made["payload"]["disk_gb"] is None
    assert made["payload"]["audit_period_beginning"] == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted(
    {*versioned()["payload"]["nova_object.data"], "fault", "new_flavor", "audit_period", "state_update", "bandwidth"}
    | {"metrics", "nodename", "host_ip", "old_display_name", "volume_id", "network_name", "name", "value", "timestamp"}
)
DATA = st.deferred(
    lambda: st.dictionaries(st.sampled_from(FIELDS), JSON | WRAPPED | st.lists(WRAPPED, max_size=2), max_size=6)
)
WRAPPED = st.deferred(lambda: st.fixed_dictionaries({"nova_object.data": DATA | JSON}))
NAMES = st.sampled_from(["cpu.percent", "cpu.frequency", "percent"])
METRICS = st.lists(
    st.fixed_dictionaries({"nova_object.data": st.fixed_dictionaries({"name": NAMES | JSON, "value": JSON})}),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(EVENT_TYPES)) | JSON, WRAPPED | JSON, JSON, METRICS)
def test_no_message_makes_it_raise(event_type: Any, payload: Any, publisher: Any, metrics: Any) -> None:
    message = {"event_type": event_type, "payload": payload, "publisher_id": publisher}
    made = legacy_twin(message)
    if made is not None:
        assert made["event_type"] == EVENT_TYPES[event_type]
        assert isinstance(made["payload"], dict)
    instance = {"nova_object.data": {"uuid": "a", "nodename": "b", "metrics": metrics, "flavor": payload}}
    if isinstance(payload, dict) and isinstance(payload.get("nova_object.data"), dict):
        instance["nova_object.data"] = {**payload["nova_object.data"], "uuid": "a", "nodename": "b", "metrics": metrics}
    for each in ("instance.update", "instance.exists", "metrics.update"):
        assert legacy_twin({**message, "event_type": each, "payload": instance}) is not None


@given(JSON)
def test_no_message_of_another_service_has_a_twin(payload: Any) -> None:
    for event_type in EVENT_TYPES:
        assert legacy_twin({"event_type": event_type, "payload": payload}) is None


# -- real ones --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded messages are not here")
def test_every_recorded_notification_of_an_instance_is_converted() -> None:
    messages = [json.loads(line) for line in (SHARED / "versioned-nova.jsonl").read_text("utf-8").splitlines()]
    twins = [(message, made) for message in messages if (made := legacy_twin(message)) is not None]
    assert len(twins) > 150
    for message, made in twins:
        assert CONVERTER.event_line(message)["error"] is None
        traits = {name: value for name, _, value in CONVERTER.event_line(message)["event"]["traits"]}
        samples = CONVERTER.samples_line(message)["samples"]
        assert all(sample["published"] for sample in samples)
        data = message["payload"]["nova_object.data"]
        if message["event_type"] == "metrics.update":
            assert len(samples) == 10
            continue
        assert (traits["instance_id"], traits["project_id"]) == (data["uuid"], data["tenant_id"])
        assert traits["memory_mb"] == data["flavor"]["nova_object.data"]["memory_mb"]
        if made["priority"] == "INFO" and made["event_type"].split(".")[2] not in ("update", "create"):
            assert {sample["name"] for sample in samples} >= {"memory", "vcpus", "disk.root.size"}
    others = [message for message in messages if legacy_twin(message) is None]
    for message in others:
        named = {name for name, _, _ in CONVERTER.event_line(message)["event"]["traits"]}
        assert len(named - set(DEFAULT_TRAITS)) >= 3, message["event_type"]
