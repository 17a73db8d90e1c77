"""Loopback ports: which are free, and what answers there."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

from report import ServiceError


def free_ports(count: int = 1) -> int:
    """Return the first of `count` consecutive free ports, below those that the system assigns to clients.

    Raises:
        ServiceError: there are none.
    """
    for _ in range(200):
        first = random.randrange(20000, 32000)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise ServiceError("no free port between 20000 and 32000 on 127.0.0.1: stop some servers")


def kept_ports(file: Path, count: int) -> int:
    """Return the first of `count` consecutive ports: those that the file names, or new ones if one is in use."""
    first = int(file.read_text()) if file.exists() else 0
    if not (first and all(not _listening(port) for port in range(first, first + count))):
        first = free_ports(count)
        file.write_text(f"{first}\n")
    return first


def reply(host: str | None, port: int, question: bytes) -> bytes:
    """Return the first bytes that a server sends back; empty if it does not answer."""
    try:
        with socket.create_connection((host, port), timeout=3) as connection:
            connection.sendall(question)
            return connection.recv(200)
    except OSError:
        return b""


def _listening(port: int) -> bool:
    """Return whether a server listens on a port; connections that were closed recently do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
