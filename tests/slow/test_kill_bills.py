"""A closing that is killed at any moment has closed the month or not; the next one writes the same bytes."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import kill_steps
import pytest
from bills import PRICES, day, lives
from brokers import wait_for
from conftest import OpenSite
from sqlalchemy import select

from meterhouse.billing import closing
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import closed_bills

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([f"meterhouse.{name}" for name in ("billing.closing", "rollups.step")])

MOMENTS = {
    "before the first file": ("before(lake.Lake, 'put', nth=1)", False),
    "after the first file": ("after(lake.Lake, 'put', nth=1)", False),
    "between the inputs and the bill": ("before(lake.Lake, 'put', nth=8)", False),
    "within a file": ("before(lake.Path, 'replace', nth=9)", False),
    "before the manifest": ("before(closing.frozen, 'manifest')", False),
    "within the manifest": ("before(lake.Path, 'replace', when=lambda self, to: to.name == 'manifest.json')", False),
    "after the manifest": ("after(lake.Path, 'replace', when=lambda self, to: to.name == 'manifest.json')", True),
    "before the index": ("before(closing, 'index', nth=2)", True),
    "within the index": ("after(closing, 'delete', nth=2)", True),
}
"""Moment → the fault, and whether the month is closed."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    return tmp_path


def _site(open_site: OpenSite, config: Path) -> Site:
    """A site with a closed month that has to be corrected, and a month to be closed."""
    site = open_site(config_dir=config)
    lives(site, "i1", day(1, 9))
    lives(site, "i2", day(3, 10), day(4, 10), project_id="p2")
    closing.close(site, "2026-09", "somebody")
    lives(site, "late", day(5, 9), day(6, 9))
    return site


def _files(site: Site) -> dict[str, bytes]:
    folder = Path(site.lake.url) / "bills" / "2026-10"
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*") if path.name != "manifest.json"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_closing_is_done_or_not(open_site: OpenSite, config: Path, moment: str) -> None:
    whole = _site(open_site, config)
    done = closing.close(whole, "2026-10", "somebody")
    site = _site(open_site, config)
    preliminary = closing.make(site, "2026-10")
    fault, is_closed = MOMENTS[moment]
    child = PROCESSES.Process(target=kill_steps.close_month, args=(site.settings.home_path, config, "2026-10", fault))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    found = closing.make(site, "2026-10")
    assert found.lines.equals(done.lines)
    assert (found.closing is not None) == is_closed
    if is_closed:
        with pytest.raises(MeterhouseError, match="closed already"):
            closing.close(site, "2026-10", "somebody")
    else:
        assert found == preliminary
        closing.close(site, "2026-10", "somebody")
    assert _files(site) == _files(whole)
    assert [each.closing.digest for each in closing.closed(site)] == [
        each.closing.digest for each in closing.closed(whole)
    ]
    with site.warehouse.read() as connection:
        assert connection.execute(select(closed_bills.c.month).order_by("month")).scalars().all() == [
            "2026-09",
            "2026-10",
        ]
    assert closing.again_in_lake(site, "2026-10").differences == ()


PAUSES = {
    "before the first file": "before, leases.Lease, 'begin', nth=1",
    "between two files": "before, leases.Lease, 'begin', nth=4",
    "before the manifest": "before, closing.frozen, 'manifest'",
}


@pytest.mark.parametrize("moment", PAUSES)
def test_a_closing_that_was_suspended_changes_nothing_of_what_another_has_closed(
    open_site: OpenSite, config: Path, moment: str
) -> None:
    site = _site(open_site, config)
    fault = f"paused({PAUSES[moment]})"
    child = PROCESSES.Process(target=kill_steps.close_month, args=(site.settings.home_path, config, "2026-10", fault))
    child.start()
    assert child.pid
    try:
        wait_for(lambda: state(child.pid) in "TZ", "the pause", 60)
        assert state(child.pid) == "T"
        time.sleep(1.1)  # its lease runs out
        lives(site, "later", day(7, 10), day(9, 10))
        done = closing.close(site, "2026-10", "another")
        before = {path.name: path.read_bytes() for path in (Path(site.lake.url) / "bills" / "2026-10").glob("[!.]*")}
    finally:
        os.kill(child.pid, signal.SIGCONT)
    child.join(60)
    assert child.exitcode not in (None, 0)
    assert closing.make(site, "2026-10") == done
    assert "later" in done.lines["resource_id"].to_pylist()
    after = {path.name: path.read_bytes() for path in (Path(site.lake.url) / "bills" / "2026-10").glob("[!.]*")}
    assert after == before


def state(pid: int | None) -> str:
    """The state of a process, as the kernel has it: T where it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
