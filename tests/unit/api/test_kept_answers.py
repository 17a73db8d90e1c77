"""Answers that are kept: each is the one that a server gives that keeps none."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from api_server import served
from builders import at, land_points, point, roll_up
from conftest import OpenSite
from erasures import ANA, erase_ana
from restores import copy_lake, put_lake
from sqlalchemy import text

from meterhouse.api import asked
from meterhouse.api.serving.kept_answers import KeptAnswers
from meterhouse.catalog import catalog
from meterhouse.corrections.changing import propose, record
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES
from meterhouse.stores.warehouse_stamp import WarehouseStamp

HOURLY = "/v2/meters/m/statistics?period=3600&groupby=project_id"
QUESTIONS = (HOURLY, "/v2/samples?limit=5", "/v2/meters/m", "/v2/resources", "/v2/meters", "/v2/events")
OWN_RULES = 'rules:\n  - {name: small, bit: 9, check: range, severity: critical, min: 0, max: 50, meters: ["m"]}\n'


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many answers were made since the last call."""
    count, text_of = 0, asked.json_text

    def counted(content: Any) -> bytes:
        nonlocal count
        count += 1
        return text_of(content)

    def since() -> int:
        nonlocal count
        found, count = count, 0
        return found

    monkeypatch.setattr(asked, "json_text", counted)
    return since


@pytest.fixture
def ask(any_site: Site) -> Iterator[httpx.Client]:
    """A client of a site with points of two projects, that others change."""
    points = [point(n, at(10 * n), project=f"p{n % 2}", resource=f"r{n % 4}") for n in range(12)]
    land_points(any_site, [{**each, "user_id": ANA if each["project_id"] == "p1" else "bob"} for each in points])
    with served(any_site) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@contextmanager
def opened(site: Site) -> Iterator[Site]:
    """The same site, as another process opens it."""
    other = Site.open(site.settings)
    try:
        yield other
    finally:
        other.warehouse.engine.dispose()


def counts(ask: httpx.Client, **headers: str) -> dict[str, int]:
    """How many good points each project has."""
    found: dict[str, int] = {}
    for row in ask.get(HOURLY, headers=headers).raise_for_status().json():
        project = row["groupby"]["project_id"]
        found[project] = found.get(project, 0) + row["count"]
    return found


@pytest.mark.parametrize(
    "any_site", ["embedded", pytest.param("postgres and s3", marks=pytest.mark.service)], indirect=True
)
def test_answers_are_kept_until_anything_changes(
    any_site: Site, ask: httpx.Client, made: Callable[[], int], open_site: OpenSite
) -> None:
    questions = QUESTIONS if any_site.warehouse.is_sqlite else QUESTIONS[:2]

    def checked(change: Callable[[], Any]) -> dict[str, int]:
        """The counts after a change; asked again, answers are the same and not made again."""
        change()
        made()
        first = {question: ask.get(question).raise_for_status().content for question in questions}
        assert made() == len(questions)
        for question, content in first.items():
            assert ask.get(question).content == content
            while not any_site.warehouse.is_sqlite and made():  # another database of the server has changed
                assert ask.get(question).content == content
        assert made() == 0
        return counts(ask)

    later = [point(20 + n, at(130 + n), project="p1") for n in range(3)]
    with opened(any_site) as other:  # as another process
        assert checked(lambda: None) == {"p0": 6, "p1": 6}
        assert checked(lambda: other.lake.append("samples", _rows(later))) == {"p0": 6, "p1": 9}
        assert checked(lambda: catalog(other)) == {"p0": 6, "p1": 9}
        assert checked(lambda: roll_up(other)) == {"p0": 6, "p1": 9}
        gone = propose(other, "delete", "m", at(130), at(132)).correction
        assert checked(lambda: record(other, gone, reason="wrong", author="me")) == {"p0": 6, "p1": 7}
        if any_site.warehouse.is_sqlite:
            checked(lambda: erase_ana(other, "nobody"))
            assert ANA not in ask.get("/v2/samples").text


def test_answers_are_kept_until_the_rules_change(open_site: OpenSite, tmp_path: Path, made: Callable[[], int]) -> None:
    site = open_site(config_dir=tmp_path)
    land_points(site, [point(5), point(70, at(1))])
    roll_up(site)
    with served(site) as url, httpx.Client(base_url=url, timeout=60) as ask:
        assert counts(ask) == counts(ask) == {"p1": 2}
        assert made() == 1
        (tmp_path / "quality.yaml").write_text(OWN_RULES)
        assert counts(ask) == counts(ask) == {"p1": 1}
        assert made() == 1


