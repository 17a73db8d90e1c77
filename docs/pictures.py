"""Makes the pictures of the documentation, `docs/images/*.png`, from a demonstration of their own: `make pictures`.

`lineage.png` is the asset lineage of the code location, in Dagster's user interface. `report.png` is what two report
commands print about the day before. `METERHOUSE_TEST_BROWSER` names the Chromium that takes them.
"""

import html
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, Route, expect, sync_playwright

from meterhouse import times
from meterhouse.demo.children import free_port

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images"
PROGRAMS = Path(sys.executable).parent
START_SECONDS = 180
MARGIN = 24
"""Around what is shown, in CSS pixels."""

KEPT = {"asset-graph-direction": '"vertical"', "asset-node-facets": '["kind-tag","description"]'}
"""What Dagster's user interface keeps of a user's choices: the orientation of the graph, and the rows of an asset.

They are set, not clicked, because the menu of the choices closes when the graph behind it is drawn again. Instead of
what an asset's last run did, a reader sees what it is.
"""

# Dagster 1.13 puts the rows of its vertical graph 20 pixels apart, though the header of a group takes 55: the boxes of
# two groups overlap. The horizontal graph has no such fault, but is too wide to be read in a page.
OVERLAPPING = 'ranksep:20,rankdir:"TB"'
APART = 'ranksep:50,rankdir:"TB"'

CLOSED = {"reports"}
"""Groups of which only the name is shown: side by side, the reports are too wide to be read."""

ASSETS = "{assetNodes {groupName assetKey {path}}}"

PAGE = """<!doctype html>
<meta charset="utf-8">
<style>
  body {{ margin: 0; background: #fff; }}
  pre {{
    display: inline-block; margin: 0; padding: 20px 26px; border: 1px solid #d0d7de; border-radius: 10px;
    background: #f6f8fa; color: #1f2328; font: 15px/1.55 "DejaVu Sans Mono", monospace;
  }}
  .prompt {{ color: #6e7781; }}
  .command {{ color: #0550ae; font-weight: bold; }}
  .columns {{ color: #57606a; font-weight: bold; }}
</style>
<pre>{}</pre>
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, without what it does unasked.

    Raises:
        KeyError: METERHOUSE_TEST_BROWSER is not set.
    """
    options = ("no-sandbox", "disable-gpu", "disable-dev-shm-usage")
    quiet = ("disable-background-networking", "disable-component-update", "disable-sync")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["METERHOUSE_TEST_BROWSER"], args=[f"--{each}" for each in (*options, *quiet)]
        )
        yield browser
        browser.close()


def lineage(browser: Browser, url: str, path: Path) -> None:
    """Write a picture of the assets that the Dagster at `url` has, in their groups, the stream at the top.

    Raises:
        AssertionError: a group is not shown within a minute.
        TimeoutError: an asset, or what leads to it, is not shown within a minute.
        RuntimeError: Dagster's layout is not the one known here.
    """
    nodes = httpx.post(f"{url}/graphql", json={"query": ASSETS}, timeout=60).json()["data"]["assetNodes"]
    patched = []

    def set_apart(route: Route) -> None:
        answer = route.fetch()
        script = answer.text()
        if OVERLAPPING in script:
            patched.append(route.request.url)
        route.fulfill(response=answer, body=script.replace(OVERLAPPING, APART))

    page = browser.new_page(
        viewport={"width": 2700, "height": 1800},
        color_scheme="light",
        device_scale_factor=0.9,
        reduced_motion="reduce",
    )
    page.set_default_timeout(60_000)
    page.route("**/*.js", set_apart)
    for name, content in KEPT.items():
        page.add_init_script(f"localStorage.setItem({json.dumps(name)}, {json.dumps(content)})")
    names = {node["groupName"] for node in nodes}
    expanded = quote(",".join(f"global@global:{name}" for name in sorted(names - CLOSED)))
    page.goto(f"{url}/asset-groups?expanded={expanded}", wait_until="domcontentloaded")
    graph = page.locator("svg:has(foreignObject)").last
    groups = graph.locator("foreignObject.group")
    expect(groups).to_have_count(len(names), timeout=60_000)
    for node in (each for each in nodes if each["groupName"] not in CLOSED):
        graph.get_by_text(node["assetKey"]["path"][-1], exact=True).last.wait_for()
    expect(graph.get_by_text("Loading")).to_have_count(0, timeout=60_000)
    if not patched:
        raise RuntimeError(f"Dagster's scripts hold no {OVERLAPPING}: see whether its vertical graph still overlaps")
    boxes = [box for group in groups.all() if (box := group.bounding_box())]
    left, top = (min(box[side] for box in boxes) - MARGIN for side in ("x", "y"))
    page.screenshot(
        path=path,
        clip={
            "x": left,
            "y": top,
            "width": max(box["x"] + box["width"] for box in boxes) + MARGIN - left,
            "height": max(box["y"] + box["height"] for box in boxes) + MARGIN - top,
        },
    )
    page.close()


