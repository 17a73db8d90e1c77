"""Servers that the environment names."""

from __future__ import annotations

import os

from record import Service
from report import ServiceError, say
from server import Daemon, Server


def configured(server: Server) -> Service | None:
    """Return the service that the environment names; None if it names none.

    Raises:
        ServiceError: some of the variables are missing, or the server does not answer.
    """
    first, *others = server.variables
    if not os.environ.get(first):
        return None
    if missing := [variable for variable in others if not os.environ.get(variable)]:
        raise ServiceError(f"{server.name}: {first} is set, {', '.join(missing)} not: set all of them, or none")
    env = {variable: os.environ[variable] for variable in server.variables}
    if not server.answers(env):
        raise ServiceError(f"{server.name}: {first} is set, but what it names does not answer: start it, or unset it")
    if isinstance(server, Daemon):
        env |= {variable: os.environ[variable] for variable in server.further if os.environ.get(variable)}
    say(f"{server.name}: using {first}")
    return Service(env)
