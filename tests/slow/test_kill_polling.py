"""Members that die, pause, come and go, and a warehouse that is away: each resource is in each slot once, or missed.

The scenarios run side by side, each on a site of its own. `make soak` has long versions.
"""

import json
import math
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from brokers import PATIENCE_S, Proxy, wait_for
from polling_members import Polled, PolledSite
from shifted_clock import shifted_clock

from meterhouse.polling.member.troubles import RETRY_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.service]

LONG = float(os.environ.get("METERHOUSE_TEST_POLL_SECONDS", "20"))
"""How long each scenario lasts; `make soak` has two minutes."""

IS_LONG = LONG >= 60
INTERVAL, LEASE, SOURCES = (5, 10, 200) if IS_LONG else (2, 2, 20)

AWAY = 20.0 if IS_LONG else 4.0
"""For how long the warehouse is away."""

PAUSED = 30.0 if IS_LONG else 5.0
"""For how long a member is paused."""

AHEAD = 5
"""By how many seconds a member's clock is ahead."""

JOIN = 5.0 if IS_LONG else 2.0
"""How often a member joins, at most."""

BACK_OFF = RETRY_SECONDS[1]
"""How long a member waits at most before it tries again what has failed: how late it may notice that it works again."""

BUSY = 0.0 if IS_LONG else 3.0
"""How long processes that start, of four scenarios at the same time, may keep a member from its work."""

SIDE_BY_SIDE = 1 if IS_LONG else 4
"""How many scenarios run at the same time."""