@pytest.mark.parametrize("any_site", ["embedded"], indirect=True)
def test_kept_answers_are_given_to_whom_they_were_made_for(ask: httpx.Client, made: Callable[[], int]) -> None:
    assert counts(ask) == {"p0": 6, "p1": 6}
    callers: list[dict[str, str]] = [
        {"X-Project-Id": "p1", "X-User-Id": "u", "X-Roles": "admin"},
        {"X-Project-Id": "p1", "X-User-Id": "u", "X-Roles": "member"},
        {"X-Project-Id": "p0", "X-User-Id": "u", "X-Roles": "member"},
        {"X-Project-Id": "p0", "X-User-Id": "v", "X-Roles": "member"},
        {"X-Project-Id": "p0", "X-User-Id": "v", "X-Roles": "reader"},
        {"X-Project-Id": "none", "X-User-Id": "u", "X-Roles": "member"},
    ]
    made()
    for _ in range(2):
        found = [counts(ask, **headers) for headers in callers]
        assert found == [{"p0": 6, "p1": 6}, {"p1": 6}, *[{"p0": 6}] * 3, {}]
    assert made() == len(callers)
    made()
    for body in ('{"limit": 2}', '{"limit": 3}', '{"limit": 2}'):
        asked = ask.post("/v2/query/samples", content=body, headers={"Content-Type": "application/json"})
        assert len(asked.json()) == int(body[-2])
    assert made() == 2


@pytest.mark.parametrize("any_site", ["embedded"], indirect=True)
def test_a_restored_store_is_noticed(any_site: Site, ask: httpx.Client, tmp_path: Path) -> None:
    lake, warehouse = copy_lake(any_site), Path(any_site.settings.home_path / "warehouse.db")
    with sqlite3.connect(warehouse) as now, sqlite3.connect(tmp_path / "copy.db") as copy:
        now.backup(copy)
    now.close()
    copy.close()

    def add(volume: float, minute: float) -> None:
        with opened(any_site) as other:
            land_points(other, [point(volume, at(minute), project="p1")])

    add(20, 130)
    assert counts(ask) == {"p0": 6, "p1": 7}
    put_lake(any_site, lake)
    (tmp_path / "copy.db").rename(warehouse)
    for ending in ("-wal", "-shm"):
        warehouse.with_name(warehouse.name + ending).unlink(missing_ok=True)
    assert counts(ask) == {"p0": 6, "p1": 6}
    add(30, 131)  # as many commits as before, and others
    volumes = [row["counter_volume"] for row in ask.get("/v2/meters/m?limit=2").json()]
    assert (counts(ask), volumes) == ({"p0": 6, "p1": 7}, [30.0, 11.0])


def test_kept_answers_take_bounded_memory(site: Site) -> None:
    kept = KeptAnswers(site, limit=100_000)
    times_made = 0

    def make(size: int) -> Callable[[], bytes]:
        def made() -> bytes:
            nonlocal times_made
            times_made += 1
            return b"x" * size

        return made

    for number in range(50):
        kept.of(b"%d" % number, "me", make(9_000))
    assert kept.bytes <= 100_000
    times_made = 0
    kept.of(b"49", "me", make(9_000))
    assert times_made == 0
    kept.of(b"0", "me", make(9_000))
    for _ in range(2):
        kept.of(b"large", "me", make(50_000))
    assert (times_made, kept.bytes <= 100_000) == (3, True)
    site.kept.end()


def test_the_warehouses_stamp_differs_after_each_commit(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse
    stamps = WarehouseStamp(warehouse)

    def change(commit: bool) -> None:
        with warehouse.engine.begin() as connection:
            connection.execute(text("DELETE FROM leases"))
            connection.execute(
                text("INSERT INTO leases (name, holder, expires_at) VALUES ('a', 'me', :now)"), {"now": "2026-11-10"}
            )
            if not commit:
                connection.rollback()

    seen = [stamps.now()]
    for _ in range(5):
        with warehouse.read() as connection:
            connection.execute(text("SELECT count(*) FROM series")).all()
        assert stamps.now() == seen[-1]
        change(commit=True)
        assert stamps.now() not in seen
        seen.append(stamps.now())
    if not warehouse.is_sqlite:
        with warehouse.engine.begin() as connection:  # as a server that was restarted
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) {others}"))
        assert stamps.now() not in seen
    stamps.close()


def _rows(points: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(points, schema=SAMPLES)
