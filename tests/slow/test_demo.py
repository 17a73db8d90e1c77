"""The demo as a user runs it: Dagster's real daemon and webserver, seen through a browser."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from meterhouse import times

pytestmark = [pytest.mark.slow, pytest.mark.service]

PROGRAM = str(Path(sys.executable).parent / "meterhouse")
KINDS = (
    "redelivered, landed once",
    "unparsable, in dead letters",
    "not finite",
    "out of range",
    "negative",
    "future",
    "duplicates",
    "counter resets",
    "late points",
)


LOOK_SECONDS = 8
"""Between two looks at the checks: Dagster takes most of a second of processor time to answer."""

CHECKS = """
{assetNodes {
  assetKey {path}
  targetingInstigators {__typename}
  assetChecksOrError {... on AssetChecks {checks {
    name canExecuteIndividually executionForLatestMaterialization {status}
  }}}
}}
"""


class Demo:
    """A running demo: its result, the address of its UI, its process, and which checks have counted so far.

    As long as it runs, Dagster starts runs, which take all the processor time that is left. So what it shows meanwhile
    is looked at during the tour.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder / "demo"
        self.evaluated: set[str] = set()
        self._printed, self._progress = folder / "account", folder / "progress"
        environment = {**os.environ, "METERHOUSE_HOME": str(folder)}
        with self._printed.open("w") as stdout, self._progress.open("w") as stderr:
            self.process = subprocess.Popen(
                [PROGRAM, "demo", "--port", "0"], env=environment, stdout=stdout, stderr=stderr
            )

    def follow_tour(self) -> None:
        """Look at the checks until the tour ends."""
        while "found as planted" not in self._printed.read_text():
            assert self.process.poll() is None, self._progress.read_text()
            if found := re.search(r"Dagster's UI is at (http://\S+)", self._progress.read_text()):
                self.url = found[1]
                self.look_at_checks()
            time.sleep(LOOK_SECONDS)
        self.account = self._printed.read_text()
        assert f"UI: {self.url}" in self.account

    def nodes(self) -> list[dict[str, Any]]:
        """The assets with their checks, as Dagster's UI reads them."""
        answer = httpx.post(f"{self.url}/graphql", json={"query": CHECKS}, timeout=60).json()
        return list(answer["data"]["assetNodes"])

    def look_at_checks(self) -> set[str]:
        """Note the checks that count for the newest materialization; return those that have never been seen to.

        Some runs every few seconds: on a busy machine, one or another check is always running.
        """
        known = checks(self.nodes())
        for check in known:
            execution = check["executionForLatestMaterialization"]
            if execution is not None and execution["status"] in ("SUCCEEDED", "FAILED"):
                self.evaluated.add(check["name"])
        return {check["name"] for check in known} - self.evaluated

    def children(self) -> list[int]:
        """Pids of the processes that the demo has started."""
        listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout.split()[
            2:
        ]
        parents = dict(zip(map(int, listed[::2]), map(int, listed[1::2]), strict=True))
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    started = Demo(tmp_path_factory.mktemp("demo"))
    try:
        started.follow_tour()
        yield started
    finally:
        started.process.send_signal(signal.SIGINT)  # as by Ctrl-C: Dagster's processes end too
        started.process.wait(60)


