"""A backfill that is killed at any moment changes nothing but what it has done, and the next one does only the rest."""

import multiprocessing
import shutil
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import kill_steps
import pytest
from builders import at, drop, notification, polled, polling, roll_up, rows, warehouse_rows
from conftest import OpenSite

from meterhouse import times
from meterhouse.archive.compaction import compact
from meterhouse.archive.seal import archive, manifest
from meterhouse.catalog import catalog, snapshot
from meterhouse.collection.intake import intake
from meterhouse.recompute import backfill, backfill_stale
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stale import stale

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([f"meterhouse.{name}" for name in ("archive.seal", "catalog", "rollups.step")])

METERS = """metric:
- {{name: {name}, event_type: compute.instance.exists, type: gauge, unit: GB, volume: $.payload.disk,
   resource_id: $.payload.instance_id, timestamp: $.payload.at}}
"""

EVENTS = "- {{event_type: compute.*, traits: {{about: {{fields: payload.{field}}}}}}}\n"

RULES = """rules:
- {{name: too_high, bit: 12, check: range, severity: critical, max: {highest}}}
"""

SWAP = "{place}(lake.Lake, 'swap', nth={nth}, when=lambda self, name, *a, **k: name == {name!r})"
WRITE = "after(lake.Lake, 'write_files', nth={nth}, when=lambda self, name, *a, **k: name == {name!r})"

REPLACED = {
    "between two files": (WRITE.format(name="{asset}", nth=2), 4),
    "between the files and the swap": (SWAP.format(name="{asset}", place="before", nth=1), 4),
    "between the swap and its record": ("before(used, 'replaced', nth=2)", 3),
    "within its record": ("after(used, 'replaced', nth=2)", 3),
    "between the record and how far it is": ("before(recompute._Record, 'reach', nth=2)", 3),
    "before the catalog follows": ("before(catalog, 'catalog')", 2),
    "before the seal": ("before(archive, '_seal', nth=1)", 0),
    "between the sealed file and its swap": (SWAP.format(name="{asset}", place="before", nth=5), 0),
    "between the seal and its manifest": ("before(archive, '_record')", 0),
    "after the last hour": ("before(recompute._Record, 'end')", 0),
}
"""Moment → the fault, and how many of the four hours are left to do."""

COMPUTED = {
    "between the marks and their record": ("after(catalog, 'mark_for_recompute')", 4),
    "between two groups": ("before(rollups, '_roll_group', nth=2)", 2),
    "between rollups and their record": ("before(rollups, '_record', nth=2)", 2),
    "before the warehouse follows": ("before(following, '_put')", 0),
}

BY_DAY = {
    "archive": ("before(archive, '_seal', nth=6)", 1),
    "usage_by_project_and_day": ("before(report_exports, 'export', nth=2)", 1),
}


def define(folder: Path, name: str = "disk", field: str = "instance_id", highest: float = 1000.0) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "meters.yaml").write_text(METERS.format(name=name))
    (folder / "event_definitions.yaml").write_text(EVENTS.format(field=field))
    (folder / "quality.yaml").write_text(RULES.format(highest=highest))


