"""The demo's child processes: each with its log, and ended together with what it started."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from meterhouse.errors import MeterhouseError

STOP_SECONDS = 20.0


def free_port() -> int:
    """A TCP port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Children:
    """Child processes.

    Args:
        environment: the environment of the processes.
        logs: the folder for their output.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self.logs = logs
        self._environment = environment
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *command: str) -> None:
        """Start a program of this Python's folder."""
        self._children.append(self._popen(name, *command))

    def finish(self, name: str, seconds: float, *command: str) -> None:
        """Run a program to its end.

        Raises:
            MeterhouseError: it fails.
        """
        child = self._popen(name, *command)
        if child.wait(seconds) != 0:
            raise MeterhouseError(f"`{' '.join(command)}` failed", where=str(self.logs / f"{name}.log"))

    def check_alive(self) -> None:
        """Raise if a process has ended.

        Raises:
            MeterhouseError: a process has ended; the error has its name and its log.
        """
        for child in self._children:
            if child.poll() is not None:
                name = Path(str(child.args[1] if isinstance(child.args, list) else child.args)).name
                raise MeterhouseError(f"{name} ended with status {child.returncode}", where=str(self.logs))

    def stop(self) -> None:
        """End all processes, and those that they have started."""
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

    def _popen(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        # Dagster inherits the handling of SIGINT and uses it for SIGTERM too, so SIGINT must not be ignored here.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.logs.mkdir(parents=True, exist_ok=True)
        program = Path(sys.executable).parent / command[0]
        with (self.logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(program), *command[1:]],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
