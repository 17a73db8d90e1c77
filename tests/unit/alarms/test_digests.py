"""Digests: hundreds that fire together are one call, and each keeps its row, its key and its order."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from builders import warehouse_rows
from conftest import OpenSite
from outbox import put, tell, wait_no_longer

from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.delivery.ledger import listed
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.site import Site


@pytest.fixture
def digesting(open_site: OpenSite, any_warehouse: Site) -> Site:
    """A site that tells ten or more together."""
    return open_site(
        warehouse_url=any_warehouse.settings.warehouse_url or any_warehouse.settings.warehouse, webhook_digest=10
    )


def test_many_notifications_to_one_url_are_one_call(digesting: Site) -> None:
    with WebhookReceiver() as receiver:
        for number in range(30):
            tell(digesting, receiver.url, alarm=f"a{number}")
        assert deliver(digesting).delivered == 30
    (call,) = receiver.calls
    assert (call.body["digest"], call.body["count"]) == (True, 30)
    told = call.body["notifications"]
    assert [each["alarm_id"] for each in told] == [f"a{number}" for number in range(30)]
    rows = listed(digesting)[::-1]
    assert [each["idempotency_key"] for each in told] == [row["delivery_id"] for row in rows]
    assert {row["state"] for row in rows} == {"delivered"}
    assert {row["tried"][0]["digest_id"] for row in rows} == {call.headers["idempotency-key"]}


def test_fewer_than_that_have_a_call_each(digesting: Site) -> None:
    with WebhookReceiver() as receiver:
        for number in range(9):
            tell(digesting, receiver.url, alarm=f"a{number}")
        tell(digesting, receiver.url + "/other")
        assert deliver(digesting).delivered == 10
    assert len(receiver.calls) == 10


def test_each_owner_and_each_password_has_its_own_call(digesting: Site) -> None:
    """Otherwise what a tenant tells would go with the token, the signature and the reach of somebody else."""
    with WebhookReceiver() as receiver:
        host = receiver.url.removeprefix("http://")
        for number in range(10):
            tell(digesting, receiver.url, alarm=f"declared {number}")
            for project in ("p1", "p2"):
                tell(digesting, receiver.url, alarm=f"{project} {number}", origin="outside", project=project)
            user = ("ann", "bob")[number % 2]
            tell(digesting, f"http://{user}:x@{host}", alarm=f"{user} {number}")
        deliver(digesting)
    told = [
        ("authorization" in call.headers, *{each["alarm_id"].split()[0] for each in call.body["notifications"]})
        for call in receiver.calls
    ]
    assert sorted(told) == [(False, "declared"), (True, "ann"), (True, "bob")]
    rows = [(row["alarm_id"].split()[0], row["state"], row["tried"][0]["digest_id"]) for row in listed(digesting)]
    assert {state for name, state, _ in rows if name in ("p1", "p2")} == {"dead"}  # they may not reach this host
    assert len({digest for *_, digest in rows}) == len({(name, digest) for name, _, digest in rows}) == 5


def test_transitions_of_one_alarm_come_in_order_in_calls_after_each_other(digesting: Site) -> None:
    with WebhookReceiver() as receiver:
        for state in ("alarm", "ok", "alarm"):
            for number in range(10):
                tell(digesting, receiver.url, alarm=f"a{number}", current=state)
        assert deliver(digesting).delivered == 30
    assert [{each["current"] for each in call.body["notifications"]} for call in receiver.calls] == [
        {"alarm"},
        {"ok"},
        {"alarm"},
    ]


def test_a_digest_that_failed_comes_again_with_the_same_keys(digesting: Site) -> None:
    with WebhookReceiver(fail_first=1) as receiver:
        for number in range(10):
            tell(digesting, receiver.url, alarm=f"a{number}")
        assert deliver(digesting).failed == 10
        wait_no_longer(digesting)
        assert deliver(digesting).delivered == 10
    assert receiver.refused[0].body == receiver.calls[0].body
    assert receiver.refused[0].headers["idempotency-key"] == receiver.calls[0].headers["idempotency-key"]
    assert {len(row["tried"]) for row in listed(digesting)} == {2}


class _NoDigests(BaseHTTPRequestHandler):
    """A receiver that knows Aodh's body only."""

    calls: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.calls.append(body)
        self.send_response(400 if "digest" in body else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_a_receiver_that_does_not_take_digests_gets_each_alone(digesting: Site) -> None:
    _NoDigests.calls = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _NoDigests)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        for number in range(10):
            tell(digesting, f"http://127.0.0.1:{server.server_port}/", alarm=f"a{number}")
        assert deliver(digesting).failed == 10
        wait_no_longer(digesting)
        assert deliver(digesting).delivered == 10
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(_NoDigests.calls) == 11


def test_heat_gets_each_signal_and_a_log_each_line(digesting: Site, caplog: pytest.LogCaptureFixture) -> None:
    with WebhookReceiver() as receiver:
        signal = receiver.url.replace("/alarm", "/v1/p/stacks/s/i/resources/up/signal")
        for number in range(10):
            tell(digesting, signal, "log://", alarm=f"a{number}")
        assert deliver(digesting).delivered == 20
    assert len(receiver.calls) == 10
    assert len([each for each in caplog.records if "alarm notification" in each.message]) == 10


def test_a_digest_has_a_bounded_size(digesting: Site) -> None:
    with WebhookReceiver() as receiver:
        for number in range(12):
            put(digesting, receiver.url, alarm=f"a{number}", body=json.dumps({"n": number, "x": "x" * 200_000}))
        assert deliver(digesting).delivered == 12
    assert sorted(len(call.body["notifications"]) for call in receiver.calls) == [2, 5, 5]
    assert warehouse_rows(digesting, "SELECT count(DISTINCT digest_id) FROM delivery_attempts") == [(3,)]
