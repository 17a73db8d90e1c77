"""The doctor on sites where something does not move, or is broken."""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import at, drop, land_points, notification, point, polled, polling, roll_up
from conftest import OpenSite, bucket_settings
from event_steps import alarm, come, declare
from services import Bucket
from sqlalchemy import insert, update

from meterhouse import doctor, times, upkeep
from meterhouse.alarms.evaluation.cycle import evaluate_all
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.collection.intake import intake
from meterhouse.doctor import CHECKS, findings_of, stores
from meterhouse.site import Site
from meterhouse.stores.lake import SEAL
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.leases import Lease, take
from meterhouse.stores.warehouse_tables import alarms, deliveries, dirty_hours, runs

HOUR_AGO = timedelta(hours=1)


def only(site: Site, part: str) -> doctor.Finding:
    (found,) = findings_of(site, part)
    return found


def examine(site: Site, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    monkeypatch.setattr(doctor, "settings", lambda: site.settings)
    return {row["part"]: (row["state"], row["finding"]) for row in doctor.examine()}


def test_dirty_hours_that_nobody_rolls_up_are_a_warning_with_their_number_and_age(site: Site) -> None:
    land_points(site, [point(1.0, at(hours=n)) for n in range(3)])
    assert only(site, "dirty hours").state == "ok"  # they have just come
    with site.warehouse.begin() as connection:
        connection.execute(update(dirty_hours).values(marked_at=times.now() - HOUR_AGO * 5))
    found = only(site, "dirty hours")
    assert found.state == "warning"
    assert found.found == "3 event hours are dirty, the oldest for 5 h; no roll-up has run yet"
    assert "meterhouse rollup" in found.to_do
    roll_up(site)
    assert only(site, "dirty hours").state == "ok"


def test_an_hour_that_is_marked_again_all_the_time_does_not_look_new(site: Site) -> None:
    land_points(site, [point(1.0, at())])
    with site.warehouse.begin() as connection:
        connection.execute(update(runs).values(started_at=times.now() - HOUR_AGO, ended_at=times.now() - HOUR_AGO))
    land_points(site, [point(2.0, at(1))])
    assert "1 event hour is dirty, the oldest for 60 min" in only(site, "dirty hours").found


@pytest.mark.parametrize("name", ["run/4f2c", "rollups"])
def test_a_run_or_step_whose_process_died_is_a_warning(site: Site, name: str) -> None:
    assert isinstance(take(site.warehouse, name, f"{socket.gethostname()}:1:0:x"), Lease)
    found = only(site, "runs")
    assert found.state == "warning"
    assert "has died" in found.found


def test_the_last_run_of_each_step_is_shown(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at())])])
    intake(site)
    roll_up(site)
    assert all(f"{step} " in only(site, "runs").found for step in ("collect", "catalog", "rollups"))


def a_delivery(site: Site, **values: Any) -> None:
    given = {
        "delivery_id": values.get("state", ""),
        "alarm_id": "a",
        "event_id": "e",
        "url": values.get("state", ""),
        "body": "",
        "attempts": 4,
        "next_attempt_at": times.now(),
        "created_at": times.now() - HOUR_AGO,
        "sequence": {"pending": 1, "dead": 2}[values["state"]],
    }
    with site.warehouse.begin() as connection:
        connection.execute(insert(deliveries).values(**given, **values))


def test_deliveries_that_wait_or_were_given_up_are_warnings(site: Site) -> None:
    a_delivery(site, state="pending")
    a_delivery(site, state="dead")
    given_up, waiting = findings_of(site, "deliveries")
    assert (given_up.state, given_up.found) == ("warning", "1 notifications were given up")
    assert waiting.state == "warning"
    assert "1 notifications wait, the oldest for 60 min, after up to 4 attempts" in waiting.found


def test_alarms_that_nobody_evaluates_are_a_warning(site: Site) -> None:
    old = times.now() - HOUR_AGO
    with site.warehouse.begin() as connection:
        connection.execute(
            insert(alarms).values(
                alarm_id="a",
                name="a",
                origin="file",
                project_id="",
                user_id="",
                type="threshold",
                enabled=True,
                severity="low",
                definition="{}",
                state="ok",
                state_reason="",
                state_timestamp=old,
                timestamp=old,
            )
        )
    assert only(site, "evaluations").found == "an enabled alarm was not evaluated for 60 min"


def test_events_that_wait_for_event_alarms_are_a_warning(
    open_site: OpenSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(config_dir=tmp_path)
    declare(site, alarm())
    come(site, notification("m1", "compute.a"))
    evaluate_all(site)
    come(site, notification("m2", "compute.a"))
    assert [each.state for each in findings_of(site, "evaluations")] == ["ok"]
    present = times.now
    monkeypatch.setattr(times, "now", lambda: present() + times.HOUR)
    evaluate(site)
    ok, waits = findings_of(site, "evaluations")
    assert (ok.state, waits.state) == ("ok", "warning")
    assert waits.found == "events wait for the evaluation of event alarms for 60 min"
    evaluate_all(site)
    assert [each.state for each in findings_of(site, "evaluations")] == ["ok"]


def test_a_past_day_that_is_not_sealed_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(site.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at())])])
    intake(site)
    day = times.now().date()
    assert only(site, "archive").state == "ok"
    clock = times.now
    monkeypatch.setattr(times, "now", lambda: clock() + timedelta(days=3))
    found = only(site, "archive")
    assert found.found == f"{day} is not sealed"
    assert f"backfill archive --from {day}" in found.to_do


