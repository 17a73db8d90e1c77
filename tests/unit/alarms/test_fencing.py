"""A transition happens once and in order, whoever is paused, and whatever the clocks say."""

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from alembic import command
from alembic.config import Config
from builders import at, land_points, notification, point, warehouse_rows
from conftest import OpenSite
from event_steps import come
from sqlalchemy import text, update

from meterhouse import shipped, times
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.evaluation.events import evaluate_events
from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.apply import apply
from meterhouse.alarms.keeping.callers import OPERATOR
from meterhouse.alarms.keeping.states import alarm, alarm_list, history
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.site import Site
from meterhouse.stores.leases import LeaseLost
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import leases, metadata

UNKNOWN = "insufficient data"


def configure(folder: Path, url: str, **more: Any) -> None:
    rule = {"meter_name": "m", "threshold": 50, "comparison_operator": "gt", "period": 300, **more}
    actions = {"alarm_actions": [url], "ok_actions": [url]}
    (folder / "alarms.yaml").write_text(yaml.safe_dump({"alarms": [{"name": "a", "threshold_rule": rule, **actions}]}))


def transitions(site: Site) -> list[str]:
    """The states that the notifications tell, in order."""
    return [
        state
        for (state,) in warehouse_rows(
            site,
            "SELECT json_extract(body, '$.current') FROM deliveries ORDER BY sequence"
            if site.warehouse.is_sqlite
            else "SELECT body::json->>'current' FROM deliveries ORDER BY sequence",
        )
    ]


@pytest.fixture
def busy(open_site: OpenSite, tmp_path: Path, any_warehouse: Site) -> Site:
    """A site whose meter `m` is over 50 at first, and below an hour later."""
    configure(tmp_path, "log://")
    site = open_site(config_dir=tmp_path, warehouse_url=any_warehouse.settings.warehouse)
    land_points(site, [point(60.0, at(-1)), point(10.0, at(59))])
    return site


