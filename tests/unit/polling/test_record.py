"""The record of polling: who polls what, on SQLite and on PostgreSQL, by a clock that the tests set."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from conftest import OpenSite
from polling_record import START, SetClock, joined, member, rows, scheduled, set_clock
from sqlalchemy import select

from meterhouse.polling import record
from meterhouse.polling.polled import Piece, Rest
from meterhouse.polling.record import by_hand, reading
from meterhouse.polling.record.expiry import expire
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_schedules


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
    further = Rest(Piece(0, 2, "http://nova/servers?marker=9", ("nova",), by_entry=True))
    assert record.settle(warehouse, first, [record.Finished(one, 10, 10, 0.5, [further])]) == set()
    assert record.settle(warehouse, second, [record.Finished(one, 10, 10, 0.5)]) == {one.task_id}
    [page] = record.claim(warehouse, second, 5)
    assert (page.shard, page.piece) == ("1/2+1", further.piece)
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


def test_files_that_change_while_members_run(warehouse: Warehouse, clock: SetClock) -> None:
    first = joined(warehouse, "a", scheduled(), scheduled(pollster="disk"))
    record.make_due(warehouse)
    clock.go(1)
    second = joined(warehouse, "b", scheduled(interval=30, digest="2"), files="2")
    assert record.sync(warehouse, [scheduled()], first, read_now=False).changed == 0, "the newer files decide"
    clock.go(29)
    record.make_due(warehouse)
    assert [(at, shard) for name, at, shard in rows(warehouse, "pollster", "slot_at", "shard") if name == "cpu"] == [
        (START, "1/1"),
        (START + timedelta(seconds=30), "1/1"),
    ]
    assert {row.pollster for row in _active(warehouse)} == {"cpu", "disk"}, "the first still has it in its files"
    [disk] = [claim for claim in record.claim(warehouse, first, 9) if claim.slot.pollster == "disk"]
    assert record.claim(warehouse, second, 9, without=[("cloud", "cpu")]) == []
    record.release(warehouse, first, [disk])
    record.leave(warehouse, first)
    mine = [scheduled(interval=30, digest="2")]
    in_doubt = record.sync(warehouse, mine, second, doubtful=lambda source, pollster: pollster == "disk")
    assert (in_doubt.removed, in_doubt.unknown) == (0, {("cloud", "disk")}), "what may have a fault stays"
    assert record.sync(warehouse, mine, second, read_now=False).removed == 1
    [ended] = [row for row in rows(warehouse, "pollster", "state", "error") if row[0] == "disk"]
    assert ended[1:] == ("missed", "source cloud or its pollster disk was removed from polling.yaml or pollsters.d")
    clock.go(60)
    record.make_due(warehouse)
    assert {row.pollster for row in _active(warehouse)} == {"cpu"}
    assert joined(warehouse, "c", scheduled(pollster="disk"), files="3") is not None
    record.make_due(warehouse)
    disk_slots = [row for row in rows(warehouse, "pollster", "slot_at", "state") if row[0] == "disk"]
    assert disk_slots[1:] == [("disk", START + timedelta(seconds=60), "open")], "what was not scheduled is not missed"


def test_a_failed_task_is_retried_in_its_slot_and_then_missed_with_the_reason(
    warehouse: Warehouse, clock: SetClock
) -> None:
    first = joined(warehouse, "a", scheduled(interval=10), scheduled(pollster="old", interval=10, history=3_600))
    record.make_due(warehouse)
    attempts = 0
    for _ in range(20):
        clock.go(0.5)
        claims = record.claim(warehouse, first, 9)
        attempts += len([claim for claim in claims if claim.slot.pollster == "cpu"])
        record.settle(warehouse, first, [record.Failed(claim, f"answered {claim.attempts}") for claim in claims])
    record.make_due(warehouse)
    found = {row[0]: row[1:] for row in rows(warehouse, "pollster", "slot_at", "state", "error") if row[1] == START}
    assert 3 <= attempts <= 5
    assert found["cpu"][1] == "missed"
    assert found["cpu"][2] == f"answered {attempts}"
    assert found["old"][1] == "open", "the service keeps its past: the slot is made up"
    clock.go(20)
    record.make_due(warehouse)
    made_up = record.claim(warehouse, first, 9)
    present = START + timedelta(seconds=30)
    assert [claim.slot.start < present for claim in made_up] == [False, False, True, True, True], "the present first"
    permanent = record.Failed(made_up[-1], "no such project", permanent=True)
    record.settle(warehouse, first, [permanent])
    assert "no such project" in rows(warehouse, "error")


def test_a_source_takes_no_more_places_than_it_may(warehouse: Warehouse, clock: SetClock) -> None:
    first = joined(warehouse, "a", scheduled("big", shards=50), scheduled("small", shards=3))
    record.make_due(warehouse)
    claims = record.claim(warehouse, first, 8, per_source=4, taken={"big": 1})
    assert [claim.slot.source for claim in claims] == ["big"] * 3 + ["small"] * 3


def test_a_clock_that_is_set_back_stops_nothing(warehouse: Warehouse, clock: SetClock) -> None:
    first = joined(warehouse, "a", scheduled(interval=60))
    clock.go(7 * 60 + 1)
    record.make_due(warehouse)
    record.claim(warehouse, first, 9)
    clock.go(-6 * 60)
    assert record.make_due(warehouse) is not None
    clock.go(11)
    record.make_due(warehouse)
    second = joined(warehouse, "b", scheduled(interval=60))
    assert _minutes(record.claim(warehouse, second, 9)) == [1], "it was recorded as missed before its time"
    clock.go(60)
    record.make_due(warehouse)
    assert 2 in _minutes(record.claim(warehouse, first, 9))
    clock.go(5 * 60)
    record.make_due(warehouse)
    assert 7 in _minutes(record.claim(warehouse, second, 9)), "the lease ended in time"


def _minutes(claims: list[record.Claimed]) -> list[int]:
    return [(claim.slot.start - START) // timedelta(minutes=1) for claim in claims]


def test_tasks_of_a_host_are_claimed_there(warehouse: Warehouse, clock: SetClock) -> None:
    local = scheduled("host", "libvirt", namespace="compute", of_host=True)
    one, two = (joined(warehouse, name, local, host=name, namespace="compute") for name in ("n1", "n2"))
    record.make_due(warehouse)
    assert [claim.slot.host for claim in record.claim(warehouse, one, 9)] == ["n1"]
    record.leave(warehouse, two)
    clock.go(61)
    record.make_due(warehouse)
    assert ("n2", "missed", "no member of host n2 was alive") in rows(warehouse, "host", "state", "error")


def test_the_record_is_read_released_and_expired(warehouse: Warehouse, clock: SetClock) -> None:
    first = joined(warehouse, "a", scheduled(shards=2), scheduled(pollster="disk"))
    joined(warehouse, "b", scheduled(shards=2), scheduled(pollster="disk"))
    record.make_due(warehouse)
    claims = record.claim(warehouse, first, 9)
    record.settle(
        warehouse,
        first,
        [
            record.Finished(claims[0], 5, 5, 0.2),
            record.Failed(claims[1], "the endpoint answered 500"),
        ],
    )
    shown = reading.status(warehouse)
    assert [(row["pollster"], row["open"], row["claimed"], row["last_error"]) for row in shown] == [
        ("cpu", 1, 0, "the endpoint answered 500"),
        ("disk", 0, 1, None),
    ]
    assert by_hand.release(warehouse, reading.Asked(source="cloud")) == {"released": 1, "due": 1}
    assert record.settle(warehouse, first, [record.Finished(claims[2], 5, 5, 0.2)]) == {claims[2].task_id}
    assert [claim.uncertain for claim in record.claim(warehouse, first, 9)] == [False, True]
    found = reading.history(warehouse, reading.Asked(state="done", member="controller"), 9)
    assert [(row["shard"], row["samples"]) for row in found] == [("1/2", 5)]
    assert [(row["state"], row["claimed"]) for row in reading.who(warehouse)] == [("alive", 2), ("alive", 0)]
    record.leave(warehouse, first)
    clock.go(11)
    assert sorted(row["state"] for row in reading.who(warehouse)) == ["left", "silent"]
    clock.go(120)
    record.make_due(warehouse)
    second = member("b")
    record.settle(warehouse, second, [record.Missed(each, "x") for each in record.overdue(warehouse, second)])
    assert [row["behind"] for row in reading.status(warehouse)] == [2, 2]
    clock.go(8 * 86_400)
    record.make_due(warehouse)
    expire(warehouse, 7)
    assert all(at >= clock.now - timedelta(days=7, minutes=1) for at in rows(warehouse, "end_at"))
    assert reading.who(warehouse, gone=True) == []


def _active(warehouse: Warehouse) -> list[Any]:
    with warehouse.read() as connection:
        return list(connection.execute(select(poll_schedules).where(poll_schedules.c.active.is_(True))))
