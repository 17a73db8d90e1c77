"""Delivery: each notification arrives, in order, however the receivers behave; the outbox records what happened."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from conftest import OpenSite
from outbox import ledger, put, wait_no_longer
from sqlalchemy import select, update

from meterhouse import times
from meterhouse.alarms.delivery import attempts, sending
from meterhouse.alarms.delivery.call import Answer
from meterhouse.alarms.delivery.deliver import deliver, due
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import deliveries


def test_a_notification_is_posted_once_with_the_headers_of_aodh(any_warehouse: Site) -> None:
    with WebhookReceiver() as receiver:
        sent = put(any_warehouse, receiver.url, 7)
        assert due(any_warehouse) == 1
        done = deliver(any_warehouse)
        assert (done.delivered, done.failed, done.dead, done.pending) == (1, 0, 0, 0)
        assert deliver(any_warehouse).delivered == 0
    (call,) = receiver.calls
    assert call.body == {"alarm_id": "alarm-1", "number": 7}
    assert call.headers["content-type"] == "application/json"
    assert call.headers["idempotency-key"] == sent
    assert call.headers["x-openstack-request-id"].startswith("req-")
    assert ledger(any_warehouse) == [("delivered", 1, None)]
    assert due(any_warehouse) == 0


def test_a_receiver_that_refuses_is_retried_later_with_the_same_key(site: Site) -> None:
    with WebhookReceiver(fail_first=2) as receiver:
        put(site, receiver.url)
        for attempt in (1, 2):
            done = deliver(site)
            assert (done.delivered, done.failed, done.pending) == (0, 1, 1)
            assert ledger(site) == [("pending", attempt, "the receiver answered 503")]
            assert due(site) == 0  # not before the pause is over
            wait_no_longer(site)
        assert deliver(site).delivered == 1
    keys = {call.headers["idempotency-key"] for call in [*receiver.refused, *receiver.calls]}
    assert len(keys) == 1
    assert (len(receiver.refused), len(receiver.calls)) == (2, 1)
    assert ledger(site) == [("delivered", 3, None)]


def test_pauses_grow_up_to_a_limit(site: Site) -> None:
    put(site, "http://127.0.0.1:1/nobody")
    pauses = []
    for _ in range(9):
        begun = times.now()
        deliver(site)
        with site.warehouse.read() as connection:
            pauses.append(
                (connection.execute(select(deliveries.c.next_attempt_at)).scalar_one() - begun).total_seconds()
            )
        wait_no_longer(site)
    for attempt, pause in enumerate(pauses):
        assert pause >= 0.5 * 2**attempt
    assert ledger(site)[0][:2] == ("pending", 9)
    assert "ConnectError" in ledger(site)[0][2]


def test_a_notification_is_dead_after_the_last_attempt(open_site: OpenSite) -> None:
    site = open_site(webhook_attempts=2)
    with WebhookReceiver(fail_first=99) as receiver:
        put(site, receiver.url)
        assert deliver(site).failed == 1
        wait_no_longer(site)
        done = deliver(site)
        assert (done.failed, done.dead, done.pending) == (0, 1, 0)
        wait_no_longer(site)
        assert deliver(site).dead == 0
    assert len(receiver.refused) == 2
    assert ledger(site) == [("dead", 2, "the receiver answered 503")]


class _Silent(BaseHTTPRequestHandler):
    release = threading.Event()

    def do_POST(self) -> None:
        self.release.wait(20)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts the call and does not answer."""
    _Silent.release.clear()
    server = HTTPServer(("127.0.0.1", 0), _Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    _Silent.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_receiver_that_does_not_answer_does_not_hold_up_others(open_site: OpenSite, silent: str) -> None:
    site = open_site(webhook_timeout_seconds=1.0)
    with WebhookReceiver() as receiver:
        put(site, silent, 1, alarm="slow")
        put(site, receiver.url, 2)
        done = deliver(site)
    assert (done.delivered, done.failed) == (1, 1)
    assert [row[0] for row in ledger(site)] == ["pending", "delivered"]
    assert "Timeout" in ledger(site)[0][2]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://no.such.host.invalid/", "http://h:99999/", "http://ü..x/"]
)
def test_an_address_that_cannot_be_reached_is_a_failed_attempt(site: Site, url: str) -> None:
    put(site, url)
    assert deliver(site).failed == 1
    assert ledger(site)[0][0] == "pending"
    assert ledger(site)[0][2]


def test_notifications_of_one_alarm_to_one_url_keep_their_order(site: Site) -> None:
    with WebhookReceiver(fail_first=1) as receiver:
        for number in range(4):
            put(site, receiver.url, number)
        assert due(site) == 1
        assert deliver(site).delivered == 0
        wait_no_longer(site)
        assert deliver(site).delivered == 4
    assert [call.body["number"] for call in receiver.calls] == [0, 1, 2, 3]


