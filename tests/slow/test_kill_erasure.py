"""An erasure that is killed at any step is completed by the same command: nothing is left, and no figure differs."""

import multiprocessing
import shutil
import signal
from pathlib import Path
from typing import Any

import kill_steps
import pytest
from builders import at, drop, process, roll_up
from conftest import OpenSite
from erasures import ANA, MAIL, NAME, erase_ana, figures, fill, messages
from leftovers import left

from meterhouse.catalog import mark_for_recompute, snapshot
from meterhouse.erasure.recorded import recorded

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([f"meterhouse.{name}" for name in ("erasure.erase", "rollups.step")])


def swap(place: str, name: str) -> str:
    """A fault before or after the commit that replaces files of a table."""
    return f"{place}(lake.Lake, 'swap', when=lambda self, name, *a, **k: name == '{name}')"


MOMENTS = {
    "after the list is written": "before(lake.Lake, 'commit')",
    "between events and notifications": swap("after", "events"),
    "between samples and the others": swap("after", "samples"),
    "between roll-ups and their record": swap("after", "rollups"),
    "before the warehouse is changed": "before(warehouse_rows, 'replace')",
    "within the warehouse's transaction": "after(warehouse_rows, 'replace')",
    "between the logs of two tables": "after(lake.Lake, 'forget_before', nth=2)",
    "before the database is written anew": "before(Warehouse, 'forget_deleted')",
}
"""Moment → the fault."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A home with data, and its figures."""
    from meterhouse.settings import read_settings
    from meterhouse.site import Site

    home = tmp_path_factory.mktemp("filled")
    site = Site.open(read_settings(home=home))
    fill(site)
    drop(site.settings.spool, "waits.jsonl", messages(1200)[:2])
    found = {"home": home, "figures": figures(site)}
    site.warehouse.engine.dispose()
    return found


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_erasure_is_completed(
    filled: dict[str, Any], open_site: OpenSite, tmp_path: Path, moment: str
) -> None:
    home = tmp_path / "home"
    shutil.copytree(filled["home"], home)
    child = PROCESSES.Process(target=kill_steps.erase_user, args=(home, ANA, (NAME, MAIL), MOMENTS[moment]))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    site = open_site(home=home)
    mark_for_recompute(site, "rollups", {at(hours=12)}, "a test")  # the first of a day
    roll_up(site)  # as a sensor would, before a person knows of the kill
    erase_ana(site)
    assert left(site, [ANA, NAME, MAIL]) == []
    roll_up(site)
    assert figures(site) == filled["figures"]
    assert not snapshot(site).hours
    (one,) = recorded(site)
    assert one.ended_at is not None
    expected = {"notifications": 24, "events": 12, "dead_letters": 1, "spool": 2}
    assert {name: one.rows.get(name) for name in expected} == expected
    process(site)
    assert left(site, [ANA, NAME, MAIL]) == []
