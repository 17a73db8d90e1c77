"""An API that is killed while clients post: what it answered 201 to is there, and what was posted again counts once."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from brokers import wait_for
from builders import count, process
from conftest import OpenSite

from meterhouse.collection.intake import intake
from meterhouse.filters import SERIES, Filter
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site

pytestmark = pytest.mark.slow

CLIENTS, EACH = 6, 40

SERVER = """
import os, signal, sys
from pathlib import Path
from meterhouse.api.paths.telemetry import posting as path
from meterhouse.api.server import server
from meterhouse.collection import posting
from meterhouse.collection.landing import Landing
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stream import spool_publishing

def dies(owner, name, nth, before):
    real, calls = getattr(owner, name), 0
    def watched(*given, **named):
        nonlocal calls
        calls += 1
        if before and calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*given, **named)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(owner, name, watched)

home, port, fault = sys.argv[1:]
exec(fault)
server(Site.open(read_settings(home=home)), "127.0.0.1", int(port)).run()
"""

MOMENTS = (
    "dies(spool_publishing.os, 'fsync', 9, before=True)",
    "dies(Path, 'rename', 12, before=True)",
    "dies(Path, 'rename', 7, before=False)",
    "dies(path, '_taken', 30, before=True)",
    "dies(path, '_shown', 20, before=True)",
    "dies(Landing, 'land', 3, before=False)",
    "dies(posting, 'follow', 4, before=True)",
    "dies(posting, 'follow', 3, before=False)",
    "",
)
"""When the server is killed, one life after the other; the last one lives."""


def serve(site: Site, port: int, fault: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SERVER, str(site.settings.home_path), str(port), fault])


def post(url: str, number: int, ended: threading.Event) -> int:
    """Post deltas of volume 1 until each has got through; return how many answers were lost or errors."""
    again = 0
    with httpx.Client(base_url=url, headers={"X-Project-Id": f"p{number}"}, timeout=30) as asks:
        for n in range(EACH):
            key = str(uuid.uuid4())
            posted = {
                "counter_name": "requests",
                "counter_type": "delta",
                "counter_unit": "request",
                "counter_volume": 1,
                "resource_id": f"r{number}",
            }
            if n % 3 == 2:
                body, headers = [{**posted, "message_id": f"{key}-{m}"} for m in range(3)], {}
            else:
                body, headers = [posted] * 3, {"Idempotency-Key": key}
            while not ended.is_set():
                try:
                    direct = {"direct": "true"} if n % 4 == 1 else {}
                    answer = asks.post("/v2/meters/requests", params=direct, json=body, headers=headers)
                except httpx.TransportError:
                    again += 1
                    time.sleep(0.05)
                    continue
                if answer.status_code == 201:
                    break
                assert answer.status_code == 503, answer.text
                again += 1
    return again


def test_nothing_that_was_answered_is_lost_and_nothing_counts_twice(open_site: OpenSite, tmp_path: Path) -> None:
    site = open_site(home=tmp_path / "home")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ended = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as clients:
        done = [clients.submit(post, f"http://127.0.0.1:{port}", number, ended) for number in range(CLIENTS)]
        try:
            for fault in MOMENTS:
                server = serve(site, port, fault)
                try:
                    if fault:
                        assert server.wait(120) == -signal.SIGKILL
                    else:
                        wait_for(lambda: all(each.done() for each in done), "the posts")
                    intake(site)
                finally:
                    server.kill()
                    server.wait()
        finally:
            ended.set()
        assert sum(each.result() for each in done) >= len(MOMENTS) - 1
    process(site)
    for number in range(CLIENTS):
        query = [Filter("project", "eq", f"p{number}", SERIES)]
        (row,) = statistics(site, EVERYTHING, "requests", query=query)
        assert (row["count"], row["sum"]) == (3 * EACH, 3.0 * EACH)
    assert count(site, "dead_letters") == 0
    assert [name for name in os.listdir(site.settings.spool) if not name.startswith(".")] == []
