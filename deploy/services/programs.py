"""The programs of this machine: where they are, and whether they work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def which(program: str) -> str | None:
    """Return the path of a program; the folders for root's programs are searched too."""
    return shutil.which(program, path=f"{SEARCH_PATH}:{os.environ.get('PATH', '')}")


def succeeds(command: Sequence[str]) -> bool:
    """Run a short command, discard its output, and return whether its exit code is 0."""
    nothing = subprocess.DEVNULL
    try:
        done = subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, timeout=20, check=False)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
