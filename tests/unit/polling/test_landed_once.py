"""Whatever a kill or a pause falls between, samples are landed once, and the record says what is landed."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import msgspec
import orjson
import pytest
from builders import rows
from sqlalchemy import insert, select, update

from meterhouse import times
from meterhouse.errors import Unavailable
from meterhouse.polling import record
from meterhouse.polling.asking import Asking
from meterhouse.polling.member.lander import Lander
from meterhouse.polling.member.results import Ready
from meterhouse.polling.member.sinks import LakeSink, Sink
from meterhouse.polling.member.work import given_up, poll
from meterhouse.polling.polled import Piece, Polled, PollError, Rest, Slot
from meterhouse.polling.pollster import Pollster, Scheduled, Source
from meterhouse.polling.record import Claimed, Failed
from meterhouse.polling.record.settling import Outcome
from meterhouse.site import Site
from meterhouse.stores.leases import this_process
from meterhouse.stores.warehouse_tables import poll_tasks as tasks
from meterhouse.stream.publishing import enveloped


@dataclass
class Given:
    """A pollster that gives what a test says."""

    resources: Sequence[str] = ("r1", "r2")
    rests: Sequence[Rest] = ()
    warnings: Sequence[str] = ()
    error: PollError | None = None

    def poll(self, asking: Asking, slot: Slot, piece: Piece, source: Source) -> Polled:
        if self.error is not None:
            raise self.error
        fields = {
            "source": "openstack",
            "counter_name": "m",
            "counter_type": "gauge",
            "counter_unit": "",
            "user_id": None,
        }
        samples = [
            {
                **fields,
                "counter_volume": 1.0,
                "project_id": None,
                "resource_id": each,
                "timestamp": asking.now().replace(tzinfo=None).isoformat(),
                "resource_metadata": {},
            }
            for each in self.resources
        ]
        return Polled(samples, len(samples), list(self.rests), list(self.warnings))

    def size(self, asking: Asking, source: Source) -> int:
        return len(self.resources)


class Members:
    """Members on one site, whose threads a test runs step by step."""

    def __init__(self, site: Site) -> None:
        self.site, self.given = site, Given()
        self.asking = Asking(site.settings)
        pollster = Pollster("m", frozenset({"central"}), "given", 0, "", self.given, "1", "here:1")
        self.scheduled = Scheduled(Source("s", 3600, ("m",)), pollster, False, "1")

    def join(self) -> record.Member:
        """A new member of another process than those before, which is taken for alive until its lease ends."""
        member = record.Member(f"other-host:1:1:{this_process()[-8:]}", frozenset({"central"}), 3600, "1")
        record.join(self.site.warehouse, member)
        record.sync(self.site.warehouse, [self.scheduled], member)
        record.make_due(self.site.warehouse)
        return member

    def claim(self, member: record.Member) -> Claimed:
        (claim,) = record.claim(self.site.warehouse, member, 1)
        return claim

    def poll(self, member: record.Member, claim: Claimed) -> Ready:
        result = poll(claim, self.scheduled, self.asking, member.name)
        assert isinstance(result, Ready)
        return result

    def lander(
        self, member: record.Member, sink: Sink | None = None, before_record: Callable[[], object] = lambda: None
    ) -> Lander:
        """The lander of a member, which is not started: a test calls what its thread would call."""
        warehouse = self.site.warehouse

        def settle(outcomes: Sequence[Outcome]) -> set[int]:
            before_record()
            return record.settle(warehouse, member, outcomes)

        return Lander(
            member.name,
            sink or LakeSink(replace(self.site)),
            lambda claims: record.renew(warehouse, member, claims),
            settle,
            lambda: False,
            lambda outcomes: None,
        )

    def lose(self, claim: Claimed) -> None:
        """Let a lease run out."""
        with self.site.warehouse.begin() as connection:
            changed = update(tasks).where(tasks.c.task_id == claim.task_id)
            connection.execute(changed.values(lease_until=tasks.c.slot_at))
        record.make_due(self.site.warehouse)

    def end_slot(self, claim: Claimed) -> None:
        """Let it be too late to poll a task."""
        with self.site.warehouse.begin() as connection:
            changed = update(tasks).where(tasks.c.task_id == claim.task_id)
            connection.execute(changed.values(until=tasks.c.slot_at, lease_until=tasks.c.slot_at))
        record.make_due(self.site.warehouse)

    def landed(self) -> Counter[str]:
        """How often each resource is landed."""
        found: Counter[str] = Counter()
        for row in rows(self.site, "notifications", "body"):
            found.update(sample["resource_id"] for sample in orjson.loads(row["body"])["payload"]["samples"])
        return found

    def tasks(self) -> list[dict[str, Any]]:
        with self.site.warehouse.read() as connection:
            return [dict(row) for row in connection.execute(select(tasks).order_by("task_id")).mappings()]

    def overdue(self, member: record.Member) -> Ready:
        (claim,) = record.overdue(self.site.warehouse, member)
        return given_up(claim, claim.error or "", self.asking, member.name)


class Pausing(LakeSink):
    """A member that is paused right before it lands: meanwhile, something happens."""

    def __init__(self, site: Site, meanwhile: Callable[[], object]) -> None:
        super().__init__(replace(site))
        self._meanwhile: Callable[[], object] | None = meanwhile

    def put(self, batches: Any) -> frozenset[str]:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().put(batches)


@pytest.fixture
def members(site: Site) -> Members:
    return Members(site)


def settled(lander: Lander, *results: Any) -> None:
    """Let a lander land and record."""
    lander.hand_over(results)
    lander.start()
    lander.settle(30)
    assert not lander.is_alive()


def test_what_a_member_landed_before_it_was_killed_is_recorded_as_its_own(members: Members) -> None:
    members.given.rests = [Rest(Piece(page="http://cloud/next"))]
    members.given.warnings = ["3 entries, first x: it has no size", "y: it has no id"]
    killed, heir = members.join(), members.join()
    claim = members.claim(killed)
    LakeSink(replace(members.site)).put([members.poll(killed, claim).batch])
    members.lose(claim)
    members.given.resources, members.given.rests, members.given.warnings = ["r2", "r3"], [], []
    settled(members.lander(heir), members.poll(heir, members.claim(heir)))
    assert members.landed() == {"r1": 1, "r2": 1}
    done, rest = members.tasks()
    assert (done["state"], done["owner"], done["samples"], done["resources"]) == ("done", killed.name, 2, 2)
    assert done["error"] == "3 entries, first x: it has no size; and 1 more: see the log"
    assert (rest["state"], rest["shard"]) == ("open", "1/1+1")


def test_a_member_that_was_paused_before_it_lands_adds_nothing(members: Members) -> None:
    paused, heir = members.join(), members.join()
    claim = members.claim(paused)
    ready = members.poll(paused, claim)

    def take_over() -> None:
        members.lose(claim)
        members.given.resources = ["r3"]
        settled(members.lander(heir), members.poll(heir, members.claim(heir)))

    settled(members.lander(paused, Pausing(members.site, take_over)), ready)
    assert members.landed() == {"r3": 1}
    (task,) = members.tasks()
    assert (task["state"], task["owner"], task["samples"]) == ("done", heir.name, 1)


def test_samples_of_a_task_that_another_member_has_are_dropped(members: Members) -> None:
    paused, heir = members.join(), members.join()
    claim = members.claim(paused)
    ready = members.poll(paused, claim)
    members.lose(claim)
    members.claim(heir)
    settled(members.lander(paused), ready)
    assert members.landed() == {}
    (task,) = members.tasks()
    assert (task["state"], task["owner"]) == ("claimed", heir.name)


def test_what_is_recorded_as_missed_is_never_landed(members: Members) -> None:
    paused, heir = members.join(), members.join()
    claim = members.claim(paused)
    ready = members.poll(paused, claim)

    def give_up() -> None:
        members.end_slot(claim)
        settled(members.lander(heir), members.overdue(heir))

    settled(members.lander(paused, Pausing(members.site, give_up)), ready)
    assert members.landed() == {}
    (task,) = members.tasks()
    assert task["state"] == "missed"
    assert paused.name in task["error"]


def test_what_was_landed_before_its_slot_was_given_up_is_recorded(members: Members) -> None:
    killed, heir, last = members.join(), members.join(), members.join()
    claim = members.claim(killed)
    LakeSink(replace(members.site)).put([members.poll(killed, claim).batch])
    members.end_slot(claim)
    ready = members.overdue(heir)
    LakeSink(replace(members.site)).put([ready.batch])  # the heir dies too
    members.lose(ready.claim)
    settled(members.lander(last), members.overdue(last))
    assert members.landed() == {"r1": 1, "r2": 1}
    (task,) = members.tasks()
    assert (task["state"], task["owner"], task["samples"]) == ("done", killed.name, 2)


def test_a_slot_stays_missed_if_the_member_that_gave_it_up_dies(members: Members) -> None:
    killed, heir, last = members.join(), members.join(), members.join()
    claim = members.claim(killed)
    members.end_slot(claim)
    ready = members.overdue(heir)
    LakeSink(replace(members.site)).put([ready.batch])
    members.lose(ready.claim)
    settled(members.lander(last), members.overdue(last))
    (task,) = members.tasks()
    assert task["state"] == "missed"
    assert killed.name in task["error"]


def test_samples_are_landed_while_the_warehouse_is_away_and_recorded_when_it_is_back(members: Members) -> None:
    member = members.join()
    ready = members.poll(member, members.claim(member))
    folder = members.site.settings.home_path
    lander = members.lander(member)
    lander.hand_over([ready])
    members.site.warehouse.engine.dispose()
    for path in folder.glob("warehouse.db*"):
        path.rename(path.with_name(f"away-{path.name}"))
    (folder / "warehouse.db").mkdir()
    lander.start()
    deadline = time.monotonic() + 30
    while not members.landed() and time.monotonic() < deadline:
        time.sleep(0.05)
    (folder / "warehouse.db").rmdir()
    for path in folder.glob("away-*"):
        path.rename(path.with_name(path.name.removeprefix("away-")))
    lander.settle(30)
    assert members.landed() == {"r1": 1, "r2": 1}
    (task,) = members.tasks()
    assert (task["state"], task["samples"]) == ("done", 2)


def test_samples_are_kept_while_the_lake_cannot_be_written_and_nothing_more_is_claimed(members: Members) -> None:
    member = members.join()
    ready = members.poll(member, members.claim(member))
    lake = members.site.settings.home_path / "lake"
    lake.parent.mkdir(exist_ok=True)
    lake.write_text("a file in place of the lake's folder: nothing can be written, whoever asks")
    lander = members.lander(member)
    assert lander.fault == ""
    lander.hand_over([ready])
    lander.start()
    deadline = time.monotonic() + 30
    while not lander.fault and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "lake" in lander.fault
    assert [claim.task_id for claim in lander.claims()] == [ready.claim.task_id]
    lake.unlink()
    lander.settle(30)
    assert lander.fault == ""
    assert members.landed() == {"r1": 1, "r2": 1}
    (task,) = members.tasks()
    assert task["state"] == "done"


def test_of_two_claims_of_a_task_by_one_member_only_the_last_speaks(members: Members) -> None:
    member = members.join()
    claim = members.claim(member)
    polled = members.poll(member, claim)
    members.end_slot(claim)
    settled(members.lander(member), polled, members.overdue(member))
    assert members.landed() == {}
    (task,) = members.tasks()
    assert task["state"] == "missed"


@contextmanager
def clock_behind(hours: float) -> Iterator[None]:
    """A host whose clock is behind, or the past."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(times, "now", lambda now=times.now: now() - timedelta(hours=hours))
        yield


