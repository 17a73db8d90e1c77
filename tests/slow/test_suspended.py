"""Processes that are suspended for longer than their lease or claim, as with their whole machine, and then continue."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite

from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping.apply import apply
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.site import Site

pytestmark = pytest.mark.slow

CHILD = """
import sys, time
from datetime import datetime
from pathlib import Path
from meterhouse.alarms.delivery import attempts, deliver
from meterhouse.alarms.evaluation import decisions, evaluate
from meterhouse.settings import read_settings
from meterhouse.site import Site

home, config, moment, step = sys.argv[1:]
site = Site.open(read_settings(home=home, config_dir=config, webhook_timeout_seconds=0.5))
site.warehouse.lease_seconds = 1

def pause():
    Path(home, "ready").touch()
    time.sleep(0.2)  # the signal comes now

if step == "evaluate":
    real = decisions.windows
    def windows(*given):
        pause()
        return real(*given)
    decisions.windows = windows
    print(evaluate.evaluate(site, datetime.fromisoformat(moment)).transitions)
else:
    real = attempts.claim
    def claim(*given):
        made = real(*given)
        pause()
        return made
    attempts.claim, attempts.CLAIM_MARGIN = claim, 0.2
    print(deliver.deliver(site).delivered)
"""


@contextmanager
def suspended(site: Site, config: Path, step: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that is suspended in the middle of a step, and continues after the block."""
    ready = site.settings.home_path / "ready"
    command = [sys.executable, "-c", CHILD, str(site.settings.home_path), str(config), at().isoformat(), step]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not ready.exists():
            assert child.poll() is None, child.stderr and child.stderr.read()
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGSTOP)
        yield child
        os.kill(child.pid, signal.SIGCONT)
        child.wait(60)
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def busy(open_site: OpenSite, tmp_path: Path) -> Iterator[tuple[Site, WebhookReceiver]]:
    """A site with an alarm that is due, and the receiver of its webhook."""
    with WebhookReceiver() as receiver:
        rule = {"meter_name": "m", "threshold": 50, "comparison_operator": "gt", "period": 300}
        alarm = {"name": "a", "threshold_rule": rule, "alarm_actions": [receiver.url]}
        (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": [alarm]}))
        site = open_site(config_dir=tmp_path)
        site.warehouse.lease_seconds = 1
        land_points(site, [point(60.0, at(-1))])
        apply(site)
        yield site, receiver


def test_a_suspended_evaluation_adds_neither_a_transition_nor_a_webhook(
    busy: tuple[Site, WebhookReceiver], tmp_path: Path
) -> None:
    site, receiver = busy
    with suspended(site, tmp_path, "evaluate") as child:
        assert evaluate(site, at()).transitions == [("a", "insufficient data", "alarm")]
        deliver(site)
    assert child.returncode == 1
    deliver(site)
    assert len(receiver.calls) == 1
    assert warehouse_rows(site, "SELECT count(*) FROM alarm_history WHERE type = 'state transition'") == [(1,)]
    assert warehouse_rows(site, "SELECT state, attempts FROM deliveries") == [("delivered", 1)]


def test_a_suspended_delivery_leaves_the_notification_to_others(
    busy: tuple[Site, WebhookReceiver], tmp_path: Path
) -> None:
    site, receiver = busy
    evaluate(site, at())
    with suspended(site, tmp_path, "deliver"):
        while not deliver(site).delivered:
            time.sleep(0.1)
    deliver(site)
    assert len(receiver.calls) == 1
    assert warehouse_rows(site, "SELECT state, attempts FROM deliveries") == [("delivered", 2)]
