"""Upkeep: after a year, a site holds no more rows and files than after its first months."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import at, count, land_points, point
from builders import rows as rows_of
from sqlalchemy import func, insert, select
from usage_messages import created, land

from meterhouse import times, upkeep
from meterhouse.catalog import catalog
from meterhouse.conversion.step import APP
from meterhouse.dead_letters import Letter, store_letters
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.lake import PROPERTIES
from meterhouse.stores.lake_replace import replace_spans
from meterhouse.stores.lake_tables import NOTIFICATIONS, QUARANTINE, TABLES
from meterhouse.stores.warehouse_tables import alarm_history, definition_paths, deliveries, leases, runs, stream_queues
from meterhouse.usage.periods import compute

MONTH = timedelta(days=30)
LONG = "METERHOUSE_TEST_SOAK_SECONDS" in os.environ

COMMITS = 120 if LONG else 3
"""Number of commits of `notifications` in a month."""

CHECKPOINT = 100 if LONG else 10
"""Number of commits after which a checkpoint comes."""

ENDING = (runs, alarm_history, deliveries, definition_paths, stream_queues, leases)


class Clock:
    """The site's time, which the test sets. Checkpoints of the lake come soon."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = times.now()
        monkeypatch.setattr(times, "now", lambda: self.now)
        monkeypatch.setitem(PROPERTIES, "delta.checkpointInterval", str(CHECKPOINT))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def stored(site: Site) -> dict[str, int]:
    """The number of rows of the warehouse's tables that have an end, and of dead letters."""
    with site.warehouse.read() as connection:
        found = {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in ENDING}
    return {**found, "dead letters": count(site, "dead_letters")}


def files(site: Site) -> dict[str, int]:
    """The number of files in each folder of the home folder, of the lake, and of its tables."""
    home, lake = site.settings.home_path, Path(site.settings.lake)
    folders = [home / "spool", home / "spill", lake / "exports", lake / "archive", lake / "probe"]
    for table in (lake / "tables").iterdir():
        folders += [table / "_delta_log", *(each for each in table.iterdir() if each.name != "_delta_log")]
    found: dict[str, int] = {}
    for folder in folders:
        place = str(folder.relative_to(home)).partition("=")[0]
        found[place] = found.get(place, 0) + sum(1 for _ in folder.rglob("*"))
    return found


