"""Polling that stops is seen: by lateness, by an alarm on its meter, and by the doctor, with no member alive."""

from pathlib import Path

import pytest
import yaml
from builders import warehouse_rows
from conftest import OpenSite
from poll_rows import INTERVAL, LONG_AGO, schedule, task
from sqlalchemy import insert, update

from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping.apply import apply
from meterhouse.doctor import findings_of
from meterhouse.polling.lateness import lateness
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import poll_members, poll_schedules


def says(site: Site, part: str) -> tuple[str, str]:
    (found,) = findings_of(site, part)
    return found.state, str(found)


def test_lateness_counts_whole_intervals_since_the_end_of_the_last_slot_that_was_completely_polled(site: Site) -> None:
    now = times.now()
    schedule(site, "in.time", now - INTERVAL * 1.5)
    schedule(site, "one.behind", now - INTERVAL * 2.5)
    schedule(site, "of.a.host", now - INTERVAL * 4.5, host="c1")
    schedule(site, "never", None)
    schedule(site, "changed", now - LONG_AGO, changed_at=now - INTERVAL * 1.5)
    schedule(site, "no.longer.polled", None, active=False)
    found = lateness(site)
    assert {late.name: late.intervals for late in found} == {
        "nova/never": LONG_AGO // INTERVAL,
        "nova/of.a.host/c1": 3,
        "nova/changed": 1,
        "nova/one.behind": 1,
        "nova/in.time": 0,
    }
    assert found[0].name == "nova/never"


def test_an_alarm_on_poll_late_fires_with_no_member_alive_and_recovers(tmp_path: Path, open_site: OpenSite) -> None:
    rule = {"meter_name": "poll.late", "statistic": "max", "comparison_operator": "ge", "threshold": 2}
    rule |= {"period": 60, "evaluation_periods": 1}
    alarm = {"name": "polling-stopped", "threshold_rule": rule}
    (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": [alarm]}))
    site = open_site(config_dir=tmp_path)
    assert not apply(site).faults
    schedule(site, "servers", times.now() - INTERVAL * 5)
    evaluate(site)
    series = warehouse_rows(site, "SELECT source, meter, unit, resource_id FROM series")
    assert [tuple(row) for row in series] == [("meterhouse", "poll.late", "interval", "nova/servers")]
    assert warehouse_rows(site, "SELECT state FROM alarms") == [("alarm",)]


def test_lateness_is_not_measured_if_no_alarm_uses_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterhouse.polling.poll_meters.lateness", lambda _: pytest.fail("polling is measured"))
    evaluate(site)


def test_the_doctor_says_which_entries_have_a_fault_whatever_is_in_the_record(
    tmp_path: Path, open_site: OpenSite
) -> None:
    (tmp_path / "pollsters.d").mkdir()
    own = tmp_path / "pollsters.d/own.yaml"
    own.write_text("- name: volume.size\n  sample_type: guage\n")
    site = open_site(config_dir=tmp_path)
    *faults, record = findings_of(site, "polling")
    assert ({each.state for each in faults}, record.state) == ({"warning"}, "ok")
    assert any(f"{own}:2: fault: pollster volume.size: sample_type: " in str(each) for each in faults)
    (tmp_path / "polling.yaml").write_text("sources: [")
    assert {str(tmp_path / "polling.yaml") in str(each) for each in findings_of(site, "polling")} == {True, False}


def test_the_doctor_says_what_is_not_polled_and_what_was_missed_and_why(site: Site) -> None:
    assert says(site, "polling") == ("ok", "nothing is polled: no member has read a polling.yaml yet")
    assert says(site, "missed slots")[0] == "ok"
    now = times.now()
    schedule(site, "servers", now - INTERVAL * 4.5)
    state, text = says(site, "polling")
    assert state == "warning"
    assert "nova/servers has not been completely polled for 3 intervals, since " in text
    assert "0 members are alive; start `meterhouse poll --follow`" in text
    member = {"member": "m1", "host": "c1", "namespaces": "central", "joined_at": now, "seen_at": now}
    member |= {"lease_seconds": 10.0, "clock_ahead_seconds": 0.0, "definitions": "", "claimed": 0}
    task(site, "servers", slot_at=now - INTERVAL * 5, state="missed", slots=3, error="it answered 500")
    with site.warehouse.begin() as connection:
        connection.execute(insert(poll_members).values(member))
        connection.execute(update(poll_schedules).values(done_slot_at=now - INTERVAL))
    assert says(site, "polling") == ("ok", "1 pollster is polled in time; 1 member is alive")
    assert says(site, "missed slots") == (
        "warning",
        "3 slots were missed in the last day; the last is of nova/servers, 5 min ago: it answered 500; "
        "see `meterhouse poll history`",
    )
