"""The minute's cycle is killed, or loses its database, anywhere: each transition is kept once, and told, in order."""

import multiprocessing
import signal
from pathlib import Path
from typing import Any

import kill_steps
import pytest
import yaml
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite
from sqlalchemy import Connection, text, update

from meterhouse.alarms.evaluation import outcomes
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import deliveries

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["meterhouse.alarms.evaluation.evaluate", "meterhouse.alarms.delivery.deliver"])

MOMENTS = (
    "before(evaluate, 'save')",
    "after(outcomes, '_update')",
    "before(outcomes, 'enqueue')",
    "after(outcomes, 'enqueue')",
    "after(evaluate, 'save')",
    "before(attempts, 'claim')",
    "after(attempts, 'claim')",
    "before(attempts, 'record')",
)
NAMES = ("a", "b", "c")
STATES = ["alarm", "ok", "alarm"]


def prepare(site: Site, url: str) -> None:
    """Alarms that ring, cease and ring again in three minutes."""
    rule = {"meter_name": "m", "comparison_operator": "gt", "threshold": 50, "period": 60}
    entries = [{"name": n, "threshold_rule": rule, "alarm_actions": [url], "ok_actions": [url]} for n in NAMES]
    (site.settings.home_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": entries}))
    land_points(site, [point(value, at(minute + 0.5)) for minute, value in enumerate((90.0, 10.0, 90.0))])


def written(site: Site) -> list[Any]:
    return [
        warehouse_rows(site, f"SELECT {what} FROM {table}")
        for what, table in (("count(*)", "alarm_history"), ("count(*)", "deliveries"), ("state", "alarms"))
    ]


def check(site: Site, receiver: WebhookReceiver) -> None:
    query = "SELECT alarm_id, detail FROM alarm_history WHERE type = 'state transition' ORDER BY sequence"
    assert len(warehouse_rows(site, query)) == len(NAMES) * len(STATES)
    assert warehouse_rows(site, "SELECT state, count(*) FROM deliveries GROUP BY state") == [("delivered", 9)]
    for name in NAMES:
        calls = [call for call in receiver.calls if call.body["alarm_name"] == name]
        keys = {call.headers["idempotency-key"]: call.body["current"] for call in calls}
        assert list(keys.values()) == STATES


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cycle_that_is_killed_keeps_each_transition_once_and_tells_it(
    any_warehouse: Site, open_site: OpenSite, moment: str
) -> None:
    home = any_warehouse.settings.home_path
    url = "" if any_warehouse.warehouse.is_sqlite else any_warehouse.settings.warehouse
    site = open_site(home=home, warehouse_url=url, config_dir=home)

    def step(fault: str, minute: int) -> int | None:
        process = PROCESSES.Process(target=kill_steps.evaluate_and_deliver, args=(home, url, fault, at(minute)))
        process.start()
        process.join(120)
        with site.warehouse.begin() as connection:  # the time of a claim has passed
            connection.execute(update(deliveries).values(next_attempt_at=clock.present(connection)))
        return process.exitcode

    with WebhookReceiver() as receiver:
        prepare(site, receiver.url)
        assert step("", 1) == 0
        assert step(moment, 2) == -signal.SIGKILL
        assert step("", 2) == 0
        assert step("", 3) == 0
        check(site, receiver)


@pytest.mark.service
def test_a_database_that_goes_in_the_middle_of_a_cycle_leaves_nothing_half_done(
    open_site: OpenSite, postgres_warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(home=tmp_path, config_dir=tmp_path, warehouse_url=postgres_warehouse)
    with WebhookReceiver() as receiver:
        prepare(site, receiver.url)
        evaluate(site, at(1))
        enqueue = outcomes.enqueue

        def gone(connection: Connection, *given: Any) -> int:
            count = enqueue(connection, *given)
            own = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            with site.warehouse.begin() as other:
                other.execute(text("SELECT pg_terminate_backend(:own)"), {"own": own})
            return count

        before = (
            warehouse_rows(site, "SELECT count(*) FROM alarm_history"),
            warehouse_rows(site, "SELECT state FROM alarms"),
        )
        with monkeypatch.context() as patched:
            patched.setattr(outcomes, "enqueue", gone)
            with pytest.raises(MeterhouseError):
                evaluate(site, at(2))
        after = (
            warehouse_rows(site, "SELECT count(*) FROM alarm_history"),
            warehouse_rows(site, "SELECT state FROM alarms"),
        )
        assert after == before
        for minute in (2, 3):
            evaluate(site, at(minute))
        while kill_steps.deliver.deliver(site).pending:
            pass
        check(site, receiver)
