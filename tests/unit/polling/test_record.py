"""The record of polling: who polls what, on SQLite and on PostgreSQL, by a clock that the tests set."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from conftest import OpenSite
from polling_record import START, SetClock, joined, member, rows, scheduled, set_clock

from meterhouse.polling import record
from meterhouse.polling.polled import Piece, Rest
from meterhouse.stores.warehouse import Warehouse


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def warehouse(request: pytest.FixtureRequest, open_site: OpenSite) -> Warehouse:
    """An empty warehouse in each database."""
    url = {} if request.param == "sqlite" else {"warehouse_url": request.getfixturevalue("postgres_warehouse")}
    return open_site(**url).warehouse


@pytest.fixture
def clock(warehouse: Warehouse) -> Iterator[SetClock]:
    with set_clock(warehouse) as clock:
        yield clock


def test_a_slot_is_claimed_once_and_done(warehouse: Warehouse, clock: SetClock) -> None:
    first = joined(warehouse, "a", scheduled(shards=2))
    second = joined(warehouse, "b", scheduled(shards=2))
    assert record.make_due(warehouse) == START + timedelta(seconds=60)
    [one] = record.claim(warehouse, first, 1)
    [two] = record.claim(warehouse, second, 5)
    assert record.claim(warehouse, first, 5) == []
    assert (one.piece, two.piece) == (Piece(0, 2), Piece(1, 2))
    assert one.message_id == "poll:cloud:cpu::2026-11-20T10:00:00Z:1/2"
    further = Rest(Piece(page="http://nova/servers?marker=9"))
    assert record.settle(warehouse, first, [record.Finished(one, 10, 10, 0.5, [further])]) == set()
    assert record.settle(warehouse, second, [record.Finished(one, 10, 10, 0.5)]) == {one.task_id}
    [page] = record.claim(warehouse, second, 5)
    assert (page.shard, page.piece.page) == ("1/2+1", "http://nova/servers?marker=9")
    done = [record.Finished(two, 1, 1, 0.1), record.Finished(page, 3, 3, 0.1)]
    assert record.settle(warehouse, second, done) == set()
    assert rows(warehouse, "shard", "state", "samples") == [
        ("1/2", "done", 10),
        ("1/2+1", "done", 3),
        ("2/2", "done", 1),
    ]


def test_a_lost_task_is_polled_again_in_its_slot_and_its_first_owner_is_fenced(
    warehouse: Warehouse, clock: SetClock
) -> None:
    first, second = joined(warehouse, "a", scheduled()), joined(warehouse, "b", scheduled())
    record.make_due(warehouse)
    [lost] = record.claim(warehouse, first, 1)
    clock.go(5)
    assert record.beat(warehouse, first, [lost]) == set()
    clock.go(10)
    record.make_due(warehouse)
    [taken] = record.claim(warehouse, second, 1)
    assert taken.uncertain
    assert taken.message_id == lost.message_id
    assert record.beat(warehouse, first, [lost]) == {lost.task_id}
    assert record.renew(warehouse, first, [lost]) == set()
    assert record.settle(warehouse, first, [record.Finished(lost, 1, 1, 1)]) == {lost.task_id}
    assert record.settle(warehouse, second, [record.Failed(taken, "it answered 500")]) == set()
    clock.go(60)
    record.make_due(warehouse)
    [closing] = record.overdue(warehouse, second)
    assert closing.error == "it answered 500"
    record.settle(warehouse, second, [record.Missed(closing, closing.error or "")])
    assert rows(warehouse, "state", "error")[0] == ("missed", "it answered 500")


def test_slots_in_which_no_member_ran_are_rows(warehouse: Warehouse, clock: SetClock) -> None:
    gone = joined(warehouse, "a", scheduled(interval=60))
    record.make_due(warehouse)
    record.settle(warehouse, gone, [record.Finished(c, 1, 1, 1) for c in record.claim(warehouse, gone, 9)])
    record.leave(warehouse, gone)
    clock.go(60 * 1_500 + 1)
    record.join(warehouse, member("b"))
    record.make_due(warehouse)
    found = rows(warehouse, "slots", "state", "error")
    assert sum(slots for slots, _, _ in found) == 1_501
    assert found[0] == (1, "done", None)
    assert found[1] == (500, "missed", "no member was alive after 2026-11-20T10:00:00Z")
    assert {state for _, state, _ in found[2:-1]} == {"missed"}
    assert found[-1] == (1, "open", None)
