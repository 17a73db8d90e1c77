"""Ceilometer's polling agent on one list of a JSON server: how long its cycles take, and what they cost.

The agent is PyPI's, with a dynamic pollster, its defaults (one thread a source, batches of 50, signed samples) and a
transport that throws its samples away. It needs a Keystone, in whose catalogue the list is for the time of the run.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from _ceilometer import python
from _processes import family, seconds

PATIENCE_S = 300
POLLSTER, LIST = "bench.things", "things"
DEFINITION: dict[str, Any] = {
    "name": POLLSTER,
    "sample_type": "gauge",
    "unit": "thing",
    "value_attribute": "value",
    "url_path": f"lists/{LIST}/10000",  # Ceilometer evaluates it: it must not be Python
    "response_entries_key": LIST,
    "metadata_fields": ["name", "status"],
    "project_id_attribute": "project_id",
    "user_id_attribute": "user_id",
}
"""A dynamic pollster of a list of `deploy/services/json_lists.py`, without the type of its endpoint."""

CONFIGURATION = """
[DEFAULT]
transport_url = fake://
log_file = {folder}/agent.log
pollsters_definitions_dirs = {folder}/pollsters.d
[polling]
cfg_file = {folder}/polling.yaml
[service_credentials]
auth_type = password
auth_url = {url}
username = {username}
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
region_name = RegionOne
interface = public
"""
COMMAND = "import sys; sys.argv[0] = 'ceilometer-polling'; from ceilometer.cmd.polling import main; main()"
LINES = ("Polling", "Finished polling")
CYCLE = re.compile(rf"^(\S+ \S+) \d+ INFO \S+ .*?({'|'.join(LINES)}) pollster", re.M)


@dataclass(frozen=True)
class Cycles:
    """Seconds by the clock of each cycle, and CPU seconds of all of them together."""

    seconds: list[float]
    cpu: float


@dataclass(frozen=True)
class Keystone:
    """A Keystone, and its administrator."""

    url: str
    username: str
    password: str

    @classmethod
    def of_tests(cls) -> "Keystone":
        """That of the environment."""
        return cls(*(os.environ[f"METERHOUSE_TEST_KEYSTONE_{part}"] for part in ("URL", "USERNAME", "PASSWORD")))

    @contextmanager
    def listed(self, *addresses: str) -> Iterator[str]:
        """Let the catalogue have a service with these endpoints for a while; yield the type of the service."""
        token, kind = self._token(), f"bench-{uuid.uuid4().hex[:8]}"
        service = self._call(token, "POST", "/services", {"service": {"type": kind, "name": kind}})["service"]["id"]
        try:
            for address in addresses:
                fields = {"service_id": service, "interface": "public", "region_id": "RegionOne", "url": address}
                self._call(token, "POST", "/endpoints", {"endpoint": fields})
            yield kind
        finally:
            self._call(token, "DELETE", f"/services/{service}")

    def _token(self) -> str:
        domain = {"id": "default"}
        user = {"name": self.username, "domain": domain, "password": self.password}
        scope = {"project": {"name": "admin", "domain": domain}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        request = Request(f"{self.url}/auth/tokens", json.dumps({"auth": auth}).encode(), _headers(""))
        with urlopen(request, timeout=60) as answer:
            return str(answer.headers["X-Subject-Token"])

    def _call(self, token: str, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}{path}", data, _headers(token), method=method), timeout=60) as answer:
            return json.loads(answer.read() or b"null")


def _headers(token: str) -> dict[str, str]:
    return {"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})}


def cycles(keystone: Keystone, address: str, folder: Path, count: int, interval: int) -> Cycles:
    """What this many cycles of the agent cost.

    Args:
        keystone: where the agent logs in.
        address: of the endpoint: the URL of the server of lists.
        folder: for its files.
        count: of cycles, of which the first is not counted: it has the imports and the login in it.
        interval: of the source, seconds.

    Raises:
        SystemExit: the agent ended, or took too long.
    """
    with keystone.listed(address) as kind:
        (folder / "pollsters.d").mkdir(parents=True)
        (folder / "pollsters.d" / "things.yaml").write_text(json.dumps([{**DEFINITION, "endpoint_type": kind}]))
        source = {"name": "bench", "interval": interval, "meters": [POLLSTER]}
        (folder / "polling.yaml").write_text(json.dumps({"sources": [source]}))
        conf, log = folder / "agent.conf", folder / "agent.log"
        conf.write_text(CONFIGURATION.format(folder=folder, **vars(keystone)))
        arguments = ["--config-file", str(conf), "--polling-namespaces", "central"]
        command = [str(python()), "-I", "-W", "ignore", "-c", COMMAND, *arguments]
        with (folder / "agent.out").open("wb") as output:
            agent = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            began = _when(agent, log, 1)
            before = seconds(*family(agent.pid))
            ended = _when(agent, log, count)
            cpu = seconds(*family(agent.pid)) - before
        finally:
            os.killpg(agent.pid, signal.SIGKILL)
            agent.wait()
    return Cycles(ended[len(began) :], cpu)


def _when(agent: subprocess.Popen[bytes], log: Path, count: int) -> list[float]:
    """How long each cycle took, as soon as there are this many that ended."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = CYCLE.findall(log.read_text("utf-8")) if log.exists() else []
        times = {what: [datetime.fromisoformat(moment) for moment, each in found if each == what] for what in LINES}
        lasted = [(end - start).total_seconds() for start, end in zip(*times.values(), strict=False)]
        if len(lasted) >= count:
            return lasted
        if agent.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"Ceilometer's polling agent made {len(lasted)} cycles; see {log.with_suffix('.out')}")
        time.sleep(0.05)
