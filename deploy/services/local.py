"""Servers from the programs of this machine."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import packages
from processes import wait_until
from record import Folder
from report import ServiceError, say
from server import Daemon, Server, Starting


def start_local(folder: Folder, server: Server) -> Starting | None:
    """Start a server; None if there is nothing to wait for.

    Raises:
        ServiceError: its programs are missing, or it cannot be started.
    """
    with _advice(server):
        found = server.find()
        if not found:
            log = folder.path / packages.LOG
            why = f"could not be installed (see {log})" if log.exists() else "not installed"
            raise ServiceError(f"{why}: install {' '.join(server.packages)} as root, start Docker")
        if isinstance(server, Daemon) and not sys.platform.startswith("linux"):
            raise ServiceError("its programs run here on Linux only: start Docker")
        if missing := [name for name in server.needs if name not in folder.available]:
            raise ServiceError(f"it needs {', '.join(missing)}")
        starting = server.start(folder, found)
        folder.save()
        return starting


def await_answer(folder: Folder, server: Server, starting: Starting, begun: float) -> None:
    """Wait until a server answers, and record its variables. `begun` is the monotonic time of the start.

    Raises:
        ServiceError: it ends, or does not answer in time.
    """
    with _advice(server):
        wait_until(lambda: server.answers(starting.env), starting.spawned)
    folder.services[server.name].env = starting.env
    folder.save()
    say(f"{server.name}: ready within {time.monotonic() - begun:.1f} s")


@contextlib.contextmanager
def _advice(server: Server) -> Iterator[None]:
    """Add to an error which server it is about, and how to do without."""
    try:
        yield
    except ServiceError as error:
        instead = f"set {server.variables[0]} to {server.kind} of your own"
        raise ServiceError(f"{server.name}: {error}, or {instead}") from error
