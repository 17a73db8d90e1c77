"""Whatever members do, in any order, with pauses, kills and a clock that jumps: each slot is done or missed, once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from conftest import OpenSite
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from polling_record import START, SetClock, joined, rows, scheduled, set_clock
from sqlalchemy import delete

from meterhouse.polling import record
from meterhouse.polling.polled import Piece, Rest
from meterhouse.polling.record import by_hand, making, reading
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import poll_members, poll_schedules, poll_tasks

FILES = [
    scheduled("live", "cpu", 10, shards=2),
    scheduled("live", "disk", 30),
    scheduled("past", "usage", 20, history=60),
]
ROWS_OF_MISSED = 4
"""How many missed slots of a schedule have a row of their own here, so that some are one row for many."""

WHO = st.integers(0, 2)
WHICH = st.integers(0, 5)


class Process:
    """A member's memory: what it has claimed, and how far it is with each."""

    def __init__(self, member: record.Member) -> None:
        self.member = member
        self.claims: dict[int, record.Claimed] = {}
        self.closing: dict[int, record.Claimed] = {}
        self.checked: dict[int, record.Claimed] = {}
        self.landed: dict[int, record.Claimed] = {}


class Members(RuleBasedStateMachine):
    """Three members on one warehouse, and a lake that keeps the first batch of a message_id: its number of samples."""

    warehouse: Warehouse
    clock: SetClock

    def __init__(self) -> None:
        super().__init__()
        with self.warehouse.begin() as connection:
            for table in (poll_tasks, poll_members, poll_schedules):
                connection.execute(delete(table))
        self.clock.go((START - self.clock.now).total_seconds())
        self.lake: dict[str, tuple[str, int, list[Rest]]] = {}
        self.born = 0
        self.latest = START
        self.processes = [self._start() for _ in range(3)]

    def _start(self) -> Process:
        self.born += 1
        return Process(joined(self.warehouse, f"m{self.born}", *FILES))

    @rule(seconds=st.sampled_from([1, 4, 11, 35, 130]))
    def time_passes(self, seconds: int) -> None:
        self.clock.go(seconds)
        self.latest = max(self.latest, self.clock.now)

    @rule(seconds=st.sampled_from([3, 25]))
    def the_clock_is_set_back(self, seconds: int) -> None:
        self.clock.go(-min(seconds, (self.clock.now - START).total_seconds()))

    @rule(who=WHO, places=st.integers(1, 4), per_source=st.sampled_from([None, 2]))
    def claim(self, who: int, places: int, per_source: int | None) -> None:
        process = self.processes[who]
        record.make_due(self.warehouse)
        for claim in record.claim(self.warehouse, process.member, places, per_source=per_source):
            assert claim.slot.start <= self.clock.now < claim.until
            process.claims[claim.task_id] = claim

    @rule(who=WHO)
    def beat(self, who: int) -> None:
        process = self.processes[who]
        for lost in record.beat(self.warehouse, process.member, process.claims.values()):
            del process.claims[lost]

    @rule(who=WHO, which=WHICH)
    def check(self, who: int, which: int) -> None:
        process = self.processes[who]
        if claim := _chosen(process.claims, which):
            del process.claims[claim.task_id]
            if record.renew(self.warehouse, process.member, [claim]):
                process.checked[claim.task_id] = claim

    @rule(who=WHO, which=WHICH, rests=st.sampled_from([[], [None], ["it answered 500"], [None, "half a page"]]))
    def land(self, who: int, which: int, rests: list[str | None]) -> None:
        process = self.processes[who]
        if claim := _chosen(process.checked, which):
            del process.checked[claim.task_id]
            left = [] if len(claim.shard) > 6 else rests
            batch = (process.member.name, 5, [Rest(Piece(page=f"page {at}"), error) for at, error in enumerate(left)])
            self.lake.setdefault(claim.message_id, batch)
            process.landed[claim.task_id] = claim

    @rule(who=WHO)
    def settle(self, who: int) -> None:
        process = self.processes[who]
        outcomes: list[Any] = []
        for claim in process.landed.values():
            by, samples, rests = self.lake[claim.message_id]
            if samples:
                outcomes.append(record.Finished(claim, samples, samples, 0.1, rests, by))
            else:
                outcomes.append(record.Missed(claim, claim.error or "lost"))
        process.landed = {}
        record.settle(self.warehouse, process.member, outcomes)

    @rule(who=WHO, which=WHICH, permanent=st.booleans())
    def fail(self, who: int, which: int, permanent: bool) -> None:
        process = self.processes[who]
        if claim := _chosen(process.claims, which):
            del process.claims[claim.task_id]
            record.settle(self.warehouse, process.member, [record.Failed(claim, "it answered 500", permanent)])

    @rule(who=WHO)
    def close(self, who: int) -> None:
        process = self.processes[who]
        record.make_due(self.warehouse)
        for claim in record.overdue(self.warehouse, process.member, 3):
            process.closing[claim.task_id] = claim

    @rule(who=WHO)
    def land_empty(self, who: int) -> None:
        process = self.processes[who]
        for claim in process.closing.values():
            self.lake.setdefault(claim.message_id, (process.member.name, 0, []))
            process.landed[claim.task_id] = claim
        process.closing = {}

    @rule(who=WHO, which=WHICH)
    def release(self, who: int, which: int) -> None:
        process = self.processes[who]
        if claim := _chosen(process.claims, which):
            del process.claims[claim.task_id]
            record.release(self.warehouse, process.member, [claim])

    @rule(who=WHO, leaves=st.booleans())
    def kill(self, who: int, leaves: bool) -> None:
        if leaves:
            record.leave(self.warehouse, self.processes[who].member)
        self.processes[who] = self._start()

    @rule(who=WHO)
    def forget_to_poll(self, who: int) -> None:
        self.processes[who].claims = {}

    @rule()
    def release_by_hand(self) -> None:
        by_hand.release(self.warehouse, reading.Asked(source="live"))

    @invariant()
    def the_record_and_the_lake_agree(self) -> None:
        names = ("message_id", "state", "samples", "uncertain", "owner", "error")
        for message_id, state, samples, uncertain, owner, error in rows(self.warehouse, *names):
            landed = self.lake.get(message_id)
            if state == "done":
                assert landed is not None
                assert (owner, samples) == landed[:2]
            elif state == "missed":
                assert error
                assert landed is None or landed[1] == 0
                assert landed is not None or not uncertain, "a paused member could still land it"

    def teardown(self) -> None:
        for who in range(3):  # those that were paused wake up, late
            self.clock.go(7)
            self.land(who, 0, [])
            self.land_empty(who)
            self.settle(who)
        self.clock.go(1_000)
        self.processes = [Process(joined(self.warehouse, "last", *FILES))]
        for _ in range(30):  # of slots that can be made up, a few in each turn
            record.make_due(self.warehouse)
        for _ in range(1_000):
            self.close(0)
            if not self.processes[0].closing:
                break
            self.land_empty(0)
            self.settle(0)
        self.the_record_and_the_lake_agree()
        self._each_slot_once()

    def _each_slot_once(self) -> None:
        covered: dict[tuple[str, str], dict[datetime, set[str]]] = {}
        names = ("source", "pollster", "slot_at", "end_at", "slots", "shard", "state", "until", "message_id")
        known = set()
        intervals = {(each.source.name, each.pollster.name): timedelta(seconds=each.source.interval) for each in FILES}
        for source, pollster, start, end, slots, shard, state, until, message_id in rows(self.warehouse, *names):
            assert state in ("done", "missed") or until > self.clock.now
            known.add(message_id)
            starts = covered.setdefault((source, pollster), {})
            if slots == 1:
                starts.setdefault(start, set()).add(shard)
            else:  # between some that have rows of their own
                each = intervals[source, pollster]
                for number in range((end - start) // each):
                    starts.setdefault(start + number * each, set()).add(shard)
        assert self.lake.keys() <= known
        for each in FILES:
            interval = intervals[each.source.name, each.pollster.name]
            starts = covered[each.source.name, each.pollster.name]
            expected = {START + number * interval for number in range((self.clock.now - START) // interval + 1)}
            assert expected <= starts.keys(), "no slot is skipped in silence"
            whole = {frozenset(["*"]), frozenset(f"{n + 1}/{each.source.shards}" for n in range(each.source.shards))}
            divided = ({shard for shard in shards if "/" in shard and "+" not in shard} for shards in starts.values())
            firsts = {frozenset(shards or {"*"}) for shards in divided}
            assert firsts <= whole


def _chosen(claims: dict[int, record.Claimed], which: int) -> record.Claimed | None:
    every = sorted(claims)
    return claims[every[which % len(every)]] if every else None


@contextmanager
def _members(warehouse: Warehouse) -> Iterator[type[Members]]:
    with ExitStack() as stack:
        clock = stack.enter_context(set_clock(warehouse))
        stack.enter_context(patch.object(making, "SLOTS", ROWS_OF_MISSED))
        yield type("MembersOfThis", (Members,), {"warehouse": warehouse, "clock": clock})


HOW = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


def test_each_slot_is_done_or_missed_once_whatever_members_do(open_site: OpenSite) -> None:
    with _members(open_site().warehouse) as machine:
        run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=40, **HOW))


@pytest.mark.service
def test_each_slot_is_done_or_missed_once_on_postgresql(open_site: OpenSite, postgres_warehouse: str) -> None:
    with _members(open_site(warehouse_url=postgres_warehouse).warehouse) as machine:
        run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=40, **HOW))