def test_an_evaluation_that_is_paused_anywhere_while_another_evaluates_writes_nothing(
    busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is before the n-th transaction of the evaluation, for each n; within one, nobody can take the lease."""
    real = {name: getattr(busy.warehouse, name) for name in ("begin", "read")}
    other = Site(busy.settings, Warehouse.from_settings(busy.settings))
    apply(busy)
    lost = n = 0
    paused = True
    while paused:
        moment, left = at(60 * (n % 2)), [n]
        paused = False

        def pausing(name: str, moment: Any = moment, left: list[int] = left) -> Any:
            nonlocal paused
            if threading.current_thread() is threading.main_thread():
                left[0] -= 1
                if left[0] == -1:
                    paused = True
                    with other.warehouse.begin() as connection:
                        connection.execute(update(leases).values(expires_at=times.EPOCH))
                    evaluate(other, moment)
            return real[name]()

        with monkeypatch.context() as patched:
            for name in real:
                patched.setattr(busy.warehouse, name, lambda name=name, pausing=pausing: pausing(name))
            try:
                evaluate(busy, moment)
            except LeaseLost:
                lost += 1
        n += 1
        assert transitions(busy) == [("alarm", "ok")[k % 2] for k in range(n)]
        kinds = warehouse_rows(busy, "SELECT count(*) FROM alarm_history WHERE type = 'state transition'")
        assert kinds == [(n,)]
    assert lost >= 3
    other.warehouse.engine.dispose()


def test_who_lost_the_lease_does_not_apply_definitions(busy: Site, tmp_path: Path) -> None:
    apply(busy)
    configure(tmp_path, "log://", period=600)
    real = busy.warehouse.read

    def paused() -> Any:
        with busy.warehouse.begin() as connection:
            connection.execute(update(leases).values(holder="another-machine:1:1:x"))
        return real()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(busy.warehouse, "read", paused)
        with pytest.raises(LeaseLost):
            apply(busy)
    assert [row["type"] for row in history(busy, "a", 10, OPERATOR)] == ["creation"]


def test_a_state_that_was_changed_meanwhile_stays(busy: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from meterhouse.alarms.evaluation import evaluate as module

    real = module.save

    def changed(*given: Any) -> Any:
        with busy.warehouse.begin() as connection:
            connection.execute(text("UPDATE alarms SET state = 'ok'"))
        return real(*given)

    monkeypatch.setattr(module, "save", changed)
    done = evaluate(busy, at())
    assert (done.transitions, done.notifications, transitions(busy)) == ([], 0, [])
    assert alarm(busy, "a", OPERATOR)["state"] == "ok"


RULE = {"meter_name": "m", "threshold": 50, "comparison_operator": "gt", "period": 300}


def outside(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "threshold", "threshold_rule": {**RULE, **more}, "alarm_actions": ["log://"]}


def test_alarms_that_are_defined_during_an_evaluation_are_left_to_the_next_one(
    busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever defines alarms does not wait for it; what was decided by the old rules is not written."""
    from meterhouse.alarms.evaluation import evaluate as module

    apply(busy)
    changed, gone, kept = (managed.create(busy, outside(name), OPERATOR)["alarm_id"] for name in ("b", "c", "d"))
    real, new = module.save, list[str]()

    def saving(*given: Any) -> Any:
        managed.change(busy, changed, {"threshold_rule": {**RULE, "threshold": 99}}, OPERATOR)
        managed.remove(busy, gone, OPERATOR)
        new.append(managed.create(busy, outside("e"), OPERATOR)["alarm_id"])
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(module, "save", saving)
        assert {name for name, _, _ in evaluate(busy, at()).transitions} == {"a", "d"}
    rows = {
        row["alarm_id"]: (row["state"], row["evaluate_timestamp"] is not None) for row in alarm_list(busy, OPERATOR)
    }
    assert {key: rows.get(key) for key in (changed, gone, kept, *new)} == {
        changed: (UNKNOWN, False),
        gone: None,
        kept: ("alarm", True),
        new[0]: (UNKNOWN, False),
    }
    assert {name for name, _, _ in evaluate(busy, at()).transitions} == {"b", "e"}
    assert alarm(busy, changed, OPERATOR)["state"] == "ok"


def test_nothing_that_is_defined_during_an_evaluation_of_idle_alarms_is_taken_for_idle(
    busy: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meterhouse.alarms.evaluation import evaluate as module

    (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": []}))
    changed = managed.create(busy, outside("b", meter_name="unknown"), OPERATOR)["alarm_id"]
    real = module.save

    def saving(*given: Any) -> Any:
        managed.change(busy, changed, {"threshold_rule": RULE}, OPERATOR)
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(module, "save", saving)
        assert evaluate(busy, at()).transitions == []
    assert evaluate(busy, at()).transitions == [("b", UNKNOWN, "alarm")]


def test_an_event_alarm_that_is_defined_while_events_are_looked_at_sees_those_that_come_after_it(
    busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meterhouse.alarms.evaluation import events as module

    def rule(event_type: str) -> dict[str, Any]:
        return {"name": event_type, "type": "event", "event_rule": {"event_type": event_type}}

    first, other = (managed.create(busy, rule(name), OPERATOR)["alarm_id"] for name in ("a.*", "b.*"))
    real = module._changes
    later: list[str] = []

    def changes(*given: Any) -> Any:
        found = real(*given)
        if not later:
            managed.change(busy, first, {"event_rule": {"event_type": "z.*"}}, OPERATOR)
            later.append(managed.create(busy, rule("a.b"), OPERATOR)["alarm_id"])
        return found

    monkeypatch.setattr(module, "_changes", changes)
    come(busy, notification("1", "a.b"), notification("2", "b.c"))
    assert [name for name, _, _ in evaluate_events(busy).transitions] == ["b.*"]
    come(busy, notification("3", "a.b"))
    assert [name for name, _, _ in evaluate_events(busy).transitions] == ["a.b"]
    assert [alarm(busy, each, OPERATOR)["state"] for each in (first, other, *later)] == [UNKNOWN, "alarm", "alarm"]


@pytest.mark.parametrize("later", [timedelta(0), timedelta(hours=-1), timedelta(days=-365)])
def test_the_receiver_gets_transitions_in_order_although_the_clock_was_set_back(
    open_site: OpenSite, tmp_path: Path, later: timedelta
) -> None:
    site = open_site(config_dir=tmp_path)
    land_points(site, [point(60.0, at(-1)), point(10.0, at(-1) + timedelta(days=-365)), point(10.0, at(-61))])
    with WebhookReceiver() as receiver:
        configure(tmp_path, receiver.url)
        assert evaluate(site, at()).transitions == [("a", UNKNOWN, "alarm")]
        if not later:
            land_points(site, [point(-200.0, at(-2))])  # late; the mean is below now
        assert evaluate(site, at() + later).transitions == [("a", "alarm", "ok")]
        while deliver(site).pending:
            pass
        assert [call.body["current"] for call in receiver.calls] == ["alarm", "ok"]
    assert [each["state"] for each in alarm(site, "a", OPERATOR)["transitions"]] == ["ok", "alarm"]
    assert [each["type"] for each in history(site, "a", 10, OPERATOR)] == ["state transition"] * 2 + ["creation"]


def test_one_transition_has_one_idempotency_key_for_each_url(busy: Site) -> None:
    from meterhouse.alarms.delivery.outbox import delivery_id as key_of

    event = "6b3f2f0e-8a0f-5d4e-9d51-0d6c7c1b7a10"
    assert key_of(event, "http://h/1") == key_of(event, "http://h/1") != key_of(event, "http://h/2")
    evaluate(busy, at())
    ((event_id, url, delivery_id),) = warehouse_rows(busy, "SELECT event_id, url, delivery_id FROM deliveries")
    assert delivery_id == key_of(event_id, url)


def test_rows_of_an_earlier_release_are_numbered_in_the_order_of_their_times(tmp_path: Path) -> None:
    warehouse = Warehouse(f"sqlite:///{tmp_path}/w.db")
    config = Config()
    config.set_main_option("script_location", str(shipped.MIGRATIONS))
    with warehouse.engine.connect() as connection:
        config.attributes.update(connection=connection, metadata=metadata)
        command.upgrade(config, "0004")
        for number, moment in enumerate(("03", "01", "02", "02")):
            connection.execute(
                text(
                    f"INSERT INTO alarm_history VALUES ('e{number}', 'a', 'creation', '', '2026-11-{moment} 00:00:00')"
                )
            )
            connection.execute(
                text(
                    "INSERT INTO deliveries (delivery_id, alarm_id, event_id, url, body, state, attempts, "
                    f"next_attempt_at, created_at) VALUES ('{9 - number}', 'a', 'e{number}', 'u', '', 'pending', 0, "
                    f"'2026-11-{moment} 00:00:00', '2026-11-{moment} 00:00:00')"
                )
            )
        connection.commit()
    warehouse.migrate()
    with warehouse.read() as connection:
        for table in ("alarm_history", "deliveries"):
            found = connection.execute(text(f"SELECT event_id FROM {table} ORDER BY sequence")).scalars().all()
            assert found == ["e1", "e2", "e3", "e0"]
    warehouse.engine.dispose()


def test_a_circle_that_alarms_from_outside_close_while_files_are_applied_is_refused(
    busy: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meterhouse.alarms.keeping import apply as module

    one, other = (managed.create(busy, outside(name), OPERATOR)["alarm_id"] for name in ("b", "c"))
    declared = {"name": "a", "type": "combination", "combination_rule": {"alarm_ids": [one, other]}}
    (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": [declared]}))
    apply(busy)
    (of_file,) = [row["alarm_id"] for row in alarm_list(busy, OPERATOR) if row["origin"] == "file"]
    (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": []}))
    apply(busy)
    (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": [declared, {**declared, "name": "z"}]}))
    real = module._plan

    def plan(*given: Any) -> Any:
        made = real(*given)
        with busy.warehouse.begin() as connection:  # as if the alarm of the file were known already
            combined = json.dumps({"rule": {"alarm_ids": [of_file, other]}})
            where = text("UPDATE alarms SET type = 'combination', definition = :definition WHERE alarm_id = :one")
            connection.execute(where, {"definition": combined, "one": one})
        managed.create(busy, outside("d"), OPERATOR)
        return made

    monkeypatch.setattr(module, "_plan", plan)
    done = apply(busy)
    assert [fault.what for fault in done.faults] == [f"alarm 'a' combines itself: a → {one} → a"]
    assert done.created == 1
