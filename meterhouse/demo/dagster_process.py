"""Dagster for the demo: webserver and daemon as child processes, and queries to them by GraphQL."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from meterhouse.demo.children import Children
from meterhouse.errors import MeterhouseError
from meterhouse.shipped import code_location

START_SECONDS = 120.0

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
        own = {"DAGSTER_HOME": str(home), "DAGSTER_EVENT_BATCH_SIZE": "100"}
        self._children = Children({**environment, **own}, logs)

    def __enter__(self) -> Self:
        root = code_location()
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "dagster.yaml").write_text((root / "dagster.yaml").read_text())
        try:
            # First, because webserver and daemon would both create the tables of an empty home.
            self._children.finish("instance", START_SECONDS, "dagster", "instance", "info")
            workspace = str(root / "workspace.yaml")
            self._children.start(
                "webserver", "dagster-webserver", "-h", "127.0.0.1", "-p", str(self.port), "-w", workspace
            )
            self._children.start("daemon", "dagster-daemon", "run", "-w", workspace)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._children.stop()

    def check_alive(self) -> None:
        """Raise if a process has ended.

        Raises:
            MeterhouseError: a process has ended; the error has its name and its log.
        """
        self._children.check_alive()

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
