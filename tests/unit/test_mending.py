"""After a power cut or a fault of the disk: what is damaged is recomputed, and the figures are those of before."""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import at, drop, notification, polled, polling, roll_up, rows, warehouse_rows
from restores import rolled_up
from usage_messages import created

from meterhouse.collection.intake import intake
from meterhouse.collection.load import load
from meterhouse.errors import WentBack
from meterhouse.mending.mend import mend
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TABLES
from meterhouse.usage.periods import compute

DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "deleted": lambda path: path.unlink(),
}


def fill(site: Site) -> None:
    """Three rounds of notifications, polled samples, dead letters and points that are flagged, each rolled up."""
    for number in range(3):
        batch = [polled(10 * number + n, at(n, hours=number), message_id=f"s{number}-{n}") for n in range(3)]
        bad = polled(-5, at(5, hours=number), message_id=f"bad{number}")
        drop(
            site.settings.spool,
            f"{number}.jsonl",
            [
                *(polling(f"batch{number}", [*batch, bad]), notification(f"n{number}")),
                *(b"no JSON %d" % number, created(f"i{number}", at(days=-30 * number))),
            ],
        )
        intake(site)
        roll_up(site)
        compute(site)


def state(site: Site) -> dict[str, Any]:
    """Everything that must be as before."""
    return {
        "notifications": rows(site, "notifications", "message_id, body"),
        "samples": rows(site, "samples", "series_id, timestamp, volume, sample_id"),
        "events": rows(site, "events", "message_id, event_type, generated"),
        "dead letters": rows(site, "dead_letters", "letter_id, reason"),
        "evidence": rows(site, "evidence", "resource_id, effect, said_at, message_id, project_id, vcpus"),
        "states": rows(site, "resource_states", "event_day, resource_id, state"),
        "periods": warehouse_rows(site, "SELECT * FROM resource_periods ORDER BY 1, 2, 3"),
        "quarantine": rows(site, "quarantine", "series_id, timestamp, volume, reason_names, excluded"),
        "rolled up": rolled_up(site),
        "flagged": warehouse_rows(site, "SELECT day, hour, meter, rule, flagged FROM quality_daily ORDER BY 2, 4"),
        "series": warehouse_rows(site, "SELECT series_id FROM series ORDER BY 1"),
        "metadata": warehouse_rows(site, "SELECT metadata FROM resource_metadata ORDER BY 1"),
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The home of a site with data, to copy, and its state."""
    home = tmp_path_factory.mktemp("filled")
    site = Site.open(read_settings(home=home))
    fill(site)
    before = state(site)
    site.warehouse.engine.dispose()
    return home, before


def copy(filled: Path, home: Path) -> Site:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(filled, home)
    return Site.open(read_settings(home=home))


def log_of(site: Site, table: str) -> list[Path]:
    return sorted(Path(site.lake.uri(table), "_delta_log").glob("*.json"))


def files_of(site: Site, table: str) -> list[Path]:
    actions = site.lake.actions(table).sort_by("modification_time")
    return [Path(site.lake.uri(table), path) for path in actions["path"].to_pylist()]


ALL = "METERHOUSE_TEST_SOAK_SECONDS" in os.environ
"""Whether to try every damage of every file. Otherwise each table and each damage is tried, and not all pairs."""


def pairs(tables: Iterable[str], places: Sequence[int]) -> list[tuple[str, int, str]]:
    everything = [(table, place, how) for table in tables for place in places for how in DAMAGE]
    return everything if ALL else everything[:: len(places) * len(DAMAGE) - 1]


@pytest.mark.parametrize(
    ("table", "place", "how"),
    pairs(["samples", "events", "rollups", "quarantine", "evidence", "resource_states"], [-1]),
)
def test_a_damaged_file_of_a_derived_table_is_made_again(
    filled: tuple[Path, dict[str, Any]], tmp_path: Path, table: str, place: int, how: str
) -> None:
    home, before = filled
    site = copy(home, tmp_path / "home")
    DAMAGE[how](files_of(site, table)[place])
    found = mend(replace(site))
    assert not [row for row in found if row["state"] == "failed"], found
    assert [row for row in found if row["state"] == "fixed"]
    site = replace(site)
    assert state(site) == before
    assert {row["state"] for row in mend(site)} == {"ok"}
    site.warehouse.engine.dispose()


@pytest.mark.parametrize(("table", "place", "how"), pairs([each for each in TABLES if each != "derived"], [-1, -2, 1]))
def test_a_damaged_commit_of_any_table_loses_nothing(
    filled: tuple[Path, dict[str, Any]], tmp_path: Path, table: str, place: int, how: str
) -> None:
    home, before = filled
    site = copy(home, tmp_path / "home")
    if len(log_of(site, table)) <= abs(place):
        pytest.fail("the log is too short for this test")
    DAMAGE[how](log_of(site, table)[place])
    found = mend(replace(site))
    assert not [row for row in found if row["state"] == "failed"], found
    site = replace(site)
    assert state(site) == before
    intake(site)
    assert {row["state"] for row in mend(site)} == {"ok"}
    site.warehouse.engine.dispose()


def test_a_damaged_checkpoint_loses_nothing(filled: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    home, before = filled
    for how in list(DAMAGE.values()) if ALL else [DAMAGE["half"]]:
        site = copy(home, tmp_path / "home")
        for table in TABLES:
            site.lake.table(table).create_checkpoint()
            (checkpoint,) = Path(site.lake.uri(table), "_delta_log").glob("*.checkpoint.parquet")
            how(checkpoint)
        site = replace(site)
        assert not [row for row in mend(site) if row["state"] == "failed"]
        assert state(site) == before
        site.warehouse.engine.dispose()


@pytest.mark.parametrize("how", DAMAGE if ALL else ["empty"])
def test_notifications_that_are_lost_are_counted_and_what_was_made_of_them_stays(
    filled: tuple[Path, dict[str, Any]], tmp_path: Path, how: str
) -> None:
    home, before = filled
    site = copy(home, tmp_path / "home")
    DAMAGE[how](files_of(site, "notifications")[0])
    found = mend(replace(site))
    (failed,) = [row for row in found if row["state"] == "failed"]
    assert "notifications: 3 rows" in failed["finding"]
    site = replace(site)
    assert state(site) | {"notifications": None} == before | {"notifications": None}
    assert len(rows(site, "notifications", "message_id")) == 6
    assert {row["state"] for row in mend(site)} == {"ok"}
    drop(site.settings.spool, "more.jsonl", [notification("more")])
    intake(site)
    assert len(rows(site, "notifications", "message_id")) == 7
    site.warehouse.engine.dispose()


def test_loaded_points_are_kept_and_those_that_are_lost_are_counted(site: Site, tmp_path: Path) -> None:
    for name in ("kept", "lost"):
        path = tmp_path / f"{name}.csv"
        path.write_text("timestamp,volume\n2026-11-10T12:00:00Z,1\n2026-11-10T12:01:00Z,2\n")
        load(site, [path])
    fill(site)
    (lost,) = [path for path in files_of(site, "samples") if b"lost" in path.read_bytes()]
    lost.unlink()
    found = mend(site := replace(site))
    (failed,) = [row for row in found if row["state"] == "failed"]
    assert "samples: 2 rows" in failed["finding"]
    assert "they were loaded: load the files again" in failed["finding"]
    assert len(rows(site, "samples", "volume", "meter = 'kept'")) == 2
    assert sum(count for count, _ in rolled_up(site).values()) == 2 + 9 + 3 * 5
    load(site, [tmp_path / "lost.csv"])
    roll_up(site) if mend(site) else None
    assert sum(count for count, _ in rolled_up(site).values()) == 4 + 9 + 3 * 5


def test_a_cut_end_of_a_log_stops_nobody(filled: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    home, _ = filled
    site = copy(home, tmp_path / "home")
    for table in TABLES:
        DAMAGE["half"](log_of(site, table)[-1])
    drop(site.settings.spool, "more.jsonl", [notification("more")])
    site = replace(site)
    with suppress(WentBack):  # of the catalog
        intake(site)
    assert "more" in [row["message_id"] for row in rows(site, "events", "message_id")]
    site.warehouse.engine.dispose()


def test_what_is_in_the_warehouse_alone_is_derived_again(filled: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from sqlalchemy import text

    home, before = filled
    tables = ("series", "resources", "resource_metadata", "rollup_1h_rows", "rollup_1d_rows")
    tables += ("quality_daily", "dirty_hours")
    for chosen in [(table,) for table in tables] if ALL else [tables[2:], tables]:
        site = copy(home, tmp_path / "home")
        with site.warehouse.begin() as connection:
            for table in chosen:
                connection.execute(text(f"DELETE FROM {table}"))
        mend(site)
        assert state(site) == before, chosen
        site.warehouse.engine.dispose()


def test_the_damaged_files_are_kept_aside(filled: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    home, _ = filled
    site = copy(home, tmp_path / "home")
    cut = files_of(site, "samples")[0]
    content = cut.read_bytes()
    DAMAGE["half"](cut)
    mend(replace(site))
    assert not cut.exists()
    (kept,) = Path(site.lake.aside("samples")).glob("*.parquet.*")
    assert kept.read_bytes() == content[: len(content) // 2]
    site.warehouse.engine.dispose()


def test_what_is_committed_is_on_disk_data_before_log(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.is_file():
            synced.append(str(path.relative_to(site.lake.url)) if path.is_relative_to(site.lake.url) else "")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    fill(site)
    for table in TABLES:
        for commit in site.lake.commits(table, 0, site.lake.version(table)):
            log = synced.index(f"tables/{table}/_delta_log/{commit.version:020}.json")
            assert all(synced.index(f"tables/{table}/{action['path']}") < log for action in commit.added)