def test_an_upkeep_that_does_not_run_or_fails_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(site, "upkeep") == doctor.Finding("upkeep", "ok", "no run yet")
    site.warehouse.record_run("rollups", times.now() - 24 * 5 * HOUR_AGO, {})
    assert "no upkeep has run yet" in only(site, "upkeep").found
    assert upkeep.upkeep(site).failed == {}
    assert only(site, "upkeep").state == "ok"
    monkeypatch.setitem(upkeep.PARTS, "exports", lambda site, done: 1 // 0)
    upkeep.upkeep(site)
    assert only(site, "upkeep").found == "the last upkeep failed in part: exports"


def test_files_without_the_statistics_that_other_engines_need_are_a_warning(site: Site) -> None:
    land_points(site, [point(1.0, at())])
    (file,) = site.lake.actions("samples").to_pylist()
    hour = {"arrival_hour": file["partition.arrival_hour"]}
    older = DataFile(file["path"], file["size_bytes"], hour, '{"numRecords": 1, "nullCount": {"series_id": 0}}')
    site.lake.swap("samples", site.lake.actions("samples").slice(0, 0), [older], {SEAL: "older"}, same_rows=True)
    assert findings_of(site, "upkeep")[-1].found.startswith("1 data file lacks statistics")
    upkeep.upkeep(site)
    assert only(site, "upkeep").state == "ok"


def test_what_is_landed_but_not_converted_and_errors_of_conversions_are_warnings(site: Site) -> None:
    from meterhouse.collection.collect import collect

    drop(site.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at())])])
    collect(site)
    assert "1 commits of landed messages wait for conversion" in only(site, "conversion").found
    intake(site)
    site.warehouse.record_run("convert", times.now(), {"errors": 3, "first_errors": ["no such field"]})
    assert "3 conversion errors" in only(site, "conversion").found


def test_a_clock_that_was_set_back_is_a_warning(site: Site) -> None:
    site.warehouse.record_run("collect", times.now() + HOUR_AGO, {})
    assert only(site, "clocks").state == "warning"
    assert "60 min in the future" in only(site, "clocks").found


def test_a_disk_that_is_nearly_full_or_soon_full_is_a_warning(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        total, used, free = 10**12, 0, 5 * 10**11

    monkeypatch.setattr(stores.shutil, "disk_usage", lambda path: Usage)
    land_points(site, [point(1.0, at())])
    assert "500 GB of 1.0 TB free" in only(site, "disk space").found
    assert only(site, "disk space").state == "ok"
    monkeypatch.setattr(stores, "_growth", lambda site: 10**11)
    assert only(site, "disk space").state == "warning"
    assert "fills the disk in 5 days" in only(site, "disk space").found
    Usage.free = 10**7
    assert only(site, "disk space").state == "failed"


def test_a_broken_warehouse_hides_only_what_needs_it(open_site: OpenSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = open_site(warehouse_url="postgresql+psycopg://u:p@127.0.0.1:1/none")
    drop(site.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at())])])
    found = examine(site, monkeypatch)
    assert {part for part, (state, _) in found.items() if state == "failed"} == {"warehouse"}
    assert found["lake"][0] == found["lake commits"][0] == found["disk space"][0] == "ok"
    assert found["stream"][1].endswith("spool: 1 files wait")
    assert found["dirty hours"] == ("warning", "not checked, because the warehouse cannot be used")


def test_a_broken_lake_hides_only_what_needs_it(open_site: OpenSite, monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(open_site(lake_url="/proc/none"), monkeypatch)
    assert {part for part, (state, _) in found.items() if state == "failed"} == {"lake"}
    assert found["dirty hours"][0] == found["deliveries"][0] == "ok"


def test_a_missing_bucket_is_called_that(open_site: OpenSite, moto_s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {**bucket_settings(moto_s3), "lake_url": "s3://no-such-bucket/lake"}
    site = open_site(**there)
    state, finding = examine(site, monkeypatch)["lake"]
    assert state == "failed"
    assert "there is no bucket no-such-bucket" in finding
    with pytest.raises(Exception, match="there is no bucket no-such-bucket"):
        site.lake.version("samples")


def test_every_part_is_checked_once_and_after_what_it_needs() -> None:
    parts = [check.part for check in CHECKS]
    assert len(parts) == len({*parts})
    for number, check in enumerate(CHECKS):
        assert {*check.needs} <= {*parts[:number]}