class Silent(LakeSink):
    """A lake that landed the first batches some hours ago, but has not said so until now."""

    def __init__(self, site: Site, hours: float = 0.0) -> None:
        super().__init__(replace(site))
        self._hours: float | None = hours

    def put(self, batches: Any) -> frozenset[str]:
        hours, self._hours = self._hours, None
        if hours is None:
            return super().put(batches)
        with clock_behind(hours):
            LakeSink(replace(self._site)).put(batches)
        raise Unavailable("the lake does not answer")


def test_what_an_earlier_claim_of_the_member_landed_is_recorded_by_the_later_one(members: Members) -> None:
    members.given.rests = [Rest(Piece(page="http://cloud/next"))]
    member = members.join()
    claim = members.claim(member)
    lander = members.lander(member, Silent(members.site))
    lander.hand_over([members.poll(member, claim)])
    lander.start()
    deadline = time.monotonic() + 30
    while not lander.fault and time.monotonic() < deadline:
        time.sleep(0.01)
    members.end_slot(claim)
    lander.hand_over([members.overdue(member)])
    lander.settle(30)
    assert members.landed() == {"r1": 1, "r2": 1}
    done, rest = members.tasks()
    assert (done["state"], done["samples"], rest["shard"]) == ("done", 2, "1/1+1")