class Scenario:
    """What happens to three members, and the count after it.

    Attributes:
        polled: the site.
        network: between the members and PostgreSQL.
        begun, ended: the time that is counted: all slots in it.
        away: for how many seconds nothing could be polled, until the last member knew that it could again.
        count: what was polled.
        interval: of the sources, in seconds.
    """

    away = 0.0

    def __init__(self, home: Path, name: str, json_url: str, warehouse_url: str, interval: int) -> None:
        self.json_url, self.interval = json_url, interval
        self.network = Proxy(warehouse_url)
        settings = {"warehouse_url": self.network.url, "poll_lease_seconds": LEASE, "poll_concurrency": 8}
        self.polled = PolledSite(home, name, json_url, sources=SOURCES, interval=interval, settings=settings)
        self.begun = self.ended = datetime.now(UTC)
        self.count = Polled()

    def run(self, happens: Callable[["Scenario"], None]) -> "Scenario":
        """Start the members, let something happen, and count."""
        with self.network:
            try:
                for _ in range(3):
                    self.start_one()
                started = datetime.now(UTC)
                wait_for(lambda: self.polled.polled(started), "the first slot", PATIENCE_S)
                self.begun = datetime.now(UTC)
                happens(self)
                self.wait(LONG - (datetime.now(UTC) - self.begun).total_seconds())
                self.ended = datetime.now(UTC)
                self.polled.stop()
                self.polled.close_slots()
                self.count = self.polled.count()
            finally:
                self.polled.kill()
        return self

    def wait(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def behave(self, number: int, **keys: object) -> str:
        """Let the server answer for a list as these keys say; return its name."""
        name = self.polled.lists[number]
        request = urllib.request.Request(f"{self.json_url}/behaviour/{name}", json.dumps(keys).encode(), method="PUT")
        urllib.request.urlopen(request).close()
        return name

    def requests(self, name: str) -> list[tuple[datetime, int | None]]:
        """When the server was asked for a list, and the status with which it answered."""
        with urllib.request.urlopen(f"{self.json_url}/requests?name={name}") as answer:
            return [(datetime.fromtimestamp(each["time"], UTC), each["status"]) for each in json.load(answer)]

    def slots(self) -> list[datetime]:
        """The starts of the slots that lie within what is counted."""
        first = math.ceil(self.begun.timestamp() / self.interval)
        last = math.floor(self.ended.timestamp() / self.interval)
        return [datetime.fromtimestamp(number * self.interval, UTC) for number in range(first, last)]

    def check(self) -> None:
        """Each resource of each slot is in the samples once, or is recorded as missed, with a reason."""
        found, slots = self.count, self.slots()
        assert max(found.points.values()) == 1
        for name in self.polled.lists:
            for slot in slots:
                here = [found.points[f"{name}-{number}", slot] for number in range(PolledSite.RESOURCES)]
                if (reason := found.missed.get((name, slot))) is not None:
                    assert here == [0] * PolledSite.RESOURCES, (name, slot, reason)
                    assert reason
                else:
                    assert here == [1] * PolledSite.RESOURCES, (name, slot, self.polled.log())
                    assert found.done[name, slot] == found.members[name, slot]
        assert not found.done.keys() & found.missed.keys()

    def missed(self) -> dict[str, set[str]]:
        """The reasons for missed slots, by source."""
        slots, found = self.slots(), dict[str, set[str]]()
        for (name, slot), reason in self.count.missed.items():
            if slot in slots:
                found.setdefault(name, set()).add(reason)
        return found

    def longest_gap(self, without: Collection[str] = ()) -> float:
        """The longest time in which a source was not polled, in seconds: from the begin to the end of what is counted.

        Args:
            without: sources that are not looked at.
        """
        longest = 0.0
        for name in self.polled.lists:
            moments = [moment for (source, _), moment in self.count.received.items() if source == name]
            inside = sorted(moment for moment in moments if self.begun <= moment <= self.ended)
            gaps = [after - before for before, after in pairwise([self.begun, *inside, self.ended])]
            longest = max([longest, *(gap.total_seconds() for gap in gaps)]) if name not in without else longest
        return longest

    def start_one(self, **environment: str) -> None:
        """Start a member, and wait until it has polled something."""
        member = self.polled.start(**environment)
        wait_for(lambda: self.polled.has_polled(member), "the new member's first task", PATIENCE_S)


def one_is_killed(scenario: Scenario) -> None:
    scenario.wait(LONG / 4)
    scenario.polled.members[0].kill()


def one_is_paused(scenario: Scenario) -> None:
    scenario.wait(LONG / 4)
    scenario.polled.members[0].send_signal(signal.SIGSTOP)
    scenario.wait(PAUSED)
    scenario.polled.members[0].send_signal(signal.SIGCONT)


def the_warehouse_is_away(scenario: Scenario) -> None:
    scenario.wait(LONG / 4)
    scenario.away = AWAY + BACK_OFF
    scenario.network.refuse()
    scenario.wait(AWAY)
    scenario.network.pass_on()


def members_join(scenario: Scenario) -> None:
    until = time.monotonic() + LONG
    while (now := time.monotonic()) < until:
        scenario.start_one()
        scenario.wait(now + JOIN - time.monotonic())


def members_are_replaced(scenario: Scenario) -> None:
    for member in list(scenario.polled.members):
        scenario.start_one()
        scenario.polled.stop(member)


def endpoints_fail(scenario: Scenario) -> None:
    scenario.behave(0, hang=1)
    scenario.behave(1, status=500)
    scenario.behave(2, cut=100)
    scenario.wait(LONG / 2)
    scenario.behave(3, status=503, times=1)


def a_clock_is_ahead(scenario: Scenario) -> None:
    scenario.start_one(**shifted_clock(scenario.polled.home, AHEAD))


Happens = Callable[[Scenario], None]


def intervals(happens: Happens) -> int:
    """How often the sources of a scenario are polled: if endpoints fail, a slot has time for a second attempt."""
    return max(INTERVAL, 4) if happens is endpoints_fail else INTERVAL


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    json_url: str,
    postgres_warehouses: Callable[[], str],
) -> Iterator[dict[Happens, Future[Scenario]]]:
    """Runs the scenarios of the tests that were chosen."""
    folder = tmp_path_factory.mktemp("polling")
    found: dict[Happens, Future[Scenario]] = {}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for item in request.session.items:
            if item.path == request.path and isinstance(item, pytest.Function):
                happens = item.callspec.params["scenario"]
                name = happens.__name__
                made = Scenario(
                    folder / name, f"{name}-{time.time_ns()}", json_url, postgres_warehouses(), intervals(happens)
                )
                found[happens] = pool.submit(made.run, happens)
        yield found


