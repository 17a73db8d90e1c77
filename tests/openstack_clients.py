"""OpenStack's own clients: each from PyPI, in an environment of its own, and run in a process of its own."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from services import clean_environment, services

SCRIPTS = Path(__file__).parent / "clients"


class ClientError(Exception):
    """What a client raised: the name of the exception, and its text."""


class Client:
    """The Python API of a client: `client("alarm.create", {...})` calls `alarm.create` there."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, call: str, *args: Any, **kwargs: Any) -> Any:
        """What it answers, from JSON.

        Raises:
            ClientError: it raised an exception.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": call, "args": args, "kwargs": kwargs}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        found = json.loads(line)
        if "error" in found:
            raise ClientError(found["error"])
        return found["answer"]


@pytest.fixture(scope="session")
def aodhclient() -> Path:
    """The interpreter of the environment with aodhclient and python-openstackclient."""
    return _installed("aodhclient")


@pytest.fixture(scope="session")
def ceilometerclient() -> Path:
    """The interpreter of the environment with python-ceilometerclient."""
    return _installed("ceilometerclient")


def _installed(name: str) -> Path:
    done = services("install", name)
    if done.returncode:
        pytest.fail(f"{name} cannot be installed: {done.stderr}", pytrace=False)
    return Path(done.stdout.strip())


@contextmanager
def client(interpreter: Path, script: str, **how: Any) -> Iterator[Client]:
    """A client, logged in.

    Args:
        interpreter: of its environment.
        script: `aodh` or `ceilometer`, of tests/clients.
        how: to log in.
    """
    command = [str(interpreter), str(SCRIPTS / f"{script}.py"), json.dumps(how)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment()
    ) as process:
        try:
            yield Client(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def shell(interpreter: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of a client's environment, such as `aodh` or `openstack`."""
    program = str(interpreter.parent / command[0])
    found = {**clean_environment(), **environment, "PYTHONWARNINGS": "ignore", "HOME": os.environ.get("HOME", "/")}
    return subprocess.run([program, *command[1:]], env=found, capture_output=True, text=True, timeout=300, check=False)
