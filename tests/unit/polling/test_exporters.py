"""Pollsters of Prometheus exporters, against a real node exporter and RabbitMQ's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from meterhouse.definitions.entries import Faults, InvalidEntry
from meterhouse.polling.asking import Asking
from meterhouse.polling.kinds.prometheus.pollster import Exporters, compile_poll, url_of
from meterhouse.polling.kinds.shares import kept_name
from meterhouse.polling.polled import Permanent, Piece, Polled, PollError, Slot
from meterhouse.polling.pollster import Source
from meterhouse.settings import read_settings

pytestmark = pytest.mark.service


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    made = Asking(read_settings(home=tmp_path))
    yield made
    made.close()


def compiled(folder: Path | None = None, **entry: Any) -> Exporters:
    faults = Faults()
    made = compile_poll({"name": "prometheus.x", **entry}, faults, folder)
    faults.raise_if_any()
    return made


def slot(host: str = "") -> Slot:
    now = datetime.now(UTC)
    return Slot("exporters", "prometheus.x", now - timedelta(seconds=1), now + timedelta(seconds=60), host)


def source(*targets: str, discovery: tuple[str, ...] = ()) -> Source:
    return Source("exporters", 60, ("prometheus.*",), targets, discovery)


def by_meter(polled: Polled) -> dict[str, dict[str, Any]]:
    return {sample["counter_name"]: sample for sample in polled.samples}


def test_a_node_exporter_tells_of_its_host(asking: Asking, node_url: str) -> None:
    exporters = compiled(prometheus="node")
    before = datetime.now(UTC).replace(tzinfo=None)
    polled = exporters.poll(asking, slot(host="compute-1"), Piece(), source(node_url))
    found = by_meter(polled)
    assert (polled.resources, polled.rests, polled.warnings) == (1, [], [])
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    assert found["node.memory.total"]["counter_volume"] == int(memory.split()[1]) * 1024
    assert found["node.memory.total"]["resource_id"] == "compute-1"  # asked at a loopback address
    idle = found["node.cpu.idle"]
    assert (idle["counter_type"], idle["counter_unit"]) == ("cumulative", "s")
    assert re.fullmatch(r"compute-1/cpu\d+", idle["resource_id"])
    assert idle["resource_metadata"].keys() == {"host", "cpu", "mode"}
    assert {"node.load.1min", "node.boot.time", "node.network.up", "node.pressure.cpu.waiting"} <= found.keys()
    assert {datetime.fromisoformat(sample["timestamp"]) >= before for sample in polled.samples} == {True}
    assert {sample["source"] for sample in polled.samples} == {"openstack"}
    bare = node_url.removeprefix("http://").removesuffix("/metrics")
    assert (
        by_meter(exporters.poll(asking, slot(), Piece(), source(bare)))["node.load.1min"]["resource_id"] == "127.0.0.1"
    )


def test_rabbitmqs_own_exporter_tells_of_the_node_and_of_each_queue(asking: Asking, amqp_metrics_url: str) -> None:
    exporters = compiled(prometheus="rabbitmq")
    found = by_meter(exporters.poll(asking, slot(), Piece(), source(amqp_metrics_url)))
    assert found["rabbitmq.memory.limit"]["counter_volume"] > 0
    assert found["rabbitmq.queue.messages"]["resource_id"] == "127.0.0.1"
    assert found["rabbitmq.messages.received"]["counter_type"] == "cumulative"
    assert found["rabbitmq.messages.received"]["resource_id"].startswith("127.0.0.1/amqp")
    polled = exporters.poll(asking, slot(), Piece(), source(f"{amqp_metrics_url}/per-object"))
    assert polled.warnings == []


def test_exporters_are_divided_and_those_that_fail_become_a_rest(asking: Asking, node_url: str, json_url: str) -> None:
    exporters = compiled(prometheus={"meters": [{"metric": "node_load1"}]}, timeout=5)
    broken = [f"{json_url}/lists/exporters/1?status=500", f"{json_url}/lists/exporters/1"]
    targets = source(
        *broken, *(f"{node_url}?collect[]={name}" for name in ("loadavg", "cpu", "time")), node_url, node_url
    )
    assert exporters.size(asking, targets) == 6

    polled = exporters.poll(asking, slot(), Piece(), targets)
    assert (polled.resources, len(polled.samples)) == (4, 2)
    (rest,) = polled.rests
    assert rest.piece.resources == tuple(kept_name(target) for target in broken)
    assert "status=500" not in str(rest)
    assert "status 500" in str(rest.error)
    assert "1 more" in str(rest.error)

    with pytest.raises(PollError, match="status 500"):
        exporters.poll(asking, slot(), rest.piece, targets)
    with pytest.raises(PollError, match="not Prometheus text: line 1"):
        exporters.poll(asking, slot(), Piece(resources=(broken[1],)), targets)
    parts = [exporters.poll(asking, slot(), Piece(shard, 3), source(*targets.resources[2:])) for shard in range(3)]
    assert [sum(part.resources for part in parts), sum(len(part.samples) for part in parts)] == [4, 2]


def test_a_page_that_is_cut_gives_nothing_and_secrets_of_its_url_are_not_shown(
    asking: Asking, json_url: str, node_url: str
) -> None:
    exporters = compiled(prometheus="node")
    with pytest.raises(PollError, match="ended before") as caught:
        exporters.poll(asking, slot(), Piece(), source(f"{json_url}/lists/exporters/9?cut=30&token=hidden"))
    assert "hidden" not in str(caught.value)
    malformed, cut = (f"{json_url}/lists/exporters/{query}token=hidden" for query in ("1?", "9?cut=30&"))
    with pytest.raises(PollError, match="not Prometheus text") as caught:
        exporters.poll(asking, slot(), Piece(), source(malformed))
    assert "hidden" not in str(caught.value)
    doubles = compiled(prometheus={"meters": [{"metric": "node_cpu_seconds_total", "resource_id": "{host}"}]})
    polled = doubles.poll(asking, slot(), Piece(), source(malformed, cut, f"{node_url}?token=hidden"))
    assert len(polled.rests[0].piece.resources or ()) == len(polled.warnings) + 1 == 2
    assert "hidden" not in str((polled.rests, polled.warnings))
    with pytest.raises(Permanent, match="no exporters"):
        exporters.poll(asking, slot(), Piece(), source())


def test_exporters_are_discovered(asking: Asking, node_url: str, json_url: str) -> None:
    httpx.put(f"{json_url}/behaviour/found", json={"bare": 1}).raise_for_status()
    with pytest.raises(PollError):  # entries have ids, which are no addresses
        compiled(prometheus="node").poll(asking, slot(), Piece(), source(discovery=(f"list:{json_url}/lists/found/1",)))
    assert (
        compiled(prometheus="node").size(asking, source(node_url, discovery=(f"list:{json_url}/lists/found/3",))) == 4
    )
    assert compiled(prometheus="node", targets=[node_url]).size(asking, source()) == 1


def test_mappings_of_the_site_come_before_the_shipped_ones_and_faults_have_their_line(tmp_path: Path) -> None:
    folder = tmp_path / "prometheus.d"
    folder.mkdir()
    (folder / "node.yaml").write_text("meters:\n  - metric: up\n")
    assert [rule.metric for rule in compiled(tmp_path, prometheus="node").mapping.rules] == ["up"]
    (folder / "node.yaml").write_text("meters:\n  - metric: up\n  - metric: down\n    scale: x\n")
    with pytest.raises(InvalidEntry, match=r"node\.yaml:3: meters 1 scale: 'x' is not a number"):
        compiled(tmp_path, prometheus="node")
    with pytest.raises(InvalidEntry, match=r"no prometheus\.d/nodes\.yaml; there are node, rabbitmq"):
        compiled(tmp_path, prometheus="nodes")
    with pytest.raises(InvalidEntry, match=r"no prometheus\.d/\.\./x\.yaml"):
        compiled(tmp_path, prometheus="../x")
    with pytest.raises(InvalidEntry) as caught:
        compiled(prometheus=[], targets="x", timeout=0, headers=1)
    assert [keys for keys, _ in caught.value.faults] == [("prometheus",), ("targets",), ("timeout",), ("headers",)]


def test_targets_are_written_as_in_prometheus() -> None:
    assert url_of("h:9100") == url_of("http://h:9100/") == url_of("http://h:9100") == "http://h:9100/metrics"
    assert url_of("https://h/a?b") == "https://h/a?b"
