"""Concurrent processes: every append lands, and steps that run at the same time do their work once."""

import multiprocessing
from pathlib import Path

import pytest
from builders import at, count, drop, point, polled, polling, rows
from conftest import OpenSite, bucket_settings

pytestmark = pytest.mark.slow
PROCESSES = multiprocessing.get_context("spawn")
WRITERS, COMMITS, ROWS = 3, 8, 5


def append(settings: dict[str, object], writer: int) -> None:
    """One writer's commits."""
    import pyarrow as pa

    from meterhouse.settings import read_settings
    from meterhouse.site import Site
    from meterhouse.stores.lake_tables import SAMPLES

    site = Site.open(read_settings(**settings))
    for commit in range(COMMITS):
        numbers = [(writer * COMMITS + commit) * ROWS + n for n in range(ROWS)]
        site.lake.append(
            "samples",
            pa.Table.from_pylist([point(n, at(n), sample_id=n) for n in numbers], schema=SAMPLES),
            transaction=(f"writer-{writer}", commit),
        )


def steps(settings: dict[str, object]) -> None:
    """Run every step until everything is done; a step that is already running is left to the other process."""
    import time

    from meterhouse.catalog import catalog, commits_behind, snapshot
    from meterhouse.collection.collect import collect
    from meterhouse.conversion.step import convert, unconverted
    from meterhouse.errors import AlreadyRunning
    from meterhouse.rollups.step import roll_up
    from meterhouse.settings import read_settings
    from meterhouse.site import Site

    site = Site.open(read_settings(**settings))
    while site.stream.backlog() or unconverted(site) or commits_behind(site) or snapshot(site).hours:
        for step in (collect, convert, catalog, roll_up):
            try:
                step(site)
            except AlreadyRunning:
                time.sleep(0.05)


def run(target: object, arguments: list[tuple[object, ...]]) -> None:
    workers = [PROCESSES.Process(target=target, args=each) for each in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


@pytest.mark.parametrize("kind", ["folder", "moto", pytest.param("postgres and s3", marks=pytest.mark.service)])
def test_processes_that_append_at_once_lose_no_commit(
    open_site: OpenSite, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    settings: dict[str, object] = {}
    if kind != "folder":
        settings |= bucket_settings(request.getfixturevalue("moto_s3" if kind == "moto" else "s3"))
    if kind == "postgres and s3":
        settings["warehouse_url"] = request.getfixturevalue("postgres_warehouse")
    site = open_site(home=tmp_path / "home", **settings)
    site.lake.version("samples")
    run(append, [({"home": tmp_path / "home", **settings}, n) for n in range(WRITERS)])
    total = WRITERS * COMMITS * ROWS
    assert [row["sample_id"] for row in rows(site, "samples", "sample_id")] == list(range(total))
    assert site.lake.version("samples") == WRITERS * COMMITS
    assert [site.lake.transaction("samples", f"writer-{n}") for n in range(WRITERS)] == [COMMITS - 1] * WRITERS
    taken = site.lake.appended("samples", 0)
    assert taken is not None
    assert sorted(taken.rows["sample_id"].to_pylist()) == list(range(total))


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def test_processes_that_do_the_same_steps_do_the_work_once(
    open_site: OpenSite, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    settings: dict[str, object] = {"home": tmp_path / "home", "collect_batch": 5}
    if kind == "postgres":
        settings["warehouse_url"] = request.getfixturevalue("postgres_warehouse")
    site = open_site(**settings)
    for n in range(12):
        batch = [polled(float(k), at(30 * n + k), message_id=f"{n}-{k}") for k in range(10)]
        drop(site.settings.spool, f"{n}.jsonl", [polling(f"m{n}-{k}", batch[k : k + 2]) for k in range(0, 10, 2)])
    run(steps, [(settings,), (settings,)])
    assert (count(site, "notifications"), count(site, "samples")) == (60, 120)
    (sums,) = rows(site, "rollups", "sum(count) AS n", "granularity_s = 3600")
    assert sums["n"] == 120
