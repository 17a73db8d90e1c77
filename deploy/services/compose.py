"""Servers in the containers of `deploy/compose.yaml`, with Docker Compose."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from processes import PATIENCE_S
from programs import succeeds
from record import Folder, Service
from report import ServiceError, say
from server import Daemon

COMPOSE_FILE = Path(__file__).resolve().parents[1] / "compose.yaml"


def docker_answers() -> bool:
    """Return whether a Docker engine is running and Compose is installed."""
    return bool(shutil.which("docker")) and succeeds(["docker", "info"]) and succeeds(["docker", "compose", "version"])


def start_containers(folder: Folder, servers: Sequence[Daemon]) -> None:
    """Start the containers of these servers, wait until they answer, and record them.

    Raises:
        ServiceError: Compose fails, or a server does not answer within `PATIENCE_S`.
    """
    names = [server.name for server in servers]
    project = f"meterhouse-{folder.token}"
    for name in names:
        folder.services[name] = Service(project=project)
    folder.save()
    say(f"{', '.join(names)}: starting with Docker Compose")
    _compose(project, "up", "--detach", *names, timeout=900)
    for server in servers:
        assert server.container_port
        env = server.env(_published(project, server.name, server.container_port))
        for variable, listener in server.further.items():
            env[variable] = listener.url.format(port=_published(project, server.name, listener.container_port))
        end = time.monotonic() + PATIENCE_S
        while not server.answers(env):
            if time.monotonic() > end:
                raise ServiceError(f"{server.name}: its container did not answer within {PATIENCE_S} s")
            time.sleep(0.2)
        folder.services[server.name].env = env
    folder.save()


def remove_containers(folder: Folder, names: Sequence[str]) -> None:
    """Remove the containers of these services with their data; the network too, once none is left.

    Raises:
        ServiceError: Compose fails.
    """
    projects = {name: service.project for name, service in folder.services.items() if service.project}
    if going := [name for name in projects if name in names]:
        all_of_them = len(going) == len(projects)
        words = ["down", "--volumes"] if all_of_them else ["rm", "--stop", "--force", "--volumes", *going]
        _compose(projects[going[0]], *words, timeout=120)


def _published(project: str, name: str, port: int) -> int:
    """Return the loopback port that leads to a port of a container."""
    return int(_compose(project, "port", name, str(port), timeout=30).strip().rpartition(":")[2])


def _compose(project: str, *arguments: str, timeout: float) -> str:
    """Run Docker Compose and return what it prints."""
    command = ["docker", "compose", "--project-name", project, "--file", str(COMPOSE_FILE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"`{shlex.join(command)}` did not end within {timeout:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ServiceError(f"`{shlex.join(command)}` failed: {last}")
    return done.stdout
