"""Deliveries that are broken anywhere: afterwards each transition has arrived, in order, as the ledger says."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from conftest import OpenSite
from outbox import tell

from meterhouse.alarms.delivery import attempts
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.delivery.ledger import listed
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.errors import Unavailable
from meterhouse.site import Site
from meterhouse.stores import clock

pytestmark = pytest.mark.slow

CHILD = """
import sys
from meterhouse.alarms.delivery import attempts
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.settings import read_settings
from meterhouse.site import Site

home, url = sys.argv[1:]
attempts.CLAIM_MARGIN = 0.2
site = Site.open(read_settings(home=home, warehouse_url=url, webhook_timeout_seconds=0.5))
print("ready", flush=True)
while deliver(site, limit=40).pending:
    pass
"""

STATES = ("alarm", "ok", "alarm", "insufficient data")


def transitions(site: Site, receiver: WebhookReceiver, alarms: int) -> None:
    for state in STATES:
        for number in range(alarms):
            tell(site, receiver.url, alarm=f"a{number}", current=state)


def arrived(receiver: WebhookReceiver) -> dict[str, list[str]]:
    """By alarm, the keys of the calls in the order of their first arrival."""
    found: dict[str, list[str]] = defaultdict(list)
    for call in receiver.calls:
        key = call.headers["idempotency-key"]
        if key not in found[call.body["alarm_id"]]:
            found[call.body["alarm_id"]].append(key)
    return dict(found)


def check(site: Site, receiver: WebhookReceiver, alarms: int) -> None:
    """Every notification arrived, in order by alarm, and the ledger says so."""
    rows = listed(site, limit=10_000)[::-1]
    assert {row["state"] for row in rows} == {"delivered"}
    wanted: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        wanted[row["alarm_id"]].append(row["delivery_id"])
    assert arrived(receiver) == wanted
    assert len(wanted) == alarms
    assert all(len(keys) == len(STATES) for keys in wanted.values())
    assert all(row["tried"][-1]["status"] == 200 and row["tried"][-1]["attempt"] == row["attempts"] for row in rows)


@pytest.fixture
def broken(any_warehouse: Site, monkeypatch: pytest.MonkeyPatch, open_site: OpenSite) -> Site:
    monkeypatch.setattr(attempts, "CLAIM_MARGIN", 0.2)
    return open_site(
        home=any_warehouse.settings.home_path,
        warehouse_url=any_warehouse.settings.warehouse,
        webhook_timeout_seconds=0.5,
    )


def finish(site: Site) -> None:
    deadline = time.monotonic() + 60
    while deliver(site).pending:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_deliverers_that_are_killed_lose_nothing(broken: Site) -> None:
    """Two at once, killed again and again at any moment."""
    draw = random.Random(14)
    command = [sys.executable, "-c", CHILD, str(broken.settings.home_path), broken.settings.warehouse]
    with WebhookReceiver() as receiver:
        transitions(broken, receiver, 60)
        killed = 0
        for _ in range(2):
            children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            try:
                for child in children:
                    assert child.stdout is not None
                    child.stdout.readline()
                time.sleep(draw.uniform(0.0, 0.15))
            finally:
                for child in children:
                    killed += child.poll() is None
                    child.send_signal(signal.SIGKILL)
                    child.communicate()
        assert killed > 0
        finish(broken)
        check(broken, receiver, 60)


class Hour(WebhookReceiver):
    """A receiver that breaks each call in another way until it is well."""

    well = False
    calls_broken = 0

    def record(self, call: Any) -> bool:
        if self.well:
            return super().record(call)
        self.calls_broken += 1
        if self.calls_broken in (3, 40):
            time.sleep(0.6)  # hangs
        elif self.calls_broken % 2:
            raise ConnectionAbortedError("closes in the middle")
        return False  # 503


def test_a_receiver_that_is_down_for_an_hour_gets_everything_afterwards(
    broken: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is moved: by up to five minutes ahead, and once a day back."""
    moved = timedelta(0)
    real = clock.present
    monkeypatch.setattr(clock, "present", lambda connection: real(connection) + moved)
    with Hour() as receiver:
        transitions(broken, receiver, 12)
        for step in range(16):
            moved += timedelta(minutes=5) if step != 8 else -timedelta(days=1, minutes=-5)
            deliver(broken)
        assert receiver.calls == []
        assert {row["state"] for row in listed(broken, limit=1000)} == {"pending"}
        receiver.well = True
        moved += timedelta(minutes=6)
        assert deliver(broken).pending == 0
        check(broken, receiver, 12)
    heads = [row for row in listed(broken, limit=1000) if row["attempts"] > 1]
    assert heads
    assert {attempt["error"] is None for row in heads for attempt in row["tried"][:-1]} == {False}


def test_a_warehouse_that_is_gone_in_the_middle_loses_nothing(broken: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = attempts.record, 0

    def fails(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count in (2, 3):
            raise Unavailable("the warehouse cannot be used: it is gone")
        return real(*given)

    monkeypatch.setattr(attempts, "record", fails)
    with WebhookReceiver() as receiver:
        transitions(broken, receiver, 30)
        for _ in range(2):
            with pytest.raises(Unavailable):
                deliver(broken)
        finish(broken)
        check(broken, receiver, 30)


def test_deliverers_at_once_send_each_notification_once_and_in_order(broken: Site, open_site: OpenSite) -> None:
    patient = open_site(home=broken.settings.home_path, warehouse_url=broken.settings.warehouse)
    with WebhookReceiver() as receiver:
        transitions(patient, receiver, 80)
        threads = [threading.Thread(target=deliver, args=(patient,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        finish(patient)
        check(patient, receiver, 80)
    assert len(receiver.calls) == 80 * len(STATES)
