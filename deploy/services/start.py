"""`start`: make services available, from the first source that has them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from compose import docker_answers, start_containers
from environment import configured
from local import await_answer, start_local
from packages import install
from processes import alive
from record import Folder, Service
from report import ServiceError, say
from server import Daemon, Server, Starting
from stop import stop

SERVICES_DIR = "METERHOUSE_TEST_SERVICES_DIR"


def start(folder: Folder, servers: Sequence[Server], optional: Sequence[Server]) -> tuple[dict[str, str], list[str]]:
    """Make these servers available; return their variables, and the names of those that this call started.

    Raises:
        ServiceError: a server that is not optional is not available. What this call started is stopped again.
    """
    found: dict[str, Service] = {}
    begun: list[str] = []
    with folder.locked():
        try:
            for server in servers:
                with _tolerated(server, optional):
                    if service := configured(server) or _running(folder, server):
                        found[server.name] = service
                        folder.available[server.name] = service.env
            wanted = [server for server in servers if server.name not in found]
            daemons = [server for server in wanted if isinstance(server, Daemon) and server.container_port]
            if daemons and docker_answers():
                names = [server.name for server in daemons]
                begun += names
                try:
                    start_containers(folder, daemons)
                except ServiceError as error:
                    say(f"{error}; using the system's packages instead")
                    stop(folder, names)
                else:
                    wanted = [server for server in wanted if server not in daemons]
                    for name in names:
                        folder.available[name] = folder.services[name].env
            install(folder, wanted)
            pending: list[tuple[Server, Starting]] = []
            clock = time.monotonic()

            def await_pending() -> None:
                while pending:
                    server, starting = pending.pop(0)
                    with _tolerated(server, optional), _stopped_on_failure(folder, server):
                        await_answer(folder, server, starting, clock)
                        folder.available[server.name] = starting.env

            for server in wanted:
                if server.needs:
                    await_pending()
                begun.append(server.name)
                with _tolerated(server, optional), _stopped_on_failure(folder, server):
                    if starting := start_local(folder, server):
                        pending.append((server, starting))
            await_pending()
        except BaseException:
            stop(folder, begun)
            raise
    found |= {name: folder.services[name] for name in begun if name in folder.services}
    variables = {key: value for service in found.values() for key, value in service.env.items()}
    return {**variables, SERVICES_DIR: str(folder.path)}, begun


def _running(folder: Folder, server: Server) -> Service | None:
    """Return the service that an earlier `start` left running; stop what is left of one that is broken."""
    service = folder.services.get(server.name)
    if service and all(map(alive, service.processes)) and service.env and server.answers(service.env):
        say(f"{server.name}: already running")
        return service
    if service:
        stop(folder, [server.name])
    return None


@contextlib.contextmanager
def _tolerated(server: Server, optional: Sequence[Server]) -> Iterator[None]:
    """Report the failure of an optional server and continue without it."""
    try:
        yield
    except ServiceError as error:
        if server not in optional:
            raise
        say(f"{error} (optional: continuing without it)")


@contextlib.contextmanager
def _stopped_on_failure(folder: Folder, server: Server) -> Iterator[None]:
    """Stop what runs of a server when it fails."""
    try:
        yield
    except ServiceError:
        stop(folder, [server.name])
        raise