def checks(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [check for node in nodes for check in node["assetChecksOrError"].get("checks", ())]


def test_each_kind_of_fault_is_found_as_often_as_it_was_planted(demo: Demo) -> None:
    for kind in KINDS:
        found = re.search(rf"^{kind} +([\d,]+) +([\d,]+)  equal$", demo.account, re.MULTILINE)
        assert found, f"{kind} in\n{demo.account}"
        assert found[1] == found[2] != "0"
    assert "NOT" not in demo.account
    assert "insufficient data -> alarm" in demo.account
    assert "alarm -> ok" in demo.account


def test_the_tour_shows_what_existed_when_and_what_each_project_owes(demo: Demo) -> None:
    assert re.search(r"^instances that existed +40 +40  equal$", demo.account, re.MULTILINE), demo.account
    assert re.search(r"^What existed when: \d+ periods of resources: .*40 of type instance", demo.account, re.MULTILINE)
    agreed = re.search(r"^Events, audits and polls agree on ([\d,]+) of ([\d,]+) hours", demo.account, re.MULTILINE)
    assert agreed is not None, demo.account
    assert 0 < int(agreed[1].replace(",", "")) <= int(agreed[2].replace(",", ""))
    owed = re.findall(r"^  (\d{4}-\d\d) +(\S+) +(\d+\.\d\d) EUR$", demo.account, re.MULTILINE)
    assert len({project for _, project, _ in owed}) == 5
    assert all(float(amount) > 0 for _, _, amount in owed)


def test_the_ui_shows_the_assets_their_lineage_and_metadata(demo: Demo, browser_path: str, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1600, "height": 3000})  # it lists only assets in view
        errors: list[Any] = []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(f"{demo.url}/assets", wait_until="domcontentloaded")
        for asset in (
            "notifications",
            "samples",
            "sample_quality",
            "rollups",
            "archive",
            "usage_by_project_and_day",
            "resource_periods",
        ):
            page.get_by_text(asset).first.wait_for(timeout=60_000)
        page.goto(f"{demo.url}/assets/rollups?view=lineage", wait_until="domcontentloaded")
        for neighbour in ("sample_quality", "alarm_evaluations", "usage_by_project_and_day"):
            page.get_by_text(neighbour).first.wait_for(timeout=60_000)
        page.goto(f"{demo.url}/assets/rollups?view=events", wait_until="domcontentloaded")
        page.get_by_text("[Show Markdown]").first.click(timeout=60_000)
        plot = page.locator("img[src^='data:image/svg+xml']").first
        plot.wait_for(timeout=60_000)
        assert plot.evaluate("image => image.naturalWidth") > 0
        page.screenshot(path=str(tmp_path / "plot.png"))
        page.goto(f"{demo.url}/assets/usage_by_project_and_day?view=overview", wait_until="domcontentloaded")
        page.get_by_text("What did each project use each day?").first.wait_for(timeout=60_000)
        browser.close()
    assert not errors


def test_every_check_counts_for_the_newest_materialization_and_can_be_executed_alone(demo: Demo) -> None:
    deadline = time.monotonic() + 300  # `alarms` runs each minute
    while missing := demo.look_at_checks():
        assert time.monotonic() < deadline, missing
        time.sleep(LOOK_SECONDS)
    nodes = demo.nodes()
    assert {check["canExecuteIndividually"] for check in checks(nodes)} == {"CAN_EXECUTE"}
    for node in nodes:
        by_hand = node["assetKey"]["path"][0].startswith("redefined_")  # a person decides to convert the past again
        assert by_hand or node["targetingInstigators"], node["assetKey"]  # no other asset reads "No automations"


def test_the_pictures_of_the_documentation_can_be_taken(demo: Demo, browser_path: str, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
    try:
        import pictures
    finally:
        del sys.path[0]
    with pictures.chromium() as browser:
        pictures.lineage(browser, demo.url, tmp_path / "lineage.png")
        pictures.report(browser, demo.home, (times.now() - times.DAY).date(), tmp_path / "report.png")
    for name in ("lineage", "report"):
        content = (tmp_path / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert 1200 < int.from_bytes(content[16:20]) < 1900


def test_ctrl_c_ends_the_demo_and_every_process_that_it_started(demo: Demo) -> None:
    children = demo.children()
    assert len(children) >= 2
    with urllib.request.urlopen(f"{demo.url}/server_info", timeout=30) as answer:
        assert answer.status == 200
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 0
    deadline = time.monotonic() + 30
    while alive := [pid for pid in children if _lives(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)


def _lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_folder_that_is_not_from_a_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "precious").touch()
    environment = {**os.environ, "METERHOUSE_HOME": str(tmp_path)}
    done = subprocess.run([PROGRAM, "demo", "--exit"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is not empty, and not from a demo" in done.stderr
    assert (tmp_path / "demo" / "precious").exists()


def test_a_port_in_use_is_reported_before_anything_starts(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [PROGRAM, "demo", "--exit", "--port", port],
            env={**os.environ, "METERHOUSE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr
    assert not (tmp_path / "demo").exists()
