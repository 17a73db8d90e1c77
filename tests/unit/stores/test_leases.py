"""Leases: who may run a step, and that nobody else writes for it; in SQLite and in PostgreSQL."""

import os
import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from builders import warehouse_rows
from conftest import OpenSite
from sqlalchemy import insert, select, update

from meterhouse import times
from meterhouse.errors import AlreadyRunning, Conflict, MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.leases import Lease, LeaseLost, take
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import followed, leases


def test_a_lease_is_held_by_one_and_free_afterwards(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse
    with warehouse.lease("step"):
        with pytest.raises(AlreadyRunning), warehouse.lease("step"):
            pass
        with warehouse.lease("another"):
            pass
    with pytest.raises(ZeroDivisionError), warehouse.lease("step"):
        raise ZeroDivisionError
    with warehouse.lease("step"):
        pass
    assert warehouse_rows(any_warehouse, "SELECT holder FROM leases") == [("",), ("",)]


def test_one_of_many_gets_the_lease(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse
    together, got = threading.Barrier(6), []

    def run(number: int) -> None:
        together.wait()
        if isinstance(take(warehouse, "step", f"elsewhere:{number}:1:x"), Lease):
            got.append(number)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_lease_is_renewed_while_its_work_lasts_although_the_warehouse_fails_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(site.settings.warehouse, lease_seconds=0.3)

    def expiry() -> datetime:
        with warehouse.read() as connection:
            return connection.execute(select(leases.c.expires_at)).scalar_one()

    real, failed = warehouse.begin, threading.Event()

    def fails_once() -> Any:
        if threading.current_thread().name.startswith("lease-") and not failed.is_set():
            failed.set()
            raise MeterhouseError("the warehouse does not answer")
        return real()

    with warehouse.lease("step"):
        monkeypatch.setattr(warehouse, "begin", fails_once)
        first = expiry()
        deadline = time.monotonic() + 30
        while expiry() == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert failed.is_set()
    warehouse.engine.dispose()


def test_the_holder_of_a_lease_names_this_process(site: Site) -> None:
    with site.warehouse.lease("step"):
        ((holder,),) = warehouse_rows(site, "SELECT holder FROM leases")
    assert f":{os.getpid()}:" in holder


def lose(site: Site, name: str) -> Lease:
    """Take a lease from its holder, as another machine does when it has run out."""
    with site.warehouse.begin() as connection:
        connection.execute(update(leases).where(leases.c.name == name).values(expires_at=times.EPOCH))
    taken = take(site.warehouse, name, "another-machine:1:1:x")
    assert isinstance(taken, Lease)
    return taken


def test_generations_grow_with_each_taking_and_never_come_again(any_warehouse: Site) -> None:
    seen = []
    for _ in range(3):
        with any_warehouse.warehouse.lease("step") as lease:
            assert lease.name == "step"
            seen.append(lease.generation)
    with any_warehouse.warehouse.lease("other") as lease:
        assert lease.generation == 1
    assert seen == [1, 2, 3]


def test_the_holder_writes_and_who_lost_the_lease_does_not(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse

    def write(lease: Lease, version: int) -> None:
        with lease.begin() as connection:
            connection.execute(insert(followed).values(follower=f"f{version}", version=version))

    with warehouse.lease("step") as mine:
        write(mine, 1)
        theirs = lose(any_warehouse, "step")
        with pytest.raises(LeaseLost, match="'step' was paused for longer than its lease") as caught:
            write(mine, 2)
        assert isinstance(caught.value, Conflict)
        assert "Nothing was written" in str(caught.value)
        write(theirs, 3)
    assert warehouse_rows(any_warehouse, "SELECT version FROM followed ORDER BY 1") == [(1,), (3,)]


def test_nobody_takes_a_lease_while_its_holder_writes(any_warehouse: Site) -> None:
    """Although it has run out: the taker waits for the transaction, and the write counts."""
    warehouse = any_warehouse.warehouse
    with warehouse.lease("step") as mine:
        with warehouse.begin() as connection:
            connection.execute(update(leases).values(expires_at=times.EPOCH))
        got: list[Lease | str] = []
        taker = threading.Thread(target=lambda: got.append(take(warehouse, "step", "another-machine:1:1:x")))
        with warehouse.begin() as connection:
            mine.check(connection)
            taker.start()
            taker.join(0.2)
            assert got == []
            connection.execute(insert(followed).values(follower="mine", version=1))
        taker.join()
        assert len(got) == 1
    assert warehouse_rows(any_warehouse, "SELECT version FROM followed") == [(1,)]


@pytest.mark.service
def test_a_holder_that_is_paused_in_its_transaction_does_not_keep_the_next_one_waiting(
    open_site: OpenSite, postgres_warehouse: str
) -> None:
    site = open_site(warehouse_url=postgres_warehouse)
    warehouse = Warehouse(postgres_warehouse, lease_seconds=0.3)

    def pause() -> None:
        lease = take(warehouse, "step", "another-machine:1:1:x")
        assert isinstance(lease, Lease)
        with lease.begin() as connection:
            with warehouse.lease("step", wait_seconds=30) as mine:  # the paused transaction ends by itself
                assert mine.generation == 2
            connection.execute(insert(followed).values(follower="f", version=1))

    with pytest.raises(MeterhouseError, match="idle-in-transaction"):
        pause()
    warehouse.engine.dispose()
    assert warehouse_rows(site, "SELECT * FROM followed") == []


def test_a_lost_lease_is_neither_renewed_nor_released(any_warehouse: Site) -> None:
    with any_warehouse.warehouse.lease("step") as mine:
        theirs = lose(any_warehouse, "step")
        before = warehouse_rows(any_warehouse, "SELECT * FROM leases")
        mine.renew()
        mine.release()
        assert warehouse_rows(any_warehouse, "SELECT * FROM leases") == before
    assert warehouse_rows(any_warehouse, "SELECT holder, generation FROM leases") == [
        (theirs.holder, theirs.generation)
    ]


def test_a_lease_is_lost_if_its_row_is_gone(any_warehouse: Site) -> None:
    """The warehouse was restored from a backup, or deleted."""
    with any_warehouse.warehouse.lease("step") as mine:
        with any_warehouse.warehouse.begin() as connection:
            connection.execute(leases.delete())
        with pytest.raises(LeaseLost), mine.begin():
            pass


def test_a_generation_is_raised_above_one_that_the_lake_knows(any_warehouse: Site) -> None:
    with any_warehouse.warehouse.lease("step") as mine:
        mine.raise_above(41)
        assert mine.generation == 42
        mine.raise_above(7)
        assert mine.generation == 43
        with mine.begin():
            pass
        lose(any_warehouse, "step")
        with pytest.raises(LeaseLost):
            mine.raise_above(100)
        assert mine.generation == 43
    assert warehouse_rows(any_warehouse, "SELECT generation FROM leases") == [(44,)]


def test_a_dead_holder_from_before_the_clock_was_set_back_does_not_block_the_step(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = times.now()
    clock = [present]
    monkeypatch.setattr(times, "now", lambda: clock[0])
    assert isinstance(take(site.warehouse, "step", "another-machine:1:1:x"), Lease)
    clock[0] = present - timedelta(days=365)
    with pytest.raises(AlreadyRunning), site.warehouse.lease("step"):
        pass
    clock[0] += timedelta(seconds=site.warehouse.lease_seconds + 1)
    with site.warehouse.lease("step") as lease:
        assert lease.generation == 2


def test_a_live_holder_keeps_its_lease_when_the_clock_is_set_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    present = times.now()
    clock = [present]
    monkeypatch.setattr(times, "now", lambda: clock[0])
    theirs = take(site.warehouse, "step", "another-machine:1:1:x")
    assert isinstance(theirs, Lease)
    clock[0] = present - timedelta(days=365)
    for _ in range(4):
        with pytest.raises(AlreadyRunning), site.warehouse.lease("step"):
            pass
        theirs.renew()
        clock[0] += timedelta(seconds=site.warehouse.lease_seconds / 2)
