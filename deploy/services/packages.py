"""The system's packages, installed with apt-get."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from programs import which
from record import Folder
from report import say
from server import Server

LOG = "apt.log"
POLICY = Path("/usr/sbin/policy-rc.d")


def install(folder: Folder, servers: Sequence[Server]) -> None:
    """Install the packages of the programs that are missing, if this is root on Debian.

    A package that cannot be installed raises nothing: its server then has no programs.
    """
    wanted = {server.name: packages for server in servers if (packages := _missing(server))}
    if not wanted or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    begun = time.monotonic()
    say(f"{', '.join(wanted)}: installing the system's packages (only once; takes a minute or two)")
    with _no_daemons():
        if not _apt_get(folder, "install", *(package for packages in wanted.values() for package in packages)):
            _apt_get(folder, "update")
            for packages in wanted.values():  # each on its own, so that an unknown package does not block the others
                _apt_get(folder, "install", *packages)
    say(f"installed in {time.monotonic() - begun:.0f} s")


def _missing(server: Server) -> list[str]:
    """Return the packages to install for a server."""
    packages = [] if server.find() else list(server.packages)
    return packages + [program for program in server.uses if not which(program)]


def _apt_get(folder: Folder, action: str, *packages: str) -> bool:
    """Run apt-get and return whether it succeeds. A signal waits for its end: half an installation would stay."""
    options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "--no-install-recommends"]
    command = ["apt-get", "-q", "-y", *options, action, *packages]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    with (folder.path / LOG).open("a") as log:
        print("$", shlex.join(command), file=log, flush=True)
        nothing = subprocess.DEVNULL
        child = subprocess.Popen(command, env=env, stdin=nothing, stdout=log, stderr=log, start_new_session=True)
        try:
            return child.wait() == 0
        except SystemExit:
            say("waiting for apt-get to end")
            child.wait()
            raise


@contextlib.contextmanager
def _no_daemons() -> Iterator[None]:
    """Keep packages from starting their servers while they are installed."""
    try:
        with POLICY.open("x") as policy:
            policy.write("#!/bin/sh\n# written by Meterhouse's deploy/services, for one apt-get\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)
