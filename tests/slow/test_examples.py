"""The pages' examples: what a reader copies from top to bottom works, and prints what the page shows."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import Broker
from examples import PAGES, ROOT, differences, examples, run
from services import Keystone

from meterhouse import times

pytestmark = pytest.mark.slow

Own = Callable[[Path, pytest.FixtureRequest], dict[str, str]]
"""Makes what a page needs, and gives the variables that name it."""


def own_stores(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    bucket = request.getfixturevalue("s3")
    return {
        "METERHOUSE_HOME": str(folder / "home" / "meterhouse"),
        "METERHOUSE_WAREHOUSE_URL": request.getfixturevalue("postgres_url"),
        "METERHOUSE_LAKE_URL": f"s3://{bucket['bucket']}/lake",
        "METERHOUSE_S3_ENDPOINT": bucket["endpoint"],
        "METERHOUSE_S3_ACCESS_KEY": bucket["access_key"],
        "METERHOUSE_S3_SECRET_KEY": bucket["secret_key"],
    }


def own_virtual_host(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """A virtual host, in which exchanges and queues may have the names that the page gives them."""
    broker: Broker = request.getfixturevalue("own_broker")
    broker.control("add_vhost", "examples")
    broker.control("set_permissions", "-p", "examples", "guest", ".*", ".*", ".*")
    request.addfinalizer(lambda: broker.control("delete_vhost", "examples"))
    return {"METERHOUSE_STREAM_URL": f"{broker.url.rpartition('/')[0]}/examples"}


def own_keystone(folder: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    keystone: Keystone = request.getfixturevalue("keystone")
    return {f"METERHOUSE_{name.upper()}": value for name, value in keystone.settings.items()}


OWN: dict[str, Own] = {
    "docs/names.md": own_keystone,
    "docs/operator-guide.md": own_stores,
    "docs/rabbitmq.md": own_virtual_host,
}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def cases() -> list[Any]:
    """Every page that has something to run."""
    found = []
    for page in PAGES:
        own = OWN.get(name(page))
        if any(example.is_run for example in examples(page)):
            found.append(pytest.param(page, own, id=name(page), marks=[pytest.mark.service] if own else []))
    return found


@pytest.fixture
def one_day() -> None:
    """Wait for the new day if this one is about to end: an example seals what arrived today."""
    left = (times.day_start(times.now().date()) + times.DAY - times.now()).total_seconds()
    if left < 180:
        time.sleep(left)


@pytest.mark.usefixtures("one_day")
@pytest.mark.parametrize(("page", "own"), cases())
def test_the_examples_of_a_page_print_what_it_shows(
    page: Path, own: Own | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    results = run(examples(page), tmp_path, own(tmp_path, request) if own else {})
    assert not (found := differences(results)), "\n".join(found)
