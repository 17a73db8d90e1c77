"""Servers from PyPI: each in an environment of its own, in the user's cache."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from programs import which
from record import Folder
from report import ServiceError, say

INSTALL_SECONDS = 900


def installed(folder: Folder, name: str, requirements: Path) -> Path:
    """Return the interpreter of a server's environment; make the environment if it is missing.

    `requirements` pins all packages. If it changes, the environment is made again.

    Raises:
        ServiceError: it cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meterhouse"
    pins = requirements.read_bytes()
    place = cache / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python, stamp = place / "bin" / "python", place / "installed.txt"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_bytes() == pins and python.exists():
            return python
        say(f"{name}: installing it from PyPI (only once; takes a minute or less)")
        log = folder.home(name) / "install.log"
        uv = os.environ.get("UV") or which("uv")
        if uv:
            _install(log, uv, "venv", "--clear", "--python", sys.executable, str(place))
            _install(log, uv, "pip", "install", "--python", str(python), "--requirements", str(requirements))
        else:
            _install(log, sys.executable, "-m", "venv", "--clear", str(place))
            _install(log, str(python), "-m", "pip", "install", "--requirement", str(requirements))
        stamp.write_bytes(pins)
    return python


def _install(log: Path, *command: str) -> None:
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=INSTALL_SECONDS, check=False
            )
            failed = done.returncode != 0
        except (OSError, subprocess.TimeoutExpired):
            failed = True
    if failed:
        raise ServiceError(f"it cannot be installed from PyPI (see {log}): look at the connection")