def leave_behind(site: Site, now: datetime) -> None:
    """What a month leaves behind, in small."""
    with site.warehouse.begin() as connection:
        for day in range(0, 30, 3):
            when = now - MONTH + timedelta(days=day)
            event = {"event_id": f"e-{when}", "alarm_id": "a", "sequence": int(when.timestamp())}
            connection.execute(
                insert(alarm_history).values(**event, type="state transition", detail="{}", timestamp=when)
            )
            for second, state in enumerate(("delivered", "dead")):
                event["sequence"] += second
                row = {**event, "delivery_id": f"{state}-{when}", "url": state, "state": state, "body": ""}
                connection.execute(insert(deliveries).values(**row, attempts=1, next_attempt_at=when, created_at=when))
            path = {"event_type": f"t-{when}", "reader": "meter", "path": "p", "messages": 1, "found": 1, "missed": 0}
            connection.execute(insert(definition_paths).values(**path, last_seen_at=when))
            connection.execute(insert(stream_queues).values(place=f"q-{when}", looked_at=when))
            row_of_run = {"run_id": f"r-{when}", "step": "rollups", "started_at": when, "ended_at": when}
            connection.execute(insert(runs).values(**row_of_run, figures="{}", sequence=day))
    lake = site.lake
    for day in range(0, 30, 3):
        lake.put(f"exports/a_report/{(now - MONTH + timedelta(days=day)).date()}.csv", b"x")
    store_letters(
        lake, [Letter(now - MONTH + timedelta(days=10 * n), "q", "r", f"{now} {n}".encode()) for n in range(3)], "2026"
    )
    for _ in range(COMMITS):
        lake.append("notifications", NOTIFICATIONS.empty_table())
    replace_spans(lake, "quarantine", flagged(now), "timestamp", [(at(), at(60))])
    for table in ("samples", "events"):
        lake.commit(table, [], 0, transactions={APP: lake.version("notifications")})
    for name in ("exports/a_report/.2026-11-01.csv.17", f"probe/race-{now:%m}/part", "archive/.2026-11-01.json.9"):
        lake.put(name, b"left by a killed process")
    for path in (site.settings.home_path / "spill" / f"block-{now:%m}", site.settings.spool / f"{now:%m}.gz.corrupt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def flagged(now: datetime) -> pa.Table:
    row = {field.name: None for field in QUARANTINE} | {"event_day": at().date(), "timestamp": at(), "recorded_at": now}
    return pa.Table.from_pylist([row], schema=QUARANTINE)


def test_a_year_leaves_no_more_behind_than_its_last_months(
    open_site: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "UNSEEN", timedelta(days=60))
    site = open_site(
        vacuum_hours=0,
        keep_runs_days=60,
        keep_alarm_history_days=60,
        keep_dead_letters_days=60,
        keep_exports_days=60,
    )
    rows: list[dict[str, int]] = []
    there: list[dict[str, int]] = []
    for _ in range(12):
        clock.now += MONTH
        leave_behind(site, clock.now)
        done = upkeep.upkeep(site)
        assert done.failed == {}
        rows.append(stored(site))
        there.append(files(site))
    assert (
        rows[-1]
        == rows[3]
        == {
            **{table.name: 20 for table in (alarm_history, definition_paths, stream_queues)},
            "runs": 20 + 3,
            "deliveries": 2 * 20,
            "leases": 2,
            "dead letters": 6,
        }
    )
    logs = {name: number for name, number in there[-1].items() if name.endswith("_delta_log")}
    assert all(number <= there[3][name] for name, number in there[-1].items() if name not in logs)
    assert site.lake.version("notifications") >= 12 * COMMITS
    assert max(logs.values()) <= 2 * CHECKPOINT + COMMITS  # the commits after a checkpoint


def test_a_follower_that_is_behind_takes_the_new_files(open_site: Any, clock: Clock) -> None:
    site = open_site(vacuum_hours=0)
    lake = site.lake
    land_points(site, [point(1.0, at(1))])
    for minute in range(2, 35):
        lake.append("samples", pa.Table.from_pylist([point(1.0, at(minute))], schema=TABLES["samples"][0]))
    clock.now += 2 * MONTH
    assert upkeep.upkeep(site).deleted["commits"] >= 29
    assert catalog(site).samples == 33
    log = Path(site.settings.lake, "tables", "samples", "_delta_log")
    assert len(list(log.glob("*.json"))) <= CHECKPOINT
    again = open_site(home=site.settings.home_path)
    assert count(again, "samples") == 34
    land_points(again, [point(1.0, at(200))])
    assert count(site, "samples") == 35  # the process that had the table open


def test_commits_stay_if_the_checkpoint_after_them_is_cut(open_site: Any, clock: Clock) -> None:
    site = open_site(vacuum_hours=0)
    for _ in range(12):
        site.lake.append("events", TABLES["events"][0].empty_table())
    log = Path(site.settings.lake, "tables", "events", "_delta_log")
    (checkpoint,) = log.glob("*.checkpoint.parquet")
    checkpoint.write_bytes(b"")
    commits = len(list(log.glob("*.json")))
    clock.now += MONTH
    upkeep.upkeep(site)
    assert len(list(log.glob("*.json"))) >= commits


def test_what_one_part_cannot_do_does_not_stop_the_others(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> int:
        raise OSError("a disk of sand")

    leave_behind(site, clock.now - 12 * MONTH)
    monkeypatch.setitem(upkeep.PARTS, "exports", fails)
    done = upkeep.upkeep(site)
    assert done.failed == {"exports": "OSError: a disk of sand"}
    assert done.deleted["runs"] == 10
    assert done.deleted["left_behind"] == 0  # written just now, by the clock of the disk
    with pytest.raises(MeterhouseError, match="upkeep of exports failed: OSError: a disk of sand"):
        done.check()


def test_pending_webhooks_and_young_rows_stay(site: Site, clock: Clock) -> None:
    leave_behind(site, clock.now)
    with site.warehouse.begin() as connection:
        connection.execute(deliveries.update().values(created_at=clock.now - 24 * MONTH, state="pending"))
    before = stored(site)
    assert upkeep.upkeep(site).failed == {}
    assert stored(site) == {**before, "runs": before["runs"] + 1, "leases": 2}


def test_files_of_a_killed_process_are_deleted_and_those_of_a_running_one_stay(site: Site, clock: Clock) -> None:
    leave_behind(site, clock.now)
    assert upkeep.upkeep(site).deleted["left_behind"] == 0
    clock.now += timedelta(days=2)
    assert upkeep.upkeep(site).deleted["left_behind"] == 4


def test_every_kind_of_site_is_kept(any_site: Site, clock: Clock) -> None:
    leave_behind(any_site, clock.now)
    clock.now += 50 * MONTH
    done = upkeep.upkeep(any_site)
    assert done.failed == {}
    assert {name: done.deleted[name] for name in ("runs", "alarm_history", "deliveries", "unseen", "exports")} == {
        "runs": 10,
        "alarm_history": 10,
        "deliveries": 20,
        "unseen": 20,
        "exports": 10,
    }
    assert (done.deleted["dead_letters"], count(any_site, "dead_letters")) == (3, 0)


def test_periods_that_are_behind_find_what_they_have_read_after_the_log_was_cleaned(
    open_site: Any, clock: Clock
) -> None:
    site = open_site(vacuum_hours=0)
    land(site, created("i1"))
    compute(site)
    for number in range(2, 5):  # nothing computes periods for months
        clock.now += MONTH
        land(site, created(f"i{number}", clock.now))
        for _ in range(CHECKPOINT):
            site.lake.append("notifications", NOTIFICATIONS.empty_table())
        for table in ("samples", "events"):
            site.lake.commit(table, [], 0, transactions={APP: site.lake.version("notifications")})
        assert upkeep.upkeep(site).failed == {}
    compute(site)
    found = [row["message_id"] for row in rows_of(site, "evidence", "message_id")]
    assert found == ["create-i1", "create-i2", "create-i3", "create-i4"]
