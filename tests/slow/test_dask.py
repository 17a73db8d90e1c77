"""Points that workers of a Dask cluster judge and roll up give what one process gives, bit by bit, whoever dies."""

import multiprocessing
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import point
from conftest import OpenSite, bucket_settings
from dask_processes import dask, kill, stop, wait_until
from sqlalchemy import select

from meterhouse import times
from meterhouse.catalog import catalog
from meterhouse.corrections.changing import propose, record
from meterhouse.errors import AlreadyRunning, MeterhouseError, Unavailable
from meterhouse.recompute import backfill
from meterhouse.rollups.following import follow
from meterhouse.rollups.step import roll_up
from meterhouse.sample_quality import reading
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES
from meterhouse.stores.warehouse_tables import (
    daily,
    derived_meters,
    dirty_hours,
    hourly,
    metadata_changes,
    quality_daily,
    received_meters,
    resource_metadata,
    series,
)
from meterhouse.workers import cluster

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
START = datetime(2026, 11, 1, tzinfo=UTC)
SERIES = 300
CADENCE = 60
SMALL = 72_000
"""Points a pass. Their roll-ups of 5 minutes are enough for a file."""
PASSES = 6
KINDS = (("cpu", "cumulative"), ("cpu_util", "gauge"), ("requests", "delta"), ("memory", "gauge"))

UNLIKE = {
    dirty_hours: {"judged_at", "rolled_at", "marked_at", "rolled_version"},
    quality_daily: set[str](),
    metadata_changes: set[str](),
    received_meters: set[str](),
    derived_meters: {"computed_at"},
    series: set[str](),
    hourly: set[str](),
    daily: set[str](),
}
"""Tables of the warehouse, and their columns that say when something was done, or after how many commits."""

DERIVED = """
derived_meters:
  - {name: cpu_share, kind: rate, from: [cpu], unit: "%", scale: 100.0 / (10**9 * (resource_metadata.vcpus or 1))}
  - {name: cpu_share_milli, kind: convert, from: [cpu_share], unit: "m", scale: 1000}
  - {name: cpu_step, kind: delta, from: [cpu_util], unit: "%"}
  - {name: in_use, kind: arithmetic, expression: $(cpu_util) * $(memory), unit: x}
  - {name: project.memory, kind: aggregate, from: [memory], function: sum, by: [project_id]}
"""


def points() -> list[pa.Table]:
    """A day of counters, gauges and deltas, some of them bad, with metadata that changes; in five files."""
    random = np.random.default_rng(7)
    described = []
    for number in range(SERIES):
        meter, kind = KINDS[number % len(KINDS)]
        described.append(
            point(0.0, START, meter=meter, type=kind, resource=f"r{number // 4:03}", project=f"p{number % 7}")
        )
    count = 86_400 // CADENCE
    each = np.tile(np.arange(SERIES), count)
    step = np.repeat(np.arange(count), SERIES)
    instants = times.micros(START) + step * CADENCE * 1_000_000 + (each % 7) * 1_000
    grown = 3e9 * (step % (100 + each)) + each  # with resets
    volume = np.where(each % len(KINDS) == 0, grown, random.normal(50, 30, len(each)))
    volume[random.random(len(each)) < 0.001] = np.nan
    metadata = each // 4 * 10 + step * 3 // count
    rows = pa.Table.from_pylist(described, schema=SAMPLES).take(pa.array(each))
    made = {
        "timestamp": pa.array(instants, SAMPLES.field("timestamp").type),
        "recorded_at": pa.array(instants + 1_000_000, SAMPLES.field("recorded_at").type),
        "volume": pa.array(volume),
        "sample_id": pa.array(np.arange(len(each), dtype=np.int64)),
        "metadata_id": pa.array(metadata, mask=each % 3 == 0),
        "arrival_hour": pa.array(np.repeat(times.arrival_hour(START), len(each))),
    }
    for name, column in made.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, SAMPLES.field(name), column.cast(SAMPLES.field(name).type))
    size = rows.num_rows // 5
    return [rows.slice(n * size, size) for n in range(5)]


