"""`meterhouse verify`: a site that works passes; if one part does not, the check of that part says so."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import served
from brokers import declare, wait_for
from builders import rows, warehouse_rows
from conftest import OpenSite, bucket_settings
from living import living
from services import Keystone
from tenants import tenant

from meterhouse.settings import as_environment
from meterhouse.site import Site
from meterhouse.verification import VERIFY
from meterhouse.verifying.findings import Finding
from meterhouse.verifying.suite import Options, verify

pytestmark = pytest.mark.slow

ALLOWED = "127.0.0.0/8"


def run(site: Site, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`meterhouse verify` in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("METERHOUSE_", "OS_"))}
    return subprocess.run(
        [sys.executable, "-m", "meterhouse", "verify", *arguments],
        env={**kept, **as_environment(site.settings), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@contextlib.contextmanager
def started(site: Site, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of a site that runs until the end of the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "meterhouse", *command],
        env={**kept, **as_environment(site.settings)},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def findings(site: Site, url: str, seconds: float = 30.0, **more: Any) -> dict[str, Finding]:
    return {each.check: each for each in verify(Options(url, site.settings, seconds=seconds, **more))}


def bad(found: dict[str, Finding]) -> dict[str, str]:
    return {name: str(each) for name, each in found.items() if each.state == "failed"}


@pytest.mark.service
def test_a_site_on_postgresql_rabbitmq_s3_and_keystone_passes(
    open_site: OpenSite,
    postgres_warehouse: str,
    amqp_url: str,
    names: Callable[[str], str],
    s3: dict[str, str],
    keystone: Keystone,
) -> None:
    queue = names("verified")
    declare(amqp_url, "", queue, "", "quorum")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = open_site(
        warehouse_url=postgres_warehouse,
        stream_url=amqp_url,
        stream_queues=queue,
        **bucket_settings(s3),
        **keystone.settings,
        api_auth="keystone",
        api_port=port,
        telemetry_secret="secret",
        webhook_allow=ALLOWED,
    )
    member = tenant(keystone)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/readyz").status_code == 200
        return False

    with started(site, "api"), started(site, "collect", "--follow"), living(site.settings, without=("collect",)):
        wait_for(answers, "the API")
        done = run(site, "--timeout", "90", OS_TOKEN=member.token)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        assert {line[0] for line in lines} == {"ok"}
        assert len(lines) == 18
        by_account = {each.check: each for each in itertools.islice(verify(Options(url, site.settings)), 5)}
        assert "as admin of project admin" in by_account["access"].found
        by_nobody = {each.check: each for each in verify(Options(url, site.settings, token="made up"))}
        assert list(bad(by_nobody)) == ["access"]
    assert warehouse_rows(site, "SELECT count(*) FROM alarms") == [(0,)]
    found = rows(site, "samples", "DISTINCT source, project_id")
    assert found == [{"source": VERIFY, "project_id": member.project_id}]


@pytest.fixture
def embedded(open_site: OpenSite) -> Site:
    return open_site(webhook_allow=ALLOWED)


SECONDS = 3.0
"""How long to wait for what does not come."""


@pytest.mark.parametrize(
    ("without", "failed", "says"),
    [
        ("collect", ["samples"], "1 wait in "),
        ("rollup", ["resource"], "nothing has rolled it up"),
        ("evaluate", ["alarm fires"], "nothing has evaluated it since"),
        ("deliver", ["alarm fires"], "its webhook was not delivered"),
    ],
)
def test_if_a_step_does_not_run_the_check_that_needs_it_says_so(
    embedded: Site, without: str, failed: list[str], says: str
) -> None:
    with served(embedded) as url, living(embedded.settings, {without}):
        found = findings(embedded, url, SECONDS)
    assert list(bad(found)) == failed, bad(found)
    assert says in bad(found)[failed[0]]
    skipped = [name for name, each in found.items() if each.state == "skipped"]
    assert ("statistic" in skipped) == (without == "collect")
    assert ("alarm recovers" in skipped) == (without != "rollup")
    assert warehouse_rows(embedded, "SELECT count(*) FROM alarms") == [(0,)]


def test_what_is_wrong_with_the_api_or_the_receiver_is_said(
    open_site: OpenSite, embedded: Site, tmp_path: Path
) -> None:
    found = findings(embedded, "http://127.0.0.1:9")
    assert list(bad(found)) == ["api"]
    assert "Start `meterhouse api`" in bad(found)["api"]
    assert {each.state for name, each in found.items() if name != "api"} == {"skipped"}
    site = open_site()
    with served(site) as url, living(site.settings, {"rollup", "evaluate", "deliver"}):
        found = findings(site, url, SECONDS)
        assert list(bad(found)) == ["resource", "alarm created"]
        assert "METERHOUSE_WEBHOOK_ALLOW" in bad(found)["alarm created"]
        done = run(site, "--api", url, "--stream", (tmp_path / "elsewhere").as_uri(), "--timeout", "1", "--json")
        assert (done.returncode, done.stderr) == (1, "")
        lines = {each["check"]: each for each in map(json.loads, done.stdout.splitlines())}
        assert lines["samples"]["state"] == "failed"
        assert "elsewhere" in lines["samples"]["to_do"]
        assert lines["statistic"]["state"] == "skipped"
    for wrong in (["--api", "nowhere"], ["--receiver-port", "99999"]):
        assert run(site, *wrong).returncode == 2


def test_an_unsigned_sample_is_not_taken_and_an_alarm_of_a_killed_run_is_deleted(open_site: OpenSite) -> None:
    site = open_site(telemetry_secret="secret", webhook_allow=ALLOWED)
    other = open_site(home=site.settings.home_path, webhook_allow=ALLOWED)
    with served(site) as url, living(site.settings):
        checks = verify(Options(url, site.settings, seconds=30.0))
        for each in checks:
            if each.check == "alarm created":
                break
        assert warehouse_rows(site, "SELECT count(*) FROM alarms") == [(1,)]
        checks.close()
        assert warehouse_rows(site, "SELECT count(*) FROM alarms") == [(0,)]
        found = findings(other, url, SECONDS)
    assert list(bad(found)) == ["samples"]
    assert "dead-letters list" in bad(found)["samples"]