class Forgetful(LakeSink):
    """A lake that knows as little as a stream of what was stored before."""

    def put(self, batches: Any) -> frozenset[str]:
        super().put(batches)
        return frozenset()

    def outcomes(self, message_ids: Any, since: Any) -> Any:
        return {}


def test_what_is_stored_but_not_recorded_yet_is_what_a_later_claim_records(members: Members) -> None:
    member = members.join()
    claim = members.claim(member)
    unrecorded: list[Claimed] = []

    def lose_it_meanwhile() -> None:
        if not unrecorded:
            members.end_slot(claim)
            lander.hand_over([members.overdue(member)])
            unrecorded.extend(lander.claims())
            raise Unavailable("the warehouse does not answer")

    lander = members.lander(member, Forgetful(replace(members.site)), lose_it_meanwhile)
    settled(lander, members.poll(member, claim))
    assert [each.generation for each in unrecorded] == [claim.generation + 1]
    assert members.landed() == {"r1": 1, "r2": 1}
    (task,) = members.tasks()
    assert (task["state"], task["samples"]) == ("done", 2)


@pytest.mark.parametrize("how", ["an heir", "an heir gives up", "the member itself"])
def test_what_was_landed_before_redelivery_is_known_is_found_and_not_landed_again(members: Members, how: str) -> None:
    members.site = replace(members.site, settings=replace(members.site.settings, redelivery_hours=1))
    first, heir = members.join(), members.join()
    past = {"slot_at": times.now() - timedelta(hours=5), "end_at": times.now() - timedelta(hours=4)}
    with members.site.warehouse.begin() as connection:
        connection.execute(update(tasks).values(past))
    claim = members.claim(first)
    polled = members.poll(first, claim)
    if how == "the member itself":
        settled(members.lander(first, Silent(members.site, 4.5)), polled)
    else:
        with clock_behind(4.5):
            LakeSink(replace(members.site)).put([polled.batch])
        members.lose(claim)
        if how == "an heir gives up":
            members.end_slot(claim)
        settled(
            members.lander(heir),
            members.overdue(heir) if how == "an heir gives up" else members.poll(heir, members.claim(heir)),
        )
    assert members.landed() == {"r1": 1, "r2": 1}
    (task,) = members.tasks()
    assert (task["state"], task["owner"], task["samples"]) == ("done", first.name, 2)