def redefine(folder: Path) -> None:
    define(folder, "root", "tenant_id", 3.0)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with four arrival hours: two of a sealed day, one that is compacted, one that is not."""
    folder = tmp_path_factory.mktemp("before")
    define(folder / "config")
    site = Site.open(read_settings(home=folder / "home", config_dir=folder / "config"))
    with pytest.MonkeyPatch.context() as clock:
        for hour in (0, 3, 14, 15):
            set_clock(clock, at(5, hours=hour))
            payload = {"disk": 2.0 + hour % 3, "instance_id": f"i{hour}", "tenant_id": "p1"}
            moments = [at(hours=hour), at(hours=hour - 1), at(days=-0.5)]
            messages = [
                notification(
                    f"m{hour}-{n}", timestamp=moment.isoformat(), payload={**payload, "at": moment.isoformat()}
                )
                for n, moment in enumerate(moments)
            ]
            poll = polling(f"poll{hour}", [polled(float(hour), at(hours=hour), message_id=f"s{hour}")])
            drop(site.settings.spool, "a.jsonl", [*messages, poll])
            intake(site)
        set_clock(clock, at(hours=15.5))
        archive(site, at().date())
        compact(site)
        set_clock(clock, at(hours=15))
        roll_up(site)
    site.warehouse.engine.dispose()
    return folder


def set_clock(clock: pytest.MonkeyPatch, moment: datetime) -> None:
    clock.setattr(times, "now", lambda: moment)


@pytest.fixture
def killed_site(before: Path, tmp_path: Path, open_site: OpenSite) -> Site:
    """A copy of it, whose definitions and rules have changed since."""
    shutil.copytree(before, tmp_path / "site")
    redefine(tmp_path / "site" / "config")
    return open_site(home=tmp_path / "site" / "home", config_dir=tmp_path / "site" / "config")


@pytest.fixture(scope="module")
def wanted(before: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What there is after a backfill of everything that was not killed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "site"
    shutil.copytree(before, folder)
    redefine(folder / "config")
    site = Site.open(read_settings(home=folder / "home", config_dir=folder / "config"))
    backfill_stale(site)
    found = facts(site)
    site.warehouse.engine.dispose()
    return found


def facts(site: Site) -> dict[str, Any]:
    """Everything that must not depend on whether and when a process was killed."""
    series = "JOIN series s ON s.series_id = r.series_id"
    return {
        "samples": rows(site, "samples", "meter, resource_id, timestamp, volume"),
        "events": rows(site, "events", "message_id, traits"),
        "rollups": sorted(
            warehouse_rows(site, f"SELECT meter, bucket, count, sum FROM rollup_1h r {series}"), key=repr
        ),
        "days": sorted(warehouse_rows(site, f"SELECT meter, bucket, count, sum FROM rollup_1d r {series}"), key=repr),
        "quarantine": rows(site, "quarantine", "meter, timestamp, reason_names"),
        "sealed": {
            table: {path for each in manifest(site) if each["table_name"] == table for path in each["files"]}
            == {path for path in site.lake.live(table) if f"={at().date()}" in path}
            for table in ("samples", "events")
        },
        "stale": stale(site),
        "dirty": snapshot(site).hours,
        "backfills": warehouse_rows(site, "SELECT * FROM backfills"),
    }


def kill(site: Site, asset: str, fault: str) -> None:
    how = (site.settings.home_path, site.settings.config_dir, asset, fault)
    process = PROCESSES.Process(target=kill_steps.backfill, args=how)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def again(site: Site, asset: str) -> dict[str, Any]:
    return backfill(site, asset, at(days=-1), at(days=2))


@pytest.mark.parametrize(
    ("asset", "moment"),
    [
        *(("samples", moment) for moment in REPLACED),
        *(("events", moment) for moment in ("between the files and the swap", "before the seal")),
    ],
)
def test_a_killed_redefinition_continues_where_it_was(
    killed_site: Site, wanted: dict[str, Any], asset: str, moment: str
) -> None:
    fault, left = REPLACED[moment]
    kill(killed_site, asset, fault.format(asset=asset))
    done = again(killed_site, asset)
    assert done["hours"] == left
    assert not stale(killed_site, asset)
    backfill_stale(killed_site)
    assert facts(killed_site) == wanted


@pytest.mark.parametrize(
    ("asset", "moment"), [*(("sample_quality", moment) for moment in COMPUTED), ("rollups", "between two groups")]
)
def test_a_killed_recomputation_continues_where_it_was(
    killed_site: Site, wanted: dict[str, Any], asset: str, moment: str
) -> None:
    fault, left = COMPUTED[moment]
    kill(killed_site, asset, fault)
    waiting = snapshot(killed_site).hours
    assert len(waiting) >= left
    again(killed_site, asset)
    assert not snapshot(killed_site).hours
    backfill_stale(killed_site)
    assert facts(killed_site) == wanted


@pytest.mark.parametrize("asset", BY_DAY)
def test_a_killed_backfill_of_days_continues_where_it_was(killed_site: Site, asset: str) -> None:
    fault, left = BY_DAY[asset]
    kill(killed_site, asset, fault)
    assert again(killed_site, asset)["days"] == left


@pytest.mark.parametrize("nth", [2, 5])
def test_what_is_stale_after_a_kill_is_done_by_the_next_one(
    killed_site: Site, wanted: dict[str, Any], nth: int
) -> None:
    kill(killed_site, "stale", f"before(used, 'replaced', nth={nth + 1})")
    done = backfill_stale(killed_site)
    assert sum(done[asset]["hours"] for asset in ("samples", "events") if asset in done) == 8 - nth
    assert facts(killed_site) == wanted


def test_readers_see_the_old_rows_or_the_new_ones(killed_site: Site) -> None:
    def meters(hour: str) -> set[str]:
        return {row["meter"] for row in rows(killed_site, "samples", "DISTINCT meter", f"arrival_hour = '{hour}'")}

    kill(killed_site, "samples", SWAP.format(name="samples", place="after", nth=1))
    catalog(killed_site)
    hours = sorted({row["arrival_hour"] for row in rows(killed_site, "samples", "DISTINCT arrival_hour")})
    assert [meters(hour) for hour in hours] == [{"disk", "cpu_util"}] * 3 + [{"root", "cpu_util"}]
