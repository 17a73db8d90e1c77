"""A process that is killed while it evaluates event alarms or delivers: each event fires once, and is told."""

import json
import multiprocessing
import signal
from pathlib import Path

import kill_steps
import pytest
from builders import notification, warehouse_rows
from conftest import OpenSite
from event_steps import alarm, declare, land
from sqlalchemy import update

from meterhouse.alarms.evaluation.events import event_id
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import deliveries

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["meterhouse.alarms.evaluation.events", "meterhouse.collection.intake"])

MOMENTS = {
    "between conversion and evaluation": "before(events, '_follow')",
    "between matching and the transaction": "before(events, 'write')",
    "within the transaction": "after(events, 'write')",
    "between the record of the position and the commit": "after(events.history, 'record_position')",
    "between evaluation and delivery": "before(attempts, 'claim')",
    "between a claim and its call": "after(attempts, 'claim')",
    "between a call and its record": "before(attempts, 'record')",
}


OF_POSTGRES = ("within the transaction", "between a call and its record")


@pytest.fixture(
    params=[
        *(("sqlite", moment) for moment in MOMENTS),
        *(pytest.param(("postgres", moment), marks=pytest.mark.service) for moment in OF_POSTGRES),
    ],
    ids=" ".join,
)
def killed(request: pytest.FixtureRequest, open_site: OpenSite, tmp_path: Path) -> tuple[Site, str]:
    """A site, and the moment at which a process is killed."""
    warehouse, moment = request.param
    url = request.getfixturevalue("postgres_warehouse") if warehouse == "postgres" else ""
    return open_site(home=tmp_path, config_dir=tmp_path, warehouse_url=url), moment


def collect(site: Site, fault: str = "") -> int:
    """Collect in a separate process; return its exit status."""
    url = "" if site.warehouse.is_sqlite else site.settings.warehouse
    process = PROCESSES.Process(target=kill_steps.collect_with_alarms, args=(site.settings.home_path, url, fault))
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


def test_a_kill_loses_no_event_and_fires_none_twice(killed: tuple[Site, str]) -> None:
    site, moment = killed
    with WebhookReceiver() as receiver:
        repeats = alarm("always", repeat_actions=True, alarm_actions=[receiver.url])
        declare(site, repeats, alarm("once", alarm_actions=[receiver.url]))
        land(site, *(notification(f"m{n}", "compute.a") for n in range(3)))
        assert collect(site, MOMENTS[moment]) == -signal.SIGKILL
        with site.warehouse.begin() as connection:  # the time of a claim has passed
            connection.execute(update(deliveries).values(next_attempt_at=clock.present(connection)))
        land(site, notification("m1", "compute.a"), notification("m3", "compute.a"))
        assert collect(site) == 0
        first, second = (row[0] for row in warehouse_rows(site, "SELECT alarm_id FROM alarms ORDER BY name"))
        told = [
            (call.body["alarm_name"], call.body["reason_data"]["event"]["message_id"], call.headers["idempotency-key"])
            for call in receiver.calls
        ]
    assert len(set(told)) == len({key for *_, key in told})  # what comes twice says so
    assert list(dict.fromkeys(message for name, message, _ in told if name == "always")) == ["m0", "m1", "m2", "m3"]
    assert {message for name, message, _ in told if name == "once"} == {"m0"}
    rows = warehouse_rows(site, "SELECT event_id, detail FROM alarm_history WHERE type = 'state transition'")
    always = {event_id(first, f"m{n}") for n in range(4)}
    assert sorted(key for key, _ in rows) == sorted(always | {event_id(second, "m0")})
    assert sorted(json.loads(detail)["event"]["message_id"] for _, detail in rows) == ["m0", "m0", "m1", "m2", "m3"]
    assert {state for (state,) in warehouse_rows(site, "SELECT state FROM deliveries")} == {"delivered"}
