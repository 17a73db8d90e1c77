"""A process that is killed at the worst times loses nothing and counts nothing twice: the next completes its work."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import kill_steps
import pytest
from brokers import wait_for
from builders import at, count, drop, land_points, notification, point, polled, polling, rows, warehouse_rows
from conftest import OpenSite
from reference import TIERS, assert_same, in_lake, in_warehouse

from meterhouse import times
from meterhouse.archive.compaction import compact
from meterhouse.catalog import snapshot
from meterhouse.site import Site

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
# Only installed modules: Python 3.11 does not pass pytest's additions to the path on to the fork server.
PROCESSES.set_forkserver_preload(
    [f"meterhouse.{name}" for name in ("archive", "catalog", "collect", "convert", "rollups", "sample_quality")]
)

APPEND = "before(lake.Lake, 'append', nth={nth}, when=lambda self, name, *a, **k: name == {name!r})"
COMMIT = "before(lake.Lake, 'commit', nth={nth}, when=lambda self, name, *a, **k: name == {name!r})"
REPLACE = "before(lake.Lake, 'swap', nth={nth}, when=lambda self, name, *a, **k: name == {name!r})"
SWAP = "{place}(lake.Lake, 'swap', when=lambda self, name, *a, **k: name == {name!r})"
MOMENTS = {
    "before landing": COMMIT.format(name="notifications", nth=2),
    "between dead letters and landing": "after(landing, 'store_letters', when=lambda lake, letters, *a: letters)",
    "between landing and acknowledging": "after(collect, '_land', nth=2)",
    "within acknowledging": "after(spool.Path, 'unlink')",
    "between collecting and conversion": "before(conversion, '_convert_some')",
    "between metadata and samples": "after(conversion, 'keep_metadata')",
    "between samples and events": APPEND.format(name="events", nth=1),
    "between conversion and catalog": "before(catalog, '_add_samples')",
    "within the catalog's transaction": "before(catalog, 'mark_dirty')",
    "between catalog and quality": "before(sample_quality, '_judge_group')",
    "before the quarantine": REPLACE.format(name="quarantine", nth=1),
    "between quarantine and its record": "before(sample_quality, '_record')",
    "within the record of quality": "after(sample_quality, 'bulk_insert')",
    "between quality and rollups": "before(rollups, '_roll_group')",
    "before the rollups": REPLACE.format(name="rollups", nth=1),
    "between marking the next hours and the rollups": "after(rollups, 'mark_dirty')",
    "between rollups and their record": "before(rollups, '_record')",
    "within the record of rollups": "after(rollups.described, 'bulk_insert')",
    "between the sealed file and the swap": SWAP.format(place="before", name="samples"),
    "between the swap and its manifest": SWAP.format(place="after", name="samples"),
    "between the manifest and its file": "before(archive, '_write_manifest')",
    "before the vacuum": "before(lake.Lake, 'vacuum')",
    "within the vacuum": "after(lake.Lake, 'vacuum', nth=2)",
}


STARTED = times.now()
SET_BACK = STARTED - times.day_start(STARTED.date())
"""All processes live in the first hours of a day, so that no midnight divides what they archive."""


COMPACTION = {
    "before an hour's files are read": "before(sample_files, 'read', nth=2)",
    "between a file's rows and its footer": "before(sample_files.GroupWriter, 'close')",
    "before the written file is read back": "before(sample_files, '_compare')",
    "between the compacted file and the swap": SWAP.format(place="before", name="samples"),
    "between the swap and its record": SWAP.format(place="after", name="samples"),
    "between the last swap and the record of the run": "before(Warehouse, 'record_run')",
}


def work(site: Site, fault: str = "") -> int:
    """Run all steps in a separate process; return its exit status."""
    how = (site.settings.home_path, site.settings.warehouse, fault, SET_BACK)
    process = PROCESSES.Process(target=kill_steps.run, args=how)
    process.start()
    process.join(300)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


PAUSES = {
    "before the samples": APPEND.format(name="samples", nth=1),
    "between samples and events": APPEND.format(name="events", nth=1),
    "between conversion and catalog": "before(catalog, '_add_samples')",
    "before the quarantine": REPLACE.format(name="quarantine", nth=1),
    "between quarantine and its record": "before(sample_quality, '_record')",
    "between the check of a lease and its commit": "before(DeltaTable, 'create_write_transaction', nth=7)",
    "before the marks of later hours": "after(rollups, '_next_hours')",
    "before the rollups": REPLACE.format(name="rollups", nth=1),
    "between marking the next hours and the rollups": "after(rollups, 'mark_dirty')",
    "between rollups and their record": "before(rollups, '_record')",
    "between the sealed file and the swap": SWAP.format(place="before", name="samples"),
    "between the swap and its manifest": "before(archive, '_record')",
}
"""Moments between two writes of a step. The commits of the fourth are those of landing, conversion and quality."""

ALWAYS = ("between samples and events", "between two tiers", "between the check")
"""Which of them are tried by `make test`; `make soak` tries all."""


def messages(seed: int = 5) -> list[Any]:
    """Events, polled counters and gauges with bad points, redelivered messages and lines that are not messages."""
    rng = random.Random(seed)
    made: list[Any] = []
    counter = 0.0
    for n in range(24):
        samples = []
        for k in range(3):
            counter = counter + rng.uniform(0, 9) if rng.random() > 0.1 else 1.0
            when = at(30 * n + k)
            samples.append(polled(counter, when, meter="cpu", type="cumulative", message_id=f"c{n}-{k}"))
            volume = rng.choice([5.0, 50.0, -101.0, float("nan")])
            samples.append(polled(volume, when, message_id=f"g{n}-{k}"))
        made += [polling(f"poll{n}", samples), notification(f"event{n}")]
    made.insert(9, b"no message")
    return [*made, made[3], made[10], b"{}", made[20]]


def first_file(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", messages()[:30])


def second_file(site: Site) -> None:
    """The rest, and a point that comes late: it changes the increase of a later hour that was rolled up."""
    drop(site.settings.spool, "b.jsonl", rest())


def rest() -> list[Any]:
    late = polling("late", [polled(400.0, at(59.5), meter="cpu", type="cumulative", message_id="late")])
    return [*messages()[30:], late, messages()[4]]


def facts(site: Site) -> dict[str, Any]:
    """Everything that must not depend on whether and when a process was killed."""
    found: dict[str, Any] = {
        table: count(site, table) for table in ("notifications", "samples", "events", "dead_letters", "quarantine")
    }
    found["ids"] = [row["message_id"] for row in rows(site, "notifications", "message_id")]
    found["samples of"] = rows(site, "samples", "sample_id, series_id, timestamp, volume::VARCHAR AS volume")
    found["events of"] = rows(site, "events", "message_id")
    found["reasons"] = rows(
        site, "quarantine", "series_id, timestamp, volume::VARCHAR AS volume, sample_id, reasons, excluded"
    )
    for name, columns in (
        ("series", "series_id, first_seen, last_seen"),
        ("resources", "resource_id, first_sample_at, last_sample_at, metadata_id"),
        ("resource_metadata", "metadata_id"),
        ("quality_daily", "day, hour, meter, rule, flagged"),
        ("dirty_hours", "hour"),
        ("archive_manifest", "table_name, rows, volume_sum"),  # digests depend on the times of arrival
    ):
        found[name] = sorted(warehouse_rows(site, f"SELECT {columns} FROM {name}"), key=repr)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """The result of a run that is not killed."""
    from meterhouse.settings import read_settings

    site = Site.open(read_settings(home=tmp_path_factory.mktemp("undisturbed")))
    site.settings.spool.mkdir()
    for file in (first_file, second_file):
        file(site)
        assert work(site) == 0
    found = facts(site)
    lake, warehouse = [in_lake(site, s) for s in TIERS], [in_warehouse(site, s) for s in TIERS[1:]]
    site.warehouse.engine.dispose()
    assert found["notifications"] == 24 * 2 + 1
    assert found["samples"] == 24 * 6 + 1
    assert found["events"] == 24
    assert found["dead_letters"] == 2
    return found, lake, warehouse


def assert_undisturbed(site: Site, undisturbed: tuple[dict[str, Any], list[Any], list[Any]]) -> None:
    wanted, lake, warehouse = undisturbed
    found = facts(site)
    for name in wanted:
        assert found[name] == wanted[name], name
    for seconds, rows_wanted in zip(TIERS, lake, strict=True):
        assert_same(in_lake(site, seconds), rows_wanted)
    for seconds, rows_wanted in zip(TIERS[1:], warehouse, strict=True):
        assert_same(in_warehouse(site, seconds), rows_wanted)
    assert not snapshot(site).hours
    assert not site.stream.backlog()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_changes_nothing(
    open_site: OpenSite, undisturbed: tuple[dict[str, Any], list[Any], list[Any]], moment: str
) -> None:
    site = open_site()
    for file in (first_file, second_file):
        file(site)
        assert work(site, MOMENTS[moment]) == -signal.SIGKILL
        assert work(site) == 0
    assert_undisturbed(site, undisturbed)


@pytest.mark.parametrize("moment", COMPACTION)
def test_a_kill_of_compaction_changes_nothing_and_the_next_run_ends_it(open_site: OpenSite, moment: str) -> None:
    site = open_site()
    for minute in (0, 1, 60, 61):
        points = [point(minute * 1.5 + n, at(minute), resource=f"r{n}", meter=f"m{n % 2}") for n in range(4)]
        land_points(site, [*points, point(0.25, at(minute), type="delta", sample_id=minute)])
    before = rows(site, "samples", "* EXCLUDE (sample_id)")
    process = PROCESSES.Process(target=kill_steps.compact, args=(site.settings.home_path, COMPACTION[moment]))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert rows(site, "samples", "* EXCLUDE (sample_id)") == before
    compact(site)
    site.lake.vacuum("samples", 0)
    files = [file.name for file in Path(site.lake.uri("samples")).glob("*/*.parquet")]
    assert [name.partition("-")[0] for name in files if "checkpoint" not in name] == ["compacted"] * 2
    (found,) = rows(site, "samples", "count(*) AS count, sum(volume) AS sum")
    assert (found["count"], found["sum"]) == (len(before), sum(row["volume"] for row in before))
    assert rows(site, "samples", "* EXCLUDE (sample_id)") == before
    assert compact(site).files == 0


@pytest.mark.service
@pytest.mark.parametrize(
    "moment", ["between samples and events", "within the record of rollups", "within acknowledging"]
)
def test_a_kill_changes_nothing_with_postgres(
    open_site: OpenSite,
    undisturbed: tuple[dict[str, Any], list[Any], list[Any]],
    postgres_warehouse: str,
    moment: str,
) -> None:
    site = open_site(warehouse_url=postgres_warehouse)
    first_file(site)
    assert work(site, MOMENTS[moment]) == -signal.SIGKILL
    second_file(site)
    assert work(site) == 0
    wanted, lake, _ = undisturbed
    assert {name: count(site, name) for name in ("notifications", "samples", "events", "dead_letters")} == {
        name: wanted[name] for name in ("notifications", "samples", "events", "dead_letters")
    }
    for seconds, rows_wanted in zip(TIERS, lake, strict=True):
        assert_same(in_lake(site, seconds), rows_wanted)
        if seconds in TIERS[1:]:
            assert_same(in_warehouse(site, seconds), rows_wanted)


def test_repeated_kills_each_a_little_later_change_nothing(
    open_site: OpenSite, undisturbed: tuple[dict[str, Any], list[Any], list[Any]]
) -> None:
    site = open_site()
    for file in (first_file, second_file):
        file(site)
        moments = [0.02 + 0.13 * n for n in range(12)]
        ended = [work(site, f"die_after({seconds})") for seconds in moments]
        assert ended[0] == -signal.SIGKILL
        assert work(site) == 0
    assert_undisturbed(site, undisturbed)


@pytest.mark.parametrize(
    "moment",
    [m for m in PAUSES if "METERHOUSE_TEST_SOAK_SECONDS" in os.environ or any(each in m for each in ALWAYS)],
)
def test_a_pause_longer_than_the_lease_changes_nothing(
    open_site: OpenSite, undisturbed: tuple[dict[str, Any], list[Any], list[Any]], moment: str
) -> None:
    site = open_site()
    first_file(site)
    assert work(site) == 0
    drop(site.settings.spool, "b.jsonl", rest()[:8])
    place, _, where = PAUSES[moment].partition("(")
    how = (site.settings.home_path, site.settings.warehouse, f"paused({place}, {where}", SET_BACK)
    process = PROCESSES.Process(target=kill_steps.run, args=how)
    process.start()
    assert process.pid
    try:
        wait_for(lambda: state(process.pid) in "TZ", "the pause", 60)
        assert state(process.pid) == "T"
        time.sleep(1.1)
        drop(site.settings.spool, "c.jsonl", rest()[8:])
        assert work(site) == 0
    finally:
        os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    assert process.exitcode is not None
    assert_undisturbed(site, undisturbed)


def state(pid: int | None) -> str:
    """The state of a process, as the kernel has it: T where it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