def test_other_alarms_and_other_urls_do_not_wait(site: Site) -> None:
    with WebhookReceiver() as receiver:
        put(site, "http://127.0.0.1:1/", 0)
        put(site, receiver.url, 1)
        put(site, receiver.url, 2, alarm="alarm-2")
        assert due(site) == 3
        assert deliver(site).delivered == 2


def test_a_dead_notification_does_not_block_the_next_one(open_site: OpenSite) -> None:
    site = open_site(webhook_attempts=1)
    with WebhookReceiver(fail_first=1) as receiver:
        put(site, receiver.url, 0)
        put(site, receiver.url, 1)
        done = deliver(site)
        assert (done.dead, done.delivered) == (1, 1)
    assert [call.body["number"] for call in receiver.calls] == [1]


def test_two_concurrent_deliveries_send_each_notification_once(any_warehouse: Site) -> None:
    with WebhookReceiver() as receiver:
        for number in range(20):
            put(any_warehouse, receiver.url, number, alarm=f"alarm-{number}")
        together = threading.Barrier(3)
        delivered: list[int] = []

        def run() -> None:
            together.wait()
            delivered.append(deliver(any_warehouse).delivered)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(delivered) == 20
    assert sorted(call.body["number"] for call in receiver.calls) == list(range(20))


def test_a_notification_claimed_by_a_process_that_died_is_sent_later(site: Site) -> None:
    with WebhookReceiver() as receiver:
        put(site, receiver.url)
        with site.warehouse.begin() as connection:
            claim = {"attempts": 1, "next_attempt_at": times.now() + timedelta(seconds=9)}
            connection.execute(update(deliveries).values(**claim))
        assert deliver(site).delivered == 0
        wait_no_longer(site)
        assert deliver(site).delivered == 1
    assert ledger(site) == [("delivered", 2, None)]


def test_who_was_paused_past_its_claim_does_not_overwrite_the_result_of_the_other(
    any_warehouse: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, paused = sending.post, []

    async def pause(*given: Any) -> Answer:
        if paused:
            return await real(*given)
        paused.append(given[0].headers["idempotency-key"])
        wait_no_longer(any_warehouse)  # the claim runs out
        other = threading.Thread(target=deliver, args=(any_warehouse,))
        other.start()
        while other.is_alive():
            await asyncio.sleep(0.01)
        return Answer("Timeout: the connection was gone when it continued")

    monkeypatch.setattr(sending, "post", pause)
    with WebhookReceiver() as receiver:
        put(any_warehouse, receiver.url)
        done = deliver(any_warehouse)
    assert (done.delivered, done.failed, done.pending) == (0, 0, 0)
    assert ledger(any_warehouse) == [("delivered", 2, None)]
    assert [call.headers["idempotency-key"] for call in receiver.calls] == paused


def test_who_was_paused_between_its_claim_and_the_call_leaves_the_call_to_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attempts.claim

    def late(*given: Any) -> Any:
        return [replace(claim, until=0.0) for claim in real(*given)]

    with WebhookReceiver() as receiver, monkeypatch.context() as slow:
        put(site, receiver.url)
        slow.setattr(attempts, "claim", late)
        assert deliver(site).pending == 1
    assert receiver.calls == []
    assert ledger(site) == [("pending", 1, None)]


def test_a_notification_does_not_wait_for_a_clock_that_was_set_back(site: Site) -> None:
    put(site, "log://")
    with site.warehouse.begin() as connection:
        connection.execute(update(deliveries).values(next_attempt_at=times.now() + timedelta(days=365)))
    assert due(site) == 1
    assert deliver(site).delivered == 1


def test_the_order_is_that_of_the_transitions_whatever_the_clocks_say(any_warehouse: Site) -> None:
    with WebhookReceiver() as receiver:
        for number, hours in enumerate((0, 0, -24, 24, -1)):  # the same instant, set back, of another machine
            put(any_warehouse, receiver.url, number, created=times.now() + timedelta(hours=hours))
        assert due(any_warehouse) == 1
        assert deliver(any_warehouse).delivered == 5
    assert [call.body["number"] for call in receiver.calls] == [0, 1, 2, 3, 4]


def test_a_log_action_is_written_to_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    put(site, "log://", 5)
    with caplog.at_level(logging.WARNING):
        assert deliver(site).delivered == 1
    assert '"number": 5' in caplog.text


def test_one_run_sends_at_most_the_limit(site: Site) -> None:
    for number in range(3):
        put(site, "log://", number, alarm=str(number))
    done = deliver(site, limit=2)
    assert (done.delivered, done.pending) == (2, 1)
