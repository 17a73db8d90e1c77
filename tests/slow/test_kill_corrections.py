"""A correction that is killed at any moment is recorded as a whole or not at all, and the next roll-up completes it."""

import multiprocessing
import signal

import kill_steps
import pytest
from builders import NOON, at, land_points, point, roll_up, rows
from conftest import OpenSite
from reference import assert_right

from meterhouse import times
from meterhouse.catalog import snapshot
from meterhouse.corrections.changing import propose, record, revoke
from meterhouse.corrections.recorded import recorded

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([f"meterhouse.{name}" for name in ("corrections.changing", "rollups.step")])

SWAP = "{place}(lake.Lake, 'swap', when=lambda self, name, *a, **k: name == 'rollups')"
MOMENTS = {
    "before it is recorded": ("before(changing, 'insert')", False),
    "between the record and the marks": ("before(changing, 'mark_dirty')", False),
    "before the transaction ends": ("after(changing, 'mark_dirty')", False),
    "after the transaction": ("before(rollups, 'roll_up')", True),
    "before the rollups": (SWAP.format(place="before"), True),
    "between rollups and their record": (SWAP.format(place="after"), True),
    "before the warehouse follows": ("before(following, '_put')", True),
}
"""Moment → the fault, and whether the correction is recorded."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_correction_counts_once_or_not_at_all(open_site: OpenSite, moment: str) -> None:
    site = open_site()
    points = [point(float(n), at(10 * n), meter="cpu", type="cumulative") for n in range(20)]
    land_points(site, points)
    roll_up(site)
    before = rows(site, "rollups")
    fault, is_recorded = MOMENTS[moment]
    process = PROCESSES.Process(target=kill_steps.correct, args=(site.settings.home_path, fault))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert [one.points for one in recorded(site)] == [3] * is_recorded
    if not is_recorded:
        assert not snapshot(site).hours
        proposed = propose(site, "delete", "cpu", NOON, NOON + times.HOUR / 2).correction
        assert record(site, proposed, reason="again", author="somebody").points == 3
    roll_up(site)
    assert_right(site, points[3:])
    revoke(site, 1, reason="enough", author="somebody")
    roll_up(site)
    assert rows(site, "rollups") == before
