"""The HTTP API of the demo's site, as a child process."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from meterhouse.demo.children import Children, free_port
from meterhouse.errors import MeterhouseError

START_SECONDS = 60.0


class ApiProcess:
    """A context manager that starts `meterhouse api` on a free port, and ends it.

    Args:
        environment: the environment of the process, with the settings of the site.
        logs: the folder for its output.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._children = Children(environment, logs)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._children.start("api", "meterhouse", "api", "--port", str(self.port))
        return self

    def __exit__(self, *exception: object) -> None:
        self._children.stop()

    def ask(self, path: str) -> Any:
        """What the API answers.

        Raises:
            MeterhouseError: it does not answer, or with an error.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                answer = httpx.get(f"{self.url}{path}", timeout=60)
                answer.raise_for_status()
                return answer.json()
            except httpx.ConnectError:  # it is starting
                self._children.check_alive()
                if time.monotonic() > deadline:
                    raise MeterhouseError("the API did not start", where=str(self._children.logs)) from None
                time.sleep(0.2)
            except httpx.HTTPError as error:
                raise MeterhouseError(f"the API does not answer {path}: {error}") from error
