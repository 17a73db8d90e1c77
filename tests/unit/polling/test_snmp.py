"""Pollsters of devices by SNMP, against a real snmpd."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meterhouse import yaml_lines
from meterhouse.definitions.entries import Faults
from meterhouse.polling.asking import Asking
from meterhouse.polling.kinds.snmp.agents import agent, shown
from meterhouse.polling.kinds.snmp.pollster import Devices, compile_poll
from meterhouse.polling.polled import Permanent, Piece, Polled, PollError, Slot
from meterhouse.polling.pollster import Source
from meterhouse.settings import read_settings
from meterhouse.shipped import DEFAULTS

pytestmark = pytest.mark.service

SHIPPED: list[dict[str, Any]] = yaml_lines.read(DEFAULTS / "pollsters.d" / "snmp.yaml")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    made = Asking(read_settings(home=tmp_path_factory.mktemp("home")))
    yield made
    made.close()


def compiled(entry: dict[str, Any]) -> Devices:
    faults = Faults()
    made = compile_poll(entry, faults, None)
    faults.raise_if_any()
    return made


def poll(asking: Asking, entry: dict[str, Any], *targets: str, piece: Piece | None = None) -> Polled:
    now = datetime.now(UTC)
    slot = Slot("devices", entry["name"], now, now + timedelta(seconds=60))
    return compiled(entry).poll(asking, slot, piece or Piece(), Source("devices", 60, ("*",), targets))


def test_shipped_pollsters_tell_of_this_host(asking: Asking, snmp_url: str) -> None:
    found = {entry["name"]: poll(asking, entry, snmp_url).samples for entry in SHIPPED}
    (load,) = found["hardware.cpu.load.1min"]
    assert (load["counter_type"], load["counter_unit"], load["resource_id"]) == ("gauge", "process", "127.0.0.1")
    assert load["resource_metadata"] == {"resource_url": shown(snmp_url)}
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    total, used = (found[f"hardware.memory.{name}"][0]["counter_volume"] for name in ("total", "used"))
    assert total == int(memory.split()[1])
    assert 0 < used < total
    incoming = {one["resource_id"]: one for one in found["hardware.network.incoming.bytes"]}
    assert incoming.keys() == {f"127.0.0.1.{name}" for _, name in socket.if_nameindex()}
    assert incoming["127.0.0.1.lo"]["counter_volume"] > 0
    assert incoming["127.0.0.1.lo"]["resource_metadata"]["name"] == "lo"
    assert found["hardware.network.ip.incoming.datagrams"][0]["counter_volume"] > 0
    assert "public" not in repr(found)


def test_agents_that_do_not_answer_become_a_rest_without_secrets(asking: Asking, snmp_url: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        gone = f"snmp://hidden@127.0.0.1:{silent.getsockname()[1]}"
        entry = {**SHIPPED[0], "timeout": 1}
        polled = poll(asking, entry, snmp_url, gone)
        (rest,) = polled.rests
        assert (polled.resources, len(polled.samples)) == (1, 1)
        assert rest.piece.resources == (shown(gone),)
        with pytest.raises(PollError, match="SNMP: Timeout"):
            poll(asking, entry, snmp_url, gone, piece=rest.piece)
        assert "hidden" not in f"{rest}"


def test_objects_that_an_agent_lacks_give_no_samples(asking: Asking, snmp_url: str) -> None:
    for snmp in ({"oid": "1.3.6.1.4.1.99999.1.0"}, {"table": "1.3.6.1.4.1.99999.1"}, {"oid": "1.3.6.1.2.1.1.1.0"}):
        polled = poll(asking, {"name": "a", "sample_type": "gauge", "snmp": snmp}, snmp_url)
        assert (polled.samples, polled.warnings) == ([], [f"{shown(snmp_url)} has no a: no samples"])


def test_targets_are_urls_whose_secrets_may_be_in_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("passphrase\n")
    assert dict(agent(f"snmp://h?community_file={secret}").options) == {"version": "2c", "community": "passphrase"}
    assert dict(agent(f"snmp://ann@[::1]:9161?auth=SHA&auth_file={secret}&priv=AES&priv_file={secret}").options) == {
        "version": "3",
        "security_username": "ann",
        "security_level": "authPriv",
        "auth_protocol": "SHA",
        "auth_passphrase": "passphrase",
        "privacy_protocol": "AES",
        "privacy_passphrase": "passphrase",
    }
    for wrong in ("h", "http://h", "snmp://-Lf", "snmp://h:x", "snmp://s3cret@h?auth=ROT13", "snmp://s3cret@h?a=1"):
        with pytest.raises(Permanent) as caught:
            agent(wrong)
        assert "s3cret" not in str(caught.value)


def test_faults_of_an_entry_are_named() -> None:
    def faulty(**entry: Any) -> set[tuple[str, ...]]:
        faults = Faults()
        compile_poll({"name": "a", "sample_type": "gauge", **entry}, faults, None)
        return {keys for keys, _ in faults.found}

    assert faulty(snmp={"oid": "ifTable"}) == {("snmp", "oid")}
    assert faulty(snmp={}) == faulty(snmp={"oid": "1.3.6", "table": "1.3.6"}) == {("snmp",)}
    assert faulty(
        snmp={"table": ["1.3.6", 7], "x": 1, "resource": "a", "metadata": {"k": "b"}, "scale": 0}, timeout=""
    ) == {
        ("snmp", "table"),
        ("snmp", "x"),
        ("snmp", "resource"),
        ("snmp", "metadata", "k"),
        ("snmp", "scale"),
        ("timeout",),
    }
    assert faulty(snmp={"oid": "1.3.6"}, sample_type="counter", unit=1) == {("sample_type",), ("unit",)}
