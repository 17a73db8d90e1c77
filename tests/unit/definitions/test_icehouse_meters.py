"""The meters that Ceilometer has dropped since Mitaka: each is made from a message, only if configured."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from meterhouse import settings
from meterhouse.cli import cli
from meterhouse.configuration import open_checked
from meterhouse.conversion.convert import Converter
from meterhouse.definitions.checking import check
from meterhouse.definitions.loading import ICEHOUSE_METERS, files_of, load, load_files
from meterhouse.doctor import findings_of
from meterhouse.shipped import DEFAULTS

ENTRIES = yaml.safe_load(ICEHOUSE_METERS.read_text("utf-8"))["metric"]
CONVERTER = Converter(load_files([ICEHOUSE_METERS], None))
CONTEXT = {"_context_tenant_id": "asker", "_context_user_id": "somebody"}

INSTANCE = {"instance_id": "i1", "tenant_id": "p1", "user_id": "u1", "instance_type": "m1.small", "host": "node-7"}
IMAGE = {"id": "m1", "owner": "p1"}
VOLUME = {"volume_id": "v1", "tenant_id": "p1", "user_id": "u1"}
SNAPSHOT = {"snapshot_id": "s1", "tenant_id": "p1", "user_id": "u1"}
STACK = {"stack_identity": "arn:stack", "tenant_id": "p1"}
CLUSTER = {"cluster_id": "c1", "project_id": "p1"}
TABLE = {"table_uuid": "t1", "index_count": 3}
SUBJECT = {"resource_info": "x1", "initiator": {"id": "u1"}}
ROLE = {"role": "r1", "initiator": {"id": "u1"}}

Expected = list[tuple[str, str, str, float, str, str | None, str | None]]


def neutron(key: str, meter: str, unit: str) -> list[tuple[str, dict[str, Any], dict[str, Any], Expected]]:
    one, other = {"id": "n1", "tenant_id": "p1"}, {"id": "n2", "tenant_id": "p2"}
    existing = (meter, "gauge", unit, 1.0)
    made, changed = (f"{meter}.create", "delta", unit, 1.0), (f"{meter}.update", "delta", unit, 1.0)
    owner, second, asker = ("n1", "p1", "somebody"), ("n2", "p2", "somebody"), ("n1", "asker", "somebody")
    return [
        (f"{key}.create.end", {key: one}, CONTEXT, [(*existing, *owner), (*made, *owner)]),
        (
            f"{key}.create.end",
            {f"{key}s": [one, other]},
            CONTEXT,
            [(*existing, *owner), (*existing, *second), (*made, *owner), (*made, *second)],
        ),
        (
            f"{key}.update.start",
            {"id": "n1", key: {"name": "x"}},
            CONTEXT,
            [(*existing, *asker), (*changed, *asker)],
        ),
        (f"{key}.update.end", {key: one}, CONTEXT, [(*existing, *owner), (*changed, *owner)]),
        (f"{key}.exists", {key: one}, {}, [(*existing, "n1", "p1", None)]),
        (f"{key}.create.start", {key: {"name": "x"}}, CONTEXT, []),
        (f"{key}.delete.end", {f"{key}_id": "n1"}, CONTEXT, []),
    ]


CASES: list[Any] = [  # event type, payload, context, samples
    *(
        (
            event_type,
            INSTANCE,
            CONTEXT,
            [
                ("instance", "gauge", "instance", 1.0, "i1", "p1", "u1"),
                ("instance:m1.small", "gauge", "instance", 1.0, "i1", "p1", "u1"),
            ],
        )
        for event_type in ("compute.instance.create.start", "compute.instance.update", "compute.instance.exists")
    ),
    (
        "compute.instance.exists",
        {"instance_id": "i1"},
        {},
        [("instance", "gauge", "instance", 1.0, "i1", None, None)],
    ),
    (
        "scheduler.run_instance.scheduled",
        {"instance_id": "i1", "request_spec": {"instance_properties": {"project_id": "p1"}}},
        {},
        [("instance.scheduled", "delta", "instance", 1.0, "i1", "p1", None)],
    ),
    *neutron("network", "network", "network"),
    *neutron("subnet", "subnet", "subnet"),
    *neutron("port", "port", "port"),
    *neutron("router", "router", "router"),
    *neutron("floatingip", "ip.floating", "ip"),
    *(
        (
            f"image.{step}",
            IMAGE,
            {},
            [
                ("image", "gauge", "image", 1.0, "m1", "p1", None),
                (f"image.{step}", "delta", "image", 1.0, "m1", "p1", None),
            ],
        )
        for step in ("upload", "update", "delete")
    ),
    ("image.send", {"image_id": "m1"}, {}, []),
    *(
        (
            f"{thing}.{step}",
            payload,
            {},
            [
                (thing, "gauge", thing, 1.0, identity, "p1", "u1"),
                (f"{thing}.{step}", "delta", thing, 1.0, identity, "p1", "u1"),
            ],
        )
        for thing, identity, payload, steps in (
            ("volume", "v1", VOLUME, ("create", "delete", "resize", "attach", "detach", "update")),
            ("snapshot", "s1", SNAPSHOT, ("create", "delete")),
        )
        for step in ["exists", *(f"{verb}.{end}" for verb in steps for end in ("start", "end"))]
    ),
    *(
        (
            f"orchestration.stack.{step}.end",
            STACK,
            context,
            [(f"stack.{step}", "delta", "stack", 1.0, "arn:stack", "p1", user)],
        )
        for step in ("create", "update", "delete", "resume", "suspend")
        for context, user in (({**CONTEXT, "_context_trustor_user_id": "boss"}, "boss"), (CONTEXT, "somebody"))
    ),
    *(
        (f"sahara.cluster.{step}", CLUSTER, {}, [(f"cluster.{step}", "delta", "cluster", 1.0, "c1", "p1", None)])
        for step in ("create", "update", "delete")
    ),
    (
        "magnetodb.table.create.end",
        TABLE,
        {"_context_tenant": "p1", "_context_user": "u1"},
        [
            ("magnetodb.table.create", "gauge", "table", 1.0, "t1", "p1", "u1"),
            ("magnetodb.table.index.count", "gauge", "index", 3.0, "t1", "p1", "u1"),
        ],
    ),
    (
        "magnetodb.table.delete.end",
        TABLE,
        {"_context_tenant": "p1", "_context_user": "u1"},
        [("magnetodb.table.delete", "gauge", "table", 1.0, "t1", "p1", "u1")],
    ),
    *(
        (
            f"identity.{thing}.{step}",
            SUBJECT,
            {},
            [(f"identity.{thing}.{step}", "delta", thing, 1.0, "x1", None, "u1")],
        )
        for thing in ("user", "group", "project", "role")
        for step in ("created", "updated", "deleted")
    ),
    *(
        (
            f"identity.role_assignment.{step}",
            ROLE,
            {},
            [(f"identity.role_assignment.{step}", "delta", "role_assignment", 1.0, "r1", None, "u1")],
        )
        for step in ("created", "deleted")
    ),
    *(
        (
            f"identity.OS-TRUST:trust.{step}",
            SUBJECT,
            {},
            [(f"identity.trust.{step}", "delta", "trust", 1.0, "x1", None, "u1")],
        )
        for step in ("created", "deleted")
    ),
    (
        "profiler.main",
        {"name": "wsgi-start", "base_id": "b1", "project_id": "p1", "user_id": "u1"},
        {},
        [("wsgi-start", "gauge", "trace", 1.0, "profiler-b1", "p1", "u1")],
    ),
]


def message(event_type: str, payload: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    return {
        "message_id": "6d657465-7268-4f75-8365-000000000001",
        "publisher_id": "service.node-7",
        "event_type": event_type,
        "priority": "INFO",
        "timestamp": "2026-03-01 01:15:01.007919",
        "payload": payload,
        **context,
    }


def made(event_type: str, payload: dict[str, Any], context: dict[str, Any]) -> list[dict[str, Any]]:
    line = CONVERTER.samples_line(message(event_type, payload, context))
    assert line["errors"] == []
    samples: list[dict[str, Any]] = line["samples"]
    assert all(sample["published"] for sample in samples)
    return samples


@pytest.mark.parametrize(("event_type", "payload", "context", "expected"), CASES)
def test_a_message_makes_its_samples(
    event_type: str, payload: dict[str, Any], context: dict[str, Any], expected: Expected
) -> None:
    keys = ("name", "type", "unit", "volume", "resource_id", "project_id", "user_id")
    found = [tuple(sample[key] for key in keys) for sample in made(event_type, payload, context)]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_every_meter_makes_a_sample(entry: dict[str, Any], tmp_path: Path) -> None:
    alone = tmp_path / "meters.yaml"
    alone.write_text(yaml.safe_dump({"metric": [entry]}))
    converter = Converter(load_files([alone], None))
    given = entry["event_type"] if isinstance(entry["event_type"], list) else [entry["event_type"]]
    for pattern in given:
        samples = [
            sample
            for event_type, payload, context, _ in CASES
            if re.match(pattern, event_type)
            for sample in converter.samples_line(message(event_type, payload, context))["samples"]
        ]
        assert samples, pattern


def test_an_instance_has_the_metadata_that_its_other_meters_have() -> None:
    payload = {**INSTANCE, "metadata": {"metering.team": "shop", "note": "x"}}
    for sample in made("compute.instance.exists", payload, {}):
        assert sample["metadata"] == {"host": "node-7", "flavor_name": "m1.small", "user_metadata": {"team": "shop"}}


def test_no_name_is_also_that_of_another_shipped_meter() -> None:
    names = [
        entry["name"]
        for path in sorted((DEFAULTS / "meters.d").glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text("utf-8"))["metric"]
    ]
    own = [entry["name"] for entry in ENTRIES]
    assert len(set(own)) == len(own)
    assert not set(own) & set(names)
    assert load(None, icehouse_meters=True).faults == ()


def test_the_file_has_no_findings() -> None:
    meters, events = files_of(None, icehouse_meters=True)
    assert meters[-1] == ICEHOUSE_METERS
    for files in ([ICEHOUSE_METERS], [*meters, events]):
        assert check(files).findings == ()


def names_of(definitions: Any) -> set[str]:
    return {meter.name for meter in definitions.meters.meters}


def test_they_are_read_if_configured_after_the_sites_own(tmp_path: Path) -> None:
    assert "instance" not in names_of(load(None))
    assert {"instance", "memory"} <= names_of(load(None, icehouse_meters=True))
    assert "instance" not in names_of(load(None))
    (tmp_path / "meters.yaml").write_text(
        "metric:\n- {name: image, event_type: box, type: gauge, unit: image, volume: 1, resource_id: $.payload.id}\n"
    )
    assert names_of(load(tmp_path)) == {"image"}
    both = load(tmp_path, icehouse_meters=True)
    assert len(names_of(both)) == len(ENTRIES)
    assert [(fault.file, fault.name) for fault in both.faults] == [(str(ICEHOUSE_METERS), "image")]


@pytest.mark.parametrize("wanted", [False, True])
def test_every_step_follows_the_setting(wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERHOUSE_HOME", str(tmp_path))
    if wanted:
        monkeypatch.setenv("METERHOUSE_ICEHOUSE_METERS", "true")
    settings.settings.cache_clear()
    try:
        assert settings.settings().icehouse_meters is wanted
        assert ("instance" in names_of(open_checked().definitions)) is wanted
        [well] = findings_of(open_checked(), "definitions")
        count = int(well.found.split()[0])
        line = json.dumps(message("compute.instance.exists", INSTANCE, {}))
        converted = CliRunner().invoke(cli, ["convert", "samples"], input=line)
        shown = {sample["name"] for sample in json.loads(converted.stdout)["samples"]}
        assert ("instance:m1.small" in shown) is wanted
        folder = CliRunner().invoke(cli, ["convert", "samples", "--definitions", str(tmp_path)], input=line)
        assert "instance" not in {sample["name"] for sample in json.loads(folder.stdout)["samples"]}
        checked = CliRunner().invoke(cli, ["definitions", "check"])
        assert f" {count} meters" in checked.stderr
        assert (count > len(ENTRIES)) is wanted
    finally:
        settings.settings.cache_clear()
