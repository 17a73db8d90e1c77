"""`run`: run a command with services, and stop them afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from record import Folder
from report import ServiceError
from server import Server
from signals import Signalled, ignore_signals
from start import start
from stop import finish


def run(folder: Folder, servers: Sequence[Server], optional: Sequence[Server], command: Sequence[str]) -> int:
    """Run a command with these servers and return its exit code; 128 plus the number of a signal that ended it.

    Raises:
        ServiceError: a server is not available, or there is no such command.
    """
    env, begun = start(folder, servers, optional)
    try:
        child = subprocess.Popen(command, env={**os.environ, **env})
        try:
            code = child.wait()
        except Signalled as caught:
            if not (caught.number == signal.SIGINT and _in_foreground()):
                child.send_signal(caught.number)
            ignore_signals()
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    except FileNotFoundError as error:
        raise ServiceError(f"cannot run {command[0]}: {error.strerror}") from error
    finally:
        finish(folder, begun)
    return code if code >= 0 else 128 - code


def _in_foreground() -> bool:
    """Return whether a terminal sends Ctrl-C to our child too."""
    try:
        with Path("/dev/tty").open() as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
