"""The ledger of deliveries: listed, sent again, and deleted by age; and the heartbeat."""

import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from builders import warehouse_rows
from conftest import OpenSite
from outbox import ledger, tell
from sqlalchemy import update

from meterhouse import times, upkeep
from meterhouse.alarms.delivery import heartbeat, signature
from meterhouse.alarms.delivery import ledger as deliveries_ledger
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.errors import UnknownName, UsageError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import deliveries, delivery_attempts


def test_dead_ones_are_sent_again_with_their_keys_and_new_attempts(open_site: OpenSite, any_warehouse: Site) -> None:
    site = open_site(warehouse_url=any_warehouse.settings.warehouse, webhook_attempts=1)
    with WebhookReceiver(fail_first=3) as receiver:
        for number in range(2):
            tell(site, receiver.url, alarm=f"a{number}")
        assert deliver(site).dead == 2
        assert deliveries_ledger.counted(site) == {"dead": 2}
        one = deliveries_ledger.listed(site, state="dead", alarm="a0")[0]["delivery_id"]
        assert deliveries_ledger.resend(site, [one, one]) == 1
        assert deliver(site).dead == 1  # one attempt, as a new one has
        assert deliveries_ledger.resend(site, dead=True) == 2
        assert deliver(site).delivered == 2
    assert sorted(ledger(site)) == [("delivered", 2, None), ("delivered", 3, None)]
    keys = [call.headers["idempotency-key"] for call in (*receiver.refused, *receiver.calls)]
    assert len(set(keys)) == 2
    assert len(keys) == 5


def test_what_is_to_be_sent_again_is_named(site: Site) -> None:
    with pytest.raises(UnknownName, match="unknown delivery 'x'"):
        deliveries_ledger.resend(site, ["x"])
    for wrong in ({}, {"delivery_ids": ["x"], "dead": True}):
        with pytest.raises(UsageError):
            deliveries_ledger.resend(site, **wrong)


def test_the_commands_list_and_send_again(run: Any, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERHOUSE_HOME", str(site.settings.home))
    monkeypatch.setenv("METERHOUSE_WEBHOOK_ATTEMPTS", "1")
    tell(site, "trust+http://trust:delete@127.0.0.1:1/", alarm="a")
    run("alarms", "deliver")
    found = json.loads(run("alarms", "deliveries", "--state", "dead", "--alarm", "name of a", "--json").output)
    assert found["url"] == "trust+http://127.0.0.1:1/"
    assert [each["attempt"] for each in found["tried"]] == [1]
    again = run("alarms", "resend", found["delivery_id"])
    assert "1" in again.output
    assert ledger(site)[0][0] == "pending"


def test_upkeep_deletes_attempts_and_secrets_with_their_deliveries(site: Site) -> None:
    with WebhookReceiver() as receiver:
        url = receiver.url.replace("://", "://user:hunter2@")
        for alarm in ("old", "new"):
            tell(site, url, alarm=alarm)
        deliver(site)
    long_ago = times.now() - timedelta(days=400)
    with site.warehouse.begin() as connection:
        connection.execute(update(deliveries).where(deliveries.c.alarm_id == "old").values(created_at=long_ago))
        connection.execute(update(delivery_attempts).values(started_at=long_ago))
    done = upkeep.upkeep(site)
    assert done.deleted["deliveries"] == 3
    for table in ("deliveries", "delivery_attempts", "webhook_credentials"):
        assert warehouse_rows(site, f"SELECT count(*) FROM {table}") == [(1,)]


# -- the heartbeat ----------------------------------------------------------------------------------------------


def test_each_cycle_beats(open_site: OpenSite) -> None:
    with WebhookReceiver() as receiver:
        site = open_site(alarm_heartbeat_url=receiver.url, webhook_secret="a secret of the site")
        for _ in range(2):
            evaluate(site)
            _wait_for_the_beat()
    assert len(receiver.calls) == 2
    body = receiver.calls[0].body
    assert (body["heartbeat"], body["alarms"], body["transitions"]) == ("alarms", 0, 0)
    sent = json.dumps(body).encode()
    assert signature.is_valid("a secret of the site", receiver.calls[0].headers, sent, time.time())
    assert warehouse_rows(site, "SELECT count(*) FROM deliveries") == [(0,)]


def test_a_receiver_of_heartbeats_that_hangs_delays_no_cycle(
    open_site: OpenSite, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    class Hanging(WebhookReceiver):
        def record(self, call: Any) -> bool:
            release.wait(20)
            return super().record(call)

    with Hanging() as receiver:
        url = receiver.url.replace("://", "://user:hunter2@")
        site = open_site(alarm_heartbeat_url=url, webhook_timeout_seconds=1.0)
        first = heartbeat.beat(site.settings, {})
        assert first is not None
        evaluate(site)
        assert heartbeat.beat(site.settings, {}) is None  # the first one is still on its way
        assert first.is_alive()
        first.join()
        release.set()
    assert "has not reached http://127.0.0.1" in caplog.text
    assert "hunter2" not in caplog.text


def test_without_a_url_nothing_beats(site: Site) -> None:
    assert heartbeat.beat(site.settings, {}) is None


def _wait_for_the_beat() -> None:
    for thread in threading.enumerate():
        if thread.name == "alarm-heartbeat":
            thread.join()