def report(browser: Browser, home: Path, day: date, path: Path) -> None:
    """Write a picture of what two report commands print about a day of the site in `home`.

    Raises:
        CalledProcessError: a command failed.
    """
    usage = f"meterhouse report usage_by_project_and_day --day {day}"
    columns = printed(usage, home).partition("\n")[0]
    # Without the day, which the command says, and the columns that would make the letters small.
    first, last = columns.index("project_id") + 1, columns.index("volume_gib_hours") + len("volume_gib_hours")
    commands = (f"{usage} | cut -c {first}-{last}", f"meterhouse report quality_by_day_and_rule --day {day} | head -8")
    shown = "\n\n".join(_as_html(command, printed(command, home)) for command in commands)
    page = browser.new_page(viewport={"width": 1800, "height": 1000}, device_scale_factor=1.6)
    page.set_content(PAGE.format(shown))
    page.locator("pre").screenshot(path=path)
    page.close()


def printed(command: str, home: Path) -> str:
    """What a shell command prints, with the `meterhouse` of this environment and the site in `home`."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={**environment(home), "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.rstrip("\n")


def _as_html(command: str, output: str) -> str:
    columns, _, rows = output.partition("\n")
    parts = (("prompt", "$ "), ("command", command + "\n"), ("columns", columns + "\n"), ("rows", rows))
    return "".join(f'<span class="{name}">{html.escape(content)}</span>' for name, content in parts)


def environment(home: Path) -> dict[str, str]:
    """The environment of a program that works on the site that a demonstration made in `home`."""
    kept = {name: content for name, content in os.environ.items() if not name.startswith("METERHOUSE_")}
    return {
        **kept,
        "METERHOUSE_HOME": str(home),
        "METERHOUSE_CONFIG_DIR": str(home / "config"),
        "METERHOUSE_PARTITIONS_FROM": str((times.now() - times.DAY).date()),
        "DAGSTER_HOME": str(home / "dagster"),
    }


@contextmanager
def webserver(home: Path) -> Iterator[str]:
    """Dagster's user interface on what a demonstration left.

    Raises:
        TimeoutError: it does not answer within three minutes.
    """
    port = free_port()
    command = [
        str(PROGRAMS / "dagster-webserver"),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-w",
        str(ROOT / "workspace.yaml"),
    ]
    command += ["--log-level", "error", "--code-server-log-level", "error"]
    with subprocess.Popen(command, env=environment(home)) as server:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(f"http://127.0.0.1:{port}/server_info"):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError("dagster-webserver does not come up")
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    yesterday = (times.now() - times.DAY).date()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        demo = [str(PROGRAMS / "meterhouse"), "demo", "--exit", "--port", "0"]
        subprocess.run(demo, env={**os.environ, "METERHOUSE_HOME": folder}, check=True)
        home = Path(folder) / "demo"
        report(browser, home, yesterday, FOLDER / "report.png")
        with webserver(home) as url:
            lineage(browser, url, FOLDER / "lineage.png")


if __name__ == "__main__":
    main()
