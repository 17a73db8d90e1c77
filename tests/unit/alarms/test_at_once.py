"""Event alarms while events come: what they notify of is delivered at once, and nothing holds up collection."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psycopg
import pytest
from builders import notification, warehouse_rows
from conftest import OpenSite
from event_steps import alarm, come, declare, land, states
from psycopg import sql

from meterhouse.alarms import at_once
from meterhouse.alarms.at_once import AtOnce
from meterhouse.alarms.evaluation import events
from meterhouse.alarms.evaluation.event_alarms import Loader
from meterhouse.alarms.keeping import apply as applying
from meterhouse.collection.collect import Limits
from meterhouse.collection.intake import intake
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.site import Site


@pytest.fixture
def site(open_site: OpenSite, tmp_path: Path) -> Site:
    return open_site(config_dir=tmp_path)


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def hanging() -> Iterator[str]:
    """A receiver that does not answer until the test is over."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            over.wait(60)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_intake_delivers_what_its_events_fire(site: Site) -> None:
    with WebhookReceiver() as receiver:
        declare(site, alarm(alarm_actions=[receiver.url]))
        land(site, notification("m1", "compute.a"))
        with AtOnce(site) as alarms:
            intake(site, Limits(), came=alarms.came)
        (call,) = receiver.calls
    assert call.body["reason_data"]["event"]["message_id"] == "m1"
    assert call.body["current"] == "alarm"


def test_what_came_while_nobody_looked_is_evaluated_when_it_starts(site: Site) -> None:
    with WebhookReceiver() as receiver:
        declare(site, alarm(alarm_actions=[receiver.url]))
        come(site, notification("m1", "compute.a"))
        with AtOnce(site):
            pass
        assert len(receiver.calls) == 1


def test_a_receiver_that_hangs_holds_up_no_other_one(site: Site, hanging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "END_SECONDS", 0.1)
    with WebhookReceiver() as receiver:
        declare(
            site, alarm("stuck", "compute.stuck", alarm_actions=[hanging]), alarm("a", alarm_actions=[receiver.url])
        )
        with AtOnce(site) as alarms:
            come(site, notification("m1", "compute.stuck"))
            alarms.came()
            until(lambda: len(receiver.calls) == 1)
            assert states(site)["stuck"] == "alarm"
            declare(
                site,
                alarm("stuck", "compute.stuck", alarm_actions=[hanging]),
                alarm("a", alarm_actions=[receiver.url]),
                alarm("b", alarm_actions=[receiver.url]),
            )
            come(site, notification("m2", "compute.b"))
            alarms.came()
            until(lambda: len(receiver.calls) == 2)


def test_a_receiver_that_fails_is_called_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "LOOK_SECONDS", 0.1)
    with WebhookReceiver(fail_first=1) as receiver:
        declare(site, alarm(alarm_actions=[receiver.url]))
        come(site, notification("m1", "compute.a"))
        with AtOnce(site):
            until(lambda: receiver.calls)
        assert len(receiver.refused) == len(receiver.calls) == 1


def test_what_a_killed_process_has_not_delivered_is_delivered(site: Site) -> None:
    with WebhookReceiver() as receiver:
        declare(site, alarm(alarm_actions=[receiver.url]))
        come(site, notification("m1", "compute.a"))
        events.evaluate_events(site)
        with AtOnce(site):
            pass
        assert len(receiver.calls) == 1


def test_a_warehouse_that_is_away_delays_alarms_and_loses_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "RETRY_SECONDS", (0.01, 0.05))
    failures = iter(range(3))
    evaluate = events.evaluate_events

    def fail(site: Site, loader: Loader | None = None) -> events.Evaluated:
        if next(failures, None) is not None:
            raise Unavailable("the warehouse cannot be reached")
        return evaluate(site, loader)

    monkeypatch.setattr(events, "evaluate_events", fail)
    with WebhookReceiver() as receiver:
        declare(site, alarm(alarm_actions=[receiver.url]))
        come(site, notification("m1", "compute.a"))
        with AtOnce(site) as alarms:
            alarms.came()
            until(lambda: receiver.calls)
        assert len(receiver.calls) == 1


@pytest.mark.service
def test_a_database_that_refuses_for_a_while_delays_alarms_and_loses_none(
    open_site: OpenSite, tmp_path: Path, postgres_warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_once, "RETRY_SECONDS", (0.05, 0.2))
    site = open_site(config_dir=tmp_path, warehouse_url=postgres_warehouse)
    name = sql.Identifier(postgres_warehouse.rpartition("/")[2].partition("?")[0])
    server = os.environ["METERHOUSE_TEST_POSTGRES_URL"].replace("postgresql+psycopg://", "postgresql://", 1)
    with WebhookReceiver() as receiver, psycopg.connect(server, autocommit=True) as operator:
        declare(site, alarm("a", repeat_actions=True, alarm_actions=[receiver.url]))
        with AtOnce(site) as alarms:
            come(site, notification("m1", "compute.a"))
            operator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            end = sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}")
            operator.execute(end.format(sql.Literal(name.as_string().strip('"'))))
            alarms.came()
            land(site, notification("m2", "compute.a"))
            with pytest.raises(MeterhouseError):  # it was landed, and is not converted yet
                intake(site, Limits(), came=alarms.came)
            operator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
            intake(site, Limits(), came=alarms.came)
            until(lambda: len(receiver.calls) == 2)
        told = [call.body["reason_data"]["event"]["message_id"] for call in receiver.calls]
    assert told == ["m1", "m2"]


def test_collection_goes_on_while_another_process_evaluates(site: Site) -> None:
    with WebhookReceiver() as receiver, site.warehouse.lease(applying.LEASE) as lease:
        declare(site, alarm(alarm_actions=[receiver.url]), lease=lease)
        with AtOnce(site) as alarms:
            land(site, notification("m1", "compute.a"))
            done = intake(site, Limits(), came=alarms.came)
            assert done.followed.converted.events == 1
            assert not receiver.calls
            lease.release()
            until(lambda: receiver.calls)


def test_a_site_without_such_alarms_imports_and_follows_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "evaluate_events", lambda *given: pytest.fail("it was evaluated"))
    come(site, notification("m1", "compute.a"))
    with AtOnce(site) as alarms:
        alarms.came()
    assert warehouse_rows(site, "SELECT follower FROM followed WHERE follower = 'event_alarms'") == []


def test_when_the_last_such_alarm_has_gone_nothing_is_evaluated_any_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(site, alarm())
    come(site, notification("m1", "compute.a"))
    with AtOnce(site) as alarms:
        until(lambda: states(site) == {"a": "alarm"})
        declare(site)
        alarms.came()
        until(lambda: not warehouse_rows(site, "SELECT follower FROM followed WHERE follower = 'event_alarms'"))
        asked: list[object] = []
        evaluate = events.evaluate_events

        def evaluated(site: Site, loader: Loader | None = None) -> events.Evaluated:
            asked.append(site)
            return evaluate(site, loader)

        monkeypatch.setattr(events, "evaluate_events", evaluated)
        for _ in range(3):
            alarms.came()
            time.sleep(0.05)
    assert len(asked) <= 1  # that which was under way
