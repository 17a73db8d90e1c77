"""A leader runs its program while it surely holds the lease, and no longer."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import Proxy

from meterhouse.daemon.home import check_home
from meterhouse.daemon.lead import lead
from meterhouse.daemon.leader import LEASE
from meterhouse.errors import MeterhouseError
from meterhouse.stores.leases import take, this_process
from meterhouse.stores.warehouse import Warehouse


def wait(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.service
def test_a_leader_that_does_not_reach_the_warehouse_ends_its_program_and_leads_again_afterwards(
    postgres_warehouse: str, tmp_path: Path
) -> None:
    program = ["/bin/sh", "-c", f"echo $$ >> {tmp_path}/pids; echo $_METERHOUSE_LEADER >> {tmp_path}/told; sleep 300"]
    said: list[str] = []
    end = threading.Event()

    def pids() -> list[int]:
        file = tmp_path / "pids"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    with Proxy(postgres_warehouse) as network:
        warehouse = Warehouse(network.url, lease_seconds=2)
        leader = threading.Thread(target=lead, args=(warehouse, program, end.is_set, said.append))
        leader.start()
        try:
            wait(pids, "the program does not start")
            network.refuse()
            wait(lambda: any("the lease was lost" in line for line in said), "the leader leads without a lease")
            wait(lambda: not Path(f"/proc/{pids()[0]}").exists(), "the program outlives the lease")
            network.pass_on()
            wait(lambda: len(pids()) == 2, "the leader does not come back")
        finally:
            end.set()
            leader.join()
        assert not Path(f"/proc/{pids()[1]}").exists()
        first, second = (tmp_path / "told").read_text().splitlines()
        assert (int(first.split()[0]), int(second.split()[0])) == (1, 2)
        # Its lease is given back: another one leads at once.
        assert not isinstance(take(warehouse, LEASE, this_process()), str)
        warehouse.engine.dispose()


def test_a_program_that_ends_by_itself_is_started_again_after_others_could_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterhouse.daemon.lead.PAUSE_SECONDS", 0.0)
    warehouse = Warehouse(f"sqlite:///{tmp_path}/warehouse.db", lease_seconds=5)
    said: list[str] = []
    lead(warehouse, ["/bin/sh", "-c", "exit 3"], lambda: len(said) >= 4, said.append)
    assert said == [
        "leading, generation 1",
        "/bin/sh ended by itself, with status 3",
        "leading, generation 2",
        "/bin/sh ended by itself, with status 3",
    ]
    warehouse.engine.dispose()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "Copy the checkout's dagster.yaml there"),
        ("storage: [", "this is not YAML"),
        ("storage:\n  postgres:\n    postgres_url: {env: NO_SUCH_URL}", "NO_SUCH_URL is not set"),
        ("storage:\n  postgres:\n    postgres_url: postgresql://db/d", r"has to start with postgresql\+psycopg2://"),
        ("storage:\n  postgres:\n    postgres_url: postgresql+psycopg2://db/w", "the same database"),
    ],
)
def test_a_home_that_cannot_work_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    if content is not None:
        (tmp_path / "dagster.yaml").write_text(content)
    with pytest.raises(MeterhouseError, match=said):
        check_home("postgresql+psycopg://db/w")
    monkeypatch.delenv("DAGSTER_HOME")
    with pytest.raises(MeterhouseError, match="DAGSTER_HOME is not set"):
        check_home("")
    assert "DAGSTER_HOME" not in os.environ
