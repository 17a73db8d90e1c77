"""Fixtures: a site for each test, embedded or on real servers."""

import gc
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from brokers import names, own_broker, started_broker
from command_line import run
from services import (
    _migrated_postgres,
    _moto,
    amqp_metrics_url,
    amqp_url,
    browser_path,
    english_postgres,
    json_url,
    keystone,
    libvirt_packages,
    moto_s3,
    node_url,
    postgres_url,
    postgres_warehouse,
    postgres_warehouses,
    s3,
    snmp_url,
    started_keystone,
)

from meterhouse import times
from meterhouse.settings import read_settings
from meterhouse.site import Site

__all__ = [
    "_migrated_postgres",
    "_moto",
    "amqp_metrics_url",
    "amqp_url",
    "browser_path",
    "english_postgres",
    "json_url",
    "keystone",
    "libvirt_packages",
    "moto_s3",
    "names",
    "node_url",
    "own_broker",
    "postgres_url",
    "postgres_warehouse",
    "postgres_warehouses",
    "run",
    "s3",
    "snmp_url",
    "started_broker",
    "started_keystone",
]

hypothesis.settings.register_profile("any speed", deadline=None)  # the machine may be busy
hypothesis.settings.load_profile("any speed")

gc.disable()  # until all tests are collected: what they import stays anyway


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among what was imported: each pass would take as long as many a test."""
    gc.freeze()
    gc.enable()


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real input beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no real input at {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def _derives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derive no meters in this process, unless a test has a file of its own: tests of roll-ups know all points."""
    monkeypatch.setattr(
        "meterhouse.definitions.derived_meters.SHIPPED", Path(__file__).parent / "data/nothing_derived.yaml"
    )


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove settings of the user's shell from the environment."""
    import os

    for name in os.environ:
        if name.startswith("METERHOUSE_") and not name.startswith("METERHOUSE_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> date:
    """The day of arrivals: the clock is set back to its start, so that no midnight passes during a test."""
    clock, begun = times.now, times.now()
    set_back = begun - times.day_start(begun.date())
    monkeypatch.setattr(times, "now", lambda: clock() - set_back)
    return begun.date()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite warehouse with the newest schema, to copy from."""
    site = Site.open(read_settings(home=tmp_path_factory.mktemp("migrated")))
    site.warehouse.engine.dispose()
    return site.settings.home_path / "warehouse.db"


OpenSite = Callable[..., Site]


@pytest.fixture
def open_site(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[OpenSite]:
    """Opens embedded sites, each in its own folder; settings are keywords."""
    opened: list[Site] = []

    def open_one(**overrides: Any) -> Site:
        home = overrides.pop("home", None) or tmp_path_factory.mktemp("home")
        if not overrides.get("warehouse_url") and not (home / "warehouse.db").exists():
            home.mkdir(parents=True, exist_ok=True)
            shutil.copy(migrated, home / "warehouse.db")
        site = Site.open(read_settings(home=home, **overrides))
        site.settings.spool.mkdir(parents=True, exist_ok=True)
        opened.append(site)
        return site

    yield open_one
    for site in opened:
        site.warehouse.engine.dispose()


@pytest.fixture
def site(open_site: OpenSite) -> Site:
    """An empty site: SQLite and a folder."""
    return open_site()


def bucket_settings(bucket: dict[str, str]) -> dict[str, Any]:
    """The settings of a lake in a bucket."""
    return {
        "lake_url": f"s3://{bucket['bucket']}/lake",
        "s3_endpoint": bucket["endpoint"],
        "s3_access_key": bucket["access_key"],
        "s3_secret_key": bucket["secret_key"],
        "s3_region": bucket["region"],
    }


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("moto", marks=pytest.mark.slow),
        pytest.param("postgres", marks=pytest.mark.service),
        pytest.param("postgres and s3", marks=pytest.mark.service),
    ]
)
def any_site(request: pytest.FixtureRequest, open_site: OpenSite) -> Site:
    """A site of each kind: SQLite or PostgreSQL, a folder or S3."""
    how: dict[str, Any] = {}
    if "postgres" in request.param:
        how["warehouse_url"] = request.getfixturevalue("postgres_warehouse")
    if "s3" in request.param:
        how |= bucket_settings(request.getfixturevalue("s3"))
    if request.param == "moto":
        how |= bucket_settings(request.getfixturevalue("moto_s3"))
    return open_site(**how)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def any_warehouse(request: pytest.FixtureRequest, open_site: OpenSite) -> Site:
    """A site on a folder, with SQLite and with PostgreSQL."""
    url = request.getfixturevalue("postgres_warehouse") if request.param == "postgres" else ""
    return open_site(warehouse_url=url)
