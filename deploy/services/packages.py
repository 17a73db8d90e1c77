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

from record import Folder
from report import say
from server import Server

LOG = "apt.log"
POLICY = Path("/usr/sbin/policy-rc.d")


def install(folder: Folder, servers: Sequence[Server]) -> None:
    """Install the packages of the servers whose programs are missing, if this is root on Debian.

    A package that cannot be installed raises nothing: its server then has no programs.
    """
    missing = [server for server in servers if not server.find()]
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    begun = time.monotonic()
    names = ", ".join(server.name for server in missing)
    say(f"{names}: installing the system's packages (only once; takes a minute or two)")
    with _no_daemons():
        if not _apt_get(folder, "install", *(package for server in missing for package in server.packages)):
            _apt_get(folder, "update")
            for server in missing:  # each on its own, so that an unknown package does not block the others
                _apt_get(folder, "install", *server.packages)
    say(f"installed in {time.monotonic() - begun:.0f} s")


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