@pytest.fixture
def scenario(request: pytest.FixtureRequest, running: dict[Happens, Future[Scenario]]) -> Scenario:
    """The scenario of a test, when it is over."""
    return running[request.param].result()


def of(happens: Happens) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scenario", [pytest.param(happens, id="")], indirect=True)


def steady(scenario: Scenario, failing: Collection[str] = ()) -> None:
    """Everything is counted, and no source waits longer than for the lease, an interval and what was away.

    Args:
        scenario: that is over.
        failing: sources that cannot be polled.
    """
    scenario.check()
    gap, limit = scenario.longest_gap(failing), LEASE + scenario.interval + scenario.away + BUSY
    print(
        f"\n{len(scenario.slots())} slots of {SOURCES} sources, {scenario.count.points.total()} resources polled; "
        f"missed slots of {len(scenario.missed())} sources; longest gap {gap:.1f} s, limit {limit:.1f} s; "
        f"reasons {set().union(*scenario.missed().values())}"
    )
    assert gap <= limit


@of(one_is_killed)
def test_when_a_member_is_killed_the_others_poll_in_its_place(scenario: Scenario) -> None:
    steady(scenario)


@of(one_is_paused)
def test_when_a_member_is_paused_the_others_take_over_and_it_comes_back(scenario: Scenario) -> None:
    steady(scenario)


@of(the_warehouse_is_away)
def test_while_the_warehouse_is_away_slots_are_missed_and_the_reason_is_recorded(scenario: Scenario) -> None:
    steady(scenario)
    assert any("warehouse" in reason for reasons in scenario.missed().values() for reason in reasons)


@of(members_join)
def test_members_that_join_get_their_share_and_nothing_is_polled_twice(scenario: Scenario) -> None:
    steady(scenario)
    assert len(scenario.polled.members) > 5
    polled_by = {owner.split(":")[1] for owner in scenario.count.done.values()}
    assert polled_by >= {str(member.pid) for member in scenario.polled.members}


@of(members_are_replaced)
def test_members_are_replaced_one_after_the_other_and_everything_is_polled(scenario: Scenario) -> None:
    steady(scenario)


@of(endpoints_fail)
def test_endpoints_that_fail_miss_their_own_slots_and_no_others(scenario: Scenario) -> None:
    hanging, failing, cut, failing_once = scenario.polled.lists[:4]
    steady(scenario, failing=(hanging, failing, cut))
    missed = scenario.missed()
    assert missed.keys() == {hanging, failing, cut}
    assert all("there was no whole answer within" in reason for reason in missed[hanging])
    assert all("it answers with status 500" in reason for reason in missed[failing])
    assert all("the connection ended before the answer did" in reason for reason in missed[cut])
    for name in missed:
        assert {slot for source, slot in scenario.count.missed if source == name} >= {*scenario.slots()}
    (refused,) = [moment for moment, status in scenario.requests(failing_once) if status == 503]
    slot = max(slot for slot in scenario.slots() if slot <= refused)
    assert slot < scenario.count.received[failing_once, slot] < slot + timedelta(seconds=scenario.interval)
    assert scenario.count.received[failing_once, slot] > refused


@of(a_clock_is_ahead)
def test_a_member_whose_clock_is_ahead_stamps_samples_with_the_warehouses_time(scenario: Scenario) -> None:
    steady(scenario)
    found = scenario.count
    ahead = {member for member, seconds in found.ahead.items() if seconds > AHEAD - 1}
    assert len(ahead) == 1
    assert ahead <= set(found.members.values())
    for (name, slot), received in found.received.items():
        assert slot <= received < slot + timedelta(seconds=AHEAD), (name, slot)
