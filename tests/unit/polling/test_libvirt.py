"""Pollsters of libvirt, on its test driver and on a guest of qemu without acceleration."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from virtual_machines import qemu_guest

from meterhouse import yaml_lines
from meterhouse.definitions.entries import Faults
from meterhouse.polling.asking import Asking
from meterhouse.polling.kinds.libvirt.meters import METERS
from meterhouse.polling.kinds.libvirt.pollster import Instances, compile_poll
from meterhouse.polling.polled import Piece, Polled, PollError, Slot
from meterhouse.polling.pollster import Source
from meterhouse.settings import read_settings
from meterhouse.shipped import DEFAULTS

pytestmark = pytest.mark.service

CEILOMETER = json.loads((Path(__file__).parents[2] / "data" / "ceilometer_libvirt.json").read_text())
TEST_DRIVER = "test:///default"
SOURCE = Source("hosts", 60, ("*",))

ONLY_HERE = {
    "vcpus",
    "disk.device.read.bytes",
    "disk.device.read.requests",
    "disk.device.write.bytes",
    "disk.device.write.requests",
}
"""Of the test driver's domains that run Ceilometer has none: it gives up on a disk whose latency cannot be asked."""

NOT_HERE = {"network.incoming.bytes.delta", "network.outgoing.bytes.delta"}
"""Deltas need what the same process saw before."""


@pytest.fixture(scope="module")
def hypervisor(libvirt_packages: Path) -> Iterator[Any]:
    import libvirt

    connection = libvirt.open(TEST_DRIVER)
    first, paused, off, other = CEILOMETER["domains"]
    for xml in (first, paused, other):
        connection.createXML(xml, 0)
    connection.defineXML(off)
    connection.lookupByName("instance-00000002").suspend()
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    made = Asking(read_settings(home=tmp_path_factory.mktemp("home")))
    yield made
    made.close()


def pollster(name: str, **options: Any) -> Instances:
    faults = Faults()
    made = compile_poll({"name": name, "libvirt": {"uri": TEST_DRIVER, **options}}, faults, None)
    faults.raise_if_any()
    return made


WHOLE = Piece()


def polled(asking: Asking, name: str, piece: Piece = WHOLE, **options: Any) -> Polled:
    now = datetime.now(UTC)
    slot = Slot("hosts", name, now, now + timedelta(seconds=60), "host1")
    return pollster(name, **options).poll(asking, slot, piece, SOURCE)


def comparable(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample without its time, and without what the test driver makes of the clock."""
    kept = {key: value for key, value in sample.items() if key not in ("timestamp", "source")}
    if sample["counter_name"] == "cpu" or sample["counter_name"].startswith("network."):
        kept["counter_volume"] = kept["counter_volume"] == 0 and sample["counter_name"] != "cpu"
    kept["resource_metadata"] = {key: value for key, value in kept["resource_metadata"].items() if key != "cpu_number"}
    return kept


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_samples_are_ceilometers(hypervisor: Any, asking: Asking, stopped: bool) -> None:
    theirs = CEILOMETER["stopped" if stopped else "running"]
    for name in sorted({*METERS, *theirs} - NOT_HERE):
        own = polled(asking, name, stopped=stopped).samples
        known = {one["resource_id"] for one in theirs.get(name, ())}
        if name in ONLY_HERE:
            assert len(own) > len(known)
            own = [sample for sample in own if sample["resource_id"] in known]
        of_theirs = sorted((comparable(one) for one in theirs.get(name, ())), key=lambda one: one["resource_id"])
        assert sorted(map(comparable, own), key=lambda one: one["resource_id"]) == of_theirs, name


def test_counters_grow_and_all_meters_of_an_interval_are_of_one_time(hypervisor: Any, asking: Asking) -> None:
    first = polled(asking, "cpu")
    assert {one["counter_volume"] > 0 for one in first.samples} == {True}
    assert [one["resource_metadata"]["cpu_number"] for one in first.samples] == [2, 2]
    together = {
        one["timestamp"] for name in ("vcpus", "network.incoming.bytes") for one in polled(asking, name).samples
    }
    assert {one["timestamp"] for one in polled(asking, "cpu").samples} == together
    time.sleep(2.1)
    second = polled(asking, "cpu")
    assert second.samples[0]["counter_volume"] > first.samples[0]["counter_volume"]
    assert "2 domains were not made by Nova: no samples" in second.warnings


def test_instances_are_divided_and_gone_ones_are_left_out(hypervisor: Any, asking: Asking) -> None:
    ids = [one["resource_id"] for one in polled(asking, "disk.root.size").samples]
    parts = [polled(asking, "disk.root.size", Piece(shard, 2)).samples for shard in range(2)]
    assert sorted(one["resource_id"] for part in parts for one in part) == sorted(ids)
    assert polled(asking, "disk.root.size", Piece(resources=(ids[0], "gone"))).resources == 1


def test_a_libvirt_that_is_not_there_is_an_error_of_one_line(libvirt_packages: Path, asking: Asking) -> None:
    with pytest.raises(PollError, match="test:///nowhere: libvirt: ") as caught:
        polled(asking, "cpu", uri="test:///nowhere")
    assert "\n" not in str(caught.value)


def test_faults_of_an_entry_are_named() -> None:
    faults = Faults()
    compile_poll({"name": "cpus", "libvirt": {"url": 1, "uri": 2, "stopped": "no"}, "timeout": -1}, faults, None)
    assert [keys for keys, _ in faults.found] == [
        ("libvirt", "url"),
        ("libvirt", "uri"),
        ("libvirt", "stopped"),
        ("name",),
        ("timeout",),
    ]
    faults = Faults()
    compile_poll({"name": "cpu", "libvirt": "qemu:///system"}, faults, None)
    assert [(keys, "not a mapping" in reason) for keys, reason in faults.found] == [(("libvirt",), True)]


def test_each_meter_has_a_shipped_pollster() -> None:
    faults = Faults()
    entries = yaml_lines.read(DEFAULTS / "pollsters.d" / "libvirt.yaml")
    assert [compile_poll(entry, faults, None).name for entry in entries] == list(METERS)
    assert faults.found == ()
    assert {entry["namespaces"] for entry in entries} == {"compute"}


def of_a_guest(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is polled of a guest of qemu, and what libvirt itself says of it."""
    with qemu_guest(folder, CEILOMETER["domains"][0]) as (uri, domain):
        asking = Asking(read_settings(home=folder / "home"))
        found = {name: sample["counter_volume"] for name in METERS for sample in polled(asking, name, uri=uri).samples}
        asking.close()
        said = {
            **domain.memoryStats(),
            "reads": domain.blockStats("vda")[0],
            "latency": domain.blockStatsFlags("vda", 0)["rd_total_times"],
        }
        return found, said


@pytest.mark.slow
def test_memory_and_disks_of_a_guest_of_qemu(libvirt_packages: Path, tmp_path: Path) -> None:
    # In a process of its own: libvirt starts qemu from it, with what it has open.
    with get_context("spawn").Pool(1) as processes:
        found, said = processes.apply(of_a_guest, (tmp_path,))
    assert found["memory"] == said["actual"] / 1024 == 64
    assert found["memory.resident"] == pytest.approx(said["rss"] / 1024, rel=0.2)
    assert found["cpu"] > 0
    assert found["vcpus"] == 2
    assert found["disk.device.capacity"] == 1 << 20
    assert found["disk.device.read.requests"] == said["reads"] > 0
    assert found["disk.device.read.latency"] == said["latency"] > 0
