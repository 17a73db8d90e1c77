"""A process that lives long does as much work for each cycle as a new process; work is counted, not timed."""

import gc
import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import drop, notification, polled, polling, roll_up
from conftest import OpenSite

from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.archive.seal import archive
from meterhouse.collection.collect import collect
from meterhouse.collection.following import follow
from meterhouse.site import Site
from meterhouse.stores.lake import PROPERTIES

pytestmark = pytest.mark.slow

CYCLES = int(os.environ.get("METERHOUSE_TEST_SOAK_SECONDS", "10"))
"""`make soak` has 600 of them."""

ALARMS = """
alarms:
  - name: hot
    threshold_rule: {meter_name: cpu_util, threshold: 50, comparison_operator: gt, period: 600}
"""


def test_a_cycle_of_a_long_lived_process_costs_what_it_costs_a_new_one(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    present = times.day_start(times.now().date()) - timedelta(days=30)
    monkeypatch.setattr(times, "now", lambda: present)
    monkeypatch.setitem(PROPERTIES, "delta.checkpointInterval", "4")
    (tmp_path / "alarms.yaml").write_text(ALARMS)
    old = open_site(config_dir=str(tmp_path))

    def cycle(site: Site, number: int) -> int:
        nonlocal present
        moment = present - timedelta(seconds=30)
        points = [polled(float(n), moment, resource=f"r{n}") for n in range(3)]
        points += [polled(float(number), moment, meter="cpu", type="cumulative", resource=f"r{n}") for n in range(3)]
        drop(site.settings.spool, f"{number}.jsonl", [polling(f"p{number}", points), notification(f"e{number}")])
        before = reads()
        for step in steps(present.date() - timedelta(days=1) if number % 5 == 0 else None):
            step(site)
        present += timedelta(hours=1)
        return reads() - before

    for number in range(CYCLES // 2):
        cycle(old, number)
    before = objects()
    for number in range(CYCLES // 2, CYCLES):
        cycle(old, number)
    assert objects() <= 1.05 * before
    of_old, of_new = [], []
    for number in range(2):
        of_old.append(cycle(old, 5 * CYCLES + 2 * number + 1))
        new = open_site(home=old.settings.home_path, config_dir=str(tmp_path))
        of_new.append(cycle(new, 5 * CYCLES + 2 * number + 2))
    assert min(of_old) <= 1.1 * min(of_new), (of_old, of_new)


def steps(to_seal: date | None) -> list[Callable[[Site], Any]]:
    return [collect, follow, roll_up, evaluate, *([lambda site: archive(site, to_seal)] if to_seal else [])]


def reads() -> int:
    """How many times this process has called the kernel to read."""
    io = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(io["syscr"])


def objects() -> int:
    """What a process holds: Python's objects, threads and open files."""
    gc.collect()
    held = len(gc.get_objects()) + gc.get_freeze_count()
    return held + 1000 * sum(len(os.listdir(f"/proc/self/{kind}")) for kind in ("task", "fd"))
