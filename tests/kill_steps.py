"""All steps in a process that kills or suspends itself at a given moment; see slow/test_kill.py."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from builders import NOON
from deltalake import DeltaTable

from meterhouse import catalog, recompute, times
from meterhouse.alarms import at_once
from meterhouse.alarms.delivery import attempts, deliver
from meterhouse.alarms.evaluation import evaluate, events, outcomes
from meterhouse.archive import compaction, sample_files
from meterhouse.archive import seal as archive
from meterhouse.billing import closing
from meterhouse.collection import collect, intake, landing
from meterhouse.conversion import convert, redefine, used
from meterhouse.conversion import step as conversion
from meterhouse.corrections import changing
from meterhouse.erasure import erase as erasing
from meterhouse.erasure import files, recorded, remains, warehouse_rows
from meterhouse.erasure.recorded import proposed
from meterhouse.queries import report_exports
from meterhouse.rollups import following
from meterhouse.rollups import step as rollups
from meterhouse.sample_quality import groups
from meterhouse.sample_quality import step as sample_quality
from meterhouse.settings import Settings, read_settings
from meterhouse.site import Site
from meterhouse.stores import lake, lake_erasures, leases
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stream import spool
from meterhouse.usage import periods as usage_periods


def run(home: Path, warehouse_url: str, fault: str, set_back: timedelta) -> None:
    """Run the steps from the spool to the archive, with a clock that is set back.

    `fault` is a statement that arranges for the kill or the pause, or empty.
    """
    clock = times.now
    times.now = lambda: clock() - set_back
    if fault:
        exec(fault, globals())
    site = Site.open(read_settings(home=home, warehouse_url=warehouse_url, collect_batch=7, vacuum_hours=0))
    collect.collect(site)
    conversion.convert(site)
    catalog.catalog(site)
    sample_quality.judge_hours(site)
    rollups.roll_up(site)
    following.follow(site)
    archive.archive(site, times.now().date())


def compact(home: Path, fault: str) -> None:
    """Compact, with a fault as in `run`."""
    exec(fault, globals())
    compaction.compact(Site.open(read_settings(home=home)))


def backfill(home: Path, config: Path, asset: str, fault: str) -> None:
    """Backfill an asset over the days around noon, or what is stale, with a fault as in `run`."""
    groups.DAYS_AT_ONCE = 1
    exec(fault, globals())
    site = Site.open(read_settings(home=home, config_dir=config))
    if asset == "stale":
        recompute.backfill_stale(site)
    else:
        recompute.backfill(site, asset, NOON - times.DAY, NOON + 2 * times.DAY)


def correct(home: Path, fault: str) -> None:
    """Delete the points of the first half of the hour after noon, and roll up, with a fault as in `run`."""
    exec(fault, globals())
    site = Site.open(read_settings(home=home))
    proposed = changing.propose(site, "delete", "cpu", NOON, NOON + times.HOUR / 2).correction
    changing.record(site, proposed, reason="a test", author="nobody")
    rollups.roll_up(site)
    following.follow(site)


def erase_user(home: Path, user_id: str, texts: Sequence[str], fault: str) -> None:
    """Erase a user, with a fault as in `run`."""
    exec(fault, globals())
    site = Site.open(read_settings(home=home))
    erasing.erase(site, proposed(site, user_id, reason="a test", author="nobody"), user_id, texts)


def close_month(home: Path, config: Path, month: str, fault: str) -> None:
    """Close a month, with a fault as in `run`."""
    exec(fault, globals())
    closing.close(Site.open(read_settings(home=home, config_dir=config)), month, "somebody")


def compute_periods(home: Path, fault: str) -> None:
    """Compute the periods of resources, with a fault as in `run`."""
    exec(fault, globals())
    usage_periods.compute(Site.open(read_settings(home=home)))


def collect_with_alarms(home: Path, warehouse_url: str, fault: str) -> None:
    """Collect what came, evaluate event alarms and deliver, with a fault as in `run`."""
    exec(fault, globals())
    site = Site.open(read_settings(home=home, warehouse_url=warehouse_url))
    with at_once.AtOnce(site) as alarms:
        intake.intake(site, came=alarms.came)


def evaluate_and_deliver(home: Path, warehouse_url: str, fault: str, at: datetime) -> None:
    """Evaluate all alarms at a time, and deliver, with a fault as in `run`."""
    exec(fault, globals())
    site = Site.open(read_settings(home=home, warehouse_url=warehouse_url, config_dir=home))
    evaluate.evaluate(site, at)
    deliver.deliver(site)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def pause() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def paused(place: Callable[..., None], *where: Any, **more: Any) -> None:
    """Suspend the process at a place, by `before` or `after`; its leases run out after a second."""
    Warehouse.from_settings = _with_short_leases  # type: ignore[method-assign,assignment]  # a test's process
    globals()["die"] = pause
    place(*where, **more)


def _with_short_leases(settings: Settings) -> Warehouse:
    return Warehouse(settings.warehouse, lease_seconds=1)


def die_after(seconds: float) -> None:
    timer = threading.Timer(seconds, die)
    timer.daemon = True
    timer.start()


def before(owner: Any, name: str, nth: int = 1, when: Callable[..., Any] = lambda *_, **__: True) -> None:
    """Die before the nth call for which `when` holds."""
    _wrap(owner, name, nth, when, first=True)


def after(owner: Any, name: str, nth: int = 1, when: Callable[..., Any] = lambda *_, **__: True) -> None:
    """Die after the nth call for which `when` holds."""
    _wrap(owner, name, nth, when, first=False)


def _wrap(owner: Any, name: str, nth: int, when: Callable[..., Any], *, first: bool) -> None:
    real, calls = getattr(owner, name), []

    def dying(*args: Any, **more: Any) -> Any:
        counts = when(*args, **more)
        if counts:
            calls.append(1)
        if first and counts and len(calls) == nth:
            die()
        answer = real(*args, **more)
        if not first and counts and len(calls) == nth:
            die()
        return answer

    setattr(owner, name, dying)


__all__ = [
    "DeltaTable",
    "after",
    "attempts",
    "backfill",
    "before",
    "close_month",
    "closing",
    "collect_with_alarms",
    "compact",
    "convert",
    "die_after",
    "events",
    "files",
    "lake",
    "lake_erasures",
    "landing",
    "leases",
    "outcomes",
    "recorded",
    "redefine",
    "remains",
    "report_exports",
    "run",
    "sample_files",
    "spool",
    "usage_periods",
    "used",
    "warehouse_rows",
]