def filled(site: Site) -> None:
    """Land and catalog the points, describe their resources, and correct some."""
    with site.warehouse.begin() as connection:
        contents = [
            {"metadata_id": resource * 10 + n, "metadata": f'{{"vcpus": {resource % 4 + n}}}'}
            for resource in range(SERIES // 4)
            for n in range(3)
        ]
        connection.execute(resource_metadata.insert(), contents)
    for rows in points():
        site.lake.append("samples", rows)
    catalog(site)
    found = propose(site, "replace", "memory", START, START + 6 * times.HOUR, condition="project = p3", factor=2.0)
    record(site, found.correction, reason="a wrong unit", author="ana")


@pytest.fixture(autouse=True)
def _small_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many passes over few points. Each makes enough rows for files of its own."""
    monkeypatch.setattr(cluster, "FEW_POINTS", 0)
    monkeypatch.setattr(reading, "POINTS_A_PASS", SMALL)


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a site whose points are not rolled up."""
    home = tmp_path_factory.mktemp("landed")
    (home / "etc").mkdir()
    (home / "etc/derived_meters.yaml").write_text(DERIVED)
    site = Site.open(read_settings(home=home))
    filled(site)
    site.warehouse.engine.dispose()
    return home


@pytest.fixture(scope="module")
def wanted(landed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process makes of the points."""
    site = opened(copied(landed, tmp_path_factory.mktemp("local") / "home"))
    roll_up(site)
    follow(site)
    found = everything(site)
    assert all(len(rows) for name, rows in found.items() if name != "received_meters")
    return found


def copied(landed: Path, home: Path) -> Path:
    shutil.copytree(landed, home)
    return home


def opened(home: Path, **how: Any) -> Site:
    return Site.open(read_settings(home=home, config_dir=home / "etc", **how))


def everything(site: Site) -> dict[str, Any]:
    """All bits of what is computed, and the bookkeeping but for times of computation."""
    found: dict[str, Any] = {}
    for table, key in (
        ("rollups", "granularity_s, series_id, bucket"),
        ("quarantine", "series_id, timestamp, sample_id, volume"),
        ("derived", "series_id, timestamp, sample_id"),
    ):
        with site.lake.connect() as duck:
            site.lake.view(duck, table, site.lake.files(table))
            found[table] = bits(duck.sql(f"SELECT * FROM {table} ORDER BY {key}").to_arrow_table())
    with site.warehouse.read() as connection:
        for table, unlike in UNLIKE.items():
            columns = [column for column in table.c if column.name not in unlike]
            found[table.name] = sorted(map(repr, connection.execute(select(*columns)).all()))
    return found


def bits(rows: pa.Table) -> pa.Table:
    """Floats as the integers that have the same bits, so that NaN equals itself and 0.0 does not equal -0.0."""
    columns = [rows[name].combine_chunks() for name in rows.column_names]
    whole = [each.view(pa.int64()) if pa.types.is_float64(each.type) else each for each in columns]
    return pa.table(whole, names=rows.column_names)


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, rows in wanted.items():
        if isinstance(rows, list):
            assert set(found[name]) ^ set(rows) == set(), name
        assert found[name] == rows, name


def files(site: Site) -> set[Path]:
    """The data files of roll-ups in a folder, committed or not."""
    return set(Path(site.lake.uri("rollups")).rglob("*.parquet"))


@contextmanager
def rolling(site: Site) -> Iterator[None]:
    """Roll up in a thread; the block begins when a worker has written a file, and its end waits for the roll-up."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            roll_up(site)
        except BaseException as error:
            failed.append(error)

    before = files(site)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: bool(failed) or files(site) > before)
        yield
    finally:
        thread.join(120)
    assert not failed, failed
    follow(site)


def lead(home: Path, url: str) -> None:
    """Roll up in a process of its own, with small passes."""
    cluster.FEW_POINTS, reading.POINTS_A_PASS = 0, SMALL
    roll_up(opened(home, compute=url, lease_seconds=5))


@pytest.fixture
def home(landed: Path, tmp_path: Path) -> Path:
    """The folder of a site of its own, whose points are not rolled up."""
    return copied(landed, tmp_path / "home")


def test_workers_give_the_bits_of_one_process_on_a_folder(home: Path, wanted: dict[str, Any], tmp_path: Path) -> None:
    with dask(tmp_path / "dask", opened(home).settings) as started:
        site = opened(home, compute=started.url)
        roll_up(site)
        follow(site)
        assert started.tasks() >= PASSES
        assert_equal(everything(site), wanted)
        backfill(site, "sample_quality", START, START + 12 * times.HOUR)  # the rest of the day is there already
        again = everything(site)
        for name in ("rollups", "quarantine", "derived", "quality_daily", "metadata_changes", "rollup_1h_rows"):
            assert again[name] == wanted[name], name


@pytest.mark.service
def test_workers_give_the_bits_of_one_process_on_postgresql_and_s3(
    landed: Path,
    wanted: dict[str, Any],
    tmp_path: Path,
    open_site: OpenSite,
    postgres_warehouse: str,
    s3: dict[str, str],
) -> None:
    how = {"warehouse_url": postgres_warehouse, **bucket_settings(s3), "config_dir": landed / "etc"}
    site = open_site(**how)
    filled(site)
    with dask(tmp_path / "dask", site.settings) as started:
        site = open_site(**how, compute=started.url)
        roll_up(site)
        follow(site)
        assert started.tasks() >= PASSES
    assert_equal(everything(site), wanted)


@pytest.mark.parametrize("harm", [kill, stop])
def test_a_worker_that_is_lost_in_the_middle_changes_nothing_but_time(
    home: Path, wanted: dict[str, Any], tmp_path: Path, harm: Callable[[Any], None]
) -> None:
    with dask(tmp_path / "dask", opened(home).settings) as started:
        site = opened(home, compute=started.url)
        with rolling(site):
            harm(started.workers[0])
        assert_equal(everything(site), wanted)
    site.lake.vacuum("rollups", 0)
    assert len(files(site)) == len(site.lake.files("rollups"))


def test_what_a_killed_step_has_begun_on_workers_is_done_by_the_next(
    home: Path, wanted: dict[str, Any], tmp_path: Path
) -> None:
    with dask(tmp_path / "dask", opened(home).settings) as started:
        site = opened(home, compute=started.url, lease_seconds=5)
        process = multiprocessing.get_context("spawn").Process(target=lead, args=(home, started.url))
        process.start()
        wait_until(lambda: bool(files(site)))
        process.kill()
        process.join()
        wait_until(lambda: rolled_up(site))
        assert_equal(everything(site), wanted)


def rolled_up(site: Site) -> bool:
    """Roll up, unless the lease of a killed process still holds."""
    try:
        roll_up(site)
    except AlreadyRunning:
        return False
    follow(site)
    return True


def test_a_worker_without_the_lake_is_named(home: Path, tmp_path: Path) -> None:
    with dask(tmp_path / "dask", opened(home).settings, workers=0) as started:
        started.add_worker(METERHOUSE_LAKE_URL=str(tmp_path / "elsewhere"))
        with pytest.raises(MeterhouseError, match=r"finds no lake at .*elsewhere.*METERHOUSE_LAKE_URL"):
            roll_up(opened(home, compute=started.url))
    assert not (tmp_path / "elsewhere").exists()


def test_a_scheduler_that_does_not_answer_is_named(home: Path) -> None:
    with pytest.raises(Unavailable, match=r"dask://127.0.0.1:9.*the Dask scheduler does not answer"):
        roll_up(opened(home, compute="dask://127.0.0.1:9"))


def test_the_benchmark_of_workers_prints_the_cost_of_each_kind() -> None:
    command = [sys.executable, "bench/workers.py", "--quick", "--on", "folder"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    for name in ("this process", "one worker", "two workers"):
        (line,) = (each for each in run.stdout.splitlines() if each.startswith(name))
        points, wall, leader, *_ = map(float, line.removeprefix(name).split())
        assert points == 0.02
        assert wall > 0
        assert leader > 0