def test_what_a_host_whose_clock_is_behind_landed_is_found(members: Members) -> None:
    members.given.rests = [Rest(Piece(page="http://cloud/next"))]
    killed, heir = members.join(), members.join()
    claim = members.claim(killed)
    polled = members.poll(killed, claim)
    with clock_behind(20):
        LakeSink(replace(members.site)).put([polled.batch])
    members.end_slot(claim)
    settled(members.lander(heir), members.overdue(heir))
    done, rest = members.tasks()
    assert (done["state"], done["samples"], rest["shard"]) == ("done", 2, "1/1+1")


@pytest.mark.parametrize("payload", [{}, {"slot": {"rests": [{}]}}])
def test_nothing_is_guessed_of_a_message_id_that_is_landed_without_an_outcome(
    members: Members, payload: dict[str, Any]
) -> None:
    members.scheduled = replace(members.scheduled, source=replace(members.scheduled.source, shards=2))
    member = members.join()
    one, two = record.claim(members.site.warehouse, member, 2)
    note = msgspec.to_builtins(members.poll(member, one).note)
    slots = {name: {**note, **slot} for name, slot in payload.items()}
    stranger: dict[str, object] = {
        "message_id": one.message_id,
        "event_type": "telemetry.polling",
        "publisher_id": "p",
        "priority": "info",
        "timestamp": "2026-12-01 00:00:00",
        "payload": {"samples": [], **slots},
    }
    LakeSink(replace(members.site)).put([enveloped(stranger)])
    settled(members.lander(member), members.poll(member, one), members.poll(member, two))
    states = {task["task_id"]: task["state"] for task in members.tasks()}
    assert states == {one.task_id: "claimed", two.task_id: "done"}
    members.lose(one)
    assert next(task for task in members.tasks() if task["task_id"] == one.task_id)["uncertain"]


def test_an_outcome_that_cannot_be_recorded_keeps_no_other_from_being_recorded(any_warehouse: Site) -> None:
    members = Members(any_warehouse)
    members.scheduled = replace(members.scheduled, source=replace(members.scheduled.source, shards=3))
    member = members.join()
    one, two, three = record.claim(members.site.warehouse, member, 3)
    same = Rest(Piece(two.piece.shard, 3, page="http://cloud/next"))
    with members.site.warehouse.begin() as connection:  # takes the place of the rest
        row = connection.execute(select(tasks).where(tasks.c.task_id == two.task_id)).mappings().one()
        taken = {**row, "shard": f"{two.shard}+1", "state": "done"}
        connection.execute(insert(tasks).values({name: taken[name] for name in taken if name != "task_id"}))
    members.given.rests = [same]
    faulty = members.poll(member, two)
    members.given.rests = []
    settled(members.lander(member), members.poll(member, one), faulty, Failed(three, "half a\ud800 pair and a \0"))
    found = {task["task_id"]: task for task in members.tasks()}
    assert [found[each.task_id]["state"] for each in (one, two, three)] == ["done", "claimed", "open"]
    assert found[three.task_id]["error"] == "half a? pair and a "
    members.lose(two)
    assert found[two.task_id]["owner"] == member.name
