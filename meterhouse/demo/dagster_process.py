"""Dagster for the demo: webserver and daemon as child processes, and queries to them by GraphQL."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from meterhouse.errors import MeterhouseError
from meterhouse.shipped import code_location

START_SECONDS = 120.0
STOP_SECONDS = 20.0

_LAUNCH = """
mutation Launch($job: String!, $location: String!, $tags: [ExecutionTag!]!) {
  launchRun(executionParams: {
    selector: {jobName: $job, repositoryLocationName: $location, repositoryName: "__repository__"},
    runConfigData: {}, executionMetadata: {tags: $tags}
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""


def free_port() -> int:
    """A TCP port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class DagsterProcesses:
    """A context manager that starts a Dagster webserver and daemon, and ends both.

    Args:
        home: DAGSTER_HOME; it is created, with the project's `dagster.yaml`.
        port: the port of the webserver, on 127.0.0.1.
        environment: the environment of the processes; what Dagster needs is added.
        logs: the folder for their output.
    """

    location = "meterhouse"

    def __init__(self, home: Path, port: int, environment: Mapping[str, str], logs: Path) -> None:
        self.home, self.port, self.logs = home, port, logs
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**environment, "DAGSTER_HOME": str(home), "DAGSTER_EVENT_BATCH_SIZE": "100"}
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        root = code_location()
        self.home.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.home / "dagster.yaml").write_text((root / "dagster.yaml").read_text())
        try:
            # First, because webserver and daemon would both create the tables of an empty home.
            self._finish("instance", "dagster", "instance", "info")
            workspace = str(root / "workspace.yaml")
            self._start("webserver", "dagster-webserver", "-h", "127.0.0.1", "-p", str(self.port), "-w", workspace)
            self._start("daemon", "dagster-daemon", "run", "-w", workspace)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            # Processes that the child started are in its group, and have to end too.
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def check_alive(self) -> None:
        """Raise if a process has ended.

        Raises:
            MeterhouseError: a process has ended; the error has its name and its log.
        """
        for child in self._children:
            if child.poll() is not None:
                name = Path(str(child.args[1] if isinstance(child.args, list) else child.args)).name
                raise MeterhouseError(f"{name} ended with status {child.returncode}", where=str(self.logs))

    def wait_until_loaded(self) -> None:
        """Wait until the webserver answers and has loaded the code location.

        Raises:
            MeterhouseError: this takes more than two minutes, or the location cannot be loaded.
        """
        deadline = time.monotonic() + START_SECONDS
        query = "{workspaceOrError{... on Workspace{locationEntries{name loadStatus locationOrLoadError{__typename}}}}}"
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                entries = self.query(query)["workspaceOrError"]["locationEntries"]
            except (httpx.HTTPError, KeyError, MeterhouseError):
                entries = []
            if entries and entries[0]["loadStatus"] == "LOADED":
                if entries[0]["locationOrLoadError"]["__typename"] == "PythonError":
                    raise MeterhouseError("Dagster cannot load the code location", where=str(self.logs))
                return
            time.sleep(0.3)
        raise MeterhouseError("Dagster did not start within two minutes", where=str(self.logs))

    def query(self, query: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a GraphQL query or mutation; return its data.

        Raises:
            MeterhouseError: the answer has errors.
        """
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables or {}}, timeout=30)
        content: dict[str, Any] = answer.json()
        if content.get("errors"):
            raise MeterhouseError(f"Dagster rejected a query: {content['errors'][0]['message']}")
        data: dict[str, Any] = content["data"]
        return data

    def launch(self, job: str, partition: str | None = None) -> str:
        """Launch a run of a job, for a partition if it has partitions; return the run's id."""
        tags = [{"key": "dagster/partition", "value": partition}] if partition else []
        data = self.query(_LAUNCH, {"job": job, "location": self.location, "tags": tags})["launchRun"]
        if data["__typename"] != "LaunchRunSuccess":
            raise MeterhouseError(f"Dagster did not launch {job}: {data}")
        return str(data["run"]["runId"])

    def run_statuses(self) -> dict[str, str]:
        """Status of every run by its id."""
        data = self.query("{runsOrError{... on Runs{results{runId status}}}}")
        return {run["runId"]: run["status"] for run in data["runsOrError"]["results"]}

    def _start(self, name: str, *command: str) -> None:
        self._children.append(self._popen(name, *command))

    def _finish(self, name: str, *command: str) -> None:
        child = self._popen(name, *command)
        if child.wait(START_SECONDS) != 0:
            raise MeterhouseError(f"`{' '.join(command)}` failed", where=str(self.logs / f"{name}.log"))

    def _popen(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        # Dagster inherits the handling of SIGINT and uses it for SIGTERM too, so SIGINT must not be ignored here.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        program = Path(sys.executable).parent / command[0]
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(program), *command[1:]],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
